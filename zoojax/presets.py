"""The zoos of "Sparsified Model Zoo Twins" (Table 4) and of "Model Zoos", as data.

A zoo matches its preset if it differs from it only in the number of its members and their seeds:
`recorded` decides this for a zoo to be trained, `difference` and `twin_difference` for existing
zoos.

>>> zoojax.presets.preset("usps-s-seed").grid.learning_rates
(0.0003,)
"""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, replace

import polars as pl

from zoojax.datasets.specs import DataSpec
from zoojax.errors import ZoojaxError
from zoojax.hyperparameters.grid import BY_NAME, Grid
from zoojax.hyperparameters.tables import with_defaults
from zoojax.sparsifiers.base import Sparsifier
from zoojax.sparsifiers.magnitude import MagnitudePruning
from zoojax.sparsifiers.variational_dropout import VariationalDropout
from zoojax.storage.zoo import Zoo
from zoojax.text import printable

__all__ = ["Preset", "TwinSettings", "preset", "preset_table"]

# The paper's sparsifiers. According to its text all zoos were pruned globally, but its Table 8
# shows equal sparsity in every layer of one of them: either scope is compared with the paper.
_DROPOUT = VariationalDropout().shared()
_GLOBAL = MagnitudePruning().shared()
_BY_LAYER = MagnitudePruning(scope="layer").shared()


@dataclass(frozen=True)
class TwinSettings:
    """Settings of a preset's twins.

    Attributes:
        sparsifier: sparsifier, without per-member options.
        learning_rate: learning rate; None keeps each member's own.
        alternative: another sparsifier that the paper may have used instead, if any.

    Example:
        >>> settings = zoojax.presets.TwinSettings(zoojax.VariationalDropout(), 3e-4)
        >>> settings.sparsifier.label
        'variational dropout'
    """

    sparsifier: Sparsifier
    learning_rate: float | None = None
    alternative: Sparsifier | None = None


def _twins(
    vd_learning_rate: float | None = None,
    mp_learning_rate: float | None = None,
    alternative: Sparsifier | None = None,
) -> tuple[TwinSettings, ...]:
    return (
        TwinSettings(_DROPOUT, vd_learning_rate),
        TwinSettings(_GLOBAL, mp_learning_rate, alternative),
    )


@dataclass(frozen=True)
class Preset:
    """Settings of a zoo and of its twins.

    Attributes:
        architecture: name of the architecture.
        data: image set.
        grid: hyperparameters and number of members.
        twins: settings of its twins, at most one per sparsifier.
        epochs: number of epochs of dense training.
        batch_size: images per step.
        data_order: "member" or "shared"; see `zoojax.train_zoo`.

    Example:
        >>> data = zoojax.DataSpec("digits")
        >>> mine = zoojax.presets.Preset("small", data, zoojax.Grid(seeds=2), epochs=0)
        >>> len(zoojax.train_zoo(mine, quiet=True))
        2
    """

    architecture: str
    data: DataSpec
    grid: Grid
    twins: tuple[TwinSettings, ...] = _twins()
    epochs: int = 50
    batch_size: int = 10
    data_order: str = "member"

    def twin(self, sparsifier: str) -> TwinSettings | None:
        """Returns the settings of the twins of a sparsifier, given by name; None without.

        Example:
            >>> zoojax.presets.preset("usps-s-seed").twin("magnitude_pruning").learning_rate
            0.001
        """
        return next((twin for twin in self.twins if twin.sparsifier.name == sparsifier), None)


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
    """Returns a zoo with the same seeds in every combination, and one with new seeds in each."""
    fixed = Preset(architecture, data, grid, _twins(vd_learning_rate))
    random = replace(fixed, grid=replace(grid, fresh_seeds=True))
    return {f"{name}-fixed": fixed, f"{name}-random": random}


