"""Converts a zoo to torch files: trial folders in the original layout, or stacked safetensors."""

import io
import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from zoojax.converters import export
from zoojax.converters.layouts.network_registry import network_layout
from zoojax.converters.layouts.registry import layout_of
from zoojax.converters.members import SCHEDULERS
from zoojax.converters.state_dicts import State, StateDictInfo, is_layer_name, to_torch
from zoojax.errors import ZoojaxError
from zoojax.filesystem.atomic import atomic_write, write_table
from zoojax.hyperparameters.grid import COLUMNS
from zoojax.runtime import population
from zoojax.storage.zoo import MEMBERS, METRICS, Zoo

_STATE = "checkpoints"
Report = Callable[[int, int], None]
Note = Callable[[str], None]


def state_dict(zoo: Zoo, member: int, epoch: int | None = None) -> dict[str, torch.Tensor]:
    """Returns one member as a torch state dict with the names of the original code.

    Pruned members are returned as plain weights, zero where pruned; variational members
    before the threshold, with log_sigma2.

    Args:
        zoo: The zoo.
        member: The id of the member.
        epoch: The epoch; None for the newest.

    Raises:
        ZoojaxError: If there is no such member or epoch, or no torch format is known for the
            zoo's sparsifier.
    """
    rows = np.flatnonzero(zoo.members_table["id"].to_numpy() == member)
    if rows.size != 1:
        raise ZoojaxError(f"{zoo.path} has no member {member}; it has {len(zoo)} members")
    row = int(rows[0])
    tree = population.take(zoo.state(epoch, raw=True), row)
    return to_tensors(to_torch(tree, _member_info(zoo, row), without_masks=True))


def write_trials(
    zoo: Zoo,
    out: Path,
    *,
    epochs: Sequence[int] | None = None,
    keep_masks: bool = False,
    report: Report | None = None,
    note: Note | None = None,
) -> int:
    """Writes trial folders in the layout of Ray Tune 1.8 and the zoos' original code.

    There is one folder per member, with params.json, result.json and
    checkpoint_<epoch>/checkpoints; zoojax.json identifies the zoo. Files that an interrupted
    call has completed are not written again.

    Args:
        zoo: The zoo.
        out: The folder of the trial folders.
        epochs: The epochs; None for all.
        keep_masks: Whether pruned members are written in the form of torch.nn.utils.prune
            (weight_orig, weight_mask) instead of masked weights.
        report: Progress callback, called with the number of states written and their total.
        note: Called with each remark for the user, one sentence at a time.

    Returns:
        The number of states written.

    Raises:
        ZoojaxError: If no torch format is known for the zoo's sparsifier, an epoch is missing or
            damaged, the folder contains something else, or writing fails.
    """
    epochs = _select_epochs(zoo, epochs)
    names, notes = export.folder_names(zoo)
    if note is not None:
        for sentence in notes:
            note(sentence)
    rows_by_epoch = rows_with_states(zoo)
    infos = [_member_info(zoo, row) for row in range(len(zoo))]
    with export.claim_folder(zoo, out, "prune" if keep_masks else "trial", names):
        folders = [export.make_subfolder(out, name) for name in names]
        _write_tables(zoo, folders)
        done, total = 0, sum(len(rows_by_epoch.get(epoch, ())) for epoch in epochs)
        for epoch in epochs:
            tree = zoo.state(epoch, raw=True)
            for row in rows_by_epoch.get(epoch, ()):
                folder = export.make_subfolder(folders[row], f"checkpoint_{epoch:06d}")
                file = folder / _STATE
                if not export.is_written(file):
                    member = population.take(tree, row)
                    _save(file, to_torch(member, infos[row], without_masks=not keep_masks))
                done += 1
            if report is not None:
                report(done, total)
    return done


def _write_tables(zoo: Zoo, folders: list[Path]) -> None:
    """Writes params.json and result.json, with all metrics, of every member."""
    metrics = zoo.metrics_history.partition_by("member", as_dict=True)
    for folder, member in zip(folders, zoo.members_table.iter_rows(named=True), strict=True):
        config = _config(zoo, member)
        text = json.dumps(config, indent=2) + "\n"
        atomic_write(folder / "params.json", lambda file, text=text: file.write_text(text))
        rows = metrics.get((member["id"],))
        lines = "" if rows is None else "".join(_results(rows, config))
        atomic_write(folder / "result.json", lambda file, text=lines: file.write_text(text))


def _save(file: Path, state: State) -> None:
    # Through memory: torch's error for a full disk is not an OSError.
    content = io.BytesIO()
    torch.save(to_tensors(state), content)
    atomic_write(file, lambda path: path.write_bytes(content.getbuffer()), durable=False)


