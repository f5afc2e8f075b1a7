"""Splits of members into training, validation and test members.

The split of a member depends only on its own seed and hyperparameters and on the seed of the
splits, not on other members, their ids or order, or the machine. A twin is in the split of its
parent.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence

from zoojax.errors import ZoojaxError
from zoojax.text import printable

SPLITS = ("train", "val", "test")


def check_split(split: object) -> None:
    """Checks the name of a split; None selects all members.

    Raises:
        ZoojaxError: If it is unknown.
    """
    if split is not None and split not in SPLITS:
        known = ", ".join(SPLITS)
        raise ZoojaxError(f"no split {printable(split, 40)}; there are: {known}, None")


def check_fractions(fractions: Sequence[float]) -> tuple[float, float, float]:
    """Checks the shares of training, validation and test members.

    Raises:
        ZoojaxError: If they are not three numbers from 0 to 1 with sum 1.
    """
    try:
        train, val, test = (float(each) for each in fractions)
    except (TypeError, ValueError) as error:
        raise ZoojaxError(
            f"fractions are {printable(fractions, 60)}; give three numbers, such as 0.7, 0.15, 0.15"
        ) from error
    valid = all(0 <= each <= 1 for each in (train, val, test))
    if not (valid and math.isclose(train + val + test, 1, abs_tol=1e-9)):
        raise ZoojaxError(f"fractions are {train}, {val}, {test}; their sum must be 1")
    return train, val, test


def side_of(member: str, seed: int, fractions: tuple[float, float, float]) -> str:
    """Draws the split of a member.

    Args:
        member: Identity of the member (`member_identities`); for a twin, that of its parent.
        seed: Seed of the split.
        fractions: Shares of training, validation and test members.

    Returns:
        A name of `SPLITS`.

    Example:
        >>> [side_of(member, 0, (0.5, 0.25, 0.25)) for member in "abcd"]
        ['test', 'val', 'test', 'val']
    """
    digest = hashlib.sha256(f"zoojax split {seed} {member}".encode()).digest()
    position = int.from_bytes(digest[:7], "big") / 2**56
    train, val, _ = fractions
    return SPLITS[(position >= train) + (position >= train + val)]


def published_sides(
    ids: Sequence[int], column: Sequence[object], name: object
) -> Mapping[int, str]:
    """Returns the splits in the `split` column of a zoo.

    Args:
        ids: Ids of the members.
        column: Their values of the column.
        name: Name of the zoo, for messages.

    Raises:
        ZoojaxError: If a value is not a name of `SPLITS`.
    """
    for member, side in zip(ids, column, strict=True):
        if side not in SPLITS:
            raise ZoojaxError(
                f"{name}: the published split of member {member} is {printable(side, 40)}, not one "
                f"of {', '.join(SPLITS)}; published=False draws a split from the seed"
            )
    return dict(zip(ids, map(str, column), strict=True))
