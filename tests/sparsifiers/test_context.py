"""What sparsifiers may use of a member: inputs of layers, means over images, draws, rewinding."""

import functools
import operator
from dataclasses import dataclass
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.support import zoo_fixtures
from tests.support.plugins.residual_cnn import ResidualCNN
from zoojax import (
    OBS,
    SNIP,
    MagnitudePruning,
    Needs,
    Sparsifier,
    SynFlow,
    Wanda,
    ZoojaxError,
    functional,
    sparsify,
)
from zoojax.architectures.base import init_variables
from zoojax.architectures.chain import Chain
from zoojax.architectures.chain_layers import Activation, Conv, Dense, Flatten, MaxPool
from zoojax.architectures.linen import LinenArchitecture
from zoojax.architectures.parameters import flat_layers
from zoojax.runtime import population
from zoojax.sparsifiers import registry
from zoojax.sparsifiers.base import Batch
from zoojax.sparsifiers.context import Context, init_member
from zoojax.storage.states import state_shapes, traced_shapes
from zoojax.storage.zoo_images import load_images

KEY = jax.random.key(1)


class Own(nn.Module):
    """Convolutions with strides, padding and dilation, in a nested module."""

    classes: int

    @nn.compact
    def __call__(self, images, train=False):
        x = nn.Conv(3, (3, 2), strides=(2, 1), padding="VALID", name="first")(images)
        x = nn.Conv(4, (2, 2), padding=((1, 0), (0, 1)), kernel_dilation=2, name="second")(x)
        return nn.Dense(self.classes, name="head")(x.reshape(len(x), -1))


class Bare(nn.Module):
    """A layer that is neither a convolution nor fully connected."""

    classes: int

    @nn.compact
    def __call__(self, images, train=False):
        x = images.reshape(len(images), -1)
        return x @ self.param("kernel", nn.initializers.ones, (x.shape[-1], self.classes))


class Unknown(nn.Module):
    classes: int

    @nn.compact
    def __call__(self, images, train=False):
        return Bare(self.classes, name="bare")(images)


LAYERS = (
    Conv(3, 3, stride=2, padding="same"),
    Activation(),
    MaxPool(3, 2),
    Conv(2, 2),
    Flatten(),
    Dense(5),
)
ARCHITECTURES = [
    Chain("chain", 12, 2, 5, LAYERS),
    ResidualCNN("residual_cnn", 28, 1, 10),
    LinenArchitecture("own", 8, 2, 3, Own(3)),
]


@pytest.mark.parametrize("arch", ARCHITECTURES, ids=lambda arch: arch.name)
def test_rows_times_kernel_are_the_outputs_of_each_layer(arch):
    """The outputs that Flax records, before the bias, for any layer."""
    variables = init_variables(arch, "kaiming_uniform", 1)
    params = variables.pop("params")
    context = Context(arch, "relu", variables, KEY)
    images = jnp.asarray(np.random.default_rng(0).normal(size=(3, *arch.image_shape)), jnp.float32)
    module = getattr(arch.module("relu", "uniform"), "network", arch.module("relu", "uniform"))
    _, recorded = module.apply(
        {"params": params, **variables}, images, capture_intermediates=True, mutable="intermediates"
    )
    inputs = jax.jit(context.inputs)(params, images)
    assert inputs.keys() == set(arch.layers)
    for path, leaves in flat_layers(params).items():
        if "kernel" not in leaves:
            continue
        kernel = leaves["kernel"]
        (output,) = functools.reduce(operator.getitem, path.split("/"), recorded["intermediates"])[
            "__call__"
        ]
        product = inputs[path] @ kernel.reshape(-1, kernel.shape[-1]) + leaves["bias"][None]
        if output.ndim == 6:  # Laid out for pooling, which drops rows and columns.
            rows = output.shape[1] * output.shape[2]
            output = jnp.moveaxis(output, 3, 4).reshape(len(images), rows, -1, output.shape[-1])
            side = int((len(product) / len(images)) ** 0.5)
            product = product.reshape(len(images), side, side, -1)[:, :rows, :rows]
        np.testing.assert_allclose(
            product.reshape(-1, kernel.shape[-1]), output.reshape(-1, kernel.shape[-1]), atol=2e-5
        )


def test_unknown_layers_are_refused_before_training():
    arch = LinenArchitecture("own", 8, 1, 3, Unknown(3))
    MagnitudePruning().check_architecture(arch)
    for sparsifier in (Wanda(), OBS()):
        with pytest.raises(ZoojaxError, match="inputs of layer bare of own network are unknown"):
            sparsifier.check_architecture(arch)


@pytest.mark.parametrize("kind", [SNIP, SynFlow, OBS])
def test_shapes_of_states_are_those_of_init(dense, kind):
    """They are known without tracing `init`."""
    arch, sparsifier = dense.config.shape, kind().shared()
    assert sparsifier.has_mask_only
    assert state_shapes(arch, sparsifier) == traced_shapes(arch, sparsifier)


def test_grouped_convolutions_are_refused():
    class Grouped(nn.Module):
        @nn.compact
        def __call__(self, images, train=False):
            x = nn.Conv(4, (3, 3), feature_group_count=2, name="conv")(images)
            return nn.Dense(3, name="head")(x.mean((1, 2)))

    arch = LinenArchitecture("own", 8, 2, 3, Grouped())
    params = init_variables(arch, "uniform", 1)["params"]
    with pytest.raises(ZoojaxError, match="layer conv are unknown: grouped"):
        Context(arch, "tanh", {}, KEY).inputs(params, jnp.zeros((1, 8, 8, 2)))


