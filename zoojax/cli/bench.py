"""`zoojax bench`: speed compared with PyTorch and plain JAX, in one run."""

import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from zoojax.cli.options import Flag, option
from zoojax.errors import ZoojaxError
from zoojax.experiments.bench import backends, device_scaling, member_scaling
from zoojax.experiments.bench.members import IMAGES, Case, gemm_peak
from zoojax.filesystem.atomic import atomic_write
from zoojax.runtime import host
from zoojax.runtime.startup import configure_jax
from zoojax.text import printable


@dataclass(frozen=True)
class Bench:
    """Measure the speed of training and evaluation, compared with PyTorch and plain JAX.

    All backends use the same synthetic images. Their measurements alternate, and exclude
    compilation and warm-up. A sample is one image seen by one member; for the kind
    "representation", one state seen by the autoencoder of the preset "small".
    Example: zoojax bench --architectures small large --batch-sizes 10 64
    """

    OLD_OPTIONS: ClassVar = {"--growth": "--member-scaling", "--scaling": "--device-scaling"}

    architectures: tuple[Literal["small", "large"], ...] = ("small",)
    """Architectures to measure."""

    kinds: Annotated[tuple[str, ...] | None, option("KIND ...")] = None
    """What to measure (default: everything): training of members without sparsification (dense)
    or with a sparsifier (its abbreviation in lower case, such as mp), evaluation of members
    (evaluate), and training of a hyper-representation (representation)."""

    batch_sizes: Annotated[tuple[int, ...], option("N ...")] = (10,)
    """Images per step."""

    members: Annotated[tuple[int, ...], option("N ...")] = (16, 64)
    """Members to train at once with torch.func.vmap and jax.vmap."""

    repetitions: Annotated[int, option("N")] = 5
    """Number of measurements; the median and the range are shown."""

    seconds: Annotated[float, option("SECONDS")] = 3.0
    """Length of each measurement."""

    chunk: Annotated[int | None, option("N")] = None
    """Members that a core or GPU trains at once (default: chosen for this machine)."""

    member_scaling: Annotated[tuple[int, ...], option("N ...")] = ()
    """Also train zoos with these numbers of members, each in a separate process, and show
    the time per epoch, the time to save it, and the memory."""

    device_scaling: Flag = False
    """Also train zoos on several devices and processes, and show the scaling efficiency."""

    out: Annotated[Path | None, option("FILE")] = None
    """Also write the results to this Markdown file."""

    json: Flag = False
    """Print JSON on standard output."""

    def run(self) -> None:
        """Measures all cases and prints one row per case and backend."""
        everything = self.kinds is None
        requested = everything or self.kinds or self.member_scaling or self.device_scaling
        if not (self.architectures and self.batch_sizes and requested):
            raise ZoojaxError("give at least one architecture, one kind and one batch size")
        counts = (self.repetitions, *self.batch_sizes, *self.members, *self.member_scaling)
        if min(counts) < 1 or self.seconds <= 0:
            raise ZoojaxError("give batch sizes, members, repetitions and seconds above 0")
        configure_jax()
        kinds = self._kinds()
        import polars as pl
        from rich.console import Console

        from zoojax.cli.terminal import say, show_json, show_rows

        speeds: dict[tuple[Case, str], list[float]] = {}
        peak: list[float] = []
        with Console(stderr=True).status("compiling") as status:
            products = gemm_peak(1.0)
            measures = {
                (case, name): measure
                for case in backends.cases(kinds, self.architectures, self.batch_sizes)
                for name, measure in backends.backends(case, self.members, self.chunk, self.seconds)
            }
            for repetition in range(1, self.repetitions + 1):
                peak.append(products())
                for (case, name), measure in measures.items():
                    what = f"{case.architecture} {case.kind} batch {case.batch_size}, {name}"
                    status.update(f"{what}: {repetition} of {self.repetitions}")
                    speeds.setdefault((case, name), []).append(measure())
            by_members = []
            for members in self.member_scaling:
                status.update(f"a zoo of {members} members")
                by_members.append(member_scaling.measure(members, IMAGES))
            by_devices = []
            count = host.cpu_count()
            for topology in device_scaling.topologies(count) if self.device_scaling else []:
                status.update(f"a zoo on {topology}")
                by_devices.append(device_scaling.measure(topology))
        measured = backends.facts(speeds)
        facts = {**measured, "matrix products": f"{_spread(peak)} GFLOP/s"}
        rows = backends.rows(speeds, statistics.median(peak))
        if self.out is not None:
            text = _markdown(facts, rows, by_members, by_devices)
            atomic_write(self.out, lambda path: path.write_text(text))
        if self.json:
            products = {"gflops": peak, "median": statistics.median(peak)}
            tables = {"rows": rows, "growth": by_members, "scaling": by_devices}
            show_json({**measured, "matrix products": products, **tables})
            return
        say(*(f"{name}: {value}" for name, value in facts.items()))
        if rows:
            show_rows(pl.DataFrame(_format_speeds(rows)))
        if by_members:
            show_rows(pl.DataFrame(_format_member_scaling(by_members)))
        if by_devices:
            show_rows(pl.DataFrame(_format_device_scaling(by_devices)))

    def _kinds(self) -> tuple[str, ...]:
        """Returns the kinds to measure.

        Raises:
            ZoojaxError: one of the requested kinds does not exist.
        """
        known = backends.kinds()
        for kind in self.kinds or ():
            if kind not in known:
                raise ZoojaxError(
                    f"--kinds is '{printable(kind, 80)}'; give some of {', '.join(known)}"
                )
        return known if self.kinds is None else self.kinds


