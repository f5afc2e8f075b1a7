"""Similarity of members: distances and cosines of their weights, and dimension of a zoo."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import polars as pl

from zoojax.errors import ZoojaxError
from zoojax.geometry.members import Show, members_at
from zoojax.runtime import signals
from zoojax.storage.zoo import Zoo


class WeightSimilarity(NamedTuple):
    """Pairwise similarity of members in weight space.

    Attributes:
        distance: Euclidean distance of all parameters, [members, members] float64.
        cosine: Cosine of all parameters, [members, members] float64; NaN for members whose
            parameters are all zero.

    Example:
        >>> from zoojax import geometry
        >>> geometry.weight_similarity(zoo.params()).cosine.shape
        (3, 3)
    """

    distance: np.ndarray
    cosine: np.ndarray


def weight_similarity(params: dict[str, Any]) -> WeightSimilarity:
    """Computes distances and cosines of all pairs of members.

    Args:
        params: Stacked parameters, {layer: {"kernel": [members, ...], ...}}.

    Returns:
        The matrices.

    Example:
        >>> from zoojax import geometry
        >>> distance, cosine = geometry.weight_similarity(zoo.params())
        >>> distance.shape, bool(np.allclose(np.diag(cosine), 1))
        ((3, 3), True)
    """
    gram = _gram(params, centered=False)
    norms = np.diag(gram)
    squared = norms[:, None] + norms[None, :] - 2 * gram
    np.fill_diagonal(squared, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        cosine = gram / np.sqrt(norms[:, None] * norms[None, :])
    return WeightSimilarity(np.sqrt(np.maximum(squared, 0)), np.clip(cosine, -1, 1))


def effective_dimension(params: dict[str, Any]) -> float:
    """Computes the effective dimension of a population: the participation ratio.

    It is (sum of l)^2 / (sum of l^2) over the eigenvalues l of the covariance of the parameters
    over members: 1 if all members lie on a line, and the number of dimensions if the variance is
    the same in each. N members have at most N - 1 dimensions.

    Args:
        params: Stacked parameters of two or more members.

    Returns:
        The participation ratio; NaN if all members are equal.

    Raises:
        ZoojaxError: If there are fewer than two members.

    Example:
        >>> from zoojax import geometry
        >>> params = {"layer": {"kernel": np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])}}
        >>> round(geometry.effective_dimension(params), 6)
        1.6
    """
    gram = _gram(params, centered=True)
    if len(gram) < 2:
        raise ZoojaxError("the effective dimension needs two or more members")
    return _participation(gram)


def similarity_by_epoch(
    zoo: Zoo, epochs: Sequence[int] | None = None, *, show: Show = None
) -> pl.DataFrame:
    """Computes how members move through weight space: effective dimension, distances, cosines.

    Intervals are 95 %, by the jackknife over members.

    Args:
        zoo: The zoo.
        epochs: Saved epochs, ascending; None for all.
        show: Called with the numbers of completed and of all epochs.

    Returns:
        One row per epoch: `epoch`, `members` (those that are finite), `dimension` with `low` and
        `high`, and means over pairs of different members with their intervals: `distance` and
        `cosine`; and `moved`, the mean distance of members from their state at the first of the
        epochs. Null if there are fewer than three members.

    Raises:
        ZoojaxError: If an epoch is not saved or has no finite member.

    Example:
        >>> from zoojax import geometry
        >>> table = geometry.similarity_by_epoch(zoo, epochs=[0, 2])
        >>> table.select("epoch", "members").rows(), table["moved"][0]
        ([(0, 3), (2, 3)], 0.0)
    """
    epochs = zoo.epochs if epochs is None else list(epochs)
    if not epochs:
        raise ZoojaxError("epochs is empty; give at least one saved epoch")
    first, rows = None, []
    for number, epoch in enumerate(epochs, 1):
        members = members_at(zoo, epoch)
        flat = dict(zip(members.ids, _flat(members.params), strict=True))
        first = flat if first is None else first
        moved = [np.linalg.norm(flat[i] - first[i]) for i in flat if i in first]
        row = {"epoch": epoch, "members": len(members)}
        if len(members) >= 3:
            row |= _jackknife(_gram(members.params, centered=False))
        rows.append({**row, "moved": float(np.mean(moved)) if moved else None})
        signals.check()
        if show is not None:
            show(number, len(epochs))
    numbers = [f"{name}{end}" for name in _STATISTICS for end in ("", "_low", "_high")]
    schema = {"epoch": pl.Int64, "members": pl.Int64, **dict.fromkeys(numbers, pl.Float64)}
    return pl.DataFrame(rows, schema=schema | {"moved": pl.Float64})


_STATISTICS = ("dimension", "distance", "cosine")


def _statistics(gram: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Effective dimension, mean distance and mean cosine, from inner products of members.

    Returns:
        (values [3], values without each member [3, members]).
    """
    norms, count = np.diag(gram), len(gram)
    squared = norms[:, None] + norms[None, :] - 2 * gram
    np.fill_diagonal(squared, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        cosine = gram / np.sqrt(norms[:, None] * norms[None, :])
    np.fill_diagonal(cosine, 0)
    values, without = [_participation(_center(gram))], [_participation_without_each(gram)]
    for matrix in (np.sqrt(np.maximum(squared, 0)), cosine):
        total, own = matrix.sum(), matrix.sum(axis=0)
        values.append(total / (count * (count - 1)))
        without.append((total - 2 * own) / ((count - 1) * (count - 2)))
    return np.array(values), np.stack(without)


def _jackknife(gram: np.ndarray) -> dict[str, float]:
    """The statistics with their intervals."""
    values, without = _statistics(gram)
    count = len(gram)
    deviations = without - without.mean(axis=1, keepdims=True)
    errors = np.sqrt((count - 1) / count * np.square(deviations).sum(axis=1))
    result: dict[str, float] = {}
    for name, value, error in zip(_STATISTICS, values, 1.96 * errors, strict=True):
        result |= {name: value, f"{name}_low": value - error, f"{name}_high": value + error}
    return result


def _participation_without_each(gram: np.ndarray) -> np.ndarray:
    """Participation ratios of the populations without each member, [members]."""
    # Centered first: the origin does not matter, and large means would cancel.
    gram = _center(gram)
    count, own = len(gram) - 1, np.diag(gram)
    rows, squares = gram.sum(axis=0), np.square(gram).sum(axis=0)
    total = rows.sum() - 2 * rows + own
    row_squares = np.square(rows).sum() - 2 * gram @ rows + squares - np.square(rows - own)
    trace = own.sum() - own - total / count
    norm = squares.sum() - 2 * squares + np.square(own)
    norm = norm - 2 / count * row_squares + np.square(total / count)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(norm > 0, np.square(trace) / norm, np.nan)


def _participation(gram: np.ndarray) -> float:
    total = float(np.square(gram).sum())
    return float(np.trace(gram)) ** 2 / total if total > 0 else float("nan")


def _center(gram: np.ndarray) -> np.ndarray:
    """Inner products of members relative to their mean."""
    means = gram.mean(axis=0)
    return gram - means[:, None] - means[None, :] + means.mean()


def _flat(params: dict[str, Any]) -> np.ndarray:
    leaves = [np.asarray(x) for x in jax.tree.leaves(params)]
    return np.concatenate([x.reshape(len(x), -1) for x in leaves], axis=1)


def _gram(params: dict[str, Any], centered: bool) -> np.ndarray:
    """Inner products of members [members, members] float64, leaf by leaf to bound memory."""
    total: Any = 0.0
    for leaf in jax.tree.leaves(params):
        flat = np.asarray(leaf).reshape(len(leaf), -1).astype(np.float64)
        flat = flat - flat.mean(axis=0) if centered else flat
        total = total + flat @ flat.T
    return total
