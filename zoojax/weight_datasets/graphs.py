"""Parameters as graphs: units are nodes, weights are edges.

As in neural graphs (Kofinas et al., "Graph Neural Networks for Learning Equivariant Representations
of Neural Networks", 2024; Lim et al., "Graph Metanetworks", 2024): all weights between two units,
such as the positions of a convolution's kernel, are the features of one edge. Biases, and all other
parameters with one or several values per unit, are features of nodes.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from zoojax.architectures.permuted_axes import PermutedAxis
from zoojax.architectures.vectors import Leaf, VectorLayout
from zoojax.errors import ZoojaxError
from zoojax.text import printable
from zoojax.weight_datasets.view import PADDING, Drawn, Network, Plan, View, gather, padded, scatter

_WEIGHT = "/kernel"
_INPUTS, _OUTPUTS = "inputs", "outputs"


@dataclass(frozen=True)
class Graph(View):
    """The parameters as a graph: {"nodes": [nodes, features], "edges": [edges, features]}.

    Nodes and edges with fewer features are padded with zeros. `WeightDataset.static` has

    - "edge_index" [2, edges]: the source and target node of each edge,
    - "node_layer" [nodes]: 0 for inputs, then one number per set of units; the outputs are last,
    - "edge_layer" [edges]: number of the layer whose weights the edges are,
    - "node_mask" and "edge_mask": False for padding.

    Units that several layers share, as in residual networks, are the same nodes. The inputs are
    the channels of the images, or the values of flattened images.

    Example:
        >>> graphs = zoojax.WeightDataset(zoo, "graph", cache="cache")
        >>> {name: x.shape for name, x in graphs[0].items()}
        {'nodes': (49, 1), 'edges': (360, 25)}
        >>> graphs.static["edge_index"].shape
        (2, 360)
    """

    name: ClassVar = "graph"

    def plan(self, network: Network) -> Plan:
        """Positions in the vector of all features, and the nodes of all edges."""
        return _plan(network)

    def static(self, plan: Plan) -> dict[str, np.ndarray]:
        """The nodes of the edges, layers and masks."""
        names = ("edge_index", "node_layer", "edge_layer")
        masks = {f"{name}_mask": plan[f"{name}s"] != PADDING for name in ("node", "edge")}
        return {**{name: plan[name] for name in names}, **masks}

    def items(self, states: Drawn, plan: Plan) -> dict[str, np.ndarray]:
        """{"nodes": [states, nodes, features], "edges": [states, edges, features]}."""
        return {name: gather(states.vectors, plan[name]) for name in ("nodes", "edges")}

    def vectors(self, items: Any, plan: Plan, layout: VectorLayout) -> np.ndarray:
        """[states, parameters]."""
        names = ("nodes", "edges")
        values = [np.asarray(items[name]).reshape(len(items[name]), -1) for name in names]
        index = np.concatenate([plan[name].ravel() for name in names])
        return scatter(np.concatenate(values, axis=1), index, layout.parameters)


class _Units(NamedTuple):
    """The set of nodes that an axis holds.

    Attributes:
        key: The set: number of a group, or inputs or outputs.
        axis: How the axis holds the units.
    """

    key: int | str
    axis: PermutedAxis


class _Edges(NamedTuple):
    source: int | str
    target: int | str
    places: np.ndarray


def _plan(network: Network) -> Plan:
    layout = network.layout
    held = {
        (axis.path, axis.axis): _Units(number, axis)
        for number, group in enumerate(network.unit_groups)
        for axis in group
    }
    kernels = [leaf for leaf in layout.params if leaf.path.endswith(_WEIGHT)]
    _check_described(network, kernels, held)
    edges = [_edges(layout, leaf, held) for leaf in kernels]
    features: dict[int | str, list[np.ndarray]] = {_INPUTS: []}
    features |= {number: [] for number in range(len(network.unit_groups))}
    features[_OUTPUTS] = []
    sizes: dict[int | str, int] = {}
    for each in edges:
        sizes |= {each.source: each.places.shape[0], each.target: each.places.shape[1]}
    outputs = {leaf.layer for leaf in kernels if (leaf.path, -1) not in held}
    for leaf in layout.params:
        if leaf.path.endswith(_WEIGHT):
            continue
        units = held.get((leaf.path, -1))
        if units is None and leaf.layer not in outputs:
            raise ZoojaxError(
                f"architecture {network.name} does not describe the hidden units of "
                f"{printable(leaf.path, 60)} in its permutation groups; use another view"
            )
        units = units or _Units(_OUTPUTS, PermutedAxis(leaf.path, -1))
        index = _by_unit(layout.index(leaf), units.axis)
        features[units.key].append(index.reshape(-1, index.shape[-1]).T)
        sizes[units.key] = index.shape[-1]
    starts = np.cumsum([0, *(sizes[key] for key in features)])
    start = dict(zip(features, starts[:-1].tolist(), strict=True))
    nodes = [
        np.concatenate(rows, axis=1) if rows else np.full((sizes[key], 0), PADDING)
        for key, rows in features.items()
    ]
    ends = [_ends(each, start) for each in edges]
    counts = [sizes[key] for key in features]
    return {
        "nodes": padded(nodes),
        "edges": padded([each.places.reshape(-1, each.places.shape[-1]) for each in edges]),
        "edge_index": np.concatenate(ends, axis=1),
        "node_layer": np.repeat(np.arange(len(counts)), counts),
        "edge_layer": np.repeat(np.arange(len(ends)), [x.shape[1] for x in ends]),
    }


def _check_described(
    network: Network, kernels: list[Leaf], held: dict[tuple[str, int], _Units]
) -> None:
    """Checks that only one layer takes the inputs and only one returns the outputs."""
    first = [leaf for leaf in kernels if (leaf.path, -2) not in held]
    last = [leaf for leaf in kernels if (leaf.path, -1) not in held]
    if len(first) != 1 or len(last) != 1 or any(len(leaf.shape) < 2 for leaf in kernels):
        raise ZoojaxError(
            f"architecture {network.name} does not describe the hidden units between its layers "
            "(its permutation groups), so its states have no graph; use another view"
        )


def _edges(layout: VectorLayout, leaf: Leaf, held: dict[tuple[str, int], _Units]) -> _Edges:
    """The edges of a kernel: positions in the vector, [sources, targets, features]."""
    source = held.get((leaf.path, -2), _Units(_INPUTS, PermutedAxis(leaf.path, -2)))
    target = held.get((leaf.path, -1), _Units(_OUTPUTS, PermutedAxis(leaf.path, -1)))
    # The units of the inputs move to the end, after the outputs and two new axes.
    index = _by_unit(layout.index(leaf), source.axis)
    index = _by_unit(index, target.axis._replace(axis=-4))
    index = np.moveaxis(index, (-4, -1), (0, 1))
    return _Edges(source.key, target.key, index.reshape(*index.shape[:2], -1))


def _by_unit(index: np.ndarray, axis: PermutedAxis) -> np.ndarray:
    """Splits an axis into positions, units and width, and moves the units to the end."""
    moved = np.moveaxis(index, axis.axis, -1)
    units = moved.shape[-1] // (axis.positions * axis.width)
    split = moved.reshape(*moved.shape[:-1], axis.positions, units, axis.width)
    return np.moveaxis(split, -2, -1)


def _ends(edges: _Edges, start: dict[int | str, int]) -> np.ndarray:
    """The nodes of the edges, [2, edges]."""
    sources, targets = edges.places.shape[:2]
    grid = np.indices((sources, targets)).reshape(2, -1)
    return grid + np.array([[start[edges.source]], [start[edges.target]]])
