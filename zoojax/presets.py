"""The zoos of "Sparsified Model Zoo Twins" (Table 4) and of "Model Zoos", as data.

A zoo is a preset's only if nothing but the number of its members and their seeds was changed:
`recorded` says so of a zoo to be made, `difference` and `twin_difference` of zoos that exist.
"""

import difflib
import itertools
from collections.abc import Iterable
from dataclasses import dataclass, replace

import polars as pl

from zoojax.datasets.specs import DataSpec
from zoojax.errors import ZoojaxError
from zoojax.storage.zoo import Zoo
from zoojax.training.hyperparameters import Grid

# Epochs of fine-tuning after pruning, and of variational dropout.
MP_EPOCHS, VD_EPOCHS = 15, 25
# The text says that all zoos were pruned globally, but Table 8 has one sparsity in every layer
# of this one. Both are compared with the paper.
_PRUNED_BY_LAYER = ("svhn-s-seed",)
# Columns of a members table, in the order of the fields of Grid.
_HYPERPARAMETERS = ("activation", "init", "optimizer", "learning_rate", "weight_decay", "dropout")


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
        data_order: "member" or "shared".
    """

    architecture: str
    data: DataSpec
    grid: Grid
    vd_learning_rate: float | None = None
    mp_learning_rate: float | None = None
    epochs: int = 50
    batch_size: int = 10
    data_order: str = "member"

    def twin_rate(self, kind: str) -> float | None:
        """The learning rate of twins of a kind, "mp" or "vd"; None keeps each member's own."""
        return {"mp": self.mp_learning_rate, "vd": self.vd_learning_rate}[kind]


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
    """A zoo with the same seeds in every combination, and one with fresh seeds in each."""
    fixed = Preset(architecture, data, grid, vd_learning_rate)
    random = replace(fixed, grid=replace(grid, fresh_seeds=True))
    return {f"{name}-fixed": fixed, f"{name}-random": random}


