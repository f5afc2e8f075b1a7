"""Loss and accuracy of weighted sums of members, as one program for all sums.

A sum is evaluated like a member, by the same engine. Sums are computed on the devices chunk by
chunk, so memory does not grow with their number.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh

from zoojax.architectures.base import Architecture
from zoojax.datasets.specs import Images
from zoojax.geometry.statistics import estimated, has_statistics, statistics_batches
from zoojax.runtime import population, signals
from zoojax.training import engine

# Called with the numbers of evaluated sums and of all sums.
Report = Callable[[int, int], None]


def evaluate_sums(
    arch: Architecture,
    activation: str,
    variables: dict[str, Any],
    rows: np.ndarray,
    coefficients: np.ndarray,
    images: Images,
    statistics_images: np.ndarray | None,
    report: Report | None = None,
) -> dict[str, np.ndarray]:
    """Evaluates weighted sums of stacked variables.

    Collections are also summed, except for batch statistics that are recomputed.

    Args:
        arch: Architecture of the members.
        activation: Activation of the members.
        variables: Stacked variables, {"params": ...} and the collections.
        rows: Positions of the summands, [sums, summands].
        coefficients: Their weights, [sums, summands].
        images: Images and labels to evaluate on.
        statistics_images: Training images for batch statistics, [n, H, W, C]; None to sum the
            statistics of the members.
        report: Progress callback.

    Returns:
        {"loss": mean cross entropy [sums], "acc": fraction of correct predictions [sums]}.
    """
    mesh = population.make_mesh()
    name = engine.engine(arch, jax.default_backend())
    program = _program(arch, activation, name, mesh)
    count = len(rows)
    chunk = population.default_chunk(count, mesh, name, arch.parameter_count)
    stacked = population.replicate(variables, mesh)
    pixels, labels = population.replicate((images.images, images.labels), mesh)
    batches = None
    if statistics_images is not None and has_statistics(arch):
        batches = population.replicate(statistics_batches(statistics_images), mesh)
    results: list[Any] = []
    for block in population.blocks(np.arange(count), chunk, mesh):
        sums = rows[block].astype(np.int32), coefficients[block].astype(np.float32)
        sharded = population.shard_members(sums, mesh)
        measured = program(*sharded, stacked, pixels, labels, batches)
        results.append(signals.run_interruptible(jax.device_get, measured))
        if report is not None:
            report(min(len(results) * len(block), count), count)
    return population.take(population.concatenate(results), slice(count))


@functools.cache
def _program(arch: Architecture, activation: str, engine_name: str, mesh: Mesh) -> Callable:
    """Compiles the evaluation of a block of sums."""

    def evaluate(
        rows: Array,
        coefficients: Array,
        stacked: dict[str, Any],
        pixels: Array,
        labels: Array,
        batches: Array | None,
    ) -> dict[str, Array]:
        variables = jax.tree.map(lambda x: _sum(x, rows, coefficients), stacked)
        if batches is not None:
            variables = estimated(arch, activation, variables, batches)
        return engine.evaluate(arch, activation, engine_name, variables, pixels, labels)

    return jax.jit(population.vmap_members(evaluate, mesh, (0, 0, None, None, None, None)))


def _sum(stacked: Array, rows: Array, coefficients: Array) -> Array:
    """Sums entries of a stacked array; for integers, takes the first entry."""
    if not jnp.issubdtype(stacked.dtype, jnp.floating):
        return stacked[rows[0]]
    terms = [coefficients[i] * stacked[rows[i]] for i in range(rows.shape[0])]
    return functools.reduce(jnp.add, terms)


def curve_coefficients(positions: Sequence[float] | np.ndarray, nodes: int) -> np.ndarray:
    """Returns the coefficients of a straight line (2 nodes) or quadratic Bezier curve (3 nodes).

    Args:
        positions: Positions on the curve, in [0, 1].
        nodes: Number of control points.

    Returns:
        [positions, nodes] float32.
    """
    t = np.asarray(positions, np.float32)[:, None]
    if nodes == 2:
        return np.concatenate([1 - t, t], axis=1)
    return np.concatenate([(1 - t) ** 2, 2 * t * (1 - t), t**2], axis=1)
