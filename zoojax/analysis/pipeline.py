"""Computes all tables of an analysis: everything the paper reports for a zoo, and more."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from zoojax.analysis.method_comparison import compare_methods, crossover
from zoojax.analysis.pairing import (
    check,
    finite,
    hyperparameters,
    last_epoch,
    member_metrics,
    nearest_sparsity,
    nearest_sparsity_epoch,
)
from zoojax.analysis.paper_comparison import (
    SPARSITY_TOLERANCE,
    compare_with_paper,
    comparison_notes,
    paper_results_of,
)
from zoojax.analysis.prediction_agreement import agreement, mask_diverged, pairwise
from zoojax.analysis.prunability import (
    MIN_MEMBERS,
    change_by_hyperparameters,
    member_prunability,
    outcome_predictability,
    rank_consistency,
)
from zoojax.analysis.rank_correlation import correlation
from zoojax.analysis.results import Analysis
from zoojax.analysis.summaries import (
    by_hyperparameters,
    layer_sparsity,
    pruning_frequency,
    summary,
)
from zoojax.errors import ZoojaxError
from zoojax.storage import zoo_images
from zoojax.storage.zoo import Zoo
from zoojax.text import printable
from zoojax.training import inference

# Sparsity at which members are compared if the paper names none: a pruning ratio, or the
# nearest epoch of variational dropout, whose accuracy has often collapsed by the last epoch.
_REFERENCE_SPARSITY = 0.8
# Epochs at which the pruning frequency of single weights is drawn (Figure 3 of the paper).
_FREQUENCY_EPOCHS = (5, 10, 15, 20, 25)

Step = Callable[[str], None]


def analyze(
    zoo: Zoo, twins: list[Zoo], *, data_dir: Path | None = None, step: Step | None = None
) -> Analysis:
    """Analyzes a zoo and its twins.

    Example:
        >>> analysis = analyze(open_zoo("zoos/usps"), [open_zoo("zoos/usps-vd")])
        >>> analysis.tables["correlation"]

    Args:
        zoo: a dense zoo.
        twins: its twins, at most one of each kind.
        data_dir: folder with the image sets; see `data.data_directory`.
        step: called with the name of each step before it starts.

    Raises:
        ZoojaxError: a twin does not belong to the zoo, two twins are of one kind, or a zoo has
            no completed epoch or is damaged.
    """
    _check(zoo, twins)
    report_step = step or (lambda name: None)
    analysis = Analysis(zoo, sorted(twins, key=lambda twin: twin.config.kind))
    report_step("trajectories")
    zoos = [zoo, *analysis.twins]
    analysis.tables["members"] = _stacked(zoos, member_metrics)
    analysis.tables["trajectories"] = _stacked(zoos, summary)
    analysis.tables["layer_sparsity"] = _stacked(analysis.twins, layer_sparsity)
    if any(hyperparameters(each) for each in zoos):
        analysis.tables["hyperparameters"] = _stacked(zoos, by_hyperparameters)
    if analysis.twins:
        report_step("correlation")
        analysis.tables["correlation"] = _stacked(analysis.twins, lambda t: correlation(zoo, t))
        report_step("prunability of members")
        _add_prunability(analysis)
        report_step("pruning frequency")
        analysis.tables["pruning_frequency"] = _frequencies(analysis)
    _add_method_comparison(analysis)
    report_step("agreement")
    _add_agreement(analysis, data_dir, report_step)
    if analysis.twins:
        analysis.tables["paper"] = compare_with_paper(analysis)
    _add_notes(analysis)
    analysis.tables = {name: table for name, table in analysis.tables.items() if len(table)}
    return analysis


def _check(zoo: Zoo, twins: list[Zoo]) -> None:
    for each in (zoo, *twins):
        _ = each.newest_epoch
    for twin in twins:
        check(zoo, twin)
    kinds = [twin.config.kind for twin in twins]
    for kind in kinds:
        if kinds.count(kind) > 1:
            both = " and ".join(str(t.path) for t in twins if t.config.kind == kind)
            raise ZoojaxError(f"{both} are twins of one kind; analyze them one at a time")


def _stacked(zoos: list[Zoo], table: Callable[[Zoo], pl.DataFrame]) -> pl.DataFrame:
    """Concatenates a table of several zoos, with columns `method` and `ratio` first."""
    parts = []
    for zoo in zoos:
        part = table(zoo)
        if "ratio" not in part.columns:
            part = part.with_columns(pl.lit(None, pl.Float64).alias("ratio"))
        method = pl.lit(zoo.config.kind).alias("method")
        parts.append(part.select(method, "ratio", pl.exclude("ratio")))
    return pl.concat(parts, how="diagonal") if parts else pl.DataFrame()


def _add_prunability(analysis: Analysis) -> None:
    """Adds accuracy changes, their consistency, and their predictability."""
    zoo, twins, tables = analysis.zoo, analysis.twins, analysis.tables
    epochs = {twin.config.kind: _comparison_epoch(twin) for twin in twins}
    tables["friendliness"] = _stacked(
        twins, lambda twin: member_prunability(zoo, twin, epochs[twin.config.kind])
    )
    tables["change_by_hyperparameters"] = _stacked(
        twins, lambda twin: change_by_hyperparameters(zoo, twin, epochs[twin.config.kind])
    )
    tables["consistency"] = rank_consistency(zoo, twins, list(epochs.values()))
    if _parent_epochs(analysis) <= set(zoo.epochs):
        tables["predictability"] = _stacked(
            twins, lambda twin: outcome_predictability(zoo, twin, epochs[twin.config.kind])
        )
    else:
        analysis.notes.append(
            f"{_path(zoo)} lacks the states from which its twins were created: neither "
            "predictability nor agreement could be computed."
        )


def _parent_epochs(analysis: Analysis) -> set[int]:
    """Epochs of the dense zoo from which the twins were created."""
    return {t.config.parent.epoch for t in analysis.twins if t.config.parent is not None}


def _comparison_epoch(twin: Zoo) -> int:
    """The epoch at which a twin's members are compared one by one."""
    if twin.config.kind == "vd":
        return nearest_sparsity_epoch(twin, _REFERENCE_SPARSITY)
    return last_epoch(twin.metrics_history)


