"""Training of the hyper-representation's autoencoder, compared with the same model in torch."""

import functools
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from zoojax.errors import ZoojaxError
from zoojax.experiments.bench import torch_worker
from zoojax.experiments.bench.members import Case, Measure

if TYPE_CHECKING:
    from zoojax.architectures.base import Architecture
    from zoojax.hyper_representation.codec import Codec
    from zoojax.hyper_representation.settings import Settings
    from zoojax.hyper_representation.tokens import Tokenizer

KIND = "representation"
OURS, EAGER, COMPILED = "zoojax", "torch, eager", "torch, compiled"
_MODULE = "zoojax.experiments.bench.torch_training"
# Batches in the dataset; one call of zoojax trains on all of them once.
_BATCHES = 10


# Architectures whose states the torch peer is written for.
ARCHITECTURES = ("small", "large")


def case(architecture: str) -> Case:
    """The case of training the preset "small" on states of an architecture."""
    return Case(KIND, architecture, _settings().batch_size)


def backends(case: Case, seconds: float) -> Iterator[tuple[str, Measure]]:
    """Lists the backends that can train it.

    Args:
        case: the case to measure.
        seconds: length of one measurement.

    Yields:
        The name, and a function that measures it once and returns states per second.
    """
    yield OURS, program(case.shape, _settings(), seconds)
    if torch_worker.installed():
        yield EAGER, functools.partial(_torch, case, False, seconds)
        if compile_error(case) is None:
            yield COMPILED, functools.partial(_torch, case, True, seconds)


@functools.cache
def compile_error(case: Case) -> str | None:
    """Runs torch.compile once, so that its cache is warm.

    Returns:
        The error message if torch.compile fails on this machine, or None.
    """
    try:
        _torch(case, True, 0.0)
    except ZoojaxError as error:
        return str(error)
    return None


def _torch(case: Case, compiled: bool, seconds: float) -> float:
    task = {
        "settings": asdict(_settings()),
        "architecture_name": case.architecture,
        "channels": case.shape.channels,
        "variational": _variational(case.shape),
        "compiled": compiled,
        "seconds": seconds,
    }
    return torch_worker.speed(_MODULE, task)


def _settings() -> "Settings":
    from zoojax.hyper_representation.settings import SMALL

    # Without the behavior of members and without log sigma squared, from which log alphas follow
    # with few operations: the model in PyTorch does not have these.
    return replace(SMALL, probes=0, behavior=0.0, decoded_noise=False)


def slices(tokenizer: "Tokenizer", total: int) -> dict[str, int]:
    """Divides z in proportion to the width of tokens: random states have no components."""
    values = tokenizer.num_parameters
    return {group.name: total * group.width // values for group in tokenizer.groups}


def _variational(shape: "Architecture") -> dict[str, tuple[str, ...]]:
    """Lists the leaves with a log alpha, by layer, in twins of the variant "released"."""
    return {
        layer: ("kernel", "bias") if layer.startswith("conv") else ("kernel",)
        for layer in shape.layers
    }


def _codec(shape: "Architecture", settings: "Settings") -> "Codec":
    from zoojax.hyper_representation.codec import Codec
    from zoojax.hyper_representation.dataset import Normalization
    from zoojax.hyper_representation.tokens import Tokenizer

    plain = Normalization(dict.fromkeys(shape.layers, 0.0), dict.fromkeys(shape.layers, 1.0))
    each = slices(Tokenizer(shape), settings.local_latent)
    return Codec(settings, shape, plain, _variational(shape), each)


def program(shape: "Architecture", settings: "Settings", seconds: float) -> Measure:
    """Compiles and warms up training epochs on synthetic states.

    Returns:
        A function that measures training once and returns states per second.
    """
    import jax
    import numpy as np

    from zoojax.hyper_representation import train_step
    from zoojax.runtime import population

    codec, samples = _codec(shape, settings), _BATCHES * settings.batch_size
    generator = np.random.default_rng(0)
    weights = {
        layer: {
            name: generator.standard_normal((samples, *sizes), np.float32)
            for name, sizes in leaves.items()
        }
        for layer, leaves in shape.parameter_shapes().items()
    }
    alphas = {
        layer: {name: np.tanh(weights[layer][name]) for name in names}
        for layer, names in codec.variational.items()
    }
    data = jax.device_put(train_step.Data(weights, alphas))
    epoch = jax.jit(train_step.epoch_program(codec, samples), donate_argnums=0)
    state = population.jit_fast_compile(lambda: train_step.init(codec, samples))()
    queries = np.zeros((1, *shape.image_shape), np.float32)
    holder = {"state": jax.block_until_ready(epoch(state, data, queries, np.int32(1)))[0]}

    def measure() -> float:
        done, start = 0, time.perf_counter()
        while (spent := time.perf_counter() - start) < seconds:
            holder["state"], parts = epoch(holder["state"], data, queries, np.int32(2))
            jax.block_until_ready(parts)
            done += samples
        return done / spent

    return measure


def flops(case: Case) -> int:
    """Counts the floating-point operations of matrix products per state in training."""
    return _flops(case.shape, _settings())


def _flops(shape: "Architecture", settings: "Settings") -> int:
    """Counts the operations of two encoded views and one decoded view.

    Each product has a forward pass and two gradients, except the embedding of tokens, which
    needs no gradient of its inputs.
    """
    s, codec = settings, _codec(shape, settings)
    groups, count, parts = codec.tokenizer.groups, codec.tokenizer.count, codec.module.parts
    shared, sequences = codec.module.global_size, 2

    def blocks(tokens: int) -> int:
        dense = tokens * (4 * s.width**2 + 2 * s.width * s.feed_forward)
        return s.layers * (dense + 2 * tokens**2 * s.width)

    values = sum(g.count * g.width for g in groups)
    local = sum(g.count * parts.get(g.name, 0) for g in groups)
    linear = sum(g.count * g.width * parts.get(g.name, 0) for g in groups)
    hidden, out = s.projection
    embedding = 2 * (values * s.width + linear)
    encoding = blocks(count + 1) + (shared + local) * s.width + s.latent * hidden + hidden * out
    decompressed = sequences * s.width * (shared * count + local)
    heads = sequences * (values * s.width + linear)
    decoding = decompressed + blocks(sequences * count) + heads
    return 2 * (2 * embedding + 3 * (2 * encoding + decoding))


def skipped(case: Case) -> dict[str, str]:
    """Returns the backend that was skipped and the reason; empty if none was skipped."""
    reason = compile_error(case) if torch_worker.installed() else None
    return {} if reason is None else {f"skipped: {COMPILED}": reason}
