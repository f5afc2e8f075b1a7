"""Programs of `zoojax bench` for members that learn one image each (SIRENs): full batches."""

import dataclasses
import time
from typing import TYPE_CHECKING

from zoojax.experiments.bench.members import DENSE, EVALUATE, Case, Measure, states

if TYPE_CHECKING:
    from zoojax.architectures.chain import Chain

# Side of the images, and steps of one call.
SIDE, STEPS = 28, 10
WITHOUT_SINES = "zoojax without the sines"


def has_own_images(case: Case) -> bool:
    """Whether the members of a case learn one image each."""
    return case.shape.task.has_own_images


def full_batch(case: Case) -> Case:
    """Returns the case with all pixels of an image as batch."""
    return dataclasses.replace(case, batch_size=SIDE**2)


def measures_sines(case: Case) -> bool:
    """Whether the same network without its sines is also measured."""
    return has_own_images(case) and case.kind == DENSE


def without_sines(shape: "Chain") -> "Chain":
    """Returns the network with identities in place of its activations."""
    from zoojax.architectures.chain_layers import Activation

    plain = (
        Activation("identity") if isinstance(layer, Activation) else layer
        for layer in shape.sequence
    )
    return dataclasses.replace(shape, sequence=tuple(plain))


def population_program(
    case: Case, engine: str, members: int | None, seconds: float, *, sines: bool = True
) -> Measure:
    """Compiles and warms up the program of one block of members.

    Args:
        case: The case to measure.
        engine: A name in `engine.ENGINES`.
        members: Members per device; None chooses the same number as training does.
        seconds: How long each call repeats the program.
        sines: Whether the network has its sines.

    Returns:
        A function that measures the program once and returns pixels per second.
    """
    import jax
    import numpy as np

    from zoojax.runtime import population
    from zoojax.training import loop, own_images, programs
    from zoojax.training.task_programs import task_programs

    shape = case.shape if sines else without_sines(case.shape)
    mesh, task = population.make_mesh(), task_programs(shape.task)
    members = members or population.default_chunk(10_000, mesh, engine)
    count, pixels = members * mesh.size, SIDE**2
    seeds = np.arange(count, dtype=np.uint32)
    rate, zeros = np.full(count, 1e-4, np.float32), np.zeros(count, np.float32)
    own = np.random.default_rng(0).uniform(-0.5, 0.5, (count, pixels, shape.classes))
    hyper = loop.Hyperparams(seeds, rate, zeros, zeros, own=own.astype(np.float32))
    state, hyper = population.shard_members(jax.device_get((states(case, seeds), hyper)), mesh)
    grid = own_images.Grid(own_images.coordinates(SIDE), np.float32(1))
    shared = population.replicate(grid, mesh)
    spec = programs.ProgramSpec(
        *(case.sparsifier, shape, "sine", "adam", False, pixels), engine=engine, steps=STEPS
    )

    def one(state, hyper, shared, number):
        if case.kind == EVALUATE:
            return state, task.evaluate(spec, state, hyper, shared)
        return task.train(spec, state, hyper, shared, number, number)

    program = jax.jit(population.vmap_members(one, mesh, (0, 0, None, None)), donate_argnums=0)
    holder = {"state": jax.block_until_ready(program(state, hyper, shared, np.int32(1)))[0]}
    samples = count * pixels * (1 if case.kind == EVALUATE else STEPS)

    def measure() -> float:
        done, start = 0, time.perf_counter()
        while (spent := time.perf_counter() - start) < seconds:
            holder["state"], metrics = program(holder["state"], hyper, shared, np.int32(2))
            jax.block_until_ready(metrics)
            done += samples
        return done / spent

    return measure
