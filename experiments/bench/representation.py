"""Training of the autoencoder of hyper-representations, beside its torch twin."""

import functools
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

from zoojax.architectures.base import Architecture
from zoojax.errors import ZoojaxError
from zoojax.experiments.bench import torch_worker
from zoojax.experiments.bench.members import Case, Measure

if TYPE_CHECKING:
    from zoojax.hyper_representation.codec import Codec
    from zoojax.hyper_representation.settings import Settings

KIND = "representation"
OURS, EAGER, COMPILED = "zoojax", "torch, eager", "torch, compiled"
_MODULE = "zoojax.experiments.bench.torch_autoencoder"
# Of the data set; a call of ours trains on all of it once.
_BATCHES = 10


def case(architecture: str) -> Case:
    """Training of the preset "small" on states of an architecture."""
    return Case(KIND, architecture, _settings().batch_size)


def backends(case: Case, seconds: float) -> Iterator[tuple[str, Measure]]:
    """Who trains it: (name, what returns states per second)."""
    yield OURS, program(case.shape, _settings(), seconds)
    if torch_worker.installed():
        yield EAGER, functools.partial(_torch, case, False, seconds)
        if why_not_compiled(case) is None:
            yield COMPILED, functools.partial(_torch, case, True, seconds)


@functools.cache
def why_not_compiled(case: Case) -> str | None:
    """Why torch.compile cannot take part; None where it can. What it compiles is kept."""
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

    return SMALL


def _variational(shape: Architecture) -> dict[str, tuple[str, ...]]:
    """What has a log alpha in twins of the released code."""
    return {
        layer: ("kernel", "bias") if layer.startswith("conv") else ("kernel",)
        for layer in shape.layers
    }


def _codec(shape: Architecture, settings: "Settings") -> "Codec":
    from zoojax.hyper_representation.codec import Codec
    from zoojax.hyper_representation.dataset import Normalization

    plain = Normalization(dict.fromkeys(shape.layers, 0.0), dict.fromkeys(shape.layers, 1.0))
    return Codec(settings, shape, plain, _variational(shape))


def program(shape: Architecture, settings: "Settings", seconds: float) -> Measure:
    """Epochs of synthetic states, compiled and warmed up; calls return states per second."""
    import jax
    import numpy as np

    from zoojax.hyper_representation import train_step
    from zoojax.hyper_representation.tokens import shapes
    from zoojax.runtime import population

    codec, samples = _codec(shape, settings), _BATCHES * settings.batch_size
    generator = np.random.default_rng(0)
    weights = {
        layer: {
            name: generator.standard_normal((samples, *sizes), np.float32)
            for name, sizes in leaves.items()
        }
        for layer, leaves in shapes(shape).items()
    }
    alphas = {
        layer: {name: np.tanh(weights[layer][name]) for name in names}
        for layer, names in codec.variational.items()
    }
    data = jax.device_put(train_step.Data(weights, alphas))
    epoch = jax.jit(train_step.epoch_program(codec, samples), donate_argnums=0)
    state = population.jit_fast_compile(lambda: train_step.init(codec, samples))()
    holder = {"state": jax.block_until_ready(epoch(state, data, np.int32(1)))[0]}

    def measure() -> float:
        done, start = 0, time.perf_counter()
        while (spent := time.perf_counter() - start) < seconds:
            holder["state"], parts = epoch(holder["state"], data, np.int32(2))
            jax.block_until_ready(parts)
            done += samples
        return done / spent

    return measure


def flops(case: Case) -> int:
    """Floating point operations of the matrix products that training on a state takes."""
    return _flops(case.shape, _settings())


def _flops(shape: Architecture, settings: "Settings") -> int:
    """Two views are encoded, one is decoded; each product forward, and for both gradients.

    But for that of the input, which the embedding of tokens does not need.
    """
    s, codec = settings, _codec(shape, settings)
    groups, count, own = codec.tokenizer.groups, codec.tokenizer.count, codec.module.parts
    whole, sequences = s.latent - codec.module.local_size, 2

    def blocks(tokens: int) -> int:
        dense = tokens * (4 * s.width**2 + 2 * s.width * s.feed_forward)
        return s.layers * (dense + 2 * tokens**2 * s.width)

    numbers = sum(g.count * g.width for g in groups)
    local = sum(g.count * own.get(g.name, 0) for g in groups)
    hidden, out = s.projection
    embedding = 2 * numbers * s.width
    encoding = blocks(count + 1) + (whole + local) * s.width + s.latent * hidden + hidden * out
    decompressed = sequences * s.width * (whole * count + local)
    decoding = decompressed + blocks(sequences * count) + sequences * numbers * s.width
    return 2 * (2 * embedding + 3 * (2 * encoding + decoding))


def skipped(case: Case) -> dict[str, str]:
    """The backend that could not take part, by name, and why; nothing if all could."""
    reason = why_not_compiled(case) if torch_worker.installed() else None
    return {} if reason is None else {f"skipped: {COMPILED}": reason}
