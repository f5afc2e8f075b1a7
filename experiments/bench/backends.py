"""Backends compared by `zoojax bench`, facts about the machine, and the rows of results."""

import functools
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from importlib import metadata
from typing import Any

from zoojax.experiments.bench import own_images, representation, torch_worker
from zoojax.experiments.bench.members import (
    DENSE,
    EVALUATE,
    Case,
    Measure,
    flops,
    population_program,
    traffic,
)
from zoojax.runtime import host

ZOOJAX = "zoojax"
TORCH = "one torch process per core"


# Measured if none are named.
DEFAULT_KINDS = ("dense", "mp", "vd", EVALUATE, representation.KIND)


def kinds() -> tuple[str, ...]:
    """Lists all kinds of cases: one per registered sparsifier, evaluation, hyper-representation."""
    from zoojax.sparsifiers.registry import sparsifiers

    methods = [each.short.lower() for each in sparsifiers().values()]
    return (*methods, EVALUATE, representation.KIND)


def cases(
    kinds: Sequence[str], architectures: Sequence[str], batch_sizes: Sequence[int]
) -> list[Case]:
    """Lists the cases to measure; the hyper-representation has one for each of its networks."""
    result = [
        Case(kind, architecture, batch_size)
        for architecture in architectures
        for batch_size in batch_sizes
        for kind in kinds
        if kind != representation.KIND
    ]
    # Members that learn an image use all of its pixels in each step.
    own = own_images.has_own_images
    result = list(dict.fromkeys(own_images.full_batch(c) if own(c) else c for c in result))
    if representation.KIND in kinds:
        known = (name for name in architectures if name in representation.ARCHITECTURES)
        result += map(representation.case, known)
    return result


def backends(
    case: Case, members: Sequence[int], chunk: int | None, seconds: float
) -> Iterator[tuple[str, Measure]]:
    """Lists the backends that can compute a case.

    Args:
        case: the case to measure.
        members: member counts to train at once with torch.func.vmap and jax.vmap.
        chunk: members per device that zoojax trains at once; None chooses for this machine.
        seconds: length of one measurement.

    Yields:
        The name, and a function that measures it once and returns samples per second.
    """
    from zoojax.training import engine

    if case.kind == representation.KIND:
        yield from representation.backends(case, seconds)
        return
    import jax

    fastest = engine.engine(case.shape, jax.default_backend())
    if own_images.has_own_images(case):
        yield from _own_images(case, fastest, chunk, seconds)
        return
    yield ZOOJAX, population_program(case, fastest, chunk, seconds)
    if fastest != "xla":
        yield "zoojax on XLA", population_program(case, "xla", None, seconds)
    # Only zoojax trains with masks; in torch pruned members train like dense ones.
    if not (case.is_dense or case.is_variational):
        return
    if torch_worker.installed():
        yield TORCH, lambda: _torch(case, 1, seconds)
    if case.is_variational or case.kind == EVALUATE:
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


def _own_images(
    case: Case, fastest: str, chunk: int | None, seconds: float
) -> Iterator[tuple[str, Measure]]:
    """Lists the backends of members that learn one image each."""
    program = own_images.population_program
    yield ZOOJAX, program(case, fastest, chunk, seconds)
    if own_images.measures_sines(case):
        plain = program(case, fastest, chunk, seconds, sines=False)
        yield own_images.WITHOUT_SINES, plain
    if fastest != "xla":
        yield "zoojax on XLA", program(case, "xla", None, seconds)
    if (case.is_dense or case.is_variational) and torch_worker.installed():
        yield TORCH, lambda: _torch(case, 1, seconds)


def _torch(case: Case, members: int, seconds: float) -> float:
    """Measures torch in samples per second; single members train in one process per core."""
    single = members == 1 and torch_worker.device() == "cpu"
    task = {
        "architecture": case.architecture,
        "batch_size": case.batch_size,
        "variational": case.is_variational,
        "evaluation": case.kind == EVALUATE,
        "members": members,
        "seconds": seconds,
    }
    return torch_worker.speed(
        "zoojax.experiments.bench.torch_members", task, host.cpu_count() if single else 1
    )


def facts(measured: Iterable[tuple[Case, str]]) -> dict[str, Any]:
    """Describes the machine, the versions of the libraries, and the skipped backends.

    Args:
        measured: pairs of case and backend that were measured.
    """
    import jax

    from zoojax.api.common import versions
    from zoojax.ops import kernel

    device, result = jax.devices()[0], {}
    result["device"] = f"{jax.device_count()} x {_processor() or device.device_kind}"
    if device.platform == "cpu":
        spec = Case(DENSE, "small", 10).shape.kernel
        reason = kernel.unavailable_reason(spec) if spec else "no chain of operations"
        result["engine"] = f"XLA (no C++ kernel: {reason})" if reason else "C++ kernel"
    result["versions"] = ", ".join(f"{k} {v}" for k, v in versions().items() if k != "zoojax")
    if torch_worker.installed():
        result["versions"] += f", torch {metadata.version('torch')}"
    else:
        result["skipped"] = "torch: not installed (pip install 'zoojax[torch]')"
    for case in {case for case, _ in measured if case.kind == representation.KIND}:
        result |= representation.skipped(case)
    return result


def _processor() -> str | None:
    """Returns the CPU's name if JAX runs on the CPU and the system reports the name."""
    import jax

    if jax.default_backend() != "cpu":
        return None
    names = (line for line in host.cpu_fingerprint().splitlines() if line.startswith("model name"))
    return next((name.partition(":")[2].strip() for name in names), None)


def rows(
    speeds: dict[tuple[Case, str], list[float]], peak: float, bandwidth: float
) -> list[dict[str, Any]]:
    """Makes one row per case and backend.

    Args:
        speeds: samples per second of each repetition, by case and backend.
        peak: speed of matrix products on this machine, in GFLOP/s.
        bandwidth: speed of its memory, in GB/s.
    """
    result = []
    for (case, name), measured in speeds.items():
        dense = replace(case, kind=DENSE)
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
                # Variational dropout does much work besides matrix products.
                "share_of_gemm": None
                if case.is_variational
                else median * _flops(case) / 1e9 / peak,
                "share_of_ceiling": _share_of_ceiling(case, median, peak, bandwidth),
            }
        )
    return result


def _share_of_ceiling(case: Case, speed: float, peak: float, bandwidth: float) -> float | None:
    """Returns the speed relative to the lower of the two ceilings."""
    if case.kind == representation.KIND:
        return None
    # Variational dropout computes means and variances: two products in place of each one.
    products = flops(case) * (2 if case.is_variational else 1)
    return speed / min(1e9 * peak / products, 1e9 * bandwidth / traffic(case))


def _flops(case: Case) -> int:
    if case.kind == representation.KIND:
        return representation.flops(case)
    return flops(case)
