"""Trains a hyper-representation with checkpointing and resume."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import flax.serialization
import jax
import numpy as np
import polars as pl

from zoojax.api.common import explain_interrupt
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
from zoojax.hyper_representation.config import RepresentationConfig
from zoojax.hyper_representation.representation import (
    CONFIG,
    LOSSES,
    STATES,
    Representation,
    open_representation,
)
from zoojax.hyper_representation.settings import Settings
from zoojax.hyper_representation.train_step import (
    State,
    epoch_program,
    init,
    validation_program,
)
from zoojax.hyper_representation.training_data import prepare
from zoojax.hyper_representation.training_inputs import TrainingInputs, training_inputs
from zoojax.runtime import population, signals
from zoojax.storage import checkpoints
from zoojax.storage.zoo import Zoo
from zoojax.training import trainer

# Minimum seconds between checkpoints. On a GPU, an epoch of a large autoencoder takes less time
# than saving it.
_SAVE_INTERVAL = 60.0


def train_autoencoder(
    out: Path,
    zoos: Zoo | Sequence[Zoo],
    settings: Settings,
    *,
    epochs: Sequence[int] | None = None,
    alphas_of: int | None = None,
    weights_only: bool = False,
    images: np.ndarray | None = None,
    report: trainer.ProgressCallback | None = None,
) -> Representation:
    """Trains an autoencoder on the states of one or several zoos.

    Resumes from the last complete epoch if the folder contains an interrupted run with the same
    arguments, and returns a completed run unchanged.

    Example:
        >>> zoos = [open_zoo("zoos/usps"), open_zoo("zoos/usps-vd")]
        >>> representation = train_autoencoder(Path("reps/usps"), zoos, preset("small"))

    Args:
        out: Folder of the hyper-representation: new, empty, or an interrupted run.
        zoos: Zoos of one architecture, one of them a twin with log alphas, such as one of
            variational dropout; any zoos with `weights_only`.
        settings: Settings of the autoencoder and its training.
        epochs: Epochs whose states are the samples; every zoo must have them. None for all
            epochs of each zoo or, with `alphas_of`, for those in the first third of the epochs
            up to it, whose weights are still close to the dense ones.
        alphas_of: Epoch whose log alphas are the targets of every sample (task "sparsify");
            None for the log alphas of each sample's own epoch.
        weights_only: Whether to reconstruct weights without log alphas.
        images: Training images of the zoos, [n, H, W, C], if the settings use the behavior of
            members.
        report: Progress callback, called at the start and after each epoch.

    Returns:
        The trained hyper-representation.

    Raises:
        ZoojaxError: If an argument is invalid, the loss is not finite, or writing failed.
    """
    settings.validate()
    check_new(out)
    given = [zoos] if isinstance(zoos, Zoo) else list(zoos)
    if settings.uses_behavior and images is None:
        raise ZoojaxError("settings with probes or a loss of behavior need images")
    prepared = prepare(
        *(out, given, settings),
        epochs=epochs,
        alphas_of=alphas_of,
        weights_only=weights_only,
    )
    with explain_interrupt(out), locked(out):
        representation = _create_or_resume(out, prepared.config)
        if representation.epoch >= settings.epochs:
            total = settings.epochs * len(prepared.train)
            if report is not None:
                report(trainer.Progress(settings.epochs, settings.epochs, total, total))
            return representation
        codec = representation.codec
        samples = prepared.train, prepared.val
        inputs = training_inputs(codec, *samples, prepared.components, images)
        return _train(representation, inputs, len(prepared.train), len(prepared.val), report)


def _train(
    representation: Representation,
    inputs: TrainingInputs,
    size: int,
    val_size: int,
    report: trainer.ProgressCallback | None,
) -> Representation:
    codec = representation.codec
    total = codec.settings.epochs
    rows, first = representation.losses, representation.epoch
    rows = rows.filter(pl.col("epoch") <= first)

    def initial() -> State:
        return init(codec, size)

    if first:
        like = jax.eval_shape(initial)
        state = flax.serialization.from_state_dict(like, _saved_state(representation))
    else:
        state = population.jit_fast_compile(initial)()
        state = state._replace(variables=inputs.starting(codec, state.variables))
    state = jax.device_put(state)
    train = jax.jit(epoch_program(codec, size), donate_argnums=0)
    validate = jax.jit(validation_program(codec, val_size))
    if report is not None:
        report(trainer.Progress(first, total, first * size, total * size))
    last_save = time.monotonic()
    for epoch in range(first + 1, total + 1):
        state, train_losses = train(state, inputs.train, inputs.queries, np.int32(epoch))
        losses = train_losses, validate(state.variables, inputs.val, inputs.queries)
        train_losses, val_losses = signals.run_interruptible(jax.device_get, losses)
        row = {"epoch": epoch, **_row("train", train_losses), **_row("val", val_losses)}
        new = pl.DataFrame([row])
        rows = new if rows.is_empty() else pl.concat([rows, new])
        signals.check()
        if not np.isfinite(row["train_loss"]):
            raise ZoojaxError(
                f"the loss of epoch {epoch} is not finite; give a smaller learning rate (the "
                f"last saved epoch is in {representation.path})"
            )
        if epoch == total or time.monotonic() - last_save > _SAVE_INTERVAL:
            _save(representation.path, epoch, state, rows)
            last_save = time.monotonic()
        if report is not None:
            report(trainer.Progress(epoch, total, epoch * size, total * size))
    return open_representation(representation.path)


def _row(part: str, losses: dict[str, Any]) -> dict[str, float]:
    return {f"{part}_{name}": float(value) for name, value in sorted(losses.items())}


def _saved_state(representation: Representation) -> dict[str, Any]:
    saved = representation.load_state()
    return {"variables": saved["variables"], "optimizer": saved["optimizer"]}


def _save(path: Path, epoch: int, state: State, rows: pl.DataFrame) -> None:
    tree = flax.serialization.to_state_dict(jax.device_get(state))
    with signals.defer_signals():
        checkpoints.save(path / STATES / str(epoch), tree)
        write_table(path / LOSSES, rows)
        _remove_other_checkpoints(path, epoch)


def _remove_other_checkpoints(path: Path, epoch: int) -> None:
    """Removes complete and partial checkpoints of other epochs; foreign files are kept."""
    for name in entries(path / STATES):
        if is_step(name) and name != str(epoch):
            atomic_rmtree(path / STATES / name)


def _create_or_resume(out: Path, config: RepresentationConfig) -> Representation:
    if not is_folder(out) or not entries(out):
        text = json.dumps(config.to_json(), indent=2) + "\n"
        make_folder(out)
        atomic_write(out / CONFIG, lambda file: file.write_text(text, "utf-8"))
        return open_representation(out)
    if not exists(out / CONFIG):
        raise ZoojaxError(
            f"{out} is not empty and is not a hyper-representation; give --out a new folder"
        )
    existing = open_representation(out)
    new, old = (json.loads(json.dumps(each.identity())) for each in (config, existing.config))
    for name in old:
        if old[name] != new[name]:
            raise ZoojaxError(
                f"{out} was created with different {name.replace('_', ' ')}; give --out another "
                "folder, or rerun with the original options"
            )
    _remove_other_checkpoints(out, existing.epoch)
    return Representation(out, existing.config)
