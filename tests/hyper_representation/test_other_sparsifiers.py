"""Hyper-representations of twins of sparsifiers that zoojax does not bring."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.support import representations, zoo_fixtures
from zoojax import Zoo, ZoojaxError
from zoojax.api.twins import sparsify
from zoojax.hyper_representation.dataset import has_log_alphas, read_samples, read_weights
from zoojax.hyper_representation.representation import open_representation
from zoojax.hyper_representation.zero_shot import compare, scores, zero_shot_twin
from zoojax.runtime import population
from zoojax.sparsifiers import registry
from zoojax.sparsifiers.base import Sparsifier
from zoojax.storage import zoo_images


@dataclass(frozen=True)
class GaussianDropout(Sparsifier):
    """Every parameter, each bias too, has a log sigma squared that depends on its value."""

    name: ClassVar = "gaussian_dropout"
    label: ClassVar = "Gaussian dropout"
    short: ClassVar = "GD"
    color: ClassVar = "#009E73"

    def init(self, params, values):
        log_sigma2 = jax.tree.map(lambda w: 2 * jnp.log(jnp.abs(w)) + 3 + jnp.sin(1e3 * w), params)
        return {"params": params, "log_sigma2": log_sigma2}, {}


@dataclass(frozen=True)
class Gates(Sparsifier):
    """Small weights are zero in evaluation, but keep their values in the state."""

    name: ClassVar = "gates"
    label: ClassVar = "gates"
    short: ClassVar = "GT"
    color: ClassVar = "#CC79A7"

    def init(self, params, values):
        return {"params": params}, {"open": jax.tree.map(lambda w: jnp.abs(w) > 0.1, params)}

    def effective(self, trainable, fixed):
        return jax.tree.map(lambda w, o: jnp.where(o, w, 0.0), trainable["params"], fixed["open"])


@pytest.fixture(scope="module", autouse=True)
def registered():
    """Registers the sparsifiers for the tests of this file only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_registered", dict(registry._registered))
        registry.register_sparsifier(GaussianDropout)
        registry.register_sparsifier(Gates)
        yield


@pytest.fixture(scope="module")
def dense(tmp_path_factory) -> Zoo:
    return representations.dense(tmp_path_factory)


@pytest.fixture(scope="module")
def noisy(dense, registered, tmp_path_factory) -> Zoo:
    out = tmp_path_factory.mktemp("noisy") / "twin"
    return sparsify(dense, GaussianDropout(), out, epochs=0, chunk=zoo_fixtures.CHUNK)


@pytest.fixture(scope="module")
def gated(dense, registered, tmp_path_factory) -> Zoo:
    out = tmp_path_factory.mktemp("gated") / "twin"
    return sparsify(dense, Gates(), out, epochs=0, chunk=zoo_fixtures.CHUNK)


def test_zero_shot_by_log_alphas_of_another_sparsifier(dense, noisy, tmp_path):
    assert has_log_alphas(noisy.config)
    path = tmp_path / "rep"
    representations.train_stub(path, noisy, representations.SETTINGS)
    representation = open_representation(path)
    leaves = {layer: set(names) for layer, names in representation.codec.variational.items()}
    assert leaves == {layer: {"kernel", "bias"} for layer in noisy.config.shape.layers}
    alphas = representation.reconstruct(dense.params())[1]
    assert alphas is not None
    assert {layer: set(tree) for layer, tree in alphas.items()} == leaves
    options = {"held_out_only": True, "chunk": zoo_fixtures.CHUNK}
    twin = zero_shot_twin(tmp_path / "zero", representation, dense, [0.5], **options)
    assert twin.members_table["parent_id"].to_list() == representation.config.zoos[0].members.test
    np.testing.assert_allclose(twin.metrics["sparsity"], 0.5, atol=1e-3)
    images = zoo_images.load_images(dense, None)
    table = compare(representation, dense, noisy, images, [0.5])
    true_mask = "true GD mask (epoch 0)"
    assert table["method"].unique(maintain_order=True).to_list()[-1] == true_mask
    # The log alpha of a weight is 3 + sin(1000 w).
    kernels = [-s for s in scores(representation, dense.params()).values()]
    assert all(np.isfinite(k).all() for k in kernels)
    row = table.filter(at_threshold=True, method=true_mask)
    rows = dense.row_indices(representation.config.zoos[0].members.test)
    weights = population.take(dense.params(), rows)
    flat = np.concatenate([np.ravel(leaves["kernel"]) for leaves in weights.values()])
    assert row["sparsity"].item() == pytest.approx((np.sin(1e3 * flat) >= 0).mean(), abs=1e-2)


def test_samples_are_the_parameters_that_members_are_evaluated_with(gated):
    assert not has_log_alphas(gated.config)
    samples = read_samples(gated, [2, 0], [0])
    assert samples.alphas is None
    sparse = population.take(gated.sparse_params(0), np.array([2, 0]))
    assert zoo_fixtures.same_bits(samples.weights, sparse)
    assert zoo_fixtures.same_bits(read_weights(gated, [2, 0], 0), sparse)
    assert not zoo_fixtures.same_bits(gated.params(0), gated.sparse_params(0))


def test_twin_without_log_alphas_needs_weights_only(gated, tmp_path):
    with pytest.raises(ZoojaxError, match=r"no log alphas.*--weights-only"):
        representations.train_stub(tmp_path / "rep", gated, representations.SETTINGS)
    representation = representations.train_stub(
        tmp_path / "rep", gated, representations.SETTINGS, weights_only=True
    )
    train = read_weights(gated, representation.config.zoos[0].members.train, 0)
    leaves = train["fc1"].values()
    values = np.concatenate([np.ravel(x) for x in leaves])
    assert representation.config.mean["fc1"] == pytest.approx(values.mean(), abs=1e-6)
    assert representation.codec.variational == {}
