"""Lines and barriers agree with NumPy; ends are the members themselves."""

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl
import pytest

from tests.support import zoo_fixtures
from tests.support.plugins.residual_cnn import ResidualCNN
from tests.support.symmetries import copies
from tests.support.torch_models import made_up_variables
from zoojax import geometry
from zoojax.architectures.base import logits
from zoojax.datasets.specs import Images
from zoojax.errors import ZoojaxError
from zoojax.geometry import barriers, lines
from zoojax.geometry.points import curve_coefficients, evaluate_sums
from zoojax.geometry.statistics import estimated
from zoojax.storage.zoo_images import load_images


@pytest.fixture
def dense(tmp_path_factory):
    return zoo_fixtures.dense(tmp_path_factory)


def measured_by_hand(zoo, params, split) -> tuple[float, float]:
    """Loss and accuracy of one member with given parameters, in NumPy."""
    module = zoo.config.shape.module("tanh", "uniform")
    outputs = np.asarray(logits(module, {"params": params}, split.images), np.float64)
    shifted = outputs - outputs.max(1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    loss = -log_probabilities[np.arange(len(outputs)), split.labels].mean()
    return loss, (outputs.argmax(1) == split.labels).mean()


def test_points_are_those_of_interpolated_weights(dense, tmp_path_factory):
    """Parent to twin, of which the pruned weights are zeros."""
    twin, split = zoo_fixtures.pruned(tmp_path_factory), load_images(dense, None).val
    table = lines(
        dense, twin, pairs=[(2, 7), (0, 1)], epoch=1, other_epoch=2, points=4, split="val"
    )
    assert table["first"].to_list() == [2] * 4 + [0] * 4
    assert table["second"].to_list() == [7] * 4 + [1] * 4
    for first, second, position, loss, acc in table.iter_rows():
        ends = dense.member(first, 1), jax.tree.map(lambda x: x[0], twin.sparse_params(2, [second]))
        params = jax.tree.map(lambda a, b, t=position: (1 - t) * a + t * b, *ends)
        expected = measured_by_hand(dense, params, split)
        np.testing.assert_allclose(loss, expected[0], rtol=1e-4)
        assert abs(acc - expected[1]) < 1e-6


def test_ends_are_the_members(dense):
    table, metrics = lines(dense, points=3), dense.metrics.filter(epoch=2)
    assert table.select("first", "second").unique(maintain_order=True).rows() == [
        *((0, 1), (0, 2), (1, 2))
    ]
    for position, column in ((0.0, "first"), (1.0, "second")):
        ends = table.filter(position=position).join(metrics, left_on=column, right_on="member")
        np.testing.assert_allclose(ends["loss"], ends["test_loss"], rtol=1e-5)
        np.testing.assert_allclose(ends["acc"], ends["test_acc"], rtol=1e-6)


def test_default_pairs(dense, tmp_path_factory):
    """Each member at two epochs; parent and twins; twins of the same parent and ratio."""
    mp, vd = (zoo_fixtures.KINDS[kind](tmp_path_factory) for kind in ("mp", "vd"))

    def pairs(*zoos, **options) -> list:
        table = lines(*zoos, points=2, split="val", **options)
        return table.select("first", "second").unique(maintain_order=True).rows()

    assert pairs(dense, epoch=0, other_epoch=2) == [(0, 0), (1, 1), (2, 2)]
    assert pairs(dense, mp) == [(i // 3, i) for i in range(9)]
    assert pairs(mp, vd) == [(i, i // 3) for i in range(9)]
    assert pairs(mp, mp, epoch=0, other_epoch=2) == [(i, i) for i in range(9)]


def test_aligned_lines_are_those_of_the_aligned_zoo(dense):
    """A zoo aligned to member 0 has the same lines from member 0."""
    pairs = [(0, 1), (0, 2)]
    own = lines(dense, pairs=pairs, align=True, points=5)
    other = lines(geometry.align(dense, to=0).zoo, pairs=pairs, points=5)
    np.testing.assert_allclose(own["loss"], other["loss"], rtol=1e-4)
    straight = lines(dense, pairs=pairs, points=5)
    inside = pl.col("position").is_between(0.1, 0.9)
    assert not np.allclose(own.filter(inside)["loss"], straight.filter(inside)["loss"])


def test_barriers_by_hand():
    table = pl.DataFrame(
        {
            "first": [0] * 3 + [1] * 3,
            "second": [5] * 3 + [6] * 3,
            "position": [0.0, 0.5, 1.0] * 2,
            "loss": [1.0, 4.0, 2.0, 1.0, 0.5, 2.0],
            "acc": [0.9, 0.3, 0.5, 0.8, 0.9, 0.8],
        }
    )
    found = barriers(table)
    assert found.select("first", "second").rows() == [(0, 5), (1, 6)]
    np.testing.assert_allclose(found["loss_barrier"], [2.5, 0])
    np.testing.assert_allclose(found["acc_barrier"], [0.4, 0])
    # The order of the rows does not matter.
    assert barriers(table.sort("loss")).sort("first").equals(found)


def test_coefficients_of_curves():
    np.testing.assert_allclose(curve_coefficients([0, 0.25, 1], 2), [[1, 0], [0.75, 0.25], [0, 1]])
    np.testing.assert_allclose(curve_coefficients([0.25], 3), [[0.5625, 0.375, 0.0625]])


def test_batch_statistics_are_the_means_over_batches():
    """Those of the first normalization, computed by hand."""
    arch = ResidualCNN("residual_cnn", 28, 1, 10)
    variables = made_up_variables(arch)
    batches = np.random.default_rng(0).normal(size=(3, 5, 28, 28, 1)).astype(np.float32)
    found = jax.jit(lambda v, b: estimated(arch, "relu", v, b))(variables, batches)["batch_stats"]

    def conv(images):
        kernel, bias = (variables["params"]["stem"][name] for name in ("kernel", "bias"))
        numbers = ("NHWC", "HWIO", "NHWC")
        y = jax.lax.conv_general_dilated(
            jnp.asarray(images), kernel, (1, 1), [(1, 1)] * 2, dimension_numbers=numbers
        )
        y = np.asarray(y).reshape(5, 7, 4, 7, 4, -1).max((2, 4))
        return y + bias

    values = [conv(images) for images in batches]
    means = np.mean([y.mean((0, 1, 2)) for y in values], axis=0)
    variances = np.mean([y.var((0, 1, 2)) for y in values], axis=0)
    np.testing.assert_allclose(found["stem_norm"]["mean"], means, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["stem_norm"]["var"], variances, rtol=1e-3)


def test_sums_of_members_with_batch_statistics():
    """With images for statistics they are estimated again, otherwise they are interpolated."""
    arch = ResidualCNN("residual_cnn", 28, 1, 10)
    variables = copies(made_up_variables(arch), 2, noise=0.5)
    rng = np.random.default_rng(1)
    images = rng.normal(size=(20, 28, 28, 1)).astype(np.float32)
    split = Images(images, rng.integers(0, 10, 20).astype(np.int32))
    rows, weights = np.array([[0, 1], [1, 0]]), np.array([[0.5, 0.5], [1.0, 0.0]])
    kept = evaluate_sums(arch, "relu", variables, rows, weights, split, None)
    again = evaluate_sums(arch, "relu", variables, rows, weights, split, images)
    module = arch.module("relu", "uniform")
    for i, (a, b) in enumerate(weights):
        at = rows[i]
        own = jax.tree.map(lambda x, a=a, b=b, at=at: a * x[at[0]] + b * x[at[1]], variables)
        fresh = estimated(arch, "relu", own, jnp.asarray(images[None]))
        for found, given in ((kept, own), (again, fresh)):
            log = jax.nn.log_softmax(logits(module, given, jnp.asarray(images)))
            expected = -np.asarray(log)[np.arange(20), split.labels].mean()
            np.testing.assert_allclose(found["loss"][i], expected, rtol=1e-3)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"points": 1}, "give at least 2"),
        ({"split": "all"}, "no split named 'all'"),
        ({"pairs": [(0, 9)]}, "no member 9"),
        ({"pairs": [(0, 1, 2)]}, "give pairs of ids"),
        ({"pairs": 5}, "give pairs of ids"),
        ({"pairs": [(0, "a")]}, "id of a member"),
        ({"pairs": []}, "pairs"),
        ({"epoch": 9}, "no epoch 9"),
        ({"align": True, "symmetries": ["x"]}, "no symmetry named 'x'"),
    ],
)
def test_invalid_arguments(dense, options, message):
    with pytest.raises(ZoojaxError, match=message):
        lines(dense, **options)