_BOTH = _grid((1e-3, 1e-4), (1e-3, 1e-4))
_STRONG_DECAY = _grid((1e-3, 1e-4), (1e-2, 1e-3))
_CIFAR = _grid((1e-3,), (1e-2, 1e-3))
_SGD = _grid((1e-2, 1e-3, 1e-4), (0.0, 1e-3, 1e-1), (0.0, 0.3, 0.5), ("sgd",))
PRESETS: dict[str, Preset] = {
    # Not of the paper: small enough for a laptop's coffee break, and real.
    "digits-s-seed": Preset(
        "small", _DIGITS, _seed(1e-3, 0.0, init="kaiming_uniform"), 3e-3, 1e-3, epochs=25
    ),
    "mnist-s-seed": Preset("small", _MNIST, _seed(3e-4, 0.0), 3e-4, 1e-3),
    **_grids("mnist-s", "small", _MNIST, _BOTH),
    "fmnist-s-seed": Preset("small", _FMNIST, _seed(3e-4, 0.0), 3e-4, 1e-3),
    **_grids("fmnist-s", "small", _FMNIST, _BOTH, 1e-6),
    "svhn-s-seed": Preset("small", _SVHN, _seed(3e-3, 0.0), 3e-3, 1e-3),
    **_grids("svhn-s", "small", _SVHN, _SGD),
    "usps-s-seed": Preset("small", _USPS, _seed(3e-4, 1e-3), 3e-4, 1e-3),
    **_grids("usps-s", "small", _USPS, _STRONG_DECAY),
    "cifar10-s-seed": Preset(
        "small", _CIFAR_S, _seed(1e-4, 1e-2, "gelu", "kaiming_uniform"), 5e-6, 1e-4
    ),
    **_grids("cifar10-s", "small", _CIFAR_S, _CIFAR),
    "cifar10-l-seed": Preset(
        "large", _CIFAR_L, _seed(1e-4, 1e-2, "gelu", "kaiming_uniform"), 1e-5, 1e-4
    ),
    **_grids("cifar10-l", "large", _CIFAR_L, _CIFAR, 5e-6),
    "stl10-s-seed": Preset(
        "small", _STL_S, _seed(1e-4, 1e-3, "tanh", "kaiming_uniform"), 1e-4, 1e-3
    ),
    **_grids("stl10-s", "small", _STL_S, _STRONG_DECAY),
    "stl10-l-seed": Preset(
        "large", _STL_L, _seed(1e-4, 1e-3, "tanh", "kaiming_uniform"), 1e-4, 1e-3
    ),
    **_grids("stl10-l", "large", _STL_L, _STRONG_DECAY),
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


def recorded(name: str, made: Preset) -> tuple[str, str | None]:
    """What a zoo made from a preset is called, and the preset that it records.

    Args:
        name: of the preset.
        made: the preset with what was changed of it.

    Returns:
        (name, name) if nothing but the number of members differs from the preset;
        otherwise the name with "-custom" after it, and None.
    """
    chosen = preset(name)
    same_members = replace(made, grid=replace(made.grid, seeds=chosen.grid.seeds))
    return (name, name) if same_members == chosen else (f"{name}-custom", None)


def of(zoo: Zoo) -> Preset | None:
    """The preset that a zoo records; None if it records none that is known."""
    return PRESETS.get(zoo.config.preset or "")


def rate(asked: float | None, zoo: Zoo, kind: str) -> float | None:
    """The learning rate of a zoo's twins: the one asked for, else its preset's.

    Returns:
        None if neither says one: then each member keeps its own.
    """
    chosen = of(zoo)
    return chosen.twin_rate(kind) if asked is None and chosen is not None else asked


def difference(zoo: Zoo) -> str | None:
    """The first thing in which a dense zoo differs from the preset that it records.

    Images are the preset's if they are an official set, split and normalised as the preset
    says; a converted zoo that keeps its own images is taken at its word. Members may be
    fewer or more and have other seeds, but every combination of hyper-parameters must be there.

    Returns:
        A clause such as "its batch size is 64, not 10"; None if there is no difference.
    """
    chosen, config = of(zoo), zoo.config
    if chosen is None:
        return "it is of no preset"
    if config.origin is not None:
        return "its members did not begin untrained"
    if config.data is None and config.data_hash is None:
        return "its images are not known"
    if config.data is not None and config.data != chosen.data:
        return f"its images are not those of {config.preset}"
    for what, found, wanted in (
        ("architecture", config.architecture, chosen.architecture),
        ("number of channels", config.channels, chosen.data.channels),
        ("number of epochs", config.epochs, chosen.epochs),
        ("batch size", config.batch_size, chosen.batch_size),
        ("data order", config.data_order, chosen.data_order),
    ):
        if found != wanted:
            return f"its {what} is {found}, not {wanted}"
    if _combinations(zoo.members_table) != _product(chosen.grid):
        return f"its members' hyper-parameters are not those of {config.preset}"
    return None


def twin_difference(zoo: Zoo, twin: Zoo) -> str | None:
    """As `difference`, of a twin of a zoo that has none itself.

    Variational dropout of fewer epochs is the same training cut short, and no difference.
    """
    chosen, config = of(zoo), twin.config
    assert chosen is not None and config.parent is not None
    if config.origin is not None:
        return "its weights were not pruned by magnitude"
    if config.parent.epoch != chosen.epochs:
        return f"it began at epoch {config.parent.epoch} of its parent, not {chosen.epochs}"
    if config.kind == "mp":
        if config.epochs != MP_EPOCHS:
            return f"its number of epochs is {config.epochs}, not {MP_EPOCHS}"
        if config.scope != "global" and config.preset not in _PRUNED_BY_LAYER:
            return "it was not pruned globally"
    elif config.variant != "released":
        return f"its variant is {config.variant}, not released"
    grid, learning_rate = chosen.grid, chosen.twin_rate(config.kind)
    if learning_rate is not None:
        grid = replace(grid, learning_rates=(learning_rate,))
    if _combinations(twin.members_table) != _product(grid):
        return f"its members' hyper-parameters are not those of {config.preset}"
    return None


def _combinations(roster: pl.DataFrame) -> set[tuple]:
    """Combinations of hyper-parameters that a members table holds; empty without the columns."""
    if not set(_HYPERPARAMETERS) <= set(roster.columns):
        return set()
    return _comparable(roster.select(_HYPERPARAMETERS).unique().iter_rows())


def _product(grid: Grid) -> set[tuple]:
    return _comparable(
        itertools.product(
            *(grid.activations, grid.inits, grid.optimizers),
            *(grid.learning_rates, grid.weight_decays, grid.dropouts),
        )
    )


def _comparable(rows: Iterable[tuple]) -> set[tuple]:
    """Rows with numbers as text of six digits: a rate may have been a float32 once."""
    return {tuple(f"{v:.6g}" if isinstance(v, int | float) else v for v in row) for row in rows}
