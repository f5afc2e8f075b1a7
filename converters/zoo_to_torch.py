"""A zoojax zoo made torch files again: trial folders in the original layout, or stacked
safetensors; and the check that a conversion lost nothing."""

import functools
import io
import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import polars as pl
import torch

from zoojax.architectures import cnn
from zoojax.architectures.base import Architecture
from zoojax.converters import export, layout
from zoojax.converters.sources import Source
from zoojax.converters.state_dicts import (
    State,
    StateDictInfo,
    infer_network,
    is_layer_name,
    to_torch,
)
from zoojax.converters.torch_models import CNN, log_alpha
from zoojax.errors import ZoojaxError
from zoojax.filesystem.atomic import atomic_write, write_table
from zoojax.runtime import population
from zoojax.sparsifiers.variational_dropout import LOG_ALPHA_CLIP, LOG_ALPHA_THRESHOLD
from zoojax.storage.zoo import MEMBERS, METRICS, Zoo

_STATE = "checkpoints"
ExportProgress = Callable[[int, int], None]
Note = Callable[[str], None]


def state_dict(zoo: Zoo, member: int, epoch: int | None = None) -> dict[str, torch.Tensor]:
    """One member as a torch state dict, of the names that the original code gives it.

    Pruned members come as plain weights, zero where pruned; variational ones before the
    threshold, with log_sigma2.

    Args:
        zoo: the zoo.
        member: its id.
        epoch: which; the newest if None.

    Raises:
        ZoojaxError: there is no such member or epoch.
    """
    rows = np.flatnonzero(zoo.members_table["id"].to_numpy() == member)
    if rows.size != 1:
        raise ZoojaxError(f"{zoo.path} has no member {member}; it has {len(zoo)} members")
    position = int(rows[0])
    tree = population.take(zoo.state(epoch, raw=True), position)
    return _tensors(to_torch(tree, _description(zoo, position), masked=True))


def write_trials(
    zoo: Zoo,
    out: Path,
    *,
    epochs: Sequence[int] | None = None,
    keep_masks: bool = False,
    report: ExportProgress | None = None,
    note: Note | None = None,
) -> int:
    """Writes trial folders as Ray Tune 1.8 and the zoos' code left them.

    One folder per member, with params.json, result.json and checkpoint_<epoch>/checkpoints;
    and zoojax.json, which says whose they are. What an interrupted call has written whole is
    not written again.

    Args:
        zoo: the zoo.
        out: the folder of the trial folders.
        epochs: which; all if None.
        keep_masks: write pruned members as torch.nn.utils.prune keeps them (weight_orig,
            weight_mask) in place of masked weights.
        report: called with the states done and their number.
        note: called with what the user should know, a sentence each time.

    Returns:
        The number of states written.

    Raises:
        ZoojaxError: an epoch is not there or is damaged; the folder holds something else, is
            full or not writable.
    """
    chosen = _chosen(zoo, epochs)
    names, notes = export.folder_names(zoo)
    if note is not None:
        for sentence in notes:
            note(sentence)
    there = _states_there(zoo)
    descriptions = [_description(zoo, i) for i in range(len(zoo))]
    with export.claimed(zoo, out, "prune" if keep_masks else "trial", names):
        folders = [export.folder_in(out, name) for name in names]
        _write_tables(zoo, folders)
        done, total = 0, sum(len(there.get(epoch, ())) for epoch in chosen)
        for epoch in chosen:
            tree = zoo.state(epoch, raw=True)
            for position in there.get(epoch, ()):
                file = export.folder_in(folders[position], f"checkpoint_{epoch:06d}") / _STATE
                if not export.is_written(file):
                    member = population.take(tree, position)
                    _save(file, to_torch(member, descriptions[position], masked=not keep_masks))
                done += 1
            if report is not None:
                report(done, total)
    return done


def _write_tables(zoo: Zoo, folders: list[Path]) -> None:
    """Writes params.json and result.json of every member, all that was measured in it."""
    rows = zoo.metrics_history.partition_by("member", as_dict=True)
    for folder, member in zip(folders, zoo.members_table.iter_rows(named=True), strict=True):
        config = _config(zoo, member)
        text = json.dumps(config, indent=2) + "\n"
        atomic_write(folder / "params.json", lambda file, text=text: file.write_text(text))
        mine = rows.get((member["id"],))
        lines = "" if mine is None else "".join(_results(mine, config))
        atomic_write(folder / "result.json", lambda file, text=lines: file.write_text(text))


def _save(file: Path, state: State) -> None:
    # Through memory: what torch says of a full disk is not an OSError.
    content = io.BytesIO()
    torch.save(_tensors(state), content)
    atomic_write(file, lambda path: path.write_bytes(content.getbuffer()), durable=False)


