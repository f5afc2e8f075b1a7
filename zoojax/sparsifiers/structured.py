"""Structured pruning: whole filters and neurons are removed, not single weights.

Li et al., "Pruning Filters for Efficient ConvNets", 2017. A hidden unit is a filter of a
convolution or a neuron of a fully connected layer. The permutation groups of the architecture
define what belongs to it: the weights into it, its bias, its entries in normalizations, and the
weights of the next layer that read it. Layers of a residual stream share their units. The outputs
of the network, and units that are in no group, are never removed.

The score of a unit is the mean norm of all weights into it, without biases: for L1 the mean of |w|,
for L2 the root of the mean of w^2. Within a layer, this orders units like
torch.nn.utils.prune.ln_structured; being means, scores are comparable between layers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl
from jax import Array

from zoojax.architectures.base import Architecture
from zoojax.architectures.parameters import (
    WEIGHT,
    apply_mask,
    flat_layers,
    kernels,
    nested_layers,
)
from zoojax.architectures.permuted_axes import PermutationGroup
from zoojax.architectures.units import (
    parameters_by_path,
    require_units,
    unit_masks,
    weights_by_unit,
    weights_into,
)
from zoojax.errors import ZoojaxError
from zoojax.sparsifiers.base import Needs, Sparsifier
from zoojax.text import printable

Norm = Literal["l1", "l2", "random"]
Scope = Literal["global", "layer"]


def unit_scores(
    params: dict[str, Any], groups: Sequence[PermutationGroup], units: Sequence[int], norm: str
) -> list[Array]:
    """Computes the mean norms of the weights into the units of one member.

    Args:
        params: Parameters of the member.
        groups: The permutation groups.
        units: Number of units of each group.
        norm: "l1" or "l2".

    Returns:
        For each group, [units] float32.
    """
    paths = parameters_by_path(params)
    scores = []
    for group, count in zip(groups, units, strict=True):
        into = [weights_by_unit(paths[a.path], a, count) for a in weights_into(group, paths)]
        weights = jnp.abs(jnp.concatenate(into, axis=1))
        mean = jnp.mean(weights if norm == "l1" else jnp.square(weights), axis=1)
        scores.append(mean if norm == "l1" else jnp.sqrt(mean))
    return scores


def random_scores(key: Array, units: Sequence[int]) -> list[Array]:
    """Draws a score in [0, 1) for each unit of one member.

    Args:
        key: Random key of the member.
        units: Number of units of each group.

    Returns:
        For each group, [units] float32.
    """
    return [jax.random.uniform(jax.random.fold_in(key, i), (n,)) for i, n in enumerate(units)]


def kept_units(scores: Sequence[Array], removed: Array, scope: str) -> list[Array]:
    """Chooses the units with the highest scores; of equal scores, those that come last.

    Args:
        scores: For each group, [units].
        removed: Entry n is the number of units to remove from n units, [more than all units] int32.
        scope: "layer" removes a fraction of each group, "global" a fraction of all groups
            together. The best unit of each group remains.

    Returns:
        For each group, [units] bool.
    """
    ranks = [_rank(each) for each in scores]
    sizes = [len(each) for each in scores]
    if scope == "layer":
        return [
            rank >= jnp.minimum(removed[size], size - 1)
            for rank, size in zip(ranks, sizes, strict=True)
        ]
    best = jnp.concatenate([rank == len(rank) - 1 for rank in ranks])
    order = jnp.lexsort([jnp.concatenate(list(scores)), best])
    count = jnp.minimum(removed[sum(sizes)], sum(sizes) - len(sizes))
    return jnp.split(jnp.argsort(order, stable=True) >= count, np.cumsum(sizes)[:-1])


def _rank(scores: Array) -> Array:
    return jnp.argsort(jnp.argsort(scores, stable=True), stable=True)


@dataclass(frozen=True)
class StructuredPruning(Sparsifier):
    """Removes whole filters and neurons, with the weights that read them, and fine-tunes.

    Li et al., "Pruning Filters for Efficient ConvNets", 2017. `Zoo.shrunk` returns the smaller
    dense networks.

    A ratio is the fraction of hidden units that are removed: round(ratio * units), half to even,
    but at least one unit of each layer remains. The fraction of weights that are zero is larger,
    since each weight between two hidden layers belongs to a unit of both; it is the metric
    `sparsity`, as for all sparsifiers. Outputs of the network are not removed.

    Attributes:
        ratios: Fractions of hidden units to remove, each in [0, 1); 0 only fine-tunes.
        scope: What a ratio applies to: each layer ("layer") or the whole network ("global").
        norm: Units with the smallest mean L1 norm ("l1") or L2 norm ("l2") of the weights into
            them are removed, or "random" ones.

    Raises:
        ZoojaxError: If there is no such scope or norm.

    Example:
        >>> pruning = zoojax.StructuredPruning(ratios=(0.5,), norm="l2")
        >>> twin = zoojax.sparsify(zoo, pruning, epochs=1, quiet=True)
        >>> small = twin.shrunk(0)
        >>> small.params["conv2"]["kernel"].shape, small.size
        ((5, 5, 4, 3), 733)
    """

    name: ClassVar = "structured"
    label: ClassVar = "structured pruning"
    short: ClassVar = "SP"
    color: ClassVar = "#330077"
    source: ClassVar = "Li et al. 2017, Pruning Filters for Efficient ConvNets"
    sweep: ClassVar = "ratio"
    ratio_of: ClassVar = "units"
    per_member: ClassVar = {"ratios": "ratio"}
    column_ranges: ClassVar = {"ratio": (0, 1)}

    ratios: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    scope: Scope = "layer"
    norm: Norm = "l1"

    def __post_init__(self) -> None:
        for name, value, known in (("scope", self.scope, Scope), ("norm", self.norm, Norm)):
            if value not in get_args(known):
                raise ZoojaxError(
                    f"no {name} of {self.label} named '{printable(value, 60)}'; there are: "
                    f"{', '.join(get_args(known))}"
                )

    @property
    def needs(self) -> Needs:
        """The network and a random key."""
        return Needs()

    def check_architecture(self, architecture: Architecture) -> None:
        """Refuses architectures whose permutation groups are missing or have no weights."""
        require_units(architecture)
        paths = parameters_by_path(architecture.parameter_shapes())
        for group in architecture.permutations:
            if not weights_into(group, paths):
                raise ZoojaxError(
                    f"architecture {architecture.name} has no weights into the units of "
                    f"{group[0].path}, so that they have no norm"
                )

    def describe(self) -> str:
        """Describes what is removed."""
        chosen = "random units" if self.norm == "random" else f"smallest {self.norm.upper()} norms"
        return f"{chosen}, {self.scope}"

    def member_values(self, members: pl.DataFrame, params: dict[str, Any]) -> dict[str, Any]:
        """Computes how many of n units each member removes: [members, n] int32, for all n."""
        most = sum(weights.shape[-1] for weights in kernels(params).values())
        counts = np.multiply.outer(members["ratio"].to_numpy(), np.arange(most + 1))
        return {"removed": np.rint(counts).astype(np.int32)}

    def init(self, params: dict[str, Any], values: dict[str, Any]) -> tuple[dict, dict]:
        """Removes the units with the lowest scores."""
        context = values["context"]
        groups, units = context.architecture.permutations, context.architecture.permuted_units()
        if self.norm == "random":
            scores = random_scores(context.key, units)
        else:
            scores = unit_scores(params, groups, units, self.norm)
        kept = kept_units(scores, values["removed"], self.scope)
        shapes = {path: x.shape for path, x in parameters_by_path(params).items()}
        masks = unit_masks(shapes, kept, groups)
        weights, others = {}, {}
        for path, mask in masks.items():
            layer, _, leaf = path.rpartition("/")
            if leaf == WEIGHT:
                weights[layer] = mask
            else:
                others[path] = mask
        fixed = {"mask": weights, "unit_mask": others}
        return self.project({"params": params}, fixed), fixed

    def project(self, trainable: dict[str, Any], fixed: dict[str, Any]) -> dict[str, Any]:
        """Sets weights, biases and scales of removed units to zero."""
        layers = flat_layers(apply_mask(trainable["params"], fixed["mask"]))
        for path, mask in fixed["unit_mask"].items():
            layer, _, leaf = path.rpartition("/")
            layers[layer] = {**layers[layer], leaf: jnp.where(mask, layers[layer][leaf], 0.0)}
        return {"params": nested_layers(layers)}
