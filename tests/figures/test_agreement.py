"""Matrices of pairwise agreement."""

from dataclasses import replace

import numpy as np
import pytest

from tests.support.figure_readers import drawn
from zoojax.figures import agreement


def test_all_panels_share_one_order_and_scale(full):
    generator = np.random.default_rng(0)
    group = np.array([0, 1, 0, 1, 0, 1])
    dense = 0.3 + 0.5 * (group[:, None] == group) + 0.01 * generator.random((6, 6))
    dense = (dense + dense.T) / 2
    np.fill_diagonal(dense, 1)
    twin = generator.random((6, 4))
    analysis = replace(
        full, matrices={"dense": dense, "mp 80%": twin[:4], "dense and mp 80%": twin}
    )
    order = agreement.cluster_order(dense)
    assert sorted(order) == list(range(6))
    assert np.abs(np.diff(group[order])).sum() == 1
    panels = drawn("agreement_matrix", analysis).axes[:3]
    shown = [np.asarray(axes.images[0].get_array()) for axes in panels]
    few = [member for member in order if member < 4]
    np.testing.assert_allclose(shown[0], 100 * dense[np.ix_(order, order)])
    np.testing.assert_allclose(shown[1], 100 * twin[np.ix_(order, few)])
    np.testing.assert_allclose(shown[2], 100 * twin[np.ix_(few, few)])
    titles = ["dense × dense", "dense × MP, 80 %", "MP × MP, 80 %"]
    assert [axes.get_title() for axes in panels] == titles
    limits = {axes.images[0].get_clim() for axes in panels}
    assert len(limits) == 1
    # The diagonal does not affect the color scale.
    assert limits.pop()[1] == pytest.approx(100 * max(dense[dense < 1].max(), twin.max()))


@pytest.mark.parametrize("members", [1, 2, 6])
def test_few_members_and_missing_values(full, members):
    matrix = np.full((members, members), 0.5)
    np.fill_diagonal(matrix, 1)
    matrix[-1] = matrix[:, -1] = np.nan
    figure = drawn("agreement_matrix", replace(full, matrices={"dense": matrix}))
    figure.draw_without_rendering()
    (panel,) = (axes for axes in figure.axes if axes.images)
    assert tuple(panel.images[0].get_size()) == (members, members)


def test_all_matrices_are_shown(full):
    assert len(full.matrices) == 5
    panels = [axes for axes in drawn("agreement_matrix", full).axes if axes.images]
    epoch = next(name.split()[-1] for name in full.matrices if name.startswith("vd "))
    assert [axes.get_title() for axes in panels] == [
        *("dense × dense", "dense × MP, 90 %", f"dense × VD, epoch {epoch}"),
        *("MP × MP, 90 %", f"VD × VD, epoch {epoch}"),
    ]
