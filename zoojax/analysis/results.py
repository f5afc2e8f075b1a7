"""The result of an analysis: tables, agreement matrices and notes, by method."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from zoojax.analysis.folder import REPORT
from zoojax.sparsifiers.base import Sparsifier
from zoojax.storage.zoo import Zoo
from zoojax.text import printable

# Names of all possible tables.
TABLES = (
    *("members", "trajectories", "layer_sparsity", "hyperparameters", "correlation"),
    "pairings",
    "change_by_hyperparameters",
    *("friendliness", "consistency", "predictability", "pruning_frequency", "methods"),
    *("crossing", "agreement", "agreement_summary", "paper"),
)
# Colors of methods if another one already has their sparsifier's color: Okabe and Ito's
# color-blind-safe palette.
_PALETTE = ("#009E73", "#E69F00", "#56B4E9", "#CC79A7", "#D55E00", "#0072B2", "#F0E442")
_MAX_LABEL_LENGTH = 100


@dataclass(frozen=True)
class Method:
    """A zoo of an analysis, and how tables, figures and texts call it.

    Attributes:
        key: Value of the column `method` in tables: that of the sparsifier, such as
            `mp`; `mp-2`, `mp-3`, ... for further twins of the same sparsifier; `l0_0.001` for the
            members with one value of an option such as the penalty.
        zoo: The zoo, or the members of a twin with one value of such an option.
        label: Name in figures and texts, such as "magnitude pruning". If several twins have
            the same sparsifier, it is followed by the options, or else by the zoo's name.
        short: Abbreviation in legends, such as "MP"; "MP-2", ... for further twins.
        color: Color in figures, "#RRGGBB"; different for each of the first few methods.
        sweep: What sparsity varies with, "ratio" or "epoch".
        twin: The whole zoo, of which `zoo` may be a part.
    """

    key: str
    zoo: Zoo
    label: str
    short: str
    color: str
    sweep: Literal["ratio", "epoch"]
    twin: Zoo

    @property
    def sparsifier(self) -> Sparsifier:
        """The zoo's sparsifier, without values of its per-member options."""
        return self.zoo.config.sparsifier

    def measured(self, table: pl.DataFrame) -> pl.DataFrame:
        """Selects the rows of epochs at which members are finished networks of their sparsity.

        Args:
            table: Rows of this method, with a column `epoch`.

        Returns:
            The rows at `Sparsifier.measured_epochs`; those of the last epoch if there are none,
            for example because the twin ends early.
        """
        epochs = self.sparsifier.measured_epochs(self.zoo.config.epochs)
        rows = table.filter(pl.col("epoch").is_in(epochs))
        return rows if len(rows) else table.filter(pl.col("epoch") == pl.col("epoch").max())

    @property
    def fine_tunes(self) -> bool:
        """Whether members are pruned once and then trained with what is left."""
        return self.sweep == "ratio" and self.sparsifier.update_every is None

    @property
    def is_trajectory(self) -> bool:
        """Whether sparsity rises with the epochs, and members are finished networks at each."""
        sparsifier, epochs = self.sparsifier, self.zoo.config.epochs
        all_epochs = sparsifier.measured_epochs(epochs) == list(range(epochs + 1))
        return self.sweep == "epoch" and not sparsifier.per_member and all_epochs

    @property
    def of(self) -> str:
        """Text after a ratio that says what it is a fraction of, such as " of units"."""
        of = self.sparsifier.ratio_of
        return "" if of == "weights" else f" of {of}"

    @property
    def capitalized(self) -> str:
        """The label at the start of a sentence."""
        return self.label[:1].upper() + self.label[1:]

    @property
    def acc_column(self) -> str:
        """Column of this method's accuracy in table `methods`."""
        return f"{self.key}_acc"


