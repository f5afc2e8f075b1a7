"""Which twins a comparison of sparsifiers trains, and for how many epochs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from zoojax.api.twins import check_applicable, named_sparsifiers
from zoojax.architectures.base import Architecture
from zoojax.errors import ZoojaxError
from zoojax.hyperparameters.declaration import check_whole
from zoojax.sparsifiers.base import Sparsifier
from zoojax.sparsifiers.dense import Dense
from zoojax.sparsifiers.registry import sparsifiers
from zoojax.text import printable

ALL = "all"
# Options are checked with it before training starts.
_PARENT = pl.DataFrame({"id": [0], "parent_id": [0], "seed": [0]})


@dataclass(frozen=True)
class PlannedTwin:
    """A twin of a comparison.

    Attributes:
        folder: Name of its folder: the method, such as "mp", with "-2", ... for further twins of
            the same sparsifier.
        sparsifier: The sparsifier with its options.
        epoch: Epoch of the parents to start from.
        epochs: Number of epochs.
    """

    folder: str
    sparsifier: Sparsifier
    epoch: int
    epochs: int


def plan(
    chosen: Sequence[type[Sparsifier]],
    ratios: Sequence[float],
    parent_epochs: int,
    *,
    budget: int | None = None,
    epochs: Mapping[str, int] | None = None,
) -> list[PlannedTwin]:
    """Plans the twins of a comparison.

    Methods that prune trained members start from the last epoch of the parents. Those that train
    sparse members from scratch start from epoch 0, and additionally train the epochs of the
    parents.

    Args:
        chosen: The sparsifiers.
        ratios: Fractions of weights to prune; see `Sparsifier.at_ratios`.
        parent_epochs: Epochs of the parents.
        budget: Epochs that every method trains in addition to those of the parents; None takes
            `Sparsifier.comparison_epochs`.
        epochs: Epochs of single sparsifiers by name, without a budget.

    Returns:
        The twins in the order of the sparsifiers.

    Raises:
        ZoojaxError: If a sparsifier cannot be applied at these ratios, for example repeated ones.

    Example:
        >>> [(twin.folder, twin.epoch, twin.epochs) for twin in plan(
        ...     [zoojax.MagnitudePruning, zoojax.SET, zoojax.NMPruning], (0.5,), 50, budget=20
        ... )]
        [('mp', 50, 20), ('set', 0, 70), ('nm', 50, 20), ('nm-2', 50, 20)]
    """
    result = []
    for kind in chosen:
        for number, sparsifier in enumerate(kind.at_ratios(ratios), 1):
            sparsifier.members(_PARENT)
            scratch = sparsifier.starts_untrained
            count = (epochs or {}).get(kind.name, sparsifier.comparison_epochs(parent_epochs))
            if budget is not None:
                count = budget + (parent_epochs if scratch else 0)
            folder = sparsifier.method + ("" if number == 1 else f"-{number}")
            result.append(PlannedTwin(folder, sparsifier, 0 if scratch else parent_epochs, count))
    return result


def chosen_sparsifiers(
    names: Sequence[str], architecture: Architecture, zoo: str
) -> tuple[list[type[Sparsifier]], list[str]]:
    """Looks up the sparsifiers of a comparison.

    Args:
        names: Names of sparsifiers, or "all" alone: those that apply to the architecture.
        architecture: Architecture of the members.
        zoo: Name of their zoo in messages.

    Returns:
        The sparsifiers; and one sentence per sparsifier that "all" leaves out.

    Raises:
        ZoojaxError: If a sparsifier is unknown, named twice or not applicable, or
            none is left.
    """
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise ZoojaxError(
            f"sparsifiers is {printable(names, 60)}; give a tuple of names, or ('{ALL}',)"
        )
    if tuple(names) != (ALL,):
        chosen = named_sparsifiers(names)
        if not chosen or len({*chosen}) < len(chosen):
            raise ZoojaxError("give each sparsifier once, and at least one")
        for kind in chosen:
            check_applicable(kind(), architecture, zoo)
        return chosen, []
    chosen, notes = [], []
    for kind in sparsifiers().values():
        if kind is Dense:
            continue
        try:
            check_applicable(kind(), architecture, zoo)
        except ZoojaxError as error:
            notes.append(f"Without {printable(kind.label)}: {printable(error, 500)}.")
        else:
            chosen.append(kind)
    if not chosen:
        raise ZoojaxError(f"no sparsifier applies to {zoo}: {notes[0]}")
    return chosen, notes


def check_budget(budget: int | None) -> None:
    """Checks a number of epochs.

    Args:
        budget: The number; None for no budget.

    Raises:
        ZoojaxError: If it is not a whole number of 1 or more.
    """
    if budget is None:
        return
    check_whole("budget", budget)
    if budget < 1:
        raise ZoojaxError(f"budget is {budget} epochs; give at least 1")
