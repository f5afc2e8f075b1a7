"""Results of `bench` as text: tables for the terminal, and a Markdown file."""

import statistics
from typing import Any

from zoojax.experiments.bench.members import IMAGES
from zoojax.experiments.bench.results import Benchmark


def _speeds(rows: list[dict[str, Any]]) -> list[dict[str, str]]:
    return [
        {
            "network": row["architecture"],
            "batch": str(row["batch_size"]),
            "kind": row["kind"],
            "": row["backend"],
            "samples/s (range)": _spread(row["samples_per_second"]),
            "x torch": "" if row["times_torch"] is None else f"{row['times_torch']:.2f}",
            "of GEMM": "" if row["share_of_gemm"] is None else f"{row['share_of_gemm']:.0%}",
            "of ceiling": ""
            if row["share_of_ceiling"] is None
            else f"{row['share_of_ceiling']:.0%}",
        }
        for row in rows
    ]


def _member_scaling(rows: list[dict[str, Any]]) -> list[dict[str, str]]:
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


def _device_scaling(rows: list[dict[str, Any]]) -> list[dict[str, str]]:
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


def facts(result: Benchmark) -> dict[str, Any]:
    """Returns the facts about the machine by name, with the speed of matrix products."""
    return {
        **result.facts,
        "matrix products": f"{_spread(result.gflops)} GFLOP/s",
        "memory": f"{_spread(result.gigabytes)} GB/s",
    }


def tables(result: Benchmark) -> list[list[dict[str, str]]]:
    """Returns the rows of each table that has any, as text by column."""
    formatted = [
        _speeds(result.rows),
        _member_scaling(result.member_scaling),
        _device_scaling(result.device_scaling) if result.device_scaling else [],
    ]
    return [rows for rows in formatted if rows]


def markdown(result: Benchmark) -> str:
    """Returns all results as the text of a Markdown file."""
    lines = [
        "# Speed",
        "",
        "Written by `zoojax bench --out`; see `zoojax bench --help`.",
        "",
    ]
    lines += [f"- {name}: {value}" for name, value in facts(result).items()]
    if result.rows:
        lines += _table(_speeds(result.rows), "|---|--:|---|---|--:|--:|--:|")
    if result.member_scaling:
        lines += ["", f"Training runs of the small CNN, {IMAGES:,} images, batch size 10:"]
        lines += _table(_member_scaling(result.member_scaling), "|--:|--:|--:|--:|--:|")
    if result.device_scaling:
        lines += ["", "One zoo on devices and processes of this machine, and independent zoos:"]
        lines += _table(_device_scaling(result.device_scaling), "|---|--:|--:|--:|--:|")
    return "\n".join([*lines, ""])


def _table(rows: list[dict[str, str]], columns: str) -> list[str]:
    lines = ["", "| " + " | ".join(rows[0]) + " |", columns]
    return [*lines, *("| " + " | ".join(row.values()) + " |" for row in rows)]


def _spread(speeds: list[float]) -> str:
    return f"{statistics.median(speeds):,.0f} ({min(speeds):,.0f} to {max(speeds):,.0f})"
