"""Trains a hyper-representation with checkpointing and resume."""

import json
import os
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import flax.serialization
import jax
import numpy as np
import polars as pl

from zoojax.api import dense
from zoojax.api.common import explain_interrupt
from zoojax.architectures.base import Architecture
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
from zoojax.hyper_representation.dataset import (
    Samples,
    finite_members,
    fit_normalization,
    has_log_alphas,
    read_samples,
    split_members,
)
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

# Minimum seconds between checkpoints. On a GPU, an epoch of a large autoencoder takes less time
# than saving it.
_SAVE_INTERVAL = 60.0
# Mean sparsity at which one-shot magnitude pruning fails but variational dropout does not.
_REFERENCE_SPARSITY = 0.8


def train_autoencoder(
    out: Path,
    zoo: Zoo,
    settings: Settings,
    *,
    epochs: Sequence[int] | None = None,
    alphas_of: int | None = None,
    weights_only: bool = False,
    report: trainer.ProgressCallback | None = None,
) -> Representation:
    """Trains an autoencoder on the states of a zoo.

    Resumes from the last complete epoch if the folder contains an interrupted run with the same
    arguments, and returns a completed run unchanged.

    Example:
        >>> zoo = open_zoo("zoos/usps-vd")
        >>> representation = train_autoencoder(Path("reps/usps"), zoo, preset("small"))

    Args:
        out: Folder of the hyper-representation: new, empty, or an interrupted run.
        zoo: A twin with log alphas, such as one of variational dropout, or any zoo with
            `weights_only`.
        settings: Settings of the autoencoder and its training.
        epochs: Epochs of the zoo whose states are the samples. None for all of them or, with
            `alphas_of`, for those in the first third of the epochs up to it, whose weights are
            still close to the dense ones.
        alphas_of: Epoch whose log alphas are the targets of every sample (task "sparsify");
            None for the log alphas of each sample's own epoch.
        weights_only: Whether to reconstruct weights without log alphas.
        report: Progress callback, called at the start and after each epoch.

    Returns:
        The trained hyper-representation.

    Raises:
        ZoojaxError: If an argument is invalid, the loss is not finite, or writing failed.
    """
    settings.validate()
    check_new(out)
    check_architecture(zoo.config.shape)
    if zoo.config.shape.task.has_own_images:
        raise ZoojaxError(
            f"members of {zoo.path} learn one image each; hyper-representations need members that "
            "classify"
        )
    if settings.task == "sparsify" and (weights_only or alphas_of is None):
        raise ZoojaxError(
            "the task 'sparsify' predicts the log alphas of one epoch; give it with --alphas-of, "
            "without --weights-only"
        )
    if not weights_only and not has_log_alphas(zoo.config):
        raise ZoojaxError(
            f"{zoo.path} has no log alphas, unlike variational-dropout twins; create one with "
            "'zoojax sparsify variational-dropout', or use --weights-only"
        )
    _check_epochs(zoo, [*(epochs or []), *([] if alphas_of is None else [alphas_of])])
    members = finite_members(zoo)
    parts = split_members(members, settings.seed)
    last = zoo.epochs[-1] if alphas_of is None else alphas_of // 3
    used = [e for e in zoo.epochs if e <= last] if epochs is None else list(epochs)
    sets = [read_samples(zoo, part, used, alphas_of=alphas_of) for part in parts[:2]]
    normalization = fit_normalization(sets[0].weights)
    alphas = {} if weights_only else (sets[0].alphas or {})
    config = RepresentationConfig(
        settings=settings,
        zoo=_relative_path(zoo, out),
        fingerprint=zoo.fingerprint,
        architecture=zoo.config.architecture,
        channels=zoo.config.channels,
        classes=zoo.config.classes,
        members=parts,
        left_out=len(zoo) - len(members),
        epochs=used,
        alphas_of=alphas_of,
        mean=normalization.mean,
        deviation=normalization.std,
        variational={layer: list(leaves) for layer, leaves in alphas.items()},
        versions=dense.versions(),
    )
    check_config(config)
    with explain_interrupt(out), locked(out):
        representation = _create_or_resume(out, config)
        if representation.epoch >= settings.epochs:
            total = settings.epochs * len(sets[0])
            if report is not None:
                report(trainer.Progress(settings.epochs, settings.epochs, total, total))
            return representation
        data = [_to_device(representation.codec, samples) for samples in sets]
        return _train(representation, data[0], data[1], len(sets[0]), len(sets[1]), report)


