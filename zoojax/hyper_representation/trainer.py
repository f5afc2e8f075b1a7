"""Learning a hyper-representation from a zoo on disk: begun, resumed, saved."""

import json
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import flax.serialization
import jax
import numpy as np
import polars as pl

from zoojax.api import dense
from zoojax.errors import ZoojaxError
from zoojax.filesystem.atomic import (
    atomic_rmtree,
    atomic_write,
    check_new,
    is_step,
    make_folder,
    write_table,
)
from zoojax.filesystem.locks import locked
from zoojax.filesystem.reading import entries, exists, is_folder
from zoojax.hyper_representation.codec import Codec
from zoojax.hyper_representation.config import RepresentationConfig, check_config
from zoojax.hyper_representation.dataset import Samples, normalisation, read, sound_members, split
from zoojax.hyper_representation.representation import (
    CONFIG,
    LOSSES,
    STATES,
    Representation,
    open_representation,
)
from zoojax.hyper_representation.settings import Settings
from zoojax.hyper_representation.train_step import (
    Data,
    State,
    epoch_program,
    init,
    validation_program,
)
from zoojax.runtime import population, signals
from zoojax.storage import checkpoints
from zoojax.storage.zoo import Zoo
from zoojax.text import is_printable
from zoojax.training import trainer

# Seconds of training between saves: an epoch of a large autoencoder on a GPU takes less
# than saving it.
_SAVE_EVERY = 60.0
# Where magnitude pruning in one shot fails, and members still work.
_SPARSE = 0.8


def train_representation(
    out: Path,
    zoo: Zoo,
    settings: Settings,
    *,
    epochs: Sequence[int] | None = None,
    alphas_of: int | None = None,
    weights_only: bool = False,
    report: trainer.ProgressCallback | None = None,
) -> Representation:
    """Trains an autoencoder on a zoo's states; a finished one is returned as it is.

    Args:
        out: its folder: new, empty, or the same training interrupted.
        zoo: a variational-dropout twin; any zoo for weights alone.
        settings: of the autoencoder and its training.
        epochs: of the zoo, whose states are learned from; if None all, or those in the first
            third of the way to `alphas_of`, whose weights are still much as the dense ones.
        alphas_of: the epoch whose log alphas are learned from every sample (task
            "sparsify"); None for that of each sample.
        weights_only: reconstruct no log alphas.
        report: told after every epoch.

    Raises:
        ZoojaxError: bad input, or the disk refused.
    """
    settings.validate()
    check_new(out)
    if settings.task == "sparsify" and (weights_only or alphas_of is None):
        raise ZoojaxError("the task 'sparsify' learns the log alphas of one epoch; say which")
    if not weights_only and zoo.config.kind != "vd":
        raise ZoojaxError(
            f"{zoo.path} has no log alphas, as it is no variational-dropout twin; make one with "
            "'zoojax sparsify variational-dropout', or ask for --weights-only"
        )
    _check_epochs(zoo, [*(epochs or []), *([] if alphas_of is None else [alphas_of])])
    sound = sound_members(zoo)
    parts = split(sound, settings.seed)
    last = zoo.epochs[-1] if alphas_of is None else alphas_of // 3
    chosen = [e for e in zoo.epochs if e <= last] if epochs is None else list(epochs)
    sets = [read(zoo, part, chosen, alphas_of=alphas_of) for part in parts[:2]]
    norm = normalisation(sets[0].weights)
    alphas = {} if weights_only else (sets[0].alphas or {})
    config = RepresentationConfig(
        settings=settings,
        zoo=_relative(zoo.path, out),
        fingerprint=zoo.fingerprint,
        architecture=zoo.config.architecture,
        channels=zoo.config.channels,
        classes=zoo.config.classes,
        members=parts,
        left_out=len(zoo) - len(sound),
        epochs=chosen,
        alphas_of=alphas_of,
        mean=norm.mean,
        deviation=norm.deviation,
        variational={layer: list(leaves) for layer, leaves in alphas.items()},
        versions=dense.versions(),
    )
    check_config(config)
    with locked(out):
        representation = _begin_or_continue(out, config)
        if representation.epoch >= settings.epochs:
            total = settings.epochs * len(sets[0])
            if report is not None:
                report(trainer.Progress(settings.epochs, settings.epochs, total, total))
            return representation
        data = [_data(representation.codec, part) for part in sets]
        return _train(representation, data[0], data[1], len(sets[0]), len(sets[1]), report)


