"""Creates zoos with a hyper-representation: zero-shot twins, and members sampled from it.

Each function has the options of its command `zoojax represent`, with the same names and defaults.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import polars as pl

from zoojax import figures
from zoojax.errors import ZoojaxError
from zoojax.figures.zero_shot import zero_shot, zero_shot_caption
from zoojax.filesystem.atomic import make_folder
from zoojax.filesystem.paths import optional_path, output_folder
from zoojax.filesystem.tables import write_csv
from zoojax.hyper_representation.representation import Representation, as_representation
from zoojax.hyper_representation.sampling import train_from_scratch, train_sampled
from zoojax.hyper_representation.zero_shot import compare, training_twin, zero_shot_twin
from zoojax.progress import progress_callback
from zoojax.runtime import distributed
from zoojax.storage.opening import as_zoo
from zoojax.storage.zoo import Zoo
from zoojax.storage.zoo_images import load_images
from zoojax.training.trainer import ProgressCallback


@dataclass(frozen=True)
class ZeroShotResult:
    """The result of `sparsify_zero_shot`.

    Attributes:
        zoo: The twin: one member per dense member and ratio.
        parent: The dense zoo.
        comparison: Test accuracy of held-out members by method and sparsity, see
            `zoojax.hyper_representation.zero_shot.compare`; None if it could not be computed.
        note: Why there is no comparison; None if there is one.
    """

    zoo: Zoo
    parent: Zoo
    comparison: pl.DataFrame | None = None
    note: str | None = None


def sparsify_zero_shot(
    representation: Representation | str | Path,
    parent: Zoo | str | Path,
    out: str | Path,
    *,
    ratios: Sequence[float] = (0.5, 0.6, 0.7, 0.8, 0.9),
    held_out_only: bool = False,
    epochs: int = 0,
    epoch: int | None = None,
    learning_rate: float | None = None,
    comparison: str | Path | None = None,
    zoo: Zoo | str | Path | None = None,
    chunk: int | None = None,
    data_dir: str | Path | None = None,
    quiet: bool = False,
    report: ProgressCallback | None = None,
) -> ZeroShotResult:
    """Prunes dense members by the log alphas that an autoencoder predicts from their weights.

    For held-out members, also compares the accuracy at each sparsity with magnitude pruning,
    random pruning, and the mask of the twin on which the autoencoder was trained.

    Args:
        representation: Hyper-representation with log alphas, preferably of the task "sparsify";
            or its folder.
        parent: Dense zoo, or its folder.
        out: Folder of the twin: new, or of an interrupted run.
        ratios: Fractions of the network's weights to prune, each in [0, 1).
        held_out_only: Whether to prune only members that were used neither for training nor for
            validation of the autoencoder.
        epochs: Epochs of fine-tuning after pruning.
        epoch: Epoch of the dense zoo to start from; None takes the last.
        learning_rate: Learning rate of fine-tuning; None takes the preset's, or each member's
            own.
        comparison: Folder for the comparison of methods: zero_shot.csv, .svg and .png; None
            writes none.
        zoo: Training zoo of the hyper-representation, or its folder; None takes the recorded
            one.
        chunk: Members that a device processes at once; None chooses for this machine.
        data_dir: Folder of image sets; None takes $ZOOJAX_DATA, or else a cache folder.
        quiet: Whether to show no progress.
        report: Progress callback, called after each block of members; None shows the progress
            on standard error.

    Returns:
        The twin and the comparison. If several processes train one zoo, only process 0 compares.

    Raises:
        ZoojaxError: An argument is invalid, the images are missing, or writing failed.

    Example (with trained zoos):
        result = sparsify_zero_shot("reps/usps-sparsify", "zoos/usps", "zoos/zero-shot")
        result.comparison
    """
    opened, dense = as_representation(representation), as_zoo(parent, "parent")
    images_folder = optional_path(data_dir, "data_dir")
    folder = None if comparison is None else output_folder(comparison, "comparison")
    with progress_callback(report, "prune by predicted log alphas", quiet) as callback:
        twin = zero_shot_twin(
            output_folder(out),
            opened,
            dense,
            ratios,
            held_out_only=held_out_only,
            training_zoo=zoo,
            epochs=epochs,
            epoch=epoch,
            learning_rate=learning_rate,
            chunk=chunk,
            data_dir=images_folder,
            report=callback,
        )
    with distributed.main_process_first() as is_main:
        if not is_main:
            return ZeroShotResult(twin, dense, note="only process 0 compares methods")
        try:
            training_zoo = training_twin(opened, dense, zoo)
        except ZoojaxError as error:
            return ZeroShotResult(twin, dense, note=str(error))
        images = load_images(dense, images_folder)
        table = compare(opened, dense, training_zoo, images, ratios, epoch)
        if folder is not None:
            _write_comparison(table, dense, folder)
        return ZeroShotResult(twin, dense, table)


def _write_comparison(table: pl.DataFrame, parent: Zoo, folder: Path) -> None:
    make_folder(folder)
    write_csv(folder / "zero_shot.csv", table)
    caption = zero_shot_caption(parent.config.name, table["members"][0])
    figures.save(zero_shot(table), folder, "zero_shot", caption)


def sample_zoo(
    representation: Representation | str | Path,
    members: int,
    out: str | Path,
    *,
    zoo: Zoo | str | Path | None = None,
    how: Literal["independent", "joint", "best"] = "independent",
    epochs: int = 5,
    scratch: str | Path | None = None,
    epoch: int | None = None,
    best_share: float = 0.3,
    seed: int = 1,
    chunk: int | None = None,
    data_dir: str | Path | None = None,
    quiet: bool = False,
    report: ProgressCallback | None = None,
) -> Zoo:
    """Samples new members from the latent space of an autoencoder, decodes and fine-tunes them.

    Args:
        representation: Hyper-representation of the task "reconstruct", or its folder.
        members: Number of members to sample.
        out: Folder of the zoo: new, or of an interrupted run.
        zoo: Training zoo of the hyper-representation, or its folder; None takes the recorded
            one.
        how: Sampling method: "independent" (each latent dimension), "joint" (around one training
            member) or "best" (around one of the best training members).
        epochs: Epochs of fine-tuning.
        scratch: Folder for a baseline trained from scratch with the same seeds, data order and
            epochs, to be opened with `zoojax.open_zoo`; None trains none.
        epoch: Epoch of the training zoo whose embeddings are used; None takes the last one
            trained on.
        best_share: Fraction of the training members, by validation accuracy, for "best"; in
            (0, 1].
        seed: Random seed. Each member depends only on the seed and its own id.
        chunk: Members that a device trains at once; None chooses for this machine.
        data_dir: Folder of image sets; None takes $ZOOJAX_DATA, or else a cache folder.
        quiet: Whether to show no progress.
        report: Progress callback, called after each block of members; None shows the progress
            on standard error.

    Returns:
        The sampled zoo, which is dense; its epoch 0 contains the decoded members.

    Raises:
        ZoojaxError: An argument is invalid, the training zoo is missing or another one, the
            images are missing, or writing failed.

    Example (with a trained hyper-representation):
        zoo = sample_zoo("reps/usps", 100, "zoos/sampled", how="joint")
        zoo.metrics.group_by("epoch").agg(pl.col("test_acc").mean())
    """
    opened, folder = as_representation(representation), output_folder(out)
    baseline = None if scratch is None else output_folder(scratch, "scratch")
    training_zoo, images_folder = opened.training_zoo(zoo), optional_path(data_dir, "data_dir")
    with progress_callback(report, "sampled", quiet) as callback:
        sampled = train_sampled(
            folder,
            opened,
            training_zoo,
            members,
            method=how,
            epochs=epochs,
            epoch=epoch,
            top_fraction=best_share,
            seed=seed,
            chunk=chunk,
            data_dir=images_folder,
            report=callback,
        )
    if baseline is not None:
        with progress_callback(report, "from scratch", quiet) as callback:
            train_from_scratch(
                *(baseline, sampled, training_zoo),
                chunk=chunk,
                data_dir=images_folder,
                report=callback,
            )
    return sampled
