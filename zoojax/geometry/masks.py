"""Overlap of the masks of members: before alignment, after alignment, and by chance."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from zoojax.architectures.parameters import flat_layers, nested_layers
from zoojax.errors import ZoojaxError
from zoojax.geometry.matched_pairs import aligned_tree, member_pairs, positions
from zoojax.geometry.members import Members, members_at
from zoojax.runtime import signals
from zoojax.runtime.population import take
from zoojax.storage.zoo import Zoo

# {layer path: [members, ...] bool}, True for weights that are kept.
Masks = Mapping[str, np.ndarray]


def mask_iou(masks: Masks, others: Masks) -> np.ndarray:
    """Computes the overlap of pairs of masks: intersection over union of the kept weights.

    Args:
        masks: One mask per pair, {layer path: [pairs, ...] bool}.
        others: The other mask of each pair.

    Returns:
        [pairs] float64 in [0, 1]; NaN for pairs of masks that keep nothing.

    Example:
        >>> from zoojax import geometry
        >>> masks = {"layer": np.array([[True, True, False, False]])}
        >>> geometry.mask_iou(masks, {"layer": np.array([[True, False, True, False]])}).tolist()
        [0.3333333333333333]
    """
    both = sum(_count(masks[path] & others[path]) for path in masks)
    either = sum(_count(masks[path] | others[path]) for path in masks)
    with np.errstate(invalid="ignore"):
        return np.asarray(both / either)


def chance_iou(masks: Masks, others: Masks) -> np.ndarray:
    """Computes the expected overlap of independent masks with the same counts in each layer.

    The size of the intersection in a layer is hypergeometric. The expectation of the ratio is that
    of its second-order Taylor series at the expected intersection.

    Args:
        masks: One mask per pair, {layer path: [pairs, ...] bool}.
        others: The other mask of each pair.

    Returns:
        [pairs] float64; NaN for pairs of masks that keep nothing.

    Example:
        >>> from zoojax import geometry
        >>> masks = {"layer": np.arange(1000).reshape(1, 1000) < 500}
        >>> round(float(geometry.chance_iou(masks, masks)[0]), 3)
        0.333
    """
    mean: Any = 0.0
    variance: Any = 0.0
    kept: Any = 0.0
    for path, mask in masks.items():
        size = mask[0].size
        ours, theirs = _count(mask), _count(others[path])
        mean = mean + ours * theirs / size
        spread = ours * theirs * (size - ours) * (size - theirs)
        variance = variance + spread / (size**2 * max(size - 1, 1))
        kept = kept + ours + theirs
    with np.errstate(invalid="ignore", divide="ignore"):
        return mean / (kept - mean) + kept / (kept - mean) ** 3 * variance


def _count(mask: np.ndarray) -> np.ndarray:
    return mask.reshape(len(mask), -1).sum(axis=1, dtype=np.float64)


def mask_overlap(zoo: Zoo, twin: Zoo, *, epoch: int | None = None) -> pl.DataFrame:
    """Compares the masks of pairs of members, before and after their parents are aligned.

    Alignment searches for overlap and finds some in any network. The column `shuffled` is a
    control: the same alignment of sources whose weights are shuffled within each layer.

    Args:
        zoo: The dense zoo.
        twin: Its twin, with pruning ratios or without.
        epoch: Epoch of the twin; None for the newest.

    Returns:
        One row per ratio and pair of `member_pairs`: `ratio` (null without ratios), `source`,
        `target` and `sparsity` of the target's mask; `iou` of the masks, `aligned` of the masks
        after the source is aligned to the target, `chance` of independent masks with the same
        counts in each layer, and `shuffled`. Pairs of which one is not finite are left out.

    Raises:
        ZoojaxError: If it is not a twin of the zoo, the zoo lacks the epoch of the parents, or the
            architecture has no permutation groups.

    Example:
        >>> from zoojax import geometry
        >>> twin = zoojax.sparsify(zoo, zoojax.MagnitudePruning((0.5,)), epochs=0, quiet=True)
        >>> table = geometry.mask_overlap(zoo, twin)
        >>> table.select("ratio", "source", "target").rows()
        [(0.5, 1, 0), (0.5, 2, 1), (0.5, 0, 2)]
    """
    parents, pruned = parents_of(zoo, twin), members_at(twin, epoch)
    parts = []
    for ratio, rows in rows_by_ratio(pruned):
        owners = pruned.table["parent_id"][rows].to_list()
        row = {owner: rows[i] for i, owner in enumerate(owners)}
        pairs = member_pairs(parents.table.filter(pl.col("id").is_in(owners)))
        of_source, of_target = (
            take(pruned.masks, np.array([row[owner] for owner in pairs[name].to_list()]))
            for name in ("source", "target")
        )
        columns = _overlaps(parents, pairs, of_source, of_target)
        parts.append(pairs.select(pl.lit(ratio, pl.Float64).alias("ratio"), pl.all(), **columns))
        signals.check()
    return pl.concat(parts)


def _overlaps(
    parents: Members, pairs: pl.DataFrame, of_source: Masks, of_target: Masks
) -> dict[str, pl.Series]:
    """The columns of `mask_overlap` that are computed from the masks of pairs."""
    rows = positions(parents, pairs["source"])
    params = take(parents.params, rows)
    seeds = [[parents.ids[row], int(parents.seeds[row])] for row in rows]
    aligned = aligned_tree(parents, pairs, params, of_source)
    control = aligned_tree(parents, pairs, *shuffled(params, of_source, seeds))
    kept = np.sum([_count(mask) for mask in of_target.values()], axis=0)
    columns = {
        "sparsity": 1 - kept / sum(mask[0].size for mask in of_target.values()),
        "iou": mask_iou(of_source, of_target),
        "aligned": mask_iou(aligned, of_target),
        "chance": chance_iou(of_source, of_target),
        "shuffled": mask_iou(control, of_target),
    }
    return {name: pl.Series(values) for name, values in columns.items()}


def parents_of(zoo: Zoo, twin: Zoo) -> Members:
    """Reads the parents of a twin's members at the epoch from which they were created.

    Raises:
        ZoojaxError: If it is not a twin of the zoo, or the zoo lacks the epoch.
    """
    parent = twin.config.parent
    if parent is None or parent.fingerprint != zoo.fingerprint:
        raise ZoojaxError(f"{twin.path} is not a twin of {zoo.path}; give a twin of this zoo")
    return members_at(zoo, parent.epoch)


def rows_by_ratio(members: Members) -> list[tuple[float | None, np.ndarray]]:
    """Groups members by pruning ratio, ascending; one group (None, all) without ratios."""
    if "ratio" not in members.table.columns:
        return [(None, np.arange(len(members)))]
    ratios = members.table["ratio"].to_numpy()
    return [(float(r), np.flatnonzero(ratios == r)) for r in np.unique(ratios)]


def shuffled(
    params: dict[str, Any], masks: Masks, seeds: list[list[int]]
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Shuffles the values of each parameter, and the masks of weights in the same order.

    Args:
        params: Stacked parameters.
        masks: {layer path: [members, ...]}.
        seeds: Numbers that seed the order of each member.
    """
    layers, moved = flat_layers(params), {}
    changed: dict[str, dict[str, np.ndarray]] = {}
    for number, (path, leaves) in enumerate(sorted(layers.items())):
        changed[path] = {}
        for index, (name, leaf) in enumerate(sorted(leaves.items())):
            leaf = np.asarray(leaf)
            flat = leaf.reshape(len(leaf), -1)
            orders = np.stack(
                [
                    np.random.default_rng([*seed, number, index]).permutation(flat.shape[1])
                    for seed in seeds
                ]
            )
            changed[path][name] = np.take_along_axis(flat, orders, 1).reshape(leaf.shape)
            if path in masks and leaf.shape == masks[path].shape:
                mask = masks[path].reshape(len(leaf), -1)
                moved[path] = np.take_along_axis(mask, orders, 1).reshape(leaf.shape)
    return nested_layers(changed), moved
