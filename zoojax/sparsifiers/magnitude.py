"""One-shot magnitude pruning with masked fine-tuning.

Of all *weights* (kernels; biases are neither counted nor pruned) the
round(ratio * count) smallest in absolute value become zero and stay zero, over the
whole network (torch.nn.utils.prune.global_unstructured with L1Unstructured) or in
each layer by itself (prune.l1_unstructured). Han et al., 2015.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from zoojax.architectures.parameters import apply_mask, kernels
from zoojax.errors import ZoojaxError
from zoojax.sparsifiers.base import Loss, Method, dense

SCOPES = ("global", "layer")


def num_pruned(ratio: float, sizes: dict[str, int], scope: str) -> dict[str, int]:
    """How many weights a ratio prunes: {"all": k}, or k by layer.

    Rounds half to even, as torch.nn.utils.prune does.

    Raises:
        ZoojaxError: the ratio is not in [0, 1), or the scope is not one of SCOPES.
    """
    if not (math.isfinite(ratio) and 0 <= ratio < 1):
        raise ZoojaxError(f"pruning ratio {ratio:g} is not in [0, 1)")
    if scope not in SCOPES:
        raise ZoojaxError(f"no pruning scope named '{scope}'; there are: {', '.join(SCOPES)}")
    if scope == "global":
        return {"all": round(ratio * sum(sizes.values()))}
    return {layer: round(ratio * size) for layer, size in sizes.items()}


def _topk_mask(scores: list[Array], pruned: Array) -> Array:
    """True for all but the `pruned` smallest: exactly so many, ties or not.

    Args:
        scores: flat arrays; the last decides, those before it where it ties.
        pruned: how many.
    """
    rank = jnp.argsort(jnp.lexsort(scores), stable=True)
    return rank >= pruned


def mask(
    params: dict, pruned: dict[str, Array], scores: dict[str, Array] | None = None
) -> dict[str, Array]:
    """The mask of one member.

    Args:
        params: its parameters.
        pruned: how many weights to prune, {"all": k} or k by layer (scalars).
        scores: by layer, shaped like the kernels: the lowest are pruned first, of equal ones
            the smallest weights; None for the weights' magnitudes.

    Returns:
        By layer name, bool arrays shaped like the kernels, True where the weight is kept.
    """
    weights = {layer: jnp.abs(w) for layer, w in kernels(params).items()}
    ranked = [weights] if scores is None else [weights, scores]
    if "all" not in pruned:
        return {
            layer: _topk_mask([r[layer].ravel() for r in ranked], pruned[layer]).reshape(w.shape)
            for layer, w in weights.items()
        }
    flat = [jnp.concatenate([r[layer].ravel() for layer in weights]) for r in ranked]
    keep = _topk_mask(flat, pruned["all"])
    pieces = jnp.split(keep, np.cumsum([w.size for w in weights.values()])[:-1])
    return {
        layer: piece.reshape(w.shape)
        for piece, (layer, w) in zip(pieces, weights.items(), strict=True)
    }


def method(loss: Loss) -> Method:
    """Masked fine-tuning.

    The projection after each step is all it takes: a weight's moments touch no other
    weight, so what they gather for a pruned one, weight decay included, is never seen.
    """

    def project(trainable: dict, fixed: dict) -> dict:
        return {"params": apply_mask(trainable["params"], fixed["mask"])}

    return dense(loss)._replace(project=project)


def init_pruned(
    params: dict, pruned: dict[str, Array], scores: dict[str, Array] | None = None
) -> tuple[dict, dict]:
    """A member before fine-tuning: its trainable and fixed parts (see `train.State`)."""
    kept = mask(params, pruned, scores)
    return {"params": apply_mask(params, kept)}, {"mask": kept}


prune_population = jax.vmap(init_pruned)