_BOTH = _grid((1e-3, 1e-4), (1e-3, 1e-4))
_STRONG_DECAY = _grid((1e-3, 1e-4), (1e-2, 1e-3))
_CIFAR = _grid((1e-3,), (1e-2, 1e-3))
_SGD = _grid((1e-2, 1e-3, 1e-4), (0.0, 1e-3, 1e-1), (0.0, 0.3, 0.5), ("sgd",))
PRESETS: dict[str, Preset] = {
    # Not from the paper: real images, but trains in minutes on a laptop.
    "digits-s-seed": Preset(
        "small", _DIGITS, _seed(1e-3, 0.0, init="kaiming_uniform"), _twins(3e-3, 1e-3), epochs=25
    ),
    "mnist-s-seed": Preset("small", _MNIST, _seed(3e-4, 0.0), _twins(3e-4, 1e-3)),
    **_grids("mnist-s", "small", _MNIST, _BOTH),
    "fmnist-s-seed": Preset("small", _FMNIST, _seed(3e-4, 0.0), _twins(3e-4, 1e-3)),
    **_grids("fmnist-s", "small", _FMNIST, _BOTH, 1e-6),
    "svhn-s-seed": Preset("small", _SVHN, _seed(3e-3, 0.0), _twins(3e-3, 1e-3, _BY_LAYER)),
    **_grids("svhn-s", "small", _SVHN, _SGD),
    "usps-s-seed": Preset("small", _USPS, _seed(3e-4, 1e-3), _twins(3e-4, 1e-3)),
    **_grids("usps-s", "small", _USPS, _STRONG_DECAY),
    "cifar10-s-seed": Preset(
        "small", _CIFAR_S, _seed(1e-4, 1e-2, "gelu", "kaiming_uniform"), _twins(5e-6, 1e-4)
    ),
    **_grids("cifar10-s", "small", _CIFAR_S, _CIFAR),
    "cifar10-l-seed": Preset(
        "large", _CIFAR_L, _seed(1e-4, 1e-2, "gelu", "kaiming_uniform"), _twins(1e-5, 1e-4)
    ),
    **_grids("cifar10-l", "large", _CIFAR_L, _CIFAR, 5e-6),
    "stl10-s-seed": Preset(
        "small", _STL_S, _seed(1e-4, 1e-3, "tanh", "kaiming_uniform"), _twins(1e-4, 1e-3)
    ),
    **_grids("stl10-s", "small", _STL_S, _STRONG_DECAY),
    "stl10-l-seed": Preset(
        "large", _STL_L, _seed(1e-4, 1e-3, "tanh", "kaiming_uniform"), _twins(1e-4, 1e-3)
    ),
    **_grids("stl10-l", "large", _STL_L, _STRONG_DECAY),
}


def preset(name: str) -> Preset:
    """Returns the preset with a name.

    Raises:
        ZoojaxError: there is no such preset; the message suggests the most similar name.

    Example:
        >>> zoojax.presets.preset("usps-s-seed").epochs
        50
    """
    if not isinstance(name, str):
        raise ZoojaxError(f"preset is {printable(name, 80)}; give the name of a preset")
    if name in PRESETS:
        return PRESETS[name]
    near = difflib.get_close_matches(name, PRESETS, n=1, cutoff=0.4)
    hint = f"did you mean '{near[0]}'? " if near else ""
    raise ZoojaxError(f"no preset named '{name}'; {hint}`zoojax presets` lists them all")


def preset_table() -> pl.DataFrame:
    """Lists all presets with their hyperparameters.

    Returns:
        One row per preset: `preset` (its name), `members`, `learning_rates`, one column
        `learning_rate_METHOD` per sparsifier, such as `learning_rate_vd` (null: each member's
        own), `weight_decays`, `architecture`, `activations`, `optimizers`, `dropouts`, `data`
        and `inits`.

    Example:
        >>> table = zoojax.presets.preset_table()
        >>> table.filter(preset="usps-s-seed")["learning_rates"].to_list()
        [[0.0003]]
    """
    sparsifiers = preset_sparsifiers()
    rows = []
    for name, settings in PRESETS.items():
        grid = settings.grid
        rates = {}
        for sparsifier in sparsifiers:
            twin = settings.twin(sparsifier.name)
            rate = None if twin is None else twin.learning_rate
            rates[f"learning_rate_{sparsifier.method}"] = rate
        rows.append(
            {
                "preset": name,
                "members": grid.combinations * grid.seeds,
                "learning_rates": list(grid.learning_rates),
                **rates,
                "weight_decays": list(grid.weight_decays),
                "architecture": settings.architecture,
                "activations": list(grid.activations),
                "optimizers": list(grid.optimizers),
                "dropouts": list(grid.dropouts),
                "data": settings.data.name,
                "inits": list(grid.inits),
            }
        )
    return pl.DataFrame(rows, infer_schema_length=None)


def preset_sparsifiers() -> list[Sparsifier]:
    """Returns the sparsifiers of the presets' twins, one per kind."""
    used = [twin.sparsifier for settings in PRESETS.values() for twin in settings.twins]
    return list({each.name: each for each in used}.values())


