"""Factors of hidden units do not change the function of a network."""

import jax
import numpy as np
import pytest

from tests.support.symmetries import changed, copies, random_transform
from tests.support.torch_models import made_up_batch, made_up_variables
from zoojax.architectures.base import logits
from zoojax.architectures.chain import Chain
from zoojax.architectures.chain_layers import (
    Activation,
    AvgPool,
    Conv,
    Dense,
    Flatten,
    Layer,
    MaxPool,
    Normalization,
)
from zoojax.architectures.registry import architecture

CONV, HEAD = Conv(4, 3), (Flatten(), Dense(3))


def chain(*layers: Layer) -> Chain:
    return Chain("chain", 8, 1, 3, (CONV, *layers, *HEAD))


NORM = Normalization("batch")
NETWORKS = {
    "mlp": (architecture("mlp-12-8", 1, 10), {"tanh": [0, 1], "sine": [0, 1], "relu": [0, 1]}),
    # The sign of a unit does not commute with max pooling.
    "small": (architecture("small", 1), {"tanh": [2, 3], "leaky_relu": [0, 1, 2, 3], "gelu": []}),
    "siren": (architecture("siren-8-6", 1), {"tanh": [0, 1]}),
    "resnet": (
        architecture("resnet18-2-8", 1),
        {"relu": list(range(12)), "silu": []},
    ),
    "bottlenecks": (architecture("resnet50-2-8", 1), {"relu": list(range(37))}),
    "normalized": (chain(NORM, AvgPool(2), Activation()), {"tanh": [0], "relu": [0]}),
    # The factors begin after the normalization.
    "max pooling first": (chain(MaxPool(2), NORM, Activation()), {"tanh": [0], "relu": [0]}),
    "normalized last": (chain(Activation(), NORM), {"tanh": [], "relu": []}),
    "normalized twice": (chain(NORM, NORM, Activation()), {"relu": []}),
    "layer normalization": (chain(Normalization("layer"), Activation()), {"relu": []}),
    "two activations": (chain(Activation(), Activation()), {"relu": []}),
    "own activation": (chain(Activation("relu")), {"tanh": [0]}),
    "vit": (architecture("vit-12-1-6-4-8", 1), {"relu": []}),
}
SLOW = ("bottlenecks",)
CASES = [
    pytest.param(name, each, marks=pytest.mark.slow if name in SLOW else ())
    for name, (_, groups) in NETWORKS.items()
    for each in groups
]


@pytest.mark.parametrize("name, activation", CASES)
def test_factors_keep_the_function(name, activation):
    arch, groups = NETWORKS[name]
    rescalings = arch.rescalings(activation)
    assert [each.group for each in rescalings] == groups[activation]
    if not rescalings:
        return
    variables = made_up_variables(arch)
    transform = random_transform(arch, 1, rescalings=rescalings)
    images, module = made_up_batch(arch, 4).images, arch.module(activation, "uniform")
    apply = jax.jit(lambda v: logits(module, v, images))
    stacked = changed(arch, copies(variables, 1), transform, rescalings)
    before, after = apply(variables), apply(jax.tree.map(lambda x: x[0], stacked))
    scale = np.abs(np.asarray(before)).max()
    # A SIREN multiplies rounding errors by its frequency.
    tolerance = 1e-3 if name == "siren" else 1e-5
    np.testing.assert_allclose(after, before, rtol=0, atol=tolerance * scale)
