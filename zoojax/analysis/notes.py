"""Notes of an analysis: what was left out, and why."""

import polars as pl

from zoojax import presets
from zoojax.analysis.agreement_tables import REFERENCE_SPARSITY
from zoojax.analysis.pairing import nearest_sparsity
from zoojax.analysis.paper import paper_results
from zoojax.analysis.paper_comparison import SPARSITY_TOLERANCE, comparison_notes
from zoojax.analysis.prunability import MIN_PREDICTED
from zoojax.analysis.rank_correlation import MIN_MEMBERS, TOO_FEW
from zoojax.analysis.results import Analysis, Method
from zoojax.storage.zoo import Zoo
from zoojax.text import printable

# Members that the statistics of a table need.
_NEEDED = {
    "correlation": MIN_MEMBERS,
    "change_by_hyperparameters": MIN_MEMBERS,
    "consistency": MIN_MEMBERS,
    "predictability": MIN_PREDICTED,
}


def add_notes(analysis: Analysis) -> None:
    """Adds notes on what was left out.

    Args:
        analysis: The analysis, with all tables; its notes are extended.
    """
    notes = analysis.notes
    has_own_images = analysis.zoo.config.shape.task.has_own_images
    if analysis.twins and not has_own_images:
        notes += comparison_notes(analysis)
    for each in (analysis.zoo, *analysis.twins):
        notes += _zoo_notes(each)
    for name, needed in _NEEDED.items():
        notes += _remarks(analysis.tables.get(name, pl.DataFrame()), name, needed)
    for method in [] if has_own_images else analysis.twin_methods("epoch"):
        epoch, distance = nearest_sparsity(method.zoo, REFERENCE_SPARSITY)
        if distance > SPARSITY_TOLERANCE:
            notes.append(
                f"{_named(method)} has no epoch within {100 * SPARSITY_TOLERANCE:.0f} points of "
                f"{REFERENCE_SPARSITY:.0%} mean sparsity: its members are compared at epoch "
                f"{epoch}, {100 * distance:.0f} points away."
            )
    notes += _missing_twins(analysis)


def _remarks(table: pl.DataFrame, name: str, needed: int) -> list[str]:
    """Notes on the rows of a table that lack their statistics."""
    if "remark" not in table.columns:
        return []
    counts = table["remark"].drop_nulls().value_counts().sort("remark")
    return [
        f"{count} of {len(table)} rows of {name.replace('_', ' ')} have no value: {remark}"
        f"{f' (fewer than {needed})' if remark == TOO_FEW else ''}."
        for remark, count in counts.iter_rows()
    ]


def _missing_twins(analysis: Analysis) -> list[str]:
    """Notes on sparsifiers of the paper without a twin, if the zoo is one of the paper's."""
    preset = presets.preset_of(analysis.zoo)
    if preset is None or paper_results(analysis.zoo.config.preset or "").is_empty():
        return []
    given = {twin.config.sparsifier.name for twin in analysis.twins}
    missing = [t.sparsifier for t in preset.twins if t.sparsifier.name not in given]
    return [f"No twin by {each.label} was given." for each in missing]


def _named(method: Method) -> str:
    """Path of a twin, with the name of the method if it is only a part of the twin."""
    part = "" if method.zoo is method.twin else f" ({printable(method.short)})"
    return _path(method.zoo) + part


def _path(zoo: Zoo) -> str:
    return printable(zoo.path, 1000)


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
