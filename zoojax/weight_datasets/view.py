"""The interface of views, which convert the states of a dataset to items."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np

from zoojax.architectures.permuted_axes import PermutationGroup
from zoojax.architectures.vectors import VectorLayout

# Arrays of a view that are the same for all states of a network.
Plan = dict[str, np.ndarray]
# Marks padding in an index of values.
PADDING = -1


class Network(Protocol):
    """Properties of a network that views use."""

    @property
    def name(self) -> str: ...

    @property
    def layout(self) -> VectorLayout: ...

    @property
    def unit_groups(self) -> tuple[PermutationGroup, ...]: ...

    def order(self, layout: str) -> np.ndarray:
        """Returns the positions in Flax's vector of the parameters in a layout's order."""
        ...


class Drawn(NamedTuple):
    """States that a view converts.

    Attributes:
        vectors: Their values in Flax's order, [states, size].
        layout: Where the values are.
        random: One number in [0, 1) per state, for views that draw a part.
    """

    vectors: np.ndarray
    layout: VectorLayout
    random: np.ndarray


@dataclass(frozen=True)
class View(ABC):
    """Base class of views, whose fields are options.

    A view is computed with NumPy from the vectors of states and from a plan: arrays such as
    indices, which are computed once and stored.

    Attributes:
        name: Name by which `WeightDataset` selects the view with its default options.
    """

    name: ClassVar[str]

    def plan(self, network: Network) -> Plan:
        """Computes the arrays that depend on the network alone.

        Args:
            network: The network.

        Raises:
            ZoojaxError: If the view cannot show this network.
        """
        return {}

    def static(self, plan: Plan) -> dict[str, np.ndarray]:
        """Selects the arrays of the plan that describe all items, such as positions."""
        return {}

    @abstractmethod
    def items(self, states: Drawn, plan: Plan) -> Any:
        """Converts states.

        Returns:
            An array or nested dict of arrays, with the states as leading axis.
        """

    @abstractmethod
    def vectors(self, items: Any, plan: Plan, layout: VectorLayout) -> np.ndarray:
        """Inverts `items`.

        Returns:
            [states, parameters], or with the values of other collections if the items have them.
        """


def gather(vectors: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Takes values of each vector; zero for padding.

    Args:
        vectors: [states, size].
        index: Positions in a vector, of any shape.

    Returns:
        [states, *index.shape].
    """
    flat = index.ravel()
    taken = np.take(vectors, flat, axis=1, mode="clip")
    padded = np.flatnonzero(flat == PADDING)
    if len(padded):
        taken[:, padded] = 0
    return taken.reshape(len(vectors), *index.shape)


def scatter(values: np.ndarray, index: np.ndarray, size: int) -> np.ndarray:
    """Inverts `gather` for an index that has all positions.

    Args:
        values: [states, *index.shape].
        index: Positions in a vector.
        size: Length of the vectors.

    Returns:
        [states, size].
    """
    flat = index.ravel()
    present = np.flatnonzero(flat != PADDING)
    vectors = np.empty((len(values), size), values.dtype)
    vectors[:, flat[present]] = values.reshape(len(values), -1)[:, present]
    return vectors


def padded(rows: list[np.ndarray]) -> np.ndarray:
    """Joins index arrays [count, width] of several widths, padded to the largest width."""
    width = max(row.shape[1] for row in rows)
    return np.concatenate(
        [np.pad(x, ((0, 0), (0, width - x.shape[1])), constant_values=PADDING) for x in rows]
    )