def _frequencies(analysis: Analysis) -> pl.DataFrame:
    """`pruning_frequency` of all twins by ratio and epoch."""
    parts = []
    for twin in analysis.twins:
        saved = [e for e in _FREQUENCY_EPOCHS if e in twin.epochs]
        epochs = saved if twin.config.kind == "vd" and saved else [twin.epochs[-1]]
        ratios = [None]
        if twin.config.kind == "mp":
            ratios = [r for r in twin.members_table["ratio"].unique().sort().to_list() if r > 0]
        for ratio in ratios:
            for epoch in epochs:
                table = pruning_frequency(twin, epoch, ratio)
                parts.append(
                    table.select(
                        pl.lit(twin.config.kind).alias("method"),
                        pl.lit(ratio, pl.Float64).alias("ratio"),
                        pl.lit(epoch, pl.Int64).alias("epoch"),
                        pl.all(),
                    )
                )
    return pl.concat(parts) if parts else pl.DataFrame()


def _add_method_comparison(analysis: Analysis) -> None:
    mp, vd = analysis.twin("mp"), analysis.twin("vd")
    if mp is None or vd is None:
        return
    analysis.tables["methods"] = compare_methods(analysis.zoo, mp, vd)
    analysis.tables["crossing"] = crossover(analysis.zoo, mp, vd)


def _add_agreement(analysis: Analysis, data_dir: Path | None, report_step: Step) -> None:
    """Adds the agreement of each twin with its parent, and the pairwise matrices.

    Matrices are computed within the dense zoo, within one population per twin, and between
    the two.
    """
    zoo, parent_epochs = analysis.zoo, _parent_epochs(analysis)
    if not parent_epochs <= set(zoo.epochs):
        return
    try:
        images = zoo_images.load_images(zoo, data_dir).test.images
    except ZoojaxError as error:
        analysis.notes.append(f"Agreement was not computed: {printable(error, 1000)}.")
        return
    dense = {e: inference.predict(zoo, images, e) for e in parent_epochs or {zoo.epochs[-1]}}
    parts: list[pl.DataFrame] = []
    last = max(dense)
    mask = finite(zoo, last)
    analysis.matrices["dense"] = mask_diverged(pairwise(dense[last]), mask, mask)
    for twin in analysis.twins:
        assert twin.config.parent is not None
        start, kind = twin.config.parent.epoch, twin.config.kind
        for epoch in _agreement_epochs(analysis, twin):
            report_step(f"agreement, {kind} epoch {epoch}")
            predicted = inference.predict(twin, images, epoch)
            table = agreement(zoo, twin, epoch, of_zoo=dense[start], of_twin=predicted)
            parts.append(table.select(pl.lit(kind).alias("method"), pl.all()))
            members, name = _matrix_members(twin, epoch)
            if members is not None:
                aligned, mask = _align_to_parents(zoo, twin, epoch, predicted, members)
                analysis.matrices[name] = mask_diverged(pairwise(aligned), mask, mask)
                across = pairwise(dense[start], aligned)
                across = mask_diverged(across, finite(zoo, start), mask)
                analysis.matrices[f"dense and {name}"] = across
    if parts:
        analysis.tables["agreement"] = pl.concat(parts)
        analysis.tables["agreement_summary"] = _agreement_summary(analysis.tables["agreement"])


def _agreement_epochs(analysis: Analysis, twin: Zoo) -> list[int]:
    """Epochs of a twin at which agreement is computed.

    These are the last epoch, and for variational dropout also those nearest to the pruning
    ratios, to the reference sparsity and to the sparsities that the paper gives.
    """
    last = twin.epochs[-1]
    if twin.config.kind == "mp":
        return [last]
    mp = analysis.twin("mp")
    sparsities = [] if mp is None else mp.members_table["ratio"].unique().to_list()
    sparsities += [_REFERENCE_SPARSITY, *_paper_sparsities(analysis.zoo)]
    nearest = {nearest_sparsity_epoch(twin, sparsity) for sparsity in sparsities}
    return sorted({last, *nearest} & set(twin.epochs))


