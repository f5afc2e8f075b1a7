"""Reconstruction quality: R2 of parameters and log alphas."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp
import numpy as np
import polars as pl

from zoojax.hyper_representation.bootstrap import MemberBootstrap, interval_columns, squares
from zoojax.hyper_representation.codec import Codec
from zoojax.hyper_representation.losses import scale_log_alpha
from zoojax.sparsifiers.variational_dropout import LOG_ALPHA_THRESHOLD

# Reconstructed quantities: weights in units of their layer's standard deviation, log alphas on
# the scale of the loss (eq. 5), and plain log alphas.
WEIGHTS, ALPHAS, LOG_ALPHAS = "weights", "alphas", "log alphas"
# The name of the row for all layers together.
ALL = "all"

Tree = dict[str, Any]
# {(quantity, layer): [members, values]}.
LayerValues = dict[tuple[str, str], np.ndarray]


def r2_inputs(codec: Codec, weights: Tree, alphas: Tree | None) -> LayerValues:
    """Converts stacked parameters and log alphas to the scales on which R2 is measured."""
    normalized = flatten_layers(codec.normalization.apply(weights))
    values = {(WEIGHTS, layer): x for layer, x in normalized.items()}
    radius = codec.settings.alpha_radius
    if alphas is not None:
        for layer, x in flatten_layers(alphas).items():
            values[LOG_ALPHAS, layer] = x
            values[ALPHAS, layer] = np.asarray(scale_log_alpha(jnp.asarray(x), radius))
    return values


def flatten_layers(tree: Tree) -> dict[str, np.ndarray]:
    """Flattens each layer of a stacked tree to [members, values], leaves sorted by name."""
    return {
        layer: np.concatenate(
            [np.asarray(leaves[n]).reshape(len(leaves[n]), -1) for n in sorted(leaves)], axis=1
        )
        for layer, leaves in tree.items()
    }


@dataclass
class R2Accumulator:
    """Accumulates R2 over states that are added one epoch at a time.

    Attributes:
        members: Member of each state, by part of the split.
        sums: Columns of `bootstrap.squares` of each state, by part, quantity and layer.
    """

    members: dict[str, list[np.ndarray]] = field(default_factory=lambda: defaultdict(list))
    sums: dict[tuple[str, str, str], list[np.ndarray]] = field(
        default_factory=lambda: defaultdict(list)
    )

    def add(
        self, part: str, members: np.ndarray, true: LayerValues, reconstructed: LayerValues
    ) -> None:
        """Adds states of one part of the split ("train", "val" or "test").

        Args:
            part: Part of the split.
            members: Member of each state; states of one member are resampled together.
            true: True values.
            reconstructed: Reconstructed values of the same shape.
        """
        self.members[part].append(members)
        for (quantity, layer), x in true.items():
            errors = x.astype(np.float64) - reconstructed[quantity, layer]
            self.sums[part, quantity, layer].append(squares(x, errors))

    def table(self) -> pl.DataFrame:
        """Computes R2 by part, quantity and layer.

        Returns:
            `part`, `quantity` ("weights", "alphas", "log alphas"), `layer` ("all" first),
            `count` of values, and `r2` with the ends of its 95 % interval over members: 1 -
            SSE/SST with SST about each layer's mean over the part; null if the true values are
            constant.
        """
        rows = []
        for part, members in self.members.items():
            bootstrap = MemberBootstrap(np.concatenate(members))
            sums = {
                key[1:]: bootstrap.sums(np.concatenate(blocks))
                for key, blocks in self.sums.items()
                if key[0] == part
            }
            for quantity in dict.fromkeys(quantity for quantity, _ in sums):
                layers = {layer: [x] for (name, layer), x in sums.items() if name == quantity}
                everything = {ALL: [x for (x,) in layers.values()]}
                for layer, each in (everything | layers).items():
                    count = int(sum(x[:, 0].sum() for x in each))
                    row = {"part": part, "quantity": quantity, "layer": layer, "count": count}
                    rows.append(row | bootstrap.r2_of_sums(each).columns("r2"))
        schema = {"part": pl.String, "quantity": pl.String, "layer": pl.String}
        schema |= {"count": pl.Int64} | dict.fromkeys(interval_columns("r2"), pl.Float64)
        return pl.DataFrame(rows, schema=schema)


def zero_above_threshold(weights: Tree, alphas: Tree | None) -> Tree:
    """Sets stacked parameters with log alpha >= 3 to zero, with NumPy."""
    if alphas is None:
        return weights
    return {
        layer: {
            name: np.where(alphas[layer][name] >= LOG_ALPHA_THRESHOLD, np.float32(0), w)
            if name in alphas.get(layer, {})
            else w
            for name, w in leaves.items()
        }
        for layer, leaves in weights.items()
    }


def scatter_pairs(
    true: LayerValues, reconstructed: LayerValues, max_pairs: int, rng: np.random.Generator
) -> Iterator[pl.DataFrame]:
    """Samples pairs of true and reconstructed values for each quantity and layer.

    Args:
        true: True values.
        reconstructed: Reconstructed values of the same shape.
        max_pairs: Maximum number of pairs per quantity and layer.
        rng: Random generator.

    Yields:
        `quantity`, `layer`, `true`, `reconstructed`.
    """
    for (quantity, layer), x in true.items():
        sampled = np.sort(rng.permutation(x.size)[:max_pairs])
        yield pl.DataFrame(
            {
                "quantity": [quantity] * len(sampled),
                "layer": [layer] * len(sampled),
                "true": x.ravel()[sampled],
                "reconstructed": reconstructed[quantity, layer].ravel()[sampled],
            }
        )
