"""What is known of members from their weights by simple statistics of each layer.

The baseline of weight-space learning: Unterthiner et al., "Predicting Neural Network
Accuracy from Weights", 2020.
"""

import numpy as np

PERCENTILES = (1, 25, 50, 75, 99)


def layer_statistics(params: dict[str, dict[str, np.ndarray]]) -> np.ndarray:
    """Mean, variance and percentiles of every layer's weights and biases.

    Args:
        params: stacked parameters, as `Zoo.params` has them.

    Returns:
        [members, layers * 2 * 7] float64, layers in the order of their names, the kernel
        before the bias.
    """
    columns = []
    for layer in sorted(params):
        for name in ("kernel", "bias"):
            leaf = np.asarray(params[layer][name])
            flat = leaf.reshape(len(leaf), -1).astype(np.float64)
            columns += [flat.mean(axis=1), flat.var(axis=1)]
            columns += list(np.percentile(flat, PERCENTILES, axis=1))
    return np.stack(columns, axis=1)
