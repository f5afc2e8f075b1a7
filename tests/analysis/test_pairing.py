"""The epoch of a twin that represents a sparsity."""

import numpy as np
import polars as pl
import pytest

from tests.support.altered_zoos import with_metrics
from zoojax import analysis
from zoojax.analysis.pairing import nearest_sparsity, smoothed, value_groups


@pytest.mark.parametrize(
    ("curve", "expected"),
    [
        ([0.5], [0.5]),
        ([0.0, 0.4], [0.0, 0.4]),
        ([0.0, 0.3, 0.9, 0.6], [0.0, 0.4, 0.6, 0.6]),
    ],
)
def test_neighboring_epochs_are_averaged(curve, expected):
    np.testing.assert_allclose(smoothed(np.array(curve)), expected)


def test_unusual_epoch_does_not_stand_for_a_sparsity(family, tmp_path):
    """Epoch 1 happens to have 60 % sparsity, which its neighbors do not."""
    sparsity = {0: 0.0, 1: 0.6, 2: 0.2, 3: 0.4, 4: 0.62, 5: 0.8}

    def changed(table):
        return table.with_columns(
            pl.col("epoch").replace_strict(sparsity).cast(pl.Float32).alias("sparsity")
        )

    twin = with_metrics(family["vd"], tmp_path / "vd", changed)
    assert analysis.nearest_sparsity_epoch(twin, 0.6) == 4
    epoch, distance = nearest_sparsity(twin, 0.6)
    assert (epoch, distance) == (4, pytest.approx(0.02, abs=1e-6))


def test_numbers_with_many_values_are_compared_in_ranges():
    values = pl.Series("learning_rate", [*np.geomspace(1e-4, 1e-1, 40), None, float("nan")])
    groups = value_groups(values.sample(fraction=1.0, shuffle=True, seed=1))
    assert groups.drop_nulls().value_counts().sort("learning_rate").rows() == [
        ("0.0001 to 0.00049", 10),
        ("0.00059 to 0.0029", 10),
        ("0.0035 to 0.017", 10),
        ("0.02 to 0.1", 10),
    ]
    assert groups.null_count() == 2
    few = pl.Series("dropout", [0.0, 0.5, None])
    assert value_groups(few).to_list() == ["0.0", "0.5", None]
    assert value_groups(pl.Series("activation", ["relu", "tanh"])).to_list() == ["relu", "tanh"]
