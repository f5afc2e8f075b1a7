"""Predicts properties with a network that is equivariant to permutations of hidden units.

A neural graph network: hidden units are nodes and weights are edges, as in Kofinas et al., "Graph
Neural Networks for Learning Equivariant Representations of Neural Networks", 2024, and Lim et al.,
"Graph Metanetworks for Processing Diverse Neural Architectures", 2024. Units send messages along
and against the direction of computation. Messages are linear in the weights, so the network can
compute what a member computes; statistics of weights come from the other, nonlinear features of
edges. Predictions are computed from means over units and over edges, so they are the same for all
orders of the hidden units.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import Array

from zoojax.architectures.base import Architecture
from zoojax.hyper_representation.flat_network import standardize
from zoojax.hyper_representation.network_training import fit_network
from zoojax.hyper_representation.predictors import WEIGHTS, Prediction, Predictor, SplitArrays
from zoojax.weight_datasets.build import ArchitectureNetwork
from zoojax.weight_datasets.graphs import Graph
from zoojax.weight_datasets.view import PADDING

# Largest number of values of the features of edges in a batch.
_MAX_VALUES = 2**25


class Units(NamedTuple):
    """A set of nodes: inputs, the units of a permutation group, or outputs.

    Attributes:
        size: Number of units.
        features: Values per unit, such as its bias.
    """

    size: int
    features: int


class Edges(NamedTuple):
    """The weights between all units of two sets.

    Attributes:
        source: Number of the set that they come from.
        target: Number of the set that they lead to.
        features: Values per edge, such as the positions of a convolution's kernel.
    """

    source: int
    target: int
    features: int


class UnitGraph(NamedTuple):
    """How the parameters of an architecture are laid out as units and edges.

    A state is a vector: the values of all units by set, then those of all edges by layer, both in
    row-major order: [units, features] and [sources, targets, features].

    Attributes:
        units: The sets of units; inputs first and outputs last.
        edges: The layers.
    """

    units: tuple[Units, ...]
    edges: tuple[Edges, ...]

    @property
    def edge_count(self) -> int:
        """Number of edges of a member."""
        return sum(self.units[e.source].size * self.units[e.target].size for e in self.edges)

    def split(self, x: Array) -> tuple[list[Array], list[Array]]:
        """Splits vectors [n, values] into [n, units, features] per set, and [n, sources, targets,
        features] per layer.
        """
        shapes: list[tuple[int, ...]] = [(each.size, each.features) for each in self.units]
        shapes += [
            (self.units[e.source].size, self.units[e.target].size, e.features) for e in self.edges
        ]
        ends = np.cumsum([np.prod(shape, dtype=int) for shape in shapes])[:-1].tolist()
        parts = jnp.split(x, ends, axis=1)
        split = [p.reshape(len(x), *s) for p, s in zip(parts, shapes, strict=True)]
        return split[: len(self.units)], split[len(self.units) :]


def unit_graph(arch: Architecture) -> tuple[UnitGraph, np.ndarray]:
    """Describes an architecture as a graph of units.

    Args:
        arch: The architecture.

    Returns:
        The graph, and the position in `vector_layout` of each value of its vectors.

    Raises:
        ZoojaxError: If the architecture does not describe the hidden units between its layers.
    """
    plan = Graph().plan(ArchitectureNetwork(arch))
    units, edges, places = [], [], []
    for number in range(plan["node_layer"].max() + 1):
        values = _without_padding(plan["nodes"][plan["node_layer"] == number])
        units.append(Units(*values.shape))
        places.append(values.ravel())
    for number in range(plan["edge_layer"].max() + 1):
        rows = plan["edge_layer"] == number
        values = _without_padding(plan["edges"][rows])
        ends = plan["node_layer"][plan["edge_index"][:, rows][:, 0]]
        edges.append(Edges(int(ends[0]), int(ends[1]), values.shape[1]))
        places.append(values.ravel())
    return UnitGraph(tuple(units), tuple(edges)), np.concatenate(places)


def _without_padding(values: np.ndarray) -> np.ndarray:
    """Removes the padding of rows with the same number of values."""
    return values[:, values[0] != PADDING]


class EquivariantNetwork(nn.Module):
    """The neural graph network; all layers of a member share its weights, except the first ones.

    Attributes:
        graph: The members' parameters as a graph.
        outputs: Number of targets.
        width: Width of the features of units and edges.
        rounds: How often units send messages.
        dropout: Dropout rate before the last layer.
    """

    graph: UnitGraph
    outputs: int
    width: int = 24
    rounds: int = 2
    dropout: float = 0.1

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Predicts targets.

        Args:
            x: Vectors of the graph, [n, values].
            train: Whether to apply dropout.

        Returns:
            [n, outputs], the same for all orders of the hidden units.
        """
        values, weights = self.graph.split(x)
        units = jnp.concatenate([self._units(i, each) for i, each in enumerate(values)], axis=1)
        # Linear and nonlinear features of edges.
        features = [jnp.split(nn.Dense(2 * self.width)(each), 2, axis=3) for each in weights]
        linear, curved = [each for each, _ in features], [nn.gelu(each) for _, each in features]
        for _ in range(self.rounds):
            received = self._received(nn.Dense(2 * self.width)(units), linear, curved)
            hidden = nn.LayerNorm()(jnp.concatenate([units, received], axis=2))
            units += nn.Dense(self.width)(nn.gelu(nn.Dense(2 * self.width)(hidden)))
        pooled = [each.mean(axis=1) for each in self._by_set(units)]
        pooled += [each.mean(axis=(1, 2)) for each in curved]
        hidden = nn.LayerNorm()(jnp.concatenate(pooled, axis=1))
        hidden = nn.gelu(nn.Dense(2 * self.width)(hidden))
        hidden = nn.Dropout(self.dropout, deterministic=not train)(hidden)
        return nn.Dense(self.outputs)(hidden)

    def _units(self, number: int, values: Array) -> Array:
        """Initial features of a set of units, [n, units, width]."""
        fixed = number in (0, len(self.graph.units) - 1)
        # Inputs and outputs keep their order, so each has an embedding; hidden units share one.
        count = values.shape[1] if fixed else 1
        embedding = nn.Embed(count, self.width, embedding_init=nn.initializers.normal(1.0))
        rows = jnp.arange(values.shape[1]) if fixed else jnp.zeros(values.shape[1], jnp.int32)
        features = jnp.broadcast_to(embedding(rows)[None], (*values.shape[:2], self.width))
        return features + nn.Dense(self.width)(values) if values.shape[2] else features

    def _by_set(self, units: Array) -> list[Array]:
        """Splits the features of all units by set."""
        ends = np.cumsum([each.size for each in self.graph.units])[:-1].tolist()
        return jnp.split(units, ends, axis=1)

    def _received(self, sent: Array, linear: Sequence[Array], curved: Sequence[Array]) -> Array:
        """Messages that units receive from both sides.

        Args:
            sent: What units send along and against the direction of computation, [n, units, 2 *
                width].
            linear: Linear features of the edges of each layer, which multiply messages.
            curved: Nonlinear features, which are added to them.

        Returns:
            [n, units, 2 * width].
        """
        along, against = (self._by_set(each) for each in jnp.split(sent, 2, axis=2))
        messages: list[list[Array | None]] = [[None, None] for _ in along]

        def add(end: int, side: int, message: Array) -> None:
            others = messages[end][side]
            messages[end][side] = message if others is None else others + message

        for each, weights, features in zip(self.graph.edges, linear, curved, strict=True):
            sources, targets = weights.shape[1:3]
            forward = (weights * along[each.source][:, :, None]).sum(axis=1) / np.sqrt(sources)
            backward = (weights * against[each.target][:, None]).sum(axis=2) / np.sqrt(targets)
            add(each.target, 0, forward + features.mean(axis=1))
            add(each.source, 1, backward + features.mean(axis=2))
        sides = [
            [jnp.zeros_like(own) if side is None else side for side in sides]
            for own, sides in zip(along, messages, strict=True)
        ]
        return jnp.concatenate([jnp.concatenate(each, axis=2) for each in sides], axis=1)


