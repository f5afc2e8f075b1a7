"""The zoos of "Sparsified Model Zoo Twins" (Table 4) and of "Model Zoos" as data."""

import difflib
from dataclasses import dataclass, replace

from zoojax.data import DataSpec
from zoojax.errors import ZoojaxError
from zoojax.grid import Grid


@dataclass(frozen=True)
class Preset:
    """A zoo to be trained.

    Attributes:
        architecture: "small" or "large".
        data: its image set.
        grid: its members.
        vd_learning_rate: of variational dropout; None keeps each member's own.
        mp_learning_rate: of fine-tuning after pruning; None keeps each member's own.
        epochs: of dense training.
        batch_size: images a step.
    """

    architecture: str
    data: DataSpec
    grid: Grid
    vd_learning_rate: float | None = None
    mp_learning_rate: float | None = None
    epochs: int = 50
    batch_size: int = 10


_MNIST = DataSpec("mnist", 28, 1, 0.1307, 0.3081, train=50_000, val=10_000)
_FMNIST = DataSpec("fashion_mnist", 28, 1, 0.5, 0.5, train=50_000, val=10_000)
_SVHN = DataSpec("svhn_cropped", 28, 1, 0.5, 0.5, crop=True, train=60_000, val=13_257)
_USPS = DataSpec("usps", 28, 1, 0.1307, 0.3081, train=6_000, val=1_291)
_CIFAR_S = DataSpec("cifar10", 28, 3, 0.5, 0.5, train=42_000, val=8_000)
_CIFAR_L = replace(_CIFAR_S, size=32)
_STL_S = DataSpec("stl10", 28, 3, 0.5, 0.5, train=4_200, val=800)
_STL_L = replace(_STL_S, size=32)
_DIGITS = DataSpec("digits", 28, 1, 0.5, 0.5)


def _seed(learning_rate: float, weight_decay: float, activation="tanh", init="uniform") -> Grid:
    return Grid(
        (activation,), (init,), ("adam",), (learning_rate,), (weight_decay,), (0.0,), seeds=1000
    )


def _grid(learning_rates: tuple[float, ...], weight_decays: tuple[float, ...], fresh: bool) -> Grid:
    return Grid(
        ("tanh", "relu", "sigmoid", "gelu"),
        ("uniform", "normal", "kaiming_uniform", "kaiming_normal"),
        ("adam", "sgd"),
        learning_rates,
        weight_decays,
        (0.0, 0.5),
        seeds=10,
        fresh_seeds=fresh,
    )


def _grids(
    name: str,
    architecture: str,
    data: DataSpec,
    learning_rates: tuple[float, ...],
    weight_decays: tuple[float, ...],
    vd_learning_rate: float | None = None,
) -> dict[str, Preset]:
    """A fixed-seed and a random-seed grid zoo."""
    return {
        f"{name}-{seeds}": Preset(
            architecture,
            data,
            _grid(learning_rates, weight_decays, seeds == "random"),
            vd_learning_rate,
        )
        for seeds in ("fixed", "random")
    }


_BOTH = (1e-3, 1e-4)
PRESETS: dict[str, Preset] = {
    # Not of the paper: small enough for a laptop's coffee break, and real.
    "digits-s-seed": Preset(
        "small", _DIGITS, _seed(1e-3, 0.0, init="kaiming_uniform"), 3e-3, 1e-3, epochs=25
    ),
    "mnist-s-seed": Preset("small", _MNIST, _seed(3e-4, 0.0), 3e-4, 1e-3),
    **_grids("mnist-s", "small", _MNIST, _BOTH, _BOTH),
    "fmnist-s-seed": Preset("small", _FMNIST, _seed(3e-4, 0.0), 3e-4, 1e-3),
    **_grids("fmnist-s", "small", _FMNIST, _BOTH, _BOTH, 1e-6),
    "svhn-s-seed": Preset("small", _SVHN, _seed(3e-3, 0.0), 3e-3, 1e-3),
    **_grids("svhn-s", "small", _SVHN, _BOTH, _BOTH),
    "usps-s-seed": Preset("small", _USPS, _seed(3e-4, 1e-3), 3e-4, 1e-3),
    **_grids("usps-s", "small", _USPS, _BOTH, _BOTH),
    "cifar10-s-seed": Preset(
        "small", _CIFAR_S, _seed(1e-4, 1e-2, "gelu", "kaiming_uniform"), 5e-6, 1e-4
    ),
    **_grids("cifar10-s", "small", _CIFAR_S, (1e-3,), (1e-2, 1e-3)),
    "cifar10-l-seed": Preset(
        "large", _CIFAR_L, _seed(1e-4, 1e-2, "gelu", "kaiming_uniform"), 1e-5, 1e-4
    ),
    **_grids("cifar10-l", "large", _CIFAR_L, (1e-3,), (1e-2, 1e-3), 5e-6),
    "stl10-s-seed": Preset(
        "small", _STL_S, _seed(1e-4, 1e-3, "tanh", "kaiming_uniform"), 1e-4, 1e-3
    ),
    **_grids("stl10-s", "small", _STL_S, _BOTH, _BOTH),
    "stl10-l-seed": Preset(
        "large", _STL_L, _seed(1e-4, 1e-3, "tanh", "kaiming_uniform"), 1e-4, 1e-3
    ),
    **_grids("stl10-l", "large", _STL_L, _BOTH, _BOTH),
}


def preset(name: str) -> Preset:
    """A preset by its name.

    Raises:
        ZoojaxError: there is none of that name; the nearest is suggested.
    """
    if name in PRESETS:
        return PRESETS[name]
    near = difflib.get_close_matches(name, PRESETS, n=1, cutoff=0.4)
    hint = f"did you mean '{near[0]}'? " if near else ""
    raise ZoojaxError(f"no preset named '{name}'; {hint}`zoojax presets` lists them all")
