"""Measures the speed of training and evaluation, compared with PyTorch and plain JAX."""

import statistics
from collections.abc import Sequence
from pathlib import Path

from zoojax.errors import ZoojaxError
from zoojax.experiments.bench import backends, formatting
from zoojax.experiments.bench import device_scaling as devices
from zoojax.experiments.bench import member_scaling as growth
from zoojax.experiments.bench.members import (
    ARCHITECTURES,
    IMAGES,
    Case,
    gemm_peak,
    memory_bandwidth,
)
from zoojax.experiments.bench.results import Benchmark
from zoojax.filesystem.atomic import atomic_write
from zoojax.filesystem.paths import optional_path
from zoojax.progress import stage_progress
from zoojax.runtime import host
from zoojax.text import printable


def bench(
    *,
    architectures: Sequence[str] = ("small",),
    kinds: Sequence[str] | None = None,
    batch_sizes: Sequence[int] = (10,),
    members: Sequence[int] = (16, 64),
    repetitions: int = 5,
    seconds: float = 3.0,
    chunk: int | None = None,
    member_scaling: Sequence[int] = (),
    device_scaling: bool = False,
    out: str | Path | None = None,
) -> Benchmark:
    """Measures the speed of training and evaluation, compared with PyTorch and plain JAX.

    All backends use the same synthetic images. Their measurements alternate, and exclude
    compilation and warm-up. A sample is one image seen by one member; for the kind
    "representation", one state seen by the autoencoder of the preset "small".

    Args:
        architectures: "small", "medium", "large", "lenet5", "gap_cnn", "mlp" (two hidden
            layers of 64 units) and "siren" (all pixels of a 28x28 image in each step).
        kinds: What to measure: training of members without sparsification ("dense") or with a
            sparsifier (its abbreviation in lower case, such as "mp"), evaluation of members
            ("evaluate"), and training of a hyper-representation ("representation"). None
            measures dense, mp, vd, evaluate and representation.
        batch_sizes: Images per step.
        members: Members to train at once with torch.func.vmap and jax.vmap.
        repetitions: Number of measurements.
        seconds: Length of each measurement.
        chunk: Members that a device trains at once; None chooses for this machine.
        member_scaling: Numbers of members of zoos to train as well, each in a separate process,
            for the time per epoch, the time to save it, and the memory.
        device_scaling: Whether to train zoos on several devices and processes as well.
        out: Markdown file to write; None writes none.

    Returns:
        The measurements.

    Raises:
        ZoojaxError: An argument is invalid, there is nothing to measure, or writing failed.

    Example (measures for half a minute):
        bench(kinds=["evaluate"], repetitions=1).rows
    """
    requested = kinds is None or kinds or member_scaling or device_scaling
    if not (architectures and batch_sizes and requested):
        raise ZoojaxError("give at least one architecture, one kind and one batch size")
    if min(repetitions, *batch_sizes, *members, *member_scaling) < 1 or not seconds > 0:
        raise ZoojaxError("give batch sizes, members, repetitions and seconds above 0")
    known = backends.kinds()
    _check_names("architectures", architectures, tuple(ARCHITECTURES))
    _check_names("kinds", kinds or (), known)
    file = optional_path(out, "out")
    speeds: dict[tuple[Case, str], list[float]] = {}
    peak: list[float] = []
    bandwidth: list[float] = []
    with stage_progress("bench", quiet=False) as stage:
        stage("compiling")
        products, copies = gemm_peak(1.0), memory_bandwidth(1.0)
        measures = {
            (case, name): measure
            for case in backends.cases(
                backends.DEFAULT_KINDS if kinds is None else kinds, architectures, batch_sizes
            )
            for name, measure in backends.backends(case, members, chunk, seconds)
        }
        for repetition in range(1, repetitions + 1):
            peak.append(products())
            bandwidth.append(copies())
            for (case, name), measure in measures.items():
                what = f"{case.architecture} {case.kind} batch {case.batch_size}, {name}"
                stage(f"{what}: {repetition} of {repetitions}")
                speeds.setdefault((case, name), []).append(measure())
        by_members = []
        for count in member_scaling:
            stage(f"a zoo of {count} members")
            by_members.append(growth.measure(count, IMAGES))
        by_devices = []
        for topology in devices.topologies(host.cpu_count()) if device_scaling else []:
            stage(f"a zoo on {topology}")
            by_devices.append(devices.measure(topology))
    result = Benchmark(
        backends.facts(speeds),
        peak,
        bandwidth,
        backends.rows(speeds, statistics.median(peak), statistics.median(bandwidth)),
        by_members,
        by_devices,
    )
    if file is not None:
        text = formatting.markdown(result)
        atomic_write(file, lambda path: path.write_text(text))
    return result


def _check_names(argument: str, names: Sequence[str], known: Sequence[str]) -> None:
    for name in names:
        if name not in known:
            raise ZoojaxError(
                f"--{argument} is '{printable(name, 80)}'; give some of {', '.join(known)}"
            )
