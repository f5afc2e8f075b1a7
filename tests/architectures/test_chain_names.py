"""Names that describe chains of layers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import zoojax
from zoojax import ZoojaxError
from zoojax.architectures.chain import Chain
from zoojax.architectures.chain_layers import (
    Activation,
    AvgPool,
    Conv,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool,
    MaxPool,
    Normalization,
)
from zoojax.architectures.chain_names import chain_name, is_chain_name, named_chain
from zoojax.architectures.layers import LAYER_ACTIVATIONS
from zoojax.architectures.registry import architecture, architectures

PADDINGS = st.sampled_from(["valid", "same", 0, 1])
IMAGE_LAYERS = st.one_of(
    st.builds(Conv, st.sampled_from([4, 12]), st.integers(1, 3), st.integers(1, 2), PADDINGS),
    st.builds(MaxPool, st.just(2), st.sampled_from([None, 1]), PADDINGS),
    st.builds(AvgPool, st.just(2), st.sampled_from([None, 1]), PADDINGS),
    st.builds(Normalization, st.just("group"), st.sampled_from([2, 4])),
)
ANY_LAYERS = st.one_of(
    st.just(Activation()),
    st.builds(Activation, st.sampled_from(sorted(LAYER_ACTIVATIONS))),
    st.builds(Activation, st.just("sine"), st.sampled_from([1.0, 0.5, 30.0, 12.25])),
    st.just(Dropout()),
    st.builds(Normalization, st.sampled_from(["batch", "layer"])),
)


@st.composite
def chains(draw) -> Chain:
    layers = [
        Conv(8, 3),
        *draw(st.lists(st.one_of(IMAGE_LAYERS, ANY_LAYERS), max_size=3)),
        draw(st.sampled_from([Flatten(), GlobalAvgPool()])),
        *draw(st.lists(st.one_of(st.builds(Dense, st.integers(1, 50)), ANY_LAYERS), max_size=4)),
    ]
    classes = draw(st.integers(1, 12))
    return Chain("any", 24, draw(st.sampled_from([1, 3])), classes, (*layers, Dense(classes)))


@given(chains())
def test_a_name_describes_a_chain(chain):
    name = chain_name(chain)
    assert name is not None and is_chain_name(name)
    named = named_chain(name, chain.channels, chain.classes)
    assert named.sequence == chain.sequence
    assert architecture(name, chain.channels, chain.classes) == named


def test_names():
    assert chain_name(architectures()["small"](1, 10)) == (  # type: ignore[arg-type]
        "chain-28-c8x5-m2-a-o-c6x5-m2-a-o-c4x2-a-f-d20-a-o-d"
    )
    layers = [Conv(3, 2, 2, 1), MaxPool(3, 2, "same"), Activation("sine", 30.0), Flatten()]
    chain = Chain("any", 28, 1, 10, (*layers, Dense(10)))
    assert chain_name(chain) == "chain-28-c3x2s2p1-m3s2same-sine30-f-d"


def test_chains_without_a_name():
    long = Chain("long", 28, 1, 10, (Flatten(), *[Activation("leaky_relu")] * 30, Dense(10)))
    assert chain_name(long) is None
    assert chain_name(architecture("siren", 1)) is None  # type: ignore[arg-type]
    exact = Activation("sine", 0.1234567891234)
    assert chain_name(Chain("omega", 28, 1, 10, (Flatten(), exact, Dense(10)))) is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("chain-f-d", "chain-f-d has no side of the images"),
        ("chain-28-f-x3-d", "'x3' in chain-28-f-x3-d is not a layer"),
        ("chain-28--d", "'' in chain-28--d is not a layer"),
        ("chain-28-d", "layer 1 of chain-28-d network, Dense(features=10), does not fit"),
        ("chain-28-c8x99-g-d", "layer 1 of chain-28-c8x99-g-d CNN"),
        ("chain-28-f-d20", "the last layer of chain-28-f-d20 network"),
        ("chain-28-m99-f-d", "window of a MaxPool is 99"),
        ("chain-28-c8x0-f-d", "'c8x0' in chain-28-c8x0-f-d is not a layer"),
        ("chain-28-f-sine0-d", "omega of an activation is 0.0"),
        ("chain-99999-f-d", "chain-99999-f-d network has 99,998,000,020"),
    ],
)
def test_invalid_names(name, message):
    with pytest.raises(ZoojaxError) as caught:
        architecture(name, 1)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_zoo_of_a_chain_that_is_not_registered(tmp_path):
    """It is saved, opened and sparsified without a module of the user."""
    images = np.random.default_rng(0).integers(0, 255, (60, 12, 12), np.uint8)
    layers = Conv(3, 3), MaxPool(2), Activation(), Flatten(), Dense(10)
    chain = Chain("mine", 12, 1, 10, layers)
    data = images, np.arange(60) % 10
    zoo = zoojax.train_zoo(
        None, tmp_path / "zoo", data=data, architecture=chain, members=2, epochs=1, quiet=True
    )
    assert zoo.config.architecture == "chain-12-c3x3-m2-a-f-d"
    opened = zoojax.open_zoo(tmp_path / "zoo")
    assert opened.config.shape.layers == ("conv1", "fc1")
    twin = zoojax.sparsify(opened, zoojax.MagnitudePruning((0.5,)), epochs=1, quiet=True)
    assert twin.metrics.filter(epoch=1)["sparsity"].round(2).to_list() == [0.5, 0.5]
    again = zoojax.train_zoo(
        None, data=data, architecture=zoo.config.architecture, members=2, epochs=1, quiet=True
    )
    np.testing.assert_array_equal(again.member(1)["fc1"]["kernel"], zoo.member(1)["fc1"]["kernel"])