class PermutationWarning(UserWarning):
    """Hidden units are not permuted."""


def check_architecture(arch: Architecture) -> None:
    """Checks that members of an architecture can be represented.

    Warns if hidden units cannot be permuted.

    Raises:
        ZoojaxError: If layers are nested in other modules.
    """
    nested = [path for path in arch.parameter_shapes() if "/" in path]
    if nested:
        raise ZoojaxError(
            f"the {arch.label} has layers within modules, such as {nested[0]}; a "
            "hyper-representation takes layers at the top level of the network"
        )
    if not arch.permutations:
        message = (
            f"the {arch.label} describes no permutations of its hidden units: trains without "
            "permutation augmentation"
        )
        warnings.warn(message, PermutationWarning, stacklevel=3)


def _train(
    representation: Representation,
    data: Data,
    val_data: Data,
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
    state = jax.device_put(state)
    train = jax.jit(epoch_program(codec, size), donate_argnums=0)
    validate = jax.jit(validation_program(codec, val_size))
    if report is not None:
        report(trainer.Progress(first, total, first * size, total * size))
    last_save = time.monotonic()
    for epoch in range(first + 1, total + 1):
        state, train_losses = train(state, data, np.int32(epoch))
        losses = train_losses, validate(state.variables, val_data)
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


def _to_device(codec: Codec, samples: Samples) -> Data:
    """Computes the training targets and moves them to the device."""
    alphas = samples.alphas if codec.variational else None
    targets = jax.jit(codec.targets)(samples.weights, alphas)
    return Data(*jax.device_put(targets))


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
    new = json.loads(json.dumps(config.to_json()))
    old = json.loads(json.dumps(existing.config.to_json()))
    for name in old:
        if name not in ("versions", "zoo") and old[name] != new[name]:
            raise ZoojaxError(
                f"{out} was created with different {name.replace('_', ' ')}; give --out another "
                "folder, or rerun with the original options"
            )
    _remove_other_checkpoints(out, existing.epoch)
    return Representation(out, existing.config)


def default_alpha_epoch(zoo: Zoo) -> int:
    """Returns the first epoch with a mean sparsity of at least 80 %, or the last epoch."""
    means = (
        zoo.metrics.group_by("epoch", maintain_order=True)
        .agg(pl.col("sparsity").mean())
        .sort("epoch")
    )
    sparse = means.filter(pl.col("sparsity") >= _REFERENCE_SPARSITY)["epoch"]
    return int(sparse[0]) if len(sparse) else zoo.newest_epoch


def _check_epochs(zoo: Zoo, epochs: list[int]) -> None:
    newest = zoo.newest_epoch
    for epoch in epochs:
        if epoch not in zoo.epochs:
            raise ZoojaxError(f"{zoo.path} has no epoch {epoch}; its last is {newest}")


def _relative_path(zoo: Zoo, out: Path) -> str:
    """Returns the path of a zoo relative to a folder; "unknown" for a zoo in memory."""
    if zoo.store.in_memory:
        return "unknown"
    try:
        path = os.path.relpath(zoo.path.resolve(), out.resolve())
    except ValueError:  # On another drive; the zoo can still be given with --zoo.
        path = zoo.path.resolve().name
    # The fingerprint identifies the zoo, so an unprintable path can be dropped.
    return path if is_printable(path) else "unknown"
