"""The header of the report page: what the zoo and its twins are."""

import math
from typing import Any

import polars as pl

from zoojax.analysis import Analysis
from zoojax.analysis.pairing import HYPERPARAMETERS
from zoojax.analysis.results import Method
from zoojax.text import printable

# Settings with more values than this are given as a range.
_MAX_VALUES = 6
_LABELS = {"init": "initialization"}


def header(analysis: Analysis) -> dict[str, Any]:
    """Name, settings and twins of a zoo.

    Args:
        analysis: The analysis.

    Returns:
        `name`; `settings`, pairs of a label and a text; `twins`, one sentence on each.
    """
    return {
        "name": printable(analysis.zoo.config.name),
        "settings": _settings(analysis),
        "twins": [_twin(method) for method in analysis.twin_methods()],
    }


def _settings(analysis: Analysis) -> list[tuple[str, str]]:
    config, members = analysis.zoo.config, analysis.zoo.members_table
    size = config.shape.size if config.data is None else config.data.size
    images = "its own images" if config.data is None else printable(config.data.name)
    result = [
        ("members", f"{len(members):,}"),
        ("architecture", printable(config.architecture)),
        ("images", f"{images}: {size}x{size}x{config.channels}, {config.classes} classes"),
        ("epochs", str(config.epochs)),
        ("batch size", str(config.batch_size)),
    ]
    if config.steps_per_epoch is not None:
        result.append(("steps per epoch", str(config.steps_per_epoch)))
    # The optimizer and its learning rate first, as they are asked for most.
    names = sorted(HYPERPARAMETERS, key=lambda n: n not in ("optimizer", "learning_rate"))
    for name in names:
        if name in members.columns:
            label = _LABELS.get(name) or name.replace("_", " ")
            result.append((label, _values(members[name])))
    if config.preset:
        result.append(("preset", printable(config.preset)))
    return result


def _values(column: pl.Series) -> str:
    """The distinct values of a setting, as they are in the zoo."""
    known = column.drop_nulls().unique().sort().to_list()
    known = [value for value in known if not isinstance(value, float) or math.isfinite(value)]
    texts = [_text(value) for value in known]
    missing = column.null_count()
    if not texts:
        return "unknown"
    if len(texts) <= _MAX_VALUES:
        text = ", ".join(texts)
    elif column.dtype.is_numeric():
        text = f"{len(texts)} values from {texts[0]} to {texts[-1]}"
    else:
        text = f"{len(texts)} values"
    return f"{text} (unknown for {missing} members)" if missing else text


def _text(value: Any) -> str:
    return f"{value:.12g}" if isinstance(value, float) else printable(value, 60)


def _twin(method: Method) -> str:
    """One sentence on a twin."""
    config, sparsifier = method.zoo.config, method.sparsifier
    label = sparsifier.label[:1].upper() + sparsifier.label[1:]
    parts = [printable(config.name), printable(sparsifier.describe())]
    text = f"{printable(label)} ({method.short}): {', '.join(filter(None, parts))}"
    if config.parent is not None:
        text += f" from epoch {config.parent.epoch}"
    if method.sweep == "ratio":
        ratios = method.zoo.members_table["ratio"].unique().sort().to_list()
        text += f" at {', '.join(f'{100 * ratio:.4g}%' for ratio in ratios)}{method.of}"
    text += (
        f", then {config.epochs} epochs of fine-tuning"
        if method.fine_tunes
        else (f", {config.epochs} epochs")
    )
    count = len(method.zoo)
    return f"{text}; {count:,} {'member' if count == 1 else 'members'}."
