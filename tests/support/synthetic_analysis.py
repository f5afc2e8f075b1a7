"""Large synthetic analyses."""

from dataclasses import replace

import numpy as np
import polars as pl

from zoojax.analysis import Analysis


def large(analysis: Analysis, size: int = 1000) -> Analysis:
    """An analysis with many members and five ratios, with incompressible random metrics."""
    rng, parts = np.random.default_rng(0), []
    for method, ratios, epochs in (
        ("dense", [None], 51),
        ("mp", [0.5, 0.6, 0.7, 0.8, 0.9], 16),
        ("vd", [None], 26),
    ):
        members, count = size * len(ratios), size * len(ratios) * epochs
        member = np.repeat(np.arange(members), epochs)
        parts.append(
            pl.DataFrame(
                {
                    "method": [method] * count,
                    "ratio": pl.Series([ratios[m % len(ratios)] for m in member], dtype=pl.Float64),
                    "member": member,
                    "parent_id": pl.Series(
                        [None] * count if method == "dense" else member // len(ratios),
                        dtype=pl.Int64,
                    ),
                    "seed": member // len(ratios) + 1,
                    "activation": [("tanh", "relu")[m % 2] for m in member // len(ratios)],
                    "epoch": np.tile(np.arange(epochs), members),
                    **{
                        metric: rng.random(count)
                        for metric in ("test_acc", "train_acc", "ggap", "sparsity")
                    },
                    "finite": [True] * count,
                }
            )
        )
    return replace(analysis, tables={**analysis.tables, "members": pl.concat(parts)})
