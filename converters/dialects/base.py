"""The interface of a dialect: one way in which a state dict differs from the plain form.

The plain form has the names of the layout of a network and a sparsifier, and float32 values.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from zoojax.architectures.base import Architecture
from zoojax.text import printable

Arrays = dict[str, np.ndarray]
# What is needed to undo one dialect: its name, and JSON values.
Record = tuple[str, dict[str, Any]]


@dataclass(frozen=True)
class DialectOptions:
    """What may be changed or left out when a state dict is read; by default, nothing.

    Attributes:
        cast: Whether float64 values are rounded to float32.
        drop_extra: Whether tensors that belong to no layer are left out.
        fold_spectral_norm: Whether weights of layers with spectral_norm are computed.
        state_key: Name of the state dict in files with several; empty for the usual one.
    """

    cast: bool = False
    drop_extra: bool = False
    fold_spectral_norm: bool = False
    state_key: str = ""


class ReadState(dict[str, np.ndarray]):
    """A state dict in the plain form, with records of its original form.

    Attributes:
        records: What is needed to undo its dialects, in the order in which they were read.
        kept: Arrays that only the original dialect needs.
        notes: Remarks for the user.
        rounded: Number of values that were rounded.
        network: The network, if it is not the one that names and shapes imply; otherwise None.
        stored: Values that the file stores with the weights: configs, metrics, a label.
    """

    def __init__(
        self,
        arrays: Mapping[str, np.ndarray],
        records: Iterable[Record] = (),
        kept: Mapping[str, np.ndarray] | None = None,
        notes: Iterable[str] = (),
        rounded: int = 0,
        network: Architecture | None = None,
        stored: Mapping[str, Any] | None = None,
    ):
        super().__init__(arrays)
        self.records = tuple(records)
        self.kept = dict(kept or {})
        self.notes = tuple(notes)
        self.rounded = rounded
        self.network = network
        self.stored = dict(stored or {})


@dataclass
class Draft:
    """A state dict while it is converted to the plain form.

    Attributes:
        arrays: Arrays by name.
        options: What may be changed.
        masks: Masks that are stored elsewhere in the file, by the name of the masked tensor.
        records: What is needed to undo the dialects read so far.
        kept: Arrays that only the original dialect needs.
        notes: Remarks for the user.
        rounded: Number of values that were rounded.
        network: As in `ReadState`.
        stored: As in `ReadState`.
    """

    arrays: Arrays
    options: DialectOptions = DialectOptions()
    masks: Arrays = field(default_factory=dict)
    records: list[Record] = field(default_factory=list)
    kept: Arrays = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    rounded: int = 0
    network: Architecture | None = None
    stored: dict[str, Any] = field(default_factory=dict)

    def keep(self, name: str) -> np.ndarray:
        """Takes an array out of the state dict and keeps it for the original dialect."""
        self.kept[name] = self.arrays.pop(name)
        return self.kept[name]

    def finish(self) -> ReadState:
        """Returns the plain state dict."""
        return ReadState(
            self.arrays,
            self.records,
            self.kept,
            self.notes,
            self.rounded,
            self.network,
            self.stored,
        )


class Dialect(ABC):
    """One way in which a state dict differs from the plain form.

    Attributes:
        name: Its name in records.
    """

    name: ClassVar[str]

    @abstractmethod
    def read(self, draft: Draft) -> None:
        """Brings a state dict closer to the plain form, and records how to undo it.

        Args:
            draft: The state dict; unchanged if it is not in this dialect.

        Raises:
            UnsafePickleError: If it cannot be read without loss.
        """

    @abstractmethod
    def undo(self, arrays: Arrays, facts: dict[str, Any], kept: Arrays) -> Arrays:
        """Undoes `read`.

        Args:
            arrays: The state dict after later dialects were undone.
            facts: The values that `read` recorded.
            kept: The arrays that were kept.

        Returns:
            The state dict in this dialect.

        Raises:
            KeyError, TypeError, ValueError: If the record does not fit the state dict.
        """


def listed(names: Iterable[str], limit: int = 4) -> str:
    """Lists names in a message: "a, b and c"."""
    shown = [printable(name, 60) for name in sorted(names)]
    if len(shown) > limit:
        shown = [*shown[:limit], f"{len(shown) - limit} more"]
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)
