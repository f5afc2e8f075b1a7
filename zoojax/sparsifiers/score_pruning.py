"""Prunes the weights with the lowest scores and fine-tunes the others.

@register_sparsifier
@dataclass(frozen=True)
class MyPruning(ScorePruning):
    '''One line for the command line's help.'''

    name: ClassVar = "my_pruning"
    label: ClassVar = "my pruning"
    short: ClassVar = "MY"
    color: ClassVar = "#CC79A7"

    def scores(self, params, context):
        return {path: jnp.abs(w) for path, w in kernels(params).items()}
"""

import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import jax.numpy as jnp
import numpy as np
import polars as pl
from jax import Array

from zoojax.architectures.parameters import apply_mask, kernels
from zoojax.errors import ZoojaxError
from zoojax.hyperparameters.declaration import check_whole
from zoojax.ops.select import lowest
from zoojax.sparsifiers.allocation import check_scope, stacked_counts
from zoojax.sparsifiers.base import Needs, Sparsifier
from zoojax.sparsifiers.context import Context
from zoojax.text import printable

# {layer path: scores shaped like its weights}.
Scores = dict[str, Array]

_SCOPE_TEXTS = {"er": "Erdos-Renyi", "erk": "Erdos-Renyi-kernel"}


def check_positive(name: str, value: float) -> None:
    """Checks an option of a score.

    Args:
        name: Name of the option.
        value: Its value.

    Raises:
        ZoojaxError: If the value is not a number, or not positive and finite.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise ZoojaxError(f"{name} is {printable(value, 60)}; give a number")
    if not 0 < value < math.inf:
        raise ZoojaxError(f"{name} {value:g} is not positive and finite")


def pruning_mask(params: dict, pruned: Mapping[str, Any], scores: Scores | None = None) -> Scores:
    """Computes the pruning mask of one member.

    Args:
        params: Parameters of the member.
        pruned: Numbers of weights to prune, int32, as returned by
            `zoojax.sparsifiers.allocation.num_pruned`.
        scores: {layer: scores shaped like its weights}; the lowest scores are pruned first, and
            ties are broken by magnitude, then by index. None prunes by magnitude alone.

    Returns:
        {layer: bool array shaped like its weights}, True where the weight is kept.
    """
    weights = {layer: jnp.abs(w) for layer, w in kernels(params).items()}
    ranked = [weights] if scores is None else [scores, weights]
    if "all" not in pruned:
        masks = {}
        for layer, w in weights.items():
            # Counts of units divide the last axis.
            shape = (-1,) if jnp.ndim(pruned[layer]) == 0 else (-1, w.shape[-1])
            keys = [jnp.reshape(r[layer], shape) for r in ranked]
            masks[layer] = ~lowest(keys, pruned[layer]).reshape(w.shape)
        return masks
    flat = [jnp.concatenate([r[layer].ravel() for layer in weights]) for r in ranked]
    keep = ~lowest(flat, pruned["all"])
    pieces = jnp.split(keep, np.cumsum([w.size for w in weights.values()])[:-1])
    return {
        layer: piece.reshape(w.shape)
        for piece, (layer, w) in zip(pieces, weights.items(), strict=True)
    }


def init_pruned(
    params: dict, pruned: Mapping[str, Any], scores: Scores | None = None
) -> tuple[dict, dict]:
    """Prunes one member.

    Args:
        params: Parameters of the member.
        pruned: Numbers of weights to prune; see `pruning_mask`.
        scores: Scores by layer; see `pruning_mask`.

    Returns:
        The (trainable, fixed) parts of the member's state before fine-tuning; see
        `zoojax.training.loop.TrainState`.
    """
    mask = pruning_mask(params, pruned, scores)
    return {"params": apply_mask(params, mask)}, {"mask": mask}


@dataclass(frozen=True)
class ScorePruning(Sparsifier):
    """Prunes the weights with the lowest scores, and fine-tunes the others.

    Base class of one-shot sparsifiers, which differ in `scores`. All members at all ratios are
    trained as one population. Biases are neither counted nor pruned.

    Masking the weights after each step is sufficient. The optimizers work elementwise, so the
    moments of pruned weights, weight decay included, never influence other weights.

    Attributes:
        ratios: Fractions of weights to prune, each in [0, 1); 0 only fine-tunes.
        scope: What a ratio applies to: the whole network ("global"), each layer ("layer"), or each
            output unit ("unit"); or how the weights that remain are allocated to layers:
            Erdos-Renyi ("er") or Erdos-Renyi-kernel ("erk").

    Raises:
        ZoojaxError: If there is no such scope.

    Example:
        >>> from dataclasses import dataclass
        >>> from typing import ClassVar
        >>> from zoojax.architectures.parameters import kernels
        >>> @zoojax.register_sparsifier
        ... @dataclass(frozen=True)
        ... class SquarePruning(zoojax.ScorePruning):
        ...     '''Prunes weights with small squares.'''
        ...     name: ClassVar = "square_pruning"
        ...     label: ClassVar = "square pruning"
        ...     short: ClassVar = "SQ"
        ...     color: ClassVar = "#CC79A7"
        ...     def scores(self, params, context):
        ...         return {path: weights**2 for path, weights in kernels(params).items()}
        >>> twin = zoojax.sparsify(zoo, SquarePruning(ratios=(0.5,)), epochs=0, quiet=True)
        >>> twin.metrics["sparsity"].to_list()
        [0.5, 0.5, 0.5]
    """

    sweep: ClassVar = "ratio"
    per_member: ClassVar = {"ratios": "ratio"}
    column_ranges: ClassVar = {"ratio": (0, 1)}

    ratios: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    scope: Literal["global", "layer", "unit", "er", "erk"] = "global"

    def __post_init__(self) -> None:
        check_scope(self.scope)

    def scores(self, params: dict[str, Any], context: Context | None) -> Scores | None:
        """Computes the scores of the weights of one member; the lowest are pruned first.

        Args:
            params: Parameters of the parent.
            context: The network, images and a key, as requested by `needs`; None if it is None.

        Returns:
            {layer path: scores shaped like the weights}; None prunes by magnitude.

        Example:
            >>> params = {"fc": {"kernel": jnp.array([[0.5, -2.0]]), "bias": jnp.ones(2)}}
            >>> zoojax.ScorePruning().scores(params, None) is None
            True
        """
        return None

    def describe(self) -> str:
        """Describes the scope and the other options."""
        others = {k: v for k, v in self.shared_options().items() if k != "scope"}
        scope = f"{_SCOPE_TEXTS.get(self.scope, self.scope)} pruning"
        return ", ".join([scope, *(f"{k.replace('_', ' ')} {v}" for k, v in others.items())])

    def member_values(self, members: pl.DataFrame, params: dict[str, Any]) -> dict[str, Any]:
        """Computes the exact number of weights to prune of each member."""
        return {"num_pruned": self._counts(members["ratio"], params)}

    def _counts(self, ratios: Any, params: dict[str, Any]) -> dict[str, np.ndarray]:
        """Numbers of weights to prune, stacked by ratio."""
        shapes = {layer: tuple(w.shape) for layer, w in kernels(params).items()}
        return stacked_counts(ratios, shapes, self.scope)

    def init(self, params: dict[str, Any], values: dict[str, Any]) -> tuple[dict, dict]:
        """Prunes the weights with the lowest scores."""
        scores = values.get("scores")
        if scores is None:
            scores = self.scores(params, values.get("context"))
        return init_pruned(params, values["num_pruned"], scores)

    def project(self, trainable: dict[str, Any], fixed: dict[str, Any]) -> dict[str, Any]:
        """Sets pruned weights to zero."""
        return {"params": apply_mask(trainable["params"], fixed["mask"])}


@dataclass(frozen=True)
class DataPruning(ScorePruning):
    """Base class of sparsifiers that score weights on training images.

    Attributes:
        samples: Number of training images, drawn for each member with its seed; all of them if
            there are fewer.

    Raises:
        ZoojaxError: If there is no such scope, or `samples` is not a whole number of 1 or more.
    """

    has_mask_only: ClassVar = True

    samples: int = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("samples", self.samples)
        if self.samples < 1:
            raise ZoojaxError(f"{self.samples} samples; give at least 1")

    @property
    def needs(self) -> Needs:
        """The network and images."""
        return Needs(images=self.samples)
