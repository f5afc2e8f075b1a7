"""Trains zoos block by block and epoch by epoch, with checkpointing and resume."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import flax.serialization
import jax
import numpy as np

from zoojax.datasets import specs
from zoojax.errors import ZoojaxError
from zoojax.runtime import population, signals
from zoojax.storage.states import StateParts, split_state, state_like
from zoojax.storage.stores import OPTIMIZER
from zoojax.storage.timing import Stopwatch
from zoojax.storage.writer import EpochWriter
from zoojax.storage.zoo import Zoo
from zoojax.training import task_programs
from zoojax.training.blocks import (
    MemberBlock,
    gather_in_order,
    init_states,
    make_blocks,
    num_members,
)
from zoojax.training.callbacks import EpochCallback, reporter
from zoojax.training.inference import evaluate_blocks, metrics_table
from zoojax.training.loop import TrainState


class Progress(NamedTuple):
    """Progress of a run in member-samples (one training image processed by one member).

    Attributes:
        epoch: Epoch being trained.
        epochs: Last epoch of the run.
        done: Member-samples trained since epoch 0, including earlier commands.
        total: Member-samples of the complete run.
    """

    epoch: int
    epochs: int
    done: int
    total: int


ProgressCallback = Callable[[Progress], None]
InitialState = Callable[[slice], StateParts]


def train(
    writer: EpochWriter,
    initial: InitialState,
    images: specs.ImageSet,
    report: ProgressCallback | None = None,
    callbacks: Iterable[EpochCallback] = (),
) -> Zoo:
    """Trains a zoo to its last epoch, from the last one that is saved.

    An epoch is saved while the devices compute the next one.

    Args:
        writer: Writer of the zoo, new or to be resumed.
        initial: Function from rows of the members table to the stacked parts of the states at
            epoch 0; called only if epoch 0 is not saved yet.
        images: Image set of the zoo.
        report: Progress callback, called at the start and after each block of each epoch; called
            once for a zoo that is already complete.
        callbacks: Called with the metrics of each epoch: first those that are already saved.

    Returns:
        The complete zoo.

    Raises:
        ZoojaxError: If writing fails, or a zoo to be resumed has no optimizer state.
    """
    zoo, mesh, rows = writer.zoo, population.make_mesh(), writer.rows
    task, epochs = task_programs.task_programs(zoo.config.shape.task), zoo.config.epochs
    total = epochs * len(zoo) * task.samples(zoo.config, images)
    stopwatch = Stopwatch()
    last, save = writer.last_epoch, None
    notify = reporter(zoo, callbacks)
    for epoch in () if last is None else zoo.epochs:
        notify(epoch, False)
    if last == epochs:
        if report is not None:
            report(Progress(epochs, epochs, total, total))
        return zoo
    shared = population.replicate(task.shared(zoo.config, images), mesh)
    if last is None:
        blocks = make_blocks(zoo.config, zoo.members_table[rows], mesh, initial(rows), None, images)
        measured = evaluate_blocks(blocks, shared, mesh)
        save = _prepare_save(writer, stopwatch, 0, blocks, measured, notify)
        last = 0
    else:
        blocks = _load_blocks(zoo, rows, mesh, last, images)

    compiled = {
        b.spec: jax.jit(task_programs.epoch(b.spec, mesh), donate_argnums=0) for b in blocks
    }
    local_members = rows.stop - rows.start

    def report_progress(epoch: int, trained: int) -> None:
        # The progress of other processes is unknown: assume that they are as far as this one.
        if report is not None and epochs:
            done = ((epoch - 1) * local_members + trained) * total // (epochs * local_members)
            report(Progress(epoch, epochs, done, total))

    report_progress(last, local_members)
    for epoch in range(last + 1, epochs + 1):
        metrics, trained = [], 0
        for block in blocks:
            block.state, measured = compiled[block.spec](
                block.state, block.hyperparams, shared, np.int32(epoch)
            )
            if save is not None:
                # The dispatch above is asynchronous: the devices train during this save.
                save()
                save = None
            metrics.append(signals.run_interruptible(jax.device_get, measured))
            trained += block.count
            signals.check()
            report_progress(epoch, trained)
        save = _prepare_save(writer, stopwatch, epoch, blocks, metrics, notify)
    if save is not None:
        save()
    return zoo


def _load_blocks(
    zoo: Zoo, rows: slice, mesh, epoch: int, images: specs.ImageSet
) -> list[MemberBlock]:
    """Loads the population as saved after an epoch."""
    if not zoo.store.has(OPTIMIZER):
        raise ZoojaxError(f"{zoo.path} has no optimizer state; it cannot be trained further")
    # At epoch 0 all moments are zero.
    optimizer = zoo.optimizer_state(epoch, rows, _optimizer_state_like(zoo)) if epoch else None
    parts = split_state(zoo.config, zoo.state(epoch, rows=rows))
    return make_blocks(zoo.config, zoo.members_table[rows], mesh, parts, optimizer, images)


def _optimizer_state_like(zoo: Zoo) -> dict[str, Any]:
    """Shapes and dtypes of the saved optimizer state of a zoo."""
    parts = split_state(zoo.config, state_like(zoo.config, len(zoo)))
    return {
        name: flax.serialization.to_state_dict(jax.eval_shape(init_states(name), parts).optimizer)
        for name in zoo.members_table["optimizer"].unique()
    }


def _prepare_save(
    writer: EpochWriter,
    stopwatch: Stopwatch,
    epoch: int,
    blocks: list[MemberBlock],
    metrics: list[dict],
    notify: Callable[[int, bool], None],
) -> Callable[[], None]:
    """Copies the states to the host and returns a function that saves them as an epoch.

    The devices may overwrite the states before that function is called.
    """
    # Of the whole zoo: the members of this process may use fewer optimizers.
    optimizers = sorted(writer.zoo.members_table["optimizer"].unique())
    state = gather_in_order(blocks, [_parts(b.state).joined() for b in blocks])
    optimizer_state = _gather_optimizer_state(blocks, optimizers)
    duration = stopwatch.lap()

    def save() -> None:
        table = metrics_table(writer.zoo.members_table[writer.rows], epoch, blocks, metrics)
        writer.append(epoch, state, optimizer_state, table, duration)
        notify(epoch, True)

    return save


def _gather_optimizer_state(blocks: list[MemberBlock], optimizers: list[str]) -> dict[str, Any]:
    """Gathers the moments by optimizer name, stacked in the order of the members table.

    The moments of members that use another optimizer are zero.
    """
    total, result = num_members(blocks), {}
    for name in optimizers:
        matching = [b for b in blocks if b.spec.optimizer == name]
        if matching:
            stacked = gather_in_order(matching, [b.state.optimizer for b in matching], total)
        else:
            like = jax.eval_shape(init_states(name), _parts(blocks[0].state)).optimizer
            stacked = jax.tree.map(lambda x: np.zeros((total, *x.shape[1:]), x.dtype), like)
        result[name] = flax.serialization.to_state_dict(stacked)
    return result


def _parts(state: TrainState) -> StateParts:
    return StateParts(state.trainable, state.fixed, state.collections)
