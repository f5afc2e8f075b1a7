"""Pruning frequency of weights, and sparsity by layer size."""

import numpy as np
import polars as pl
import pytest

from tests.support.figure_readers import bars_with_label, drawn, points, rows, with_tables
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
    mp, vd = drawn("layer_size", full).axes
    layers = ["conv3", "conv1", "fc2", "fc1", "conv2"]
    for axes, populations in (
        (vd, {f"epoch {epoch}": {"method": "vd", "epoch": epoch} for epoch in (5, 10)}),
        (mp, {f"{r} % pruned": {"method": "mp", "epoch": 15, "ratio": r / 100} for r in (50, 90)}),
    ):
        assert {c.get_label() for c in axes.containers} == set(populations)
        for label, population in populations.items():
            shown = points(bars_with_label(axes, label)[0])
            table = rows(full, "layer_sparsity", **population)
            means = dict(table.select("layer", "mean").rows())
            by_position = shown[np.argsort(shown[:, 0])]
            np.testing.assert_allclose(by_position[:, 1], [100 * means[name] for name in layers])
            assert np.abs(by_position[:, 0] - np.arange(5)).max() < 0.5
        labels = [label.get_text() for label in axes.get_xticklabels()]
        assert labels == ["conv3\n96", "conv1\n200", "fc2\n200", "fc1\n720", "conv2\n1,200"]
        assert axes.get_yscale() == "linear"


def test_layers_without_zeros_are_drawn(full):
    table = full.tables["layer_sparsity"].with_columns(
        mean=pl.when(pl.col("layer") == "fc2").then(0.0).otherwise("mean").cast(pl.Float32)
    )
    for axes in drawn("layer_size", with_tables(full, layer_sparsity=table)).axes:
        for bars in axes.containers:
            assert len(points(bars[0])) == 5
