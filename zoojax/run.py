"""The ONE driver: epochs x blocks of members, saved epoch by epoch, resumable."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.serialization
import jax
import numpy as np

from zoojax import data, interrupts, population, programs
from zoojax.blocks import Block, fresh_states, in_order, lay_out, size, split_state
from zoojax.errors import ZoojaxError
from zoojax.inference import evaluate_blocks, metrics_table
from zoojax.zoo import OPTIMIZER, Zoo
from zoojax.zoo_tables import state_like
from zoojax.zoo_writer import ZooWriter


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


Report = Callable[[Progress], None]
Initial = Callable[[slice], tuple[dict[str, Any], dict[str, Any]]]


def run(
    writer: ZooWriter, initial: Initial, images: data.ImageSet, report: Report | None = None
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
    sets = population.replicate(programs.sets(images), mesh)
    if last is None:
        trainable, fixed = initial(rows)
        blocks = lay_out(zoo.config, zoo.roster[rows], mesh, trainable, fixed, None)
        save = _saving(writer, 0, blocks, evaluate_blocks(blocks, sets, mesh))
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
            metrics.append(interrupts.waited(jax.device_get, measured))
            trained += block.count
            interrupts.check()
            tell(epoch, trained)
        save = _saving(writer, epoch, blocks, metrics)
    if save is not None:
        save()
    return zoo


def _saved_blocks(zoo: Zoo, rows: slice, mesh, epoch: int) -> list[Block]:
    """The population as it was after an epoch."""
    if not (zoo.path / OPTIMIZER).is_dir():
        raise ZoojaxError(
            f"{zoo.path} has no optimiser state to go on from; "
            "it can be read, but not trained further"
        )
    # Before training all moments are zero.
    optimizer = zoo.optimizer(epoch, rows, _moments_like(zoo)) if epoch else None
    trainable, fixed = split_state(zoo.state(epoch, rows=rows))
    return lay_out(zoo.config, zoo.roster[rows], mesh, trainable, fixed, optimizer)


def _moments_like(zoo: Zoo) -> dict[str, Any]:
    """Shapes and types of all moments of a zoo, as they are saved."""
    trainable = state_like(zoo.config, len(zoo))
    trainable.pop("mask", None)
    return {
        name: flax.serialization.to_state_dict(
            jax.eval_shape(fresh_states(name), trainable, {}).optimizer
        )
        for name in zoo.roster["optimizer"].unique()
    }


def _saving(
    writer: ZooWriter, epoch: int, blocks: list[Block], metrics: list[dict]
) -> Callable[[], None]:
    """What saves an epoch. It has the states on the host: the devices may train on."""
    # Of the whole zoo: this process's share may have fewer.
    optimizers = sorted(writer.zoo.roster["optimizer"].unique())
    state = in_order(blocks, [{**b.state.trainable, **b.state.fixed} for b in blocks])
    moments = _moments(blocks, optimizers)

    def save() -> None:
        table = metrics_table(writer.zoo.roster[writer.rows], epoch, blocks, metrics)
        writer.append(epoch, state, moments, table)

    return save


def _moments(blocks: list[Block], optimizers: list[str]) -> dict[str, Any]:
    """The optimisers' moments by optimiser, stacked by member; those of members with
    another optimiser are zero, so that positions stay those of the members table."""
    total, result = size(blocks), {}
    for name in optimizers:
        mine = [b for b in blocks if b.recipe.optimizer == name]
        if mine:
            stacked = in_order(mine, [b.state.optimizer for b in mine], total)
        else:
            state = blocks[0].state
            like = jax.eval_shape(fresh_states(name), state.trainable, state.fixed).optimizer
            stacked = jax.tree.map(lambda x: np.zeros((total, *x.shape[1:]), x.dtype), like)
        result[name] = flax.serialization.to_state_dict(stacked)
    return result
