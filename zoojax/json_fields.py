"""Types and ranges of the fields in zoojax's JSON files, validated on reading."""

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
# The name of a registered architecture, that of a chain of layers, or MODULE:OBJECT.
ArchitectureName = Annotated[
    str,
    msgspec.Meta(
        pattern="^([a-z][a-z0-9_-]{0,59}|chain-[a-z0-9_.-]{1,194}"
        "|[A-Za-z0-9_.]{1,140}:[A-Za-z0-9_]{1,59})\\Z"
    ),
]
# See `zoojax.architectures.definitions`.
Logits = Annotated[tuple[float, ...], msgspec.Meta(min_length=1, max_length=64)]
# Predictions are stored as 16-bit integers.
Classes = Annotated[int, msgspec.Meta(ge=1, le=2**16)]


def check_names(content: Any, known: set[str], optional: set[str], where: str) -> None:
    """Checks that an object has exactly the expected fields.

    Args:
        content: The parsed JSON value.
        known: Names of all fields.
        optional: The subset of `known` that may be missing.
        where: Name of the object for error messages.

    Raises:
        ValueError: If `content` is not an object, lacks a field or has an unknown one.
    """
    if not isinstance(content, dict):
        raise ValueError(f"{where}: not an object")
    for name in sorted(content.keys() - known):
        raise ValueError(f"{printable(name, 60)} is not a field of {where}")
    for name in sorted(known - optional - content.keys()):
        raise ValueError(f"{where} has no {name}")
