"""The data of the report page: members, populations, tables and texts, as JSON values."""

import base64
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from zoojax.analysis import Analysis, paper
from zoojax.analysis.pairing import hyperparameters
from zoojax.analysis.results import Method
from zoojax.filesystem.reading import MIB, read_bytes
from zoojax.report.representation import representation
from zoojax.report.summary import cards, percent
from zoojax.report.tables import number, tables
from zoojax.text import printable

# Metrics that the page draws for every member and epoch, and their ranges.
_METRICS = {"test_acc": (0, 1), "train_acc": (0, 1), "ggap": (-1, 1), "sparsity": (0, 1)}
# Code of non-finite values, and largest code of finite ones.
_NULL, _MAX_CODE = 65535, 65534
_MAX_FIGURE_SIZE = 64 * MIB
_CAPTIONS = {
    "trajectories": "Test accuracy over epochs: mean and standard deviation over members.",
    "pruning_frequency": "Fraction of members in which each single weight is zero, by layer "
    "(Figure 3 of the paper).",
    "layer_size": "Sparsity of each layer over its number of weights (Figure 4 of the paper).",
    "accuracy_over_sparsity": "Mean test accuracy over sparsity, by method "
    "(Figure 5 of the paper).",
    "agreement_matrix": "Agreement of every pair of members: the fraction of test images for "
    "which both predict the same class.",
    "correlation": "Test accuracy after sparsification over test accuracy before it, one dot per "
    "member.",
    "representation_map": "Hyper-representation: two principal components of the embeddings, by "
    "property.",
    "representation_reconstruction": "Reconstructed weights and log alphas over the true ones, for "
    "held-out members.",
    "representation_losses": "Parts of the autoencoder's loss over its training epochs.",
}


def payload(analysis: Analysis, figures: dict[str, Path]) -> dict[str, Any]:
    """All data that is embedded in the page.

    Args:
        analysis: the analysis.
        figures: PNG files by name.

    Returns:
        Values that `json` can serialize.

    Raises:
        ZoojaxError: a figure cannot be read.
    """
    members = analysis.tables["members"]
    dense = (
        members.filter(pl.col("method") == "dense").unique("member", keep="first").sort("member")
    )
    position = {member: row for row, member in enumerate(dense["member"].to_list())}
    return {
        "zoo": _zoo(analysis, len(dense)),
        "methods": [_method(method) for method in analysis.methods],
        "notes": [printable(note, 2000) for note in analysis.notes],
        "cards": cards(analysis),
        "members": {
            "id": dense["member"].to_list(),
            "seed": dense["seed"].to_list(),
            "hyper": {
                n: [_safe(v) for v in dense[n].to_list()] for n in _hyperparameters(analysis)
            },
        },
        "populations": _populations(analysis, members, position),
        "representation": representation(analysis),
        "tables": tables(analysis),
        "figures": [_figure(name, path) for name, path in figures.items()],
        "versions": {
            printable(name, 60): printable(version, 60)
            for name, version in sorted(analysis.zoo.config.versions.items())
        },
        "source": paper.SOURCE,
    }


def _safe(value: Any) -> Any:
    return printable(value, 60) if isinstance(value, str) else number(value)


def _hyperparameters(analysis: Analysis) -> list[str]:
    columns = analysis.tables["members"].columns
    return [name for name in hyperparameters(analysis.zoo) if name in columns]


def _zoo(analysis: Analysis, members: int) -> dict[str, Any]:
    """The header: name, one sentence on the zoo, and one per twin."""
    config = analysis.zoo.config
    images = "its own images" if config.data is None else f"data set {printable(config.data.name)}"
    parts = [
        f"{members} member{'s' * (members != 1)} of the {config.shape.label} "
        f"({config.shape.size}x{config.shape.size}x{config.channels} images, "
        f"{config.classes} classes), trained on {images} for {config.epochs} epochs"
    ]
    if config.preset:
        parts.append(f"preset {printable(config.preset)}")
    return {
        "name": printable(config.name),
        "about": ", ".join(parts) + ".",
        "twins": [_twin(method) for method in analysis.twin_methods()],
    }


def _method(method: Method) -> dict[str, Any]:
    """What the page needs to know of a method."""
    return {
        "key": method.key,
        "label": printable(method.label),
        "short": method.short,
        "color": method.color,
        "sweep": method.sweep,
    }


