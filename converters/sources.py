"""Where members come from: trial folders or a pickled data set, seen as one thing."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from converters import layout
from converters.pickled_datasets import ModelSplit, read_model_dataset
from converters.states import State
from converters.torch_checkpoints import Rejected, read_state
from converters.trials import scan
from zoojax.errors import ZoojaxError
from zoojax.models import architecture


@dataclass
class Source:
    """A member to be.

    Attributes:
        name: its trial folder's name.
        config: what the trial says of itself, by the original code's keys; may be empty.
        rows: reported metrics by epoch.
        states: reads the state of an epoch; raises Rejected.
        places: says where the state of an epoch is.
        notes: what is odd about it.
        split: "train", "val" or "test" of a pickled data set.
        layers: torch's names of its layers, once a state of it has been looked at.
    """

    name: str
    config: dict[str, Any] = field(default_factory=dict)
    rows: dict[int, dict[str, Any]] = field(default_factory=dict)
    states: dict[int, Callable[[], State]] = field(default_factory=dict)
    places: dict[int, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    split: str | None = None
    layers: tuple[str, ...] = ()


def from_trials(root: Path) -> list[Source]:
    """The trial folders of a zoo that hold checkpoints, by name.

    Raises:
        ZoojaxError: there are none.
    """
    sources = [
        Source(
            name=trial.name,
            config=trial.config,
            rows=trial.rows,
            states={e: functools.partial(read_state, f) for e, f in trial.checkpoints.items()},
            places={e: str(f.relative_to(root)) for e, f in trial.checkpoints.items()},
            notes=trial.notes,
        )
        for trial in scan(root)
        if trial.checkpoints
    ]
    if not sources:
        raise ZoojaxError(f"{root}: none of its trial folders holds a checkpoint_<epoch> folder")
    return sources


def from_dataset(file: Path) -> list[Source]:
    """The models of a pickled data set: a source for each trial folder that it names.

    Raises:
        Rejected: the file is no such data set, or is unsafe or damaged.
    """
    members: dict[str, Source] = {}
    for split in read_model_dataset(file):
        for i, (path, epoch) in enumerate(zip(split.paths, split.epochs, strict=True)):
            name = PurePosixPath(path).name
            source = members.setdefault(name, Source(name, split=split.name))
            if epoch in source.states:
                source.notes.append(f"epoch {epoch} twice; the later is ignored")
                continue
            place = f"{file.name}: {split.name}[{i}]"
            source.states[epoch] = functools.partial(_dataset_state, split, i, file)
            source.places[epoch] = place
            source.rows[epoch] = {k: values[i] for k, values in split.properties.items()}
    return [members[name] for name in sorted(members)]


def _dataset_state(split: ModelSplit, index: int, file: Path) -> State:
    if split.states is not None:
        return split.states[index]
    assert split.vectors is not None
    if not split.use_bias:
        raise Rejected(file, "vectors without biases do not make whole networks")
    return _unflatten(split.vectors[index], [number for number, _ in split.layers], file)


def _unflatten(vector: np.ndarray, numbers: list[int], file: Path) -> State:
    """A flat vector (by layer: weight in torch's order, then bias) as a state dict.

    Its length tells the network: each known one leaves another number of weights for the
    classes of the last layer.
    """
    for name, channels in (("small", 1), ("small", 3), ("large", 1), ("large", 3)):
        one = layout.torch_shapes(architecture(name, channels, 1))
        rest = sum(int(np.prod(shape)) + shape[0] for layer, shape in one.items() if layer != "fc2")
        classes, odd = divmod(vector.size - rest, one["fc2"][1] + 1)
        if odd or not 1 < classes <= 1000 or len(numbers) not in (0, len(one)):
            continue
        modules = numbers or layout.MODULES[name, False]
        state, start = {}, 0
        shapes = layout.torch_shapes(architecture(name, channels, classes)).values()
        for number, shape in zip(modules, shapes, strict=True):
            for leaf, leaf_shape in (("weight", shape), ("bias", shape[:1])):
                end = start + int(np.prod(leaf_shape))
                state[f"module_list.{number}.{leaf}"] = vector[start:end].reshape(leaf_shape)
                start = end
        return state
    raise Rejected(file, f"no known network has {vector.size} parameters")
