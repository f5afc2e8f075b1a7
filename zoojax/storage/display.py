"""How a zoo is shown in notebooks and messages."""

import html
from pathlib import Path

import polars as pl

from zoojax.storage.zoo_config import ZooConfig
from zoojax.text import printable

_METRICS = ("train_acc", "test_acc", "psnr", "sparsity")


def to_html(path: Path, config: ZooConfig, members: pl.DataFrame, metrics: pl.DataFrame) -> str:
    """Returns a table of a zoo's settings and of its mean metrics at the newest epoch.

    Args:
        path: Folder of the zoo, or its name.
        config: Its config.
        members: Its members table.
        metrics: Its metrics table.
    """
    sparsifier = config.sparsifier
    rows = {
        "zoo": str(path),
        "sparsifier": ", ".join(filter(None, (sparsifier.label, sparsifier.describe()))),
        "architecture": config.architecture,
        "input": "x".join(map(str, config.shape.image_shape)),
        "classes": str(config.classes),
        "images": "unknown" if config.data is None else config.data.name,
        "members": str(len(members)),
        "epochs": epoch_range(metrics["epoch"].unique().sort().to_list()),
    }
    newest = metrics.filter(pl.col("epoch") == pl.col("epoch").max())
    for name in _METRICS:
        values = newest.filter("finite")[name] if name in newest.columns else pl.Series([])
        mean, std = values.mean(), values.std()
        if isinstance(mean, float):
            spread = f" ± {std:.3f}" if isinstance(std, float) else ""
            rows[f"mean {name}"] = f"{mean:.3f}{spread}"
    cells = (
        f"<tr><th style='text-align:left'>{_escaped(name)}</th>"
        f"<td style='text-align:left'>{_escaped(value)}</td></tr>"
        for name, value in rows.items()
    )
    return f"<table>{''.join(cells)}</table>"


def epoch_range(epochs: list[int]) -> str:
    """Describes ascending epochs: "epochs 0 to 25", "epochs 0, 10", "no epochs"."""
    if not epochs:
        return "no epochs"
    contiguous = epochs == list(range(epochs[0], epochs[-1] + 1)) and len(epochs) > 2
    listed = f"{epochs[0]} to {epochs[-1]}" if contiguous else ", ".join(map(str, epochs))
    return f"epochs {listed}" if len(epochs) > 1 else f"epoch {listed}"


def _escaped(value: str) -> str:
    return html.escape(printable(value, 1000))
