"""All dialects in the order in which they are read, and how they are undone."""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from zoojax.converters.dialects.base import (
    Arrays,
    Dialect,
    DialectOptions,
    Draft,
    ReadState,
    Record,
)
from zoojax.converters.dialects.haiku import HaikuNames
from zoojax.converters.dialects.names import AverageCounter, Prefix
from zoojax.converters.dialects.number_types import FloatCounters, NumberTypes
from zoojax.converters.dialects.pruned import AoPruning, BiasMasks, MaskTypes, SomeMasks
from zoojax.converters.dialects.reparametrized import SpectralNorm, WeightNorm
from zoojax.converters.dialects.wrappers import find_state, masks_of
from zoojax.converters.layouts.described import described_network
from zoojax.converters.safe_load import TorchFile, charge
from zoojax.converters.stored_facts import plain_values
from zoojax.errors import ZoojaxError
from zoojax.text import first_line

_CHAIN: tuple[Dialect, ...] = (
    AverageCounter(),
    Prefix(),
    FloatCounters(),
    NumberTypes(),
    MaskTypes(),
    WeightNorm(),
    SpectralNorm(),
    AoPruning(),
    BiasMasks(),
    SomeMasks(),
)
_BY_NAME = {dialect.name: dialect for dialect in (*_CHAIN, HaikuNames())}
# Names of other records: how the file contains the state dict, and the path of the file.
_WRAPPER, _ORDER, _CONTAINER, _FILE = "wrapper", "order", "container", "file"
_EXTRA = "extra"
_OTHERS = "others"  # Entries of a state dict that are not tensors, such as a label.


class Original(NamedTuple):
    """A state dict in its original dialect.

    Attributes:
        arrays: The state dict.
        path: Names of the mappings that contained it, outermost first.
        container: Format of its file: "zip", "legacy", "safetensors" or "npy" (see
            `zoojax.converters.dialects.haiku`).
        others: Entries of the state dict that are not tensors.
    """

    arrays: Arrays
    path: tuple[str, ...] = ()
    container: str = "zip"
    others: Mapping[str, Any] = MappingProxyType({})


def plain_state(
    file: TorchFile, limit: int, options: DialectOptions | None = None, container: str = "zip"
) -> ReadState:
    """Reads the state dict of a file and brings it to the plain form.

    Args:
        file: The file.
        limit: Maximum bytes of the arrays.
        options: What may be changed; None for nothing.
        container: The format of the file.

    Returns:
        float32 arrays by name (integers of buffers keep their type); no two share memory.

    Raises:
        UnsafePickleError: If the file has no state dict, or it cannot be read without loss.
    """
    options = options or DialectOptions()
    found = find_state(file.content, options)
    arrays = {}
    for name, tensor in found.tensors.items():
        limit = charge(tensor, limit)
        arrays[name] = file.array(tensor)
    masks = {}
    for name, tensor in masks_of(file.content).items():
        limit = charge(tensor, limit)
        masks[name] = file.array(tensor)
    draft = Draft(arrays, options, masks)
    draft.notes += found.notes
    assert isinstance(file.content, dict)
    draft.stored = plain_values(file.content)
    others = plain_values(found.others)
    draft.stored |= others
    label = arrays.get("label")
    if label is not None and label.size == 1 and label.dtype.kind in "iu":
        draft.stored["label"] = int(label.item())
    names = list(arrays)
    for dialect in _CHAIN:
        dialect.read(draft)
    draft.records.insert(0, (_ORDER, {"names": names}))
    if others:
        draft.records.insert(0, (_OTHERS, others))
    if found.path:
        draft.records.insert(0, (_WRAPPER, {"path": list(found.path)}))
    if container != "zip":
        draft.records.insert(0, (_CONTAINER, {"format": container}))
    draft.network = described_network(draft.stored)
    return draft.finish()


def extra_record(names: Iterable[str]) -> Record:
    """Returns the record of tensors that were left out because they belong to no layer."""
    return _EXTRA, {"names": sorted(names)}


def with_file(records: Sequence[Record], file: str) -> tuple[Record, ...]:
    """Adds the path of a state's file within the folder of its member."""
    return ((_FILE, {"path": file}), *records)


def file_of(records: Sequence[Record]) -> str:
    """Returns the path of a state's file in the folder of its member; empty for the usual one."""
    return next((str(facts.get("path")) for name, facts in records if name == _FILE), "")


def is_plain(records: Sequence[Record], order: Iterable[str]) -> bool:
    """Whether a state dict was in the plain form, with its names in this order."""
    return len(records) == 1 and records[0][1].get("names") == list(order)


def original_state(
    arrays: Mapping[str, np.ndarray], records: Sequence[Record], kept: Mapping[str, np.ndarray]
) -> Original:
    """Undoes all dialects of a state dict.

    Args:
        arrays: The state dict in the plain form.
        records: Its records.
        kept: The arrays that were kept.

    Returns:
        The state dict in its original dialect.

    Raises:
        ZoojaxError: If the records do not fit the state dict.
    """
    original = Original(dict(arrays))
    try:
        for name, facts in reversed(records):
            original = _undo(original, name, facts, dict(kept))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ZoojaxError(
            f"the record of an original dialect is damaged: {first_line(error)}; omit --dialect"
        ) from error
    return original


def _undo(original: Original, name: str, facts: dict[str, Any], kept: Arrays) -> Original:
    """Undoes one record."""
    if name == _ORDER:
        if sorted(facts["names"]) != sorted(original.arrays):
            raise ValueError("other names")
        return original._replace(arrays={each: original.arrays[each] for each in facts["names"]})
    if name == _OTHERS:
        return original._replace(others=facts)
    if name == _WRAPPER:
        return original._replace(path=tuple(map(str, facts["path"])))
    if name == _CONTAINER:
        return original._replace(container=str(facts["format"]))
    if name == _EXTRA:
        extra = {each: kept[each] for each in facts["names"]}
        return original._replace(arrays=original.arrays | extra)
    if name == _FILE:
        return original
    return original._replace(arrays=_BY_NAME[name].undo(original.arrays, facts, kept))


def records_from_json(content: Any) -> tuple[Record, ...]:
    """Checks records that were read from a file.

    Raises:
        ValueError: If they are invalid.
    """
    if not isinstance(content, list) or not all(
        isinstance(each, list)
        and len(each) == 2
        and isinstance(each[0], str)
        and isinstance(each[1], dict)
        for each in content
    ):
        raise ValueError("damaged records of dialects")
    return tuple((name, facts) for name, facts in content)
