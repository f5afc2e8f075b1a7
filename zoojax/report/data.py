"""The data of the report page: members, populations, tables and texts, as JSON values."""

import math
from typing import Any

import numpy as np
import polars as pl

from zoojax.analysis import Analysis, paper
from zoojax.analysis.agreement_tables import REFERENCE_SPARSITY
from zoojax.analysis.method_comparison import MIN_CROSSOVER
from zoojax.analysis.pairing import hyperparameters, nearest_ratio
from zoojax.analysis.rank_correlation import MIN_MEMBERS
from zoojax.analysis.results import Method
from zoojax.figures import FIGURES, captions
from zoojax.report.agreement import agreement_with_parents, matrices
from zoojax.report.encoding import encode
from zoojax.report.header import header
from zoojax.report.links import Links
from zoojax.report.representation import representation
from zoojax.report.tables import number, tables
from zoojax.tasks import PERCENT, SPARSITY, Metric
from zoojax.text import printable

# Metrics that the page draws for every member and epoch, in the order of its controls, and their
# labels; of each task those that it has.
_METRICS = {
    "test_acc": "test accuracy",
    "psnr": "PSNR",
    "ggap": "gap",
    "sparsity": "sparsity",
    "train_acc": "train accuracy",
}


def payload(
    analysis: Analysis, figures: dict[str, Links], tables_files: dict[str, Links]
) -> dict[str, Any]:
    """All data that is embedded in the page.

    Args:
        analysis: The analysis.
        figures: Links to the files of each figure, by name.
        tables_files: Links to the files of tables, by name.

    Returns:
        Values that `json` can serialize.
    """
    members = analysis.tables["members"]
    dense = (
        members.filter(pl.col("method") == "dense").unique("member", keep="first").sort("member")
    )
    position = {member: row for row, member in enumerate(dense["member"].to_list())}
    return {
        "zoo": header(analysis),
        "metrics": [_metric(metric) for metric in _metrics(analysis)],
        "score": _score(analysis),
        "methods": [_method(analysis, method) for method in analysis.methods],
        "notes": [printable(note, 2000) for note in analysis.notes],
        "crossovers": _crossovers(analysis),
        "members": {
            "id": dense["member"].to_list(),
            "seed": dense["seed"].to_list(),
            "hyper": {
                n: [_safe(v) for v in dense[n].to_list()] for n in _hyperparameters(analysis)
            },
        },
        "populations": _populations(analysis, members, position),
        "matrices": matrices(analysis),
        "representation": representation(analysis),
        "tables": tables(analysis),
        "figures": _figures(analysis, figures),
        "files": tables_files,
        "minCorrelated": MIN_MEMBERS,
        "versions": {
            printable(name, 60): printable(version, 60)
            for name, version in sorted(analysis.zoo.config.versions.items())
        },
        "source": paper.SOURCE,
    }


def _metrics(analysis: Analysis) -> list[Metric]:
    """The metrics that the page draws."""
    known = {each.name: each for each in (*analysis.zoo.config.shape.task.metrics, SPARSITY)}
    return [known[name] for name in _METRICS if name in known]


def _metric(metric: Metric) -> dict[str, Any]:
    return {
        "name": metric.name,
        "label": _METRICS[metric.name],
        "percent": metric.unit == PERCENT,
        "unit": metric.unit,
    }


def _score(analysis: Analysis) -> dict[str, Any]:
    """The metric by which members are compared; `short` is its name in titles."""
    task = analysis.zoo.config.shape.task
    metric = _metric(task.metric(task.score))
    return metric | {"short": metric["label"].removeprefix("test ")}


def _safe(value: Any) -> Any:
    """A hyperparameter's value as it is in the zoo."""
    if isinstance(value, str):
        return printable(value, 60)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _hyperparameters(analysis: Analysis) -> list[str]:
    columns = analysis.tables["members"].columns
    return [name for name in hyperparameters(analysis.zoo) if name in columns]


def _method(analysis: Analysis, method: Method) -> dict[str, Any]:
    """What the page needs to know of a method.

    The page opens at the epoch and ratio that the figures show.
    """
    epoch, ratio = None, None
    compared = analysis.tables.get("friendliness", pl.DataFrame())
    if not compared.is_empty():
        epochs = compared.filter(pl.col("method") == method.key)["epoch"]
        epoch = None if epochs.is_empty() else epochs[0]
    if method.sweep == "ratio":
        ratio = nearest_ratio(method.zoo, REFERENCE_SPARSITY)
    return {
        "key": method.key,
        "label": printable(method.label),
        "short": method.short,
        "of": method.of,
        "measured": None
        if method.sweep == "ratio" or method.is_trajectory
        else method.sparsifier.measured_epochs(method.zoo.config.epochs),
        "color": method.color,
        "sweep": method.sweep,
        "epoch": epoch,
        "ratio": ratio,
    }


