"""Figure of the properties that embeddings and other features predict."""

from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from zoojax.analysis import Analysis
from zoojax.figures.geometry import numbers
from zoojax.figures.representation import of_all_zoos
from zoojax.figures.style import INK, SMALL, WIDTH, drawing, new_figure
from zoojax.text import for_matplotlib, printable

_TITLES = {"test_acc": "test accuracy", "sparsity": "sparsity", "epoch": "epoch", "ggap": "gap"}
_SCOPES: dict[str, dict[str, Any]] = {
    "all states": {"color": INK, "marker": "o"},
    "within epochs": {"color": "#D55E00", "marker": "s"},
}
# More rows would not be readable.
_MAX_FEATURES, _MAX_LENGTH = 12, 40
# Lowest R2 in the panels, in %.
_LOWEST = -60


@drawing(
    "R² with which properties of held-out members are predicted from the embeddings of the "
    "hyper-representation and from other features. Within epochs: of the difference to the mean of "
    "the training members at the same epoch, which is the variation between members that the epoch "
    "does not explain. Bars: 95 % intervals (bootstrap of members). Values below −60 % are not "
    "shown."
)
def representation_scores(analysis: Analysis) -> Figure | None:
    """Plots R2 of each property by the features that predict it.

    Args:
        analysis: The analysis.

    Returns:
        One panel per property with one row per kind of features. None without a
        hyper-representation.
    """
    table = of_all_zoos(analysis.tables.get("representation_properties", pl.DataFrame()))
    if table.is_empty():
        return None
    features = table["features"].unique(maintain_order=True).to_list()[:_MAX_FEATURES]
    figure = new_figure(WIDTH, 1.2 + 0.36 * 2 * len(features))
    panels = figure.subplots(2, 2, sharey=True, squeeze=True)
    for axes, (name, title) in zip(panels.ravel(), _TITLES.items(), strict=True):
        _draw_property(axes, table.filter(property=name), features)
        axes.set_title(title)
    for axes in panels[:, 0]:
        labels = [for_matplotlib(printable(each, _MAX_LENGTH)) for each in features]
        axes.set_yticks(range(len(features)), labels, fontsize=SMALL)
    panels[0, 0].invert_yaxis()
    for axes in panels[1]:
        axes.set_xlabel("R² (%)")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def _draw_property(axes: Axes, table: pl.DataFrame, features: list[str]) -> None:
    rows = pl.DataFrame({"features": features})
    for number, (scope, style) in enumerate(_SCOPES.items()):
        scores = table.filter(scope=scope)
        scores = rows.join(scores, on="features", how="left", maintain_order="left")
        r2, low, high = (100 * numbers(scores, f"r2{end}") for end in ("", "_low", "_high"))
        # Without an interval, there is no bar.
        bars = np.nan_to_num([np.maximum(r2 - low, 0), np.maximum(high - r2, 0)])
        at = np.arange(len(features)) + 0.3 * number - 0.15
        axes.errorbar(r2, at, xerr=bars, **style, linestyle="", markersize=4, label=scope)
    axes.set_xlim(left=max(axes.get_xlim()[0], _LOWEST), right=102)
