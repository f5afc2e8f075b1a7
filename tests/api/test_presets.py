"""Presets equal the zoos of the paper and its release, which are written out here by hand."""

import difflib
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from zoojax import DataSpec, Zoo, ZoojaxError, presets
from zoojax.architectures.registry import architecture
from zoojax.datasets import registry
from zoojax.hyperparameters.grid import as_tuple
from zoojax.hyperparameters.tables import of_twins
from zoojax.presets import PRESETS, Preset, preset
from zoojax.presets.small_cnn_zoo import SMALL_CNN_ZOO
from zoojax.sparsifiers.base import Sparsifier
from zoojax.sparsifiers.magnitude import MagnitudePruning
from zoojax.sparsifiers.variational_dropout import VariationalDropout
from zoojax.storage.zoo_config import Parent, ZooConfig

MNIST_NORM, HALF = (0.1307, 0.3081), (0.5, 0.5)
MNIST = ("mnist", 28, 1, MNIST_NORM, False, 50_000, 10_000)
FMNIST = ("fashion_mnist", 28, 1, HALF, False, 50_000, 10_000)
SVHN = ("svhn_cropped", 28, 1, HALF, True, 60_000, 13_257)
USPS = ("usps", 28, 1, MNIST_NORM, False, 6_000, 1_291)
CIFAR_S = ("cifar10", 28, 3, HALF, False, 42_000, 8_000)
CIFAR_L = ("cifar10", 32, 3, HALF, False, 42_000, 8_000)
STL_S = ("stl10", 28, 3, HALF, False, 4_200, 800)
STL_L = ("stl10", 32, 3, HALF, False, 4_200, 800)

# name: architecture, data, activation, init, learning rates (dense, VD, MP), weight decay
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
BOTH, STRONG = (1e-3, 1e-4), (1e-2, 1e-3)
ADAM_SGD, HALF_OUT = ("adam", "sgd"), (0.0, 0.5)
# name: architecture, data, optimizers, dense learning rates, VD learning rate (None: each
# member's own), weight decays, dropouts, number of members. The last five are dense only.
GRID_ZOOS = {
    "mnist-s": ("small", MNIST, ADAM_SGD, BOTH, None, BOTH, HALF_OUT, 2560),
    "fmnist-s": ("small", FMNIST, ADAM_SGD, BOTH, 1e-6, BOTH, HALF_OUT, 2560),
    "cifar10-l": ("large", CIFAR_L, ADAM_SGD, (1e-3,), 5e-6, STRONG, HALF_OUT, 1280),
    "svhn-s": (
        *("small", SVHN, ("sgd",), (1e-2, 1e-3, 1e-4), None),
        *((0.0, 1e-3, 1e-1), (0.0, 0.3, 0.5), 4320),
    ),
    "usps-s": ("small", USPS, ADAM_SGD, BOTH, None, STRONG, HALF_OUT, 2560),
    "stl10-s": ("small", STL_S, ADAM_SGD, BOTH, None, STRONG, HALF_OUT, 2560),
    "stl10-l": ("large", STL_L, ADAM_SGD, BOTH, None, STRONG, HALF_OUT, 2560),
    "cifar10-s": ("small", CIFAR_S, ADAM_SGD, (1e-3,), None, STRONG, HALF_OUT, 1280),
}

SIREN_ZOOS = [
    f"{images}-siren"
    for images in ("digits", "mnist", "fmnist", "svhn", "usps", "cifar10", "stl10")
]
# name: mean and std of each channel, learning rate, epochs, batch size
RESNET_ZOOS = {
    "cifar10-resnet18": (
        [(125.3, 123.0, 113.9), (63.0, 62.1, 66.7)],
        *(0.05, 50, 256),
    ),
    "cifar100-resnet18": (
        [(129.3105, 124.1085, 112.404), (68.2125, 65.4075, 70.4055)],
        *(0.1, 60, 128),
    ),
}