def _paper_sparsities(zoo: Zoo) -> list[float]:
    table = paper_results_of(zoo)
    return table["sparsity"].drop_nulls().unique().to_list()


def _matrix_members(twin: Zoo, epoch: int) -> tuple[np.ndarray | None, str]:
    """Rows of the members of a twin that its matrices show, and the name of the matrices.

    Magnitude-pruned twins show the ratio nearest to the reference sparsity, variational
    dropout its comparison epoch; (None, "") at other epochs.
    """
    if twin.config.kind == "vd":
        if epoch != nearest_sparsity_epoch(twin, _REFERENCE_SPARSITY):
            return None, ""
        return np.arange(len(twin)), f"vd epoch {epoch}"
    ratios = twin.members_table["ratio"]
    ratio = min(ratios.unique().sort().to_list(), key=lambda r: abs(r - _REFERENCE_SPARSITY))
    return np.flatnonzero(ratios.to_numpy() == ratio), f"mp {ratio:.0%}"


def _align_to_parents(
    zoo: Zoo, twin: Zoo, epoch: int, predicted: np.ndarray, members: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Reorders predictions of a twin so that each is in the row of its parent.

    Args:
        zoo: the dense zoo.
        twin: its twin.
        epoch: epoch of the twin.
        predicted: predicted classes of the twin, [twin members, n].
        members: rows of the twin to use, at most one per parent.

    Returns:
        Predictions [rows, n], up to the last parent with a twin; and which rows have a finite
        twin, [rows] bool.
    """
    position = {member: row for row, member in enumerate(zoo.members_table["id"].to_list())}
    parents = twin.members_table["parent_id"].to_list()
    rows = np.array([position[parent] for parent in parents])[members]
    aligned = np.zeros((rows.max() + 1, predicted.shape[1]), predicted.dtype)
    mask = np.zeros(len(aligned), bool)
    aligned[rows], mask[rows] = predicted[members], finite(twin, epoch)[members]
    return aligned, mask


def _agreement_summary(table: pl.DataFrame) -> pl.DataFrame:
    """Means and standard deviations over members (Tables 1 and 9 of the paper)."""
    quantities = ("test_acc", "sparsity", "agreement")
    statistics = [
        expression
        for name in quantities
        for expression in (
            pl.col(name).mean().alias(f"{name}_mean"),
            pl.col(name).std(ddof=0).alias(f"{name}_std"),
        )
    ]
    known = table.filter(pl.col("agreement").is_not_null())
    keys = ["method", "ratio", "epoch"]
    groups = known.group_by(keys, maintain_order=True)
    return groups.agg(pl.len().alias("members"), *statistics).sort(keys)


def _path(zoo: Zoo) -> str:
    return printable(zoo.path, 1000)


def _add_notes(analysis: Analysis) -> None:
    """Notes what was left out, and why."""
    notes = analysis.notes
    if analysis.twins:
        notes += comparison_notes(analysis)
    for each in (analysis.zoo, *analysis.twins):
        notes += _zoo_notes(each)
    for name, column, reason in (
        (
            "correlation",
            "pearson",
            "fewer than three members are finite, or all are equally accurate",
        ),
        ("predictability", "r2", f"fewer than {MIN_MEMBERS} members are too few to predict"),
    ):
        table = analysis.tables.get(name)
        if table is not None and (missing := table[column].null_count()):
            notes.append(f"{missing} of {len(table)} rows of {name} are empty: {reason}.")
    vd = analysis.twin("vd")
    if vd is not None:
        epoch, distance = nearest_sparsity(vd, _REFERENCE_SPARSITY)
        if distance > SPARSITY_TOLERANCE:
            notes.append(
                f"{_path(vd)} has no epoch within {100 * SPARSITY_TOLERANCE:.0f} points of "
                f"{_REFERENCE_SPARSITY:.0%} sparsity: its members are compared at epoch {epoch}, "
                f"{100 * distance:.0f} points away."
            )
    for kind, name in (("mp", "magnitude-pruned"), ("vd", "variational-dropout")):
        if analysis.twin(kind) is None:
            notes.append(f"No {name} twin was given.")


def _zoo_notes(zoo: Zoo) -> list[str]:
    """Notes on diverged members and unfinished training of one zoo."""
    notes = []
    diverged = zoo.metrics_history.filter(~pl.col("finite"))["member"].n_unique()
    if diverged:
        notes.append(
            f"{diverged} of {len(zoo)} members of {_path(zoo)} diverged (non-finite values); "
            "they are excluded from then on."
        )
    newest = zoo.epochs[-1]
    if newest < zoo.config.epochs:
        notes.append(
            f"{_path(zoo)} is at epoch {newest} of {zoo.config.epochs}: its training is not "
            "complete."
        )
    return notes
