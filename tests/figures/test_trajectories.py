"""Trajectories, accuracy over sparsity, and comparison of methods."""

import numpy as np
import polars as pl
import pytest
from matplotlib.collections import LineCollection, PathCollection, PolyCollection
from matplotlib.patches import Rectangle

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


def test_trajectories_of_members_and_means(full):
    dense, mp, vd, sparsity = drawn("trajectories", full).axes
    for axes, method, quantity in (
        (dense, "dense", "test_acc"),
        (vd, "vd", "test_acc"),
        (sparsity, "vd", "sparsity"),
    ):
        table = rows(full, "trajectories", method=method).sort("epoch")
        mean = points(axes.get_lines()[-1])
        band, *_ = (c for c in axes.collections if isinstance(c, PolyCollection))
        edge = {tuple(p) for p in np.round(np.asarray(band.get_paths()[0].vertices), 3).tolist()}
        for x, middle, std in zip(
            mean[:, 0], mean[:, 1], 100 * table[f"{quantity}_std"].to_numpy(), strict=True
        ):
            assert {(x, round(middle - std, 3)), (x, round(middle + std, 3))} <= edge
        assert mean[:, 0].tolist() == table["epoch"].to_list()
        np.testing.assert_allclose(mean[:, 1], 100 * table[f"{quantity}_mean"].to_numpy())
        (members,) = [c for c in axes.collections if isinstance(c, LineCollection)]
        assert len(members.get_segments()) == MEMBERS
        third = rows(full, "members", method=method, member=3).sort("epoch")
        np.testing.assert_allclose(
            members.get_segments()[3],
            np.column_stack([third["epoch"], 100 * third[quantity].to_numpy()]),
            rtol=1e-6,
        )
    for ratio in RATIOS:
        table = rows(full, "trajectories", method="mp", ratio=ratio).sort("epoch")
        mean = points(line_with_label(mp, f"{100 * ratio:.0f} % pruned"))[:, 1]
        np.testing.assert_allclose(mean, 100 * table["test_acc_mean"].to_numpy())
    colors = [line_with_label(mp, f"{100 * ratio:.0f} % pruned").get_color() for ratio in RATIOS]
    assert len({tuple(color) for color in colors}) == len(RATIOS)


def test_many_members_are_rasterized(full):
    members = full.tables["members"]
    many = pl.concat(members.with_columns(pl.col("member") + 1000 * i) for i in range(40))
    crowded = with_tables(full, members=many)
    for analysis, rasterized in ((full, False), (crowded, True)):
        axes = drawn("trajectories", analysis).axes[0]
        (lines,) = [c for c in axes.collections if isinstance(c, LineCollection)]
        assert lines.get_rasterized() == rasterized


def test_diverged_members_end_and_are_counted(full):
    late = (pl.col("member") == 2) & (pl.col("epoch") >= 4) & (pl.col("method") == "vd")
    members = full.tables["members"].with_columns(
        finite=pl.col("finite") & ~late,
        # Other values of a diverged member may remain finite.
        test_acc=pl.when(late & (pl.col("epoch") > 5)).then(float("nan")).otherwise("test_acc"),
    )
    analysis = with_tables(full, members=members)
    figure = drawn("trajectories", analysis)
    (lines,) = (c for c in figure.axes[2].collections if isinstance(c, LineCollection))
    assert [len(segment) for segment in lines.get_segments()] == [11, 11, 4, 11, 11, 11]
    caption = figures.captions(analysis)["trajectories"]
    assert "Excluded after divergence: 1 of 6 (variational dropout)." in caption
    assert "divergence" not in figures.captions(full)["trajectories"]


def test_accuracy_over_sparsity(full):
    ends = {"above_difference": [0.01], "below_difference": [-0.01]}
    crossing = pl.DataFrame(
        {"above": [0.7], "below": [0.8], **ends, "sparsity": [None], "members": [MEMBERS]},
        schema_overrides={"sparsity": pl.Float64},
    )
    full = with_tables(full, crossing=crossing)
    axes = drawn("accuracy_over_sparsity", full).axes[0]
    mp = rows(full, "trajectories", method="mp", epoch=15).sort("ratio")
    vd = rows(full, "trajectories", method="vd").sort("epoch")
    for label, table in (
        ("magnitude pruning, by ratio, epoch 15", mp),
        ("variational dropout, by epoch", vd),
    ):
        if table is vd:
            line = points(line_with_label(axes, label))
        else:
            bars = bars_with_label(axes, label)
            line = points(bars[0])
            # Nothing is measured between ratios.
            assert bars[0].get_linestyle() == ":"
            ends = [segment[:, 1] for segment in bars[2][0].get_segments()]
            std = 100 * table["test_acc_std"].to_numpy()
            np.testing.assert_allclose(np.ptp(ends, axis=1), 2 * std, rtol=1e-4)
        np.testing.assert_allclose(line[:, 0], 100 * table["sparsity_mean"].to_numpy())
        np.testing.assert_allclose(line[:, 1], 100 * table["test_acc_mean"].to_numpy())
    dense = rows(full, "trajectories", method="dense", epoch=50)["test_acc_mean"][0]
    assert points(line_with_label(axes, "dense"))[:, 1] == pytest.approx([100 * dense] * 2)
    (band,) = [p for p in axes.patches if p.get_label() == "crossover between 70 % and 80 %"]
    assert isinstance(band, Rectangle)
    assert (band.get_x(), band.get_x() + band.get_width()) == pytest.approx((70, 80))
    dots = max(c.get_zorder() for c in axes.collections if isinstance(c, PathCollection))
    lines = [line for line in axes.get_lines() if line.get_linestyle() != "None"]
    assert dots > max(line.get_zorder() for line in lines)
    assert "interpolated" not in texts(drawn("accuracy_over_sparsity", full))
    point = with_tables(full, crossing=crossing.with_columns(sparsity=pl.lit(0.76)))
    line = line_with_label(drawn("accuracy_over_sparsity", point).axes[0], "interpolated at 76 %")
    assert points(line)[:, 0] == pytest.approx([76, 76])
    none = crossing.with_columns(pl.lit(None, pl.Float64).alias("above"))
    without = with_tables(full, crossing=none)
    assert "crossover" not in texts(drawn("accuracy_over_sparsity", without))


def test_methods(full):
    table = pl.DataFrame(
        {
            "sparsity": [0.5, 0.7, 0.9],
            "members": [MEMBERS, 4, 0],
            "mp_acc": [0.8, 0.7, None],
            "vd_acc": [0.7, 0.9, None],
            "difference": [0.1, -0.2, None],
            "low": [0.08, -0.25, None],
            "high": [0.15, -0.1, None],
        }
    )
    figure = drawn("methods", with_tables(full, methods=table))
    axes = figure.axes[0]
    (bars,) = axes.containers
    assert points(bars[0]) == pytest.approx(np.array([[50, 10], [70, -20]]))
    ends = [segment[:, 1].tolist() for segment in bars[2][0].get_segments()]
    assert ends == [pytest.approx([8, 15]), pytest.approx([-25, -10])]
    labels = {text.get_text() for text in axes.texts}
    assert "n=4" in labels and f"n={MEMBERS}" not in labels
    assert axes.get_ylabel() == "test accuracy, MP − VD\n(percentage points)"
    low, high = axes.get_ylim()
    assert low < -25 and high > 15
    empty = with_tables(full, methods=table.filter(members=0))
    assert figures.FIGURES["methods"](empty) is None