def _train(
    representation: Representation,
    data: Data,
    held_out: Data,
    size: int,
    held_size: int,
    report: trainer.ProgressCallback | None,
) -> Representation:
    codec = representation.codec
    total = codec.settings.epochs
    rows, first = representation.losses, representation.epoch
    rows = rows.filter(pl.col("epoch") <= first)

    def begin() -> State:
        return init(codec, size)

    if first:
        like = jax.eval_shape(begin)
        state = flax.serialization.from_state_dict(like, _restored(representation))
    else:
        state = population.jit_fast_compile(begin)()
    state = jax.device_put(state)
    train = jax.jit(epoch_program(codec, size), donate_argnums=0)
    validate = jax.jit(validation_program(codec, held_size))
    if report is not None:
        report(trainer.Progress(first, total, first * size, total * size))
    saved = time.monotonic()
    for number in range(first + 1, total + 1):
        state, parts = train(state, data, np.int32(number))
        losses = parts, validate(state.variables, held_out)
        parts, checked = signals.run_interruptible(jax.device_get, losses)
        row = {"epoch": number, **_row("train", parts), **_row("val", checked)}
        new = pl.DataFrame([row])
        rows = new if rows.is_empty() else pl.concat([rows, new])
        signals.check()
        if not np.isfinite(row["train_loss"]):
            raise ZoojaxError(
                f"the loss of epoch {number} is not finite; give a smaller learning rate (the "
                f"last good epoch is in {representation.path})"
            )
        if number == total or time.monotonic() - saved > _SAVE_EVERY:
            _save(representation.path, number, state, rows)
            saved = time.monotonic()
        if report is not None:
            report(trainer.Progress(number, total, number * size, total * size))
    return open_representation(representation.path)


def _row(part: str, values: dict[str, Any]) -> dict[str, float]:
    return {f"{part}_{name}": float(value) for name, value in sorted(values.items())}


def _data(codec: Codec, read: Samples) -> Data:
    """Samples on the device, as they are trained on."""
    alphas = read.alphas if codec.variational else None
    targets = jax.jit(codec.targets)(read.weights, alphas)
    return Data(*jax.device_put(targets))


def _restored(representation: Representation) -> dict[str, Any]:
    saved = representation.saved()
    return {"variables": saved["variables"], "optimizer": saved["optimizer"]}


def _save(path: Path, epoch: int, state: State, rows: pl.DataFrame) -> None:
    tree = flax.serialization.to_state_dict(jax.device_get(state))
    with signals.defer_signals():
        checkpoints.save(path / STATES / str(epoch), tree)
        write_table(path / LOSSES, rows)
        _keep_only(path, epoch)


def _keep_only(path: Path, epoch: int) -> None:
    """Removes all states but one, and what interruptions left; what zoojax did not write stays."""
    for name in entries(path / STATES):
        if is_step(name) and name != str(epoch):
            atomic_rmtree(path / STATES / name)


def _begin_or_continue(out: Path, config: RepresentationConfig) -> Representation:
    if not is_folder(out) or not entries(out):
        text = json.dumps(config.to_json(), indent=2) + "\n"
        make_folder(out)
        atomic_write(out / CONFIG, lambda file: file.write_text(text, "utf-8"))
        return open_representation(out)
    if not exists(out / CONFIG):
        raise ZoojaxError(
            f"{out} is not empty and is not a hyper-representation; give --out a new folder"
        )
    found = open_representation(out)
    new = json.loads(json.dumps(config.to_json()))
    old = found.config.to_json()
    for name in old:
        if name not in ("versions", "zoo") and json.loads(json.dumps(old[name])) != new[name]:
            raise ZoojaxError(
                f"{out} was begun with other {name.replace('_', ' ')}; give --out another "
                "folder, or the options it was begun with"
            )
    _keep_only(out, found.epoch)
    return Representation(out, replace(found.config))


def default_alpha_epoch(zoo: Zoo) -> int:
    """The first epoch whose mean sparsity is at least 80 %; the newest without one."""
    means = (
        zoo.metrics.group_by("epoch", maintain_order=True)
        .agg(pl.col("sparsity").mean())
        .sort("epoch")
    )
    sparse = means.filter(pl.col("sparsity") >= _SPARSE)["epoch"]
    return int(sparse[0]) if len(sparse) else zoo.newest_epoch


def _check_epochs(zoo: Zoo, asked: list[int]) -> None:
    newest = zoo.newest_epoch
    for epoch in asked:
        if epoch not in zoo.epochs:
            raise ZoojaxError(f"{zoo.path} has no epoch {epoch}; it has up to {newest}")


def _relative(zoo: Path, out: Path) -> str:
    """Where a zoo is, as seen from a folder."""
    try:
        path = os.path.relpath(zoo.resolve(), out.resolve())
    except ValueError:  # Another drive: it is found by --zoo alone.
        path = zoo.resolve().name
    # A path that is no text is not kept: the fingerprint is what identifies the zoo.
    return path if is_printable(path) else "unknown"