def _twin(method: Method) -> str:
    """One sentence on a twin."""
    config, sparsifier = method.zoo.config, method.sparsifier
    label = sparsifier.label[:1].upper() + sparsifier.label[1:]
    parts = [printable(config.name), printable(sparsifier.describe())]
    text = f"{label} ({method.short}): {', '.join(filter(None, parts))}"
    if config.parent is not None:
        text += f" from epoch {config.parent.epoch}"
    if method.sweep == "ratio":
        ratios = method.zoo.members_table["ratio"].unique().sort().to_list()
        text += f" at {', '.join(percent(ratio, 0) for ratio in ratios)}"
    if method.fine_tunes:
        return f"{text}, then {config.epochs} epochs of fine-tuning."
    return f"{text}, {config.epochs} epochs."


def _populations(
    analysis: Analysis, members: pl.DataFrame, position: dict[int, int]
) -> list[dict[str, Any]]:
    """The dense zoo, and each twin by pruning ratio, with all metrics."""
    result = []
    for method in analysis.methods:
        rows = members.filter(pl.col("method") == method.key)
        parent = method.zoo.config.parent
        for ratio in rows["ratio"].unique().sort().to_list():
            part = rows.filter(pl.col("ratio").eq_missing(pl.lit(ratio, pl.Float64)))
            result.append(
                {
                    "method": method.key,
                    "ratio": ratio,
                    "label": method.short
                    if ratio is None
                    else f"{method.short} {percent(ratio, 0)}",
                    "start": None if parent is None else parent.epoch,
                    **_arrays(part, position),
                    "correlation": _correlations(analysis, method.key, ratio, part),
                }
            )
    return result


def _arrays(rows: pl.DataFrame, position: dict[int, int]) -> dict[str, Any]:
    """Encoded metrics of one population, each [members, epochs]."""
    ids, epochs = (rows[name].unique().sort() for name in ("member", "epoch"))
    at = (np.searchsorted(ids, rows["member"]), np.searchsorted(epochs, rows["epoch"]))
    parents = np.full(len(ids), -1)
    parents[at[0]] = [position.get(p, -1) for p in _parents(rows)]
    values = {}
    for name, (low, high) in _METRICS.items():
        grid = np.full((len(ids), len(epochs)), np.nan)
        grid[at] = np.where(rows["finite"].to_numpy(), rows[name].to_numpy(), np.nan)
        values[name] = {"low": low, "high": high, "codes": _encode(grid, low, high)}
    return {
        "member": ids.to_list(),
        "parent": parents.tolist(),
        "epochs": epochs.to_list(),
        "values": values,
    }


def _parents(rows: pl.DataFrame) -> list[int]:
    """The parent of each row; dense members are their own parents."""
    return rows.select(pl.coalesce("parent_id", "member"))["parent_id"].to_list()


def _encode(values: np.ndarray, low: float, high: float) -> str:
    """Encodes values as base64 of little-endian uint16: low is 0, high 65534, non-finite 65535."""
    finite = np.isfinite(values)
    scaled = (np.where(finite, values, low) - low) / (high - low)
    codes = np.rint(np.clip(scaled, 0, 1) * _MAX_CODE)
    return base64.b64encode(np.where(finite, codes, _NULL).astype("<u2").tobytes()).decode()


def _correlations(
    analysis: Analysis, method: str, ratio: float | None, rows: pl.DataFrame
) -> list[dict[str, float | None] | None]:
    """Pearson's r and Kendall's tau with their intervals, one entry per epoch."""
    table = analysis.tables.get("correlation", pl.DataFrame())
    epochs = rows["epoch"].unique().sort().to_list()
    if table.is_empty():
        return [None] * len(epochs)
    rows_here = table.filter(
        pl.col("method") == method,
        pl.col("ratio").eq_missing(pl.lit(ratio, pl.Float64)),
        pl.col("pearson").is_not_null(),
    )
    names = [f"{n}{end}" for n in ("pearson", "kendall") for end in ("", "_low", "_high")]
    cells = {row["epoch"]: {n: number(row[n]) for n in names} for row in rows_here.to_dicts()}
    return [cells.get(epoch) for epoch in epochs]


def _figure(name: str, path: Path) -> dict[str, str]:
    image = read_bytes(path, _MAX_FIGURE_SIZE)
    caption = _CAPTIONS.get(name) or name.replace("_", " ").capitalize() + "."
    return {
        "name": name,
        "caption": caption,
        "source": f"data:image/png;base64,{base64.b64encode(image).decode()}",
    }
