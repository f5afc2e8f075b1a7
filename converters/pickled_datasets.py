"""Reads the pickled datasets of models.

A dataset of models is a dict of objects, "trainset", "valset" and "testset" (or a single
object), each with the attributes

- `data_in`: for each checkpoint a state dict, or in mode "vector" a flat tensor: for each
  layer of `layer_lst`, its weight in torch's order and, with `use_bias`, its bias;
- `paths` and `epochs`: for each checkpoint the trial folder and the epoch;
- `properties`: lists by name, with one entry per checkpoint; or None;
- `layer_lst`: for each layer its number in `module_list.0` and its type, such as (11, "fc");

and others that repeat these: `data_out` (the same, or the next epoch of it), `weights_in`
(the state dicts as flat vectors), `labels_in`, `checkpoint_base`.

The classes of the objects are never imported; their instances become inert stubs.
"""

import dataclasses
import re
import sys
from collections.abc import Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np

from zoojax.converters.inert import Stub, TensorRef, UnsafePickleError, type_name
from zoojax.converters.safe_load import (
    MIB,
    Limits,
    State,
    TorchFile,
    memory_cost,
    read_torch_file,
    to_array,
    to_arrays,
)
from zoojax.text import printable

Scalar = bool | int | float | str | None

_NEVER_STUBS = {*sys.stdlib_module_names, "torch", "numpy"}
_MAX_PATH_LENGTH = 32 * 1024
_MAX_PICKLE_BYTES = 512 * MIB
_MAX_ENTRIES = 5_000_000


@dataclasses.dataclass(frozen=True)
class ModelSplit:
    """The models of one split; checkpoint i has `states[i]` or `vectors[i]`, `paths[i]`, ...

    Attributes:
        name: "train", "val" or "test"; in a file with a single object, the object's own name.
        states: State dicts; None if the file has vectors.
        vectors: float32 [n, dim]; None if the file has state dicts.
        layers: Number and kind of the layers in the vectors, in their order.
        use_bias: Whether the vectors include biases.
        paths: Trial folders, with forward slashes.
        epochs: Epochs.
        properties: Properties of the checkpoints, by name.
        skipped_properties: Names of properties that are not one scalar per checkpoint.
    """

    name: str
    states: list[State] | None
    vectors: np.ndarray | None
    layers: list[tuple[int, str]]
    use_bias: bool
    paths: list[str]
    epochs: list[int]
    properties: dict[str, list[Scalar]]
    skipped_properties: list[str]


_POSIX, _WINDOWS = {"PosixPath", "PurePosixPath"}, {"WindowsPath", "PureWindowsPath"}
_PATH_MODULES = ("pathlib", "pathlib._local")


def read_model_dataset(path: Path, *, limit: int = 8192 * MIB) -> list[ModelSplit]:
    """Reads a pickled dataset of models.

    Args:
        path: The file.
        limit: Maximum bytes of the file, and of the arrays in it; reading takes up to three
            times the size of the file in memory.

    Raises:
        UnreadableFileError: If it is another kind of file, or unsafe or damaged.
    """
    limits = Limits(limit, _MAX_PICKLE_BYTES, _MAX_ENTRIES)
    return read_torch_file(path, limits, lambda file: _model_splits(file, limit), _model_stub)


def _model_stub(module: str, name: str) -> bool:
    """Stubs for paths, all classes of checkpoints_to_datasets, and datasets of other packages.

    Names that look like functions, and classes of Python, torch or numpy, get none.
    """
    if module in _PATH_MODULES:
        return name in _POSIX | _WINDOWS
    packages = module.split(".")
    if not re.fullmatch(r"[A-Z]\w*", name) or packages[0] in _NEVER_STUBS:
        return False
    return "checkpoints_to_datasets" in packages or bool(re.search(r"Dataset(Base)?\Z", name))


def splits_of(content: object) -> dict[str, Stub]:
    """Returns the objects of a pickled dataset by split.

    Raises:
        UnsafePickleError: If there are none.
    """
    if isinstance(content, Stub):
        name = content.state.get("train_val_test")
        return {printable(name, 40) if isinstance(name, str) else "all": content}
    if not isinstance(content, dict):
        raise UnsafePickleError(f"a {type_name(content)}, not a pickled dataset")
    splits = {}
    for name in ("train", "val", "test"):
        split = content.get(f"{name}set")
        if isinstance(split, Stub):
            splits[name] = split
    if not splits:
        raise UnsafePickleError("a dict without trainset, valset or testset: not a pickled dataset")
    return splits


