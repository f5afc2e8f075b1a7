"""Vision transformers: names, permutation groups and units."""

import jax.numpy as jnp
import numpy as np
import pytest

from tests.support.torch_models import made_up_params
from zoojax.architectures import vit
from zoojax.architectures.checks import check_architecture, check_replaceable
from zoojax.architectures.registry import architecture
from zoojax.architectures.units import unit_masks, weights_by_unit
from zoojax.errors import ZoojaxError

ARCH = architecture("vit-12-1-3-4-8-5", 1)


def test_groups_do_not_change_the_function_and_layers_can_be_replaced():
    check_architecture(ARCH)
    check_replaceable(ARCH)
    # Values of tokens, heads, units of the MLP, hidden units of the head.
    assert ARCH.permuted_units() == (12, 3, 48, 5)


def test_removing_an_attention_head_removes_its_values_alone():
    groups = ARCH.permutations
    kept = [jnp.ones(units, bool) for units in ARCH.permuted_units()]
    kept[1] = jnp.array([True, False, True])
    shapes = {
        f"{layer}/{leaf}": shape
        for layer, leaves in ARCH.parameter_shapes().items()
        for leaf, shape in leaves.items()
    }
    masks = {path: np.asarray(mask) for path, mask in unit_masks(shapes, kept, groups).items()}
    # Queries, keys and values of four values for each of three heads.
    qkv = masks["blocks.0.attn.qkv/kernel"].reshape(12, 3, 3, 4)
    assert not qkv[:, :, 1].any() and qkv[:, :, [0, 2]].all()
    proj = masks["blocks.0.attn.proj/kernel"].reshape(3, 4, 12)
    assert not proj[1].any() and proj[[0, 2]].all()
    changed = {path for path, mask in masks.items() if not mask.all()}
    assert changed == {axis.path for axis in groups[1]}


def test_weights_of_an_attention_head():
    kernel = made_up_params(ARCH)["blocks.0.attn.qkv"]["kernel"]
    (axis,) = (each for each in ARCH.permutations[1] if each.path == "blocks.0.attn.qkv/kernel")
    actual = weights_by_unit(jnp.asarray(kernel), axis, 3)
    expected = kernel.reshape(12, 3, 3, 4)[:, :, 1]
    assert actual.shape == (3, 12 * 3 * 4)
    np.testing.assert_array_equal(np.sort(actual[1]), np.sort(expected.ravel()))


@pytest.mark.parametrize(
    "name",
    [
        "vit-12-1-5-4",  # heads do not divide the width
        "vit-12-1-3-5",  # patches do not divide the image
        "vit-12-1-3",
        "vit-12-1-3-4-8-5-6",
        "vit-9999-64-1-4",
        "vit-12-65-3-4",
    ],
)
def test_sizes_that_do_not_fit_are_unknown_names(name):
    with pytest.raises(ZoojaxError, match=r"no architecture named .*such as vit-64-4-4-8"):
        architecture(name, 1)


def test_name_has_the_default_side():
    assert architecture("vit-12-1-3-4", 3).image_shape == (vit.SIZE, vit.SIZE, 3)