def write_safetensors(
    zoo: Zoo,
    out: Path,
    *,
    epochs: Sequence[int] | None = None,
    report: ExportProgress | None = None,
) -> int:
    """Writes one file per epoch, stacked by member in torch's names and axes, and the tables.

    Returns:
        The number of files written.

    Raises:
        ZoojaxError: an epoch is not there or is damaged; the folder holds something else, is
            full or not writable.
    """
    chosen = _chosen(zoo, epochs)
    about = {"zoo": zoo.config.name, "kind": zoo.config.kind, "fingerprint": zoo.fingerprint}
    description = _description(zoo, 0)
    files = {epoch: f"epoch_{epoch:06d}.safetensors" for epoch in chosen}
    with export.claimed(zoo, out, "safetensors", (MEMBERS, METRICS, *files.values())):
        write_table(out / MEMBERS, zoo.members_table)
        write_table(out / METRICS, zoo.metrics_history)
        for done, epoch in enumerate(chosen, start=1):
            tree = zoo.state(epoch, raw=True)
            members = [to_torch(population.take(tree, i), description) for i in range(len(zoo))]
            stacked = {name: np.stack([m[name] for m in members]) for name in members[0]}
            export.write_safetensors(out / files[epoch], stacked, {**about, "epoch": str(epoch)})
            if report is not None:
                report(done, len(chosen))
    return len(chosen)


class Verified(NamedTuple):
    """What a verification found.

    Attributes:
        states: states compared.
        images: images that both networks were run on.
        difference: the largest difference between two logits.
        worst: where it was.
        unequal: places of states whose arrays are not equal bit for bit.
        missing: places of states that the zoo does not have.
    """

    states: int
    images: int
    difference: float
    worst: str
    unequal: list[str]
    missing: list[str]


def verify(
    zoo: Zoo,
    sources: Sequence[Source],
    images: np.ndarray,
    *,
    sample: int | None = 100,
    report: ExportProgress | None = None,
) -> Verified:
    """Reads states again through torch, and compares arrays and logits with the zoo's.

    Both networks run in double precision, so that what differs is not rounding.

    Args:
        zoo: the converted zoo.
        sources: what it was converted from.
        images: images to run both on, [n, size, size, channels].
        sample: how many states, evenly spread; None for all.
        report: told the states done and their number.

    Raises:
        ZoojaxError: the zoo was not converted, or has no states in common with the sources.
    """
    if "trial" not in zoo.members_table.columns:
        raise ZoojaxError(f"{zoo.path} was not converted from torch")
    position = {trial: i for i, trial in enumerate(zoo.members_table["trial"])}
    there = {(i, e) for e, members in _states_there(zoo).items() for i in members}
    pairs = [(s, e) for s in sources if s.name in position for e in sorted(s.states)]
    missing = [s.places[e] for s, e in pairs if (position[s.name], e) not in there]
    pairs = [(s, e) for s, e in pairs if (position[s.name], e) in there]
    if not pairs:
        raise ZoojaxError(f"{zoo.path} has no states in common with what is given")
    if sample is not None and sample < len(pairs):
        picked = np.linspace(0, len(pairs) - 1, sample).round().astype(int)
        pairs = [pairs[i] for i in np.unique(picked)]
    x = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    difference, worst, unequal = -1.0, "", []
    by_epoch = sorted(pairs, key=lambda pair: pair[1])
    for done, (source, epoch, tree, effective) in enumerate(_loaded(zoo, by_epoch), start=1):
        i, row = position[source.name], zoo.members_table.row(position[source.name], named=True)
        state = source.states[epoch]()
        description = infer_network(state)
        found = (description.architecture, description.kind, description.variant)
        if found != (zoo.config.shape, zoo.config.kind, zoo.config.variant):
            raise ZoojaxError(f"{source.places[epoch]} is of another network or kind than the zoo")
        ours = to_torch(population.take(tree, i), description)
        if not all(np.array_equal(_bits(ours[k]), _bits(state[k])) for k in state):
            unequal.append(source.places[epoch])
        theirs = _torch_logits(state, description, row["activation"], x)
        params = population.take(effective, i)
        logits = _flax_logits(params, description, row["activation"], images)
        gap = float(np.abs(logits - theirs).max())
        if not gap <= difference:
            difference, worst = gap, source.places[epoch]
        if report is not None:
            report(done, len(pairs))
    return Verified(len(pairs), len(images), difference, worst, unequal, missing)


def _loaded(
    zoo: Zoo, pairs: list[tuple[Source, int]]
) -> Iterator[tuple[Source, int, dict[str, Any], dict[str, Any]]]:
    """The pairs with the zoo's trees of their epoch, each epoch read once."""
    loaded, tree, effective = None, {}, {}
    for source, epoch in pairs:
        if epoch != loaded:
            loaded, tree, effective = epoch, zoo.state(epoch, raw=True), zoo.sparse_params(epoch)
        yield source, epoch, tree, effective


def _flax_logits(
    params: dict[str, Any], description: StateDictInfo, activation: str, images: np.ndarray
) -> np.ndarray:
    """Logits of a member as it is evaluated, in double precision."""
    logits = _logits_program(description.architecture, activation)
    with jax.enable_x64(True):
        exact = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
        return np.asarray(logits(exact, images.astype(np.float64)))


