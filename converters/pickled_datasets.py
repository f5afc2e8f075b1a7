"""Reading the pickled data sets of model zoos: of models, and of a zoo's own images.

A data set of models is a dict of objects, "trainset", "valset" and "testset" (or one
object by itself), each with the attributes

- `data_in`: by checkpoint a state dict, or in mode "vector" a flat tensor: for each layer
  of `layer_lst`, its weight in torch's order and, with `use_bias`, its bias;
- `paths` and `epochs`: by checkpoint the trial folder and the epoch;
- `properties`: lists by name, an entry a checkpoint, or None;
- `layer_lst`, such as [(0, "conv2d"), ..., (11, "fc")]: the number in `module_list.0`;

and with others that repeat these: `data_out` (the same again, or the next epoch of it),
`weights_in` (the state dicts as flat vectors), `labels_in`, `checkpoint_base`.

A zoo's images are a dict of TensorDatasets, {"trainset", "valset", "testset",
"dataset_seed"}, of images [n, c, h, w], normalised, and labels [n].

The objects' classes are never imported; their instances become inert stubs.
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
    cost,
    read,
    to_array,
    to_arrays,
)
from zoojax.converters.safe_pickle import Stub, UnsafePickleError, short
from zoojax.datasets.specs import Images
from zoojax.text import printable

Scalar = bool | int | float | str | None

_NOT_FOREIGN = {*sys.stdlib_module_names, "torch", "numpy"}
_LONGEST_PATH = 32 * 1024
_PICKLE_LIMIT = 512 * MIB
_MOST_ENTRIES = 5_000_000


@dataclasses.dataclass(frozen=True)
class ModelSplit:
    """The models of one split; checkpoint i has `states[i]` or `vectors[i]`, `paths[i]`, ...

    Attributes:
        name: "train", "val" or "test"; of a file that is one object, what it calls itself.
        states: State dicts; None if the file holds vectors.
        vectors: float32 ``[n, dim]``; None if the file holds state dicts.
        layers: Number and kind of the layers in the vectors, in their order.
        use_bias: Whether the vectors have biases.
        paths: Trial folders, with forward slashes.
        epochs: Epochs.
        properties: What is known of the checkpoints, by name.
        left_out: Names of properties that are not one scalar a checkpoint.
    """

    name: str
    states: list[State] | None
    vectors: np.ndarray | None
    layers: list[tuple[int, str]]
    use_bias: bool
    paths: list[str]
    epochs: list[int]
    properties: dict[str, list[Scalar]]
    left_out: list[str]


class ImageFile(NamedTuple):
    """Images by split ("train", "val", "test"), channels last, and the seed of the split."""

    splits: dict[str, Images]
    seed: int | None


class _PosixPath(Stub):
    __slots__ = ()


class _WindowsPath(Stub):
    __slots__ = ()


def read_model_dataset(path: Path, *, limit: int = 8192 * MIB) -> list[ModelSplit]:
    """Reads a pickled data set of models.

    Args:
        path: The file.
        limit: The most bytes that the file, and the arrays made from it, may have; it
            takes up to three times the file in memory.

    Raises:
        UnreadableFileError: another kind of file, or one that is unsafe or damaged.
    """
    limits = Limits(limit, _PICKLE_LIMIT, _MOST_ENTRIES)
    return read(path, limits, lambda content: _model_splits(content, limit), _model_classes)


def read_image_set(path: Path, *, limit: int = 8192 * MIB) -> ImageFile:
    """Reads a zoo's own images, its dataset.pt.

    Raises:
        UnreadableFileError: another kind of file, or one that is unsafe or damaged.
    """
    return read(path, Limits(limit, MIB, entries=1000), _image_file, _image_classes)


def _model_classes(module: str, name: str) -> type[Stub] | None:
    """Stubs for paths, for all classes of checkpoints_to_datasets, and for data sets of others.

    What looks like a function, or is of Python, torch or numpy, is none of these.
    """
    if module in ("pathlib", "pathlib._local"):
        return {
            "PosixPath": _PosixPath,
            "PurePosixPath": _PosixPath,
            "WindowsPath": _WindowsPath,
            "PureWindowsPath": _WindowsPath,
        }.get(name)
    packages = module.split(".")
    if not re.fullmatch(r"[A-Z]\w*", name) or packages[0] in _NOT_FOREIGN:
        return None
    is_zoos = "checkpoints_to_datasets" in packages or re.search(r"Dataset(Base)?\Z", name)
    return Stub if is_zoos else None


def _image_classes(module: str, name: str) -> type[Stub] | None:
    is_tensors = (module, name) == ("torch.utils.data.dataset", "TensorDataset")
    return Stub if is_tensors else None


def _splits(content: object) -> dict[str, Stub]:
    """The objects of a file by split; dict's own methods, as in `to_arrays`."""
    if isinstance(content, Stub):
        name = content.state.get("train_val_test")
        return {printable(name, 40) if isinstance(name, str) else "all": content}
    if not isinstance(content, dict):
        raise UnsafePickleError(f"a {type(content).__name__}, not a pickled data set")
    found = {}
    for name in ("train", "val", "test"):
        split = dict.get(content, f"{name}set")
        if isinstance(split, Stub):
            found[name] = split
    if not found:
        raise UnsafePickleError(
            "a dict without trainset, valset or testset: not a pickled data set"
        )
    return found


