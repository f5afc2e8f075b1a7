"""Loss and accuracy on straight lines between members, and the height of barriers."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from zoojax.datasets.specs import Images, ImageSet
from zoojax.errors import ZoojaxError
from zoojax.geometry.pairs import Ends, find_ends, stacked_ends
from zoojax.geometry.points import Report, curve_coefficients, evaluate_sums
from zoojax.geometry.transforms import Symmetry, checked_symmetries
from zoojax.hyperparameters.declaration import check_whole
from zoojax.progress import count_progress
from zoojax.runtime.population import take
from zoojax.storage.opening import as_zoo
from zoojax.storage.zoo import Zoo
from zoojax.storage.zoo_images import load_images
from zoojax.text import printable

SPLITS = ("train", "val", "test")
# Bytes of the members that are on the devices at once.
_BYTES = 256 * 2**20


def lines(
    zoo: Zoo | str | Path,
    other: Zoo | str | Path | None = None,
    *,
    pairs: Sequence[tuple[int, int]] | None = None,
    epoch: int | None = None,
    other_epoch: int | None = None,
    align: bool = False,
    symmetries: Sequence[Symmetry] = ("permutation", "sign"),
    points: int = 11,
    split: Literal["train", "val", "test"] = "test",
    data_dir: str | Path | None = None,
    quiet: bool = False,
) -> pl.DataFrame:
    """Measures loss and accuracy on straight lines between pairs of members.

    Batch statistics are recomputed at every point, on training images.

    Args:
        zoo: The zoo, or its folder.
        other: Zoo of the second members, such as a twin; None for the same zoo.
        pairs: Ids of the two members of each pair. None takes all pairs of one zoo; each member
            with itself at two epochs of one zoo; or all pairs of parent and twin, or of twins of
            the same member.
        epoch: Epoch of the first members; None for the newest.
        other_epoch: Epoch of the second members; None for that of the first ones, or for the
            newest of another zoo.
        align: Whether to align the second member of each pair to the first one by weights.
        symmetries: Changes to search if `align`; see `align`.
        points: Number of evenly spaced points on each line, with its ends.
        split: Images to evaluate on: "train", "val" or "test".
        data_dir: Folder of image sets.
        quiet: Whether to show no progress.

    Returns:
        One row per pair and point: ids of the `first` and `second` member, `position` in [0, 1],
        mean cross entropy `loss`, accuracy `acc`.

    Raises:
        ZoojaxError: If an argument is invalid, or the images are missing.

    Example:
        >>> table = zoojax.geometry.lines(zoo, points=3, quiet=True)
        >>> table.columns, len(table)
        (['first', 'second', 'position', 'loss', 'acc'], 9)
        >>> zoojax.geometry.lines(zoo, epoch=0, other_epoch=2, points=3)["second"].to_list()[::3]
        [0, 1, 2]
    """
    zoo = as_zoo(zoo)
    second = None if other is None else as_zoo(other, "other")
    ends = find_ends(zoo, second, pairs, epoch, other_epoch)
    if check_whole("points", points) < 2:
        raise ZoojaxError(f"{points} points; give at least 2")
    images = load_images(zoo, data_dir)
    aligned = checked_symmetries(symmetries) if align else None
    positions = np.linspace(0, 1, int(points))
    with count_progress("points of lines", quiet) as report:
        measured = _measured(ends, aligned, positions, images, chosen_split(images, split), report)
    return points_table(ends.pairs, positions, measured)


def barriers(points: pl.DataFrame) -> pl.DataFrame:
    """Computes the height of the barrier of each pair.

    The height at a point is the loss minus that of a linear interpolation between the ends, or the
    interpolated accuracy minus the accuracy (Frankle et al., "Linear Mode Connectivity and the
    Lottery Ticket Hypothesis", 2020). The barrier is the largest height; it is 0 at the ends.

    Args:
        points: Result of `lines`, or the points of `curves`.

    Returns:
        One row per pair: `first`, `second`, `loss_barrier`, `acc_barrier` (a fraction).

    Example:
        >>> table = zoojax.geometry.barriers(zoojax.geometry.lines(zoo, points=3, quiet=True))
        >>> table.columns, bool((table["loss_barrier"] >= 0).all())
        (['first', 'second', 'loss_barrier', 'acc_barrier'], True)
    """
    t = pl.col("position")

    def chord(name: str) -> pl.Expr:
        ends = (pl.col(name).sort_by("position").get(i) for i in (0, -1))
        first, last = (each.over("first", "second") for each in ends)
        return (1 - t) * first + t * last

    heights = points.with_columns(
        loss_barrier=pl.col("loss") - chord("loss"), acc_barrier=chord("acc") - pl.col("acc")
    )
    # Heights at the ends are rounding errors.
    inside = pl.when((t > 0) & (t < 1))
    return heights.group_by("first", "second", maintain_order=True).agg(
        inside.then(pl.col(name)).otherwise(0.0).max().alias(name)
        for name in ("loss_barrier", "acc_barrier")
    )


def chosen_split(images: ImageSet, split: str) -> Images:
    """Returns the images of a split.

    Raises:
        ZoojaxError: If there is no such split.
    """
    if split not in SPLITS:
        listed = ", ".join(SPLITS)
        raise ZoojaxError(f"no split named '{printable(split, 60)}'; there are: {listed}")
    return getattr(images, split)


def points_table(
    pairs: pl.DataFrame, positions: np.ndarray, measured: dict[str, np.ndarray]
) -> pl.DataFrame:
    """Creates the table of points from values [pairs, points]."""
    count = len(positions)
    return pl.DataFrame(
        {
            "first": np.repeat(pairs["first"].to_numpy(), count),
            "second": np.repeat(pairs["second"].to_numpy(), count),
            "position": np.tile(positions, len(pairs)),
            **{name: measured[name].ravel() for name in ("loss", "acc")},
        }
    )


def _measured(
    ends: Ends,
    aligned: Sequence[Symmetry] | None,
    positions: np.ndarray,
    images: ImageSet,
    split: Images,
    report: Report | None,
) -> dict[str, np.ndarray]:
    """Evaluates the points of all lines, [pairs, points]."""
    shape = len(ends), len(positions)
    results = {name: np.full(shape, np.nan, np.float32) for name in ("loss", "acc")}
    size = max(1, _BYTES // (8 * ends.zoo.config.shape.parameter_count))
    done, total = 0, math.prod(shape)
    for activation in np.unique(ends.activations):
        positions_of = np.flatnonzero(ends.activations == activation)
        for start in range(0, len(positions_of), size):
            rows = positions_of[start : start + size]
            bank, index = _bank(ends, rows, aligned)
            sums, weights, cells = _sums(index, positions)

            def show(count: int, _: int, before: int = done) -> None:
                if report is not None:
                    report(min(before + count, total), total)

            measured = evaluate_sums(
                *(ends.zoo.config.shape, str(activation), bank, sums, weights),
                *(split, images.train.images, show),
            )
            for name, values in measured.items():
                results[name][rows] = values[cells]
            done += cells.size
    return results


def _bank(
    ends: Ends, rows: np.ndarray, aligned: Sequence[Symmetry] | None
) -> tuple[dict[str, Any], np.ndarray]:
    """Returns stacked variables, and the positions of the ends of pairs in them, [pairs, 2].

    A member at the end of several lines is stacked once, unless it is aligned to each.
    """
    first, second = ends.variables(rows, aligned)
    pairs = ends.pairs[rows]
    keys = [(0, member) for member in pairs["first"]]
    is_same = ends.zoo is ends.other and ends.epoch == ends.other_epoch
    if aligned is not None:
        keys += [(2, position) for position in range(len(rows))]
    else:
        keys += [(0 if is_same else 1, member) for member in pairs["second"]]
    earliest = {key: position for position, key in reversed(list(enumerate(keys)))}
    order = {key: position for position, key in enumerate(earliest)}
    index = np.array([order[key] for key in keys]).reshape(2, -1).T
    return take(stacked_ends(first, second), np.array(list(earliest.values()))), index


def _sums(index: np.ndarray, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lists the points to evaluate: each end once, and the inside of each line.

    Returns:
        (positions of the two summands [points, 2], their coefficients [points, 2], the point of
        each cell [pairs, positions]).
    """
    ends = np.unique(index)
    inside = curve_coefficients(positions[1:-1], 2)
    count = len(index) * len(inside)
    rows = np.concatenate([np.stack([ends, ends], 1), np.repeat(index, len(inside), axis=0)])
    alone = np.tile(np.array([[1, 0]], np.float32), (len(ends), 1))
    weights = np.concatenate([alone, np.tile(inside, (len(index), 1))])
    cells = len(ends) + np.arange(count).reshape(len(index), len(inside))
    edges = [np.searchsorted(ends, index[:, i])[:, None] for i in (0, 1)]
    return rows, weights, np.concatenate([edges[0], cells, edges[1]], axis=1)
