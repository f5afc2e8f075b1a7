"""`zoojax bench`: training speed beside one torch process per core, in one run."""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import util
from typing import Literal

from experiments.options import prepare_jax

_KINDS = ("dense", "mp", "vd")
_IMAGES = 1000


@dataclass(frozen=True)
class Bench:
    """Measure training throughput beside one torch process per core.

    Both train on the same synthetic images; repetitions alternate, compilation and
    warm-up are left out. A training sample is one image seen by one member.
    Example: zoojax bench --batch-size 10
    """

    architecture: Literal["small", "large"] = "small"
    """Which CNN."""

    batch_size: int = 10
    """Images a step."""

    repetitions: int = 5
    """Measurements of each; the median and the range are shown."""

    seconds: float = 3.0
    """Length of each torch measurement; those of zoojax are one epoch of 1,000 images."""

    chunk: int | None = None
    """Members that a core or GPU trains at once (default: chosen for the machine)."""

    json: bool = False
    """Print JSON on standard output."""

    def run(self) -> None:
        """Measures, and prints a row a kind of training."""
        prepare_jax()
        import jax
        import polars as pl

        from experiments.tables import show_json, show_rows

        # Torch has no masked training of its own: pruned members train as dense ones do.
        peers = {"dense": "dense", "mp": "dense", "vd": "vd"}
        torch_found = util.find_spec("torch") is not None
        ours = {
            kind: _zoojax(kind, self.architecture, self.batch_size, self.chunk) for kind in _KINDS
        }
        speeds: dict[str, list[float]] = {f"zoojax {kind}": [] for kind in _KINDS}
        for _ in range(self.repetitions):
            for kind in _KINDS:
                speeds[f"zoojax {kind}"].append(ours[kind]())
            for peer in ("dense", "vd") if torch_found else ():
                speed = _torch_processes(peer, self.architecture, self.batch_size, self.seconds)
                speeds.setdefault(f"torch {peer}", []).append(speed)
        rows = []
        for kind in _KINDS:
            mine, theirs = speeds[f"zoojax {kind}"], speeds.get(f"torch {peers[kind]}")
            row = {"kind": kind, "zoojax samples/s": _spread(mine)}
            if theirs is not None:
                ratio = statistics.median(mine) / statistics.median(theirs)
                row |= {"torch process per core": _spread(theirs), "ratio": f"{ratio:.1f}"}
            rows.append(row)
        device = jax.devices()[0]
        facts = {
            "device": f"{len(jax.devices())} x {device.device_kind}",
            "architecture": self.architecture,
            "batch size": self.batch_size,
            "engine": _engine(self.architecture),
            "left out": []
            if torch_found
            else ["torch: not installed (pip install 'zoojax[torch]')"],
        }
        if self.json:
            show_json({**facts, "samples_per_second": speeds})
            return
        for name, value in facts.items():
            print(f"{name}: {value}")
        show_rows(pl.DataFrame(rows))


def _engine(name: str) -> str:
    """What computes zoojax's rows, and why it is not the kernel."""
    import jax

    from zoojax.models import architecture
    from zoojax.ops import kernel

    if jax.default_backend() != "cpu":
        return "XLA"
    reason = kernel.why_not(architecture(name, 1 if name == "small" else 3))
    return "C++ kernel" if reason is None else f"XLA (no C++ kernel: {reason})"


def _spread(speeds: list[float]) -> str:
    return f"{statistics.median(speeds):,.0f} ({min(speeds):,.0f} to {max(speeds):,.0f})"


def _zoojax(kind: str, name: str, batch_size: int, chunk: int | None) -> Callable[[], float]:
    """Compiles an epoch of one block and warms it up; calls return samples per second."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from zoojax import (
        keys,
        magnitude_pruning,
        models,
        network,
        population,
        train,
        variational_dropout,
    )
    from zoojax.programs import Recipe

    arch = models.architecture(name, 1 if name == "small" else 3)
    engine = network.engine(arch, jax.default_backend())
    recipe = Recipe(kind, arch, "tanh", "adam", False, batch_size, engine=engine)
    mesh = population.make_mesh()
    members = (chunk or population.default_chunk(10_000, mesh, engine)) * mesh.size
    seeds = jnp.arange(members, dtype=jnp.uint32)
    params = jax.vmap(lambda s: models.init_params(arch, "kaiming_uniform", s))(seeds)
    trainable, fixed = {"params": params}, {}
    if kind == "vd":
        trainable["log_sigma2"] = variational_dropout.init_log_sigma2(params, "released")
    if kind == "mp":
        trainable, fixed = magnitude_pruning.prune_population(
            params, {"all": jnp.full(members, 1000)}
        )
    state = jax.vmap(lambda t, f: train.init_state(t, f, "adam"))(trainable, fixed)
    hyper = train.Hyper(seeds, jnp.full(members, 3e-4), jnp.full(members, 1e-3), jnp.zeros(members))
    state, hyper = population.place((state, hyper), mesh)
    images, labels = population.replicate(_images(arch.size, arch.channels), mesh)

    def one(state, hyper, images, labels, number):
        order = keys.shuffle(keys.stream(hyper.seed, "order", number), _IMAGES)
        return train.epoch(
            recipe.method, "adam", batch_size, False, state, hyper, images, labels, order, number
        )

    program = jax.jit(
        population.over_members(one, mesh, (0, 0, None, None, None)), donate_argnums=0
    )
    holder = {"state": jax.block_until_ready(program(state, hyper, images, labels, np.int32(1)))[0]}

    def measure() -> float:
        start = time.perf_counter()
        holder["state"], metrics = program(holder["state"], hyper, images, labels, np.int32(2))
        jax.block_until_ready(metrics)
        return members * _IMAGES / (time.perf_counter() - start)

    return measure


def _images(size: int, channels: int):
    import numpy as np

    generator = np.random.default_rng(0)
    images = generator.standard_normal((_IMAGES, size, size, channels), np.float32)
    return images, generator.integers(0, 10, _IMAGES).astype(np.int32)


def _torch_processes(kind: str, name: str, batch_size: int, seconds: float) -> float:
    """Samples per second of as many one-thread torch processes as there are cores, summed."""
    command = [sys.executable, "-m", "experiments.bench", kind, name, str(batch_size), str(seconds)]
    cores = len(os.sched_getaffinity(0))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(cores)
    ]
    return sum(json.loads(process.communicate()[0]) for process in running)


def _torch(kind: str, name: str, batch_size: int, seconds: float) -> float:
    """Samples per second of one member trained by torch on one thread, as Ray would."""
    import torch
    from torch.nn import functional

    from converters.torch_models import CNN, kl
    from zoojax.models import architecture

    torch.set_num_threads(1)
    arch = architecture(name, 1 if name == "small" else 3)
    model = CNN(arch, "tanh", variational=kind == "vd")
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-4, weight_decay=1e-3)
    images, labels = _images(arch.size, arch.channels)
    x, y = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(labels)
    y = y.long()

    def step(start: int) -> None:
        batch = slice(start, start + batch_size)
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(x[batch]), y[batch])
        if kind == "vd":
            loss = loss + 1e-3 * kl(model)
        loss.backward()
        optimizer.step()

    for _ in range(30):
        step(0)
    samples, begun = 0, time.perf_counter()
    while (spent := time.perf_counter() - begun) < seconds:
        step(samples % (_IMAGES - batch_size))
        samples += batch_size
    return samples / spent


if __name__ == "__main__":
    print(json.dumps(_torch(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))))
