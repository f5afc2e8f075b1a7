"""`zoojax bench`: speed beside what one has without zoojax, in one run."""

import functools
import statistics
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Literal

from experiments import bench_growth, bench_representation, bench_scaling, bench_torch
from experiments.bench_cases import IMAGES, Case, Measure, flops, gemm_peak, population_program
from experiments.options import Flag, option, prepare_jax
from zoojax import machine
from zoojax.errors import ZoojaxError
from zoojax.files import write_beside

_OURS = "zoojax"
_TORCH = "one torch process per core"


@dataclass(frozen=True)
class Bench:
    """Measure the throughput of training and evaluation beside torch and plain JAX.

    All take synthetic images of the same shape; repetitions alternate, compilation and
    warm-up are left out. A sample is one image seen by one member; of the kind
    "representation", one state that the autoencoder of the preset "small" is trained on.
    Example: zoojax bench --architectures small large --batch-sizes 10 64
    """

    architectures: tuple[Literal["small", "large"], ...] = ("small",)
    """Which CNNs."""

    kinds: tuple[Literal["dense", "mp", "vd", "evaluate", "representation"], ...] = (
        *("dense", "mp", "vd", "evaluate", "representation"),
    )
    """Training of dense, pruned and variational-dropout members, their evaluation, and
    training of a hyper-representation."""

    batch_sizes: Annotated[tuple[int, ...], option("N ...")] = (10,)
    """Images a step."""

    members: Annotated[tuple[int, ...], option("N ...")] = (16, 64)
    """Members that torch.func.vmap and jax.vmap train at once."""

    repetitions: Annotated[int, option("N")] = 5
    """Measurements of each; the median and the range are shown."""

    seconds: Annotated[float, option("SECONDS")] = 3.0
    """Length of each measurement."""

    chunk: Annotated[int | None, option("N")] = None
    """Members that a core or GPU trains at once (default: chosen for the machine)."""

    growth: Annotated[tuple[int, ...], option("N ...")] = ()
    """Also train whole zoos of so many members, each in a process of its own, and show what
    an epoch and its saving take, and the memory."""

    scaling: Flag = False
    """Also train zoos over several devices and processes, and show how well that scales."""

    out: Annotated[Path | None, option("FILE")] = None
    """Write the result into this Markdown file as well."""

    json: Flag = False
    """Print JSON on standard output."""

    def run(self) -> None:
        """Measures, and prints a row a case and contestant."""
        measuring = self.kinds or self.growth or self.scaling
        if not (self.architectures and self.batch_sizes and measuring):
            raise ZoojaxError("give at least one architecture, one kind and one batch size")
        counts = (self.repetitions, *self.batch_sizes, *self.members, *self.growth)
        if min(counts) < 1 or self.seconds <= 0:
            raise ZoojaxError("give batch sizes, members, repetitions and seconds above 0")
        prepare_jax()
        import polars as pl
        from rich.console import Console

        from experiments.tables import say, show_json, show_rows

        speeds: dict[tuple[Case, str], list[float]] = {}
        peak: list[float] = []
        with Console(stderr=True).status("compiling") as status:
            products = gemm_peak(1.0)
            contestants = {
                (case, name): m for case in self._cases() for name, m in self._contestants(case)
            }
            for repetition in range(1, self.repetitions + 1):
                peak.append(products())
                for (case, name), measure in contestants.items():
                    what = f"{case.architecture} {case.kind} batch {case.batch_size}, {name}"
                    status.update(f"{what}: {repetition} of {self.repetitions}")
                    speeds.setdefault((case, name), []).append(measure())
            growth = []
            for members in self.growth:
                status.update(f"a zoo of {members} members")
                growth.append(bench_growth.measured(members, IMAGES))
            scaling = []
            for topology in bench_scaling.topologies(machine.cores()) if self.scaling else []:
                status.update(f"a zoo on {topology}")
                scaling.append(bench_scaling.measured(topology))
        measured = _facts(speeds)
        facts = {**measured, "matrix products": f"{_spread(peak)} GFLOP/s"}
        rows = _rows(speeds, statistics.median(peak))
        if self.out is not None:
            text = _markdown(facts, rows, growth, scaling)
            write_beside(self.out, lambda path: path.write_text(text))
        if self.json:
            products = {"gflops": peak, "median": statistics.median(peak)}
            tables = {"rows": rows, "growth": growth, "scaling": scaling}
            show_json({**measured, "matrix products": products, **tables})
            return
        say(*(f"{name}: {value}" for name, value in facts.items()))
        if rows:
            show_rows(pl.DataFrame(_shown(rows)))
        if growth:
            show_rows(pl.DataFrame(_shown_growth(growth)))
        if scaling:
            show_rows(pl.DataFrame(_shown_scaling(scaling)))

    def _cases(self) -> list[Case]:
        of_members = [kind for kind in self.kinds if kind != bench_representation.KIND]
        cases = [
            Case(kind, architecture, batch_size)
            for architecture in self.architectures
            for batch_size in self.batch_sizes
            for kind in of_members
        ]
        if bench_representation.KIND in self.kinds:
            cases += map(bench_representation.case, self.architectures)
        return cases

    def _contestants(self, case: Case) -> Iterator[tuple[str, Measure]]:
        """Who trains a case: (name, what measures it once)."""
        if case.kind == bench_representation.KIND:
            yield from bench_representation.contestants(case, self.seconds)
            return
        import jax

        from zoojax import network

        engine = network.engine(case.shape, jax.default_backend())
        yield _OURS, population_program(case, engine, self.chunk, self.seconds)
        if engine != "xla":
            yield "zoojax on XLA", population_program(case, "xla", None, self.seconds)
        # Nobody else has masked training; torch's pruned members train as dense ones do.
        if case.kind == "mp":
            return
        if bench_torch.installed():
            yield _TORCH, lambda: _torch(case, 1, self.seconds)
        if case.kind != "dense":
            return
        for members in self.members:
            if bench_torch.installed():
                name = f"torch.func.vmap, {members} members"
                yield name, functools.partial(_torch, case, members, self.seconds)
            if members % jax.device_count() == 0:
                name = f"jax.vmap of lax.conv, {members} members"
                share = members // jax.device_count()
                yield name, population_program(case, "vmap", share, self.seconds)


