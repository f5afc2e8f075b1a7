"""Mask transfer: prunes members with the masks of other members, and fine-tunes them.

Members are paired (`member_pairs`), and the target of a pair is pruned with the mask of the source:

- "aligned": permuted by the alignment of the source to the target, both before pruning;
- "unaligned": unchanged;
- "random": shuffled within each layer, so that each layer keeps as many weights.

Each of them is a twin, trained like the twin whose masks are used. Epoch 0 is the one-shot result.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import polars as pl

from zoojax.api.twins import sparsify
from zoojax.architectures.parameters import kernels, nested_layers
from zoojax.errors import ZoojaxError
from zoojax.geometry.masks import parents_of, rows_by_ratio, shuffled
from zoojax.geometry.matched_pairs import aligned_tree, member_pairs, positions
from zoojax.geometry.members import Members, members_at
from zoojax.runtime.population import take
from zoojax.sparsifiers.allocation import num_pruned
from zoojax.sparsifiers.magnitude import MagnitudePruning
from zoojax.storage.zoo import Zoo
from zoojax.text import printable

Way = Literal["aligned", "unaligned", "random"]
WAYS: tuple[Way, ...] = get_args(Way)
# Scopes of magnitude pruning that prune a fixed number of weights in each layer.
_LAYER_SCOPES = ("layer", "er", "erk")


def transfer_masks(
    zoo: Zoo,
    twin: Zoo,
    out: str | Path | None = None,
    *,
    ways: Sequence[Way] = WAYS,
    epochs: int | None = None,
    members: Sequence[int] | None = None,
    chunk: int | None = None,
    data_dir: str | Path | None = None,
    quiet: bool = False,
) -> dict[Way, Zoo]:
    """Prunes each member with the mask of another one, and fine-tunes it.

    Args:
        zoo: The dense zoo.
        twin: Its twin whose masks are used: pruned once, at several ratios or one. The masks of a
            member at different ratios must be nested, like those of any score.
        out: Folder of the results, one folder per way; an interrupted call resumes. None keeps
            them in memory.
        ways: How masks are transferred; see the module.
        epochs: Epochs of fine-tuning; None takes the twin's.
        members: Ids of the members to pair; None for all.
        chunk: Members that a device trains at once; None chooses for this machine.
        data_dir: Folder of image sets; None takes $ZOOJAX_DATA, or else a cache folder.
        quiet: Whether to show no progress.

    Returns:
        The twins by way: one member per target and ratio; ratio 0, which prunes nothing, is left
        out.

    Raises:
        ZoojaxError: If it is not a twin of the zoo, its masks are not nested or do not have the
            counts of its ratios, a way is unknown, or an argument of `sparsify` is invalid.

    Example:
        >>> from zoojax import geometry
        >>> twin = zoojax.sparsify(zoo, zoojax.MagnitudePruning((0.5,)), epochs=0, quiet=True)
        >>> found = geometry.transfer_masks(zoo, twin, ways=("aligned",), quiet=True)
        >>> found["aligned"].metrics["sparsity"].to_list()
        [0.5, 0.5, 0.5]
    """
    chosen = _checked_ways(ways)
    parents, pruned = parents_of(zoo, twin), members_at(twin)
    ratios, levels = mask_levels(twin, pruned)
    pairs = _pairs(zoo, parents, list(levels), members)
    sources = {
        path: np.stack([levels[i][path] for i in pairs["source"].to_list()])
        for path in kernels(parents.params)
    }
    rates = twin.members_table["learning_rate"].unique().to_list()
    result: dict[Way, Zoo] = {}
    for way in chosen:
        scores = _CARRIED[way](parents, pairs, sources)
        result[way] = sparsify(
            zoo,
            MagnitudePruning(ratios, _scope(twin)),
            None if out is None else Path(out) / way,
            learning_rate=rates[0] if len(rates) == 1 else None,
            epochs=twin.config.epochs if epochs is None else epochs,
            epoch=parents.epoch,
            members=pairs["target"].to_list(),
            scores=lambda params, found=scores: found,
            origin=f"masks of {printable(twin.config.name, 60)} {twin.fingerprint[:12]}, {way}",
            chunk=chunk,
            data_dir=data_dir,
            quiet=quiet,
        )
    return result


def mask_levels(
    twin: Zoo, pruned: Members
) -> tuple[tuple[float, ...], dict[int, dict[str, np.ndarray]]]:
    """Counts at how many ratios each weight is kept.

    Args:
        twin: The twin.
        pruned: Its members.

    Returns:
        (ratios, {parent id: {layer path: counts in the weights' shape, float32}}) of the parents
        whose members are finite at all ratios.

    Raises:
        ZoojaxError: If the twin has no ratios, or the masks of a member are not nested or do not
            have the counts of the ratios.
    """
    groups = rows_by_ratio(pruned)
    if groups[0][0] is None:
        raise ZoojaxError(
            f"members of {twin.path} have no pruning ratios; give a twin that was pruned by ratio"
        )
    # Masks at ratio 0 keep everything.
    groups = [(ratio, rows) for ratio, rows in groups if ratio]
    if not groups:
        raise ZoojaxError(f"members of {twin.path} are not pruned; give a twin with larger ratios")
    ratios = tuple(ratio for ratio, _ in groups if ratio is not None)
    scope, masks = _scope(twin), pruned.masks
    shapes = {path: mask.shape[1:] for path, mask in masks.items()}
    owners = pruned.table["parent_id"].to_list()
    levels: dict[int, dict[str, np.ndarray]] = {}
    seen = dict.fromkeys(owners, 0)
    for number, (ratio, rows) in enumerate(groups):
        expected = num_pruned(float(ratio or 0), shapes, scope)
        for row in rows:
            owner, mask = owners[row], {path: x[row] for path, x in masks.items()}
            _check_counts(twin, owner, mask, expected)
            before = levels.get(owner)
            if before is None:
                before = {path: np.zeros(x.shape, np.float32) for path, x in mask.items()}
            elif seen[owner] == number:
                _check_nested(twin, owner, mask, {p: x == number for p, x in before.items()})
            seen[owner] += 1
            levels[owner] = {path: before[path] + mask[path] for path in mask}
    complete = [owner for owner in levels if seen[owner] == len(ratios)]
    return ratios, {owner: levels[owner] for owner in complete}


def transfer_table(zoo: Zoo, twin: Zoo, transferred: dict[Way, Zoo]) -> pl.DataFrame:
    """Compares members pruned with masks of others with those pruned with their own.

    Args:
        zoo: The dense zoo.
        twin: The twin whose masks were used; its members are "own".
        transferred: The result of `transfer_masks`.

    Returns:
        One row per target, ratio (without 0), epoch (0: one-shot, and the last one that all twins
        have) and mask ("own" or a way): `target`, `ratio`, `epoch`, `mask`, `test_acc` and
        `dense_acc`. Members that are not finite are left out.

    Raises:
        ZoojaxError: If there are no transferred twins.

    Example:
        >>> from zoojax import geometry
        >>> twin = zoojax.sparsify(zoo, zoojax.MagnitudePruning((0.5,)), epochs=0, quiet=True)
        >>> found = geometry.transfer_masks(zoo, twin, ways=("aligned",), quiet=True)
        >>> table = geometry.transfer_table(zoo, twin, found)
        >>> sorted(table["mask"].unique()), len(table)
        (['aligned', 'own'], 6)
    """
    if not transferred:
        raise ZoojaxError("there are no transferred masks to compare; give at least one way")
    parent = twin.config.parent
    assert parent is not None
    dense = zoo.metrics.filter(epoch=parent.epoch).select(
        pl.col("member").alias("target"), pl.col("test_acc").alias("dense_acc")
    )
    zoos: dict[str, Zoo] = {"own": twin, **transferred}
    shared = set.intersection(*(set(each.epochs) for each in zoos.values()))
    parts = []
    for mask, each in zoos.items():
        owners = each.members_table.select(
            pl.col("id").alias("member"), pl.col("parent_id").alias("target"), "ratio"
        ).filter(pl.col("ratio") > 0)
        measured = each.metrics.filter(pl.col("epoch").is_in({0, max(shared)} & shared), "finite")
        rows = measured.join(owners, on="member").join(dense, on="target")
        parts.append(
            rows.select(
                "target", "ratio", "epoch", pl.lit(mask).alias("mask"), "test_acc", "dense_acc"
            )
        )
    targets = set.intersection(*(set(part["target"].to_list()) for part in parts))
    joined = pl.concat(parts).filter(pl.col("target").is_in(targets))
    return joined.sort("ratio", "epoch", "target", maintain_order=True)


def _aligned(parents: Members, pairs: pl.DataFrame, levels: Any) -> Any:
    params = take(parents.params, positions(parents, pairs["source"]))
    return aligned_tree(parents, pairs, params, levels)


def _unaligned(parents: Members, pairs: pl.DataFrame, levels: Any) -> Any:
    return levels


def _random(parents: Members, pairs: pl.DataFrame, levels: Any) -> Any:
    rows = positions(parents, pairs["target"])
    seeds = [[parents.ids[row], int(parents.seeds[row])] for row in rows]
    as_params = nested_layers({path: {"kernel": x} for path, x in levels.items()})
    return shuffled(as_params, levels, seeds)[1]


_CARRIED: dict[Way, Callable[[Members, pl.DataFrame, Any], Any]] = {
    "aligned": _aligned,
    "unaligned": _unaligned,
    "random": _random,
}


def _checked_ways(ways: Any) -> list[Way]:
    given: list[Any] = [ways] if isinstance(ways, str) else list(ways)
    for way in given:
        if way not in WAYS:
            listed = ", ".join(WAYS)
            raise ZoojaxError(f"no way named '{printable(way, 60)}'; there are: {listed}")
    if not given:
        raise ZoojaxError(f"ways is empty; give some of: {', '.join(WAYS)}")
    return given


def _pairs(
    zoo: Zoo, parents: Members, known: list[int], members: Sequence[int] | None
) -> pl.DataFrame:
    """Pairs of the members that have masks, targets in the order of the zoo."""
    chosen = set(known)
    if members is not None:
        zoo.row_indices(members)
        chosen &= set(members)
    table = parents.table.filter(pl.col("id").is_in(chosen))
    return member_pairs(table)


def _scope(twin: Zoo) -> Any:
    scope = getattr(twin.config.sparsifier, "scope", "global")
    return scope if scope in _LAYER_SCOPES else "global"


def _check_counts(twin: Zoo, owner: int, mask: dict, expected: dict) -> None:
    pruned = {path: int((~x).sum()) for path, x in mask.items()}
    found = {"all": sum(pruned.values())} if "all" in expected else pruned
    if any(found[name] != int(count) for name, count in expected.items()):
        raise ZoojaxError(
            f"the mask of member {owner} in {twin.path} does not have the number of weights of its "
            "ratio; give a twin that was pruned to exact ratios, such as by magnitude"
        )


def _check_nested(twin: Zoo, owner: int, mask: dict, kept_before: dict) -> None:
    if any((mask[path] & ~kept_before[path]).any() for path in mask):
        raise ZoojaxError(
            f"the masks of member {owner} in {twin.path} are not nested: a weight is pruned at a "
            "ratio but not at a larger one; give a twin that was pruned once by a score"
        )
