"""Sources of members: trial folders and pickled datasets behind one interface."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from zoojax.converters.checkpoint_files import read_state
from zoojax.converters.config_names import normalized_config
from zoojax.converters.dialects.base import DialectOptions
from zoojax.converters.layouts.networks import unflatten
from zoojax.converters.pickled_datasets import ModelSplit, read_model_dataset
from zoojax.converters.ray_trials import scan_trials, skipped_links, unique_name
from zoojax.converters.reported import MAX_EPOCH, Row, is_reported, parse_integer, parse_row
from zoojax.converters.safe_load import UnreadableFileError
from zoojax.converters.state_dicts import State
from zoojax.converters.stored_facts import stored_config, stored_row
from zoojax.converters.trial_reports import Trial
from zoojax.errors import ZoojaxError
from zoojax.text import printable

MAX_LABEL = 10**6


@dataclass(slots=True)
class Source:
    """One member to convert.

    Attributes:
        name: The name of its trial folder, in printable characters.
        config: The trial's configuration under the original code's keys; may be empty.
        rows: Reported metrics by epoch, including epochs without a state.
        states: By epoch, a function that reads the state; it raises UnreadableFileError.
        places: By epoch, a description of where the state is.
        skipped: Reasons, by place, why entries that look like states are not converted.
        notes: Remarks for the members table.
        split: "train", "val" or "test", as published with the zoo; None if unknown.
        image: Number of the image that it learned; None if it learned no single image.
        label: Class of this image.
        folder: Start of the places of its states, before the paths that an export restores; None
            for the name and a slash.
        layers: Torch's names of its layers, once a state has been inspected.
        pruned: The fraction of its weights that is masked, once a state has been inspected;
            None without a mask.
    """

    name: str
    config: dict[str, Any] = field(default_factory=dict)
    rows: dict[int, Row] = field(default_factory=dict)
    states: dict[int, Callable[[], State]] = field(default_factory=dict)
    places: dict[int, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    split: str | None = None
    image: int | None = None
    label: int | None = None
    folder: str | None = None
    layers: tuple[str, ...] = ()
    pruned: float | None = None

    def __post_init__(self) -> None:
        self.config = normalized_config(self.config)

    def learn(self, epoch: int, stored: Mapping[str, Any]) -> None:
        """Copies values that a file stores with a state and that no report contains.

        Args:
            epoch: The epoch of the state.
            stored: The values in the file.
        """
        missing = {k: v for k, v in stored_config(stored).items() if k not in self.config}
        self.config |= missing
        if self.label is None:
            self.label = parse_integer(stored.get("label"), MAX_LABEL)
        row = stored_row(stored)
        if row and not self.rows.get(epoch):
            self.rows[epoch] = row


def from_trials(
    root: Path, options: DialectOptions | None = None, *, any_name: bool = False
) -> list[Source]:
    """Lists the trial folders with checkpoints, sorted by name.

    Folders in which every entry is skipped are included, without states.

    Args:
        root: The folder that contains the trial folders.
        options: What may be changed in states; None for nothing.
        any_name: Whether folders of any name are trials if they have a trial's files.

    Raises:
        ZoojaxError: If there are none, or something cannot be read.
    """
    return of_trials(scan_trials(root, any_name=any_name), root, options)


def of_trials(
    trials: Sequence[Trial], root: Path, options: DialectOptions | None = None
) -> list[Source]:
    """Lists the members of trial folders that were scanned; see `from_trials`.

    Args:
        trials: The trial folders.
        root: The folder that contains them.
        options: What may be changed in states; None for nothing.

    Raises:
        ZoojaxError: If none has a checkpoint.
    """
    sources = [
        Source(
            name=trial.name,
            config=trial.config,
            rows=trial.rows,
            states={
                e: functools.partial(read_state, f, options=options)
                for e, f in trial.checkpoints.items()
            },
            places={
                e: f"{trial.name}/{_shown(f.parent.name)}/{_shown(f.name)}"
                for e, f in trial.checkpoints.items()
            },
            skipped=trial.skipped,
            notes=trial.notes,
        )
        for trial in trials
        if trial.checkpoints or trial.skipped
    ]
    if not any(source.states for source in sources):
        raise ZoojaxError(f"{root}: none of its trial folders has a checkpoint_<epoch> folder")
    links = skipped_links(root)
    sources += [Source(name, skipped={name: reason}) for name, reason in links.items()]
    return sources


def _shown(name: str) -> str:
    # Nearly all names are printable: there are tens of thousands.
    return name if name.isprintable() and len(name) < 100 else printable(name, 100)


def from_dataset(file: Path) -> list[Source]:
    """Lists the models of a pickled dataset, one source per trial folder that it names.

    Args:
        file: The dataset.

    Raises:
        UnreadableFileError: If the file is not such a dataset, or is unsafe or damaged.
    """
    members: dict[str, Source] = {}
    names: set[str] = set()
    for split in read_model_dataset(file):
        for i, (path, epoch) in enumerate(zip(split.paths, split.epochs, strict=True)):
            trial = PurePosixPath(path).name
            if trial not in members:
                config = {
                    n: values[i] for n, values in split.properties.items() if not is_reported(n)
                }
                known = {name: value for name, value in config.items() if value is not None}
                members[trial] = Source(unique_name(trial, names), known, split=split.name)
            source = members[trial]
            place = f"{printable(file.name, 100)}: {split.name}[{i}]"
            if not 0 <= epoch <= MAX_EPOCH:
                source.skipped[place] = f"its epoch is not from 0 to {MAX_EPOCH}"
                continue
            if epoch in source.states:
                source.skipped[place] = f"epoch {epoch} twice"
                source.notes.append(f"epoch {epoch} twice; the later is ignored")
                continue
            source.states[epoch] = functools.partial(_dataset_state, split, i, file)
            source.places[epoch] = place
            report = {name: values[i] for name, values in split.properties.items()}
            source.rows[epoch] = parse_row(report)
    return sorted(members.values(), key=lambda source: source.name)


def _dataset_state(split: ModelSplit, index: int, file: Path) -> State:
    if split.states is not None:
        return split.states[index]
    assert split.vectors is not None
    if not split.use_bias:
        raise UnreadableFileError(file, "vectors without biases do not describe complete networks")
    vector = split.vectors[index]
    state = unflatten(vector, [number for number, _ in split.layers])
    if state is None:
        raise UnreadableFileError(file, f"no known network has {vector.size} parameters")
    return state
