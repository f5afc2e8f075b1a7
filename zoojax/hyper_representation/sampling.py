"""New members, sampled from what a hyper-representation learned of trained ones.

Embeddings of the training members at one epoch are points; kernel density estimates over
them are drawn from, and the draws decoded to weights:

- "independent": every dimension by its own estimate, whatever the others are.
- "joint": around one member's embedding, which keeps what its dimensions have in common.
- "best": as joint, around the best members alone, by validation accuracy.

A new member depends on the seed and on its own id: not on how many are drawn.
"""

from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import polars as pl

from zoojax.api.dense import train_like
from zoojax.errors import ZoojaxError
from zoojax.hyper_representation.representation import Representation
from zoojax.runtime import population
from zoojax.storage.zoo import Zoo, open_zoo
from zoojax.training import trainer

SAMPLING_METHODS = ("independent", "joint", "best")
_SEED_LIMIT = 2**32
# The columns of a dense zoo's members table that decide how a member is trained.
_HYPERPARAMETERS = (
    *("activation", "dropout", "init", "optimizer", "learning_rate", "weight_decay"),
)


class KdeSamples(NamedTuple):
    """New embeddings.

    Attributes:
        z: [n, latent].
        near: [n], the point around which each lies; of independent draws any point.
    """

    z: np.ndarray
    near: np.ndarray


def sample_kde(
    points: np.ndarray, members: np.ndarray, seed: int, *, independent: bool
) -> KdeSamples:
    """Draws from Gaussian kernel density estimates over embeddings.

    Args:
        points: [m, latent], at least two.
        members: [n], ids of the new members.
        seed: of the draws.
        independent: by dimension; else by point.

    Returns:
        The draws. Kernels are as wide as Silverman's rule says of one dimension, in each.
    """
    count, latent = points.shape
    width = points.std(axis=0, ddof=1) * (4 / (3 * count)) ** 0.2

    z, nearest = [], []
    for member in members:
        rng = np.random.default_rng([seed, member])
        near = int(rng.integers(count))
        centres = rng.integers(count, size=latent) if independent else near
        z.append(points[centres, np.arange(latent)] + width * rng.standard_normal(latent))
        nearest.append(near)
    return KdeSamples(np.array(z, np.float32), np.array(nearest))


def sample_zoo(
    out: Path,
    representation: Representation,
    source: Zoo,
    count: int,
    *,
    how: str = "independent",
    epochs: int = 5,
    epoch: int | None = None,
    best_share: float = 0.3,
    seed: int = 1,
    chunk: int | None = None,
    data_dir: Path | None = None,
    report: trainer.ProgressCallback | None = None,
) -> Zoo:
    """Samples members, decodes them to a dense zoo, and trains that.

    Epoch 0 are the members as decoded. Images, architecture and batches are those of the
    dense zoo behind the representation; a member's hyper-parameters are those of the member
    near which it was drawn.

    Args:
        out: the new zoo's folder.
        representation: one that reconstructs weights (task "reconstruct").
        source: the zoo that it was learned from.
        count: members to sample.
        how: one of HOW.
        epochs: of training after sampling.
        epoch: of the source, whose embeddings are sampled from; the newest if None.
        best_share: of the training members, around which "best" samples.
        seed: of the draws.
        chunk: as in `zoojax.train_zoo`.
        data_dir: as in `zoojax.train_zoo`.
        report: as in `zoojax.train_zoo`.

    Raises:
        ZoojaxError: bad input, or the disk refused.
    """
    epoch = representation.config.epochs[-1] if epoch is None else epoch
    _check(representation, source, epoch, count, how, best_share, seed)
    centres = representation.config.members.train
    if how == "best":
        centres = _best(source, centres, epoch, best_share)
    points = representation.embed(
        population.take(source.params(epoch), source.row_indices(centres))
    )
    if not np.isfinite(points).all():
        raise ZoojaxError(f"{representation.path} gives embeddings that are not finite")
    drawn = sample_kde(points, np.arange(count), seed, independent=how == "independent")
    dense = dense_zoo(source)
    told = f"{how}, {best_share:g}" if how == "best" else how
    return train_like(
        out,
        dense,
        f"{dense.config.name}-sampled",
        _members(dense, source, [centres[i] for i in drawn.near]),
        epochs=epochs,
        initial=lambda: jax.tree.map(np.asarray, representation.decode(drawn.z)[0]),
        origin=(
            f"sampled ({told}; seed {seed}) around epoch {epoch} of {source.config.name} "
            f"by {representation.fingerprint[:16]}"
        ),
        chunk=chunk,
        data_dir=data_dir,
        report=report,
    )


