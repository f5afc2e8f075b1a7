"""Hyperparameter grids of dense zoos: the declarations of all hyperparameters."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from zoojax.errors import ZoojaxError
from zoojax.hyperparameters.declaration import (
    ABOVE_ONE,
    Hyperparameter,
    check_whole,
    declarations,
    names,
    number,
)
from zoojax.hyperparameters.draws import Choice, Distribution
from zoojax.text import printable

if TYPE_CHECKING:
    import polars as pl

_SEED_LIMIT = 2**32
_MAX_MEMBERS = 10**6


@dataclass(frozen=True)
class Grid:
    """Hyperparameters of a dense zoo: every combination, each with several seeds.

    A `Distribution` instead of a tuple makes a random search: every member draws its own value,
    which depends only on its seed. Tuples and distributions can be combined. Numbers that only some
    optimizers, schedules or initializations use vary only in combinations with those.

    Attributes:
        activations: Names of `zoojax.architectures.layers.ACTIVATIONS`.
        inits: Names of `zoojax.architectures.layers.INITS`.
        optimizers: Names of `zoojax.optimizers.OPTIMIZERS`.
        learning_rates: Learning rates, positive.
        weight_decays: Weight decays, non-negative: L2 penalties that are added to the gradient;
            with AdamW, the decay per step is learning rate times weight decay.
        dropouts: Dropout rates in [0, 1).
        seeds: Number of members per combination.
        fresh_seeds: Whether every member has a different seed ("random" zoos). Otherwise
            all combinations share the same seeds ("fixed" zoos).
        momenta: Momentum of "sgd" and "nesterov", in [0, 1).
        schedules: Names of `zoojax.schedules.SCHEDULES`.
        warmups: Fractions of all steps in [0, 1) in which the learning rate first rises linearly.
        step_factors: Factors of the learning rate in schedule "step", positive.
        step_intervals: Epochs between changes of the learning rate in schedule "step".
        batch_sizes: Images per step, instead of the zoo's.
        init_stds: Standard deviations of the initial weights with inits "normal" and
            "truncated_normal" (before truncation), positive.
        train_fractions: Fractions of the training images that a member is trained on, in (0, 1].
        augmentations: Names of `zoojax.augmentations.AUGMENTATIONS`: random changes of the training
            images, drawn for each member, epoch and image.

    Raises:
        ZoojaxError: If a list is empty, a name is unknown, a value is out of range, or a number
            is given that none of the optimizers or schedules uses.

    Example:
        >>> grid = zoojax.Grid(activations=("tanh", "relu"), seeds=10)
        >>> grid.combinations, len(grid.members())
        (2, 20)
        >>> grid = zoojax.Grid(optimizers=("adam", "sgd"), momenta=(0.5, 0.9))
        >>> grid.members().select("optimizer", "momentum").rows()
        [('adam', 0.9), ('sgd', 0.5), ('sgd', 0.9)]
        >>> search = zoojax.Grid(learning_rates=zoojax.LogUniform(1e-4, 1e-2), seeds=100)
        >>> search.members()["learning_rate"].n_unique()
        100
    """

    activations: tuple[str, ...] | Choice = names(
        "activation",
        "tanh",
        "zoojax.architectures.layers:ACTIVATIONS",
        label="activation",
        help="Activations: tanh, sigmoid, relu, gelu, silu, leaky_relu, sine",
        torch="model::nlin",
    )
    inits: tuple[str, ...] | Choice = names(
        "init",
        "uniform",
        "zoojax.architectures.layers:INITS",
        label="initialization",
        help="Initializations: uniform, normal, kaiming_uniform, kaiming_normal, xavier_uniform, "
        "xavier_normal, truncated_normal, he_uniform, he_normal, glorot_uniform, glorot_normal, "
        "orthogonal, siren",
        torch="model::init_type",
    )
    optimizers: tuple[str, ...] | Choice = names(
        "optimizer",
        "adam",
        "zoojax.optimizers:OPTIMIZERS",
        label="optimizer",
        help="Optimizers: adam, adamw, sgd, nesterov, rmsprop",
        torch="optim::optimizer",
    )
    learning_rates: tuple[float, ...] | Distribution = number(
        "learning_rate",
        3e-4,
        above_low=True,
        label="learning rate",
        help="Learning rates",
        inherited=False,
        torch="optim::lr",
    )
    weight_decays: tuple[float, ...] | Distribution = number(
        "weight_decay", 0.0, label="weight decay", help="Weight decays", torch="optim::wd"
    )
    dropouts: tuple[float, ...] | Distribution = number(
        "dropout",
        0.0,
        (0, 1),
        label="dropout rate",
        help="Dropout rates",
        torch="model::dropout",
    )
    seeds: int = 1
    fresh_seeds: bool = False
    momenta: tuple[float, ...] | Distribution = number(
        "momentum",
        0.9,
        (0, 1),
        label="momentum",
        help="Momentum of sgd and nesterov",
        optional=True,
        used_with=("optimizer", ("sgd", "nesterov")),
        torch="optim::momentum",
    )
    schedules: tuple[str, ...] | Choice = names(
        "schedule",
        "constant",
        "zoojax.schedules:SCHEDULES",
        label="schedule",
        help="Schedules of the learning rate: constant, cosine, one_cycle, step",
        optional=True,
        inherited=False,
        torch="optim::scheduler",
    )
    warmups: tuple[float, ...] | Distribution = number(
        "warmup",
        0.0,
        (0, 1),
        label="warm-up",
        help="Fractions of all steps in which the learning rate first rises linearly",
        optional=True,
        inherited=False,
        torch="optim::warmup",
    )
    step_factors: tuple[float, ...] | Distribution = number(
        "step_factor",
        0.1,
        above_low=True,
        label="step factor",
        help="Factors of the learning rate in schedule step",
        optional=True,
        inherited=False,
        used_with=("schedule", ("step",)),
        torch="optim::step_factor",
    )
    step_intervals: tuple[int, ...] | Choice = number(
        "step_interval",
        10,
        (1, 10**6),
        label="step interval",
        help="Epochs between changes of the learning rate in schedule step",
        optional=True,
        inherited=False,
        used_with=("schedule", ("step",)),
        torch="optim::step_interval",
    )
    # The default stands for the batch size of the zoo.
    batch_sizes: tuple[int, ...] | Choice = number(
        "batch_size",
        0,
        (1, 2**31),
        label="batch size",
        help="Images per step",
        optional=True,
        static=True,
    )
    init_stds: tuple[float, ...] | Distribution = number(
        "init_std",
        1.0,
        above_low=True,
        label="standard deviation of initial weights",
        help="Standard deviations of the initial weights with inits normal and truncated_normal",
        optional=True,
        initial=True,
        inherited=False,
        used_with=("init", ("normal", "truncated_normal")),
        torch="model::init_std",
    )
    train_fractions: tuple[float, ...] | Distribution = number(
        "train_fraction",
        1.0,
        (0, ABOVE_ONE),
        above_low=True,
        label="fraction of training images",
        help="Fractions of the training images that a member is trained on",
        optional=True,
        static=True,
        torch="training::fraction",
    )
    augmentations: tuple[str, ...] | Choice = names(
        "augmentation",
        "none",
        "zoojax.augmentations:AUGMENTATIONS",
        label="augmentation",
        help="Augmentations of the training images: none, crop, flip, crop_flip",
        optional=True,
    )

    def __post_init__(self):
        check_whole("members", self.seeds)
        if self.seeds < 1:
            raise ZoojaxError(f"{self.seeds} members requested; give at least 1")
        for field, declared in declarations(Grid).items():
            values = getattr(self, field)
            if isinstance(values, Distribution):
                values.check(declared)
                continue
            if isinstance(values, str | bytes) or not hasattr(values, "__iter__"):
                raise ZoojaxError(f"{field} is {printable(values, 60)}; give a tuple of values")
            values = tuple(values)
            object.__setattr__(self, field, values)
            if not values:
                raise ZoojaxError(f"no {declared.label} given; give one or more")
            for value in values if values != (declared.default,) else ():
                declared.check(value)
        for field, declared in declarations(Grid).items():
            if getattr(self, field) != (declared.default,) and declared.used_with is not None:
                self._check_used(declared, *declared.used_with)

    def _check_used(self, declared: Hyperparameter, other: str, users: tuple[str, ...]) -> None:
        values = getattr(self, FIELDS[other])
        possible = values.values if isinstance(values, Choice) else values
        if not set(users) & set(possible):
            raise ZoojaxError(
                f"{declared.label} has no effect here; it is used with {other} {' or '.join(users)}"
            )

    @property
    def distributions(self) -> dict[str, Distribution]:
        """Distributions by the name of the hyperparameter that is drawn from them."""
        fields = {each.name: getattr(self, FIELDS[each.name]) for each in COLUMNS}
        return {name: drawn for name, drawn in fields.items() if isinstance(drawn, Distribution)}

    def _values(self) -> dict[str, tuple]:
        """Values by the name of the hyperparameter, in the order of the members table.

        Drawn hyperparameters have their default here.
        """
        drawn = self.distributions
        return {
            each.name: (each.default,)
            if each.name in drawn
            else tuple(map(each.kind, getattr(self, FIELDS[each.name])))
            for each in COLUMNS
        }

    @property
    def combinations(self) -> int:
        """Number of combinations of hyperparameters."""
        return sum(1 for _ in self.listed())

    def listed(self) -> Iterator[dict[str, Any]]:
        """Yields the combinations of hyperparameters; drawn ones have their default.

        Example:
            >>> grid = zoojax.Grid(activations=("tanh", "relu"))
            >>> [combination["activation"] for combination in grid.listed()]
            ['tanh', 'relu']
        """
        values, drawn = self._values(), self.distributions
        free = {each.name: values[each.name] for each in COLUMNS if each.used_with is None}
        for chosen in itertools.product(*free.values()):
            member = dict(zip(free, chosen, strict=True))
            bound = {
                each.name: values[each.name]
                if each.used(member) or each.used_with[0] in drawn
                else (each.default,)
                for each in COLUMNS
                if each.used_with is not None
            }
            for more in itertools.product(*bound.values()):
                yield member | dict(zip(bound, more, strict=True))

    def complete(self, member: dict[str, Any]) -> dict[str, Any]:
        """Completes the hyperparameters of one member with its draws from the distributions.

        Args:
            member: Seed and listed hyperparameters of the member.

        Returns:
            All of them; those that the member does not use have their default.

        Example:
            >>> grid = zoojax.Grid(learning_rates=zoojax.LogUniform(1e-4, 1e-2))
            >>> 1e-4 < grid.complete({"seed": 1})["learning_rate"] < 1e-2
            True
        """
        draws = self.distributions
        if not draws:
            return member
        drawn = {
            name: BY_NAME[name].kind(draw.draw(name, member["seed"]))
            for name, draw in draws.items()
        }
        member = member | drawn
        unused = (BY_NAME[name] for name in member if name in BY_NAME)
        return member | {each.name: each.default for each in unused if not each.used(member)}

    def members(self, first_seed: int = 1) -> "pl.DataFrame":
        """Creates the members table.

        Args:
            first_seed: Seed of the first member.

        Returns:
            One row per member, ordered by combination: id, seed and hyperparameters. Optional
            ones, such as the momentum, are missing if all members have the default.

        Raises:
            ZoojaxError: If a seed is outside [0, 2**32), or there are more than 10**6 members.

        Example:
            >>> grid = zoojax.Grid(learning_rates=(1e-3, 1e-2), seeds=2)
            >>> grid.members(first_seed=7).select("id", "seed", "learning_rate").rows()
            [(0, 7, 0.001), (1, 8, 0.001), (2, 7, 0.01), (3, 8, 0.01)]
        """
        # The command line imports this module and should start without polars.
        from zoojax.hyperparameters.tables import table_of

        check_whole("first_seed", first_seed)
        count = self.seeds * self.combinations
        if count > _MAX_MEMBERS:
            raise ZoojaxError(f"{count} members requested; give at most {_MAX_MEMBERS}")
        last = first_seed + self.seeds * (self.combinations if self.fresh_seeds else 1) - 1
        if not 0 <= first_seed <= last < _SEED_LIMIT:
            raise ZoojaxError(f"seeds {first_seed} to {last} are not all from 0 to 2**32 - 1")
        rows = []
        for combination, member in enumerate(self.listed()):
            offset = combination * self.seeds if self.fresh_seeds else 0
            for seed in range(first_seed + offset, first_seed + offset + self.seeds):
                row = {"seed": seed, **member}
                rows.append(self.complete(row))
        return table_of([{"id": row, **member} for row, member in enumerate(rows)])


FIELDS = {declared.name: field for field, declared in declarations(Grid).items()}
HYPERPARAMETERS = tuple(declarations(Grid).values())
# Columns of the members table. Dropout comes second, as in the zoos of earlier versions.
COLUMNS = tuple(
    sorted(HYPERPARAMETERS, key=lambda each: each.name not in ("activation", "dropout"))
)
OPTIONAL = tuple(each for each in HYPERPARAMETERS if each.optional)
BY_NAME = {each.name: each for each in HYPERPARAMETERS}
# Defaults of the numbers that programs take only if a member differs from them.
NUMBERS = tuple(each for each in OPTIONAL if not (each.static or each.known or each.initial))
NUMBER_DEFAULTS = {each.name: each.default for each in NUMBERS}


def changed(grid: Grid, given: dict[str, Any]) -> Grid:
    """Returns a grid with other values of some hyperparameters.

    Args:
        grid: The grid.
        given: One or more values, or a distribution, by the name of the hyperparameter; None keeps
            those of the grid.

    Returns:
        The changed grid.

    Raises:
        ZoojaxError: If a value is invalid; see `Grid`.
    """
    changes = {FIELDS[name]: as_tuple(v) for name, v in given.items() if v is not None}
    return replace(grid, **changes)


def as_tuple(value: Any) -> Any:
    """Returns one or more values of a hyperparameter as a tuple; a distribution as it is."""
    if isinstance(value, Distribution):
        return value
    if isinstance(value, str | bytes):
        return (value,)
    try:
        return tuple(value)
    except TypeError:
        return (value,)
