"""Samples new members from the latent space of a hyper-representation.

The embeddings of the training members at one epoch define kernel density estimates. Samples of
them are decoded to weights:

- "independent": samples each latent dimension from its own density estimate.
- "joint": samples around the embedding of one member, which preserves correlations between
  dimensions.
- "best": like "joint", but only around the members with the highest validation accuracy.

A sampled member depends on the seed and its own id, not on the number of sampled members.
"""

from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import polars as pl

from zoojax.api.dense import train_like
from zoojax.errors import ZoojaxError
from zoojax.hyper_representation.dataset import read_weights
from zoojax.hyper_representation.representation import Representation
from zoojax.hyperparameters.grid import COLUMNS
from zoojax.storage.parent import is_version, paired
from zoojax.storage.zoo import Zoo, open_zoo
from zoojax.training import trainer

SAMPLING_METHODS = ("independent", "joint", "best")
_SEED_LIMIT = 2**32


class KdeSamples(NamedTuple):
    """Embeddings sampled from kernel density estimates.

    Attributes:
        z: Sampled embeddings, [n, latent].
        center: Index of the point around which each sample was drawn, [n]; a random point for
            independent samples.
    """

    z: np.ndarray
    center: np.ndarray


def sample_kde(
    points: np.ndarray, members: np.ndarray, seed: int, *, independent: bool
) -> KdeSamples:
    """Samples from Gaussian kernel density estimates over embeddings.

    The bandwidth of each dimension follows Silverman's rule for one-dimensional data.

    Args:
        points: Embeddings, [m, latent], m >= 2.
        members: Ids of the new members, [n].
        seed: Random seed.
        independent: Whether to draw a separate center for each dimension.
    """
    count, latent = points.shape
    width = points.std(axis=0, ddof=1) * (4 / (3 * count)) ** 0.2

    z, centers = [], []
    for member in members:
        rng = np.random.default_rng([seed, member])
        center = int(rng.integers(count))
        rows = rng.integers(count, size=latent) if independent else center
        z.append(points[rows, np.arange(latent)] + width * rng.standard_normal(latent))
        centers.append(center)
    return KdeSamples(np.array(z, np.float32), np.array(centers))


def train_sampled(
    out: Path,
    representation: Representation,
    training_zoo: Zoo,
    count: int,
    *,
    method: str = "independent",
    epochs: int = 5,
    epoch: int | None = None,
    top_fraction: float = 0.3,
    seed: int = 1,
    chunk: int | None = None,
    data_dir: Path | None = None,
    report: trainer.ProgressCallback | None = None,
) -> Zoo:
    """Samples members, decodes them to a dense zoo, and fine-tunes it.

    Epoch 0 contains the decoded members. Images, architecture and batches are those of the
    dense zoo from which the training zoo is derived. Each member has the hyperparameters of the
    member around whose embedding it was sampled.

    Example:
        >>> representation = open_representation("reps/usps")
        >>> train_sampled(Path("zoos/sampled"), representation, representation.training_zoo(), 100)

    Args:
        out: Folder of the new zoo.
        representation: A hyper-representation with the task "reconstruct".
        training_zoo: The training zoo whose members are embedded.
        count: Number of members to sample.
        method: One of SAMPLING_METHODS.
        epochs: Epochs of fine-tuning.
        epoch: Epoch of the training zoo whose embeddings are used; None for the last one on
            which the hyper-representation was trained.
        top_fraction: Fraction of the training members used by the method "best".
        seed: Random seed of the samples.
        chunk: Members that a device trains at once; None chooses for the machine.
        data_dir: Folder of the image sets; None for the default.
        report: Progress callback, called after each block.

    Returns:
        The trained zoo.

    Raises:
        ZoojaxError: If an argument is invalid, an embedding is not finite, or writing failed.
    """
    trained = representation.entry(training_zoo)
    epoch = trained.epochs[-1] if epoch is None else epoch
    _check(representation, training_zoo, epoch, count, method, top_fraction, seed)
    centers = trained.members.train
    if method == "best":
        centers = _best_members(training_zoo, centers, epoch, top_fraction)
    points = representation.embed(read_weights(training_zoo, centers, epoch))
    if not np.isfinite(points).all():
        raise ZoojaxError(f"{representation.path} produces embeddings that are not finite")
    samples = sample_kde(points, np.arange(count), seed, independent=method == "independent")
    dense = dense_zoo(training_zoo)
    description = f"{method}, {top_fraction:g}" if method == "best" else method
    return train_like(
        out,
        dense,
        f"{dense.config.name}-sampled",
        _members_table(dense, training_zoo, [centers[i] for i in samples.center]),
        epochs=epochs,
        initial=lambda: jax.tree.map(np.asarray, representation.decode(samples.z)[0]),
        origin=(
            f"sampled ({description}; seed {seed}) around epoch {epoch} of "
            f"{training_zoo.config.name} by {representation.fingerprint[:16]}"
        ),
        chunk=chunk,
        data_dir=data_dir,
        report=report,
    )


