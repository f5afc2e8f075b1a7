"""Overlap of the masks of two methods, compared with that of independent masks."""

import itertools
import math
from typing import NamedTuple

import numpy as np
import polars as pl

from zoojax.analysis.added_tables import analysis_table
from zoojax.analysis.measured import (
    TOLERANCE,
    MethodPoints,
    accuracies_at,
    is_near,
    measured_points,
    setting_means,
)
from zoojax.analysis.method_comparison import MIN_MEMBERS
from zoojax.analysis.results import Analysis
from zoojax.analysis.signed_rank import mean_interval
from zoojax.analysis.summaries import kernel_shapes
from zoojax.architectures.parameters import kernels

# Members whose masks are compared at once.
_BATCH = 64
# Memory limit of the masks of all methods: for large networks, fewer members are compared.
_MAX_BYTES = 1_000_000_000


class Chance(NamedTuple):
    """The overlap (IoU) of independent masks with given numbers of weights.

    Attributes:
        mean: Expected value.
        std: Standard deviation.
    """

    mean: np.ndarray
    std: np.ndarray


def chance_overlap(kept: np.ndarray, other: np.ndarray, sizes: np.ndarray) -> Chance:
    """Computes the overlap by chance of two masks with the same numbers of weights per layer.

    The number of weights of a layer that both keep is hypergeometric: of `n` weights, `a` and `b`
    are kept, with mean ab/n and variance ab(n-a)(n-b) / (n^2 (n-1)). The intersection over union
    is I / (a + b - I), expanded to second order around the mean of the sum over layers.

    Args:
        kept: Weights that the first mask keeps, [..., layers].
        other: Weights that the second one keeps, [..., layers].
        sizes: Weights of each layer, [layers].

    Returns:
        Expected value and standard deviation, each [...]; 1 and 0 for two empty masks.

    Example:
        >>> chance = chance_overlap(np.array([50]), np.array([50]), np.array([100]))
        >>> round(float(chance.mean), 2), round(float(chance.std), 2)
        (0.33, 0.05)
    """
    a, b, n = (np.asarray(x, float) for x in (kept, other, sizes))
    mean = (a * b / n).sum(-1)
    variance = (a * b * (n - a) * (n - b) / (n**2 * np.maximum(n - 1, 1))).sum(-1)
    total = (a + b).sum(-1)
    union = np.where(total > 0, total - mean, 1)
    ratio = np.where(total > 0, mean / union + total / union**3 * variance, 1.0)
    return Chance(ratio, total / union**2 * np.sqrt(variance))


