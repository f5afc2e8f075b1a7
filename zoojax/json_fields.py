"""Fields of the JSON files that zoojax writes: their types and ranges, checked on reading."""

from typing import Annotated, Any

import msgspec

from zoojax.text import printable

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
FilePath = Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]
Note = Annotated[str, msgspec.Meta(max_length=1000)]
Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}\\Z")]
Count = Annotated[int, msgspec.Meta(ge=0, le=10**8)]
Positive = Annotated[int, msgspec.Meta(ge=1, le=10**8)]
MemberId = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]
ArchitectureName = Annotated[str, msgspec.Meta(pattern="^(small|large)\\Z")]
# Predictions are kept as 16-bit numbers.
Classes = Annotated[int, msgspec.Meta(ge=1, le=2**16)]


def check_names(content: Any, known: set[str], optional: set[str], where: str) -> None:
    """Checks the names of an object's fields.

    Args:
        content: what should be an object.
        known: names of its fields.
        optional: those that may be missing.
        where: what it is, for messages.

    Raises:
        ValueError: it is no object, or lacks a field, or has an unknown one.
    """
    if not isinstance(content, dict):
        raise ValueError(f"{where}: not an object")
    for name in sorted(content.keys() - known):
        raise ValueError(f"{printable(name, 60)} is no field of {where}")
    for name in sorted(known - optional - content.keys()):
        raise ValueError(f"{where} has no {name}")