def _model_splits(content: object, limit: int) -> list[ModelSplit]:
    splits = []
    for name, dataset in _splits(content).items():
        split = _model_split(name, dataset.state, limit)
        limit -= sum(cost(state) for state in split.states or ())
        limit -= 0 if split.vectors is None else split.vectors.nbytes
        splits.append(split)
    return splits


def _model_split(name: str, held: dict[Any, Any], limit: int) -> ModelSplit:
    data = held.get("data_in")
    states = vectors = None
    if isinstance(data, torch.Tensor):
        vectors = to_array(data, "data_in")
    elif isinstance(data, list) and data and isinstance(data[0], torch.Tensor):
        vectors = _stacked(data, limit)
    elif isinstance(data, list):
        states = []
        for state in data:
            states.append(to_arrays(state, limit))
            limit -= cost(states[-1])
    else:
        raise UnsafePickleError(f"{name}: no data_in, state dicts or vectors")
    if vectors is not None and vectors.ndim != 2:
        raise UnsafePickleError(f"{name}: vectors of shape {vectors.shape}")
    n = len(data)
    epochs = held.get("epochs")
    if not isinstance(epochs, list) or not all(type(epoch) is int for epoch in epochs):
        raise UnsafePickleError(f"{name}: epochs are not a list of integers")
    paths = held.get("paths")
    if not isinstance(paths, list):
        raise UnsafePickleError(f"{name}: paths are not a list")
    if not n == len(paths) == len(epochs):
        raise UnsafePickleError(
            f"{name}: {n} checkpoints, {len(paths)} paths, {len(epochs)} epochs"
        )
    properties, left_out = _properties(held.get("properties"), n)
    return ModelSplit(
        name=name,
        states=states,
        vectors=vectors,
        layers=_layers(held.get("layer_lst")),
        use_bias=held.get("use_bias") is not False,
        paths=[_path(path) for path in paths],
        epochs=epochs,
        properties=properties,
        left_out=left_out,
    )


def _stacked(tensors: Sequence[object], limit: int) -> np.ndarray:
    """Vectors of one length as one array."""
    sizes = {tensor.numel() if isinstance(tensor, torch.Tensor) else -1 for tensor in tensors}
    if len(sizes) != 1:
        raise UnsafePickleError("its vectors are not of one length")
    if sizes.pop() * 4 * len(tensors) > limit:
        raise UnsafePickleError("its vectors take more memory than is allowed")
    return np.stack([to_array(tensor, "a vector").reshape(-1) for tensor in tensors])


def _properties(held: object, n: int) -> tuple[dict[str, list[Scalar]], list[str]]:
    """Columns of n scalars, and the names of those that are something else."""
    columns, left_out = {}, []
    for name, values in dict.items(held) if isinstance(held, dict) else ():
        if isinstance(values, list) and len(values) == n and all(map(_is_scalar, values)):
            columns[printable(name, 100)] = values
        else:
            left_out.append(printable(name, 100))
    return columns, left_out


def _is_scalar(value: object) -> bool:
    return value is None or type(value) in (bool, int, float, str)


def _layers(held: object) -> list[tuple[int, str]]:
    if not isinstance(held, list):
        return []
    layers = []
    for layer in held:
        match layer:
            case (int(number), str(kind)):
                layers.append((number, kind))
            case _:
                raise UnsafePickleError("its layer_lst is not a list of numbers and kinds")
    return layers


def _path(held: object) -> str:
    """The text of a path or of a path's stub."""
    if isinstance(held, str):
        return held
    if not isinstance(held, _PosixPath | _WindowsPath):
        raise UnsafePickleError(f"a path is a {type(held).__name__}")
    parts = [part for part in held.args if isinstance(part, str)]
    if len(parts) < len(held.args) or sum(map(len, parts)) > _LONGEST_PATH:
        raise UnsafePickleError("a path has parts that are no text, or absurdly long")
    pure = PureWindowsPath if isinstance(held, _WindowsPath) else PurePosixPath
    return pure(*parts).as_posix()


def _image_file(content: object) -> ImageFile:
    splits = {name: _images(name, split.state) for name, split in _splits(content).items()}
    seed = dict.get(content, "dataset_seed") if isinstance(content, dict) else None
    return ImageFile(splits, seed if type(seed) is int else None)


def _images(name: str, held: dict[Any, Any]) -> Images:
    match held.get("tensors"):
        case (images, labels):
            pixels = to_array(images, f"the images of {name}")
            classes = to_array(labels, f"the labels of {name}", torch.int64)
        case _:
            raise UnsafePickleError(f"{name}: not images and labels")
    if pixels.ndim != 4 or classes.shape != pixels.shape[:1]:
        raise UnsafePickleError(
            f"{short(name)}: images {pixels.shape} with labels {classes.shape}, "
            "not [n, channels, height, width] with [n]"
        )
    if classes.size and not 0 <= classes.min() <= classes.max() < 2**31:
        raise UnsafePickleError(f"{short(name)}: labels from {classes.min()} to {classes.max()}")
    return Images(np.ascontiguousarray(pixels.transpose(0, 2, 3, 1)), classes.astype(np.int32))
