"""The backends that `zoojax bench` compares, what each is measured on, and the results."""

import functools
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from importlib import metadata
from typing import Any

from zoojax.experiments.bench import representation, torch_worker
from zoojax.experiments.bench.members import Case, Measure, flops, population_program
from zoojax.runtime import host

ZOOJAX = "zoojax"
TORCH = "one torch process per core"


def cases(
    kinds: Sequence[str], architectures: Sequence[str], batch_sizes: Sequence[int]
) -> list[Case]:
    """All cases to measure; the representation has one per architecture."""
    result = [
        Case(kind, architecture, batch_size)
        for architecture in architectures
        for batch_size in batch_sizes
        for kind in kinds
        if kind != representation.KIND
    ]
    if representation.KIND in kinds:
        result += map(representation.case, architectures)
    return result


def backends(
    case: Case, members: Sequence[int], chunk: int | None, seconds: float
) -> Iterator[tuple[str, Measure]]:
    """The backends that compute a case.

    Args:
        case: the case.
        members: numbers of members that torch.func.vmap and jax.vmap train at once.
        chunk: members that zoojax trains at once per device; None chooses for the machine.
        seconds: length of one measurement.

    Yields:
        (name, function that measures it once, in samples per second).
    """
    from zoojax.training import engine

    if case.kind == representation.KIND:
        yield from representation.backends(case, seconds)
        return
    import jax

    fastest = engine.engine(case.shape, jax.default_backend())
    yield ZOOJAX, population_program(case, fastest, chunk, seconds)
    if fastest != "xla":
        yield "zoojax on XLA", population_program(case, "xla", None, seconds)
    # Only zoojax trains with masks; torch trains pruned members like dense ones.
    if case.kind == "mp":
        return
    if torch_worker.installed():
        yield TORCH, lambda: _torch(case, 1, seconds)
    if case.kind != "dense":
        return
    for count in members:
        if torch_worker.installed():
            yield (
                f"torch.func.vmap, {count} members",
                functools.partial(_torch, case, count, seconds),
            )
        if count % jax.device_count() == 0:
            share = count // jax.device_count()
            measure = population_program(case, "vmap", share, seconds)
            yield f"jax.vmap of lax.conv, {count} members", measure


def _torch(case: Case, members: int, seconds: float) -> float:
    """Samples per second of torch: of single members one process a core, summed."""
    single = members == 1 and torch_worker.device() == "cpu"
    task = {**asdict(case), "members": members, "seconds": seconds}
    return torch_worker.speed(
        "zoojax.experiments.bench.torch_members", task, host.cpu_count() if single else 1
    )


def facts(measured: Iterable[tuple[Case, str]]) -> dict[str, Any]:
    """What it was measured on, and what could not be."""
    import jax

    from zoojax.api.common import versions
    from zoojax.ops import kernel

    device, found = jax.devices()[0], {}
    found["device"] = f"{jax.device_count()} x {_processor() or device.device_kind}"
    if device.platform == "cpu":
        reason = kernel.unavailable_reason(Case("dense", "small", 10).shape)
        found["engine"] = f"XLA (no C++ kernel: {reason})" if reason else "C++ kernel"
    found["versions"] = ", ".join(f"{k} {v}" for k, v in versions().items() if k != "zoojax")
    if torch_worker.installed():
        found["versions"] += f", torch {metadata.version('torch')}"
    else:
        found["skipped"] = "torch: not installed (pip install 'zoojax[torch]')"
    for case in {case for case, _ in measured if case.kind == representation.KIND}:
        found |= representation.skipped(case)
    return found


def _processor() -> str | None:
    """The CPU's name, where it is what computes and the system tells."""
    import jax

    if jax.default_backend() != "cpu":
        return None
    names = (line for line in host.cpu_fingerprint().splitlines() if line.startswith("model name"))
    return next((name.partition(":")[2].strip() for name in names), None)


def rows(speeds: dict[tuple[Case, str], list[float]], peak: float) -> list[dict[str, Any]]:
    """One row per case and backend.

    Args:
        speeds: samples per second, every repetition.
        peak: GFLOP/s of matrix products.
    """
    result = []
    for (case, name), measured in speeds.items():
        dense = replace(case, kind="dense")
        peers = [(case, TORCH), (dense, TORCH), (case, representation.EAGER)]
        torch = next((speeds[peer] for peer in peers if peer in speeds), None)
        median = statistics.median(measured)
        result.append(
            {
                **asdict(case),
                "backend": name,
                "samples_per_second": measured,
                "median": median,
                "times_torch": median / statistics.median(torch) if torch else None,
                # Variational dropout has other work than products.
                "share_of_gemm": None if case.kind == "vd" else median * _flops(case) / 1e9 / peak,
            }
        )
    return result


def _flops(case: Case) -> int:
    if case.kind == representation.KIND:
        return representation.flops(case)
    return flops(case)
