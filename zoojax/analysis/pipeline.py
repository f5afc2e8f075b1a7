"""Computes all tables of an analysis: everything the paper reports for a zoo, and more."""

import itertools
from collections.abc import Callable
from pathlib import Path

import polars as pl

from zoojax.analysis.accuracy_pairings import correlation_pairings
from zoojax.analysis.added_tables import added_tables
from zoojax.analysis.agreement_tables import REFERENCE_SPARSITY, add_agreement, parent_epochs
from zoojax.analysis.method_comparison import compare_methods, compare_pairs, crossover
from zoojax.analysis.notes import add_notes
from zoojax.analysis.pairing import (
    check,
    hyperparameters,
    last_epoch,
    member_metrics,
    nearest_sparsity_epoch,
)
from zoojax.analysis.paper_comparison import compare_with_paper
from zoojax.analysis.prunability import (
    change_by_hyperparameters,
    member_prunability,
    outcome_predictability,
    rank_consistency,
)
from zoojax.analysis.rank_correlation import correlation
from zoojax.analysis.results import Analysis, Method, methods_of
from zoojax.analysis.summaries import (
    by_hyperparameters,
    layer_sparsity,
    pruning_frequency,
    summary,
)
from zoojax.errors import ZoojaxError
from zoojax.storage.parent import paired
from zoojax.storage.zoo import Zoo
from zoojax.text import printable

# Epochs at which the pruning frequency of single weights is drawn (Figure 3 of the paper).
_FREQUENCY_EPOCHS = (5, 10, 15, 20, 25)
NO_ACCURACY = (
    "Each member learns an image of its own, so there are no accuracies and no predictions: "
    "agreement, the correlation before and after sparsification, prunability of members, and the "
    "comparison of methods at equal sparsity were left out."
)


def analyze(
    zoo: Zoo,
    twins: list[Zoo],
    *,
    data_dir: Path | None = None,
    step: Callable[[str], None] | None = None,
) -> Analysis:
    """Analyzes a zoo and its twins.

    Example:
        >>> analysis = analyze(open_zoo("zoos/usps"), [open_zoo("zoos/usps-vd")])
        >>> analysis.tables["correlation"]

    Args:
        zoo: a dense zoo.
        twins: its twins, of any sparsifiers.
        data_dir: folder of image sets; see `zoojax.datasets.loading.data_directory`.
        step: called with the name of each step before it starts.

    Raises:
        ZoojaxError: a twin does not belong to the zoo, a twin is given twice, or a zoo has no
            completed epoch or is damaged.
    """
    _check(zoo, twins)
    twins = [paired(zoo, twin) for twin in twins]
    report_step = step or (lambda name: None)
    analysis = Analysis(zoo, [m.twin for m in methods_of(zoo, twins, split=False)[1:]])
    report_step("trajectories")
    methods, compared = analysis.methods, analysis.twin_methods()
    analysis.tables["members"] = _stacked(methods, lambda m: member_metrics(m.zoo))
    analysis.tables["trajectories"] = _stacked(methods, lambda m: summary(m.zoo))
    analysis.tables["layer_sparsity"] = _stacked(compared, lambda m: layer_sparsity(m.zoo))
    if any(hyperparameters(each) for each in (zoo, *twins)):
        analysis.tables["hyperparameters"] = _stacked(methods, lambda m: by_hyperparameters(m.zoo))
    if zoo.config.shape.task.has_own_images:
        analysis.notes.append(NO_ACCURACY)
    elif analysis.twins:
        report_step("correlation")
        analysis.tables["correlation"] = _stacked(compared, lambda m: correlation(zoo, m.zoo))
        pairings = _stacked(compared, lambda m: correlation_pairings(zoo, m.zoo))
        analysis.tables["pairings"] = pairings
        report_step("prunability of members")
        _add_prunability(analysis)
    if analysis.twins:
        report_step("pruning frequency")
        analysis.tables["pruning_frequency"] = _frequencies(analysis)
    if not zoo.config.shape.task.has_own_images:
        analysis.tables["methods"] = compare_pairs(analysis, compare_methods)
        analysis.tables["crossing"] = compare_pairs(analysis, crossover)
        report_step("agreement")
        add_agreement(analysis, data_dir, report_step)
        if analysis.twins:
            analysis.tables["paper"] = compare_with_paper(analysis)
    for added in added_tables():
        report_step(added.title)
        analysis.tables[added.key] = added.compute(analysis)
    add_notes(analysis)
    analysis.tables = {name: table for name, table in analysis.tables.items() if len(table)}
    return analysis


