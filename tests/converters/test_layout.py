"""Conversion of torch's names and axes to Flax's and back."""

import jax
import numpy as np
import pytest
import torch
from torch.nn.utils import prune

from tests.support.torch_models import TorchCNN, TorchVariational, made_up_params, numpy_state
from zoojax.architectures.registry import architecture
from zoojax.converters import layout
from zoojax.errors import ZoojaxError

ARCHITECTURES = [("small", 1), ("small", 3), ("large", 3)]
SMALL = architecture("small", 1)


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
    back = layout.params_to_torch(layout.params_to_flax(state, arch), arch, dropout is not None)
    assert list(back) == list(state)
    assert_same(back, state)
    loaded = module.load_state_dict({name: torch.tensor(value) for name, value in back.items()})
    assert not loaded.missing_keys
    assert not loaded.unexpected_keys


@pytest.mark.parametrize("name, channels", ARCHITECTURES)
def test_round_trip_from_flax_is_exact(name, channels):
    arch = architecture(name, channels)
    params = made_up_params(arch)
    assert_same(layout.params_to_flax(layout.params_to_torch(params, arch, False), arch), params)


@pytest.mark.parametrize("name, shape", [("small", (4, 3, 3)), ("large", (15, 2, 2))])
def test_fc1_inputs_are_permuted(name, shape):
    rng = np.random.default_rng(0)
    x, weight = rng.normal(size=(5, *shape)), rng.normal(size=(20, int(np.prod(shape))))
    flat = torch.nn.Flatten()(torch.tensor(x))
    expected = torch.nn.functional.linear(flat, torch.tensor(weight)).numpy()
    kernel = layout.kernel_to_flax("fc1", weight, architecture(name, 1))
    actual = x.transpose(0, 2, 3, 1).reshape(5, -1) @ kernel
    np.testing.assert_allclose(actual, expected, rtol=1e-12)
    # Without the permutation the outputs differ.
    assert np.abs(x.transpose(0, 2, 3, 1).reshape(5, -1) @ weight.T - expected).max() > 0.1


@pytest.mark.parametrize(
    "name, dropout, numbers",
    [
        ("small", None, [0, 3, 6, 9, 11]),
        ("small", 0.5, [0, 4, 8, 11, 14]),
        ("large", None, [0, 3, 6, 10, 12]),
        ("large", 0.5, [0, 4, 8, 13, 16]),
    ],
)
def test_module_numbers(name, dropout, numbers):
    assert layout.MODULES[name, dropout is not None] == tuple(map(str, numbers))
    state = TorchCNN(name, 3, "tanh", dropout).state_dict()
    expected = [f"module_list.{number}" for number in numbers]
    assert [key.removesuffix(".weight") for key in state if key.endswith(".weight")] == expected
    # In any order of the file; 11 comes after 9.
    backwards = dict(reversed(state.items()))
    prefixes = layout.layer_prefixes(backwards, architecture(name, 3))
    assert list(prefixes.items()) == list(zip(LAYERS, expected, strict=True))


LAYERS = ("conv1", "conv2", "conv3", "fc1", "fc2")


def test_mask_is_permuted_like_its_weight():
    module = TorchCNN("small", 1, "tanh")
    original = layout.params_to_flax(numpy_state(module.state_dict()), SMALL)
    prune.global_unstructured(module.prunable(), prune.L1Unstructured, amount=0.5)
    state = numpy_state(module.state_dict())
    assert "module_list.9.weight_mask" in state
    masked = layout.params_to_flax(state, SMALL)
    for layer, prefix in layout.layer_prefixes(state, SMALL).items():
        mask = layout.kernel_to_flax(layer, state[f"{prefix}.weight_mask"], SMALL)
        assert 0 < mask.mean() < 1
        np.testing.assert_array_equal(masked[layer]["kernel"], original[layer]["kernel"] * mask)
        np.testing.assert_array_equal(masked[layer]["bias"], original[layer]["bias"])
        back = layout.kernel_to_torch(layer, mask, SMALL)
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
    params = layout.params_to_flax(state, SMALL)
    expected = {
        layer: {"kernel": leaves["kernel"] * 2}
        | ({"bias": leaves["bias"] * 3} if layer[:4] == "conv" and variant == "released" else {})
        for layer, leaves in params.items()
    }
    assert_same(layout.log_sigma2_to_flax(state, SMALL, variant), expected)


@pytest.mark.parametrize("change", ["fewer", "more"])
def test_wrong_number_of_layers_is_refused(change):
    state = numpy_state(TorchCNN("small", 1, "tanh").state_dict())
    if change == "fewer":
        del state["module_list.11.weight"]
    else:
        state["module_list.13.weight"] = np.zeros((10, 10), np.float32)
    count = 4 if change == "fewer" else 6
    message = f"{count} layers with weights, but the small CNN has 5: conv1, conv2, conv3, fc1, fc2"
    with pytest.raises(ZoojaxError, match=message):
        layout.params_to_flax(state, SMALL)
    with pytest.raises(ZoojaxError, match=message):
        layout.log_sigma2_to_flax(state, SMALL, "released")