def _format_speeds(rows: list[dict[str, Any]]) -> list[dict[str, str]]:
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


def _format_member_scaling(rows: list[dict[str, Any]]) -> list[dict[str, str]]:
    return [
        {
            "members": f"{row['members']:,}",
            "s per epoch": f"{row['epoch_seconds']:.2f}",
            "ms per epoch and member": f"{1e3 * row['epoch_seconds'] / row['members']:.2f}",
            "saving": f"{row['saving_seconds'] / row['epoch_seconds']:.1%}",
            "memory, MiB": f"{row['memory_bytes'] / 2**20:,.0f}",
        }
        for row in rows
    ]


def _format_device_scaling(rows: list[dict[str, Any]]) -> list[dict[str, str]]:
    baseline = rows[0]["samples_per_second"]
    return [
        {
            "small CNN, batch 10": row["topology"],
            "members": f"{row['members']:,}",
            "samples/s": f"{row['samples_per_second']:,.0f}",
            "relative to independent zoos": f"{row['samples_per_second'] / baseline:.0%}",
            "gathering and saving": f"{row['saving']:.1%}",
        }
        for row in rows
    ]


def _markdown(
    facts: dict[str, Any],
    rows: list[dict[str, Any]],
    by_members: list[dict[str, Any]],
    by_devices: list[dict[str, Any]],
) -> str:
    lines = [
        "# Speed",
        "",
        "Written by `zoojax bench --out`; see `zoojax bench --help`.",
        "",
    ]
    lines += [f"- {name}: {value}" for name, value in facts.items()]
    lines += _table(_format_speeds(rows), "|---|--:|---|---|--:|--:|--:|") if rows else []
    if by_members:
        lines += ["", f"Training runs of the small CNN, {IMAGES:,} images, batch size 10:"]
        lines += _table(_format_member_scaling(by_members), "|--:|--:|--:|--:|--:|")
    if by_devices:
        lines += ["", "One zoo on devices and processes of this machine, and independent zoos:"]
        lines += _table(_format_device_scaling(by_devices), "|---|--:|--:|--:|--:|")
    return "\n".join([*lines, ""])


def _table(rows: list[dict[str, str]], columns: str) -> list[str]:
    lines = ["", "| " + " | ".join(rows[0]) + " |", columns]
    return [*lines, *("| " + " | ".join(row.values()) + " |" for row in rows)]


def _spread(speeds: list[float]) -> str:
    return f"{statistics.median(speeds):,.0f} ({min(speeds):,.0f} to {max(speeds):,.0f})"
