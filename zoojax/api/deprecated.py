"""Functions of version 0.1 under their old names and with their old arguments.

They will be removed in the next release.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from zoojax.api.dense import train_zoo
from zoojax.api.twins import sparsify
from zoojax.datasets.specs import DataSpec
from zoojax.hyperparameters.grid import Grid
from zoojax.sparsifiers.magnitude import MagnitudePruning
from zoojax.sparsifiers.variational_dropout import VariationalDropout
from zoojax.storage.zoo import Zoo


def make_dense(
    out: str | Path, name: str, grid: Grid, architecture: str, spec: DataSpec, **options: Any
) -> Zoo:
    """Trains a dense zoo; use `zoojax.train_zoo`."""
    _warn("make_dense", "train_zoo")
    return train_zoo(out=out, name=name, grid=grid, architecture=architecture, data=spec, **options)


def make_pruned(
    out: str | Path,
    parent: Zoo,
    ratios: Sequence[float],
    *,
    scope: Literal["global", "layer"] = "global",
    **options: Any,
) -> Zoo:
    """Prunes by magnitude; use `zoojax.sparsify` with `zoojax.MagnitudePruning`."""
    _warn("make_pruned", "sparsify")
    return sparsify(parent, MagnitudePruning(tuple(ratios), scope), out, **options)


def make_dropped_out(
    out: str | Path,
    parent: Zoo,
    *,
    variant: Literal["released", "corrected"] = "released",
    **options: Any,
) -> Zoo:
    """Trains with variational dropout; use `zoojax.sparsify` with `zoojax.VariationalDropout`."""
    _warn("make_dropped_out", "sparsify")
    return sparsify(parent, VariationalDropout(variant), out, **options)


def _warn(old: str, new: str) -> None:
    message = (
        f"zoojax.{old} is deprecated and will be removed in the next release; use zoojax.{new}"
    )
    warnings.warn(f"{message}; use zoojax.{new}", DeprecationWarning, stacklevel=3)
