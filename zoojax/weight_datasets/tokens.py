"""Parameters as sequences of tokens.

The units of a layer are on the last axis of its parameters. A token holds the parameters of a unit,
a part of them, or a piece of the vector.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from zoojax.architectures.vectors import VectorLayout, inverse_order
from zoojax.errors import ZoojaxError
from zoojax.hyperparameters.declaration import check_whole
from zoojax.text import printable
from zoojax.weight_datasets.view import PADDING, Drawn, Network, Plan, View, gather, padded, scatter

KINDS = ("neuron", "chunk", "sane")


@dataclass(frozen=True)
class Tokens(View):
    """The parameters as tokens [tokens, width], zero where a token is shorter than the longest.

    `WeightDataset.static` has "mask" [tokens, width], False for padding, and "positions"
    [tokens, 3] as in SANE: the number of the token, of its layer, and of the token in its layer.
    With a window, items are dicts of "tokens", "mask" and "positions" of that window.

    Attributes:
        kind: "neuron": one token per unit, with all of its parameters. "chunk": the vector, split
            into pieces of equal size. "sane": the parameters of each unit, split into pieces
            (Schürholt et al., "Towards Scalable and Versatile Weight Space Learning", 2024).
        size: Values per token of the kinds "chunk" and "sane".
        window: Number of consecutive tokens of an item, from a random start that each pass draws
            again; None for all tokens.
        layout: "flax" or "torch": order of the layers, and of the values of a unit.

    Example:
        >>> from zoojax.weight_datasets import Tokens
        >>> tokens = zoojax.WeightDataset(zoo, Tokens("sane", size=32, window=8), cache="cache")
        >>> tokens[0]["tokens"].shape, tokens[0]["positions"].shape
        ((8, 32), (8, 3))
    """

    kind: str = "neuron"
    size: int = 64
    window: int | None = None
    layout: str = "flax"

    name: ClassVar = "tokens"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            known = ", ".join(KINDS)
            raise ZoojaxError(f"no tokens named {printable(self.kind, 40)}; there are: {known}")
        for name in ("size", "window"):
            value = getattr(self, name)
            if value is not None and check_whole(f"{name} of tokens", value) < 1:
                raise ZoojaxError(f"{name} of tokens is {value}; give at least 1")

    def plan(self, network: Network) -> Plan:
        """Positions in the vector of all values of all tokens."""
        order = network.order(self.layout)
        if self.kind == "chunk":
            count = -(-len(order) // self.size)
            index = np.full(count * self.size, PADDING)
            index[: len(order)] = order
            index = index.reshape(count, self.size)
            positions = np.stack([np.arange(count), np.zeros(count, int), np.arange(count)], 1)
        else:
            rows = _unit_rows(network.layout, inverse_order(order))
            if self.kind == "sane":
                rows = [_cut(row, self.size) for row in rows]
            index = padded(rows)
            places = [np.arange(len(row)) for row in rows]
            layers = [np.full(len(x), layer) for layer, x in enumerate(places)]
            flat = np.arange(len(index)), np.concatenate(layers), np.concatenate(places)
            positions = np.stack(flat, axis=1)
        if self.window is not None and self.window > len(index):
            raise ZoojaxError(
                f"a window of {self.window} tokens is longer than the {len(index)} tokens of "
                f"architecture {network.name}"
            )
        return {"index": index, "positions": positions.astype(np.int32)}

    def static(self, plan: Plan) -> dict[str, np.ndarray]:
        """Mask and positions of all tokens."""
        return {"mask": plan["index"] != PADDING, "positions": plan["positions"]}

    def items(self, states: Drawn, plan: Plan) -> Any:
        """[states, tokens, width], or dicts of windows."""
        tokens = gather(states.vectors, plan["index"])
        if self.window is None:
            return tokens
        starts = (states.random * (len(plan["index"]) - self.window + 1)).astype(np.int64)
        at = starts[:, None] + np.arange(self.window)
        return {
            "tokens": tokens[np.arange(len(tokens))[:, None], at],
            "mask": (plan["index"] != PADDING)[at],
            "positions": plan["positions"][at],
        }

    def vectors(self, items: Any, plan: Plan, layout: VectorLayout) -> np.ndarray:
        """[states, parameters]; of windows, the one state that they cover."""
        index = plan["index"]
        if self.window is None:
            return scatter(np.asarray(items), index, layout.parameters)
        at = np.asarray(items["positions"])[..., 0].ravel()
        missing = np.setdiff1d(np.arange(len(index)), at)
        if len(missing):
            raise ZoojaxError(f"the windows do not have token {missing[0]} of {len(index)}")
        tokens = np.empty((1, *index.shape), np.float32)
        tokens[0, at] = np.asarray(items["tokens"]).reshape(-1, index.shape[1])
        return scatter(tokens, index, layout.parameters)


def _unit_rows(layout: VectorLayout, rank: np.ndarray) -> list[np.ndarray]:
    """Positions of the parameters of each unit, [units, width] per layer.

    Args:
        layout: The layout of the vectors.
        rank: Place of each parameter in the requested order.
    """
    rows = []
    for leaves in layout.layers().values():
        units = leaves[0].shape[-1] if leaves[0].shape else 1
        if any(leaf.size % units or leaf.shape[-1:] != leaves[0].shape[-1:] for leaf in leaves):
            raise ZoojaxError(
                f"layer {printable(leaves[0].layer, 60)} has parameters without a common last "
                'axis, which holds its units; use tokens of the kind "chunk"'
            )
        row = np.concatenate([layout.index(x).reshape(-1, units).T for x in leaves], axis=1)
        rows.append(np.take_along_axis(row, np.argsort(rank[row], axis=1), axis=1))
    return sorted(rows, key=lambda row: rank[row].min())


def _cut(row: np.ndarray, size: int) -> np.ndarray:
    """Splits the rows of units into pieces: [units * pieces, size]."""
    pieces = -(-row.shape[1] // size)
    wide = np.pad(row, ((0, 0), (0, pieces * size - row.shape[1])), constant_values=PADDING)
    return wide.reshape(-1, size)