def _check(zoo: Zoo, twins: list[Zoo]) -> None:
    for each in (zoo, *twins):
        _ = each.newest_epoch
    for twin in twins:
        check(zoo, twin)
    for one, other in itertools.combinations(twins, 2):
        # Views of different members of a twin have its fingerprint, too.
        shared = {*one.members_table["id"]} & {*other.members_table["id"]}
        if one.fingerprint == other.fingerprint and shared:
            raise ZoojaxError(f"{one.path} and {other.path} are the same twin; give it once")


def _stacked(methods: list[Method], table: Callable[[Method], pl.DataFrame]) -> pl.DataFrame:
    """Concatenates a table of several methods, with columns `method` and `ratio` first."""
    parts = []
    for each in methods:
        part = table(each)
        if "ratio" not in part.columns:
            part = part.with_columns(pl.lit(None, pl.Float64).alias("ratio"))
        method = pl.lit(each.key).alias("method")
        parts.append(part.select(method, "ratio", pl.exclude("ratio")))
    return pl.concat(parts, how="diagonal") if parts else pl.DataFrame()


def _add_prunability(analysis: Analysis) -> None:
    """Adds accuracy changes, their consistency, and their predictability."""
    zoo, methods, tables = analysis.zoo, analysis.twin_methods(), analysis.tables
    epochs = {method.key: _comparison_epoch(method.zoo) for method in methods}
    tables["friendliness"] = _stacked(
        methods, lambda m: member_prunability(zoo, m.zoo, epochs[m.key])
    )
    tables["change_by_hyperparameters"] = _stacked(
        methods, lambda m: change_by_hyperparameters(zoo, m.zoo, epochs[m.key])
    )
    tables["consistency"] = rank_consistency(zoo, analysis.twins, [epochs[m.key] for m in methods])
    if parent_epochs(analysis) <= set(zoo.epochs):
        tables["predictability"] = _stacked(
            methods, lambda m: outcome_predictability(zoo, m.zoo, epochs[m.key])
        )
    else:
        analysis.notes.append(
            f"{printable(zoo.path, 1000)} lacks the states from which its twins were created: "
            "neither predictability nor agreement could be computed."
        )


def _comparison_epoch(twin: Zoo) -> int:
    """The epoch at which a twin's members are compared one by one."""
    if twin.config.sparsifier.sweep == "epoch":
        return nearest_sparsity_epoch(twin, REFERENCE_SPARSITY)
    return last_epoch(twin.metrics_history)


def _frequencies(analysis: Analysis) -> pl.DataFrame:
    """`pruning_frequency` of all twins by ratio and epoch."""
    parts = []
    for method in analysis.twin_methods():
        twin, by_ratio = method.zoo, method.sweep == "ratio"
        saved = [e for e in _FREQUENCY_EPOCHS if e in twin.epochs]
        epochs = [twin.epochs[-1]] if by_ratio or not saved else saved
        ratios = [None]
        if by_ratio:
            ratios = [r for r in twin.members_table["ratio"].unique().sort().to_list() if r > 0]
        for ratio in ratios:
            for epoch in epochs:
                table = pruning_frequency(twin, epoch, ratio)
                parts.append(
                    table.select(
                        pl.lit(method.key).alias("method"),
                        pl.lit(ratio, pl.Float64).alias("ratio"),
                        pl.lit(epoch, pl.Int64).alias("epoch"),
                        pl.all(),
                    )
                )
    return pl.concat(parts) if parts else pl.DataFrame()
