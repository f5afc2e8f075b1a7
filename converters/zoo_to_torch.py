"""Converts a zoo to trial folders in the original layout, and members to torch objects."""

import io
import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from zoojax.architectures.units import shrink
from zoojax.converters import export, originals
from zoojax.converters.config_names import SCHEDULERS
from zoojax.converters.dialects.chain import Original, file_of, original_state
from zoojax.converters.dialects.haiku import NPY
from zoojax.converters.exported import exported_as, exported_state
from zoojax.converters.layouts.network_registry import network_layout
from zoojax.converters.layouts.networks import default_prefixes, known_network
from zoojax.converters.layouts.registry import layout_of
from zoojax.converters.layouts.torch_models import TorchChain
from zoojax.converters.npy import write_array
from zoojax.converters.state_dicts import State, StateDictInfo, is_layer_name, to_torch
from zoojax.errors import ZoojaxError
from zoojax.filesystem.atomic import atomic_write
from zoojax.hyperparameters.grid import COLUMNS
from zoojax.runtime import population
from zoojax.sparsifiers.dense import Dense
from zoojax.storage.states import effective_params
from zoojax.storage.zoo import MEMBERS, Zoo

_STATE = "checkpoints"
Report = Callable[[int, int], None]
Note = Callable[[str], None]


def state_dict(zoo: Zoo, member: int, epoch: int | None = None) -> dict[str, torch.Tensor]:
    """Returns one member as a torch state dict with the names of the original code.

    Sparse members are returned as plain weights, zero where pruned; those of variational dropout
    before the threshold, with log_sigma2.

    Args:
        zoo: The zoo.
        member: The id of the member.
        epoch: The epoch; None for the newest.

    Raises:
        ZoojaxError: If there is no such member or epoch, or no torch format is known for the
            zoo's architecture.
    """
    rows = np.flatnonzero(zoo.members_table["id"].to_numpy() == member)
    if rows.size != 1:
        raise ZoojaxError(f"{zoo.path} has no member {member}; it has {len(zoo)} members")
    row = int(rows[0])
    block = next(each for each in zoo.row_blocks(epoch) if row < each.stop)
    tree = population.take(exported_state(zoo, epoch, block), row - block.start)
    return to_tensors(to_torch(tree, _member_info(zoo, row), without_masks=True))


def shrunk_module(zoo: Zoo, member: int, epoch: int | None = None) -> TorchChain:
    """Returns one member as a smaller torch network, without its unused hidden units.

    Twins of structured pruning have such units. The logits are those of the member, except for
    rounding; `state_dict()` has the names of the original code.

    Args:
        zoo: The zoo.
        member: The id of the member.
        epoch: The epoch; None for the newest.

    Raises:
        ZoojaxError: If there is no such member or epoch, no torch format is known for the
            architecture, or it cannot be described with fewer units.
    """
    small = zoo.shrunk(member, epoch)
    network = known_network(small.architecture)
    row = zoo.members_table.row(int(zoo.row_indices([member])[0]), named=True)
    module = TorchChain(network, row["activation"], row["dropout"])
    info = StateDictInfo(network, Dense(), default_prefixes(network, row["dropout"] > 0))
    module.load_state_dict(to_tensors(to_torch({"params": small.params}, info)), strict=True)
    return module


