"""Magnitude pruning masks of any pytree of parameters."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import Array

from zoojax.architectures.parameters import WEIGHT
from zoojax.errors import ZoojaxError
from zoojax.functional import arguments
from zoojax.hyperparameters.declaration import check_name
from zoojax.sparsifiers.allocation import check_ratio, num_pruned
from zoojax.sparsifiers.score_pruning import pruning_mask
from zoojax.text import printable

# The scopes whose counts are known for traced ratios.
_SCOPES = ("global", "layer")


def magnitude_mask(
    params: Any, ratio: float | Array, scope: Literal["global", "layer"] = "global"
) -> Any:
    """Computes the mask that prunes the weights with the smallest magnitudes.

    Prunes exactly round(ratio * count) weights (half to even), like torch.nn.utils.prune (Han et
    al., "Learning both Weights and Connections for Efficient Neural Networks", 2015). If weights
    are tied, those that come first are pruned, with layers in alphabetical order.

    Args:
        params: Parameters of one network, a pytree of arrays. Leaves named "kernel" are pruned,
            or if there are none, arrays with two or more dimensions.
        ratio: Fraction of weights to prune, in [0, 1). It may be traced, such as by `jax.vmap`;
            ratio * count is then rounded in float32.
        scope: "global" (all weights together, as `global_unstructured` with L1Unstructured) or
            "layer" (each array separately, as `l1_unstructured`).

    Returns:
        Bool arrays in the structure of `params`: False for pruned weights; True for all others
        and for what is not pruned.

    Raises:
        ZoojaxError: If the ratio or the scope is invalid, there is nothing to prune, or an array
            to prune is not of a floating-point type.

    Example:
        >>> from zoojax.functional import magnitude_mask
        >>> params = {"fc": {"kernel": jnp.array([[0.1, -2.0], [3.0, 0.2]]), "bias": jnp.ones(2)}}
        >>> mask = magnitude_mask(params, 0.5)
        >>> jax.tree.map(lambda x, kept: x * kept, params, mask)["fc"]["kernel"].tolist()
        [[0.0, -2.0], [3.0, 0.0]]

        One mask per ratio:

        >>> masks = jax.vmap(magnitude_mask, in_axes=(None, 0))(params, jnp.array([0.0, 0.5]))
        >>> masks["fc"]["kernel"].shape
        (2, 2, 2)
    """
    check_name("pruning scope", scope, _SCOPES)
    checked = arguments.number("ratio", ratio, check_ratio)
    named, structure = _named_leaves(params)
    weights = _prunable(named)
    sizes = {name: weight.size for name, weight in weights.items()}
    if arguments.is_traced(ratio):
        counted = {"all": sum(sizes.values())} if scope == "global" else sizes
        counts = {name: jnp.round(checked * n).astype(jnp.int32) for name, n in counted.items()}
    else:
        shapes = {name: weight.shape for name, weight in weights.items()}
        counts = {name: jnp.int32(n) for name, n in num_pruned(float(ratio), shapes, scope).items()}
    mask = pruning_mask({name: {WEIGHT: weight} for name, weight in weights.items()}, counts)
    kept = [mask[name] if name in mask else jnp.ones(jnp.shape(x), bool) for name, x in named]
    return jax.tree.unflatten(structure, kept)


def _named_leaves(params: Any) -> tuple[list[tuple[str, Any]], Any]:
    """Returns the leaves with their paths, such as "conv1/kernel", and the structure."""
    leaves, structure = jax.tree_util.tree_flatten_with_path(params)
    named = [(jax.tree_util.keystr(path, simple=True, separator="/"), x) for path, x in leaves]
    return named, structure


def _prunable(named: list[tuple[str, Any]]) -> dict[str, Array]:
    """Returns the arrays to prune by path."""
    for name, leaf in named:
        if not arguments.is_array(leaf):
            raise ZoojaxError(
                f"params: {printable(name, 60)} is {printable(leaf, 60)}; give an array"
            )
    chosen = [(name, x) for name, x in named if name.split("/")[-1] == WEIGHT]
    chosen = chosen or [(name, x) for name, x in named if len(x.shape) >= 2]
    if not chosen:
        raise ZoojaxError(
            f"params has nothing to prune; give a pytree with leaves named '{WEIGHT}', or with "
            "arrays of two or more dimensions"
        )
    for name, x in chosen:
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise ZoojaxError(f"params: {printable(name, 60)} is {x.dtype}; give floating point")
    return {name: jnp.asarray(x) for name, x in chosen}