def spec_fields(data: DataSpec) -> tuple:
    norm = (data.mean, data.std)
    return (data.name, data.size, data.channels, norm, data.crop, data.train, data.val)


def twin_learning_rates(preset: Preset) -> dict[str, float | None]:
    return {twin.sparsifier.name: twin.learning_rate for twin in preset.twins}


def test_preset_names():
    grids = {f"{name}-{seeds}" for name in GRID_ZOOS for seeds in ("fixed", "random")}
    others = {*SEED_ZOOS, *grids, *SMALL_CNN_ZOO, *RESNET_ZOOS, *SIREN_ZOOS}
    assert set(PRESETS) == {"digits-s-seed", *others}


@pytest.mark.parametrize("name", SEED_ZOOS)
def test_seed_zoo(name):
    architecture, data, activation, init, dense, vd, mp, decay = SEED_ZOOS[name]
    zoo = PRESETS[name]
    assert zoo.architecture == architecture
    assert spec_fields(zoo.data) == data
    assert zoo.grid.activations == (activation,)
    assert zoo.grid.inits == (init,)
    assert zoo.grid.optimizers == ("adam",)
    assert zoo.grid.learning_rates == (dense,)
    assert zoo.grid.weight_decays == (decay,)
    assert zoo.grid.dropouts == (0.0,)
    assert twin_learning_rates(zoo) == {"variational_dropout": vd, "magnitude_pruning": mp}
    assert (zoo.epochs, zoo.batch_size, zoo.data_order) == (50, 10, "member")
    members = zoo.grid.members()
    assert members["seed"].to_list() == list(range(1, 1001))


@pytest.mark.parametrize("name", GRID_ZOOS)
@pytest.mark.parametrize("seeds", ["fixed", "random"])
def test_grid_zoo(name, seeds):
    architecture, data, optimizers, dense, vd, decays, dropouts, count = GRID_ZOOS[name]
    zoo = PRESETS[f"{name}-{seeds}"]
    assert zoo.architecture == architecture
    assert spec_fields(zoo.data) == data
    assert {*as_tuple(zoo.grid.activations)} == {"tanh", "sigmoid", "relu", "gelu"}
    assert {*as_tuple(zoo.grid.inits)} == {"uniform", "normal", "kaiming_uniform", "kaiming_normal"}
    assert zoo.grid.optimizers == optimizers
    assert zoo.grid.dropouts == dropouts
    assert zoo.grid.learning_rates == dense
    assert zoo.grid.weight_decays == decays
    assert twin_learning_rates(zoo) == {"variational_dropout": vd, "magnitude_pruning": None}
    assert (zoo.epochs, zoo.batch_size, zoo.data_order) == (50, 10, "member")
    members = zoo.grid.members()
    assert len(members) == count
    assert members["seed"].n_unique() == (10 if seeds == "fixed" else count)
    if seeds == "fixed":
        assert set(members["seed"]) == set(range(1, 11))


@pytest.mark.parametrize("name", RESNET_ZOOS)
def test_resnet_zoo(name):
    normalization, rate, epochs, batch_size = RESNET_ZOOS[name]
    zoo = PRESETS[name]
    assert zoo.architecture == "resnet18"
    assert (zoo.data.size, zoo.data.train, zoo.data.val) == (32, 40_000, 10_000)
    np.testing.assert_allclose([zoo.data.mean, zoo.data.std], np.array(normalization) / 255)
    members = zoo.grid.members()
    assert members["seed"].to_list() == list(range(1, 1001))
    settings = ("activation", "init", "optimizer", "weight_decay", "dropout", "schedule")
    (row,) = members.select(*settings, "augmentation", "learning_rate").unique().rows()
    published = ("relu", "kaiming_uniform", "sgd", 5e-4, 0.0, "one_cycle", "crop_flip")
    assert row == (*published, rate)
    # The default momentum has no column.
    assert zoo.grid.momenta == (0.9,)
    assert (zoo.epochs, zoo.batch_size) == (epochs, batch_size)


