"""Reconstruction quality: R2 of parameters and log alphas, and functional fidelity."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl

from zoojax.architectures.parameters import kernels
from zoojax.datasets.specs import Images
from zoojax.hyper_representation.codec import Codec
from zoojax.hyper_representation.losses import scale_log_alpha
from zoojax.sparsifiers.variational_dropout import LOG_ALPHA_THRESHOLD
from zoojax.storage.zoo import Zoo
from zoojax.training import inference

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
        sums: {(part, quantity, layer): [count, sum, sum of squares, sum of squared errors]}.
    """

    sums: dict[tuple[str, str, str], np.ndarray] = field(
        default_factory=lambda: defaultdict(lambda: np.zeros(4))
    )

    def add(self, part: str, true: LayerValues, reconstructed: LayerValues) -> None:
        """Adds states of one part of the split ("train", "val" or "test")."""
        for (quantity, layer), x in true.items():
            wide = x.astype(np.float64)
            error = np.square(wide - reconstructed[quantity, layer]).sum()
            sums = [wide.size, wide.sum(), np.square(wide).sum(), error]
            self.sums[part, quantity, layer] += np.array(sums)

    def table(self) -> pl.DataFrame:
        """Computes R2 by part, quantity and layer.

        Returns:
            `part`, `quantity` ("weights", "alphas", "log alphas"), `layer` ("all" first),
            `count` of values, and `r2`: 1 - SSE/SST with SST about each layer's mean over the
            part; null if the true values are constant.
        """
        rows = []
        for part, quantity in dict.fromkeys(key[:2] for key in self.sums):
            layers = {
                key[2]: _sums_of_squares(sums)
                for key, sums in self.sums.items()
                if key[:2] == (part, quantity)
            }
            total = {ALL: np.sum(list(layers.values()), axis=0)}
            for layer, (count, variation, error) in (total | layers).items():
                r2 = float(1 - error / variation) if variation > 0 else None
                rows.append((part, quantity, layer, int(count), r2))
        schema = {"part": pl.String, "quantity": pl.String, "layer": pl.String}
        schema |= {"count": pl.Int64, "r2": pl.Float64}
        return pl.DataFrame(rows, schema=schema, orient="row")


def _sums_of_squares(sums: np.ndarray) -> np.ndarray:
    """Returns count, sum of squares about the mean, and sum of squared errors of a layer."""
    count, total, squares, errors = sums
    variation = squares - total**2 / count
    # Rounding can leave a constant with a tiny sum of squares.
    return np.array([count, variation if variation > 1e-12 * squares else 0.0, errors])


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


def functional_fidelity(
    zoo: Zoo, images: Images, states: pl.DataFrame, original: Tree, reconstructed: Tree
) -> pl.DataFrame:
    """Compares the predictions of reconstructed members with those of the originals.

    Args:
        zoo: The members' zoo.
        images: Images to classify.
        states: `member` and `epoch`, one row per state.
        original: Thresholded stacked parameters.
        reconstructed: Thresholded stacked reconstructions.

    Returns:
        `member`, `epoch`, `test_acc` and `sparsity` of the original, `reconstructed_acc`,
        `reconstructed_sparsity`, and `agreement`: the fraction of images for which both predict
        the same class.
    """
    members = states.select(pl.col("member").alias("id")).join(
        zoo.members_table, on="id", how="left", maintain_order="left"
    )
    stacked = jax.tree.map(lambda *x: np.concatenate(x), original, reconstructed)
    classes = inference.predict_params(
        zoo.config, pl.concat([members, members]), stacked, images.images
    )
    predicted, predicted_reconstructed = np.split(classes, 2)
    accuracy = [(c == images.labels).mean(axis=1) for c in (predicted, predicted_reconstructed)]
    return states.select("member", "epoch").with_columns(
        test_acc=pl.Series(accuracy[0]),
        reconstructed_acc=pl.Series(accuracy[1]),
        agreement=pl.Series((predicted == predicted_reconstructed).mean(axis=1)),
        sparsity=pl.Series(_sparsity(original)),
        reconstructed_sparsity=pl.Series(_sparsity(reconstructed)),
    )


def _sparsity(params: Tree) -> np.ndarray:
    """Returns the fraction of zero weights (excluding biases) of each member, [members]."""
    weights = [w.reshape(len(w), -1) for w in kernels(params).values()]
    return (np.concatenate(weights, axis=1) == 0).mean(axis=1)


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
