"""Where members come from: trial folders or a pickled data set, seen as one thing."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from zoojax.architectures.base import architecture
from zoojax.converters import layout
from zoojax.converters.pickled_datasets import ModelSplit, read_model_dataset
from zoojax.converters.ray_trials import linked, scan, unique
from zoojax.converters.reported import LAST_EPOCH, Row, row
from zoojax.converters.safe_load import UnreadableFileError, read_state
from zoojax.converters.state_dicts import State
from zoojax.errors import ZoojaxError
from zoojax.text import printable


@dataclass
class Source:
    """A member to be.

    Attributes:
        name: its trial folder's name, in visible characters.
        config: what the trial says of itself, by the original code's keys; may be empty.
        rows: reported numbers by epoch, also of epochs without a state.
        states: reads the state of an epoch; raises UnreadableFileError.
        places: says where the state of an epoch is.
        skipped: reasons by place, of what looks like a state and is not taken.
        notes: what is odd about it.
        split: "train", "val" or "test" of a pickled data set.
        layers: torch's names of its layers, once a state of it has been looked at.
        pruned: the share of its weights that are masked, once a state has been looked at;
            None if it has no mask.
    """

    name: str
    config: dict[str, Any] = field(default_factory=dict)
    rows: dict[int, Row] = field(default_factory=dict)
    states: dict[int, Callable[[], State]] = field(default_factory=dict)
    places: dict[int, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    split: str | None = None
    layers: tuple[str, ...] = ()
    pruned: float | None = None


def from_trials(root: Path) -> list[Source]:
    """The trial folders of a zoo that hold checkpoints, by name.

    Those that hold nothing but what is skipped come too, without states.

    Raises:
        ZoojaxError: there are none, or something cannot be read.
    """
    sources = [
        Source(
            name=trial.name,
            config=trial.config,
            rows=trial.rows,
            states={e: functools.partial(read_state, f) for e, f in trial.checkpoints.items()},
            places={
                e: f"{trial.name}/{f.parent.name}/{f.name}" for e, f in trial.checkpoints.items()
            },
            skipped=trial.skipped,
            notes=trial.notes,
        )
        for trial in scan(root)
        if trial.checkpoints or trial.skipped
    ]
    if not any(source.states for source in sources):
        raise ZoojaxError(f"{root}: none of its trial folders holds a checkpoint_<epoch> folder")
    sources += [Source(name, skipped={name: reason}) for name, reason in linked(root).items()]
    return sources


def from_dataset(file: Path) -> list[Source]:
    """The models of a pickled data set: a source for each trial folder that it names.

    Raises:
        UnreadableFileError: the file is no such data set, or is unsafe or damaged.
    """
    members: dict[str, Source] = {}
    names: set[str] = set()
    for split in read_model_dataset(file):
        for i, (path, epoch) in enumerate(zip(split.paths, split.epochs, strict=True)):
            trial = PurePosixPath(path).name
            if trial not in members:
                members[trial] = Source(unique(trial, names), split=split.name)
            source = members[trial]
            place = f"{printable(file.name, 100)}: {split.name}[{i}]"
            if not 0 <= epoch <= LAST_EPOCH:
                source.skipped[place] = f"its epoch is not from 0 to {LAST_EPOCH}"
                continue
            if epoch in source.states:
                source.skipped[place] = f"epoch {epoch} twice"
                source.notes.append(f"epoch {epoch} twice; the later is ignored")
                continue
            source.states[epoch] = functools.partial(_dataset_state, split, i, file)
            source.places[epoch] = place
            source.rows[epoch] = row({k: values[i] for k, values in split.properties.items()})
    return sorted(members.values(), key=lambda source: source.name)


def _dataset_state(split: ModelSplit, index: int, file: Path) -> State:
    if split.states is not None:
        return split.states[index]
    assert split.vectors is not None
    if not split.use_bias:
        raise UnreadableFileError(file, "vectors without biases do not make whole networks")
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
    raise UnreadableFileError(file, f"no known network has {vector.size} parameters")