def train_from_scratch(
    out: Path,
    sampled: Zoo,
    training_zoo: Zoo,
    *,
    chunk: int | None = None,
    data_dir: Path | None = None,
    report: trainer.ProgressCallback | None = None,
) -> Zoo:
    """Trains a baseline of a sampled zoo: the same seeds, data order and epochs from scratch.

    Args:
        out: Folder of the new zoo.
        sampled: The zoo returned by `train_sampled`.
        training_zoo: The training zoo of the hyper-representation.
        chunk: Members that a device trains at once; None chooses for the machine.
        data_dir: Folder of the image sets; None for the default.
        report: Progress callback, called after each block.

    Returns:
        The trained zoo.

    Raises:
        ZoojaxError: If an argument is invalid or writing failed.
    """
    dense = dense_zoo(training_zoo)
    return train_like(
        out,
        dense,
        f"{dense.config.name}-scratch",
        sampled.members_table,
        epochs=sampled.config.epochs,
        chunk=chunk,
        data_dir=data_dir,
        report=report,
    )


def dense_zoo(zoo: Zoo) -> Zoo:
    """Returns a zoo itself, or its dense parent if it is a twin.

    Raises:
        ZoojaxError: If the parent is missing or is a different zoo.
    """
    parent = zoo.config.parent
    if parent is None:
        return zoo
    path = (zoo.path / parent.path).resolve()
    try:
        dense = open_zoo(path)
    except ZoojaxError as error:
        raise ZoojaxError(
            f"{error}; {zoo.path} is a twin of it, and sampling needs its hyperparameters"
        ) from error
    if not is_version(dense, parent.fingerprint):
        raise ZoojaxError(f"{path} is not the zoo that {zoo.path} is a twin of")
    return dense


def accuracies(zoos: dict[str, Zoo]) -> pl.DataFrame:
    """Computes the test accuracy of several populations by epoch.

    Args:
        zoos: Zoos by the name of the population.

    Returns:
        `epoch`, `population`, `test_acc_mean`, `test_acc_std`, `members` (the number of finite
        members, over which the statistics are computed).
    """
    parts = [
        zoo.metrics.filter(pl.col("finite"))
        .group_by("epoch", maintain_order=True)
        .agg(
            pl.lit(name).alias("population"),
            pl.col("test_acc").mean().alias("test_acc_mean"),
            pl.col("test_acc").std(ddof=0).alias("test_acc_std"),
            pl.len().cast(pl.Int64).alias("members"),
        )
        for name, zoo in zoos.items()
    ]
    return pl.concat(parts).sort("epoch", maintain_order=True)


def _check(
    representation: Representation,
    training_zoo: Zoo,
    epoch: int,
    count: int,
    method: str,
    top_fraction: float,
    seed: int,
) -> None:
    if representation.config.settings.task != "reconstruct":
        raise ZoojaxError(
            f"{representation.path} was trained with --task sparsify, which cannot decode from z "
            "alone; train one with --task reconstruct"
        )
    if epoch not in training_zoo.epochs:
        raise ZoojaxError(
            f"{training_zoo.path} has no epoch {epoch}; its last is {training_zoo.epochs[-1]}"
        )
    if method not in SAMPLING_METHODS:
        raise ZoojaxError(
            f"unknown sampling method '{method}'; choose from: {', '.join(SAMPLING_METHODS)}"
        )
    if not 0 < top_fraction <= 1:
        raise ZoojaxError(f"top fraction {top_fraction:g} (--best-share) is not in (0, 1]")
    first = _first_seed(training_zoo)
    if count < 1:
        raise ZoojaxError(f"{count} members requested; give at least 1")
    if first + count > _SEED_LIMIT:
        raise ZoojaxError(f"seeds {first} to {first + count - 1} are not all below 2**32")
    if not 0 <= seed < _SEED_LIMIT:
        raise ZoojaxError(f"seed {seed} is not from 0 to 2**32 - 1")


def _first_seed(training_zoo: Zoo) -> int:
    """Returns the first unused seed, so that members from scratch differ from the zoo's."""
    return max(training_zoo.members_table["seed"].drop_nulls().to_list(), default=0) + 1


def _best_members(zoo: Zoo, members: list[int], epoch: int, fraction: float) -> list[int]:
    """Returns the fraction of members with the highest validation accuracy at an epoch."""
    metrics = zoo.metrics.filter(pl.col("member").is_in(members), epoch=epoch)
    order = metrics.sort("val_acc", "member", descending=[True, False])
    return sorted(order["member"].head(max(2, round(fraction * len(members)))).to_list())


def _members_table(dense: Zoo, training_zoo: Zoo, centers: list[int]) -> pl.DataFrame:
    """Builds the members table of a sampled zoo.

    Args:
        dense: The dense zoo.
        training_zoo: The dense zoo or a twin of it.
        centers: Ids in the training zoo of the members around which samples were drawn.
    """
    table = paired(dense, training_zoo).members_table[training_zoo.row_indices(centers)]
    ids = table["parent_id" if dense is not training_zoo else "id"].to_list()
    first = _first_seed(training_zoo)
    return dense.members_table[dense.row_indices(ids)].select(
        pl.int_range(pl.len(), dtype=pl.Int64).alias("id"),
        pl.int_range(first, first + pl.len(), dtype=pl.Int64).alias("seed"),
        *(each.name for each in COLUMNS if each.name in dense.members_table.columns),
    )
