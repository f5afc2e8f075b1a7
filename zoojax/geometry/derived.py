"""Zoos whose members are computed from those of another zoo, epoch by epoch."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import polars as pl

from zoojax.api.common import explain_interrupt, versions, zoo_writer
from zoojax.errors import ZoojaxError
from zoojax.geometry.transforms import Transform
from zoojax.runtime import distributed
from zoojax.sparsifiers.dense import Dense
from zoojax.sparsifiers.rescaling import rescaled
from zoojax.storage.states import COLLECTIONS, StateParts, effective_params, split_state
from zoojax.storage.zoo import Zoo
from zoojax.storage.zoo_config import Parent, ZooConfig

# (state, metrics) of an epoch.
Derive = Callable[[int], tuple[dict[str, Any], pl.DataFrame]]
_MAX_ORIGIN = 1000


def derived_config(
    source: Zoo, name: str, origin: str, epochs: int, parent: Parent | None = None
) -> ZooConfig:
    """Returns the config of a zoo that is computed from another one.

    Args:
        source: The other zoo.
        name: Suffix of the new zoo's name.
        origin: How its members are computed.
        epochs: Its last epoch.
        parent: Parent of a twin; None for that of the source.
    """
    base = source.config
    text = f"{origin}, from {base.name} {source.fingerprint[:16]}"
    if base.origin:
        text = f"{text} ({base.origin})"
    return replace(
        base,
        name=f"{base.name}-{name}"[:200],
        epochs=epochs,
        origin=_shortened(text),
        versions=versions(),
        parent=base.parent if parent is None else parent,
    )


def _shortened(origin: str) -> str:
    """Replaces the end of a long origin with a hash, so that origins still differ."""
    if len(origin) <= _MAX_ORIGIN:
        return origin
    digest = hashlib.sha256(origin.encode()).hexdigest()
    return f"{origin[: _MAX_ORIGIN - 100]}... (sha256 {digest})"


def write_derived(
    out: Path | None,
    config: ZooConfig,
    members: pl.DataFrame,
    source: Zoo,
    epochs: Sequence[int],
    derive: Derive,
) -> Zoo:
    """Writes a zoo without optimizer states; it can be evaluated, but not trained further.

    Args:
        out: Folder of the zoo: new, or of an interrupted run; None for one in memory.
        config: Its config.
        members: Its members table.
        source: Zoo whose images it takes.
        epochs: Its epochs, ascending.
        derive: Function (epoch) -> (state, metrics).

    Returns:
        The zoo.

    Raises:
        ZoojaxError: If several processes run, the folder contains other files, or writing fails.
    """
    if distributed.is_distributed():
        raise ZoojaxError("several processes cannot compute one zoo from another; use one process")
    images: Any = source.store.images()
    own = source.store.has_images
    with explain_interrupt(out), zoo_writer(out, config, members, images, own) as writer:
        last = -1 if writer.last_epoch is None else writer.last_epoch
        for epoch in epochs:
            if epoch > last:
                state, metrics = derive(epoch)
                writer.append(epoch, state, None, metrics)
        return writer.zoo


def transformed_state(
    config: ZooConfig, state: dict[str, Any], transform: Transform, activations: Iterable[str]
) -> dict[str, Any]:
    """Permutes and rescales the units of stacked members, with masks and statistics.

    Args:
        config: Config of their zoo.
        state: Their state; see `Zoo.state`.
        transform: The transform, one entry per member.
        activations: Activations of the members.

    Returns:
        The state of members with the same functions.

    Raises:
        ZoojaxError: If the sparsifier would prune other weights after the transform.
    """
    arch = config.shape
    moved = {
        name: {each: transform.moved(arch, part) for each, part in tree.items()}
        if name == COLLECTIONS
        else transform.moved(arch, tree)
        for name, tree in state.items()
    }
    if transform.is_permutation:
        result, factors = moved, None
    else:
        allowed = {r.group: r for name in sorted(set(activations)) for r in arch.rescalings(name)}
        factors = transform.factors_of(arch, list(allowed.values()))
        parts = split_state(config, moved)
        trainable, fixed = rescaled(config.sparsifier, parts.trainable, parts.fixed, factors)
        result = StateParts(trainable, fixed, parts.collections).joined()
    if not config.is_dense:
        expected = transform.moved(arch, effective_params(config, state))
        if factors is not None:
            expected = rescaled(Dense(), {"params": expected}, {}, factors)[0]["params"]
        _check_same(config, expected, effective_params(config, result))
    return result


def _check_same(config: ZooConfig, expected: dict[str, Any], found: dict[str, Any]) -> None:
    """Checks that twins are evaluated with the same weights after a transform."""
    pairs = zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True)
    if not all(np.allclose(a, b, rtol=1e-4, atol=1e-7, equal_nan=True) for a, b in pairs):
        raise ZoojaxError(
            f"twins of {config.sparsifier.label} would be pruned differently after the units are "
            "rescaled or permuted; align them without the symmetry scale"
        )
