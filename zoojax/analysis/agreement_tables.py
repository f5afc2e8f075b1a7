"""Adds the agreement of twins with their parents to an analysis, and pairwise agreement."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from zoojax.analysis.pairing import finite, nearest_ratio, nearest_sparsity_epoch, ratio_sparsities
from zoojax.analysis.paper_comparison import paper_results_of
from zoojax.analysis.prediction_agreement import agreement, mask_diverged, pairwise
from zoojax.analysis.results import Analysis, Method
from zoojax.errors import ZoojaxError
from zoojax.storage import zoo_images
from zoojax.storage.zoo import Zoo
from zoojax.text import printable
from zoojax.training import inference, sampling

# Sparsity at which members are compared if the paper names none: a pruning ratio, or the
# nearest epoch if sparsity varies with the epoch, as accuracy has often collapsed by the last.
REFERENCE_SPARSITY = 0.8


def parent_epochs(analysis: Analysis) -> set[int]:
    """Epochs of the dense zoo from which the twins were created."""
    return {t.config.parent.epoch for t in analysis.twins if t.config.parent is not None}


def add_agreement(
    analysis: Analysis, data_dir: Path | None, report_step: Callable[[str], None]
) -> None:
    """Adds the agreement of each twin with its parent, and the pairwise matrices.

    Matrices are computed within the dense zoo, within one population per twin, and between
    the two.

    Args:
        analysis: The analysis, which is changed.
        data_dir: Folder of image sets; see `zoojax.datasets.loading.data_directory`.
        report_step: Called with the name of each step before it starts.
    """
    zoo, starts = analysis.zoo, parent_epochs(analysis)
    if not starts <= set(zoo.epochs):
        return
    try:
        images = zoo_images.load_images(zoo, data_dir).test.images
    except ZoojaxError as error:
        analysis.notes.append(f"Agreement was not computed: {printable(error, 1000)}.")
        return
    dense = {e: inference.predict(zoo, images, e) for e in starts or {zoo.epochs[-1]}}
    parts: list[pl.DataFrame] = []
    last = max(dense)
    mask = finite(zoo, last)
    analysis.matrices["dense"] = mask_diverged(pairwise(dense[last]), mask, mask)
    for method in analysis.twin_methods():
        twin = method.zoo
        assert twin.config.parent is not None
        start = twin.config.parent.epoch
        for epoch in _agreement_epochs(analysis, method):
            report_step(f"agreement, {method.key} epoch {epoch}")
            predicted = inference.predict(twin, images, epoch)
            sampled = None
            if sampling.has_noise(method.sparsifier):
                sampled = sampling.sampled_predictions(twin, images, epoch)
            table = agreement(
                *(zoo, twin, epoch),
                of_zoo=dense[start],
                of_twin=predicted,
                of_samples=sampled,
            )
            parts.append(table.select(pl.lit(method.key).alias("method"), pl.all()))
            members, name = _matrix_members(method, epoch)
            if members is not None:
                aligned, mask = _align_to_parents(zoo, twin, epoch, predicted, members)
                analysis.matrices[name] = mask_diverged(pairwise(aligned), mask, mask)
                across = pairwise(dense[start], aligned)
                across = mask_diverged(across, finite(zoo, start), mask)
                analysis.matrices[f"dense and {name}"] = across
    if parts:
        analysis.tables["agreement"] = pl.concat(parts)
        analysis.tables["agreement_summary"] = _agreement_summary(analysis.tables["agreement"])


def _agreement_epochs(analysis: Analysis, method: Method) -> list[int]:
    """Epochs of a twin at which agreement is computed.

    These are the last epoch, and if sparsity varies with the epoch also those nearest to the
    pruning ratios of other twins, to the reference sparsity and to the sparsities that the
    paper gives.
    """
    twin = method.zoo
    last = twin.epochs[-1]
    if method.sweep == "ratio":
        return [last]
    by_ratio = analysis.twin_methods("ratio")
    sparsities = {s for each in by_ratio for s in ratio_sparsities(each.zoo).values()}
    sparsities |= {REFERENCE_SPARSITY, *_paper_sparsities(analysis.zoo)}
    nearest = {nearest_sparsity_epoch(twin, sparsity) for sparsity in sparsities}
    return sorted({last, *nearest} & set(twin.epochs))


def _paper_sparsities(zoo: Zoo) -> list[float]:
    table = paper_results_of(zoo)
    return table["sparsity"].drop_nulls().unique().to_list()


def _matrix_members(method: Method, epoch: int) -> tuple[np.ndarray | None, str]:
    """Rows of the members of a twin that its matrices show, and the name of the matrices.

    Twins with pruning ratios show the ratio nearest to the reference sparsity, others the epoch
    nearest to it; (None, "") at other epochs.
    """
    twin = method.zoo
    if method.sweep == "epoch":
        if epoch != nearest_sparsity_epoch(twin, REFERENCE_SPARSITY):
            return None, ""
        return np.arange(len(twin)), f"{method.key} epoch {epoch}"
    ratios = twin.members_table["ratio"]
    ratio = nearest_ratio(twin, REFERENCE_SPARSITY)
    return np.flatnonzero(ratios.to_numpy() == ratio), f"{method.key} {ratio:.0%}{method.of}"


def _align_to_parents(
    zoo: Zoo, twin: Zoo, epoch: int, predicted: np.ndarray, members: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Reorders predictions of a twin so that each is in the row of its parent.

    Args:
        zoo: the dense zoo.
        twin: its twin.
        epoch: epoch of the twin.
        predicted: predicted classes of the twin, [twin members, n].
        members: rows of the twin to use; of several with one parent, the last is used.

    Returns:
        Predictions [rows, n], up to the last parent with a twin; and which rows have a finite
        twin, [rows] bool.
    """
    position = {member: row for row, member in enumerate(zoo.members_table["id"].to_list())}
    parents = twin.members_table["parent_id"].to_list()
    rows = np.array([position[parent] for parent in parents])[members]
    aligned = np.zeros((rows.max() + 1, predicted.shape[1]), predicted.dtype)
    mask = np.zeros(len(aligned), bool)
    aligned[rows], mask[rows] = predicted[members], finite(twin, epoch)[members]
    return aligned, mask


def _agreement_summary(table: pl.DataFrame) -> pl.DataFrame:
    """Means and standard deviations over members (Tables 1 and 9 of the paper)."""
    quantities = ("test_acc", "sparsity", "agreement", "sampled_agreement")
    statistics = [
        expression
        for name in quantities
        for expression in (
            pl.col(name).mean().alias(f"{name}_mean"),
            pl.col(name).std(ddof=0).alias(f"{name}_std"),
        )
    ]
    known = table.filter(pl.col("agreement").is_not_null())
    keys = ["method", "ratio", "epoch"]
    groups = known.group_by(keys, maintain_order=True)
    return groups.agg(pl.len().alias("members"), *statistics).sort(keys)
