"""Matching of the hidden units of members to those of references, by their weights."""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
from threadpoolctl import threadpool_limits

from zoojax.architectures.base import Architecture
from zoojax.architectures.layers import ACTIVATIONS
from zoojax.architectures.units import parameters_by_path, require_units
from zoojax.geometry.arguments import check_count
from zoojax.geometry.descent import Matching, Search, rows_of
from zoojax.geometry.transforms import (
    Arrays,
    Symmetry,
    Transform,
    checked_symmetries,
    concatenated,
    replaced,
)
from zoojax.hyperparameters.declaration import check_name
from zoojax.runtime import host
from zoojax.training.inputs import checked_arrays, checked_params

# Bytes of the parameters of the members that are matched at once.
_CHUNK_BYTES = 256 * 2**20


def match_weights(
    arch: Architecture,
    params: dict[str, Any],
    reference: dict[str, Any],
    *,
    activation: str = "tanh",
    symmetries: Sequence[Symmetry] = ("permutation", "sign"),
    restarts: int = 0,
    seed: int = 0,
) -> Matching:
    """Matches the hidden units of members to those of references by their weights.

    Args:
        arch: Architecture of the members.
        params: Stacked parameters, {layer: {"kernel": [members, ...], ...}}.
        reference: Parameters of one reference, without member axis, or of one reference per
            member, stacked.
        activation: Activation of the members.
        symmetries: Changes to search: "permutation", "sign", "scale". Signs and scales are used
            where the activation allows them.
        restarts: Number of further starting points with random orders.
        seed: Seed of the order of the groups and of the restarts.

    Returns:
        The transform of each member, and its distances to the reference. Members are not
        changed if their parameters or those of their reference are not finite.

    Raises:
        ZoojaxError: If the architecture has no permutation groups, or an argument is invalid.

    Example:
        >>> shape, params = zoo.config.shape, zoo.params()
        >>> matched = zoojax.geometry.match_weights(shape, params, zoo.member(0))
        >>> bool((matched.after <= matched.before).all()), float(matched.after[0])
        (True, 0.0)
    """
    require_units(arch)
    chosen = checked_symmetries(symmetries)
    check_name("activation", activation, ACTIVATIONS)
    check_count("restarts", restarts, 0)
    check_count("seed", seed, 0)
    theirs, ours = checked_pair(arch, params, reference)
    allowed = [each for each in arch.rescalings(activation) if each.kind in chosen]
    search = Search(arch, allowed, "permutation" in chosen, restarts, seed)
    finite = finite_members(theirs) & finite_members(ours)
    rows = np.flatnonzero(finite)
    distances = np.full((2, len(finite)), np.nan)
    transform = Transform.identity(arch.permuted_units(), len(finite))
    if len(rows):
        found = _searched(search, {p: x[rows] for p, x in theirs.items()}, rows_of(ours, rows))
        transform = replaced(transform, rows, found.transform)
        distances[:, rows] = found.before, found.after
    return Matching(transform, *distances)


def checked_pair(
    arch: Architecture, params: dict[str, Any], reference: dict[str, Any]
) -> tuple[Arrays, Arrays]:
    """Validates stacked parameters and references.

    Returns:
        Both by path, [members, ...]; a single reference has a member axis of length 1.

    Raises:
        ZoojaxError: If arrays are missing, unknown, or have the wrong shape or type.
    """
    leaves = [np.asarray(x[0]) if (x := jax.tree.leaves(t)) else None for t in (params, reference)]
    first, second = leaves
    count = len(first) if first is not None and first.ndim else 0
    is_single = first is None or second is None or second.ndim < first.ndim
    theirs = checked_params(arch, params, count)
    ours = checked_arrays(arch, reference, () if is_single else (count,))
    one = {p: np.asarray(x) for p, x in parameters_by_path(ours).items()}
    if is_single:
        one = {p: x[None] for p, x in one.items()}
    return {p: np.asarray(x) for p, x in parameters_by_path(theirs).items()}, one


def finite_members(arrays: Arrays) -> np.ndarray:
    """Whether all parameters of each member are finite, [members] bool."""
    return np.all([np.isfinite(x).reshape(len(x), -1).all(axis=1) for x in arrays.values()], axis=0)


def _searched(search: Search, theirs: Arrays, ours: Arrays) -> Matching:
    """Matches members in chunks, on all cores."""
    count = len(next(iter(theirs.values())))
    size = max(1, _CHUNK_BYTES // sum(x[0].nbytes for x in theirs.values()))
    size = min(size, math.ceil(count / host.cpu_count()))

    def match(start: int) -> Matching:
        rows = np.arange(start, min(start + size, count))
        return search.run(rows_of(ours, rows), {path: x[rows] for path, x in theirs.items()})

    starts = range(0, count, size)
    # Products of members are small: threads of BLAS would wait for each other.
    limit = threadpool_limits(1 if len(starts) > 1 else None)
    with limit, ThreadPoolExecutor(host.cpu_count()) as pool:
        parts = list(pool.map(match, starts))
    transforms, before, after = zip(*parts, strict=True)
    return Matching(concatenated(transforms), np.concatenate(before), np.concatenate(after))
