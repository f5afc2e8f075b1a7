"""Accuracy of reconstructed members, and agreement with the originals."""

from collections.abc import Iterable, Sequence
from typing import Any

import jax
import numpy as np
import polars as pl

from zoojax.architectures.parameters import kernels
from zoojax.datasets.specs import Images
from zoojax.hyper_representation.bootstrap import interval_columns
from zoojax.intervals import mean_interval
from zoojax.storage.zoo import Zoo
from zoojax.training import inference

Tree = dict[str, Any]
# Value of column `epochs` for the mean of all epochs.
ALL_EPOCHS = "all"
# Columns with an interval in the summary.
MEASURED = ("test_acc", "reconstructed_acc", "change", "agreement")
SPARSITIES = ("sparsity", "reconstructed_sparsity")


def functional_fidelity(
    zoo: Zoo, images: Images, states: pl.DataFrame, original: Tree, reconstructed: Tree
) -> pl.DataFrame:
    """Compares the predictions of reconstructed members with those of the originals.

    Args:
        zoo: The members' zoo.
        images: Images to classify.
        states: `member` and `epoch`, one row per state.
        original: Stacked parameters.
        reconstructed: Stacked reconstructions.

    Returns:
        `member`, `epoch`, `test_acc` and `sparsity` of the original, `reconstructed_acc`,
        `reconstructed_sparsity`, and `agreement`: the fraction of images for which both predict
        the same class.
    """
    members = states.select(pl.col("member").alias("id")).join(
        zoo.members_table, on="id", how="left", maintain_order="left"
    )
    stacked = jax.tree.map(lambda *x: np.concatenate(x), original, reconstructed)
    classes = inference.predict_params(
        zoo.config, pl.concat([members, members]), stacked, images.images
    )
    predicted, predicted_reconstructed = np.split(classes, 2)
    accuracy = [(c == images.labels).mean(axis=1) for c in (predicted, predicted_reconstructed)]
    return states.select("member", "epoch").with_columns(
        test_acc=pl.Series(accuracy[0]),
        reconstructed_acc=pl.Series(accuracy[1]),
        agreement=pl.Series((predicted == predicted_reconstructed).mean(axis=1)),
        sparsity=pl.Series(_sparsity(original)),
        reconstructed_sparsity=pl.Series(_sparsity(reconstructed)),
    )


def _sparsity(params: Tree) -> np.ndarray:
    """Returns the fraction of zero weights (excluding biases) of each member, [members]."""
    weights = [w.reshape(len(w), -1) for w in kernels(params).values()]
    return (np.concatenate(weights, axis=1) == 0).mean(axis=1)


def nearest_epochs(wanted: Iterable[int], epochs: Sequence[int]) -> list[int]:
    """Returns the epochs that are nearest to the wanted ones, each once, in the same order."""
    nearest = (min(epochs, key=lambda epoch: (abs(epoch - each), epoch)) for each in wanted)
    return list(dict.fromkeys(nearest))


def summarize(functional: pl.DataFrame, epochs: Sequence[int]) -> pl.DataFrame:
    """Averages the fidelity over members.

    Args:
        functional: `functional_fidelity`, with a column `thresholded`.
        epochs: Epochs to show.

    Returns:
        One row per value of `thresholded` and of `epochs`: each epoch, and "all" (the mean of a
        member's epochs). `members`, and the means over members of `test_acc`,
        `reconstructed_acc`, `change` (reconstructed minus original accuracy) and `agreement`,
        each with the ends of its 95 % interval (null for one member), `sparsity` and
        `reconstructed_sparsity`.
    """
    table = functional.with_columns(change=pl.col("reconstructed_acc") - pl.col("test_acc"))
    rows = []
    for thresholded in table["thresholded"].unique(maintain_order=True):
        states = table.filter(thresholded=thresholded)
        for label, selected in (
            *((str(epoch), states.filter(epoch=epoch)) for epoch in epochs),
            (ALL_EPOCHS, states),
        ):
            rows.append({"thresholded": thresholded, "epochs": label, **_means(selected)})
    schema: dict[str, Any] = {"thresholded": pl.Boolean, "epochs": pl.String, "members": pl.Int64}
    schema |= {c: pl.Float64 for name in MEASURED for c in interval_columns(name)}
    return pl.DataFrame(rows, schema=schema | dict.fromkeys(SPARSITIES, pl.Float64))


def _means(states: pl.DataFrame) -> dict[str, Any]:
    """Means over members with their intervals."""
    by_member = states.group_by("member", maintain_order=True).mean()
    row: dict[str, Any] = {"members": len(by_member)}
    for name in MEASURED:
        values = by_member[name].to_numpy()
        low, high = mean_interval(values) if len(values) > 1 else (None, None)
        row |= dict(zip(interval_columns(name), (values.mean(), low, high), strict=True))
    return row | {name: by_member[name].mean() for name in SPARSITIES}
