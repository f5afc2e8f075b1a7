"""The zoos of "Sparsified Model Zoo Twins" (arXiv 2304.13718, Table 4)."""

from dataclasses import replace

from zoojax.datasets.specs import DataSpec
from zoojax.hyperparameters.grid import Grid
from zoojax.presets.settings import Preset, twin_settings
from zoojax.sparsifiers.magnitude import MagnitudePruning

_BY_LAYER = MagnitudePruning(scope="layer").shared()
_MNIST = DataSpec("mnist", 28, 1, 0.1307, 0.3081, train=50_000, val=10_000)
_FMNIST = DataSpec("fashion_mnist", 28, 1, 0.5, 0.5, train=50_000, val=10_000)
_SVHN = DataSpec("svhn_cropped", 28, 1, 0.5, 0.5, crop=True, train=60_000, val=13_257)
_USPS = DataSpec("usps", 28, 1, 0.1307, 0.3081, train=6_000, val=1_291)
_CIFAR_S = DataSpec("cifar10", 28, 3, 0.5, 0.5, train=42_000, val=8_000)
_CIFAR_L = replace(_CIFAR_S, size=32)
_STL_S = DataSpec("stl10", 28, 3, 0.5, 0.5, train=4_200, val=800)
_STL_L = replace(_STL_S, size=32)


def _seed(learning_rate: float, weight_decay: float, activation="tanh", init="uniform") -> Grid:
    return Grid(
        (activation,), (init,), ("adam",), (learning_rate,), (weight_decay,), (0.0,), seeds=1000
    )


def _grid(
    learning_rates: tuple[float, ...],
    weight_decays: tuple[float, ...],
    dropouts: tuple[float, ...] = (0.0, 0.5),
    optimizers: tuple[str, ...] = ("adam", "sgd"),
) -> Grid:
    return Grid(
        ("tanh", "relu", "sigmoid", "gelu"),
        ("uniform", "normal", "kaiming_uniform", "kaiming_normal"),
        optimizers,
        learning_rates,
        weight_decays,
        dropouts,
        seeds=10,
    )


def _grids(
    name: str, architecture: str, data: DataSpec, grid: Grid, vd_learning_rate: float | None = None
) -> dict[str, Preset]:
    """Returns a zoo with the same seeds in every combination, and one with new seeds in each."""
    fixed = Preset(architecture, data, grid, twin_settings(vd_learning_rate))
    random = replace(fixed, grid=replace(grid, fresh_seeds=True))
    return {f"{name}-fixed": fixed, f"{name}-random": random}


_BOTH = _grid((1e-3, 1e-4), (1e-3, 1e-4))
_STRONG_DECAY = _grid((1e-3, 1e-4), (1e-2, 1e-3))
_CIFAR = _grid((1e-3,), (1e-2, 1e-3))
_SGD = _grid((1e-2, 1e-3, 1e-4), (0.0, 1e-3, 1e-1), (0.0, 0.3, 0.5), ("sgd",))
PAPER: dict[str, Preset] = {
    "mnist-s-seed": Preset("small", _MNIST, _seed(3e-4, 0.0), twin_settings(3e-4, 1e-3)),
    **_grids("mnist-s", "small", _MNIST, _BOTH),
    "fmnist-s-seed": Preset("small", _FMNIST, _seed(3e-4, 0.0), twin_settings(3e-4, 1e-3)),
    **_grids("fmnist-s", "small", _FMNIST, _BOTH, 1e-6),
    "svhn-s-seed": Preset("small", _SVHN, _seed(3e-3, 0.0), twin_settings(3e-3, 1e-3, _BY_LAYER)),
    **_grids("svhn-s", "small", _SVHN, _SGD),
    "usps-s-seed": Preset("small", _USPS, _seed(3e-4, 1e-3), twin_settings(3e-4, 1e-3)),
    **_grids("usps-s", "small", _USPS, _STRONG_DECAY),
    "cifar10-s-seed": Preset(
        "small", _CIFAR_S, _seed(1e-4, 1e-2, "gelu", "kaiming_uniform"), twin_settings(5e-6, 1e-4)
    ),
    **_grids("cifar10-s", "small", _CIFAR_S, _CIFAR),
    "cifar10-l-seed": Preset(
        "large", _CIFAR_L, _seed(1e-4, 1e-2, "gelu", "kaiming_uniform"), twin_settings(1e-5, 1e-4)
    ),
    **_grids("cifar10-l", "large", _CIFAR_L, _CIFAR, 5e-6),
    "stl10-s-seed": Preset(
        "small", _STL_S, _seed(1e-4, 1e-3, "tanh", "kaiming_uniform"), twin_settings(1e-4, 1e-3)
    ),
    **_grids("stl10-s", "small", _STL_S, _STRONG_DECAY),
    "stl10-l-seed": Preset(
        "large", _STL_L, _seed(1e-4, 1e-3, "tanh", "kaiming_uniform"), twin_settings(1e-4, 1e-3)
    ),
    **_grids("stl10-l", "large", _STL_L, _STRONG_DECAY),
}
