"""Merged members: soups of a zoo's members, and averages over the epochs of each member.

Members should be in one basin: align them first. The result is a dense zoo whose epoch 0 holds the
merged members; batch statistics are recomputed on the training images.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import polars as pl

from zoojax.api.common import resolve_chunk, zoo_writer
from zoojax.datasets.specs import ImageSet
from zoojax.errors import ZoojaxError
from zoojax.filesystem.paths import optional_path
from zoojax.geometry.derived import derived_config
from zoojax.geometry.points import evaluate_sums
from zoojax.geometry.statistics import estimated, has_statistics, statistics_batches
from zoojax.hyperparameters.declaration import check_whole
from zoojax.runtime.population import stack, take
from zoojax.sparsifiers.base import Sparsifier
from zoojax.sparsifiers.dense import Dense
from zoojax.storage.opening import as_zoo
from zoojax.storage.states import COLLECTIONS, StateParts, effective_params
from zoojax.storage.zoo import Zoo
from zoojax.storage.zoo_images import load_images
from zoojax.text import printable
from zoojax.training import trainer

Variables = dict[str, Any]


@dataclass(frozen=True)
class Soup:
    """A merged member.

    Attributes:
        zoo: Dense zoo with one member, at epoch 0.
        members: Ids of the members that were averaged, in the order in which they were added.

    Example:
        >>> soup = zoojax.geometry.soup(zoo)
        >>> len(soup.zoo), soup.members
        (1, (0, 1, 2))
    """

    zoo: Zoo
    members: tuple[int, ...]


def soup(
    zoo: Zoo | str | Path,
    out: str | Path | None = None,
    *,
    kind: Literal["uniform", "greedy"] = "uniform",
    members: Sequence[int] | None = None,
    epoch: int | None = None,
    data_dir: str | Path | None = None,
) -> Soup:
    """Averages the weights of members.

    Wortsman et al., "Model Soups", 2022. A greedy soup starts with the member that is most accurate
    on the validation images, and adds the others in descending order of their accuracy if the
    accuracy of the average does not decrease. Its validation accuracy is never below that of its
    best member. Pruned weights count as zeros.

    Args:
        zoo: The zoo, usually aligned, or its folder.
        out: Folder of the new zoo; None for one in memory.
        kind: "uniform" for the average of all members, or "greedy".
        members: Ids of the members; None for all with finite weights.
        epoch: Epoch to average; None for the newest.
        data_dir: Folder of image sets.

    Returns:
        The soup, evaluated like any zoo.

    Raises:
        ZoojaxError: If an argument is invalid, the members have different activations, or the
            images are missing.

    Example:
        >>> greedy = zoojax.geometry.soup(zoo, kind="greedy")
        >>> best = zoo.metrics.filter(epoch=2)["val_acc"].max()
        >>> greedy.zoo.metrics["val_acc"][0] >= best
        True
    """
    zoo, folder = as_zoo(zoo), optional_path(out, "out")
    if kind not in _SOUPS:
        listed = ", ".join(_SOUPS)
        raise ZoojaxError(f"no soup named '{printable(kind, 60)}'; there are: {listed}")
    epoch = zoo.newest_epoch if epoch is None else check_whole("epoch", epoch)
    rows = zoo.row_indices(zoo.members_table["id"] if members is None else members)
    if not len(rows):
        raise ZoojaxError("there are no members to average; give the id of at least one")
    variables = take(_variables(zoo, epoch), rows)
    finite = _finite(variables["params"])
    if members is not None and not finite.all():
        bad = zoo.members_table["id"][int(rows[np.argmin(finite)])]
        raise ZoojaxError(f"member {bad} of {zoo.path} has weights that are not finite")
    kept = np.flatnonzero(finite)
    if not len(kept):
        raise ZoojaxError(f"no member of {zoo.path} has finite weights")
    table = zoo.members_table[rows[kept]]
    if table["activation"].n_unique() > 1:
        raise ZoojaxError(
            f"members of {zoo.path} have different activations; give members with the same one"
        )
    images = load_images(zoo, data_dir)
    kitchen = _Kitchen(zoo, str(table["activation"][0]), take(variables, kept), images)
    chosen = _SOUPS[kind](kitchen)
    merged = kitchen.merged(chosen)
    ids_of = tuple(int(table["id"][i]) for i in chosen)
    listed = ", ".join(map(str, ids_of))
    origin = f"{kind} soup at epoch {epoch} of members {listed}"
    row = _dense_rows(table[chosen[:1]], zoo.config.sparsifier).with_columns(id=pl.lit(0, pl.Int64))
    return Soup(_saved(folder, zoo, "soup", origin, row, merged, images), ids_of)


class _Kitchen:
    """Averages of stacked members, and their accuracy on the validation images."""

    def __init__(self, zoo: Zoo, activation: str, variables: Variables, images: ImageSet):
        self.zoo, self.activation, self.variables = zoo, activation, variables
        self.images, self.count = images, len(jax.tree.leaves(variables)[0])

    def merged(self, chosen: Sequence[int]) -> Variables:
        """Returns the variables of an average, with a member axis."""
        if len(chosen) == 1:
            return take(self.variables, np.array(chosen))
        mean = _mean(self.variables, np.asarray(chosen))
        return _with_statistics(self.zoo, [self.activation], mean, self.images)

    def accuracies(self, variables: Variables) -> np.ndarray:
        """Returns the validation accuracy of stacked members, with their own statistics."""
        count = len(jax.tree.leaves(variables)[0])
        measured = evaluate_sums(
            *(self.zoo.config.shape, self.activation, variables),
            *(np.arange(count)[:, None], np.ones((count, 1))),
            self.images.val,
            None,
        )
        return measured["acc"]


def _all(kitchen: _Kitchen) -> list[int]:
    return list(range(kitchen.count))


def _greedy(kitchen: _Kitchen) -> list[int]:
    """Adds members in descending order of accuracy if the average does not become worse."""
    accuracies = kitchen.accuracies(kitchen.variables)
    order = np.argsort(-accuracies, kind="stable")
    chosen, best = [int(order[0])], accuracies[order[0]]
    for candidate in order[1:]:
        accuracy = kitchen.accuracies(kitchen.merged([*chosen, int(candidate)]))[0]
        if accuracy >= best:
            chosen, best = [*chosen, int(candidate)], accuracy
    return chosen


_SOUPS: dict[str, Callable[[_Kitchen], list[int]]] = {"uniform": _all, "greedy": _greedy}


def average_epochs(
    zoo: Zoo | str | Path,
    out: str | Path | None = None,
    *,
    kind: Literal["swa", "ema"] = "swa",
    start: int | None = None,
    decay: float = 0.9,
    data_dir: str | Path | None = None,
) -> Zoo:
    """Averages the weights of each member over its saved epochs.

    Args:
        zoo: The zoo, or its folder.
        out: Folder of the new zoo; None for one in memory.
        kind: "swa" for the mean (Izmailov et al., "Averaging Weights Leads to Wider Optima",
            2018), or "ema" for the exponential moving average decay * average + (1 - decay) *
            weights, epoch by epoch.
        start: First epoch of the average; None for the first saved epoch in the second half of
            the training.
        decay: Decay of "ema", in [0, 1).
        data_dir: Folder of image sets.

    Returns:
        Dense zoo with the averaged members, evaluated at epoch 0.

    Raises:
        ZoojaxError: If an argument is invalid, or the images are missing.

    Example:
        >>> averaged = zoojax.geometry.average_epochs(zoo, start=1)
        >>> len(averaged), averaged.epochs
        (3, [0])
        >>> mean = (zoo.member(0, 1)["fc2"]["bias"] + zoo.member(0, 2)["fc2"]["bias"]) / 2
        >>> bool(np.allclose(averaged.member(0)["fc2"]["bias"], mean))
        True
    """
    zoo, folder = as_zoo(zoo), optional_path(out, "out")
    if kind not in _AVERAGES:
        listed = ", ".join(_AVERAGES)
        raise ZoojaxError(f"no average named '{printable(kind, 60)}'; there are: {listed}")
    is_number = isinstance(decay, int | float | np.number) and not isinstance(decay, bool)
    if not is_number or not 0 <= decay < 1:
        raise ZoojaxError(f"decay is {printable(decay, 60)}; give a number in [0, 1)")
    first = zoo.newest_epoch / 2 if start is None else check_whole("start", start)
    epochs = [epoch for epoch in zoo.epochs if epoch >= first]
    if not epochs:
        raise ZoojaxError(
            f"{zoo.path} has no epoch from {first} on; its last is {zoo.newest_epoch}"
        )
    images = load_images(zoo, data_dir)
    saved = (_variables(zoo, epoch) for epoch in epochs)
    averaged = _AVERAGES[kind](saved, float(decay))
    if zoo.config.shape.task.has_own_images:
        merged = averaged
    else:
        activations = zoo.members_table["activation"].to_list()
        merged = _with_statistics(zoo, activations, averaged, images)
    settings = f", decay {decay:g}" if kind == "ema" else ""
    listed = ", ".join(map(str, epochs))
    origin = f"{kind} of epochs {listed}{settings}"
    rows = _dense_rows(zoo.members_table, zoo.config.sparsifier)
    return _saved(folder, zoo, kind, origin, rows, merged, images)


def _running_mean(saved: Iterator[Variables], decay: float) -> Variables:
    mean = next(saved)
    for count, variables in enumerate(saved, start=2):
        share = np.float32(1 / count)
        mean = jax.tree.map(lambda m, x, s=share: _mixed(m, x, s), mean, variables)
    return mean


def _moving_average(saved: Iterator[Variables], decay: float) -> Variables:
    mean, share = next(saved), np.float32(1 - decay)
    for variables in saved:
        mean = jax.tree.map(lambda m, x: _mixed(m, x, share), mean, variables)
    return mean


_AVERAGES: dict[str, Callable[[Iterator[Variables], float], Variables]] = {
    "swa": _running_mean,
    "ema": _moving_average,
}


def _mixed(mean: np.ndarray, value: np.ndarray, share: np.float32) -> np.ndarray:
    """Moves an average toward a value; for integers, returns the value."""
    return mean + share * (value - mean) if mean.dtype.kind == "f" else value


def _mean(variables: Variables, rows: np.ndarray) -> Variables:
    """Averages stacked members, with a member axis; for integers, takes those of the first."""

    def mean(x: np.ndarray) -> np.ndarray:
        chosen = x[rows]
        return chosen.mean(0, keepdims=True, dtype=x.dtype) if x.dtype.kind == "f" else chosen[:1]

    return jax.tree.map(mean, variables)


def _variables(zoo: Zoo, epoch: int) -> Variables:
    state = zoo.state(epoch)
    return {"params": effective_params(zoo.config, state), **state.get(COLLECTIONS, {})}


def _finite(params: Any) -> np.ndarray:
    leaves = [np.asarray(x).reshape(len(x), -1) for x in jax.tree.leaves(params)]
    return np.all([np.isfinite(x).all(axis=1) for x in leaves], axis=0)


def _with_statistics(
    zoo: Zoo, activations: Sequence[str], variables: Variables, images: ImageSet
) -> Variables:
    """Recomputes the batch statistics of stacked members, one member at a time."""
    arch = zoo.config.shape
    if not has_statistics(arch):
        return variables
    batches, members = statistics_batches(images.train.images), []
    programs = {
        name: jax.jit(lambda v, b, a=name: estimated(arch, a, v, b)) for name in set(activations)
    }
    for row, name in enumerate(activations):
        members.append(jax.device_get(programs[name](take(variables, row), batches)))
    return stack(members)


def _dense_rows(table: pl.DataFrame, sparsifier: Sparsifier) -> pl.DataFrame:
    """Returns rows of a members table as those of a dense zoo."""
    return table.drop("parent_id", *sparsifier.per_member.values(), strict=False)


def _saved(
    folder: Path | None,
    zoo: Zoo,
    name: str,
    origin: str,
    members: pl.DataFrame,
    variables: Variables,
    images: ImageSet,
) -> Zoo:
    """Writes merged members as epoch 0 of a dense zoo, evaluated."""
    config = replace(
        derived_config(zoo, name, origin, epochs=0),
        sparsifier=Dense(),
        parent=None,
        chunk=resolve_chunk(folder, None, len(members), zoo.config.shape),
    )
    collections = {each: tree for each, tree in variables.items() if each != "params"}

    def initial(rows: slice) -> StateParts:
        return StateParts(*take(({"params": variables["params"]}, {}, collections), rows))

    with zoo_writer(folder, config, members, images, zoo.store.has_images) as writer:
        return trainer.train(writer, initial, images)
