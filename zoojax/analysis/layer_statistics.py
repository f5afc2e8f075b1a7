"""Simple statistics of each layer's weights.

A baseline of weight-space learning: Unterthiner et al., "Predicting Neural Network
Accuracy from Weights", 2020.
"""

from typing import Any

import numpy as np

from zoojax.architectures.parameters import flat_layers

PERCENTILES = (1, 25, 50, 75, 99)


def _order(name: str) -> tuple[int, str]:
    return {"kernel": 0, "bias": 1}.get(name, 2), name


def layer_statistics(params: dict[str, Any]) -> np.ndarray:
    """Mean, variance and percentiles of each layer's weights and biases, per member.

    Args:
        params: stacked parameters, as returned by `Zoo.params`.

    Returns:
        [members, arrays * 7] float64; layers sorted by name, weights before biases and other
        parameters, and per array the mean, the variance and percentiles 1, 25, 50, 75 and 99.
    """
    columns = []
    for _, leaves in sorted(flat_layers(params).items()):
        for name in sorted(leaves, key=_order):
            leaf = np.asarray(leaves[name])
            flat = leaf.reshape(len(leaf), -1).astype(np.float64)
            columns += [flat.mean(axis=1), flat.var(axis=1)]
            columns += list(np.percentile(flat, PERCENTILES, axis=1))
    return np.stack(columns, axis=1)
