"""Reads the pickled datasets of model zoos: datasets of models, and a zoo's own images.

A dataset of models is a dict of objects, "trainset", "valset" and "testset" (or a single
object), each with the attributes

- `data_in`: for each checkpoint a state dict, or in mode "vector" a flat tensor: for each
  layer of `layer_lst`, its weight in torch's order and, with `use_bias`, its bias;
- `paths` and `epochs`: for each checkpoint the trial folder and the epoch;
- `properties`: lists by name, with one entry per checkpoint; or None;
- `layer_lst`: for each layer its number in `module_list.0` and its type, such as (11, "fc");

and others that repeat these: `data_out` (the same, or the next epoch of it), `weights_in`
(the state dicts as flat vectors), `labels_in`, `checkpoint_base`.

A zoo's images are a dict of TensorDatasets, {"trainset", "valset", "testset",
"dataset_seed"}, of normalized images [n, c, h, w] and labels [n].

The classes of the objects are never imported; their instances become inert stubs.
"""

import dataclasses
import re
import sys
from collections.abc import Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple

import numpy as np
import torch

from zoojax.converters.safe_load import (
    MIB,
    Limits,
    State,
    memory_cost,
    read_torch_file,
    to_array,
    to_arrays,
)
from zoojax.converters.safe_pickle import Stub, UnsafePickleError, shorten
from zoojax.datasets.specs import Images
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


class ImageFile(NamedTuple):
    """A zoo's own images.

    Attributes:
        splits: Images, channels last, by "train", "val" and "test".
        seed: The seed of the split; None if unknown.
    """

    splits: dict[str, Images]
    seed: int | None


class _PosixPath(Stub):
    __slots__ = ()


class _WindowsPath(Stub):
    __slots__ = ()


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
    return read_torch_file(path, limits, lambda content: _model_splits(content, limit), _model_stub)


def read_image_set(path: Path, *, limit: int = 8192 * MIB) -> ImageFile:
    """Reads a zoo's own images, its dataset.pt.

    Args:
        path: The file.
        limit: Maximum bytes of the file, and of the arrays in it.

    Raises:
        UnreadableFileError: If it is another kind of file, or unsafe or damaged.
    """
    limits = Limits(limit, MIB, entries=1000)
    return read_torch_file(path, limits, _image_file, _image_stub)


def _model_stub(module: str, name: str) -> type[Stub] | None:
    """Stubs for paths, all classes of checkpoints_to_datasets, and datasets of other packages.

    Names that look like functions, and classes of Python, torch or numpy, get none.
    """
    if module in ("pathlib", "pathlib._local"):
        return {
            "PosixPath": _PosixPath,
            "PurePosixPath": _PosixPath,
            "WindowsPath": _WindowsPath,
            "PureWindowsPath": _WindowsPath,
        }.get(name)
    packages = module.split(".")
    if not re.fullmatch(r"[A-Z]\w*", name) or packages[0] in _NEVER_STUBS:
        return None
    is_dataset = "checkpoints_to_datasets" in packages or re.search(r"Dataset(Base)?\Z", name)
    return Stub if is_dataset else None


def _image_stub(module: str, name: str) -> type[Stub] | None:
    is_tensor_dataset = (module, name) == ("torch.utils.data.dataset", "TensorDataset")
    return Stub if is_tensor_dataset else None


def _splits(content: object) -> dict[str, Stub]:
    """The objects of a file by split; uses dict's own methods, as `to_arrays` does."""
    if isinstance(content, Stub):
        name = content.state.get("train_val_test")
        return {printable(name, 40) if isinstance(name, str) else "all": content}
    if not isinstance(content, dict):
        raise UnsafePickleError(f"a {type(content).__name__}, not a pickled dataset")
    splits = {}
    for name in ("train", "val", "test"):
        split = dict.get(content, f"{name}set")
        if isinstance(split, Stub):
            splits[name] = split
    if not splits:
        raise UnsafePickleError("a dict without trainset, valset or testset: not a pickled dataset")
    return splits