def _torch(case: Case, members: int, seconds: float) -> float:
    """Samples per second of torch: of single members one process a core, summed."""
    single = members == 1 and bench_torch.device() == "cpu"
    task = {**asdict(case), "members": members, "seconds": seconds}
    return bench_torch.speed("converters.torch_speed", task, machine.cores() if single else 1)


def _facts(measured: Iterable[tuple[Case, str]]) -> dict[str, Any]:
    """What it was measured on, and what could not be."""
    import jax

    from zoojax.making import versions
    from zoojax.ops import kernel

    device, facts = jax.devices()[0], {}
    facts["device"] = f"{jax.device_count()} x {_processor() or device.device_kind}"
    if device.platform == "cpu":
        reason = kernel.why_not(Case("dense", "small", 10).shape)
        facts["engine"] = f"XLA (no C++ kernel: {reason})" if reason else "C++ kernel"
    facts["versions"] = ", ".join(f"{k} {v}" for k, v in versions().items() if k != "zoojax")
    if bench_torch.installed():
        facts["versions"] += f", torch {metadata.version('torch')}"
    else:
        facts["left out"] = "torch: not installed (pip install 'zoojax[torch]')"
    for case in {case for case, _ in measured if case.kind == bench_representation.KIND}:
        facts |= bench_representation.left_out(case)
    return facts


def _processor() -> str | None:
    """The CPU's name, where it is what computes and the system tells."""
    import jax

    if jax.default_backend() != "cpu":
        return None
    names = (line for line in machine.processor().splitlines() if line.startswith("model name"))
    return next((name.partition(":")[2].strip() for name in names), None)


