"""A synthetic zoo with both twins, and its analysis."""

import pytest

from tests.support import synthetic_zoos
from zoojax import analysis
from zoojax.hyperparameters.grid import Grid
from zoojax.storage.zoo import Zoo

RATIOS = (0.5, 0.7, 0.9)


@pytest.fixture(scope="session")
def family(tmp_path_factory) -> dict[str, Zoo]:
    """A zoo of 48 members with two activations and both its twins, with synthetic metrics."""
    root = tmp_path_factory.mktemp("family")
    dense = synthetic_zoos.dense(root / "dense", 24, Grid(activations=("tanh", "relu")))
    return {
        "dense": dense,
        "mp": synthetic_zoos.pruned(root / "mp", dense, RATIOS),
        "vd": synthetic_zoos.variational_dropout(root / "vd", dense, epochs=5),
    }


@pytest.fixture(scope="session")
def result(family) -> analysis.Analysis:
    """The analysis of `family`."""
    return analysis.analyze(family["dense"], [family["vd"], family["mp"]])
