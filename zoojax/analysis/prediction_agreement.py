"""Agreement: how often two members predict the same class.

Equation 1 of "Sparsified Model Zoo Twins" (arXiv 2304.13718): the fraction of N test images
for which both members predict the same class.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from zoojax.analysis.pairing import finite, paired_metrics
from zoojax.errors import ZoojaxError
from zoojax.storage import zoo_images
from zoojax.storage.zoo import Zoo, with_states
from zoojax.training import inference, sampling

# One-hot predictions are held for this many images at once: 40 MB for 1,000 members and ten
# classes.
_IMAGES = 1000


def predictions(zoo: Zoo, epoch: int | None = None, data_dir: Path | None = None) -> np.ndarray:
    """Classes predicted by all members for the zoo's test images, [members, n] uint16.

    Args:
        zoo: the zoo.
        epoch: a saved epoch; the last one if None.
        data_dir: folder of image sets; see `zoojax.datasets.loading.data_directory`.

    Raises:
        ZoojaxError: the images are missing or do not match the zoo, or the epoch is not saved.
    """
    return inference.predict(zoo, zoo_images.load_images(zoo, data_dir).test.images, epoch)


def agreement(
    zoo: Zoo,
    twin: Zoo,
    epoch: int | None = None,
    *,
    data_dir: Path | None = None,
    of_zoo: np.ndarray | None = None,
    of_twin: np.ndarray | None = None,
    of_samples: np.ndarray | None = None,
) -> pl.DataFrame:
    """Agreement of each member of a twin with its parent (Tables 1 and 9 of the paper).

    Args:
        zoo: the dense zoo.
        twin: its twin.
        epoch: a saved epoch of the twin; the last one if None.
        data_dir: folder of image sets, as in `predictions`.
        of_zoo: predictions of the zoo at the epoch from which the twin was created, [members,
            n]; computed if None.
        of_twin: predictions of the twin, [members, n]; computed if None.
        of_samples: predictions of the twin with the noise of its training, [members, n]; computed
            if `of_twin` is None, too, and its sparsifier has noise (see
            `zoojax.training.sampling.sampled_predictions`).

    Returns:
        One row per member of the twin: `member`, `parent_id`, `ratio`, `epoch`, `agreement`,
        `test_acc`, `sparsity`, and `sampled_agreement`: agreement of the twin with the noise of
        its training, null without `of_samples`. Both are null if either member is not finite.

    Raises:
        ZoojaxError: it is not a twin of this zoo, or states or images are missing.
    """
    if epoch is None:
        epoch = twin.newest_epoch
    table = with_states(paired_metrics(zoo, twin).filter(pl.col("epoch") == epoch))
    assert twin.config.parent is not None
    if of_zoo is None:
        of_zoo = predictions(zoo, twin.config.parent.epoch, data_dir)
    if of_twin is None:
        of_twin = predictions(twin, epoch, data_dir)
        if of_samples is None and sampling.has_noise(twin.config.sparsifier):
            images = zoo_images.load_images(twin, data_dir).test.images
            of_samples = sampling.sampled_predictions(twin, images, epoch)
    members = _rows(twin.members_table["id"], table["member"])
    parents = _rows(zoo.members_table["id"], table["parent_id"])
    shares = {
        name: pl.lit(None, pl.Float64)
        if predicted is None
        else pl.Series((predicted[members] == of_zoo[parents]).mean(axis=1))
        for name, predicted in (("agreement", of_twin), ("sampled_agreement", of_samples))
    }
    columns = ("member", "parent_id", "ratio", "epoch", "agreement", "test_acc", "sparsity")
    return table.with_columns(
        pl.when("finite").then(share).otherwise(None).alias(name) for name, share in shares.items()
    ).select(*columns, "sampled_agreement")


def _rows(ids: pl.Series, selected: pl.Series) -> np.ndarray:
    """Positions of the selected ids among all ids."""
    position = {member: row for row, member in enumerate(ids.to_list())}
    return np.array([position[member] for member in selected.to_list()], int)


def pairwise(one: np.ndarray, other: np.ndarray | None = None) -> np.ndarray:
    """Agreement of every member of a population with every member of another.

    Args:
        one: predicted classes, [members, n].
        other: predicted classes of the other population, [others, n]; the same population
            if None.

    Returns:
        [members, others] float32 in [0, 1]; counts are exact in float32.
    """
    other = one if other is None else other
    counts = _count_equal(int(max(one.max(), other.max())) + 1)
    total = np.zeros((len(one), len(other)), np.float32)
    for i in range(0, one.shape[1], _IMAGES):
        total += np.asarray(counts(one[:, i : i + _IMAGES], other[:, i : i + _IMAGES]))
    return total / one.shape[1]


@functools.cache
def _count_equal(classes: int) -> Callable[..., Any]:
    """A jitted ([members, n], [others, n]) -> number of equal predictions [members, others]."""
    import jax
    import jax.numpy as jnp

    def one_hot(x):
        return jax.nn.one_hot(x, classes, dtype=jnp.float32).reshape(x.shape[0], -1)

    return jax.jit(lambda a, b: one_hot(a) @ one_hot(b).T)


def mask_diverged(matrix: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Sets the agreement of members that are not finite to NaN: their predictions are chance.

    Args:
        matrix: a matrix of `pairwise`, [members, others].
        rows: which members are finite, [members] bool.
        columns: which others are finite, [others] bool.

    Returns:
        [members, others].
    """
    return np.where(rows[:, None] & columns[None, :], matrix, np.float32(np.nan))


def agreement_matrix(
    zoo: Zoo,
    other: Zoo | None = None,
    epoch: int | None = None,
    other_epoch: int | None = None,
    data_dir: Path | None = None,
) -> pl.DataFrame:
    """`pairwise` agreement within a zoo, or between two zoos on the same images.

    Args:
        zoo: the zoo.
        other: another zoo; the same if None.
        epoch: a saved epoch of the zoo; the last one if None.
        other_epoch: a saved epoch of the other zoo; the last one if None.
        data_dir: folder of image sets, as in `predictions`.

    Returns:
        `member`, and one column per member of the other zoo, named by its id; NaN if either
        member is not finite.

    Raises:
        ZoojaxError: the zoos were evaluated on different images, or states or images are
            missing.
    """
    if other is not None and other.config.data_hash != zoo.config.data_hash:
        raise ZoojaxError(f"{other.path} was evaluated on other images than {zoo.path}")
    of_zoo = predictions(zoo, epoch, data_dir)
    of_other = None if other is None else predictions(other, other_epoch, data_dir)
    if other is None:
        other, other_epoch = zoo, epoch
    masks = [
        finite(z, z.newest_epoch if e is None else e)
        for z, e in ((zoo, epoch), (other, other_epoch))
    ]
    matrix = mask_diverged(pairwise(of_zoo, of_other), *masks)
    ids = other.members_table["id"].cast(pl.String).to_list()
    return pl.DataFrame({"member": zoo.members_table["id"]}).hstack(
        pl.DataFrame(matrix, schema=dict.fromkeys(ids, pl.Float32))
    )