@pytest.mark.parametrize("name", PRESETS)
def test_preset_is_consistent(name):
    """The image size suits the architecture; the image set is known and large enough."""
    zoo = PRESETS[name]
    shape = architecture(zoo.architecture, zoo.data.channels)
    # SIRENs take coordinates of images of any size.
    assert shape.task.has_own_images or zoo.data.size == shape.size
    known = registry.KNOWN[zoo.data.name]
    used = (zoo.data.train or known.default_train) + (zoo.data.val or known.default_val)
    assert used <= known.sizes[0]


def test_table_of_presets():
    table = presets.preset_table()
    assert table["preset"].to_list() == list(PRESETS)
    row = table.row(by_predicate=pl.col("preset") == "svhn-s-fixed", named=True)
    assert (row["members"], row["weight_decays"]) == (4320, [0.0, 1e-3, 1e-1])
    assert (row["learning_rate_vd"], row["learning_rate_mp"]) == (None, None)
    seed = table.row(by_predicate=pl.col("preset") == "svhn-s-seed", named=True)
    assert (seed["learning_rate_vd"], seed["learning_rate_mp"]) == (3e-3, 1e-3)


def test_unknown_preset_suggests_the_most_similar():
    assert preset("usps-s-seed") is PRESETS["usps-s-seed"]
    with pytest.raises(ZoojaxError, match="'usps-seed'; did you mean 'usps-s-seed'"):
        preset("usps-seed")
    with pytest.raises(ZoojaxError, match="'%%%'; `zoojax presets` lists"):
        preset("%%%")
    assert not difflib.get_close_matches("%%%", PRESETS, cutoff=0.4)


# Zoos that match or differ from their preset.


def preset_zoo(name: str, members: int = 2, **changes) -> Zoo:
    """A zoo trained from a preset, with another size and changes; in memory only."""
    chosen = PRESETS[name]
    config = ZooConfig(
        *(name, chosen.architecture, chosen.data.channels, 10, chosen.data, "0" * 64),
        epochs=chosen.epochs,
        batch_size=chosen.batch_size,
        data_order=chosen.data_order,
        chunk=4,
        preset=name,
    )
    zoo = Zoo(Path("zoo"), replace(config, **changes))
    zoo.members_table = replace(chosen.grid, seeds=members).members(first_seed=7)
    return zoo


PRUNING, DROPOUT = MagnitudePruning().shared(), VariationalDropout()


def twin(zoo: Zoo, sparsifier: Sparsifier, **changes) -> Zoo:
    """A twin made as in the paper, with changes; in memory only."""
    epoch = changes.pop("start", zoo.config.epochs)
    parent = Parent("zoo", zoo.config.name, "0" * 64, epoch)
    config = replace(
        zoo.config,
        parent=parent,
        **({"sparsifier": sparsifier, "epochs": sparsifier.default_epochs} | changes),
    )
    result = Zoo(Path("twin"), config)
    rate = presets.resolve_learning_rate(None, zoo, sparsifier)
    own = pl.col("learning_rate") if rate is None else pl.lit(rate).alias("learning_rate")
    result.members_table = of_twins(zoo.members_table).with_columns(own)
    return result


@pytest.mark.parametrize("name", PRESETS)
def test_zoo_and_twins_that_match_their_preset(name):
    zoo = preset_zoo(name)
    assert presets.difference(zoo) is None
    for sparsifier in (PRUNING, DROPOUT):
        assert presets.twin_difference(zoo, twin(zoo, sparsifier)) is None


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"preset": None}, "no known preset"),
        ({"preset": "no-such-zoo"}, "no known preset"),
        ({"epochs": 2}, "number of epochs is 2, not 50"),
        ({"batch_size": 64}, "batch size is 64, not 10"),
        ({"data_order": "shared"}, "data order is shared, not member"),
        ({"architecture": "large"}, "architecture is large, not small"),
        ({"data": DataSpec("digits")}, "images are not those of usps-s-seed"),
        ({"data": replace(PRESETS["usps-s-seed"].data, train=500)}, "images are not those"),
        ({"data": replace(PRESETS["usps-s-seed"].data, seed=1)}, "images are not those"),
        ({"data": None, "data_hash": None}, "images are unknown"),
        ({"origin": "sampled"}, "did not start untrained"),
    ],
    ids=str,
)
def test_zoo_that_differs_from_its_preset(changes, difference):
    assert difference in (presets.difference(preset_zoo("usps-s-seed", **changes)) or "")


