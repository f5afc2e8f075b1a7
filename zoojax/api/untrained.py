"""Initial states of untrained members."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl

from zoojax.architectures.base import Architecture, init_variables
from zoojax.architectures.parameters import scaled_weights
from zoojax.runtime import population
from zoojax.storage.states import StateParts

# Members initialized per call: a fixed number, so that zoos of any size share one program.
INIT_BATCH_SIZE = 64
# Column of the members table.
INIT_STD = "init_std"


def initial_variables(shape: Architecture, inits: list[str], seeds: list[int]) -> dict:
    """Creates stacked untrained variables; those of a member depend only on its scheme and seed.

    Args:
        shape: Architecture.
        inits: Initialization scheme of each member.
        seeds: Seed of each member.

    Returns:
        {"params": ..., ...}, arrays [members, ...].
    """
    positions, parts = [], []
    for scheme in dict.fromkeys(inits):
        rows = [i for i, name in enumerate(inits) if name == scheme]
        scheme_seeds = np.array([seeds[i] for i in rows], np.uint32)
        padded = np.pad(scheme_seeds, (0, -len(rows) % INIT_BATCH_SIZE), mode="edge")
        init = _initializer(shape, scheme)
        batches = [init(batch) for batch in padded.reshape(-1, INIT_BATCH_SIZE)]
        variables = population.concatenate(jax.device_get(batches))
        positions += rows
        parts.append(population.take(variables, slice(len(rows))))
    return population.take(population.concatenate(parts), np.argsort(positions))


def untrained_states(shape: Architecture, members: pl.DataFrame) -> StateParts:
    """Creates the untrained states of members.

    Args:
        shape: Architecture.
        members: Rows of the members table.

    Returns:
        The parts of the states, stacked.
    """
    variables = initial_variables(shape, members["init"].to_list(), members["seed"].to_list())
    params = variables["params"]
    if INIT_STD in members.columns:
        factors = jnp.asarray(members[INIT_STD].to_numpy(), jnp.float32)
        params = jax.device_get(jax.vmap(scaled_weights)(params, factors))
    collections = {name: tree for name, tree in variables.items() if name != "params"}
    return StateParts({"params": params}, {}, collections)


@functools.cache
def _initializer(shape: Architecture, scheme: str) -> Callable[[np.ndarray], dict]:
    return population.jit_fast_compile(jax.vmap(lambda seed: init_variables(shape, scheme, seed)))
