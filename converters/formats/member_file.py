"""One file with one or many members: state dicts by name, in a list, or stacked."""

import functools
from pathlib import Path
from typing import ClassVar

import numpy as np

from zoojax.converters.checkpoint_files import (
    MAX_STATE_BYTES,
    is_checkpoint_name,
    parse,
    without_extra,
)
from zoojax.converters.dialects.base import DialectOptions, ReadState
from zoojax.converters.dialects.chain import plain_state
from zoojax.converters.dialects.wrappers import STATE_KEYS
from zoojax.converters.formats.base import Listing, SourceFormat
from zoojax.converters.inert import TensorRef
from zoojax.converters.ray_trials import unique_name
from zoojax.converters.safe_load import MIB, TorchFile, guarded, read_file
from zoojax.converters.sources import Source
from zoojax.converters.state_dicts import UnknownNetworkError, infer_network
from zoojax.text import printable

_MAX_BYTES = 4096 * MIB
_MAX_MEMBERS = 1_000_000


class MemberFile(SourceFormat):
    """A file of torch.save or safetensors; each member has one state, at epoch 0."""

    name: ClassVar = "file"
    label: ClassVar = "one file with its members"

    def recognize(self, path: Path) -> str | None:
        """A file with the ending of a checkpoint."""
        if path.is_file() and is_checkpoint_name(path.name):
            return "it is a single file of states"
        return None

    def members(self, path: Path, options: DialectOptions) -> Listing:
        """State dicts by name or position, or the slices of stacked tensors."""
        file, _ = guarded(path, lambda: parse(read_file(path, _MAX_BYTES), _MAX_BYTES))
        states = _states(file.content)
        if states is not None:
            taken: set[str] = set()
            members = [
                (unique_name(name, taken), functools.partial(_one, path, file, content, options))
                for name, content in states
            ]
            return Listing([_source(path, name, read) for name, read in members])
        whole = guarded(path, lambda: plain_state(file, _MAX_BYTES, options))
        count = _stacked(whole)
        if count is None:
            read = functools.partial(_checked, whole, options)
            return Listing([_source(path, printable(path.stem, 200), read)])
        name = printable(path.stem, 180)
        members = [(f"{name}_{i:06d}", functools.partial(_slice, whole, i)) for i in range(count)]
        return Listing(
            [_source(path, member, read) for member, read in members],
            [f"its tensors are stacked: {count} members"],
        )


def _source(path: Path, name: str, read) -> Source:
    place = f"{printable(path.name, 100)}: {name}"
    notes = ["its file has no epochs: 0"]
    return Source(name, states={0: read}, places={0: place}, notes=notes)


def _states(content: object) -> list[tuple[str, object]] | None:
    """Returns the state dicts of several members with their names; None for a single state dict."""
    if isinstance(content, list) and content:
        items = [(f"member_{i:06d}", value) for i, value in enumerate(content)]
    elif isinstance(content, dict) and not any(key in content for key in STATE_KEYS):
        items = [(str(key), value) for key, value in content.items()]
    else:
        return None
    states = [(name, value) for name, value in items if _is_state(value)]
    several = len(states) > 1 or isinstance(content, list)
    return states if several and states and len(states) <= _MAX_MEMBERS else None


def _is_state(value: object) -> bool:
    if not isinstance(value, dict):
        return False
    inner = [each for each in value.values() if isinstance(each, dict)]
    return any(
        isinstance(each, TensorRef) for mapping in (value, *inner) for each in mapping.values()
    )


def _one(path: Path, file: TorchFile, content: object, options: DialectOptions) -> ReadState:
    one = file.part(content)
    state = guarded(path, lambda: plain_state(one, MAX_STATE_BYTES, options))
    return without_extra(state, options)


def _checked(state: ReadState, options: DialectOptions) -> ReadState:
    return without_extra(state, options)


def _stacked(state: ReadState) -> int | None:
    """Returns the number of members if they are stacked along the first axes; None if not."""
    lengths = {array.shape[0] if array.ndim else 0 for array in state.values()}
    if len(lengths) != 1 or not (count := lengths.pop()):
        return None
    try:
        infer_network(state)
    except UnknownNetworkError:
        pass
    else:
        return None
    try:
        infer_network(_slice(state, 0))
    except UnknownNetworkError:
        return None
    return count if count <= _MAX_MEMBERS else None


def _slice(state: ReadState, index: int) -> ReadState:
    return ReadState({name: np.array(array[index]) for name, array in state.items()})
