"""Finds the state dict in a file: bare, or wrapped by a training script."""

from collections.abc import Iterator
from typing import NamedTuple

from zoojax.converters.dialects.base import DialectOptions, listed
from zoojax.converters.inert import TensorRef, UnsafePickleError, type_name
from zoojax.text import printable

# Names under which scripts and libraries store the state dict, the preferred ones first.
STATE_KEYS = (
    "state_dict", "model_state_dict", "model_state", "model", "net", "network", "module",
    "params", "parameters", "weights", "checkpoint", "ckpt",
)  # fmt: skip
# First parts of the names of mappings that hold tensors but no network.
_NO_NETWORK = ("optim", "sched", "scaler", "callbacks", "loops", "rng", "random", "sparsifier")
_MAX_DEPTH = 3


class FoundState(NamedTuple):
    """The state dict of a file.

    Attributes:
        tensors: Tensors by name.
        path: Names of the mappings that contain it, outermost first.
        others: Entries of it that are not tensors, such as a label.
        notes: Remarks for the user.
    """

    tensors: dict[str, TensorRef]
    path: tuple[str, ...]
    others: dict[str, object]
    notes: tuple[str, ...] = ()


def find_state(content: object, options: DialectOptions) -> FoundState:
    """Finds the one mapping of names to tensors.

    Args:
        content: What a file contains.
        options: Which of several state dicts to read.

    Returns:
        The state dict and its path in the content.

    Raises:
        UnsafePickleError: If there is none, or if there are several and none is chosen.
    """
    if not isinstance(content, dict):
        raise UnsafePickleError(f"a {type_name(content)}, not a state dict")
    if _is_state(content) and not options.state_key:
        return _found(content, ())
    candidates: dict[tuple[str, ...], dict] = dict(_candidates(content, (), _MAX_DEPTH))
    if not candidates:
        _raise_without_tensors(content)
    if options.state_key:
        path = tuple(options.state_key.split("/"))
        if path not in candidates:
            raise UnsafePickleError(
                f"no state dict named {printable(options.state_key, 60)}; it has "
                f"{listed('/'.join(each) for each in candidates)}"
            )
    else:
        path = _preferred(list(candidates))
    rest = ["/".join(each) for each in candidates if each != path]
    notes = (f"not read: {listed(rest)}",) if rest else ()
    return _found(candidates[path], path, notes)


def _is_state(mapping: dict) -> bool:
    """Whether a mapping is itself a state dict: its tensors have the names of parameters."""
    return any(isinstance(value, TensorRef) for value in mapping.values()) and not any(
        isinstance(mapping.get(key), dict) and _holds_tensors(mapping[key]) for key in STATE_KEYS
    )


def _holds_tensors(mapping: dict) -> bool:
    if any(isinstance(value, TensorRef) for value in mapping.values()):
        return True
    return any(
        isinstance(mapping.get(key), dict)
        and any(isinstance(value, TensorRef) for value in mapping[key].values())
        for key in STATE_KEYS
    )


def _candidates(
    mapping: dict, path: tuple[str, ...], depth: int
) -> Iterator[tuple[tuple[str, ...], dict]]:
    """Yields mappings of names to tensors with the names that lead to them."""
    for key, value in mapping.items():
        if not isinstance(value, dict) or not isinstance(key, str):
            continue
        if key.lower().startswith(_NO_NETWORK):
            continue
        if any(isinstance(each, TensorRef) for each in value.values()):
            yield (*path, key), value
        elif depth > 1:
            yield from _candidates(value, (*path, key), depth - 1)


def _preferred(paths: list[tuple[str, ...]]) -> tuple[str, ...]:
    """Chooses by the names in `STATE_KEYS`, which averages (ema) do not have."""
    if len(paths) == 1:
        return paths[0]
    for key in STATE_KEYS:
        named = [path for path in paths if path[-1] == key or path[0] == key]
        if len(named) == 1:
            return named[0]
    raise UnsafePickleError(
        f"several state dicts: {listed('/'.join(path) for path in paths)}; choose with --state-key"
    )


def _found(mapping: dict, path: tuple[str, ...], notes: tuple[str, ...] = ()) -> FoundState:
    tensors, others = {}, {}
    for name, value in mapping.items():
        if not isinstance(name, str):
            raise UnsafePickleError(f"not a state dict: a key is a {type_name(name)}, not a string")
        if isinstance(value, TensorRef):
            tensors[name] = value
        elif value is None or isinstance(value, bool | int | float | str | list | tuple | bytes):
            others[name] = value
        elif not isinstance(value, dict) or value:
            raise UnsafePickleError(
                f"{printable(repr(name), 80)} is a {type_name(value)}, not a tensor"
            )
    unused = others.keys() - {"label"}
    if unused:
        notes = (*notes, f"not read: {listed(unused)}")
    return FoundState(tensors, path, others, notes)


def _raise_without_tensors(content: dict) -> None:
    for name, value in content.items():
        if not isinstance(name, str):
            raise UnsafePickleError(f"not a state dict: a key is a {type_name(name)}, not a string")
        raise UnsafePickleError(
            f"{printable(repr(name), 80)} is a {type_name(value)}, not a tensor"
        )
    raise UnsafePickleError("an empty dict, not a state dict")


def masks_of(content: object) -> dict[str, TensorRef]:
    """Returns the masks that a sparsifier of torch.ao.pruning stores next to a state dict.

    Args:
        content: What the file contains.

    Returns:
        Masks by the name of the masked tensor; empty if there are none.
    """
    masks: dict[str, TensorRef] = {}
    for key, value in content.items() if isinstance(content, dict) else ():
        state = value.get("state") if isinstance(value, dict) else None
        if not isinstance(key, str) or not key.startswith("sparsifier"):
            continue
        for name, entry in state.items() if isinstance(state, dict) else ():
            mask = entry.get("mask") if isinstance(entry, dict) else None
            if isinstance(name, str) and isinstance(mask, TensorRef):
                masks[name] = mask
    return masks
