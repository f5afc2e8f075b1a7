"""Geometry of a zoo: barriers, basins of sparse twins, and mask transfer.

    python -m zoojax.experiments.geometry --members 64 --out runs/geometry

Trains the zoo and its magnitude-pruned twin (ratio 0 is fine-tuning without pruning, the control
for whether twins leave the basins of their parents), measures barriers, overlap of masks,
similarity and curvature, and transfers masks between pairs of members. Results are in
OUT/PRESET/geometry: tables (Parquet and CSV), figures (SVG and PNG), and results.md, which
docs/geometry.md cites. Rerun the command to resume an interrupted run.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from zoojax import Zoo, analyze
from zoojax.experiments import common
from zoojax.filesystem.atomic import atomic_write, make_folder
from zoojax.workflows.geometry import basins, mask_transfer

# Columns of results.md that are fractions.
_FRACTIONS = ("ratio", "acc_barrier", "test_acc", "to_own", "to_random", "sparsity")


def reproduce(options: argparse.Namespace, name: str) -> Path:
    """Trains a preset's zoo and its twin, and measures their geometry.

    Returns:
        The file with the results as Markdown tables.
    """
    zoo = common.dense_zoo(options, name)
    twin = common.pruned_zoo(options, name, zoo)
    folder = options.out / name / "geometry"
    _step(name, "barriers and overlap of masks")
    found = basins(zoo, twin, out=folder / "basins", data_dir=options.data_dir)
    _step(name, "mask transfer")
    found |= mask_transfer(zoo, twin, folder / "transfer", data_dir=options.data_dir)
    _step(name, "similarity and curvature")
    analysis = analyze(
        zoo, twin, out=folder / "analysis", geometry=True, data_dir=options.data_dir, quiet=True
    )
    tables = analysis.tables
    sections = {
        "Barriers": found["barriers"].drop("target_acc", "source_acc", strict=False),
        "Overlap of masks": found["masks"],
        "Mask transfer": found["transfer"],
        "Curvature": tables.get("geometry_curvature", pl.DataFrame()),
        "Weight space by epoch": _some_epochs(tables.get("geometry_similarity", pl.DataFrame())),
        "Similarity of layers (CKA)": tables.get("geometry_layers", pl.DataFrame()),
    }
    return _save(folder, zoo, sections)


def _step(name: str, what: str) -> None:
    print(f"{name}: {what}", file=sys.stderr, flush=True)


def _some_epochs(table: pl.DataFrame) -> pl.DataFrame:
    """Rows of six epochs, the first and the last included."""
    if len(table) <= 6:
        return table
    rows = [round(i * (len(table) - 1) / 5) for i in range(6)]
    return table[rows]


def _save(folder: Path, zoo: Zoo, sections: dict[str, pl.DataFrame]) -> Path:
    """Writes Markdown tables with the intervals in the cells of their means."""
    make_folder(folder)
    texts = [f"Zoo {zoo.config.name}, {len(zoo)} members. Means with 95 % intervals."]
    for title, table in sections.items():
        if len(table):
            texts.append(f"## {title}\n\n{_markdown(table)}")
    path, text = folder / "results.md", "\n\n".join(texts) + "\n"
    atomic_write(path, lambda file: file.write_text(text, "utf-8"))
    print(text)
    print(path)
    return path


def _markdown(table: pl.DataFrame) -> str:
    names = [n for n in table.columns if not n.endswith(("_low", "_high"))]
    lines: list[Sequence[str]] = [[n.replace("_", " ") for n in names], ["---"] * len(names)]
    lines += [[_cell(row, n) for n in names] for row in table.iter_rows(named=True)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cell(row: dict, name: str) -> str:
    values = [row.get(f"{name}{end}") for end in ("", "_low", "_high")]
    if not isinstance(values[0], float):
        return "" if values[0] is None else str(values[0])
    scale, digits = (100, ".4g") if name in _FRACTIONS else (1, ".4g")
    unit = " %" if name in ("ratio", "sparsity") else ""
    mean, low, high = (None if v is None else f"{scale * v:{digits}}" for v in values)
    text = f"{mean}{unit}"
    return text if low is None or high is None else f"{text} [{low}, {high}]"


def main(arguments: list[str] | None = None) -> None:
    """Trains the zoos, then prints and writes the results."""
    options = common.parser("geometry", __doc__).parse_args(arguments)
    for name in options.presets:
        reproduce(options, name)


if __name__ == "__main__":
    raise SystemExit(common.run(main))
