"""The presets are the zoos of Table 4, written out here by hand."""

import difflib

import pytest

from experiments.presets import PRESETS, preset
from zoojax import ZoojaxError, image_sources, models

MNIST_NORM, HALF = (0.1307, 0.3081), (0.5, 0.5)
MNIST = ("mnist", 28, 1, MNIST_NORM, False, 50_000, 10_000)
FMNIST = ("fashion_mnist", 28, 1, HALF, False, 50_000, 10_000)
SVHN = ("svhn_cropped", 28, 1, HALF, True, 60_000, 13_257)
USPS = ("usps", 28, 1, MNIST_NORM, False, 6_000, 1_291)
CIFAR_S = ("cifar10", 28, 3, HALF, False, 42_000, 8_000)
CIFAR_L = ("cifar10", 32, 3, HALF, False, 42_000, 8_000)
STL_S = ("stl10", 28, 3, HALF, False, 4_200, 800)
STL_L = ("stl10", 32, 3, HALF, False, 4_200, 800)

# zoo: architecture, data, activation, init, learning rates (dense, VD, MP), weight decay
SEED_ZOOS = {
    "mnist-s-seed": ("small", MNIST, "tanh", "uniform", 3e-4, 3e-4, 1e-3, 0.0),
    "fmnist-s-seed": ("small", FMNIST, "tanh", "uniform", 3e-4, 3e-4, 1e-3, 0.0),
    "svhn-s-seed": ("small", SVHN, "tanh", "uniform", 3e-3, 3e-3, 1e-3, 0.0),
    "usps-s-seed": ("small", USPS, "tanh", "uniform", 3e-4, 3e-4, 1e-3, 1e-3),
    "cifar10-s-seed": ("small", CIFAR_S, "gelu", "kaiming_uniform", 1e-4, 5e-6, 1e-4, 1e-2),
    "cifar10-l-seed": ("large", CIFAR_L, "gelu", "kaiming_uniform", 1e-4, 1e-5, 1e-4, 1e-2),
    "stl10-s-seed": ("small", STL_S, "tanh", "kaiming_uniform", 1e-4, 1e-4, 1e-3, 1e-3),
    "stl10-l-seed": ("large", STL_L, "tanh", "kaiming_uniform", 1e-4, 1e-4, 1e-3, 1e-3),
}
BOTH = (1e-3, 1e-4)
# grid: architecture, data, dense learning rates, VD learning rate (None: own), weight decays,
# members. The last five are dense only.
GRID_ZOOS = {
    "mnist-s": ("small", MNIST, BOTH, None, BOTH, 2560),
    "fmnist-s": ("small", FMNIST, BOTH, 1e-6, BOTH, 2560),
    "cifar10-l": ("large", CIFAR_L, (1e-3,), 5e-6, (1e-2, 1e-3), 1280),
    "svhn-s": ("small", SVHN, BOTH, None, BOTH, 2560),
    "usps-s": ("small", USPS, BOTH, None, BOTH, 2560),
    "stl10-s": ("small", STL_S, BOTH, None, BOTH, 2560),
    "stl10-l": ("large", STL_L, BOTH, None, BOTH, 2560),
    "cifar10-s": ("small", CIFAR_S, (1e-3,), None, (1e-2, 1e-3), 1280),
}


def described(data) -> tuple:
    norm = (data.mean, data.std)
    return (data.name, data.size, data.channels, norm, data.crop, data.train, data.val)


def test_there_are_no_others_but_the_bundled_digits():
    grids = {f"{name}-{seeds}" for name in GRID_ZOOS for seeds in ("fixed", "random")}
    assert set(PRESETS) == {"digits-s-seed", *SEED_ZOOS, *grids}


@pytest.mark.parametrize("name", SEED_ZOOS)
def test_seed_zoo(name):
    architecture, data, activation, init, dense, vd, mp, decay = SEED_ZOOS[name]
    zoo = PRESETS[name]
    assert zoo.architecture == architecture
    assert described(zoo.data) == data
    assert zoo.grid.activations == (activation,)
    assert zoo.grid.inits == (init,)
    assert zoo.grid.optimizers == ("adam",)
    assert zoo.grid.learning_rates == (dense,)
    assert zoo.grid.weight_decays == (decay,)
    assert zoo.grid.dropouts == (0.0,)
    assert (zoo.vd_learning_rate, zoo.mp_learning_rate) == (vd, mp)
    assert (zoo.epochs, zoo.batch_size) == (50, 10)
    members = zoo.grid.members()
    assert members["seed"].to_list() == list(range(1, 1001))


@pytest.mark.parametrize("name", GRID_ZOOS)
@pytest.mark.parametrize("seeds", ["fixed", "random"])
def test_grid_zoo(name, seeds):
    architecture, data, dense, vd, decays, count = GRID_ZOOS[name]
    zoo = PRESETS[f"{name}-{seeds}"]
    assert zoo.architecture == architecture
    assert described(zoo.data) == data
    assert set(zoo.grid.activations) == {"tanh", "sigmoid", "relu", "gelu"}
    assert set(zoo.grid.inits) == {"uniform", "normal", "kaiming_uniform", "kaiming_normal"}
    assert set(zoo.grid.optimizers) == {"adam", "sgd"}
    assert set(zoo.grid.dropouts) == {0.0, 0.5}
    assert zoo.grid.learning_rates == dense
    assert zoo.grid.weight_decays == decays
    assert zoo.vd_learning_rate == vd
    assert zoo.mp_learning_rate is None
    assert (zoo.epochs, zoo.batch_size) == (50, 10)
    members = zoo.grid.members()
    assert len(members) == count
    assert members["seed"].n_unique() == (10 if seeds == "fixed" else count)


@pytest.mark.parametrize("name", PRESETS)
def test_preset_fits_together(name):
    """Images have the side that the architecture takes; the set is known and large enough."""
    zoo = PRESETS[name]
    shape = models.architecture(zoo.architecture, zoo.data.channels)
    assert zoo.data.size == shape.size
    known = image_sources.KNOWN[zoo.data.name]
    used = (zoo.data.train or known.default_train) + (zoo.data.val or known.default_val)
    assert used <= known.sizes[0]


def test_unknown_preset_names_the_nearest():
    assert preset("usps-s-seed") is PRESETS["usps-s-seed"]
    with pytest.raises(ZoojaxError, match="'usps-seed'; did you mean 'usps-s-seed'"):
        preset("usps-seed")
    with pytest.raises(ZoojaxError, match="'%%%'; `zoojax presets` lists"):
        preset("%%%")
    assert not difflib.get_close_matches("%%%", PRESETS, cutoff=0.4)