@dataclass
class Analysis:
    """The result of `analyze`.

    Attributes:
        zoo: The dense zoo.
        twins: Its twins, of any sparsifiers.
        tables: Polars frames by names in TABLES. Tables of several populations identify them by
            `method` ("dense", or the key of a twin in `methods`, such as `mp`), `ratio` (pruning
            ratio) and `epoch`. If the evaluation of a hyper-representation was added, its tables
            are named "representation_...".
        matrices: Pairwise agreement, [members, members], by the populations compared: the
            dense zoo, and twins in the order of their parents; NaN where it is undefined.
        notes: Sentences about what was left out, and why.
        path: Folder with the written tables, figures and report; None if none were written.
        cache: Intermediate results that several tables share.
    """

    zoo: Zoo
    twins: list[Zoo]
    tables: dict[str, pl.DataFrame] = field(default_factory=dict)
    matrices: dict[str, np.ndarray] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    path: Path | None = None
    cache: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def page(self) -> Path | None:
        """The report page; None if none was written."""
        return None if self.path is None else self.path / REPORT

    @cached_property
    def methods(self) -> list[Method]:
        """The dense zoo and its twins, ordered by sparsifier, path and name.

        Members of a twin with different values of an option other than the ratio, such as the
        penalty of L0 regularization, are separate methods.
        """
        return methods_of(self.zoo, self.twins)

    @cached_property
    def whole_methods(self) -> list[Method]:
        """The twins, one method per twin, as a comparison of sparsifiers needs them."""
        return methods_of(self.zoo, self.twins, split=False)[1:]

    def twin_methods(self, sweep: Literal["ratio", "epoch"] | None = None) -> list[Method]:
        """The twins, or only those whose sparsity varies with the ratio or with the epoch."""
        return [each for each in self.methods[1:] if sweep in (None, each.sweep)]

    def pairs(self) -> list[tuple[Method, Method]]:
        """Every method compared by ratio with every method that becomes sparser by epoch."""
        by_epoch = [each for each in self.twin_methods("epoch") if each.is_trajectory]
        return [(one, other) for one in self.twin_methods("ratio") for other in by_epoch]

    def by_pair(self, name: str) -> Iterator[tuple[Method, Method, pl.DataFrame]]:
        """Yields each pair with its rows of the table "methods" or "crossing", if there are any.

        Args:
            name: Name of the table.
        """
        table = self.tables.get(name, pl.DataFrame())
        for one, other in self.pairs():
            rows = table
            if "method" in table.columns:
                rows = table.filter(method=one.key, other_method=other.key)
            if len(rows):
                yield one, other, rows


def methods_of(zoo: Zoo, twins: Sequence[Zoo], *, split: bool = True) -> list[Method]:
    """Returns the methods of a zoo and its twins: the dense zoo first.

    Args:
        zoo: The dense zoo.
        twins: Its twins; their order does not matter.
        split: Whether members of a twin with different values of an option other than the ratio
            are separate methods.
    """
    ordered = sorted(twins, key=lambda t: (t.config.sparsifier.method, str(t.path), t.config.name))
    zoos = [zoo, *ordered]
    own_colors = {each.config.sparsifier.color.upper() for each in zoos}
    unused = iter([color for color in _PALETTE if color not in own_colors])
    result: list[Method] = []
    for each in zoos:
        sparsifier = each.config.sparsifier
        same = [other for other in zoos if other.config.sparsifier.method == sparsifier.method]
        number = 1 + next(i for i, other in enumerate(same) if other is each)
        suffix = "" if number == 1 else f"-{number}"
        color = sparsifier.color
        if color.upper() in (method.color.upper() for method in result):
            color = next(unused, color)
        key, label = sparsifier.method + suffix, _label(each, same)
        for value, part in _parts(each) if split else [("", each)]:
            full = f"{label}, {' and '.join(_options(each))}{value}" if value else label
            named = Method(
                *(key + value.replace(" ", "_"), part, full, sparsifier.short + suffix + value),
                *(color, sparsifier.sweep, each),
            )
            result.append(named)
    return result


def _options(zoo: Zoo) -> list[str]:
    """Columns of the options, other than the ratio, of which members have different values."""
    columns = [c for c in zoo.config.sparsifier.per_member.values() if c != "ratio"]
    return [column for column in columns if zoo.members_table[column].n_unique() > 1]


def _parts(zoo: Zoo) -> list[tuple[str, Zoo]]:
    """Splits a twin by the values of these options: the values, such as " 0.001", and members."""
    options = _options(zoo)
    if not options:
        return [("", zoo)]
    table = zoo.members_table.with_row_index("row")
    parts = sorted(table.partition_by(options, as_dict=True).items())
    return [
        ("".join(f" {value:.12g}" for value in values), zoo[rows["row"].to_numpy()])
        for values, rows in parts
    ]


def _label(zoo: Zoo, same: list[Zoo]) -> str:
    """A sparsifier's label; with what distinguishes the zoo from others of that sparsifier."""
    label = zoo.config.sparsifier.label
    if len(same) == 1:
        return label
    for describe in (
        lambda each: each.config.sparsifier.describe(),
        lambda each: each.config.name,
        lambda each: each.path.name,
    ):
        if len({describe(each) for each in same}) == len(same):
            return f"{label} ({printable(describe(zoo), _MAX_LABEL_LENGTH)})"
    return f"{label} ({printable(zoo.path, _MAX_LABEL_LENGTH)})"
