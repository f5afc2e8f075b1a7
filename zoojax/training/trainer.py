"""The ONE driver: epochs x blocks of members, saved epoch by epoch, resumable."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.serialization
import jax
import numpy as np

from zoojax.datasets import specs
from zoojax.errors import ZoojaxError
from zoojax.runtime import population, signals
from zoojax.storage.schema import state_like
from zoojax.storage.writer import ZooWriter
from zoojax.storage.zoo import OPTIMIZER, Zoo
from zoojax.training import programs
from zoojax.training.blocks import (
    MemberBlock,
    gather_in_order,
    init_states,
    lay_out,
    size,
    split_state,
)
from zoojax.training.inference import evaluate_blocks, metrics_table


class Progress(NamedTuple):
    """How far a run is, in member-samples (one training image seen by one member).

    Attributes:
        epoch: the epoch being trained.
        epochs: the last one.
        done: member-samples trained since epoch 0, earlier commands included.
        total: member-samples of the whole run.
    """

    epoch: int
    epochs: int
    done: int
    total: int


ProgressCallback = Callable[[Progress], None]
Initial = Callable[[slice], tuple[dict[str, Any], dict[str, Any]]]


def train(
    writer: ZooWriter,
    initial: Initial,
    images: specs.ImageSet,
    report: ProgressCallback | None = None,
) -> Zoo:
    """Trains a zoo to its last epoch, from wherever it is.

    An epoch is saved while the devices compute the next one.

    Args:
        writer: the zoo, begun or to be continued.
        initial: from rows of the members table to the stacked (trainable, fixed) of epoch 0;
            called only if that epoch is not on disk yet.
        images: the zoo's image set.
        report: called where the run begins, and after every block of every epoch; where
            nothing is left to train, once, with everything done.

    Returns:
        The finished zoo.

    Raises:
        ZoojaxError: the disk refused.
    """
    zoo, mesh, rows = writer.zoo, population.make_mesh(), writer.rows
    epochs, total = zoo.config.epochs, zoo.config.epochs * len(zoo) * len(images.train.labels)
    last, save = writer.last_epoch, None
    if last == epochs:
        if report is not None:
            report(Progress(epochs, epochs, total, total))
        return zoo
    sets = population.replicate(programs.splits(images), mesh)
    if last is None:
        trainable, fixed = initial(rows)
        blocks = lay_out(zoo.config, zoo.members_table[rows], mesh, trainable, fixed, None)
        save = _prepare_save(writer, 0, blocks, evaluate_blocks(blocks, sets, mesh))
        last = 0
    else:
        blocks = _saved_blocks(zoo, rows, mesh, last)

    compiled = {b.recipe: jax.jit(programs.epoch(b.recipe, mesh), donate_argnums=0) for b in blocks}
    mine = rows.stop - rows.start

    def tell(epoch: int, trained: int) -> None:
        # Of the others nothing is known before the epoch ends: they are as far as this one.
        if report is not None and epochs:
            done = ((epoch - 1) * mine + trained) * total // (epochs * mine)
            report(Progress(epoch, epochs, done, total))

    tell(last, mine)
    for epoch in range(last + 1, epochs + 1):
        metrics, trained = [], 0
        for block in blocks:
            block.state, measured = compiled[block.recipe](
                block.state, block.hyper, sets, np.int32(epoch)
            )
            if save is not None:
                save()
                save = None
            metrics.append(signals.run_interruptible(jax.device_get, measured))
            trained += block.count
            signals.check()
            tell(epoch, trained)
        save = _prepare_save(writer, epoch, blocks, metrics)
    if save is not None:
        save()
    return zoo


def _saved_blocks(zoo: Zoo, rows: slice, mesh, epoch: int) -> list[MemberBlock]:
    """The population as it was after an epoch."""
    if not (zoo.path / OPTIMIZER).is_dir():
        raise ZoojaxError(
            f"{zoo.path} has no optimiser state to go on from; "
            "it can be read, but not trained further"
        )
    # Before training all moments are zero.
    optimizer = zoo.optimizer_state(epoch, rows, _moments_like(zoo)) if epoch else None
    trainable, fixed = split_state(zoo.state(epoch, rows=rows))
    return lay_out(zoo.config, zoo.members_table[rows], mesh, trainable, fixed, optimizer)


def _moments_like(zoo: Zoo) -> dict[str, Any]:
    """Shapes and types of all moments of a zoo, as they are saved."""
    trainable = state_like(zoo.config, len(zoo))
    trainable.pop("mask", None)
    return {
        name: flax.serialization.to_state_dict(
            jax.eval_shape(init_states(name), trainable, {}).optimizer
        )
        for name in zoo.members_table["optimizer"].unique()
    }


def _prepare_save(
    writer: ZooWriter, epoch: int, blocks: list[MemberBlock], metrics: list[dict]
) -> Callable[[], None]:
    """What saves an epoch. It has the states on the host: the devices may train on."""
    # Of the whole zoo: this process's share may have fewer.
    optimizers = sorted(writer.zoo.members_table["optimizer"].unique())
    state = gather_in_order(blocks, [{**b.state.trainable, **b.state.fixed} for b in blocks])
    moments = _moments(blocks, optimizers)

    def save() -> None:
        table = metrics_table(writer.zoo.members_table[writer.rows], epoch, blocks, metrics)
        writer.append(epoch, state, moments, table)

    return save


def _moments(blocks: list[MemberBlock], optimizers: list[str]) -> dict[str, Any]:
    """The optimisers' moments by optimiser, stacked by member; those of members with
    another optimiser are zero, so that positions stay those of the members table."""
    total, result = size(blocks), {}
    for name in optimizers:
        mine = [b for b in blocks if b.recipe.optimizer == name]
        if mine:
            stacked = gather_in_order(mine, [b.state.optimizer for b in mine], total)
        else:
            state = blocks[0].state
            like = jax.eval_shape(init_states(name), state.trainable, state.fixed).optimizer
            stacked = jax.tree.map(lambda x: np.zeros((total, *x.shape[1:]), x.dtype), like)
        result[name] = flax.serialization.to_state_dict(stacked)
    return result
