"""Torch's names and axes of each network and sparsifier, converted to Flax's and back."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import numpy as np
import pytest
import torch
from torch.nn.utils import prune

from tests.support.torch_models import (
    TorchCNN,
    TorchVariational,
    layer_prefixes,
    log_sigma2_to_flax,
    made_up_params,
    numpy_state,
    params_to_flax,
    params_to_torch,
)
from tests.support.torch_zoos import state as torch_state
from zoojax.architectures.cnn import small_cnn
from zoojax.architectures.registry import architecture
from zoojax.converters.layouts import networks
from zoojax.converters.layouts.base import Layer
from zoojax.converters.layouts.registry import LAYOUTS, layout_of
from zoojax.converters.state_dicts import (
    StateDictInfo,
    UnknownNetworkError,
    infer_network,
    to_member,
)
from zoojax.errors import ZoojaxError
from zoojax.sparsifiers.base import Sparsifier
from zoojax.sparsifiers.dense import Dense
from zoojax.sparsifiers.magnitude import MagnitudePruning
from zoojax.sparsifiers.registry import sparsifiers
from zoojax.sparsifiers.variational_dropout import VariationalDropout

ARCHITECTURES = [("small", 1), ("small", 3), ("large", 3)]
SMALL = small_cnn(1, 10)


def assert_same(actual, expected):
    """Equal trees, value by value."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


@pytest.mark.parametrize("dropout", [None, 0.5])
@pytest.mark.parametrize("name, channels", ARCHITECTURES)
def test_round_trip_from_torch_is_exact(name, channels, dropout):
    arch = architecture(name, channels)
    module = TorchCNN(name, channels, "tanh", dropout)
    state = numpy_state(module.state_dict())
    back = params_to_torch(params_to_flax(state, arch), arch, dropout is not None)
    assert list(back) == list(state)
    assert_same(back, state)
    loaded = module.load_state_dict({name: torch.tensor(value) for name, value in back.items()})
    assert not loaded.missing_keys
    assert not loaded.unexpected_keys


@pytest.mark.parametrize("name, channels", ARCHITECTURES)
def test_round_trip_from_flax_is_exact(name, channels):
    arch = architecture(name, channels)
    params = made_up_params(arch)
    assert_same(params_to_flax(params_to_torch(params, arch, False), arch), params)


@pytest.mark.parametrize("name, shape", [("small", (4, 3, 3)), ("large", (15, 2, 2))])
def test_fc1_inputs_are_permuted(name, shape):
    rng = np.random.default_rng(0)
    x, weight = rng.normal(size=(5, *shape)), rng.normal(size=(20, int(np.prod(shape))))
    flat = torch.nn.Flatten()(torch.tensor(x))
    expected = torch.nn.functional.linear(flat, torch.tensor(weight)).numpy()
    kernel = networks.kernel_to_flax("fc1", weight, networks.known_network(architecture(name, 1)))
    actual = x.transpose(0, 2, 3, 1).reshape(5, -1) @ kernel
    np.testing.assert_allclose(actual, expected, rtol=1e-12)
    # Without the permutation the outputs differ.
    assert np.abs(x.transpose(0, 2, 3, 1).reshape(5, -1) @ weight.T - expected).max() > 0.1


@pytest.mark.parametrize(
    "name, dropout, numbers",
    [
        ("small", None, [0, 3, 6, 9, 11]),
        ("small", 0.5, [0, 4, 8, 11, 14]),
        ("large", None, [0, 4, 8, 13, 16]),
        ("large", 0.5, [0, 4, 8, 13, 16]),
    ],
)
def test_module_numbers(name, dropout, numbers):
    expected = [f"module_list.{number}" for number in numbers]
    net = networks.known_network(architecture(name, 3))
    assert list(networks.default_prefixes(net, dropout is not None)) == expected
    state = TorchCNN(name, 3, "tanh", dropout).state_dict()
    assert [key.removesuffix(".weight") for key in state if key.endswith(".weight")] == expected
    # In any order of the file; 11 comes after 9.
    backwards = dict(reversed(state.items()))
    prefixes = layer_prefixes(backwards, architecture(name, 3))
    assert list(prefixes.items()) == list(zip(LAYERS, expected, strict=True))


LAYERS = ("conv1", "conv2", "conv3", "fc1", "fc2")


