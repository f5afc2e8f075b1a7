"""How well an autoencoder gives members back: their numbers, and what they compute."""

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

# What is reconstructed: weights in units of their layer's deviation, log alphas on the scale
# of the loss (eq. 5), and as they are.
WEIGHTS, ALPHAS, LOG_ALPHAS = "weights", "alphas", "log alphas"
# Stands for all layers together.
ALL = "all"

Tree = dict[str, Any]
# Numbers by quantity and layer, [members, numbers].
Numbers = dict[tuple[str, str], np.ndarray]


def r2_inputs(codec: Codec, weights: Tree, alphas: Tree | None) -> Numbers:
    """Stacked parameters and log alphas on the scales that R2 is measured on."""
    found = {(WEIGHTS, k): x for k, x in flatten_layers(codec.normalisation.apply(weights)).items()}
    radius = codec.settings.alpha_radius
    if alphas is not None:
        for layer, x in flatten_layers(alphas).items():
            found[LOG_ALPHAS, layer] = x
            found[ALPHAS, layer] = np.asarray(scale_log_alpha(jnp.asarray(x), radius))
    return found


def flatten_layers(tree: Tree) -> dict[str, np.ndarray]:
    """The numbers of every layer of a stacked tree, [members, numbers]."""
    return {
        layer: np.concatenate(
            [np.asarray(leaves[n]).reshape(len(leaves[n]), -1) for n in sorted(leaves)], axis=1
        )
        for layer, leaves in tree.items()
    }


@dataclass
class R2Accumulator:
    """Sums from which R2 is made, of states that come one epoch after another.

    Attributes:
        sums: {(part, quantity, layer): [count, sum, sum of squares, sum of squared errors]}.
    """

    sums: dict[tuple[str, str, str], np.ndarray] = field(
        default_factory=lambda: defaultdict(lambda: np.zeros(4))
    )

    def add(self, part: str, true: Numbers, guess: Numbers) -> None:
        """Takes in states of one part of the split."""
        for (quantity, layer), x in true.items():
            wide = x.astype(np.float64)
            error = np.square(wide - guess[quantity, layer]).sum()
            own = [wide.size, wide.sum(), np.square(wide).sum(), error]
            self.sums[part, quantity, layer] += np.array(own)

    def table(self) -> pl.DataFrame:
        """R2 by part, quantity and layer.

        Returns:
            `part`, `quantity` ("weights", "alphas", "log alphas"), `layer` ("all" first),
            `count` of numbers, and `r2`: 1 - SSE/SST, SST about each layer's own mean over
            the part; null where nothing varies.
        """
        rows = []
        for part, quantity in dict.fromkeys(key[:2] for key in self.sums):
            layers = {k[2]: _squares(s) for k, s in self.sums.items() if k[:2] == (part, quantity)}
            whole = {ALL: np.sum(list(layers.values()), axis=0)}
            for layer, (count, total, error) in (whole | layers).items():
                r2 = float(1 - error / total) if total > 0 else None
                rows.append((part, quantity, layer, int(count), r2))
        schema = {"part": pl.String, "quantity": pl.String, "layer": pl.String}
        schema |= {"count": pl.Int64, "r2": pl.Float64}
        return pl.DataFrame(rows, schema=schema, orient="row")


def _squares(sums: np.ndarray) -> np.ndarray:
    """Count, squares about the mean, squared errors; of a layer."""
    count, total, squares, errors = sums
    variance = squares - total**2 / count
    # What rounding leaves of a constant is no variance.
    return np.array([count, variance if variance > 1e-12 * squares else 0.0, errors])


def thresholded(weights: Tree, alphas: Tree | None) -> Tree:
    """Stacked parameters with everything of log alpha >= 3 at zero (NumPy)."""
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
    zoo: Zoo, images: Images, states: pl.DataFrame, original: Tree, guess: Tree
) -> pl.DataFrame:
    """What reconstructed members compute, beside what they were made from.

    Args:
        zoo: the members' zoo.
        images: to be told apart.
        states: `member` and `epoch`, a row a state.
        original: stacked parameters, thresholded.
        guess: the same, reconstructed.

    Returns:
        `member`, `epoch`, `test_acc` and `sparsity` of the original, `reconstructed_acc`,
        `reconstructed_sparsity`, and `agreement`: the share of images on which both predict
        the same class.
    """
    roster = states.select(pl.col("member").alias("id")).join(
        zoo.members_table, on="id", how="left", maintain_order="left"
    )
    both = jax.tree.map(lambda *x: np.concatenate(x), original, guess)
    classes = inference.predict_params(zoo.config, pl.concat([roster, roster]), both, images.images)
    one, other = np.split(classes, 2)
    right = [(c == images.labels).mean(axis=1) for c in (one, other)]
    return states.select("member", "epoch").with_columns(
        test_acc=pl.Series(right[0]),
        reconstructed_acc=pl.Series(right[1]),
        agreement=pl.Series((one == other).mean(axis=1)),
        sparsity=pl.Series(_sparsity(original)),
        reconstructed_sparsity=pl.Series(_sparsity(guess)),
    )


def _sparsity(params: Tree) -> np.ndarray:
    """Share of weights, biases aside, that are zero, [members]."""
    weights = [w.reshape(len(w), -1) for w in kernels(params).values()]
    return (np.concatenate(weights, axis=1) == 0).mean(axis=1)


def scatter(
    true: Numbers, guess: Numbers, most: int, rng: np.random.Generator
) -> Iterator[pl.DataFrame]:
    """Pairs of true and reconstructed numbers, at most so many of a quantity and layer.

    Yields:
        `quantity`, `layer`, `true`, `reconstructed`.
    """
    for (quantity, layer), x in true.items():
        chosen = np.sort(rng.permutation(x.size)[:most])
        yield pl.DataFrame(
            {
                "quantity": [quantity] * len(chosen),
                "layer": [layer] * len(chosen),
                "true": x.ravel()[chosen],
                "reconstructed": guess[quantity, layer].ravel()[chosen],
            }
        )