def _model_splits(file: TorchFile, limit: int) -> list[ModelSplit]:
    splits = []
    for name, dataset in splits_of(file.content).items():
        split = _model_split(file, name, dataset.state, limit)
        limit -= sum(memory_cost(state) for state in split.states or ())
        limit -= 0 if split.vectors is None else split.vectors.nbytes
        splits.append(split)
    return splits


def _model_split(file: TorchFile, name: str, attributes: dict[Any, Any], limit: int) -> ModelSplit:
    """Checks the attributes of one object and converts its checkpoints."""
    checkpoints = _checkpoints(file, name, attributes.get("data_in"), limit)
    n = len(checkpoints)
    epochs = attributes.get("epochs")
    if not isinstance(epochs, list) or not all(type(epoch) is int for epoch in epochs):
        raise UnsafePickleError(f"{name}: epochs are not a list of integers")
    paths = attributes.get("paths")
    if not isinstance(paths, list):
        raise UnsafePickleError(f"{name}: paths are not a list")
    if not n == len(paths) == len(epochs):
        raise UnsafePickleError(
            f"{name}: {n} checkpoints, {len(paths)} paths, {len(epochs)} epochs"
        )
    properties, skipped = _properties(attributes.get("properties"), n)
    return ModelSplit(
        name=name,
        states=checkpoints if isinstance(checkpoints, list) else None,
        vectors=None if isinstance(checkpoints, list) else checkpoints,
        layers=_layers(attributes.get("layer_lst")),
        use_bias=attributes.get("use_bias") is not False,
        paths=[_path(path) for path in paths],
        epochs=epochs,
        properties=properties,
        skipped_properties=skipped,
    )


def _checkpoints(file: TorchFile, name: str, data: object, limit: int) -> list[State] | np.ndarray:
    """The state dicts of all checkpoints, or their vectors as one array."""
    if isinstance(data, list) and not (data and isinstance(data[0], TensorRef)):
        states = []
        for state in data:
            states.append(to_arrays(file, state, limit))
            limit -= memory_cost(states[-1])
        return states
    if isinstance(data, TensorRef):
        vectors = to_array(file, data, "data_in")
    elif isinstance(data, list):
        vectors = _stack_vectors(file, data, limit)
    else:
        raise UnsafePickleError(f"{name}: no data_in, state dicts or vectors")
    if vectors.ndim != 2:
        raise UnsafePickleError(f"{name}: vectors of shape {vectors.shape}")
    return vectors


def _stack_vectors(file: TorchFile, tensors: Sequence[object], limit: int) -> np.ndarray:
    """Stacks vectors of equal length."""
    sizes = {tensor.numel if isinstance(tensor, TensorRef) else -1 for tensor in tensors}
    if len(sizes) != 1:
        raise UnsafePickleError("its vectors differ in length")
    if sizes.pop() * 4 * len(tensors) > limit:
        raise UnsafePickleError("its vectors take more memory than is allowed")
    return np.stack([to_array(file, tensor, "a vector").reshape(-1) for tensor in tensors])


def _properties(content: object, n: int) -> tuple[dict[str, list[Scalar]], list[str]]:
    """Properties with one scalar per checkpoint, and the names of all others."""
    columns, skipped = {}, []
    for name, values in content.items() if isinstance(content, dict) else ():
        if isinstance(values, list) and len(values) == n and all(map(_is_scalar, values)):
            columns[printable(name, 100)] = values
        else:
            skipped.append(printable(name, 100))
    return columns, skipped


def _is_scalar(value: object) -> bool:
    return value is None or type(value) in (bool, int, float, str)


def _layers(content: object) -> list[tuple[int, str]]:
    if not isinstance(content, list):
        return []
    layers = []
    for layer in content:
        match layer:
            case (int(number), str(kind)):
                layers.append((number, kind))
            case _:
                raise UnsafePickleError("its layer_lst is not a list of numbers and kinds")
    return layers


def _path(value: object) -> str:
    """The text of a path or of the stub of a path."""
    if isinstance(value, str):
        return value
    module, _, name = value.cls.rpartition(".") if isinstance(value, Stub) else ("", "", "")
    if not isinstance(value, Stub) or module not in _PATH_MODULES:
        raise UnsafePickleError(f"a path is a {type_name(value)}")
    parts = [part for part in value.args if isinstance(part, str)]
    if len(parts) < len(value.args) or sum(map(len, parts)) > _MAX_PATH_LENGTH:
        raise UnsafePickleError("a path has parts that are not text or absurdly long")
    pure_path = PureWindowsPath if name in _WINDOWS else PurePosixPath
    return pure_path(*parts).as_posix()