def write_safetensors(
    zoo: Zoo,
    out: Path,
    *,
    epochs: Sequence[int] | None = None,
    report: Report | None = None,
) -> int:
    """Writes one file per epoch, members stacked in torch's names and axes, and the tables.

    Args:
        zoo: The zoo.
        out: The folder to write to.
        epochs: The epochs; None for all.
        report: Progress callback, called with the number of files written and their total.

    Returns:
        The number of files written.

    Raises:
        ZoojaxError: If no torch format is known for the zoo's sparsifier, an epoch is missing or
            damaged, the folder contains something else, or writing fails.
    """
    epochs = _select_epochs(zoo, epochs)
    info = _member_info(zoo, 0)
    method = zoo.config.sparsifier.method
    about = {"zoo": zoo.config.name, "kind": method, "fingerprint": zoo.fingerprint}
    files = {epoch: f"epoch_{epoch:06d}.safetensors" for epoch in epochs}
    with export.claim_folder(zoo, out, "safetensors", (MEMBERS, METRICS, *files.values())):
        write_table(out / MEMBERS, zoo.members_table)
        write_table(out / METRICS, zoo.metrics_history)
        for done, epoch in enumerate(epochs, start=1):
            tree = zoo.state(epoch, raw=True)
            members = [to_torch(population.take(tree, row), info) for row in range(len(zoo))]
            stacked = {name: np.stack([m[name] for m in members]) for name in members[0]}
            export.write_safetensors(out / files[epoch], stacked, {**about, "epoch": str(epoch)})
            if report is not None:
                report(done, len(epochs))
    return len(epochs)


def trial_names(zoo: Zoo) -> list[str]:
    """Folder names of all members: their trials' names if safe, else in the original style."""
    return export.folder_names(zoo)[0]


def _member_info(zoo: Zoo, row: int) -> StateDictInfo:
    """The network and sparsifier of a member, and the names of its layers.

    Raises:
        ZoojaxError: If no torch format is known for the architecture or sparsifier, or the stored
            names are damaged.
    """
    config, member = zoo.config, zoo.members_table.row(row, named=True)
    try:
        layout_of(config.sparsifier)
        network = network_layout(config.shape)
    except ZoojaxError as error:
        raise ZoojaxError(f"{zoo.path}: {error}") from error
    default = network.default_prefixes(config.shape, member["dropout"] > 0)
    prefixes = tuple(member.get("layers") or default)
    valid = [p for p in prefixes if isinstance(p, str) and is_layer_name(p)]
    if len(set(valid)) != len(prefixes) or len(prefixes) != len(config.shape.layers):
        raise ZoojaxError(
            f"{zoo.path / MEMBERS} is damaged: the layers of member {member['id']} are not "
            f"{len(config.shape.layers)} names"
        )
    return StateDictInfo(config.shape, config.sparsifier, prefixes)


def rows_with_states(zoo: Zoo) -> dict[int, list[int]]:
    """Rows of the members that have a state, by epoch."""
    row_of = {member: row for row, member in enumerate(zoo.members_table["id"])}
    rows: dict[int, list[int]] = {}
    for member, epoch in zoo.metrics.select("member", "epoch").iter_rows():
        rows.setdefault(epoch, []).append(row_of[member])
    return rows


def _select_epochs(zoo: Zoo, epochs: Sequence[int] | None) -> list[int]:
    existing = zoo.epochs
    for epoch in epochs or ():
        if epoch not in existing:
            raise ZoojaxError(f"{zoo.path} has no epoch {epoch}")
    return existing if epochs is None else sorted(set(epochs))


def _config(zoo: Zoo, member: dict[str, Any]) -> dict[str, Any]:
    """The content of params.json under the original code's keys."""
    config, reported = zoo.config, [each for each in COLUMNS if each.torch]
    spelled = {ours: theirs for theirs, ours in SCHEDULERS.items()}
    content = {
        "model::type": network_layout(config.shape).model_type
        or layout_of(config.sparsifier).model_type,
        "model::channels_in": config.channels,
        "model::o_dim": config.classes,
        "model::use_bias": True,
        **{
            each.torch: spelled.get(member[each.name], member[each.name])
            for each in reported
            if each.name in member
        },
        "training::batchsize": member.get("batch_size", config.batch_size),
        "training::epochs_train": config.epochs,
        "seed": member["seed"],
    }
    if "ratio" in member:
        content["prune::amount"] = member["ratio"]
    return content


def _results(rows: pl.DataFrame, config: dict[str, Any]) -> Iterator[str]:
    """The lines of result.json, one per epoch."""
    names = [n for n in rows.columns if n.endswith(("_loss", "_acc"))]
    for row in rows.sort("epoch").iter_rows(named=True):
        content = {name: row[name] for name in names if _is_number(row[name])}
        if _is_number(row["sparsity"]):
            content["sparsity_ratio"] = row["sparsity"]
        content["config"] = config
        yield json.dumps(content | {"training_iteration": row["epoch"]}) + "\n"


def _is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def to_tensors(state: State) -> dict[str, torch.Tensor]:
    """Copies the arrays of a state dict into tensors."""
    return {name: torch.from_numpy(np.array(value)) for name, value in state.items()}
