"""Masks of any pytree, compared with torch.nn.utils.prune and with the zoos' masks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch.nn.utils import prune

from tests.support.torch_models import made_up_params
from zoojax.architectures.cnn import small_cnn
from zoojax.architectures.parameters import kernels
from zoojax.functional import magnitude_mask
from zoojax.sparsifiers.allocation import num_pruned
from zoojax.sparsifiers.score_pruning import pruning_mask

# 0.5 of 5 and 0.1 of 25 are ties of rounding; torch rounds half to even.
RATIOS = (0.0, 0.1, 0.3, 0.5, 0.77, 0.99)
SHAPES = ((5, 1), (5, 5), (3, 2, 2, 4))


def torch_masks(arrays, ratio, scope):
    modules = []
    for array in arrays:
        module = torch.nn.Module()
        module.weight = torch.nn.Parameter(torch.from_numpy(array))
        modules.append(module)
    if scope == "global":
        pairs = [(module, "weight") for module in modules]
        prune.global_unstructured(pairs, prune.L1Unstructured, amount=ratio)
    else:
        for module in modules:
            prune.l1_unstructured(module, "weight", amount=ratio)
    return [module.weight_mask.numpy() == 1 for module in modules]


@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("ratio", RATIOS)
def test_masks_equal_those_of_torch(ratio, scope):
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=shape).astype(np.float32) for shape in SHAPES]
    # Without leaves named "kernel", all but vectors are pruned.
    params = {"a": {"w": arrays[0], "b": np.zeros(3, np.float32)}, "b": [arrays[1], arrays[2]]}
    mask = magnitude_mask(params, ratio, scope)
    assert jax.tree.structure(mask) == jax.tree.structure(params)
    for one, other in zip(
        [mask["a"]["w"], *mask["b"]], torch_masks(arrays, ratio, scope), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    assert mask["a"]["b"].all()


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_ties_are_broken_as_in_zoos(scope):
    params = jax.tree.map(lambda x: jnp.round(x * 4) / 4, made_up_params(small_cnn(1, 10)))
    shapes = {layer: w.shape for layer, w in kernels(params).items()}
    for ratio in (0.5, 0.9):
        counts = {name: jnp.int32(n) for name, n in num_pruned(ratio, shapes, scope).items()}
        mask = magnitude_mask(params, ratio, scope)
        expected = pruning_mask(params, counts)
        assert kernels(mask).keys() == expected.keys()
        for layer, kept in expected.items():
            np.testing.assert_array_equal(mask[layer]["kernel"], kept)
            assert mask[layer]["bias"].all()
        pruned = sum(int((~kept).sum()) for kept in kernels(mask).values())
        assert pruned == sum(int(n) for n in counts.values())


def test_only_kernels_are_pruned_where_there_are_any():
    params = {"kernel": np.ones((2, 2)), "embedding": np.zeros((9, 9)), "x": {"kernel": np.ones(4)}}
    mask = magnitude_mask(params, 0.5)
    assert mask["embedding"].all()
    assert int((~mask["kernel"]).sum() + (~mask["x"]["kernel"]).sum()) == 4


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_mapped_ratios_give_the_same_masks(scope):
    params = made_up_params(small_cnn(1, 10))
    masks = jax.jit(jax.vmap(lambda ratio: magnitude_mask(params, ratio, scope)))(jnp.array(RATIOS))
    for i, ratio in enumerate(RATIOS):
        expected = magnitude_mask(params, ratio, scope)
        for one, other in zip(jax.tree.leaves(masks), jax.tree.leaves(expected), strict=True):
            np.testing.assert_array_equal(one[i], other)
