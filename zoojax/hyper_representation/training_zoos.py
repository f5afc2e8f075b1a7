"""The split of the members of one or several zoos; a member and its twins are in the same split."""

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import polars as pl

from zoojax.errors import ZoojaxError
from zoojax.storage.parent import is_version, paired
from zoojax.storage.zoo import Zoo

# The smallest number of members of which 15 % round to at least one.
MIN_MEMBERS = 7

_Member = TypeVar("_Member", int, tuple[str, int])


class Split(NamedTuple):
    """Member ids of the training, validation and test split (70, 15 and 15 %)."""

    train: list[int]
    val: list[int]
    test: list[int]


def finite_members(zoo: Zoo) -> list[int]:
    """Returns the ids of the members that are finite at every epoch."""
    diverged = set(zoo.metrics.filter(~pl.col("finite"))["member"].to_list())
    return [i for i in zoo.members_table["id"].to_list() if i not in diverged]


def split_zoos(zoos: Sequence[Zoo], seed: int) -> list[Split]:
    """Splits the finite members of each zoo 70/15/15.

    What is split are the members of each dense zoo: a dense member and its twins, at any ratio,
    are in the same split, also if their parent is not among the zoos.

    Args:
        zoos: Dense zoos and twins.
        seed: Seed of the split.

    Returns:
        The split of each zoo, ascending ids.

    Raises:
        ZoojaxError: If fewer than MIN_MEMBERS members of a dense zoo are in the zoos, or a split
            has no member of a zoo.
    """
    origins = [_origins(zoo, zoos) for zoo in zoos]
    keys = {key for origin in origins for key in origin.values()}
    by_dense_zoo = [
        split_members([key for key in keys if key[0] == zoo], seed)
        for zoo in sorted({zoo for zoo, _ in keys})
    ]
    sides = [set().union(*parts) for parts in zip(*by_dense_zoo, strict=True)]
    splits = []
    for zoo, origin in zip(zoos, origins, strict=True):
        parts = Split(*(sorted(m for m, key in origin.items() if key in side) for side in sides))
        for name, part in parts._asdict().items():
            if not part:
                raise ZoojaxError(
                    f"no member of {zoo.path} is in the {name} split; give a zoo with more members"
                )
        splits.append(parts)
    return splits


def number_origins(zoos: Sequence[Zoo]) -> list[dict[int, int]]:
    """Numbers the dense members that the finite members of each zoo are or come from.

    Args:
        zoos: Dense zoos and twins.

    Returns:
        For each zoo, the number by member id. A dense member and its twins have the same number.
    """
    origins = [_origins(zoo, zoos) for zoo in zoos]
    keys = sorted({key for origin in origins for key in origin.values()})
    numbers = {key: number for number, key in enumerate(keys)}
    return [{member: numbers[key] for member, key in origin.items()} for origin in origins]


def split_members(
    members: Sequence[_Member], seed: int
) -> tuple[set[_Member], set[_Member], set[_Member]]:
    """Splits members 70/15/15 into training, validation and test members.

    Args:
        members: Sortable identities of members, in any order; duplicates count once.
        seed: Seed of the split.

    Raises:
        ZoojaxError: If there are fewer than MIN_MEMBERS members.

    Example:
        >>> from zoojax.hyper_representation.training_zoos import split_members
        >>> [len(part) for part in split_members(range(20), 1)]
        [14, 3, 3]
    """
    distinct: list[_Member] = sorted(set(members))
    n = len(distinct)
    if n < MIN_MEMBERS:
        raise ZoojaxError(
            f"{n} members without NaN are too few to split 70/15/15; the zoo needs {MIN_MEMBERS} "
            "or more"
        )
    held_out = max(1, round(0.15 * n))
    order = [distinct[int(i)] for i in np.random.default_rng(seed).permutation(n)]
    first, second = n - 2 * held_out, n - held_out
    return set(order[:first]), set(order[first:second]), set(order[second:])


def _origins(zoo: Zoo, zoos: Sequence[Zoo]) -> dict[int, tuple[str, int]]:
    """Returns the dense member that each finite member of a zoo is or comes from.

    Returns:
        {member id: (fingerprint of the dense zoo, id in it)}.
    """
    parent = zoo.config.parent
    if parent is None:
        return {member: (zoo.fingerprint, member) for member in finite_members(zoo)}
    for dense in zoos:
        if dense.config.is_dense and is_version(dense, parent.fingerprint):
            zoo = paired(dense, zoo)
            parent = zoo.config.parent
            assert parent is not None
    table = zoo.members_table
    known = dict(zip(table["id"], table["parent_id"], strict=True))
    return {member: (parent.fingerprint, known[member]) for member in finite_members(zoo)}