def overlap(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Computes the intersection over union of masks.

    Args:
        one: Masks, [..., weights] bool, True where a weight is kept.
        other: Masks of the same shape.

    Returns:
        [...]: 1 if both keep the same weights or none.

    Example:
        >>> overlap(np.array([True, True, False]), np.array([True, False, False])).tolist()
        0.5
    """
    both, either = (one & other).sum(-1), (one | other).sum(-1)
    return np.where(either > 0, both / np.maximum(either, 1), 1.0)


@analysis_table(
    "mask_overlap",
    title="Overlap of masks",
    about="Intersection over union of the weights that two methods keep in members of the same "
    "parent, at the same sparsity: mean over members with 95 % interval (Student's t). Chance: "
    "that of independent masks with as many weights in each layer, with its 95 % interval. "
    "Members are taken at the setting with the nearest mean sparsity, if they keep at most "
    f"{TOLERANCE:.0%} more or fewer weights.",
    fractions=("sparsity", "overlap", "chance", "excess"),
)
def mask_overlap(analysis: Analysis) -> pl.DataFrame:
    """Overlap of the masks of all pairs of methods at common sparsities.

    Args:
        analysis: The analysis.

    Returns:
        One row per sparsity and pair of methods with three members in common: `sparsity`,
        `method`, `other_method`, `budget`, `other_budget`, `members`, `overlap` (mean IoU),
        `overlap_low`, `overlap_high`, `chance` (mean expected IoU), `chance_low`, `chance_high`,
        and `excess` = overlap - chance with `excess_low` and `excess_high`.
    """
    if not analysis.twins or analysis.zoo.config.shape.task.has_own_images:
        return pl.DataFrame()
    points, targets = measured_points(analysis), accuracies_at(analysis).targets.tolist()
    weights = sum(math.prod(shape) for shape in kernel_shapes(analysis.zoo).values())
    most = max(_MAX_BYTES // (weights * max(len(points) * len(targets), 1)), MIN_MEMBERS)
    masks = [_masks_near(each, targets, most) for each in points]
    rows = []
    for target in targets:
        known = [each[target] for each in masks if target in each]
        for one, other in itertools.combinations(known, 2):
            row = _compared(one, other)
            if row is not None:
                rows.append({"sparsity": target, **row})
    return pl.DataFrame(rows)


class Masks(NamedTuple):
    """Masks of the members of one method.

    Attributes:
        key: Key of the method.
        budget: Total epochs of training.
        parents: Ids of the parents, [members].
        kept: Which weights are kept, [members, weights] bool, layer after layer.
        counts: Number of kept weights, [members, layers].
        sizes: Number of weights, [layers].
    """

    key: str
    budget: int
    parents: list[int]
    kept: np.ndarray
    counts: np.ndarray
    sizes: np.ndarray


def _masks_near(points: MethodPoints, targets: list[float], most: int) -> dict[float, Masks]:
    """Masks of the first members at the settings that are near sparsities, by sparsity."""
    zoo, result = points.method.zoo, {}
    settings = setting_means(points).filter(pl.col("epoch").is_in(zoo.epochs))
    wanted: dict[int, list[tuple[float, str]]] = {}
    for target in targets if len(settings) else []:
        distance = (settings["mean"] - target).abs()
        best = int(distance.arg_min() or 0)
        if is_near(settings["mean"][best], target):
            at = target, settings["setting"][best]
            wanted.setdefault(settings["epoch"][best], []).append(at)
    for epoch, here in wanted.items():
        weights = kernels(zoo.sparse_params(epoch))
        layers = [(np.asarray(w) != 0).reshape(len(zoo), -1) for w in weights.values()]
        sizes = np.array([layer.shape[1] for layer in layers])
        for target, setting in here:
            chosen = points.rows.filter(setting=setting).sort("parent_id").head(most)
            rows = zoo.row_indices(chosen["member"])
            counts = np.stack([layer[rows].sum(1) for layer in layers], 1)
            kept = np.concatenate([layer[rows] for layer in layers], 1)
            parents = chosen["parent_id"].to_list()
            result[target] = Masks(
                points.method.key, chosen["budget"][0], parents, kept, counts, sizes
            )
    return result


def _compared(one: Masks, other: Masks) -> dict[str, str | int | float] | None:
    """Overlap of the masks of the parents that both methods have."""
    shared = sorted(set(one.parents) & set(other.parents))
    if len(shared) < MIN_MEMBERS:
        return None
    a, b = ([m.parents.index(parent) for parent in shared] for m in (one, other))
    found = np.concatenate(
        [
            overlap(one.kept[a[i : i + _BATCH]], other.kept[b[i : i + _BATCH]])
            for i in range(0, len(shared), _BATCH)
        ]
    )
    chance = chance_overlap(one.counts[a], other.counts[b], one.sizes)
    width = 1.96 * float(np.sqrt((chance.std**2).sum())) / len(shared)
    expected, excess = float(chance.mean.mean()), found - chance.mean
    return {
        "method": one.key,
        "other_method": other.key,
        "budget": one.budget,
        "other_budget": other.budget,
        "members": len(shared),
        "overlap": float(found.mean()),
        **dict(zip(("overlap_low", "overlap_high"), mean_interval(found), strict=True)),
        "chance": expected,
        "chance_low": expected - width,
        "chance_high": expected + width,
        "excess": float(excess.mean()),
        **dict(zip(("excess_low", "excess_high"), mean_interval(excess), strict=True)),
    }


@analysis_table(
    "method_layers",
    title="Allocation to layers",
    about="Share of the weights of each layer that a method keeps at a sparsity: mean and standard "
    "deviation over members, at the setting with the nearest mean sparsity, if they keep at most "
    f"{TOLERANCE:.0%} more or fewer weights.",
    fractions=("sparsity", "kept"),
)
def method_layers(analysis: Analysis) -> pl.DataFrame:
    """Shares of the weights that methods keep in each layer, at common sparsities.

    Args:
        analysis: The analysis.

    Returns:
        One row per sparsity, method and layer: `sparsity`, `method`, `budget`, `layer`, `members`,
        `kept` and `kept_std`.
    """
    if not analysis.twins or analysis.zoo.config.shape.task.has_own_images:
        return pl.DataFrame()
    rows = []
    for target in accuracies_at(analysis).targets.tolist():
        for points in measured_points(analysis):
            settings = setting_means(points)
            distance = (settings["mean"] - target).abs()
            best = int(distance.arg_min() or 0)
            if not is_near(settings["mean"][best], target):
                continue
            group = points.rows.filter(setting=settings["setting"][best])
            for name in (n for n in group.columns if n.startswith("sparsity_")):
                kept = 1 - group[name].drop_nulls().to_numpy()
                if len(kept):
                    rows.append(
                        {
                            "sparsity": target,
                            "method": points.method.key,
                            "budget": settings["budget"][best],
                            "layer": name.removeprefix("sparsity_"),
                            "members": len(kept),
                            "kept": float(kept.mean()),
                            "kept_std": float(kept.std()),
                        }
                    )
    return pl.DataFrame(rows)
