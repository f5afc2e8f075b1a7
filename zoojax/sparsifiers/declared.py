"""What a sparsifier declares: its names, its options, and the members that they create.

A base class of `zoojax.sparsifiers.base.Sparsifier`.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

import numpy as np
import polars as pl

from zoojax.sparsifiers.checks import checked_values
from zoojax.sparsifiers.compared import Compared


@dataclasses.dataclass(frozen=True)
class Declared(Compared):
    """Names, options and members of a sparsifier, a frozen dataclass of its options.

    Attributes:
        name: Name in zoo.json and, with hyphens, on the command line: lower case with
            underscores.
        label: Name in figures and texts, such as "magnitude pruning".
        short: Abbreviation in tables and legends, such as "MP". In lower case it identifies the
            method in analysis tables and ends the names of twins.
        color: Color in figures, "#RRGGBB".
        source: Paper that describes the method, in one line, such as "Lee et al. 2019, SNIP".
        sweep: What sparsity varies with: "ratio" (a column of the members table, compared at
            the last epoch) or "epoch".
        default_epochs: Epochs of training if none are given.
        per_member: Options that hold one value per member, and their columns in the members
            table: {"ratios": "ratio"} creates one member per parent member and ratio.
        column_ranges: Ranges [low, high) of those columns.
        optional: Options that zoo.json holds only if they differ from their defaults.
    """

    name: ClassVar[str]
    label: ClassVar[str]
    short: ClassVar[str]
    color: ClassVar[str]
    source: ClassVar[str] = ""
    sweep: ClassVar[Literal["ratio", "epoch"]] = "epoch"
    default_epochs: ClassVar[int] = 15
    per_member: ClassVar[Mapping[str, str]] = {}
    column_ranges: ClassVar[Mapping[str, tuple[float, float]]] = {}
    optional: ClassVar[tuple[str, ...]] = ()

    @property
    def method(self) -> str:
        """Identifies the method in analysis tables, such as "mp"."""
        return self.short.lower()

    def describe(self) -> str:
        """Describes the options that all members share, for the report.

        Example:
            >>> zoojax.MagnitudePruning(scope="global").describe()
            'global pruning'
        """
        return ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in self.shared_options().items())

    def shared_options(self) -> dict[str, Any]:
        """Options that all members share, as zoo.json stores them.

        Example:
            >>> zoojax.MagnitudePruning(ratios=(0.5, 0.9)).shared_options()
            {'scope': 'global'}
        """
        return {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in self.per_member
            and (field.name not in self.optional or getattr(self, field.name) != field.default)
        }

    def shared(self) -> Self:
        """Returns the sparsifier without the values of its per-member options.

        Example:
            >>> zoojax.MagnitudePruning(ratios=(0.5, 0.9)).shared()
            MagnitudePruning(ratios=(), scope='global')
        """
        return dataclasses.replace(self, **dict.fromkeys(self.per_member, ()))

    def members(self, parents: pl.DataFrame) -> pl.DataFrame:
        """Creates the members table of a twin.

        Args:
            parents: Rows of the parent's members table, with `parent_id`.

        Returns:
            One row per parent and combination of the per-member options.

        Raises:
            ZoojaxError: If a per-member option is empty, not a number, repeats a value, or is out
                of range.

        Example:
            >>> parents = pl.DataFrame({"id": [0, 1], "parent_id": [0, 1], "seed": [7, 8]})
            >>> pruning = zoojax.MagnitudePruning(ratios=(0.5, 0.9))
            >>> pruning.members(parents).select("id", "parent_id", "ratio").rows()
            [(0, 0, 0.5), (1, 0, 0.9), (2, 1, 0.5), (3, 1, 0.9)]
        """
        table = parents
        for option, column in self.per_member.items():
            low, high = self.column_ranges.get(column, (-np.inf, np.inf))
            values = checked_values(self.label, option, column, getattr(self, option), low, high)
            expanded = pl.DataFrame({column: values}, schema={column: pl.Float64})
            table = table.join(expanded, how="cross")
        if self.per_member:
            table = table.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias("id"))
        return table
