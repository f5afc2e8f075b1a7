"""What the report page knows, as JSON: members, populations, tables, words."""

import base64
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from zoojax.analysis import Analysis, paper
from zoojax.analysis.pairing import hyperparameters
from zoojax.filesystem.reading import MIB, read_bytes
from zoojax.report.representation import representation
from zoojax.report.summary import cards, percent
from zoojax.report.tables import number, tables
from zoojax.storage.zoo import Zoo
from zoojax.text import printable

# What the page draws of every member and epoch, and between which values it may lie.
_METRICS = {"test_acc": (0, 1), "train_acc": (0, 1), "ggap": (-1, 1), "sparsity": (0, 1)}
# The code of a number that is not finite, and the highest of those that are.
_NULL, _HIGHEST = 65535, 65534
_LARGEST_FIGURE = 64 * MIB
_CAPTIONS = {
    "trajectories": "Test accuracy over epochs: mean and standard deviation over members.",
    "pruning_frequency": "How often each single weight is zero over the members, by layer "
    "(Figure 3 of the paper).",
    "layer_size": "Sparsity of a layer against its number of weights (Figure 4 of the paper).",
    "accuracy_over_sparsity": "Mean test accuracy over sparsity, by method "
    "(Figure 5 of the paper).",
    "agreement_matrix": "Agreement of every pair of members: the share of test images on which "
    "both predict the same class.",
    "correlation": "Test accuracy before sparsification against after it, a dot a member.",
    "representation_map": "Hyper-representation: two principal components of the embeddings, by "
    "property.",
    "representation_reconstruction": "Reconstructed weights and log alphas over the true ones, of "
    "members held out.",
    "representation_losses": "Parts of the autoencoder's loss over its training.",
}


def payload(found: Analysis, figures: dict[str, Path]) -> dict[str, Any]:
    """All that goes into the page.

    Args:
        found: what was found.
        figures: PNG files by name.

    Raises:
        ZoojaxError: a figure cannot be read.
    """
    members = found.tables["members"]
    dense = (
        members.filter(pl.col("method") == "dense").unique("member", keep="first").sort("member")
    )
    position = {member: row for row, member in enumerate(dense["member"].to_list())}
    return {
        "zoo": _zoo(found, len(dense)),
        "notes": [printable(note, 2000) for note in found.notes],
        "cards": cards(found),
        "members": {
            "id": dense["member"].to_list(),
            "seed": dense["seed"].to_list(),
            "hyper": {n: [_shown(v) for v in dense[n].to_list()] for n in _varying(found)},
        },
        "populations": _populations(found, members, position),
        "representation": representation(found),
        "tables": tables(found),
        "figures": [_figure(name, path) for name, path in figures.items()],
        "versions": {
            printable(name, 60): printable(version, 60)
            for name, version in sorted(found.zoo.config.versions.items())
        },
        "source": paper.SOURCE,
    }


def _shown(value: Any) -> Any:
    return printable(value, 60) if isinstance(value, str) else number(value)


def _varying(found: Analysis) -> list[str]:
    columns = found.tables["members"].columns
    return [name for name in hyperparameters(found.zoo) if name in columns]


def _zoo(found: Analysis, members: int) -> dict[str, Any]:
    """The header: name, one sentence, and a sentence a twin."""
    config = found.zoo.config
    images = (
        "images of its own"
        if config.data is None
        else f"the data set {printable(config.data.name)}"
    )
    words = [
        f"{members} member{'s' * (members != 1)} of the {config.architecture} CNN "
        f"({config.shape.size}x{config.shape.size}x{config.channels} images, "
        f"{config.classes} classes), trained on {images} for {config.epochs} epochs"
    ]
    if config.preset:
        words.append(f"preset {printable(config.preset)}")
    return {
        "name": printable(config.name),
        "about": ", ".join(words) + ".",
        "twins": [_twin(twin) for twin in found.twins],
    }


