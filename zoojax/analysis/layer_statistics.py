"""Simple statistics of each layer's weights.

A baseline of weight-space learning: Unterthiner et al., "Predicting Neural Network
Accuracy from Weights", 2020.
"""

import numpy as np

PERCENTILES = (1, 25, 50, 75, 99)


def layer_statistics(params: dict[str, dict[str, np.ndarray]]) -> np.ndarray:
    """Mean, variance and percentiles of each layer's weights and biases, per member.

    Args:
        params: stacked parameters, as returned by `Zoo.params`.

    Returns:
        [members, layers * 2 * 7] float64; layers sorted by name, weights before biases, and
        per array the mean, the variance and percentiles 1, 25, 50, 75 and 99.
    """
    columns = []
    for layer in sorted(params):
        for name in ("kernel", "bias"):
            leaf = np.asarray(params[layer][name])
            flat = leaf.reshape(len(leaf), -1).astype(np.float64)
            columns += [flat.mean(axis=1), flat.var(axis=1)]
            columns += list(np.percentile(flat, PERCENTILES, axis=1))
    return np.stack(columns, axis=1)
