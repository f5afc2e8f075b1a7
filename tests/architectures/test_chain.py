"""Chains: shapes, names, noise slots, layers compared with torch, and mistakes in descriptions."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from tests.support.torch_models import (
    assert_trees_close,
    made_up_params,
    nchw,
    params_to_flax,
)
from tests.support.torch_models import gradients as torch_gradients
from zoojax import ZoojaxError, keys
from zoojax.architectures.base import init_variables, logits, training_logits
from zoojax.architectures.chain import MAX_PARAMETERS, Chain
from zoojax.architectures.chain_layers import (
    Activation,
    AvgPool,
    Conv,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool,
    Layer,
    MaxPool,
    Normalization,
)
from zoojax.architectures.checks import check_architecture
from zoojax.converters.layouts.networks import default_prefixes, known_network
from zoojax.converters.layouts.torch_models import TorchChain
from zoojax.converters.state_dicts import StateDictInfo, to_torch
from zoojax.sparsifiers.dense import Dense as DenseZoo


def chain(*layers: Layer, size: int = 9, channels: int = 2, classes: int = 3) -> Chain:
    return Chain("own", size, channels, classes, layers)


HEAD = Flatten(), Dense(3)
NETWORKS = {
    "stride": chain(Conv(4, 3, stride=2), Activation("relu"), *HEAD, size=11),
    "stride and pooling": chain(Conv(4, 2, stride=2, padding=1), MaxPool(2), *HEAD),
    "same": chain(Conv(4, 3, padding="same"), Activation("sine"), AvgPool(2), *HEAD),
    "activation, then pooling": chain(Conv(4, 2), Activation("gelu"), MaxPool(3), *HEAD),
    "overlapping": chain(Conv(4, 2), MaxPool(3, stride=2, padding=1), Conv(5, 2), *HEAD),
    "overlapping averages": chain(AvgPool(3, stride=1, padding=1), *HEAD),
    "global": chain(Conv(4, 3), Activation("identity"), GlobalAvgPool(), Dense(5), Dense(3)),
    "fully convolutional": chain(Conv(4, 3), Activation(), Conv(3, 1), GlobalAvgPool()),
    "vector": chain(Flatten(), Dense(6), Activation("silu"), Dense(3)),
}


@pytest.mark.parametrize("net", NETWORKS.values(), ids=list(NETWORKS))
def test_layers_match_torch(net):
    params, rng = made_up_params(net), np.random.default_rng(0)
    images = jnp.asarray(rng.standard_normal((4, *net.image_shape)), jnp.float32)

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def run(params):
        outputs = logits(net.module("tanh", "uniform"), {"params": params}, images)
        return jnp.sum(outputs**2), outputs

    (_, actual), gradients = run(params)
    info = StateDictInfo(known_network(net), DenseZoo(), default_prefixes(net, dropout=False))
    state = {k: torch.tensor(v) for k, v in to_torch({"params": params}, info).items()}
    module = TorchChain(net, "tanh")
    module.load_state_dict(state)
    outputs = module(nchw(images))
    np.testing.assert_allclose(actual, outputs.detach().numpy(), rtol=0, atol=1e-5)
    (outputs**2).sum().backward()
    expected = params_to_flax(torch_gradients(module), net)
    assert_trees_close(dict(gradients), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "norm", [Normalization("batch"), Normalization("group"), Normalization("layer")]
)
def test_normalization(norm):
    """Also after flattening; permutations move scales, offsets and statistics with the units."""
    net = chain(Conv(4, 3), norm, MaxPool(2), Activation(), Flatten(), norm, Dense(5), Dense(3))
    check_architecture(net)
    assert net.permuted_units() == (4, 5)
    paths = {axis.path for axis in net.permutations[0]}
    assert {"conv1/kernel", "norm1/scale", "norm2/bias", "fc1/kernel"} <= paths
    assert ("norm2/var" in paths) == (norm.kind == "batch")
    assert net.layers == ("conv1", "fc1", "fc2")
    assert net.kernel is None
    with pytest.raises(ZoojaxError, match="no torch layout is known for architecture own"):
        known_network(net)


def test_units_of_several_groups_are_not_permuted():
    net = chain(Conv(4, 3), Normalization("group", groups=2), *HEAD[:1], Dense(6), Dense(3))
    assert net.permuted_units() == (6,)


def test_batch_statistics_are_those_of_the_batch_without_padding():
    net = chain(Conv(4, 3), Normalization("batch"), *HEAD)
    variables, noise = init_variables(net, "uniform", 0), keys.step_noise(jax.random.key(0), 0)
    images = jnp.asarray(np.random.default_rng(0).standard_normal((4, *net.image_shape)))
    images = images.astype(jnp.float32)
    module, mask = net.module("tanh", "uniform"), jnp.array([True, True, False, False])
    outputs, updated = training_logits(module, variables, images, noise, None, mask)
    other = training_logits(module, variables, images.at[2:].set(7.0), noise, None, mask)
    np.testing.assert_array_equal(outputs[:2], other[0][:2])
    assert not np.array_equal(
        updated["batch_stats"]["norm1"]["mean"], variables["batch_stats"]["norm1"]["mean"]
    )


def test_names_and_noise_slots():
    """Every layer with weights and every dropout draws other noise."""
    net = chain(
        *(Dropout(), Conv(4, 3), Activation(), Dropout(), Dropout(), Conv(4, 2), Activation()),
        *(Flatten(), Dense(5), Dropout(), Dense(3)),
    )
    assert [step.name for step in net.steps if step.name] == ["conv1", "conv2", "fc1", "fc2"]
    slots = [step.slot for step in net.steps if step.slot is not None]
    assert len(set(slots)) == len(slots) == 8
    assert max(slots) < net.noise_slots
    assert [s.slot for s in net.steps if s.layer.has_weights] == [0, 1, 2, 3]


@pytest.mark.parametrize("net", NETWORKS.values(), ids=list(NETWORKS))
def test_kernel_spec_has_the_same_shapes(net):
    spec = net.kernel
    assert spec is not None
    assert spec.parameter_shapes() == net.parameter_shapes()
    assert spec.shapes[1:] == tuple(step.outputs for step in net.steps)
    slots = [op.slot for op in spec.operations if hasattr(op, "slot")]
    assert slots == [step.slot for step in net.steps if step.slot is not None]


def test_chains_are_hashable_values():
    assert hash(NETWORKS["stride"]) == hash(
        chain(Conv(4, 3, stride=2), Activation("relu"), *HEAD, size=11)
    )
    assert NETWORKS["stride"] != NETWORKS["same"]


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (
            (Conv(4, 5), Conv(4, 7), *HEAD),
            r"layer 2 of own CNN, Conv\(features=4, kernel=7.*, does not fit its input of 5x5x4: "
            "its window of side 7 is larger than the image",
        ),
        ((Dense(3),), r"layer 1 .* its input of 9x9x2: it takes a vector; put Flatten\(\)"),
        ((Flatten(), Conv(4, 3)), r"layer 2 .* its input of 162 values: it takes an image"),
        ((Flatten(), MaxPool(2)), "it takes an image"),
        ((Flatten(), Dense(4)), r"the last layer of own network, Dense.*, returns 4 values, not 3"),
        ((Conv(3, 9),), r"returns 1x1x3, not 3 logits"),
        ((Conv(4, 3), Normalization("group", groups=3), *HEAD), "4 channels .* into 3 groups"),
        ((), "own network has 0 layers"),
        ((Flatten(), Dense(2**16), Dense(2**12), Dense(3)), f"at most {MAX_PARAMETERS:,}"),
    ],
)
def test_layers_that_do_not_fit_together(layers, message):
    with pytest.raises(ZoojaxError, match=message):
        chain(*layers)


@pytest.mark.parametrize(
    ("create", "message"),
    [
        (lambda: Activation("swish"), "no activation named 'swish'; there are: tanh, sigmoid,"),
        (lambda: Activation("sine", omega=float("nan")), "omega of an activation is nan"),
        (lambda: Normalization("spectral"), "no normalization named 'spectral'"),
        (lambda: Normalization("batch", groups=2), "only group normalization has groups"),
        (lambda: Conv(0, 3), "features of a Conv is 0, not a whole number from 1"),
        (lambda: Conv(4, any_value(3.0)), "kernel of a Conv is 3.0"),
        (lambda: Conv(4, 3, padding=any_value("full")), "padding of a Conv is 'full'"),
        (lambda: Dense(any_value(True)), "features of a Dense is True"),
        (lambda: MaxPool(12), "window of a MaxPool is 12"),
        (lambda: AvgPool(2, padding=2), "padding is more than half of the window"),
    ],
)
def test_mistakes_in_a_layer(create, message):
    with pytest.raises(ZoojaxError, match=message):
        create()


def any_value(value: object) -> Any:
    """A value of a wrong type."""
    return value


def test_padding_that_torch_does_not_have():
    net = chain(Conv(4, 2, padding="same"), *HEAD)
    with pytest.raises(ZoojaxError, match="pads images by 0 before and 1 after"):
        TorchChain(net, "tanh")
