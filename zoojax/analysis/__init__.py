"""The paper's tables, and more, for any zoo and its twins.

Every function takes zoos and returns a polars frame:

    from zoojax import analysis, open_zoo

    zoo, twin = open_zoo("zoos/usps"), open_zoo("zoos/usps-vd")
    analysis.agreement(zoo, twin, epoch=10)
    analysis.correlation(zoo, twin)

`analyze` computes all of them at once; `zoojax analyze` also writes them and draws figures.
"""

import importlib
from typing import TYPE_CHECKING

from zoojax.deprecation import current_name

if TYPE_CHECKING:
    from zoojax.analysis.accuracy_pairings import correlation_pairings
    from zoojax.analysis.export import paper_tables, write_tables
    from zoojax.analysis.method_comparison import compare_methods, crossover
    from zoojax.analysis.pairing import member_metrics, nearest_sparsity_epoch, paired_metrics
    from zoojax.analysis.paper import paper_results
    from zoojax.analysis.paper_comparison import compare_with_paper
    from zoojax.analysis.pipeline import analyze
    from zoojax.analysis.prediction_agreement import (
        agreement,
        agreement_matrix,
        pairwise,
        predictions,
    )
    from zoojax.analysis.prunability import (
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

# Imported on first use: scipy takes seconds to import, and training only needs `summary`.
_PUBLIC = {
    "Analysis": "results",
    "agreement": "prediction_agreement",
    "agreement_matrix": "prediction_agreement",
    "analyze": "pipeline",
    "compare_with_paper": "paper_comparison",
    "by_hyperparameters": "summaries",
    "change_by_hyperparameters": "prunability",
    "compare_methods": "method_comparison",
    "rank_consistency": "prunability",
    "correlation": "rank_correlation",
    "correlation_pairings": "accuracy_pairings",
    "crossover": "method_comparison",
    "member_prunability": "prunability",
    "layer_sparsity": "summaries",
    "nearest_sparsity_epoch": "pairing",
    "member_metrics": "pairing",
    "paired_metrics": "pairing",
    "pairwise": "prediction_agreement",
    "outcome_predictability": "prunability",
    "predictions": "prediction_agreement",
    "paper_tables": "export",
    "pruning_frequency": "summaries",
    "paper_results": "paper",
    "summary": "summaries",
    "write_tables": "export",
}
_RENAMED = {
    "analyse": "analyze",
    "beside_paper": "compare_with_paper",
    "consistency": "rank_consistency",
    "crossing": "crossover",
    "friendliness": "member_prunability",
    "matched_epoch": "nearest_sparsity_epoch",
    "measurements": "member_metrics",
    "pairs": "paired_metrics",
    "predictability": "outcome_predictability",
    "printed_tables": "paper_tables",
    "published": "paper_results",
}

__all__ = [
    "Analysis",
    "agreement",
    "agreement_matrix",
    "analyze",
    "by_hyperparameters",
    "change_by_hyperparameters",
    "compare_methods",
    "compare_with_paper",
    "correlation",
    "correlation_pairings",
    "crossover",
    "layer_sparsity",
    "member_metrics",
    "member_prunability",
    "nearest_sparsity_epoch",
    "outcome_predictability",
    "paired_metrics",
    "pairwise",
    "paper_results",
    "paper_tables",
    "predictions",
    "pruning_frequency",
    "rank_consistency",
    "summary",
    "write_tables",
]


def __getattr__(name: str):
    name = current_name("zoojax.analysis", name, _RENAMED)
    if name not in _PUBLIC:
        raise AttributeError(f"module 'zoojax.analysis' has no attribute '{name}'")
    return getattr(importlib.import_module(f"zoojax.analysis.{_PUBLIC[name]}"), name)
