"""An analysis of a small synthetic zoo with both twins."""

from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import polars as pl
import pytest

from tests.support import synthetic_zoos
from zoojax import figures
from zoojax.analysis import Analysis, analyze, rank_correlation
from zoojax.architectures.base import variable_shapes

RATIOS = (0.0, 0.5, 0.9)
MEMBERS = 6


def random_weights(config, seeds: list[int]) -> dict:
    """Weights without the initializers, which take half a minute to compile."""
    shapes = variable_shapes(config.shape)["params"]
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: rng.normal(0, 0.3, (len(seeds), *leaf.shape)).astype(np.float32), shapes
    )


@pytest.fixture(scope="session")
def small(tmp_path_factory) -> Analysis:
    """The analysis of a zoo of six members with both twins, as if six were enough to correlate."""
    folder = tmp_path_factory.mktemp("figures")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthetic_zoos, "_params", random_weights)
        zoo = synthetic_zoos.dense(folder / "dense", MEMBERS)
    mp = synthetic_zoos.pruned(folder / "mp", zoo, RATIOS)
    vd = synthetic_zoos.variational_dropout(folder / "vd", zoo, 10)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rank_correlation, "MIN_MEMBERS", 3)
        return analyze(zoo, [mp, vd])


@pytest.fixture(scope="session")
def full(small) -> Analysis:
    """As `small`, with a table of predictability, which needs more members."""
    rows = [
        (method, ratio, epoch, target, features, 40, 0.1 * i - 0.6)
        for i, (method, ratio, epoch, target, features) in enumerate(
            (method, ratio, epoch, target, features)
            for method, ratio, epoch in (("mp", 0.5, 15), ("mp", 0.9, 15), ("vd", None, 10))
            for target in ("test_acc", "change")
            for features in ("layer statistics", "dense accuracy")
        )
    ]
    columns = ["method", "ratio", "epoch", "target", "features", "members", "r2"]
    table = pl.DataFrame(rows, schema=columns, orient="row")
    return replace(small, tables={**small.tables, "predictability": table})


@pytest.fixture(scope="session")
def written(full, tmp_path_factory) -> list[Path]:
    """PNG files of all figures."""
    return figures.draw(full, tmp_path_factory.mktemp("written") / "new" / "figures")
