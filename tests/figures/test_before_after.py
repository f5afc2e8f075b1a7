"""Accuracy before and after sparsification, its correlation and predictability."""

import numpy as np
import polars as pl
import pytest

from tests.figures.conftest import MEMBERS, RATIOS
from tests.support.figure_readers import (
    bars_with_label,
    drawn,
    line_with_label,
    points,
    rows,
    texts,
    with_tables,
)
from zoojax import figures
from zoojax.figures import before_after


def test_correlation(full):
    # Different at each epoch, so that a wrong epoch is noticed.
    table = full.tables["correlation"].with_columns(
        *(pl.lit(low).alias(f"pearson_{end}") for end, low in (("low", -0.5), ("high", 0.25))),
        *(pl.lit(low).alias(f"kendall_{end}") for end, low in (("low", 0.0), ("high", 0.75))),
        pearson=-pl.col("epoch") / 100,
        kendall=pl.col("epoch") / 50,
    )
    full = with_tables(full, correlation=table)
    *mp, vd = drawn("correlation", full).axes
    for ratio, axes in zip(RATIOS, mp, strict=True):
        assert axes.get_title().splitlines() == [
            f"MP, {100 * ratio:.0f} % pruned, n = {MEMBERS}",
            "r = −0.15 [−0.50, 0.25]",
            "τ = 0.30 [0.00, 0.75]",
        ]
        table = rows(full, "friendliness", method="mp", ratio=ratio)
        (dots,) = axes.collections
        expected = 100 * table.select("dense_acc", "test_acc").to_numpy()
        np.testing.assert_allclose(np.asarray(dots.get_offsets()), expected, rtol=1e-6)
        (line,) = axes.get_lines()
        assert dots.get_zorder() > line.get_zorder()
        low, high = axes.get_ylim()
        assert high - low < 2 * np.ptp(expected[:, 1])
    (compared,) = rows(full, "friendliness", method="vd")["epoch"].unique()
    assert compared < full.tables["correlation"].filter(method="vd")["epoch"].to_numpy().max()
    sparsity = rows(full, "correlation", method="vd", epoch=compared)["sparsity"][0]
    assert vd.get_title().startswith(
        f"VD, epoch {compared} ({100 * round(sparsity, 3):.4g} %), n = {MEMBERS}\n"
        f"r = −{compared / 100:.2f} "
    )
    assert len(np.asarray(vd.collections[0].get_offsets())) == MEMBERS


def test_correlation_shows_at_most_eight_ratios(full):
    table = rows(full, "friendliness", method="mp", ratio=0.9)
    ratios = [i / 20 for i in range(20)]
    many = pl.concat(table.with_columns(pl.lit(r).alias("ratio")) for r in ratios)
    coefficients = rows(full, "correlation", method="mp", ratio=0.9)
    shown = pl.concat(coefficients.with_columns(pl.lit(r).alias("ratio")) for r in ratios)
    analysis = with_tables(full, friendliness=many, correlation=shown)
    titles = [axes.get_title() for axes in drawn("correlation", analysis).axes]
    assert len(titles) == 8
    assert titles[-1].startswith("MP, 95 % pruned")


def test_correlations_of_too_few_members_are_not_shown(full):
    names = [f"{n}{end}" for n in ("pearson", "kendall") for end in ("", "_low", "_high")]

    def without(condition: pl.Expr) -> pl.DataFrame:
        return full.tables["correlation"].with_columns(
            *(pl.when(condition).then(None).otherwise(pl.col(n)).alias(n) for n in names),
            remark=pl.when(condition).then(pl.lit("too few members")).otherwise("remark"),
        )

    few = with_tables(full, correlation=without(pl.col("ratio") == 0.5))
    titles = [axes.get_title() for axes in drawn("correlation", few).axes]
    assert [title.endswith("r and τ: too few members") for title in titles] == [
        *(False, True, False, False)
    ]
    bars = bars_with_label(
        drawn("correlation_over_sparsity", few).axes[0], "magnitude pruning, by ratio"
    )
    assert points(bars[0])[:, 0] == pytest.approx([0, 90])
    pruned = with_tables(full, correlation=without(pl.col("method") == "mp"))
    assert "magnitude pruning: too few members" in texts(drawn("correlation_over_sparsity", pruned))
    none = with_tables(full, correlation=without(pl.lit(True)))
    assert figures.FIGURES["correlation_over_sparsity"](none) is None


def test_correlation_over_sparsity(full):
    # Sparsity decreases at the last epoch.
    table = full.tables["correlation"]
    last = (pl.col("method") == "vd") & (pl.col("epoch") == 10)
    table = table.with_columns(sparsity=pl.when(last).then(0.5).otherwise("sparsity"))
    full = with_tables(full, correlation=table)
    figure = drawn("correlation_over_sparsity", full)
    for axes, name in zip(figure.axes, ("pearson", "kendall"), strict=True):
        table = rows(full, "correlation", method="mp", epoch=15).sort("ratio")
        bars = bars_with_label(axes, "magnitude pruning, by ratio")
        np.testing.assert_allclose(points(bars[0])[:, 1], table[name].to_numpy())
        low = [segment[:, 1].min() for segment in bars[2][0].get_segments()]
        expected = np.minimum(table[f"{name}_low"].to_numpy(), table[name].to_numpy())
        np.testing.assert_allclose(low, expected)
        line = line_with_label(axes, "variational dropout, by epoch")
        table = rows(full, "correlation", method="vd").filter(pl.col("epoch") > 0).sort("sparsity")
        assert len(table) == 10 and table["epoch"].to_list() != sorted(table["epoch"])
        np.testing.assert_allclose(points(line)[:, 0], 100 * table["sparsity"].to_numpy())
        np.testing.assert_allclose(points(line)[:, 1], table[name].to_numpy())


def test_predictability_bars_are_cut_and_labeled(full):
    for axes, target in zip(
        drawn("predictability", full).axes, ("test_acc", "change"), strict=True
    ):
        labels = {text.get_text() for text in axes.texts}
        for features in ("layer statistics", "dense accuracy"):
            expected = rows(full, "predictability", target=target, features=features)[
                "r2"
            ].to_numpy()
            heights = [bar.get_height() for bar in bars_with_label(axes, features)]
            assert heights == pytest.approx(np.maximum(expected, before_after.MIN_R2))
            for value in expected:
                assert (f"{value:.2f}".replace("-", "−") in labels) == (value < before_after.MIN_R2)


def test_no_figure_without_predictability(small):
    assert small.tables["predictability"]["r2"].null_count() == len(small.tables["predictability"])
    assert figures.FIGURES["predictability"](small) is None