@dataclass(frozen=True)
class Equivariant(Predictor):
    """The neural graph network.

    Weights are standardized by layer, which keeps the symmetry of hidden units.

    Attributes:
        arch: Architecture of the members.
        seed: See `fit_network`.

    Raises:
        ZoojaxError: If the architecture does not describe its hidden units.
    """

    arch: Architecture
    seed: int
    name = f"{WEIGHTS}, equivariant network"
    inputs = WEIGHTS

    def __post_init__(self) -> None:
        # Raises before anything is computed.
        _ = self._graph

    @cached_property
    def _graph(self) -> tuple[UnitGraph, np.ndarray]:
        return unit_graph(self.arch)

    def predict(self, inputs: SplitArrays, targets: SplitArrays) -> Prediction:
        """Trains the network on all targets together.

        Args:
            inputs: Flat weights, [n, parameters] float32 per split.
            targets: [n, targets] per split.
        """
        graph, order = self._graph
        module = EquivariantNetwork(graph, targets.train.shape[1])
        vectors = standardize(inputs, self.arch, "layer")
        ordered = SplitArrays(*(part[:, order] for part in vectors))
        fitting = _MAX_VALUES // (graph.edge_count * module.width)
        return Prediction(
            fit_network(module, ordered, targets, self.seed, batch_size=min(64, max(4, fitting)))
        )
