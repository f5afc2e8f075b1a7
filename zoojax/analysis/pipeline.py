"""Everything that the paper reports, and more, of a zoo and its twins: tables by name."""

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
    matched,
    member_metrics,
    nearest_sparsity_epoch,
)
from zoojax.analysis.paper_comparison import (
    SPARSITY_TOLERANCE,
    compare_with_paper,
    not_compared,
    published_of,
)
from zoojax.analysis.prediction_agreement import agreement, pairwise, without_diverged
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

# The sparsity at which members are compared where the paper names none: a ratio of pruning,
# and the nearest epoch of variational dropout, whose last epochs have often collapsed.
_REFERENCE_SPARSITY = 0.8
# Epochs at which the pruning frequency of single weights is drawn (Figure 3 of the paper).
_FREQUENCY_EPOCHS = (5, 10, 15, 20, 25)

Step = Callable[[str], None]


def analyze(
    zoo: Zoo, twins: list[Zoo], *, data_dir: Path | None = None, step: Step | None = None
) -> Analysis:
    """Analyses a zoo and its twins.

    Args:
        zoo: a dense zoo.
        twins: none, or one twin of a kind.
        data_dir: where image sets are looked for; see `data.data_directory`.
        step: told what is being done.

    Raises:
        ZoojaxError: a twin is not the zoo's, a zoo has no epoch yet or is damaged.
    """
    _check(zoo, twins)
    tell = step or (lambda what: None)
    found = Analysis(zoo, sorted(twins, key=lambda twin: twin.config.kind))
    tell("trajectories")
    everyone = [zoo, *found.twins]
    found.tables["members"] = _stacked(everyone, member_metrics)
    found.tables["trajectories"] = _stacked(everyone, summary)
    found.tables["layer_sparsity"] = _stacked(found.twins, layer_sparsity)
    if any(hyperparameters(each) for each in everyone):
        found.tables["hyperparameters"] = _stacked(everyone, by_hyperparameters)
    if found.twins:
        tell("correlation")
        found.tables["correlation"] = _stacked(found.twins, lambda t: correlation(zoo, t))
        tell("friendly and hard members")
        _friendliness(found)
        tell("pruning frequency")
        found.tables["pruning_frequency"] = _frequencies(found)
    _methods(found)
    tell("agreement")
    _agreements(found, data_dir, tell)
    if found.twins:
        found.tables["paper"] = compare_with_paper(found)
    _notes(found)
    # A table without rows says nothing that its absence does not.
    found.tables = {name: table for name, table in found.tables.items() if len(table)}
    return found


def _check(zoo: Zoo, twins: list[Zoo]) -> None:
    for each in (zoo, *twins):
        _ = each.newest_epoch
    for twin in twins:
        check(zoo, twin)
    kinds = [twin.config.kind for twin in twins]
    for kind in kinds:
        if kinds.count(kind) > 1:
            both = " and ".join(str(t.path) for t in twins if t.config.kind == kind)
            raise ZoojaxError(f"{both} are twins of one kind; analyse them one at a time")


def _stacked(zoos: list[Zoo], table: Callable[[Zoo], pl.DataFrame]) -> pl.DataFrame:
    """One table of several zoos, the population in front."""
    parts = []
    for zoo in zoos:
        part = table(zoo)
        if "ratio" not in part.columns:
            part = part.with_columns(pl.lit(None, pl.Float64).alias("ratio"))
        method = pl.lit(zoo.config.kind).alias("method")
        parts.append(part.select(method, "ratio", pl.exclude("ratio")))
    return pl.concat(parts, how="diagonal") if parts else pl.DataFrame()