def train_from_scratch(
    out: Path,
    sampled: Zoo,
    source: Zoo,
    *,
    chunk: int | None = None,
    data_dir: Path | None = None,
    report: trainer.ProgressCallback | None = None,
) -> Zoo:
    """Trains members from scratch beside sampled ones: same seeds, order, epochs.

    Args:
        out: the new zoo's folder.
        sampled: of `make_sampled`.
        source: as there.
        chunk: as in `zoojax.train_zoo`.
        data_dir: as in `zoojax.train_zoo`.
        report: as in `zoojax.train_zoo`.

    Raises:
        ZoojaxError: bad input, or the disk refused.
    """
    dense = dense_zoo(source)
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
    """A zoo itself, or the dense one that it is a twin of.

    Raises:
        ZoojaxError: that is no longer where it was, or is another.
    """
    parent = zoo.config.parent
    if parent is None:
        return zoo
    path = (zoo.path / parent.path).resolve()
    try:
        found = open_zoo(path)
    except ZoojaxError as error:
        raise ZoojaxError(
            f"{error}; {zoo.path} is a twin of it, and its hyper-parameters are needed"
        ) from error
    if found.fingerprint != parent.fingerprint:
        raise ZoojaxError(f"{path} is not the zoo that {zoo.path} is a twin of")
    return found


def accuracies(zoos: dict[str, Zoo]) -> pl.DataFrame:
    """Test accuracy of several populations by epoch.

    Returns:
        `epoch`, `population`, `test_acc_mean`, `test_acc_std`, `members` (those that are
        finite).
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
    source: Zoo,
    epoch: int,
    count: int,
    how: str,
    best_share: float,
    seed: int,
) -> None:
    if representation.config.settings.task != "reconstruct":
        raise ZoojaxError(
            f"{representation.path} was learned to sparsify, with the weights at hand; learn "
            "one that decodes weights, with --task reconstruct"
        )
    if epoch not in source.epochs:
        raise ZoojaxError(f"{source.path} has no epoch {epoch}; it has up to {source.epochs[-1]}")
    if how not in SAMPLING_METHODS:
        raise ZoojaxError(f"no sampling named '{how}'; there are: {', '.join(SAMPLING_METHODS)}")
    if not 0 < best_share <= 1:
        raise ZoojaxError(f"best share {best_share:g} is not in (0, 1]")
    first = _first_seed(source)
    if count < 1:
        raise ZoojaxError(f"{count} members asked for; give at least 1")
    if first + count > _SEED_LIMIT:
        raise ZoojaxError(f"seeds {first} to {first + count - 1} are not all below 2**32")
    if not 0 <= seed < _SEED_LIMIT:
        raise ZoojaxError(f"seed {seed} is not from 0 to 2**32 - 1")


def _first_seed(source: Zoo) -> int:
    """One that no member of the source has: from scratch, those would be its members again."""
    return max(source.members_table["seed"].drop_nulls().to_list(), default=0) + 1


def _best(source: Zoo, members: list[int], epoch: int, share: float) -> list[int]:
    """The best share of members at an epoch; by validation, as they are tested afterwards."""
    measured = source.metrics.filter(pl.col("member").is_in(members), epoch=epoch)
    order = measured.sort("val_acc", "member", descending=[True, False])
    return sorted(order["member"].head(max(2, round(share * len(members)))).to_list())


def _members(dense: Zoo, source: Zoo, near: list[int]) -> pl.DataFrame:
    """The new members table, from the source's members near which each was drawn."""
    roster = source.members_table[source.row_indices(near)]
    ids = roster["parent_id" if dense is not source else "id"].to_list()
    first = _first_seed(source)
    return dense.members_table[dense.row_indices(ids)].select(
        pl.int_range(pl.len(), dtype=pl.Int64).alias("id"),
        pl.int_range(first, first + pl.len(), dtype=pl.Int64).alias("seed"),
        *_HYPERPARAMETERS,
    )
