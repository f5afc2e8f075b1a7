"""Reads the states of datasets from their files, with NumPy alone."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from zoojax.architectures.vectors import VectorLayout
from zoojax.weight_datasets.cache import read_arrays, read_matrix
from zoojax.weight_datasets.permuting import Permuter
from zoojax.weight_datasets.view import Plan


@dataclass(frozen=True)
class Source:
    """The states of one zoo.

    Each process opens the files when it first needs them.

    Attributes:
        file: Matrix of the states, [states, size].
        states: Number of states in the file.
        layout: Where the values of a state are.
        plan_file: Arrays of the view.
    """

    file: Path
    states: int
    layout: VectorLayout
    plan_file: Path

    @cached_property
    def matrix(self) -> np.ndarray:
        """The states, mapped into memory."""
        return read_matrix(self.file, (self.states, self.layout.size))

    @cached_property
    def plan(self) -> Plan:
        """The arrays of the view."""
        return read_arrays(self.plan_file)

    @cached_property
    def permuter(self) -> Permuter:
        """Permutes hidden units."""
        return Permuter(self.layout)

    def __getstate__(self) -> dict[str, Any]:
        """Leaves out open files."""
        return {name: self.__dict__[name] for name in self.__dataclass_fields__}


class Samples:
    """The items of a dataset: their states and their targets.

    Attributes:
        file: Their arrays: source [items], row [items] in the file of the source, key [items]
            (identifies the state in random draws), target [items, targets].
    """

    def __init__(self, file: Path):
        self.file = file

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays."""
        return read_arrays(self.file)

    def __getstate__(self) -> dict[str, Any]:
        """Leaves out the arrays."""
        return {"file": self.file}


class Prepared(NamedTuple):
    """The files of a dataset.

    Attributes:
        sources: The zoos.
        samples: The items.
        table: Table of the items.
        statistics: File of the statistics; None without normalization.
        length: Number of items.
        left_out: Number of states of the split that are not finite or lack a target.
    """

    sources: tuple[Source, ...]
    samples: Samples
    table: Path
    statistics: Path | None
    length: int
    left_out: int