def _friendliness(found: Analysis) -> None:
    zoo = found.zoo
    epochs = {twin.config.kind: _comparison_epoch(twin) for twin in found.twins}
    found.tables["friendliness"] = _stacked(
        found.twins, lambda twin: member_prunability(zoo, twin, epochs[twin.config.kind])
    )
    found.tables["change_by_hyperparameters"] = _stacked(
        found.twins, lambda twin: change_by_hyperparameters(zoo, twin, epochs[twin.config.kind])
    )
    found.tables["consistency"] = rank_consistency(zoo, found.twins, list(epochs.values()))
    parents = {t.config.parent.epoch for t in found.twins if t.config.parent is not None}
    if parents <= set(zoo.epochs):
        found.tables["predictability"] = _stacked(
            found.twins, lambda twin: outcome_predictability(zoo, twin, epochs[twin.config.kind])
        )
    else:
        found.notes.append(
            f"{_named(zoo)} lacks the states that its twins began with: nothing could be predicted "
            "from its weights, and no agreement measured."
        )


def _comparison_epoch(twin: Zoo) -> int:
    """The epoch at which a twin's members are compared one by one."""
    if twin.config.kind == "vd":
        return nearest_sparsity_epoch(twin, _REFERENCE_SPARSITY)
    return last_epoch(twin.metrics_history)


def _frequencies(found: Analysis) -> pl.DataFrame:
    parts = []
    for twin in found.twins:
        chosen = [e for e in _FREQUENCY_EPOCHS if e in twin.epochs]
        epochs = chosen if twin.config.kind == "vd" and chosen else [twin.epochs[-1]]
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


def _methods(found: Analysis) -> None:
    mp, vd = found.twin("mp"), found.twin("vd")
    if mp is None or vd is None:
        return
    found.tables["methods"] = compare_methods(found.zoo, mp, vd)
    found.tables["crossing"] = crossover(found.zoo, mp, vd)


def _agreements(found: Analysis, data_dir: Path | None, tell: Step) -> None:
    """Of each twin with its parent; and all pairs of the zoo and of one population a twin."""
    zoo = found.zoo
    parents = {t.config.parent.epoch for t in found.twins if t.config.parent is not None}
    if not parents <= set(zoo.epochs):
        return
    try:
        images = zoo_images.load_images(zoo, data_dir).test.images
    except ZoojaxError as error:
        found.notes.append(f"No agreement was measured: {printable(error, 1000)}.")
        return
    begun = {epoch: inference.predict(zoo, images, epoch) for epoch in parents or {zoo.epochs[-1]}}
    parts: list[pl.DataFrame] = []
    first = max(begun)
    sound = finite(zoo, first)
    found.matrices["dense"] = without_diverged(pairwise(begun[first]), sound, sound)
    for twin in found.twins:
        assert twin.config.parent is not None
        start, kind = twin.config.parent.epoch, twin.config.kind
        for epoch in _agreement_epochs(found, twin):
            tell(f"agreement, {kind} epoch {epoch}")
            answers = inference.predict(twin, images, epoch)
            table = agreement(zoo, twin, epoch, of_zoo=begun[start], of_twin=answers)
            parts.append(table.select(pl.lit(kind).alias("method"), pl.all()))
            chosen, of = _matrix_members(twin, epoch)
            if chosen is not None:
                answers, whole = _align_to_parents(zoo, twin, epoch, answers, chosen)
                found.matrices[of] = without_diverged(pairwise(answers), whole, whole)
                across = pairwise(begun[start], answers)
                across = without_diverged(across, finite(zoo, start), whole)
                found.matrices[f"dense and {of}"] = across
    if parts:
        found.tables["agreement"] = pl.concat(parts)
        found.tables["agreement_summary"] = _agreement_summary(found.tables["agreement"])


def _agreement_epochs(found: Analysis, twin: Zoo) -> list[int]:
    """The last epoch; and under variational dropout those at the ratios of pruning, and at
    the sparsity that the paper gives."""
    last = twin.epochs[-1]
    if twin.config.kind == "mp":
        return [last]
    mp = found.twin("mp")
    wanted = [] if mp is None else mp.members_table["ratio"].unique().to_list()
    wanted += [_REFERENCE_SPARSITY, *_published_sparsities(found.zoo)]
    matched = {nearest_sparsity_epoch(twin, sparsity) for sparsity in wanted}
    return sorted({last, *matched} & set(twin.epochs))


