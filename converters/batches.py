"""States that are read in batches: rows of a matrix, each with the same tensors.

All states of a batch have the same names and shapes, so one of them determines the network of all,
and the columns of the matrix are the values of a member's arrays in some order.
"""

import functools
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from zoojax.converters.dialects.base import ReadState
from zoojax.converters.safe_load import UnreadableFileError
from zoojax.converters.state_dicts import (
    StateDictInfo,
    UnknownNetworkError,
    infer_network,
    to_member,
)

# Column numbers are computed as float32, which holds integers up to this one.
MAX_COLUMNS = 2**24


class StateBatch(ABC):
    """The states of a matrix; see the module.

    Attributes:
        columns: Number of values of a state.
        is_float32: Whether all values are exact in float32, so reading a state cannot fail.
    """

    columns: int
    is_float32: bool

    @abstractmethod
    def rows(self, indices: np.ndarray) -> np.ndarray:
        """Reads states.

        Args:
            indices: Their positions in the batch, [n].

        Returns:
            Their values, float32 [n, columns].

        Raises:
            UnreadableFileError: If they cannot be read.
        """

    @abstractmethod
    def state(self, values: np.ndarray) -> ReadState:
        """Returns the state dict of one state.

        Args:
            values: Its values, [columns].

        Raises:
            UnsafePickleError: If they cannot be converted to float32 without loss.
        """

    @abstractmethod
    def read(self, index: int) -> ReadState:
        """Reads one state with all checks.

        Raises:
            UnreadableFileError: If it cannot be read, or not without loss.
        """

    @functools.cached_property
    def layout(self) -> "BatchLayout | None":
        """The network of the states; None if they must be read one by one."""
        if not self.is_float32 or self.columns > MAX_COLUMNS:
            return None
        try:
            numbered = self.state(np.arange(self.columns, dtype=np.float32))
            info = infer_network(numbered)
            member = to_member(numbered, info)
        except (UnreadableFileError, UnknownNetworkError):
            return None
        if info.mask_names():
            return None
        return BatchLayout(info, jax.tree.map(_as_columns, member))


@dataclass(frozen=True)
class BatchLayout:
    """How the states of a batch become members.

    Attributes:
        info: The network of the states.
        columns: The state of a member, with the numbers of columns as values.
    """

    info: StateDictInfo
    columns: dict[str, Any]

    def members(self, rows: np.ndarray) -> dict[str, Any]:
        """Converts states to members.

        Args:
            rows: Values of the states, [n, columns].

        Returns:
            The members' states, stacked.
        """
        return jax.tree.map(lambda columns: _select(rows, columns), self.columns)


class BatchState:
    """One state of a batch: a function that reads it.

    Attributes:
        batch: The batch.
        index: Its position in the batch.
    """

    __slots__ = ("batch", "index")

    def __init__(self, batch: StateBatch, index: int):
        self.batch, self.index = batch, index

    def __call__(self) -> ReadState:
        return self.batch.read(self.index)


def _as_columns(values: np.ndarray) -> np.ndarray:
    return np.asarray(values).astype(np.int64)


def _select(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    flat = columns.reshape(-1)
    start = int(flat[0]) if flat.size else 0
    if np.array_equal(flat, np.arange(start, start + flat.size)):
        chosen = rows[:, start : start + flat.size]
    else:
        chosen = np.take(rows, flat, axis=1)
    return np.ascontiguousarray(chosen).reshape(len(rows), *columns.shape)
