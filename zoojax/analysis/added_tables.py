"""Tables that are added to every analysis and its report, one function each.

    @analysis_table("dead_layers", title="Dead layers", about="Members with an all-zero layer.")
    def dead_layers(analysis: Analysis) -> pl.DataFrame:
        ...

A table of zoojax itself is a module of this package, listed in `_MODULES`. Users register theirs
in a module of their own, which `zoojax analyze --plugin MODULE` imports.
"""

import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

from zoojax.analysis.results import TABLES, Analysis
from zoojax.errors import ZoojaxError
from zoojax.text import is_printable, printable

# Modules of this package that add tables.
_MODULES: tuple[str, ...] = ("compared_methods", "mask_overlap")
# Files and keys of added tables begin with this.
PREFIX = "added_"
_MAX_TEXT_LENGTH = 800

Compute = Callable[[Analysis], pl.DataFrame]


@dataclass(frozen=True)
class AddedTable:
    """A table that is added to analyses.

    Attributes:
        name: Its name; its key in `Analysis.tables` and its files are "added_NAME".
        title: Title on the page.
        about: Description on the page.
        fractions: Columns with fractions in [0, 1], which are shown in percent.
        compute: Computes the table; an empty one is left out.
    """

    name: str
    title: str
    about: str
    fractions: tuple[str, ...]
    compute: Compute

    @property
    def key(self) -> str:
        """Key in `Analysis.tables`."""
        return f"{PREFIX}{self.name}"


_registered: dict[str, AddedTable] = {}


def analysis_table(
    name: str, *, title: str, about: str, fractions: tuple[str, ...] = ()
) -> Callable[[Compute], Compute]:
    """Adds a table to every analysis.

    Args:
        name: Name of the table: lower case letters, digits and underscores.
        title: Title on the page.
        about: Description on the page.
        fractions: Columns with fractions in [0, 1], which are shown in percent.

    Returns:
        A decorator for the function that computes the table from the analysis, whose other
        tables are complete.

    Raises:
        ZoojaxError: If the name is invalid or taken, or a text is empty, long or not printable.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,59}", name) or name in TABLES:
        raise ZoojaxError(f"'{printable(name, 60)}' is not a valid name of an added table")
    for text in (title, about):
        if not 0 < len(text) <= _MAX_TEXT_LENGTH or not is_printable(text):
            raise ZoojaxError(f"title or description of table {name} is not a short text")

    def register(compute: Compute) -> Compute:
        known = _registered.get(name)
        if known is not None and _origin(known.compute) != _origin(compute):
            raise ZoojaxError(f"a table named '{name}' is already added")
        _registered[name] = AddedTable(name, title, about, fractions, compute)
        return compute

    return register


def added_tables() -> tuple[AddedTable, ...]:
    """Returns all added tables in the order of their registration."""
    for module in _MODULES:
        importlib.import_module(f"zoojax.analysis.{module}")
    return tuple(_registered.values())


def _origin(function: Compute) -> tuple[str, str]:
    return function.__module__, function.__qualname__
