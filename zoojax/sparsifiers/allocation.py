"""Numbers of weights that a ratio prunes in each layer, by scope.

- "global": the ratio of the network; the scores of all layers are compared.
- "layer": the ratio of each layer, also called uniform.
- "unit": the ratio of each output unit, up to one weight (Sun et al., "A Simple and
  Effective Pruning Approach for Large Language Models", 2024).
- "er": Erdos-Renyi: the density of a layer, the fraction of its weights that are kept, is
  proportional to (inputs + outputs) / (inputs * outputs), in channels for convolutions (Mocanu et
  al., "Scalable Training of Artificial Neural Networks with Adaptive Sparse Connectivity inspired
  by Network Science", 2018).
- "erk": Erdos-Renyi-kernel: the same with the height and width of the kernel in the sum and in the
  product (Evci et al., "Rigging the Lottery: Making All Tickets Winners", 2020).
"""

import math
import numbers
from collections.abc import Iterable, Mapping
from fractions import Fraction

import numpy as np

from zoojax.errors import ZoojaxError
from zoojax.text import printable

SCOPES = ("global", "layer", "unit", "er", "erk")
Shapes = Mapping[str, tuple[int, ...]]


def check_ratio(ratio: float) -> None:
    """Checks a pruning ratio.

    Args:
        ratio: Fraction of weights to prune.

    Raises:
        ZoojaxError: If the ratio is not a number in [0, 1).
    """
    if not isinstance(ratio, numbers.Real):
        raise ZoojaxError(f"pruning ratio is {printable(ratio, 60)}; give a number")
    if not (math.isfinite(ratio) and 0 <= ratio < 1):
        raise ZoojaxError(f"pruning ratio {ratio:g} is not in [0, 1)")


def check_scope(scope: str) -> None:
    """Raises ZoojaxError if there is no such scope."""
    if scope not in SCOPES:
        raise ZoojaxError(
            f"no pruning scope named '{printable(scope, 60)}'; there are: {', '.join(SCOPES)}"
        )


def num_pruned(ratio: float, shapes: Shapes, scope: str) -> dict[str, np.ndarray]:
    """Computes how many weights to prune.

    Counts are round(ratio * weights), half to even like torch.nn.utils.prune: of the network, or
    for the scopes "layer" and "unit" of each layer. They are exact.

    Args:
        ratio: Fraction of weights to prune, in [0, 1).
        shapes: Shape of the weights by layer, [..., inputs, outputs].
        scope: A name of SCOPES.

    Returns:
        {"all": count} for scope "global", {layer: count} for "layer", "er" and "erk", or {layer:
        counts [outputs]} for "unit", int32.

    Raises:
        ZoojaxError: If the ratio is not in [0, 1), or the scope is not one of SCOPES.

    Example:
        >>> shapes = {"conv": (5, 5, 1, 8), "fc": (100, 10)}
        >>> {layer: int(count) for layer, count in num_pruned(0.5, shapes, "layer").items()}
        {'conv': 100, 'fc': 500}
        >>> {layer: int(count) for layer, count in num_pruned(0.5, shapes, "erk").items()}
        {'conv': 0, 'fc': 600}
    """
    check_ratio(ratio)
    check_scope(scope)
    sizes = {layer: math.prod(shape) for layer, shape in shapes.items()}
    total = sum(sizes.values())
    if scope == "global":
        counts = {"all": round(ratio * total)}
    elif scope in ("er", "erk"):
        kept = _num_kept(total - round(ratio * total), shapes, has_kernel=scope == "erk")
        counts = {layer: size - kept[layer] for layer, size in sizes.items()}
    else:
        counts = {layer: round(ratio * size) for layer, size in sizes.items()}
    if scope == "unit":
        return {layer: _by_unit(count, shapes[layer][-1]) for layer, count in counts.items()}
    return {layer: np.array(count, np.int32) for layer, count in counts.items()}


def stacked_counts(ratios: Iterable[float], shapes: Shapes, scope: str) -> dict[str, np.ndarray]:
    """Computes how many weights to prune at several ratios.

    Args:
        ratios: Fractions of weights to prune, each in [0, 1).
        shapes: Shape of the weights by layer.
        scope: A name of SCOPES.

    Returns:
        The counts of `num_pruned`, stacked: [ratios], or [ratios, outputs] for "unit".

    Raises:
        ZoojaxError: If a ratio is not in [0, 1), or the scope is not one of SCOPES.

    Example:
        >>> stacked_counts([0.1, 0.5], {"fc": (100, 10)}, "global")["all"].tolist()
        [100, 500]
    """
    counts = [num_pruned(ratio, shapes, scope) for ratio in ratios]
    names = num_pruned(0.0, shapes, scope)
    return {name: np.array([count[name] for count in counts], np.int32) for name in names}


def _by_unit(count: int, units: int) -> np.ndarray:
    """Divides a layer's count among its units; the first ones get the remainder."""
    return (count // units + (np.arange(units) < count % units)).astype(np.int32)


def _num_kept(total: int, shapes: Shapes, has_kernel: bool) -> dict[str, int]:
    """Divides the kept weights among the layers, exactly, in proportion to their densities.

    Layers whose density would exceed 1 are dense, and the others are scaled up.
    """
    sizes = {layer: math.prod(shape) for layer, shape in shapes.items()}
    share = {x: _density(shape, has_kernel) * sizes[x] for x, shape in shapes.items()}
    kept: dict[str, int] = {}
    while True:
        open_layers = [layer for layer in shapes if layer not in kept]
        left = total - sum(kept.values())
        factor = Fraction(left) / sum(share[layer] for layer in open_layers) if open_layers else 0
        dense = [layer for layer in open_layers if factor * share[layer] >= sizes[layer]]
        if not dense:
            break
        kept |= {layer: sizes[layer] for layer in dense}
    exact = {layer: factor * share[layer] for layer in open_layers}
    kept |= {layer: math.floor(count) for layer, count in exact.items()}
    # The largest remainders are rounded up.
    remainders = sorted(exact, key=lambda layer: kept[layer] - exact[layer])
    for layer in remainders[: total - sum(kept.values())]:
        kept[layer] += 1
    return kept


def _density(shape: tuple[int, ...], has_kernel: bool) -> Fraction:
    """Density of a layer up to a factor that is the same for all layers."""
    sides = shape if has_kernel else shape[-2:]
    return Fraction(sum(sides), math.prod(sides))
