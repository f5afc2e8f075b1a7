"""Predicts properties with a multilayer perceptron on the flat weights of a member."""

from dataclasses import dataclass

import flax.linen as nn
from jax import Array

from zoojax.architectures.base import Architecture, vector_layout
from zoojax.hyper_representation.network_training import fit_network
from zoojax.hyper_representation.predictors import WEIGHTS, Prediction, Predictor, SplitArrays
from zoojax.weight_datasets.statistics import compute_statistics


class Perceptron(nn.Module):
    """One hidden layer with dropout.

    Attributes:
        outputs: Number of targets.
        width: Hidden units.
        dropout: Dropout rate of the hidden units.
    """

    outputs: int
    width: int = 256
    dropout: float = 0.5

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Predicts targets.

        Args:
            x: Standardized weights, [n, parameters].
            train: Whether to drop hidden units.

        Returns:
            [n, outputs].
        """
        hidden = nn.relu(nn.Dense(self.width)(x))
        hidden = nn.Dropout(self.dropout, deterministic=not train)(hidden)
        return nn.Dense(self.outputs)(hidden)


@dataclass(frozen=True)
class FlatNetwork(Predictor):
    """A multilayer perceptron on flat weights.

    Each parameter is standardized with the statistics of the training split.

    Attributes:
        arch: Architecture of the members.
        seed: See `fit_network`.
    """

    arch: Architecture
    seed: int
    name = f"{WEIGHTS}, MLP"
    inputs = WEIGHTS

    def predict(self, inputs: SplitArrays, targets: SplitArrays) -> Prediction:
        """Trains the network on all targets together.

        Args:
            inputs: Flat weights, [n, parameters] float32 per split.
            targets: [n, targets] per split.
        """
        module = Perceptron(targets.train.shape[1])
        standardized = standardize(inputs, self.arch, "parameter")
        return Prediction(fit_network(module, standardized, targets, self.seed))


def standardize(inputs: SplitArrays, arch: Architecture, unit: str) -> SplitArrays:
    """Standardizes flat weights with the statistics of the training split.

    Args:
        inputs: [n, parameters] float32 per split, in the order of `vector_layout`.
        arch: Architecture of the members.
        unit: "layer" for one mean and deviation per layer, which keeps the symmetry of hidden
            units, or "parameter".
    """
    layout = vector_layout(arch)
    statistics = compute_statistics(lambda: iter([inputs.train]), layout, unit)
    return SplitArrays(*(statistics.normalize(part) for part in inputs))
