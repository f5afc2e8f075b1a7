"""Splits a population into blocks of members, each run by one compiled program."""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import flax.serialization
import jax
import numpy as np
import polars as pl

from zoojax.datasets.specs import ImageSet
from zoojax.hyperparameters.tables import seeds_of, varied_numbers, with_defaults
from zoojax.runtime import population, signals
from zoojax.schedules import needs_epochs
from zoojax.storage.states import StateParts
from zoojax.storage.zoo_config import ZooConfig
from zoojax.training import engine, loop
from zoojax.training.programs import ProgramSpec
from zoojax.training.task_programs import task_programs


@dataclass
class MemberBlock:
    """Members that one program processes together.

    Attributes:
        spec: The program.
        members: Positions in the members table, padded to the size of the program.
        count: Number of members without the padding.
        hyperparams: Hyperparameters of the members, on the devices.
        state: States of the members, on the devices.
    """

    spec: ProgramSpec
    members: np.ndarray
    count: int
    hyperparams: loop.Hyperparams
    state: loop.TrainState


def group_by_program(config: ZooConfig, members: pl.DataFrame) -> dict[ProgramSpec, np.ndarray]:
    """Groups members that can run in the same program.

    Args:
        config: Config of the zoo.
        members: Members table.

    Returns:
        {program: positions in the members table, ascending}.
    """
    groups: dict[ProgramSpec, list[int]] = {}
    engine_name = engine.engine(config.shape, jax.default_backend())
    for position, member in enumerate(with_defaults(members).iter_rows(named=True)):
        spec = ProgramSpec(
            config.sparsifier,
            config.shape,
            member["activation"],
            member["optimizer"],
            member["dropout"] > 0,
            member["batch_size"] or config.batch_size,
            config.data_order,
            engine_name,
            member["schedule"],
            varied_numbers(member),
            config.epochs
            if config.sparsifier.needs_epochs or needs_epochs(member["schedule"], member["warmup"])
            else None,
            member["train_fraction"],
            member["augmentation"],
            config.steps_per_epoch,
        )
        groups.setdefault(spec, []).append(position)
    return {spec: np.array(positions) for spec, positions in groups.items()}


def stack_hyperparams(members: pl.DataFrame, varied: tuple[str, ...] = ()) -> loop.Hyperparams:
    """Stacks the hyperparameters of members.

    Args:
        members: Members table.
        varied: Names of the numbers in which the members differ from the defaults.

    Returns:
        The hyperparameters; each array has shape [members].
    """

    def column(name: str) -> np.ndarray:
        values = members[name].to_numpy()
        return values.astype(np.int32 if values.dtype.kind == "i" else np.float32)

    return loop.Hyperparams(
        seeds_of(members),
        column("learning_rate"),
        column("weight_decay"),
        column("dropout"),
        {name: column(name) for name in varied} or None,
    )


def make_blocks(
    config: ZooConfig,
    members_table: pl.DataFrame,
    mesh,
    parts: StateParts,
    optimizer: dict | None,
    images: ImageSet | None = None,
) -> list[MemberBlock]:
    """Splits a population into blocks and places them on the devices.

    Args:
        config: Config of the zoo.
        members_table: One row per member.
        mesh: The devices.
        parts: Parts of the states, stacked by member.
        optimizer: Saved optimizer state by optimizer name, stacked by member; None starts
            from zero moments.
        images: Images of the zoo; None if the members are only applied to other images.

    Returns:
        The blocks.

    Raises:
        ZoojaxError: If the image set lacks the image of a member.
    """
    blocks, task = [], task_programs(config.shape.task)
    for spec, positions in group_by_program(config, members_table).items():
        for members in population.blocks(positions, config.chunk, mesh):
            block_parts = population.take(parts, members)
            # On the host: sharding a device array would compile a slice of every leaf.
            state = jax.device_get(init_states(spec.optimizer)(block_parts))
            if optimizer is not None:
                saved = population.take(optimizer[spec.optimizer], members)
                moments = flax.serialization.from_state_dict(state.optimizer, saved)
                state = state._replace(optimizer=moments)
            count = len(np.unique(members))
            table = members_table[members]
            hyperparams = stack_hyperparams(table, spec.varied)
            if images is not None:
                hyperparams = hyperparams._replace(own=task.own(images, table))
            sharded = population.shard_members((hyperparams, state), mesh)
            blocks.append(MemberBlock(spec, members, count, *sharded))
    return blocks


@functools.cache
def init_states(optimizer: str) -> Callable[[StateParts], loop.TrainState]:
    """Returns a compiled function from stacked parts to initial states."""

    def init(parts: StateParts) -> loop.TrainState:
        return loop.init_state(parts.trainable, parts.fixed, optimizer, parts.collections)

    return jax.jit(jax.vmap(init))


def gather_in_order(blocks: list[MemberBlock], trees: list[Any], members: int | None = None) -> Any:
    """Gathers one pytree per block into a single stacked pytree on the host.

    Args:
        blocks: The blocks.
        trees: One stacked pytree per block.
        members: Number of rows of the result; None for the number of members in `blocks`.
            Rows of members that are in no block are zero.

    Returns:
        NumPy arrays, stacked in the order of the members table.
    """
    total = num_members(blocks) if members is None else members
    signals.run_interruptible(jax.block_until_ready, trees)

    def gather(*leaves: jax.Array | np.ndarray) -> np.ndarray:
        stacked = np.zeros((total, *leaves[0].shape[1:]), leaves[0].dtype)
        for block, leaf in zip(blocks, leaves, strict=True):
            for index, shard in _addressable_shards(leaf):
                rows = block.members[: block.count][index]
                stacked[rows] = shard[: len(rows)]
        return stacked

    return jax.tree.map(gather, *trees)


def num_members(blocks: list[MemberBlock]) -> int:
    """Returns the number of members in all blocks of a population."""
    return max(int(b.members.max()) for b in blocks) + 1


def _addressable_shards(x: jax.Array | np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Yields (slice of the leading axis, values) of each device's shard.

    Converting the whole array at once would make JAX cache a host copy of it.
    """
    if not isinstance(x, jax.Array):
        yield slice(None), x
        return
    for shard in x.addressable_shards:
        yield shard.index[0], np.asarray(shard.data)