def _published_sparsities(zoo: Zoo) -> list[float]:
    table = published_of(zoo)
    return table["sparsity"].drop_nulls().unique().to_list()


def _matrix_members(twin: Zoo, epoch: int) -> tuple[np.ndarray | None, str]:
    """Which members of a twin stand for it in the matrices; and what they are called."""
    if twin.config.kind == "vd":
        if epoch != nearest_sparsity_epoch(twin, _REFERENCE_SPARSITY):
            return None, ""
        return np.arange(len(twin)), f"vd epoch {epoch}"
    ratios = twin.members_table["ratio"]
    ratio = min(ratios.unique().sort().to_list(), key=lambda r: abs(r - _REFERENCE_SPARSITY))
    return np.flatnonzero(ratios.to_numpy() == ratio), f"mp {ratio:.0%}"


def _align_to_parents(
    zoo: Zoo, twin: Zoo, epoch: int, answers: np.ndarray, chosen: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Predictions of some twins, each in the place of its parent among the zoo's members.

    Returns:
        [places, n], up to the last parent that has a twin; and which places hold one that
        is finite, [places].
    """
    position = {member: row for row, member in enumerate(zoo.members_table["id"].to_list())}
    places = np.array([position[parent] for parent in twin.members_table["parent_id"].to_list()])[
        chosen
    ]
    placed = np.zeros((places.max() + 1, answers.shape[1]), answers.dtype)
    whole = np.zeros(len(placed), bool)
    placed[places], whole[places] = answers[chosen], finite(twin, epoch)[chosen]
    return placed, whole


def _agreement_summary(table: pl.DataFrame) -> pl.DataFrame:
    """Tables 1 and 9 of the paper: means and standard deviations over members."""
    quantities = ("test_acc", "sparsity", "agreement")
    statistics = [
        expression
        for name in quantities
        for expression in (
            pl.col(name).mean().alias(f"{name}_mean"),
            pl.col(name).std(ddof=0).alias(f"{name}_std"),
        )
    ]
    whole = table.filter(pl.col("agreement").is_not_null())
    keys = ["method", "ratio", "epoch"]
    groups = whole.group_by(keys, maintain_order=True)
    return groups.agg(pl.len().alias("members"), *statistics).sort(keys)


def _named(zoo: Zoo) -> str:
    return printable(zoo.path, 1000)


def _notes(found: Analysis) -> None:
    """What a reader should know of what is missing."""
    if found.twins:
        found.notes += not_compared(found)
    for each in (found.zoo, *found.twins):
        diverged = each.metrics_history.filter(~pl.col("finite"))["member"].n_unique()
        if diverged:
            found.notes.append(
                f"{diverged} of {len(each)} members of {_named(each)} diverged (numbers that are "
                "not finite); from there on they are left out."
            )
        newest = each.epochs[-1]
        if newest < each.config.epochs:
            found.notes.append(
                f"{_named(each)} is at epoch {newest} of {each.config.epochs}: its training is "
                "not finished."
            )
    for name, column, why in (
        (
            "correlation",
            "pearson",
            "fewer than three members are left, or all are equally accurate",
        ),
        ("predictability", "r2", f"fewer than {MIN_MEMBERS} members are too few to predict"),
    ):
        table = found.tables.get(name)
        if table is not None and (missing := table[column].null_count()):
            found.notes.append(f"{missing} of {len(table)} rows of {name} are empty: {why}.")
    vd = found.twin("vd")
    if vd is not None and matched(vd, _REFERENCE_SPARSITY)[1] > SPARSITY_TOLERANCE:
        epoch, distance = matched(vd, _REFERENCE_SPARSITY)
        found.notes.append(
            f"{_named(vd)} is nowhere near {_REFERENCE_SPARSITY:.0%} sparsity: its members are "
            f"compared at epoch {epoch}, {100 * distance:.0f} points from it."
        )
    for kind, name in (("mp", "magnitude pruning"), ("vd", "variational dropout")):
        if found.twin(kind) is None:
            found.notes.append(f"No twin by {name} was given.")