def test_mask_is_permuted_like_its_weight():
    module = TorchCNN("small", 1, "tanh")
    original = params_to_flax(numpy_state(module.state_dict()), SMALL)
    prune.global_unstructured(module.prunable(), prune.L1Unstructured, amount=0.5)
    state = numpy_state(module.state_dict())
    assert "module_list.9.weight_mask" in state
    masked = params_to_flax(state, SMALL)
    for layer, prefix in layer_prefixes(state, SMALL).items():
        mask = networks.kernel_to_flax(layer, state[f"{prefix}.weight_mask"], SMALL)
        assert 0 < mask.mean() < 1
        np.testing.assert_array_equal(masked[layer]["kernel"], original[layer]["kernel"] * mask)
        np.testing.assert_array_equal(masked[layer]["bias"], original[layer]["bias"])
        back = networks.kernel_to_torch(layer, mask, SMALL)
        np.testing.assert_array_equal(back, state[f"{prefix}.weight_mask"])


@pytest.mark.parametrize("variant", ["released", "corrected"])
def test_log_sigma2_is_permuted_like_its_weight(variant):
    module = TorchVariational("small", 1, "tanh", "released")
    with torch.no_grad():
        for layer in module.layers():
            layer.log_sigma2.copy_(layer.weight * 2)
            if isinstance(layer, torch.nn.Linear):
                # The released code leaves this one uninitialized.
                layer.register_buffer("log_sigma2_bias", torch.full_like(layer.bias, torch.nan))
            else:
                layer.log_sigma2_bias.copy_(layer.bias * 3)
    state = numpy_state(module.state_dict())
    params = params_to_flax(state, SMALL)
    expected = {
        layer: {"kernel": leaves["kernel"] * 2}
        | ({"bias": leaves["bias"] * 3} if layer[:4] == "conv" and variant == "released" else {})
        for layer, leaves in params.items()
    }
    assert_same(log_sigma2_to_flax(state, SMALL, variant), expected)


@pytest.mark.parametrize("change", ["fewer", "more"])
def test_wrong_number_of_layers_is_refused(change):
    state = numpy_state(TorchCNN("small", 1, "tanh").state_dict())
    if change == "fewer":
        del state["module_list.11.weight"]
    else:
        state["module_list.13.weight"] = np.zeros((10, 10), np.float32)
    with pytest.raises(UnknownNetworkError, match="no known network has weights of these shapes"):
        infer_network(state)


@pytest.mark.parametrize(
    "kind, sparsifier",
    [
        ("dense", Dense()),
        ("mp", MagnitudePruning().shared()),
        ("vd", VariationalDropout("released")),
        ("corrected", VariationalDropout("corrected")),
    ],
)
def test_sparsifier_and_arrays_of_a_state_dict(kind, sparsifier):
    state = numpy_state(torch_state(1, kind))
    info = infer_network(state)
    assert info == StateDictInfo(SMALL, sparsifier, networks.default_prefixes(SMALL, False))
    member = to_member(state, info)
    expected = {"params": params_to_flax(state, SMALL)}
    if kind == "mp":
        for layer, mask in member.pop("mask").items():
            member["params"][layer]["kernel"] = member["params"][layer]["kernel"] * mask
    if kind in ("vd", "corrected"):
        expected["log_sigma2"] = log_sigma2_to_flax(state, SMALL, sparsifier.variant)
        unused = member.pop("unused", {})
        assert set(unused) == ({"fc1", "fc2"} if kind == "vd" else set())
    assert_same(member, expected)


@pytest.mark.parametrize("name", list(LAYOUTS))
@pytest.mark.parametrize("shape", [(8, 1, 5, 5), (10, 20)])
def test_tensors_of_a_layer_are_consistent(name, shape):
    """Distinct names and places, one weight and one bias; they identify their sparsifier."""
    sparsifier = sparsifiers()[name]().shared()
    layer = Layer("layer", "module_list.0", shape)
    tensors = layout_of(sparsifier).tensors(sparsifier, layer)
    names = {tensor.name for tensor in tensors}
    assert len(names) == len({(t.part, t.leaf) for t in tensors}) == len(tensors)
    params = {t.leaf: t for t in tensors if t.part == "params"}
    assert params["kernel"].name == layout_of(sparsifier).weight
    assert {leaf: t.shape(layer) for leaf, t in params.items()} == {
        "kernel": shape,
        "bias": shape[:1],
    }
    inferred = (layout.infer(names) for layout in LAYOUTS.values())
    assert next(each for each in inferred if each is not None) == sparsifier


def test_sparsifier_without_a_layout_is_refused():
    with pytest.raises(ZoojaxError, match="no torch format is known for lottery tickets"):
        layout_of(Lottery())


@dataclass(frozen=True)
class Lottery(Sparsifier):
    """Has no torch layout."""

    name: ClassVar = "lottery"
    label: ClassVar = "lottery tickets"
    short: ClassVar = "LT"
    color: ClassVar = "#CC79A7"
