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
        pearson=-pl.col("epoch") / 100, kendall=pl.col("epoch") / 50
    )
    full = with_tables(full, correlation=table)
    mp, vd = drawn("correlation", full).axes
    dots = {c.get_label(): np.asarray(c.get_offsets()) for c in mp.collections}
    assert len(dots) == len(RATIOS)
    for ratio, (label, offsets) in zip(RATIOS, dots.items(), strict=True):
        assert label == f"{100 * ratio:.0f} % sparse: r = −0.15, τ = 0.30"
        table = rows(full, "friendliness", method="mp", ratio=ratio)
        expected = 100 * table.select("dense_acc", "test_acc").to_numpy()
        np.testing.assert_allclose(offsets, expected, rtol=1e-6)
    (compared,) = rows(full, "friendliness", method="vd")["epoch"].unique()
    assert compared < full.tables["correlation"].filter(method="vd")["epoch"].to_numpy().max()
    assert vd.get_title() == f"variational dropout, epoch {compared}"
    assert f"r = −{compared / 100:.2f}, τ = {compared / 50:.2f}" in str(
        vd.collections[0].get_label()
    )
    assert len(np.asarray(vd.collections[0].get_offsets())) == MEMBERS


def test_correlation_shows_at_most_five_ratios(full):
    table = rows(full, "friendliness", method="mp", ratio=0.9)
    ratios = [i / 10 for i in range(10)]
    many = pl.concat(table.with_columns(pl.lit(r).alias("ratio")) for r in ratios)
    coefficients = rows(full, "correlation", method="mp", ratio=0.9)
    shown = pl.concat(coefficients.with_columns(pl.lit(r).alias("ratio")) for r in ratios)
    analysis = with_tables(full, friendliness=many, correlation=shown)
    labels = [c.get_label() for c in drawn("correlation", analysis).axes[0].collections]
    assert [str(label).split()[0] for label in labels] == ["0", "20", "40", "70", "90"]


def test_null_correlations(full):
    names = [f"{n}{end}" for n in ("pearson", "kendall") for end in ("", "_low", "_high")]
    missing = pl.col("ratio") == 0.5
    table = full.tables["correlation"].with_columns(
        pl.when(missing).then(None).otherwise(pl.col(name)).alias(name) for name in names
    )
    analysis = with_tables(full, correlation=table)
    assert "50 % sparse: r = none, τ = none" in texts(drawn("correlation", analysis))
    bars = bars_with_label(
        drawn("correlation_over_sparsity", analysis).axes[0],
        "magnitude pruning, by ratio, epoch 15",
    )
    assert points(bars[0])[:, 0] == pytest.approx([0, 90])
    empty = table.with_columns(pl.lit(None, pl.Float64).alias(name) for name in names)
    analysis = with_tables(full, correlation=empty)
    assert figures.FIGURES["correlation_over_sparsity"](analysis) is None


def test_correlation_over_sparsity(full):
    figure = drawn("correlation_over_sparsity", full)
    for axes, name in zip(figure.axes, ("pearson", "kendall"), strict=True):
        table = rows(full, "correlation", method="mp", epoch=15).sort("ratio")
        bars = bars_with_label(axes, "magnitude pruning, by ratio, epoch 15")
        np.testing.assert_allclose(points(bars[0])[:, 1], table[name].to_numpy())
        low = [segment[:, 1].min() for segment in bars[2][0].get_segments()]
        expected = np.minimum(table[f"{name}_low"].to_numpy(), table[name].to_numpy())
        np.testing.assert_allclose(low, expected)
        line = line_with_label(axes, "variational dropout, by epoch")
        table = rows(full, "correlation", method="vd").sort("epoch")
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
