"""Cases measured by `zoojax bench`, and their JAX programs."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoojax.errors import ZoojaxError

if TYPE_CHECKING:
    import numpy as np
    from jax import Array

    from zoojax.architectures.chain import Chain
    from zoojax.sparsifiers.base import Sparsifier
    from zoojax.training import engine, loop

DENSE, EVALUATE = "dense", "evaluate"
IMAGES = 1000
# Each call trains on at least this many images and two batches, so that calls of slow backends
# are short.
_MIN_IMAGES = 100
Measure = Callable[[], float]
# Registered names and channels of the architectures that can be measured.
ARCHITECTURES = {
    "small": ("small", 1),
    "medium": ("medium", 1),
    "large": ("large", 3),
    "lenet5": ("lenet5", 1),
    "gap_cnn": ("gap_cnn", 1),
    "mlp": ("mlp-64-64", 1),
    "siren": ("siren", 1),
}


@dataclass(frozen=True)
class Case:
    """One workload to measure.

    Attributes:
        kind: training of dense members (DENSE) or with a sparsifier (its `method`); EVALUATE,
            the forward pass of dense members on all images; or "representation".
        architecture: a name of ARCHITECTURES.
        batch_size: images per step; states per step for "representation".
    """

    kind: str
    architecture: str
    batch_size: int

    @property
    def shape(self) -> "Chain":
        """The architecture of the members."""
        return chain(self.architecture)

    @property
    def sparsifier(self) -> "Sparsifier":
        """How the members are trained: with the default options of a sparsifier.

        Raises:
            ZoojaxError: the sparsifier has an option without a default.
        """
        from zoojax.sparsifiers.dense import Dense
        from zoojax.sparsifiers.registry import sparsifier_of_method

        sparsifier = sparsifier_of_method(self.kind) or Dense
        try:
            return sparsifier()
        except TypeError as error:
            raise ZoojaxError(f"{sparsifier.label} has options without defaults") from error

    @property
    def is_dense(self) -> bool:
        """Whether members are trained or evaluated without sparsification."""
        from zoojax.sparsifiers.dense import Dense

        return isinstance(self.sparsifier, Dense)

    @property
    def is_variational(self) -> bool:
        """Whether members are trained with variational dropout."""
        from zoojax.sparsifiers.variational_dropout import VariationalDropout

        return isinstance(self.sparsifier, VariationalDropout)


def chain(name: str) -> "Chain":
    """Returns the network of a name of ARCHITECTURES, for ten classes."""
    from zoojax.architectures.chain import Chain
    from zoojax.architectures.registry import architecture

    network = architecture(*ARCHITECTURES[name], 10)
    assert isinstance(network, Chain)
    return network


def images(shape: "Chain") -> "tuple[np.ndarray, np.ndarray]":
    """Generates synthetic images [1000, size, size, channels] and labels [1000]."""
    import numpy as np

    generator = np.random.default_rng(0)
    pixels = generator.standard_normal((IMAGES, shape.size, shape.size, shape.channels), np.float32)
    return pixels, generator.integers(0, 10, IMAGES).astype(np.int32)


def flops(case: Case) -> int:
    """Counts the floating-point operations of matrix products per sample of a dense member.

    Training has a forward pass, gradients of the weights, and gradients of the inputs of all
    layers but the first. Evaluation has only the forward pass.
    """
    passes, total = 1 if case.kind == EVALUATE else 3, 0
    layers = [step for step in case.shape.steps if step.layer.has_weights]
    for i, step in enumerate(layers):
        products = math.prod(step.outputs[:-1]) * math.prod(step.parameters["kernel"])
        total += 2 * products * (min(passes, 2) if i == 0 else passes)
    return total


def traffic(case: Case) -> float:
    """Counts the bytes per sample that members must read and write if only one fits the cache.

    A training step reads and writes the parameters and both moments of Adam, which variational
    dropout also has for log sigma squared. Evaluation reads the parameters once per image set.
    """
    if case.kind == EVALUATE:
        return 4 * _parameters(case) / IMAGES
    return 3 * 2 * 4 * _trained_values(case) / case.batch_size


def _parameters(case: Case) -> int:
    return sum(math.prod(x) for step in case.shape.steps for x in step.parameters.values())


def _trained_values(case: Case) -> int:
    """Returns the number of values that a step of one member changes."""
    if case.kind == EVALUATE:
        return 1
    return _parameters(case) * (2 if case.is_variational else 1)


def population_program(case: Case, engine: str, members: int | None, seconds: float) -> Measure:
    """Compiles and warms up the program of one block of members.

    Args:
        case: the case to measure.
        engine: a name in `engine.ENGINES`, or "vmap" for plain JAX without zoojax: lax.conv
            under jax.vmap.
        members: members per device; None chooses the same number as training does.
        seconds: how long each call repeats the program.

    Returns:
        A function that measures the program once and returns samples per second.
    """
    import jax
    import jax.numpy as jnp
    import numpy as np

    from zoojax.runtime import population
    from zoojax.training import loop

    shape, mesh = case.shape, population.make_mesh()
    members = members or population.default_chunk(10_000, mesh, engine, _trained_values(case))
    count = members * mesh.size
    seeds = jnp.arange(count, dtype=jnp.uint32)
    hyper = loop.Hyperparams(seeds, jnp.full(count, 3e-4), jnp.full(count, 1e-3), jnp.zeros(count))
    state, hyper = population.shard_members(jax.device_get((states(case, seeds), hyper)), mesh)
    sets = population.replicate(images(shape), mesh)
    one = _evaluation(case, engine) if case.kind == EVALUATE else _epoch(case, engine)
    program = jax.jit(
        population.vmap_members(one, mesh, (0, 0, None, None, None)),
        donate_argnums=0,
    )
    holder = {"state": jax.block_until_ready(program(state, hyper, *sets, np.int32(1)))[0]}
    samples = count * (IMAGES if case.kind == EVALUATE else _trained(case))

    def measure() -> float:
        done, start = 0, time.perf_counter()
        while (spent := time.perf_counter() - start) < seconds:
            holder["state"], metrics = program(holder["state"], hyper, *sets, np.int32(2))
            jax.block_until_ready(metrics)
            done += samples
        return done / spent

    return measure


def states(case: Case, seeds: "Array | np.ndarray") -> "loop.TrainState":
    """Initializes untrained members with some seeds, stacked."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    import polars as pl

    from zoojax.architectures.base import init_params, variable_shapes
    from zoojax.sparsifiers.context import init_member
    from zoojax.training import loop

    scheme = "siren" if case.shape.task.has_own_images else "kaiming_uniform"
    initial = jax.vmap(lambda seed: init_params(case.shape, scheme, seed))
    params = jax.jit(initial)(seeds)
    ids = pl.DataFrame({"id": range(len(seeds)), "seed": np.asarray(seeds)})
    # All members at once: one parent may have several members, such as one per ratio.
    table = case.sparsifier.members(ids.with_columns(parent_id="id")).head(len(seeds))
    values = case.sparsifier.member_values(table, variable_shapes(case.shape)["params"])
    if case.sparsifier.takes_scores:
        values["scores"] = None
    pixels, labels = map(jnp.asarray, images(case.shape))

    def initialize(params, values, seed):
        given = case.sparsifier, case.shape, "tanh", params, values, {}, seed
        return init_member(*given, rewind=params, train=(pixels, labels))

    trainable, fixed = jax.jit(jax.vmap(initialize))(params, values, seeds)
    return jax.jit(jax.vmap(lambda t, f: loop.init_state(t, f, "adam")))(trainable, fixed)