def _crossovers(analysis: Analysis) -> list[dict[str, Any]]:
    """The measured ratios that bracket the crossover of each pair of methods."""
    members = {
        (one.key, other.key): dict(
            rows.drop_nulls("difference").select("sparsity", "members").iter_rows()
        )
        for one, other, rows in analysis.by_pair("methods")
    }
    result = []
    for one, other, table in analysis.by_pair("crossing"):
        row, all_counts = table.row(0, named=True), members.get((one.key, other.key), {})
        counts = {ratio: n for ratio, n in all_counts.items() if n >= MIN_CROSSOVER}
        ends = [row["above"], row["below"]]
        # Without a crossover, all ratios at which there are enough members to compare.
        compared = [counts[ratio] for ratio in ends if ratio in counts] or list(counts.values())
        result.append(
            {
                "one": one.key,
                "other": other.key,
                "above": number(ends[0]),
                "below": number(ends[1]),
                "point": number(row["sparsity"]),
                "ratios": len(counts),
                "members": min(compared, default=max(all_counts.values(), default=0)),
            }
        )
    return result


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
                    "label": _population_label(method, ratio),
                    "start": None if parent is None else parent.epoch,
                    **_arrays(analysis, part, position),
                    "correlation": _correlations(analysis, method.key, ratio, part),
                    "agreement": agreement_with_parents(
                        analysis, method.key, ratio, part["member"].unique().sort()
                    ),
                }
            )
    return result


def _population_label(method: Method, ratio: float | None) -> str:
    """Names a population, such as "MP 80%", or "SP 50% of units"."""
    return method.short if ratio is None else f"{method.short} {100 * ratio:.4g}%{method.of}"


def _arrays(analysis: Analysis, rows: pl.DataFrame, position: dict[int, int]) -> dict[str, Any]:
    """Encoded metrics of one population, each [members, epochs]."""
    ids, epochs = (rows[name].unique().sort() for name in ("member", "epoch"))
    at = (np.searchsorted(ids, rows["member"]), np.searchsorted(epochs, rows["epoch"]))
    parents = np.full(len(ids), -1)
    parents[at[0]] = [position.get(p, -1) for p in _parents(rows)]
    values = {}
    for metric in _metrics(analysis):
        name = metric.name
        low, high = metric.range
        if not (math.isfinite(low) and math.isfinite(high)):
            low, high = _bounds(rows[name])
        grid = np.full((len(ids), len(epochs)), np.nan)
        grid[at] = np.where(rows["finite"].to_numpy(), rows[name].to_numpy(), np.nan)
        values[name] = {"low": low, "high": high, "codes": encode(grid, low, high)}
    return {
        "member": ids.to_list(),
        "parent": parents.tolist(),
        "epochs": epochs.to_list(),
        "values": values,
    }


def _bounds(column: pl.Series) -> tuple[float, float]:
    """The range of the finite values of a metric without one of its own."""
    values = column.to_numpy()
    values = values[np.isfinite(values)]
    return (float(values.min()), float(values.max()) + 1e-6) if len(values) else (0.0, 1.0)


def _parents(rows: pl.DataFrame) -> list[int]:
    """The parent of each row; dense members are their own parents."""
    return rows.select(pl.coalesce("parent_id", "member"))["parent_id"].to_list()


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


def _figures(analysis: Analysis, files: dict[str, Links]) -> list[dict[str, Any]]:
    """The figures of the page; `further` is the title of one of a further twin."""
    texts, result = captions(analysis), []
    for name, links in files.items():
        further = [
            f"{kind.replace('_', ' ').capitalize()}: {printable(method.label)}"
            for method in analysis.twin_methods()
            if name not in FIGURES and (kind := name.removesuffix(f"_{method.key}")) in FIGURES
        ]
        result.append(
            {
                "name": printable(name),
                "caption": printable(
                    texts.get(name) or f"{name.replace('_', ' ').capitalize()}.", 2000
                ),
                "further": further[-1] if further else None,
                "files": links,
            }
        )
    return result