def _rows(speeds: dict[tuple[Case, str], list[float]], peak: float) -> list[dict[str, Any]]:
    """A row a case and contestant.

    Args:
        speeds: samples per second, every repetition.
        peak: GFLOP/s of matrix products.
    """
    rows = []
    for (case, name), measured in speeds.items():
        dense = replace(case, kind="dense")
        peers = [(case, _TORCH), (dense, _TORCH), (case, bench_representation.EAGER)]
        torch = next((speeds[peer] for peer in peers if peer in speeds), None)
        median = statistics.median(measured)
        rows.append(
            {
                **asdict(case),
                "contestant": name,
                "samples_per_second": measured,
                "median": median,
                "times_torch": median / statistics.median(torch) if torch else None,
                # Variational dropout has other work than products.
                "share_of_gemm": None if case.kind == "vd" else median * _flops(case) / 1e9 / peak,
            }
        )
    return rows


def _flops(case: Case) -> int:
    representation = case.kind == bench_representation.KIND
    return bench_representation.flops(case) if representation else flops(case)


def _shown(rows: list[dict[str, Any]]) -> list[dict[str, str]]:
    return [
        {
            "CNN": row["architecture"],
            "batch": str(row["batch_size"]),
            "kind": row["kind"],
            "": row["contestant"],
            "samples/s (range)": _spread(row["samples_per_second"]),
            "x torch": "" if row["times_torch"] is None else f"{row['times_torch']:.2f}",
            "of GEMM": "" if row["share_of_gemm"] is None else f"{row['share_of_gemm']:.0%}",
        }
        for row in rows
    ]


def _shown_growth(growth: list[dict[str, Any]]) -> list[dict[str, str]]:
    return [
        {
            "members": f"{row['members']:,}",
            "s an epoch": f"{row['epoch_seconds']:.2f}",
            "ms an epoch and member": f"{1e3 * row['epoch_seconds'] / row['members']:.2f}",
            "of it saving": f"{row['saving_seconds'] / row['epoch_seconds']:.1%}",
            "memory, MiB": f"{row['memory_bytes'] / 2**20:,.0f}",
        }
        for row in growth
    ]


def _shown_scaling(scaling: list[dict[str, Any]]) -> list[dict[str, str]]:
    apart = scaling[0]["samples_per_second"]
    return [
        {
            "small CNN, batch 10": row["topology"],
            "members": f"{row['members']:,}",
            "samples/s": f"{row['samples_per_second']:,.0f}",
            "of zoos apart": f"{row['samples_per_second'] / apart:.0%}",
            "gathering and saving": f"{row['saving']:.1%}",
        }
        for row in scaling
    ]


def _markdown(
    facts: dict[str, Any],
    rows: list[dict[str, Any]],
    growth: list[dict[str, Any]],
    scaling: list[dict[str, Any]],
) -> str:
    lines = [
        "# Speed",
        "",
        "Written by `zoojax bench --out`; see `zoojax bench --help`.",
        "",
    ]
    lines += [f"- {name}: {value}" for name, value in facts.items()]
    lines += _table(_shown(rows), "|---|--:|---|---|--:|--:|--:|") if rows else []
    if growth:
        lines += ["", f"Whole runs of the small CNN, {IMAGES:,} images an epoch, batch 10:"]
        lines += _table(_shown_growth(growth), "|--:|--:|--:|--:|--:|")
    if scaling:
        lines += ["", "One zoo over devices and processes of this machine, beside zoos apart:"]
        lines += _table(_shown_scaling(scaling), "|---|--:|--:|--:|--:|")
    return "\n".join([*lines, ""])


def _table(rows: list[dict[str, str]], columns: str) -> list[str]:
    lines = ["", "| " + " | ".join(rows[0]) + " |", columns]
    return [*lines, *("| " + " | ".join(row.values()) + " |" for row in rows)]


def _spread(speeds: list[float]) -> str:
    return f"{statistics.median(speeds):,.0f} ({min(speeds):,.0f} to {max(speeds):,.0f})"