def _trained(case: Case) -> int:
    """Returns the number of images that one call trains each member on."""
    return min(IMAGES, max(_MIN_IMAGES, 2 * case.batch_size))


def _epoch(case: Case, name: str) -> Callable:
    """Creates a function that trains one member on evenly spaced images in random order."""
    from zoojax import keys
    from zoojax.training import loop
    from zoojax.training.programs import ProgramSpec

    shape, size, images = case.shape, case.batch_size, _trained(case)
    sparsifier = case.sparsifier
    spec = ProgramSpec(sparsifier, shape, "tanh", "adam", False, size, engine=name)
    loss = _plain_loss(shape) if name == "vmap" else spec.loss
    epochs = sparsifier.default_epochs if sparsifier.needs_epochs else None

    def one(state, hyper, pixels, labels, number):
        key = keys.stream_key(hyper.seed, "order", number)
        order = keys.permutation(key, images) * (IMAGES // images)
        return loop.train_epoch(
            *(sparsifier, loss, "adam", size, False, state, hyper, pixels, labels, order, number),
            epochs=epochs,
        )

    return one


def _evaluation(case: Case, name: str) -> Callable:
    """Creates a function that evaluates one member on all images."""
    from zoojax.training import engine

    def one(state, hyper, pixels, labels, number):
        variables = {"params": state.trainable["params"]}
        return state, engine.evaluate(case.shape, "tanh", name, variables, pixels, labels)

    return one


def _plain_loss(shape: "Chain") -> "engine.MemberLoss":
    """Creates the loss of one member in plain JAX: lax.conv and reduce_window."""
    import jax
    import jax.numpy as jnp

    from zoojax.architectures import chain_layers as layers
    from zoojax.training import engine

    def pool(x, layer, start, operation):
        window, steps = ((1, side, side, 1) for side in (layer.window, layer.step))
        return jax.lax.reduce_window(x, start, operation, window, steps, "VALID")

    def loss(params, variances, collections, batch, noise, dropout_rate):
        batch = batch.gather()
        x = batch.images
        for step in shape.steps:
            layer = step.layer
            if isinstance(layer, layers.Conv):
                borders = layer.borders(step.inputs[0])
                x = jax.lax.conv_general_dilated(
                    *(x, params[step.name]["kernel"], (layer.stride,) * 2, (borders, borders)),
                    dimension_numbers=("NHWC", "HWIO", "NHWC"),
                )
            elif isinstance(layer, layers.Dense):
                x = x @ params[step.name]["kernel"]
            elif isinstance(layer, layers.MaxPool):
                x = pool(x, layer, -jnp.inf, jax.lax.max)
            elif isinstance(layer, layers.AvgPool):
                x = pool(x, layer, 0.0, jax.lax.add) / layer.window**2
            elif isinstance(layer, layers.GlobalAvgPool):
                x = x.mean((1, 2))
            elif isinstance(layer, layers.Activation):
                x = jnp.tanh(x)
            elif isinstance(layer, layers.Flatten):
                x = x.reshape(x.shape[0], -1)
            if step.layer.has_weights:
                x = x + jnp.broadcast_to(params[step.name]["bias"], x.shape)
        correct = (jnp.argmax(x, axis=-1) == batch.labels) * batch.weights
        return engine.cross_entropy(x, batch), (jnp.sum(correct), collections)

    return loss


def gemm_peak(seconds: float) -> Measure:
    """Compiles float32 products of 1,024 x 1,024 matrices.

    Args:
        seconds: how long each call repeats the products.

    Returns:
        A function that measures the machine once and returns GFLOP/s.
    """
    import jax
    import jax.numpy as jnp

    from zoojax.runtime import population

    mesh, side, repeats = population.make_mesh(), 1024, 4

    def chain(a):
        return jax.lax.fori_loop(0, repeats, lambda _, x: (x @ a) / side, a)

    program = jax.jit(population.vmap_members(chain, mesh, (0,)))
    a = population.shard_members(jnp.ones((mesh.size, side, side)), mesh)
    jax.block_until_ready(program(a))

    def measure() -> float:
        done, start = 0, time.perf_counter()
        while (spent := time.perf_counter() - start) < seconds:
            jax.block_until_ready(program(a))
            done += mesh.size * repeats
        return done * 2 * side**3 / spent / 1e9

    return measure


def memory_bandwidth(seconds: float) -> Measure:
    """Compiles the sum of two arrays of 64 MiB per device, which no cache holds.

    Args:
        seconds: how long each call repeats the sum.

    Returns:
        A function that measures the machine once and returns GB/s read and written.
    """
    import jax
    import jax.numpy as jnp

    from zoojax.runtime import population

    mesh, count = population.make_mesh(), 2**24
    program = jax.jit(population.vmap_members(jnp.add, mesh, (0, 0)), donate_argnums=0)
    a, b = (population.shard_members(jnp.ones((mesh.size, count)), mesh) for _ in range(2))
    holder = {"sum": jax.block_until_ready(program(a, b))}

    def measure() -> float:
        done, start = 0, time.perf_counter()
        while (spent := time.perf_counter() - start) < seconds:
            holder["sum"] = jax.block_until_ready(program(holder["sum"], b))
            done += mesh.size
        return done * 3 * 4 * count / spent / 1e9

    return measure
