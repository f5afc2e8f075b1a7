"""Arrays and messages across the processes of jax.distributed."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from zoojax.runtime.population import AXIS


def make_global(tree: Any, spec: PartitionSpec) -> Any:
    """Creates global arrays on one device of every process.

    Args:
        tree: This process's arrays.
        spec: How they are combined: sharded along AXIS, or replicated.
    """
    firsts = {d.process_index: d for d in reversed(jax.devices())}
    mesh = Mesh(np.array([firsts[i] for i in range(jax.process_count())]), (AXIS,))
    sharding = NamedSharding(mesh, spec)
    return jax.tree.map(
        lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), tree
    )


def all_gather(message: bytes) -> list[bytes]:
    """Gathers one message from every process, ordered by process index.

    Args:
        message: This process's message.

    Raises:
        RuntimeError: If another process has ended (ValueError for some backends).
    """
    sizes = _gather_rows(np.array([[len(message)]], np.int32))[:, 0]
    # Padded to powers of two, as XLA compiles one program per shape.
    padded = np.zeros((1, 1 << int(sizes.max()).bit_length()), np.uint8)
    padded[0, : len(message)] = np.frombuffer(message, np.uint8)
    rows = _gather_rows(padded)
    return [row[:size].tobytes() for row, size in zip(rows, sizes, strict=True)]


def _gather_rows(row: np.ndarray) -> np.ndarray:
    """Gathers one row from every process: [1, n] -> [processes, n]."""
    sharded = make_global(row, PartitionSpec(AXIS))
    return np.asarray(_replicate(sharded.sharding.mesh)(sharded))


@functools.cache
def _replicate(mesh: Mesh) -> Callable[[jax.Array], jax.Array]:
    return jax.jit(lambda x: x, out_shardings=NamedSharding(mesh, PartitionSpec()))