def recorded(name: str, settings: Preset) -> tuple[str, str | None]:
    """Returns the default name of a zoo trained from a preset, and the preset that it records.

    Args:
        name: name of the preset.
        settings: the preset, possibly with changes.

    Returns:
        (name, name) if only the number of members was changed; otherwise the name with the
        suffix "-custom", and None.
    """
    original = preset(name)
    same_members = replace(settings, grid=replace(settings.grid, seeds=original.grid.seeds))
    return (name, name) if same_members == original else (f"{name}-custom", None)


def preset_of(zoo: Zoo) -> Preset | None:
    """Returns the preset that a zoo records; None if it records none or an unknown one."""
    return PRESETS.get(zoo.config.preset or "")


def resolve_learning_rate(
    requested: float | None, zoo: Zoo, sparsifier: Sparsifier
) -> float | None:
    """Returns the learning rate of a zoo's twins: the requested one, else that of its preset.

    Args:
        requested: requested learning rate; None if not given.
        zoo: the dense zoo.
        sparsifier: sparsifier of the twins.

    Returns:
        The learning rate; None keeps each member's own.
    """
    settings = preset_of(zoo)
    twin = None if settings is None else settings.twin(sparsifier.name)
    return twin.learning_rate if requested is None and twin is not None else requested


def difference(zoo: Zoo) -> str | None:
    """Describes the first difference between a dense zoo and the preset that it records.

    The images match if they are the preset's image set with its split and normalization; those
    stored in a converted zoo cannot be checked and are assumed to match. The number of members
    and their seeds may differ, but the combinations of hyperparameters must be the preset's.

    Returns:
        A clause such as "its batch size is 64, not 10"; None if there is no difference.
    """
    settings, config = preset_of(zoo), zoo.config
    if settings is None:
        return "it records no known preset"
    if config.origin is not None:
        return "its members did not start untrained"
    if config.data is None and config.data_hash is None:
        return "its images are unknown"
    if config.data is not None and config.data != settings.data:
        return f"its images are not those of {config.preset}"
    for field, value, expected in (
        ("architecture", config.architecture, settings.architecture),
        ("number of channels", config.channels, settings.data.channels),
        ("number of epochs", config.epochs, settings.epochs),
        ("batch size", config.batch_size, settings.batch_size),
        ("data order", config.data_order, settings.data_order),
    ):
        if value != expected:
            return f"its {field} is {value}, not {expected}"
    if _combinations(zoo.members_table) != _product(settings.grid):
        return f"its members' hyperparameters are not those of {config.preset}"
    return None


def twin_difference(zoo: Zoo, twin: Zoo) -> str | None:
    """Describes the first difference between a twin and the twins of its preset in the paper.

    If sparsity varies with the epoch, fewer epochs are the same training cut short, so they are no
    difference.

    Args:
        zoo: the dense parent, for which `difference` is None.
        twin: its twin.

    Returns:
        A clause such as "its number of epochs is 5, not 15"; None if there is no difference.
    """
    settings, config = preset_of(zoo), twin.config
    assert settings is not None and config.parent is not None
    if config.origin is not None:
        return "its weights were not pruned by magnitude"
    if config.parent.epoch != settings.epochs:
        return f"it starts from epoch {config.parent.epoch} of its parent, not {settings.epochs}"
    sparsifier, expected = config.sparsifier, settings.twin(config.sparsifier.name)
    if expected is None:
        return f"the paper has no twins by {sparsifier.label}"
    if sparsifier not in (expected.sparsifier, expected.alternative):
        return f"it was created by {sparsifier.describe()}, not {expected.sparsifier.describe()}"
    if sparsifier.sweep == "ratio" and config.epochs != sparsifier.default_epochs:
        return f"its number of epochs is {config.epochs}, not {sparsifier.default_epochs}"
    grid = settings.grid
    if expected.learning_rate is not None:
        grid = replace(grid, learning_rates=(expected.learning_rate,))
    if _combinations(twin.members_table) != _product(grid):
        return f"its members' hyperparameters are not those of {config.preset}"
    return None


def _combinations(table: pl.DataFrame) -> set[tuple]:
    """Returns the hyperparameter combinations in a members table; empty if columns are missing."""
    table = with_defaults(table)
    if not BY_NAME.keys() <= set(table.columns):
        return set()
    return _comparable(table.select(list(BY_NAME)).unique().iter_rows())


def _product(grid: Grid) -> set[tuple]:
    return _combinations(replace(grid, seeds=1).members())


def _comparable(rows: Iterable[tuple]) -> set[tuple]:
    """Formats numbers with six digits, since some were stored as float32."""
    return {tuple(f"{v:.6g}" if isinstance(v, int | float) else v for v in row) for row in rows}