def test_stored_images_of_a_converted_zoo_are_assumed_to_match():
    assert presets.difference(preset_zoo("usps-s-seed", data=None)) is None


@pytest.mark.parametrize(
    "change",
    [
        pl.lit(1e-3).alias("learning_rate"),
        pl.lit(0.0).alias("weight_decay"),
        pl.lit("relu").alias("activation"),
        pl.lit("normal").alias("init"),
        pl.lit("sgd").alias("optimizer"),
        pl.lit(0.5).alias("dropout"),
        pl.lit(None, pl.String).alias("init"),
    ],
    ids=str,
)
def test_member_with_other_hyperparameters(change):
    zoo = preset_zoo("usps-s-seed")
    zoo.members_table = zoo.members_table.with_columns(
        pl.when(pl.col("id") == 0)
        .then(change)
        .otherwise(pl.col(change.meta.output_name()))
        .alias(change.meta.output_name())
    )
    difference = presets.difference(zoo) or ""
    assert "hyperparameters are not those of usps-s-seed" in difference


def test_part_of_a_grid():
    """Means over half of the combinations cannot be compared with the paper's."""
    zoo = preset_zoo("mnist-s-fixed")
    zoo.members_table = zoo.members_table.filter(pl.col("learning_rate") == 1e-3)
    assert "hyperparameters" in (presets.difference(zoo) or "")


@pytest.mark.parametrize(
    ("sparsifier", "changes", "difference"),
    [
        (PRUNING, {"epochs": 5}, "number of epochs is 5, not 15"),
        (MagnitudePruning((), "layer"), {}, "created by layer pruning, not global pruning"),
        (PRUNING, {"origin": "predicted log alphas"}, "not pruned by magnitude"),
        (PRUNING, {"start": 10}, "starts from epoch 10 of its parent, not 50"),
        (VariationalDropout("corrected"), {}, "corrected variant, not released variant"),
        (DROPOUT, {"start": 10}, "starts from epoch 10 of its parent, not 50"),
    ],
    ids=str,
)
def test_twin_that_differs_from_the_papers(sparsifier, changes, difference):
    zoo = preset_zoo("usps-s-seed")
    assert difference in (presets.twin_difference(zoo, twin(zoo, sparsifier, **changes)) or "")


def test_twin_with_another_learning_rate():
    zoo = preset_zoo("usps-s-seed")
    other = twin(zoo, PRUNING)
    other.members_table = other.members_table.with_columns(learning_rate=pl.lit(3e-4))
    assert "hyperparameters" in (presets.twin_difference(zoo, other) or "")


def test_zoo_that_the_paper_pruned_by_layer():
    zoo = preset_zoo("svhn-s-seed")
    assert presets.twin_difference(zoo, twin(zoo, MagnitudePruning((), "layer"))) is None


def test_name_and_recorded_preset():
    chosen = PRESETS["usps-s-seed"]
    fewer = replace(chosen, grid=replace(chosen.grid, seeds=3))
    assert presets.recorded("usps-s-seed", fewer) == ("usps-s-seed", "usps-s-seed")
    for change in (
        {"epochs": 49},
        {"batch_size": 9},
        {"data_order": "shared"},
        {"data": DataSpec("digits")},
        {"grid": replace(fewer.grid, learning_rates=(3e-3,))},
        {"grid": replace(fewer.grid, weight_decays=(0.0,))},
    ):
        changed = replace(fewer, **change)
        assert presets.recorded("usps-s-seed", changed) == ("usps-s-seed-custom", None)
