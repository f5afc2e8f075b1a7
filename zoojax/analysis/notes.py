"""Notes of an analysis: what was left out, and why."""

import polars as pl

from zoojax import presets
from zoojax.analysis.agreement_tables import REFERENCE_SPARSITY
from zoojax.analysis.pairing import nearest_sparsity
from zoojax.analysis.paper import paper_results
from zoojax.analysis.paper_comparison import SPARSITY_TOLERANCE, comparison_notes
from zoojax.analysis.prunability import MIN_MEMBERS
from zoojax.analysis.results import Analysis
from zoojax.storage.zoo import Zoo
from zoojax.text import printable


def add_notes(analysis: Analysis) -> None:
    """Adds notes on what was left out.

    Args:
        analysis: The analysis, with all tables; its notes are extended.
    """
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
    for method in analysis.twin_methods("epoch"):
        epoch, distance = nearest_sparsity(method.zoo, REFERENCE_SPARSITY)
        if distance > SPARSITY_TOLERANCE:
            notes.append(
                f"{_path(method.zoo)} has no epoch within {100 * SPARSITY_TOLERANCE:.0f} points of "
                f"{REFERENCE_SPARSITY:.0%} sparsity: its members are compared at epoch {epoch}, "
                f"{100 * distance:.0f} points away."
            )
    notes += _missing_twins(analysis)


def _missing_twins(analysis: Analysis) -> list[str]:
    """Notes on sparsifiers of the paper without a twin, if the zoo is one of the paper's."""
    preset = presets.preset_of(analysis.zoo)
    if preset is None or paper_results(analysis.zoo.config.preset or "").is_empty():
        return []
    given = {twin.config.sparsifier.name for twin in analysis.twins}
    missing = [t.sparsifier for t in preset.twins if t.sparsifier.name not in given]
    return [f"No twin by {each.label} was given." for each in missing]


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
