"""Principal components of tokens: they divide z among the tokens, and training starts from them.

The best linear autoencoder of a token with n dimensions projects it onto its first n principal
components. Dimensions are divided by reverse water-filling (Cover and Thomas, Elements of
Information Theory, 13.3.3): each goes to the component with the largest variance that is left.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from zoojax import keys
from zoojax.hyper_representation.augmentation import draw_permutation, permute
from zoojax.hyper_representation.dataset import Normalization
from zoojax.hyper_representation.tokens import Tokenizer
from zoojax.runtime import population

Slices = Mapping[str, int]
# Bounds of the samples that components are fitted to: states, and values in all of them.
_MAX_STATES, _MAX_VALUES = 2048, 2**26
# Rows of wider data are thinned out to this number, so that no matrix is larger than its square.
_MAX_ROWS = 2048
# Smallest variance of a component, in units of the largest and in those of normalized data.
# Smaller ones are rounding errors.
_SMALLEST_SHARE, _SMALLEST = 1e-7, 1e-10


class Components(NamedTuple):
    """Principal components of the tokens of a group.

    Attributes:
        mean: [width].
        directions: Orthonormal columns, by descending variance, [width, components].
        variances: [components]; components without variance are left out.
    """

    mean: NDArray[np.float64]
    directions: NDArray[np.float64]
    variances: NDArray[np.float64]


def principal_components(x: NDArray[Any]) -> Components:
    """Computes the principal components of rows [n, width]."""
    if x.shape[1] > _MAX_ROWS:
        x = x[:: -(-len(x) // _MAX_ROWS)]
    rows = np.array(x, np.float64)
    mean = rows.mean(axis=0)
    rows -= mean
    few = len(rows) < rows.shape[1]
    product = (rows @ rows.T if few else rows.T @ rows) / len(rows)
    variances, vectors = np.linalg.eigh(product)
    kept = variances > max(_SMALLEST_SHARE * variances[-1], _SMALLEST)
    variances, vectors = variances[kept][::-1], vectors[:, kept][:, ::-1]
    if few:
        vectors = rows.T @ vectors / np.sqrt(len(rows) * variances)
    return Components(mean, vectors, variances)


def token_components(
    tokenizer: Tokenizer, normalization: Normalization, weights: dict[str, Any], seed: int
) -> dict[str, Components]:
    """Computes the principal components of the tokens of each group.

    Hidden units are in random order, as in training. Of many states, a random part is used.

    Args:
        tokenizer: The tokenizer.
        normalization: Normalization of the weights.
        weights: Stacked weights, [n, ...].
        seed: Seed of the chosen states and orders.
    """
    arch, total = tokenizer.arch, len(jax.tree.leaves(weights)[0])
    count = min(total, _MAX_STATES, max(2, _MAX_VALUES // tokenizer.num_parameters))
    chosen_key, orders_key = jax.random.split(keys.stream_key(seed, "order"))
    chosen = np.sort(np.asarray(keys.permutation(chosen_key, total))[:count])

    @jax.jit
    def tokens(key: jax.Array, one: dict[str, Any]) -> dict[str, jax.Array]:
        normalized = normalization.apply(one)
        return tokenizer.tokenize(permute(normalized, draw_permutation(key, arch), arch))

    drawn = jax.vmap(tokens)(jax.random.split(orders_key, count), population.take(weights, chosen))
    return {
        group.name: principal_components(np.asarray(drawn[group.name]).reshape(-1, group.width))
        for group in tokenizer.groups
    }


def divide(tokenizer: Tokenizer, components: Mapping[str, Components], total: int) -> Slices:
    """Divides dimensions of z among tokens by reverse water-filling.

    All tokens of a group get the same number, at most their width.

    Args:
        tokenizer: The tokenizer.
        components: Components of each group; groups without any get no dimensions.
        total: Number of dimensions to divide.

    Returns:
        Dimensions per token, by group; in all at most `total`. Fewer if all components have one.

    Example:
        A unit of the second layer varies in two directions, of the first in one:

        >>> from zoojax.hyper_representation.components import divide  # doctest: +SKIP
        >>> divide(tokenizer, components, 12)  # doctest: +SKIP
        {'conv1': 1, 'conv2': 2}
    """
    counts = {group.name: group.count for group in tokenizer.groups}
    descending = sorted(
        (-variance, name) for name, part in components.items() for variance in part.variances
    )
    slices, left = dict.fromkeys(counts, 0), total
    for _, name in descending:
        if counts[name] <= left:
            slices[name] += 1
            left -= counts[name]
    return slices


def start_from(
    params: dict[str, Any], components: Mapping[str, Components], slices: Slices
) -> dict[str, Any]:
    """Sets the linear maps of tokens to projections onto their components.

    Args:
        params: Initial parameters of the autoencoder.
        components: Components of each group.
        slices: Dimensions of z per token, by group.

    Returns:
        The parameters, with which the linear path alone reconstructs each token from its first
        components.
    """
    params = dict(params)
    for name, size in slices.items():
        if not size:
            continue
        mean, directions = components[name].mean, components[name].directions[:, :size]
        width, compress, head = len(mean), f"compress_local_{name}", f"heads_0_{name}"
        outputs = np.zeros(params[f"linear_out_{name}"]["kernel"].shape, np.float32)
        outputs[:, :width] = directions.T
        params[f"linear_in_{name}"] = {"kernel": jnp.asarray(directions, jnp.float32)}
        params[f"linear_out_{name}"] = {"kernel": jnp.asarray(outputs)}
        params[compress] = params[compress] | {"bias": jnp.asarray(-mean @ directions, jnp.float32)}
        params[head] = params[head] | {"bias": jnp.asarray(mean, jnp.float32)}
    return params


def start_probes_from(
    params: dict[str, Any], probed: NDArray[Any], size: int, first: int
) -> dict[str, Any]:
    """Sets the linear maps of the outputs on the probes to projections onto their components.

    Args:
        params: Initial parameters of the autoencoder.
        probed: Normalized outputs of the training samples on the probes, [n, probed].
        size: Dimensions of z for the outputs on the probes.
        first: Position of the first of them in z.

    Returns:
        The parameters. The dimensions have variance 1.
    """
    mean, directions, variances = principal_components(probed)
    size = min(size, len(variances))
    directions, scale = directions[:, :size], np.sqrt(variances[:size])
    into = jax.tree.map(np.array, params["compress_probes"])
    out = jax.tree.map(np.array, params["predict_probes"])
    into["kernel"][:, :size] = directions / scale
    into["bias"][:size] = -mean @ (directions / scale)
    out["kernel"][:] = 0.0
    out["kernel"][first : first + size] = (directions * scale).T
    out["bias"][:] = mean
    return params | {"compress_probes": into, "predict_probes": out}