@pytest.mark.parametrize("count", [5, 32, 64, 70])
def test_mean_over_all_images(count):
    """Whole batches, a smaller last one, or both."""
    images = jnp.asarray(np.random.default_rng(0).normal(size=(count, 2, 2, 1)), jnp.float32)
    data = Batch(images, jnp.arange(count), jnp.ones(count))
    context = Context(ARCHITECTURES[0], "tanh", {}, KEY, data)

    def means(batch):
        return {"pixels": batch.images.mean(0), "label": batch.labels.mean()}

    averaged = context.mean(means)
    np.testing.assert_allclose(averaged["pixels"], images.mean(0), atol=1e-6)
    np.testing.assert_allclose(averaged["label"], (count - 1) / 2, rtol=1e-6)


@dataclass(frozen=True)
class Recording(Sparsifier):
    """Keeps what it is given."""

    name: ClassVar = "recording"
    label: ClassVar = "recording"
    short: ClassVar = "REC"
    color: ClassVar = "#000000"

    samples: int = 0
    rewind: int | None = None

    @property
    def needs(self) -> Needs:
        return Needs(self.samples, self.rewind)

    def init(self, params: dict[str, Any], values: dict[str, Any]) -> tuple[dict, dict]:
        context = values["context"]
        given = {"key": jax.random.key_data(context.key), "rewind": context.rewind}
        if context.data is not None:
            given |= {"labels": context.data.labels, "images": context.data.images}
        return {"params": params}, {name: x for name, x in given.items() if x is not None}


def given_of(sparsifier, seed, train=None) -> dict[str, Any]:
    arch = ARCHITECTURES[0]
    return init_member(sparsifier, arch, "tanh", {}, {}, {}, jnp.uint32(seed), None, train)[1]


def test_images_are_drawn_without_replacement_by_seed():
    images = np.arange(50, dtype=np.float32).reshape(50, 1, 1, 1)
    train = jnp.asarray(images), jnp.arange(50)
    drawn = {seed: given_of(Recording(20), seed, train) for seed in (1, 2)}
    for given in drawn.values():
        labels = np.asarray(given["labels"])
        assert len(set(labels)) == 20
        np.testing.assert_array_equal(given["images"][:, 0, 0, 0], labels)
    assert not np.array_equal(drawn[1]["labels"], drawn[2]["labels"])
    assert not np.array_equal(drawn[1]["key"], drawn[2]["key"])
    # More images are these and others.
    more = given_of(Recording(40), 1, train)["labels"]
    np.testing.assert_array_equal(more[:20], drawn[1]["labels"])
    assert len(given_of(Recording(500), 1, train)["labels"]) == 50


def test_twins_are_given_the_epoch_to_rewind_to(dense, monkeypatch):
    monkeypatch.setattr(registry, "_registered", {**registry._registered, "recording": Recording})
    twin = sparsify(dense, Recording(rewind=1), epochs=0, quiet=True)
    assert zoo_fixtures.same_bits(twin.state()["rewind"], dense.params(1))
    assert zoo_fixtures.same_bits(twin.params(), dense.params(2))
    assert "labels" not in twin.state()


def test_missing_epoch_is_refused_before_anything_is_written(dense, tmp_path):
    with pytest.raises(ZoojaxError, match="has no epoch 7 to rewind to; its last one is 2"):
        sparsify(dense, Recording(rewind=7), tmp_path / "twin", quiet=True)
    assert not list(tmp_path.iterdir())


def test_sparsifiers_without_needs_are_given_no_context():
    pruning, params = MagnitudePruning((0.5,)), {"fc": {"kernel": jnp.array([[1.0, 2.0]])}}
    assert pruning.needs is None
    arch, values = ARCHITECTURES[0], {"num_pruned": {"all": 1}}
    _, fixed = init_member(pruning, arch, "tanh", params, values, {}, jnp.uint32(1))
    assert fixed["mask"]["fc"].tolist() == [[False, True]]


def test_functional_members_equal_those_of_a_zoo(dense, train_images):
    images, labels = train_images
    wanda = Wanda(ratios=(0.5,), samples=40)
    twin = sparsify(dense, wanda, epochs=0, quiet=True)
    member = functional.init("small", 2, params=dense.member(1))
    member = jax.jit(functional.sparsify, static_argnums=1)(member, wanda, images, labels)
    expected = population.take(twin.state()["mask"], 1)
    assert zoo_fixtures.same_bits(jax.device_get(member.state.fixed["mask"]), expected)


@pytest.fixture
def train_images(dense):
    part = load_images(dense, None).train
    return part.images, part.labels


@pytest.fixture
def dense(tmp_path_factory):
    return zoo_fixtures.dense(tmp_path_factory)


@pytest.mark.parametrize(
    "sparsifier, options, problem",
    [
        (Wanda((0.5,)), {}, "Wanda needs training images; give images and labels"),
        (Wanda((0.5,)), {"images": np.zeros((3, 8, 8, 1)), "labels": [1]}, "images have shape"),
        (Recording(rewind=0), {}, "recording rewinds weights; give rewind"),
        (Recording(rewind=0), {"rewind": {}}, "'conv1' is missing"),
    ],
)
def test_missing_arguments_of_functional_sparsify(sparsifier, options, problem):
    member = functional.init("small", 1)
    with pytest.raises(ZoojaxError, match=problem):
        functional.sparsify(member, sparsifier, **options)
