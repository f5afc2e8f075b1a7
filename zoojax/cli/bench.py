"""`zoojax bench`: speed compared with PyTorch and plain JAX, in one run."""

import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from zoojax.cli.options import Flag, option
from zoojax.errors import ZoojaxError
from zoojax.experiments.bench import backends, growth, scaling
from zoojax.experiments.bench.members import IMAGES, Case, gemm_peak
from zoojax.filesystem.atomic import atomic_write
from zoojax.runtime import host
from zoojax.runtime.startup import configure_jax


@dataclass(frozen=True)
class Bench:
    """Measure the throughput of training and evaluation next to torch and plain JAX.

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
        """Measures, and prints one row per case and backend."""
        measuring = self.kinds or self.growth or self.scaling
        if not (self.architectures and self.batch_sizes and measuring):
            raise ZoojaxError("give at least one architecture, one kind and one batch size")
        counts = (self.repetitions, *self.batch_sizes, *self.members, *self.growth)
        if min(counts) < 1 or self.seconds <= 0:
            raise ZoojaxError("give batch sizes, members, repetitions and seconds above 0")
        configure_jax()
        import polars as pl
        from rich.console import Console

        from zoojax.cli.terminal import say, show_json, show_rows

        speeds: dict[tuple[Case, str], list[float]] = {}
        peak: list[float] = []
        with Console(stderr=True).status("compiling") as status:
            products = gemm_peak(1.0)
            measures = {
                (case, name): measure
                for case in backends.cases(self.kinds, self.architectures, self.batch_sizes)
                for name, measure in backends.backends(case, self.members, self.chunk, self.seconds)
            }
            for repetition in range(1, self.repetitions + 1):
                peak.append(products())
                for (case, name), measure in measures.items():
                    what = f"{case.architecture} {case.kind} batch {case.batch_size}, {name}"
                    status.update(f"{what}: {repetition} of {self.repetitions}")
                    speeds.setdefault((case, name), []).append(measure())
            grown = []
            for members in self.growth:
                status.update(f"a zoo of {members} members")
                grown.append(growth.measured(members, IMAGES))
            scaled = []
            for topology in scaling.topologies(host.cpu_count()) if self.scaling else []:
                status.update(f"a zoo on {topology}")
                scaled.append(scaling.measured(topology))
        measured = backends.facts(speeds)
        facts = {**measured, "matrix products": f"{_spread(peak)} GFLOP/s"}
        rows = backends.rows(speeds, statistics.median(peak))
        if self.out is not None:
            text = _markdown(facts, rows, grown, scaled)
            atomic_write(self.out, lambda path: path.write_text(text))
        if self.json:
            products = {"gflops": peak, "median": statistics.median(peak)}
            tables = {"rows": rows, "growth": grown, "scaling": scaled}
            show_json({**measured, "matrix products": products, **tables})
            return
        say(*(f"{name}: {value}" for name, value in facts.items()))
        if rows:
            show_rows(pl.DataFrame(_shown(rows)))
        if grown:
            show_rows(pl.DataFrame(_shown_growth(grown)))
        if scaled:
            show_rows(pl.DataFrame(_shown_scaling(scaled)))


def _shown(rows: list[dict[str, Any]]) -> list[dict[str, str]]:
    return [
        {
            "CNN": row["architecture"],
            "batch": str(row["batch_size"]),
            "kind": row["kind"],
            "": row["backend"],
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
