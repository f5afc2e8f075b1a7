"""Hyperparameters in members tables.

Optional columns, such as `momentum`, exist only if a member differs from the default, so that
zoos without them are the same as those of versions that did not know them.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import polars as pl

from zoojax.hyperparameters.declaration import Hyperparameter
from zoojax.hyperparameters.grid import COLUMNS, NUMBERS, OPTIONAL

_TYPES: dict[type, Any] = {str: pl.String, float: pl.Float64, int: pl.Int64}


def column_types(hyperparameters: Iterable[Hyperparameter]) -> dict[str, Any]:
    """Returns the types of columns of the members table by name."""
    return {each.name: _TYPES[each.kind] for each in hyperparameters}


def table_of(members: list[dict[str, Any]]) -> pl.DataFrame:
    """Creates a members table, without optional columns in which all members have the default.

    Args:
        members: One dict per member: id, seed and all hyperparameters.

    Returns:
        One row per member.
    """
    schema = {"id": pl.Int64, "seed": pl.Int64, **column_types(COLUMNS)}
    return without_defaults(pl.DataFrame(members, schema=schema))


def without_defaults(table: pl.DataFrame) -> pl.DataFrame:
    """Drops the optional columns in which all members have the default."""
    present = [each for each in OPTIONAL if each.name in table.columns]
    return table.drop([each.name for each in present if (table[each.name] == each.default).all()])


def with_defaults(table: pl.DataFrame) -> pl.DataFrame:
    """Adds the optional columns that are missing, filled with their defaults."""
    missing = [each for each in OPTIONAL if each.name not in table.columns]
    return table.with_columns(
        pl.lit(each.default, _TYPES[each.kind]).alias(each.name) for each in missing
    )


def of_twins(table: pl.DataFrame) -> pl.DataFrame:
    """Drops the columns that twins do not inherit, such as the schedule of the learning rate."""
    return table.drop([each.name for each in OPTIONAL if not each.inherited], strict=False)


def varied_numbers(member: dict[str, Any]) -> tuple[str, ...]:
    """Returns the optional numbers of a member that differ from their defaults.

    Args:
        member: All hyperparameters of the member, by name.

    Returns:
        Names of the numbers that the member uses and that are not the default.
    """
    return tuple(
        each.name for each in NUMBERS if each.used(member) and member[each.name] != each.default
    )


def seeds_of(members: pl.DataFrame) -> np.ndarray:
    """Returns the seeds of members, uint32 [members]; for members without a seed, the id.

    Files of converted zoos may not have the seeds.

    Args:
        members: The members table.

    Example:
        >>> seeds_of(pl.DataFrame({"id": [0, 1], "seed": [7, None]}))
        array([7, 1], dtype=uint32)
    """
    seeds = members["seed"]
    if seeds.has_nulls():
        seeds = seeds.fill_null(members["id"])
    return seeds.to_numpy().astype(np.uint32)
