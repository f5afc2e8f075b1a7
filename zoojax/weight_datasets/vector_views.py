"""Views that keep the values of states: nested dicts of arrays, or vectors."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from zoojax.architectures.vectors import VectorLayout, inverse_order
from zoojax.weight_datasets.view import Drawn, Network, Plan, View


@dataclass(frozen=True)
class State(View):
    """The variables of a member: {"params": ...} and other collections, such as "batch_stats".

    Example:
        >>> states = zoojax.WeightDataset(zoo, "state", cache="cache")
        >>> states[0]["params"]["conv1"]["kernel"].shape
        (5, 5, 1, 8)
    """

    name: ClassVar = "state"

    def items(self, states: Drawn, plan: Plan) -> dict[str, Any]:
        """Returns the stacked variables."""
        return states.layout.unflatten(states.vectors)

    def vectors(self, items: Any, plan: Plan, layout: VectorLayout) -> np.ndarray:
        """Joins stacked variables."""
        return layout.flatten(items)


@dataclass(frozen=True)
class Flat(View):
    """The parameters as one vector.

    Attributes:
        layout: "flax" or "torch"; see `Zoo.flat`.

    Example:
        >>> from zoojax.weight_datasets import Flat
        >>> zoojax.WeightDataset(zoo, Flat("flax"), cache="cache")[0].shape
        (2464,)
    """

    layout: str = "flax"

    name: ClassVar = "flat"

    def plan(self, network: Network) -> Plan:
        """The order of the parameters."""
        order = network.order(self.layout)
        return {} if self.layout == "flax" else {"order": order}

    def items(self, states: Drawn, plan: Plan) -> np.ndarray:
        """[states, parameters]."""
        if "order" in plan:
            return np.take(states.vectors, plan["order"], axis=1)
        return states.vectors[:, : states.layout.parameters]

    def vectors(self, items: Any, plan: Plan, layout: VectorLayout) -> np.ndarray:
        """Restores Flax's order."""
        vectors = np.asarray(items, np.float32)
        if vectors.ndim != 2:
            raise ValueError("no batch of vectors")
        if "order" in plan:
            return np.take(vectors, inverse_order(plan["order"]), axis=1)
        return vectors