@functools.cache
def _logits_program(architecture: Architecture, activation: str) -> Callable[..., jax.Array]:
    """(parameters, images) -> logits."""
    model = cnn.CNN(architecture, activation)
    return jax.jit(lambda params, images: cnn.logits(model, {"params": params}, images))


def _torch_logits(
    state: State, description: StateDictInfo, activation: str, x: torch.Tensor
) -> np.ndarray:
    """Logits in evaluation mode by torch alone, which masks and thresholds; in double."""
    weights = {}
    tensors = _tensors(state)
    for prefix, layer in zip(description.prefixes, description.architecture.layers, strict=True):
        bias = tensors[f"{prefix}.bias"]
        if description.kind == "mp":
            weight = tensors[f"{prefix}.weight_orig"] * tensors[f"{prefix}.weight_mask"]
        else:
            weight = tensors[f"{prefix}.weight"]
        if description.kind == "vd":
            clip = LOG_ALPHA_CLIP["conv" if layer.startswith("conv") else "fc"]
            pruned = log_alpha(weight, tensors[f"{prefix}.log_sigma2"], clip) >= LOG_ALPHA_THRESHOLD
            weight = weight.masked_fill(pruned, 0.0)
            if description.variant == "released" and layer.startswith("conv"):
                alpha = log_alpha(bias, tensors[f"{prefix}.log_sigma2_bias"], clip)
                bias = bias.masked_fill(alpha >= LOG_ALPHA_THRESHOLD, 0.0)
        weights[f"{prefix}.weight"], weights[f"{prefix}.bias"] = weight, bias
    plain = CNN(description.architecture, activation)
    ordered = dict(zip(plain.state_dict(), weights.values(), strict=True))
    plain.load_state_dict(ordered, strict=True)
    with torch.no_grad():
        return plain.double().eval()(x.double()).numpy()


def trial_names(zoo: Zoo) -> list[str]:
    """Folder names: those a zoo was converted from where they are safe, else in the original's
    manner."""
    return export.folder_names(zoo)[0]


def _description(zoo: Zoo, position: int) -> StateDictInfo:
    """What a member is as a torch state dict.

    Raises:
        ZoojaxError: its layers' names are damaged.
    """
    config, row = zoo.config, zoo.members_table.row(position, named=True)
    modules = layout.MODULES[config.architecture, row["dropout"] > 0]
    prefixes = tuple(row.get("layers") or (f"module_list.{m}" for m in modules))
    named = [p for p in prefixes if isinstance(p, str) and is_layer_name(p)]
    if len(set(named)) != len(prefixes) or len(prefixes) != len(config.shape.layers):
        raise ZoojaxError(
            f"{zoo.path / MEMBERS} is damaged: the layers of member {row['id']} are not "
            f"{len(config.shape.layers)} names"
        )
    return StateDictInfo(config.shape, config.kind, config.variant, prefixes)


def _states_there(zoo: Zoo) -> dict[int, list[int]]:
    """Positions of the members that have a state, by epoch."""
    positions = {member: i for i, member in enumerate(zoo.members_table["id"])}
    there: dict[int, list[int]] = {}
    for member, epoch in zoo.metrics.select("member", "epoch").iter_rows():
        there.setdefault(epoch, []).append(positions[member])
    return there


def _chosen(zoo: Zoo, epochs: Sequence[int] | None) -> list[int]:
    there = zoo.epochs
    for epoch in epochs or ():
        if epoch not in there:
            raise ZoojaxError(f"{zoo.path} has no epoch {epoch}")
    return there if epochs is None else sorted(set(epochs))


def _config(zoo: Zoo, row: dict[str, Any]) -> dict[str, Any]:
    """params.json in the original code's keys."""
    config = zoo.config
    content = {
        "model::type": "CNN_ARD" if config.kind == "vd" else "CNN",
        "model::channels_in": config.channels,
        "model::o_dim": config.classes,
        "model::nlin": row["activation"],
        "model::dropout": row["dropout"],
        "model::init_type": row["init"],
        "model::use_bias": True,
        "optim::optimizer": row["optimizer"],
        "optim::lr": row["learning_rate"],
        "optim::wd": row["weight_decay"],
        "training::batchsize": config.batch_size,
        "training::epochs_train": config.epochs,
        "seed": row["seed"],
    }
    if "ratio" in row:
        content["prune::amount"] = row["ratio"]
    return content


def _results(rows: pl.DataFrame, config: dict[str, Any]) -> Iterator[str]:
    """result.json, one line per epoch."""
    names = [n for n in rows.columns if n.endswith(("_loss", "_acc"))]
    for row in rows.sort("epoch").iter_rows(named=True):
        content = {name: row[name] for name in names if _is_number(row[name])}
        if _is_number(row["sparsity"]):
            content["sparsity_ratio"] = row["sparsity"]
        content["config"] = config
        yield json.dumps(content | {"training_iteration": row["epoch"]}) + "\n"


def _is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _bits(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array).view(np.uint32)


def _tensors(state: State) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(np.array(value)) for name, value in state.items()}
