"""A population laid out in blocks, each of which one program runs."""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import flax.serialization
import jax
import numpy as np
import polars as pl

from zoojax.runtime import population, signals
from zoojax.storage.zoo_config import ZooConfig
from zoojax.training import engine, loop
from zoojax.training.programs import ProgramSpec


@dataclass
class MemberBlock:
    """Members that run as one program.

    Attributes:
        recipe: the program.
        members: positions in the members table, filled up to the program's size.
        count: how many of them are not filling.
        hyper: their hyper-parameters, on the devices.
        state: their states, on the devices.
    """

    recipe: ProgramSpec
    members: np.ndarray
    count: int
    hyper: loop.Hyperparams
    state: loop.TrainState


def group_by_program(config: ZooConfig, members: pl.DataFrame) -> dict[ProgramSpec, np.ndarray]:
    """Groups members by what shapes their program: {recipe: positions, ascending}."""
    groups: dict[ProgramSpec, list[int]] = {}
    rows = members.select("activation", "optimizer", "dropout").iter_rows()
    for position, (activation, optimizer, dropout) in enumerate(rows):
        recipe = ProgramSpec(
            config.kind,
            config.shape,
            activation,
            optimizer,
            dropout > 0,
            config.batch_size,
            config.data_order,
            engine.engine(config.shape, jax.default_backend()),
        )
        groups.setdefault(recipe, []).append(position)
    return {recipe: np.array(positions) for recipe, positions in groups.items()}


def stack_hyperparams(members: pl.DataFrame) -> loop.Hyperparams:
    """Hyper-parameters of all members, [members]."""
    return loop.Hyperparams(
        members["seed"].to_numpy().astype(np.uint32),
        members["learning_rate"].to_numpy().astype(np.float32),
        members["weight_decay"].to_numpy().astype(np.float32),
        members["dropout"].to_numpy().astype(np.float32),
    )


def split_state(state: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is saved of an epoch as (trainable, fixed)."""
    fixed = {"mask": state.pop("mask")} if "mask" in state else {}
    return state, fixed


def lay_out(
    config: ZooConfig,
    roster: pl.DataFrame,
    mesh,
    trainable: dict,
    fixed: dict,
    optimizer: dict | None,
) -> list[MemberBlock]:
    """Lays the population over blocks; fresh moments where none are given."""
    result, hyper = [], stack_hyperparams(roster)
    for recipe, positions in group_by_program(config, roster).items():
        for members in population.blocks(positions, config.chunk, mesh):
            parts = population.take((trainable, fixed), members)
            # On the host: laying out a device array would compile a slice of every leaf.
            state = jax.device_get(init_states(recipe.optimizer)(*parts))
            if optimizer is not None:
                saved = population.take(optimizer[recipe.optimizer], members)
                moments = flax.serialization.from_state_dict(state.optimizer, saved)
                state = state._replace(optimizer=moments)
            count = len(np.unique(members))
            placed = population.shard_members((population.take(hyper, members), state), mesh)
            result.append(MemberBlock(recipe, members, count, *placed))
    return result


@functools.cache
def init_states(optimizer: str) -> Callable[[dict, dict], loop.TrainState]:
    """Stacked (trainable, fixed) to states before their first step: one program, kept."""
    return jax.jit(jax.vmap(lambda t, f: loop.init_state(t, f, optimizer)))


def gather_in_order(blocks: list[MemberBlock], trees: list[Any], members: int | None = None) -> Any:
    """One stacked pytree in the order of the members table (NumPy), from one a block.

    Rows of members that are in no block, where there are `members`, are zero.
    """
    total = size(blocks) if members is None else members
    signals.run_interruptible(jax.block_until_ready, trees)

    def gathered(*leaves: jax.Array | np.ndarray) -> np.ndarray:
        whole = np.zeros((total, *leaves[0].shape[1:]), leaves[0].dtype)
        for block, leaf in zip(blocks, leaves, strict=True):
            for at, part in _addressable_shards(leaf):
                rows = block.members[: block.count][at]
                whole[rows] = part[: len(rows)]
        return whole

    return jax.tree.map(gathered, *trees)


def size(blocks: list[MemberBlock]) -> int:
    """Members in all blocks of a population."""
    return max(int(b.members.max()) for b in blocks) + 1


def _addressable_shards(x: jax.Array | np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """What each device has of a stacked array. (Asked for all of it, JAX keeps a copy.)"""
    if not isinstance(x, jax.Array):
        yield slice(None), x
        return
    for shard in x.addressable_shards:
        yield shard.index[0], np.asarray(shard.data)