def _twin(twin: Zoo) -> str:
    config, (start, epoch) = twin.config, (twin.config.parent, twin.config.epochs)
    name = printable(config.name)
    since = "" if start is None else f" from epoch {start.epoch}"
    if config.kind == "mp":
        ratios = ", ".join(
            percent(r, 0) for r in twin.members_table["ratio"].unique().sort().to_list()
        )
        return (
            f"Magnitude pruning (MP): {name}, {config.scope} pruning{since} at {ratios}, "
            f"then {epoch} epochs of fine-tuning."
        )
    return f"Variational dropout (VD): {name}, {config.variant} variant{since}, {epoch} epochs."


def _populations(
    found: Analysis, members: pl.DataFrame, position: dict[int, int]
) -> list[dict[str, Any]]:
    """Dense, pruned by ratio, dropped out: numbers of each member and epoch."""
    result = []
    for method in ("dense", "mp", "vd"):
        rows = members.filter(pl.col("method") == method)
        twin = found.twin(method)
        begun = None if twin is None or twin.config.parent is None else twin.config.parent.epoch
        for ratio in rows["ratio"].unique().sort().to_list():
            part = rows.filter(pl.col("ratio").eq_missing(pl.lit(ratio, pl.Float64)))
            label = "dense" if method == "dense" else method.upper()
            result.append(
                {
                    "method": method,
                    "ratio": ratio,
                    "label": label if ratio is None else f"{label} {percent(ratio, 0)}",
                    "begun": begun,
                    **_arrays(part, position),
                    "correlation": _correlations(found, method, ratio, part),
                }
            )
    return result


def _arrays(rows: pl.DataFrame, position: dict[int, int]) -> dict[str, Any]:
    """Metrics of one population as [members, epochs], coded."""
    ids, epochs = (rows[name].unique().sort() for name in ("member", "epoch"))
    at = (np.searchsorted(ids, rows["member"]), np.searchsorted(epochs, rows["epoch"]))
    parents = np.full(len(ids), -1)
    parents[at[0]] = [position.get(p, -1) for p in _parents(rows)]
    values = {}
    for name, (low, high) in _METRICS.items():
        whole = np.full((len(ids), len(epochs)), np.nan)
        whole[at] = np.where(rows["finite"].to_numpy(), rows[name].to_numpy(), np.nan)
        values[name] = {"low": low, "high": high, "codes": _coded(whole, low, high)}
    return {
        "member": ids.to_list(),
        "parent": parents.tolist(),
        "epochs": epochs.to_list(),
        "values": values,
    }


def _parents(rows: pl.DataFrame) -> list[int]:
    """Which dense member each row goes back to; a dense one to itself."""
    return rows.select(pl.coalesce("parent_id", "member"))["parent_id"].to_list()


def _coded(values: np.ndarray, low: float, high: float) -> str:
    """Little-endian uint16 in base64: low is 0, high 65534, what is not finite 65535."""
    finite = np.isfinite(values)
    scaled = (np.where(finite, values, low) - low) / (high - low)
    codes = np.rint(np.clip(scaled, 0, 1) * _HIGHEST)
    return base64.b64encode(np.where(finite, codes, _NULL).astype("<u2").tobytes()).decode()


def _correlations(
    found: Analysis, method: str, ratio: float | None, rows: pl.DataFrame
) -> list[dict[str, float | None] | None]:
    """Pearson's r and Kendall's tau with their intervals, an epoch of the population each."""
    table = found.tables.get("correlation", pl.DataFrame())
    epochs = rows["epoch"].unique().sort().to_list()
    if table.is_empty():
        return [None] * len(epochs)
    here = table.filter(
        pl.col("method") == method,
        pl.col("ratio").eq_missing(pl.lit(ratio, pl.Float64)),
        pl.col("pearson").is_not_null(),
    )
    names = [f"{n}{end}" for n in ("pearson", "kendall") for end in ("", "_low", "_high")]
    cells = {row["epoch"]: {n: number(row[n]) for n in names} for row in here.to_dicts()}
    return [cells.get(epoch) for epoch in epochs]


def _figure(name: str, path: Path) -> dict[str, str]:
    image = read_bytes(path, _LARGEST_FIGURE)
    caption = _CAPTIONS.get(name) or name.replace("_", " ").capitalize() + "."
    return {
        "name": name,
        "caption": caption,
        "source": f"data:image/png;base64,{base64.b64encode(image).decode()}",
    }
