"""Figures that compare methods: small multiples and heat maps."""

from collections.abc import Iterator
from unittest.mock import patch

import numpy as np
import pytest

from tests.figures.conftest import random_weights
from tests.support import synthetic_zoos
from tests.support.figure_readers import drawn, texts
from tests.support.masked_twins import random_twin
from zoojax import MagnitudePruning, RandomPruning, figures
from zoojax.analysis import Analysis
from zoojax.analysis.compared_methods import method_accuracy, method_ranking
from zoojax.analysis.mask_overlap import mask_overlap, method_layers

RATIOS = (0.5, 0.8)
FIGURES = ("method_accuracy", "method_ranking", "mask_overlap", "method_layers")


@pytest.fixture(scope="module")
def compared(tmp_path_factory) -> Iterator[Analysis]:
    """Random pruning is 20 points worse than magnitude pruning, at both ratios."""
    folder = tmp_path_factory.mktemp("compared")
    with patch.object(synthetic_zoos, "_params", random_weights):
        zoo = synthetic_zoos.dense(folder / "dense", 8)
    kinds = ((MagnitudePruning(RATIOS), 0.8), (RandomPruning(RATIOS), 0.6))
    twins = [
        random_twin(folder / kind.method, zoo, kind, lambda t, a=a: np.full(len(t), a), i)
        for i, (kind, a) in enumerate(kinds)
    ]
    result = Analysis(zoo, twins)
    for table in (method_accuracy, method_ranking, mask_overlap, method_layers):
        result.tables[f"added_{table.__name__}"] = table(result)
    yield result


def test_panels_are_labeled_with_method_and_budget(compared):
    figure = drawn("method_accuracy", compared)
    assert [axes.get_title() for axes in figure.axes] == ["MP\n51 epochs", "RP\n51 epochs"]


def test_ranking_has_accuracies_the_best_in_bold(compared):
    axes = drawn("method_ranking", compared).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["MP", "RP"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["50", "80"]
    cells = {text.get_text(): text.get_fontweight() for text in axes.texts}
    assert cells == {"80.0": "bold", "60.0": "normal"}


def test_heat_maps_name_their_sparsity(compared):
    for name in ("mask_overlap", "method_layers"):
        assert "80 % sparsity" in texts(drawn(name, compared))
    image = np.asarray(drawn("mask_overlap", compared).axes[0].images[0].get_array())
    # The overlap is below the diagonal, that by chance above; both masks are random.
    assert image[1, 0] == pytest.approx(image[0, 1], abs=1)
    assert image[0, 1] == pytest.approx(100 * 0.2 / 1.8, abs=1)


def test_one_method_has_nothing_to_compare(compared):
    alone = Analysis(compared.zoo, compared.twins[:1], compared.tables)
    assert [figures.FIGURES[name](alone) for name in FIGURES] == [None] * 4
