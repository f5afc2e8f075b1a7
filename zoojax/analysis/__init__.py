"""The paper's tables, and more, from any zoo and its twins.

Every function takes zoos and gives a polars frame:

    from zoojax import analysis, open_zoo

    zoo, twin = open_zoo("zoos/usps"), open_zoo("zoos/usps-vd")
    analysis.agreement(zoo, twin, epoch=10)
    analysis.correlation(zoo, twin)

`analyse` makes all of them at once; `zoojax analyse` writes them, and draws.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zoojax.analysis.agreements import agreement, agreement_matrix, pairwise, predictions
    from zoojax.analysis.beside import beside_paper
    from zoojax.analysis.correlations import correlation
    from zoojax.analysis.found import Analysis
    from zoojax.analysis.friendly import (
        change_by_hyperparameters,
        consistency,
        friendliness,
        predictability,
    )
    from zoojax.analysis.methods import compare_methods, crossing
    from zoojax.analysis.paper import published
    from zoojax.analysis.suite import analyse
    from zoojax.analysis.trajectories import (
        by_hyperparameters,
        layer_sparsity,
        pruning_frequency,
        summary,
    )
    from zoojax.analysis.twins import matched_epoch, measurements, pairs
    from zoojax.analysis.written import printed_tables, write_tables

# Imported where first used: scipy takes seconds, and a training wants a summary alone.
_PUBLIC = {
    "Analysis": "found",
    "agreement": "agreements",
    "agreement_matrix": "agreements",
    "analyse": "suite",
    "beside_paper": "beside",
    "by_hyperparameters": "trajectories",
    "change_by_hyperparameters": "friendly",
    "compare_methods": "methods",
    "consistency": "friendly",
    "correlation": "correlations",
    "crossing": "methods",
    "friendliness": "friendly",
    "layer_sparsity": "trajectories",
    "matched_epoch": "twins",
    "measurements": "twins",
    "pairs": "twins",
    "pairwise": "agreements",
    "predictability": "friendly",
    "predictions": "agreements",
    "printed_tables": "written",
    "pruning_frequency": "trajectories",
    "published": "paper",
    "summary": "trajectories",
    "write_tables": "written",
}

__all__ = [
    "Analysis",
    "agreement",
    "agreement_matrix",
    "analyse",
    "beside_paper",
    "by_hyperparameters",
    "change_by_hyperparameters",
    "compare_methods",
    "consistency",
    "correlation",
    "crossing",
    "friendliness",
    "layer_sparsity",
    "matched_epoch",
    "measurements",
    "pairs",
    "pairwise",
    "predictability",
    "predictions",
    "printed_tables",
    "pruning_frequency",
    "published",
    "summary",
    "write_tables",
]


def __getattr__(name: str):
    if name not in _PUBLIC:
        raise AttributeError(f"module 'zoojax.analysis' has no attribute '{name}'")
    return getattr(importlib.import_module(f"zoojax.analysis.{_PUBLIC[name]}"), name)
