"""Pruning frequency of weights, and sparsity by layer size."""

import numpy as np
import polars as pl
import pytest

from tests.support.figure_readers import bars_with_label, drawn, points, rows, texts
from zoojax.analysis.summaries import kernel_shapes
from zoojax.figures import weights


def test_kernel_image_is_tiled():
    kernel = np.arange(2 * 3 * 2 * 4, dtype=float).reshape(2, 3, 2, 4)
    image = weights.kernel_image(kernel.ravel(), kernel.shape)
    assert image.shape == (2 * 2 + 1, 4 * 3 + 3)
    np.testing.assert_array_equal(image[3:5, 8:11], kernel[:, :, 1, 2])
    assert np.isnan(image[2]).all() and np.isnan(image[:, [3, 7, 11]]).all()
    assert np.isnan(image).sum() == image.size - kernel.size
    np.testing.assert_array_equal(
        weights.kernel_image(np.arange(6.0), (2, 3)), np.arange(6.0).reshape(2, 3)
    )


@pytest.mark.parametrize(
    ("name", "method", "key", "values"),
    [
        ("pruning_frequency", "vd", "epoch", [5, 10]),
        ("pruning_frequency_mp", "mp", "ratio", [0.5, 0.9]),
    ],
)
def test_pruning_frequency(full, name, method, key, values):
    images = [axes.images[0] for axes in drawn(name, full).axes if axes.images]
    shapes = kernel_shapes(full.zoo)
    panels = [(value, layer) for value in values for layer in shapes]
    assert len(images) == len(panels)
    for (value, layer), image in zip(panels, images, strict=True):
        table = rows(full, "pruning_frequency", method=method, layer=layer, **{key: value})
        kernel = table.sort("weight")["frequency"].to_numpy().reshape(shapes[layer])
        shown = np.asarray(image.get_array())
        tile = kernel if kernel.ndim == 2 else kernel[:, :, -1, 1]
        where = np.s_[:, :]
        if kernel.ndim == 4:
            height, width = kernel.shape[:2]
            where = np.s_[-height:, width + 1 : 2 * width + 1]
        np.testing.assert_allclose(shown[where], 100 * tile)
        assert image.get_clim() == (0, 100)


def test_layer_size(full):
    figure = drawn("layer_size", full)
    axes = figure.axes[0]
    for epoch in (5, 10):
        shown = points(bars_with_label(axes, f"epoch {epoch}")[0])
        table = rows(full, "layer_sparsity", method="vd", epoch=epoch)
        means = dict(table.select("layer", "mean").rows())
        # conv1 and fc2 have 200 weights each.
        both = (means["conv1"] + means["fc2"]) / 2
        expected = [means["conv3"], both, means["fc1"], means["conv2"]]
        np.testing.assert_allclose(shown[:, 1], 100 * np.array(expected), rtol=1e-5)
        np.testing.assert_allclose(shown[:, 0], [96, 200, 720, 1200], rtol=0.05)
    assert axes.get_xscale() == axes.get_yscale() == "log"
    assert "conv1\nfc2" in texts(figure)


def test_layers_of_equal_size_are_pooled():
    one, other = np.array([0.2, 0.4, 0.6]), np.array([0.7, 0.8, 0.9])
    table = pl.DataFrame(
        {
            "weights": [8, 8, 9, 10],
            "mean": [one.mean(), other.mean(), 0.0, None],
            "std": [one.std(), other.std(), 0.0, None],
        }
    )
    pooled = np.concatenate([one, other])
    (row,) = weights.pool_equal_sizes(table).rows(named=True)
    assert row["weights"] == 8
    assert row["mean"] == pytest.approx(pooled.mean())
    assert row["std"] == pytest.approx(pooled.std())