def _model_splits(content: object, limit: int) -> list[ModelSplit]:
    splits = []
    for name, dataset in _splits(content).items():
        split = _model_split(name, dataset.state, limit)
        limit -= sum(memory_cost(state) for state in split.states or ())
        limit -= 0 if split.vectors is None else split.vectors.nbytes
        splits.append(split)
    return splits


def _model_split(name: str, attributes: dict[Any, Any], limit: int) -> ModelSplit:
    """Checks the attributes of one object and converts its checkpoints."""
    checkpoints = _checkpoints(name, attributes.get("data_in"), limit)
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


def _checkpoints(name: str, data: object, limit: int) -> list[State] | np.ndarray:
    """The state dicts of all checkpoints, or their vectors as one array."""
    if isinstance(data, list) and not (data and isinstance(data[0], torch.Tensor)):
        states = []
        for state in data:
            states.append(to_arrays(state, limit))
            limit -= memory_cost(states[-1])
        return states
    if isinstance(data, torch.Tensor):
        vectors = to_array(data, "data_in")
    elif isinstance(data, list):
        vectors = _stack_vectors(data, limit)
    else:
        raise UnsafePickleError(f"{name}: no data_in, state dicts or vectors")
    if vectors.ndim != 2:
        raise UnsafePickleError(f"{name}: vectors of shape {vectors.shape}")
    return vectors


def _stack_vectors(tensors: Sequence[object], limit: int) -> np.ndarray:
    """Stacks vectors of equal length."""
    sizes = {tensor.numel() if isinstance(tensor, torch.Tensor) else -1 for tensor in tensors}
    if len(sizes) != 1:
        raise UnsafePickleError("its vectors differ in length")
    if sizes.pop() * 4 * len(tensors) > limit:
        raise UnsafePickleError("its vectors take more memory than is allowed")
    return np.stack([to_array(tensor, "a vector").reshape(-1) for tensor in tensors])


def _properties(content: object, n: int) -> tuple[dict[str, list[Scalar]], list[str]]:
    """Properties with one scalar per checkpoint, and the names of all others."""
    columns, skipped = {}, []
    for name, values in dict.items(content) if isinstance(content, dict) else ():
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
    if not isinstance(value, _PosixPath | _WindowsPath):
        raise UnsafePickleError(f"a path is a {type(value).__name__}")
    parts = [part for part in value.args if isinstance(part, str)]
    if len(parts) < len(value.args) or sum(map(len, parts)) > _MAX_PATH_LENGTH:
        raise UnsafePickleError("a path has parts that are not text or absurdly long")
    pure_path = PureWindowsPath if isinstance(value, _WindowsPath) else PurePosixPath
    return pure_path(*parts).as_posix()


def _image_file(content: object) -> ImageFile:
    splits = {name: _images(name, split.state) for name, split in _splits(content).items()}
    seed = dict.get(content, "dataset_seed") if isinstance(content, dict) else None
    return ImageFile(splits, seed if type(seed) is int else None)


def _images(name: str, attributes: dict[Any, Any]) -> Images:
    match attributes.get("tensors"):
        case (images, labels):
            pixels = to_array(images, f"the images of {name}")
            classes = to_array(labels, f"the labels of {name}", torch.int64)
        case _:
            raise UnsafePickleError(f"{name}: not images and labels")
    if pixels.ndim != 4 or classes.shape != pixels.shape[:1]:
        raise UnsafePickleError(
            f"{shorten(name)}: images {pixels.shape} with labels {classes.shape}, "
            "not [n, channels, height, width] with [n]"
        )
    if classes.size and not 0 <= classes.min() <= classes.max() < 2**31:
        raise UnsafePickleError(f"{shorten(name)}: labels from {classes.min()} to {classes.max()}")
    return Images(np.ascontiguousarray(pixels.transpose(0, 2, 3, 1)), classes.astype(np.int32))