def write_trials(
    zoo: Zoo,
    out: Path,
    *,
    epochs: Sequence[int] | None = None,
    keep_masks: bool = False,
    original: bool = False,
    shrunk: bool = False,
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
        original: Whether states of converted zoos are written in their original dialect and to
            files of their original names.
        shrunk: Whether unused hidden units are left out: the shapes of the weights are those of a
            smaller network.
        report: Progress callback, called with the number of states written and their total.
        note: Called with each remark for the user, one sentence at a time.

    Returns:
        The number of states written.

    Raises:
        ZoojaxError: If no torch format is known for the zoo's architecture, an epoch is missing or
            damaged, the folder contains something else, or writing fails.
    """
    epochs = select_epochs(zoo, epochs)
    names, notes = export.folder_names(zoo)
    if note is not None:
        for sentence in notes:
            note(sentence)
    rows_by_epoch, ids = rows_with_states(zoo), zoo.members_table["id"].to_list()
    infos = member_infos(zoo)
    form = "trial"
    for chosen, name in ((original, "original"), (shrunk, "shrunk"), (keep_masks, "prune")):
        form = name if chosen else form
    with export.claim_folder(zoo, out, form, names):
        folders = [export.make_subfolder(out, name) for name in names]
        _write_tables(zoo, folders)
        done, total = 0, sum(len(rows_by_epoch.get(epoch, ())) for epoch in epochs)
        for epoch in epochs:
            dialects = originals.read(zoo.path, epoch) if original else {}
            existing = np.array(rows_by_epoch.get(epoch, ()), int)
            for block in zoo.row_blocks(epoch):
                rows = existing[(existing >= block.start) & (existing < block.stop)].tolist()
                files = [
                    _state_file(folders[row], epoch, file_of(dialects.get(ids[row], ((), {}))[0]))
                    for row in rows
                ]
                unwritten = [
                    (row, file)
                    for row, file in zip(rows, files, strict=True)
                    if not export.is_written(file)
                ]
                tree = _block_state(zoo, epoch, block, shrunk) if unwritten else {}
                for row, file in unwritten:
                    records, kept = dialects.get(ids[row], ((), {}))
                    member = population.take(tree, row - block.start)
                    if shrunk:
                        state = _shrunk_state(member["params"], infos[row])
                    else:
                        plain = not keep_masks and not original
                        state = to_torch(member, infos[row], without_masks=plain)
                    _save(file, original_state(state, records, kept))
                done += len(rows)
                if report is not None:
                    report(done, total)
    return done


def _block_state(zoo: Zoo, epoch: int, rows: slice, shrunk: bool) -> dict[str, Any]:
    """Reads some rows of an epoch."""
    if not shrunk:
        return exported_state(zoo, epoch, rows)
    return {"params": effective_params(zoo.config, zoo.state(epoch, rows=rows))}


def _shrunk_state(params: dict[str, Any], info: StateDictInfo) -> State:
    """Returns the state dict of a member without its unused hidden units."""
    small = shrink(info.architecture, params)
    info = StateDictInfo(known_network(small.architecture), Dense(), info.prefixes)
    return to_torch({"params": small.params}, info)


def _write_tables(zoo: Zoo, folders: list[Path]) -> None:
    """Writes params.json and result.json, with all metrics, of every member."""
    metrics = zoo.metrics_history.sort("member", "epoch")
    starts, stops = (
        metrics["member"].search_sorted(zoo.members_table["id"], side) for side in ("left", "right")
    )
    for folder, member, start, stop in zip(
        folders, zoo.members_table.iter_rows(named=True), starts, stops, strict=True
    ):
        config = trial_config(zoo, member)
        lines = "".join(_results(metrics[start:stop], config))
        for name, text in (
            ("params.json", json.dumps(config, indent=2) + "\n"),
            ("result.json", lines),
        ):
            atomic_write(
                folder / name, lambda file, text=text: file.write_text(text), durable=False
            )


def _state_file(folder: Path, epoch: int, original: str) -> Path:
    """The file of a state; the original path if its names are safe, else the usual one."""
    parts = original.split("/") if original else []
    if not parts or not all(map(export.is_safe_name, parts)):
        parts = [f"checkpoint_{epoch:06d}", _STATE]
    for name in parts[:-1]:
        folder = export.make_subfolder(folder, name)
    return folder / parts[-1]


def _save(file: Path, state: Original) -> None:
    if state.container == "safetensors":
        export.write_safetensors(file, _contiguous(state.arrays), {"format": "pt"})
        return
    if state.container == NPY:
        atomic_write(file, lambda path: _write_arrays(path, state.arrays), durable=False)
        return
    content: Any = {**to_tensors(state.arrays), **state.others}
    for name in reversed(state.path):
        content = {name: content}
    # Through memory: torch's error for a full disk is not an OSError.
    data = io.BytesIO()
    torch.save(content, data, _use_new_zipfile_serialization=state.container != "legacy")
    atomic_write(file, lambda path: path.write_bytes(data.getbuffer()), durable=False)


def _write_arrays(path: Path, arrays: State) -> None:
    """Writes arrays one after the other."""
    with path.open("wb") as file:
        for array in arrays.values():
            write_array(file, array)


def _contiguous(arrays: State) -> dict[str, np.ndarray]:
    return {name: np.array(array, order="C") for name, array in arrays.items()}


def trial_names(zoo: Zoo) -> list[str]:
    """Folder names of all members: their trials' names if safe, else in the original style."""
    return export.folder_names(zoo)[0]


def member_infos(zoo: Zoo) -> list[StateDictInfo]:
    """Returns for each member its network, the sparsifier it is written as, and its layers' names.

    Members with the same names share an object.

    Args:
        zoo: The zoo.

    Raises:
        ZoojaxError: If no torch format is known for the architecture, or the stored names are
            damaged.
    """
    table = zoo.members_table
    named = table["layers"].to_list() if "layers" in table.columns else [None] * len(table)
    known: dict[tuple, StateDictInfo] = {}
    infos = []
    for row, (names, dropout) in enumerate(zip(named, table["dropout"] > 0, strict=True)):
        key = (tuple(names or ()), dropout)
        if key not in known:
            known[key] = _member_info(zoo, row)
        infos.append(known[key])
    return infos


def _member_info(zoo: Zoo, row: int) -> StateDictInfo:
    """The network of a member, the sparsifier it is written as, and the names of its layers.

    Raises:
        ZoojaxError: If no torch format is known for the architecture, or the stored names are
            damaged.
    """
    config, member = zoo.config, zoo.members_table.row(row, named=True)
    try:
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
    return StateDictInfo(config.shape, exported_as(config), prefixes)


def rows_with_states(zoo: Zoo) -> dict[int, list[int]]:
    """Rows of the members that have a state, by epoch."""
    row_of = {member: row for row, member in enumerate(zoo.members_table["id"].to_list())}
    rows: dict[int, list[int]] = {}
    for member, epoch in zoo.metrics.select("member", "epoch").iter_rows():
        rows.setdefault(epoch, []).append(row_of[member])
    return rows


def states_in_order(zoo: Zoo, epochs: Sequence[int]) -> pl.DataFrame:
    """Lists the states of a zoo by member and epoch.

    Args:
        zoo: The zoo.
        epochs: The epochs.

    Returns:
        The metrics of each state, and the columns `number` (its position in this table) and `row`
        (that of its member in the members table).
    """
    order = pl.DataFrame({"member": zoo.members_table["id"]}).with_row_index("row")
    metrics = zoo.metrics.filter(pl.col("epoch").is_in(epochs))
    return metrics.join(order, on="member").sort("row", "epoch").with_row_index("number")


def select_epochs(zoo: Zoo, epochs: Sequence[int] | None) -> list[int]:
    """Returns the epochs to write, ascending; raises ZoojaxError if one does not exist."""
    existing = zoo.epochs
    for epoch in epochs or ():
        if epoch not in existing:
            raise ZoojaxError(f"{zoo.path} has no epoch {epoch}")
    return existing if epochs is None else sorted(set(epochs))


def trial_config(zoo: Zoo, member: dict[str, Any]) -> dict[str, Any]:
    """Returns the content of params.json of a member under the original code's keys."""
    config, reported = zoo.config, [each for each in COLUMNS if each.torch]
    content = {
        "model::type": network_layout(config.shape).model_type
        or layout_of(exported_as(config)).model_type,
        "model::channels_in": config.channels,
        "model::o_dim": config.classes,
        "model::use_bias": True,
        **{
            each.torch: SCHEDULERS.get(member[each.name], member[each.name])
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


def result_names(metrics: pl.DataFrame) -> list[str]:
    """Returns the columns of a metrics table that trials report."""
    return [n for n in metrics.columns if n.endswith(("_loss", "_acc"))]


def _results(rows: pl.DataFrame, config: dict[str, Any]) -> Iterator[str]:
    """The lines of result.json, one per epoch."""
    names = result_names(rows)
    for row in rows.iter_rows(named=True):
        content = {name: row[name] for name in names if _is_number(row[name])}
        if _is_number(row["sparsity"]):
            content["sparsity_ratio"] = row["sparsity"]
        content["config"] = config
        yield json.dumps(content | {"training_iteration": row["epoch"]}) + "\n"


def _is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def to_tensors(state: State) -> dict[str, torch.Tensor]:
    """Copies the arrays of a state dict into tensors."""
    return {name: _to_tensor(value) for name, value in state.items()}


def _to_tensor(array: np.ndarray) -> torch.Tensor:
    if array.dtype.name == "bfloat16":  # NumPy's type is not torch's.
        bits = torch.from_numpy(np.array(array).view(np.int16))
        return bits.view(torch.bfloat16)
    return torch.from_numpy(np.array(array))
