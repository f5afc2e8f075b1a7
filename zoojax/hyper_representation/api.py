"""Trains and evaluates a hyper-representation; `new_zoos` applies one.

Each function has the options of its command `zoojax represent`, with the same names and defaults.
"""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import jax

from zoojax.datasets.specs import ImageSet
from zoojax.errors import ZoojaxError
from zoojax.filesystem.paths import optional_path, output_folder
from zoojax.hyper_representation import settings
from zoojax.hyper_representation.behavior import behavior_gap
from zoojax.hyper_representation.evaluation import EPOCHS, evaluate
from zoojax.hyper_representation.evaluation_tables import FOLDER, Evaluation, write
from zoojax.hyper_representation.representation import Representation, as_representation
from zoojax.hyper_representation.tokens import TokenKind
from zoojax.hyper_representation.trainer import train_autoencoder
from zoojax.hyper_representation.training_data import check_zoos, default_alpha_epoch
from zoojax.hyperparameters.declaration import check_whole
from zoojax.progress import progress_callback, stage_progress
from zoojax.storage.opening import as_zoo
from zoojax.storage.zoo import Zoo
from zoojax.storage.zoo_images import load_images
from zoojax.text import printable
from zoojax.training.trainer import ProgressCallback


def train_representation(
    zoos: Zoo | str | Path | Sequence[Zoo | str | Path],
    out: str | Path,
    *,
    preset: str = "small",
    task: settings.Task = "reconstruct",
    alphas_of: int | None = None,
    weights_only: bool = False,
    tokens: TokenKind | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    latent: int | None = None,
    precision: Literal["float32", "bfloat16"] | None = None,
    without_behavior: bool = False,
    seed: int = 1,
    data_dir: str | Path | None = None,
    quiet: bool = False,
    report: ProgressCallback | None = None,
) -> Representation:
    """Trains an autoencoder on the weights and log alphas of zoos (Figure 6 of the paper).

    Resumes if the folder contains an interrupted run with the same arguments, and returns a
    complete one unchanged. 70 % of the members are for training, 15 % for validation, and 15 %
    for `evaluate_representation`; a member and its twins are in the same part.
    `zoojax.hyper_representation.trainer.train_autoencoder` takes all of the `Settings`.

    Args:
        zoos: One or several zoos of one architecture, or their folders, such as a dense zoo and
            its variational-dropout twin. One must have log alphas, unless `weights_only`. Dense
            states have those with which variational dropout starts.
        out: Folder of the hyper-representation: new, or of an interrupted run.
        preset: "small" (half an hour on two cores) or "paper" (needs a GPU).
        task: "reconstruct" (weights, and log alphas of the same epoch) or "sparsify" (log alphas
            of a later epoch, by which `sparsify_zero_shot` prunes dense members).
        alphas_of: Epoch whose log alphas the task "sparsify" predicts; None takes the first at
            which the twin's mean sparsity is at least 80 %.
        weights_only: Whether to reconstruct weights only, for zoos without log alphas.
        tokens: "neuron" (one token per unit) or "chunk" (pieces of equal length); None takes
            the preset's.
        epochs: Training epochs; None takes the preset's.
        batch_size: States per step, each in two views; None takes the preset's.
        learning_rate: Learning rate of Adam; None takes the preset's.
        latent: Dimension of the embedding; None takes the preset's.
        precision: Precision of matrix products; None takes bfloat16 on an accelerator and
            float32 on a CPU.
        without_behavior: Whether to use the weights alone. Otherwise, with the preset "small",
            the encoder also sees predictions on training images, and reconstructed members must
            predict as the originals; if the zoos do not allow it, a warning says why. Labels are
            not used.
        seed: Seed of the split, the initial weights, the sample order and the views.
        data_dir: Folder of image sets; None takes $ZOOJAX_DATA, or else a cache folder.
        quiet: Whether to show no progress.
        report: Progress callback, called at the start and after each epoch; None shows the
            progress on standard error.

    Returns:
        The hyper-representation. Its `losses` are a polars frame with one row per epoch.

    Raises:
        ZoojaxError: An argument is invalid, the zoo has no log alphas, the loss is not finite,
            or writing failed.

    Example:
        >>> zoo = zoojax.train_zoo("digits-s-seed", members=8, epochs=0, quiet=True)
        >>> options = {"weights_only": True, "epochs": 1, "quiet": True}
        >>> representation = zoojax.train_representation(zoo, "reps/digits", **options)
        >>> representation.epoch
        1
    """
    given = [zoos] if isinstance(zoos, Zoo | str | Path) else list(zoos)
    opened, folder = [as_zoo(zoo) for zoo in given], output_folder(out)
    on_cpu = jax.default_backend() == "cpu"
    changes = {
        "tokens": tokens,
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "latent": latent,
        "precision": ("float32" if on_cpu else "bfloat16") if precision is None else precision,
        "seed": seed,
    }
    changes = {name: value for name, value in changes.items() if value is not None}
    chosen = replace(settings.preset(preset, task), **changes).validate()
    if task == "sparsify" and alphas_of is None:
        alphas_of = default_alpha_epoch(opened[0])
    check_zoos(opened, chosen)
    chosen = _behaving(chosen, opened, without_behavior)
    images = None
    if chosen.uses_behavior:
        images = load_images(opened[0], optional_path(data_dir, "data_dir")).train.images
    with progress_callback(report, "represent", quiet, "states") as callback:
        return train_autoencoder(
            folder,
            opened,
            chosen,
            images=images,
            alphas_of=alphas_of,
            weights_only=weights_only,
            report=callback,
        )


class BehaviorWarning(UserWarning):
    """The behavior of members is not used."""


def _behaving(chosen: settings.Settings, zoos: Sequence[Zoo], without: bool) -> settings.Settings:
    """Returns settings without probes and a loss of behavior if these are not used."""
    gap = behavior_gap(zoos) if chosen.uses_behavior and not without else None
    if gap is not None:
        message = f"trains without the behavior of members: {gap}"
        warnings.warn(message, BehaviorWarning, stacklevel=3)
    if gap is None and not without:
        return chosen
    return replace(chosen, probes=0, behavior=0.0)


def evaluate_representation(
    representation: Representation | str | Path,
    zoo: Zoo | str | Path | Sequence[Zoo | str | Path] = (),
    *,
    predictors: Sequence[str] = (),
    epochs: Sequence[int] = EPOCHS,
    data_dir: str | Path | None = None,
    quiet: bool = False,
) -> Evaluation:
    """Measures reconstruction and property prediction on held-out members (Table 3 of the paper).

    All figures have 95 % intervals over members; with several training zoos, they are reported for
    all of them and for each. Properties are predicted from embeddings, raw
    weights and layer statistics by ridge regression, and by the mean of each epoch. The tables
    (Parquet and CSV) are written to the folder evaluation of the hyper-representation, from which
    `zoojax.workflows.analyze.analyze` reads them.

    Args:
        representation: Hyper-representation, or its folder.
        zoo: One or several of its training zoos, or their folders; those that are not given are
            opened from their recorded folders.
        predictors: Further predictors of properties to compare with: "boosting" (gradient boosting
            on layer statistics), "mlp" (a multilayer perceptron on flat weights) and "equivariant"
            (a graph network that is invariant to the order of hidden units). They take minutes.
        epochs: Epochs at which the accuracy of reconstructed members is summarized. Of epochs that
            the training samples do not have, the nearest is taken.
        data_dir: Folder of image sets; None takes $ZOOJAX_DATA, or else a cache folder.
        quiet: Whether to show no progress.

    Returns:
        The evaluation, with polars frames in `tables`. The tables "functional" and
        "functional_summary" (accuracy of reconstructed members) are missing if the zoo records no
        images.

    Raises:
        ZoojaxError: The zoo is missing or another one, a predictor is unknown or does not take the
            architecture, a state is damaged, images are missing, or writing failed.

    Example (with a trained hyper-representation):
        evaluate_representation("reps/usps").tables["summary"]
    """
    opened = as_representation(representation)
    if isinstance(epochs, str) or not isinstance(epochs, Sequence):
        raise ZoojaxError(f"epochs is {printable(repr(epochs), 80)}; give a list of whole numbers")
    shown = [check_whole("an epoch", epoch) for epoch in epochs]
    given = [zoo] if isinstance(zoo, Zoo | str | Path) else list(zoo)
    training_zoos, folder = opened.training_zoos(given), optional_path(data_dir, "data_dir")
    # A converted zoo may record no images; all other tables can still be computed.
    loaded: dict[str | None, ImageSet] = {
        each.config.data_hash: load_images(each, folder)
        for each in training_zoos
        if each.config.data_hash is not None
    }
    images = [loaded.get(each.config.data_hash) for each in training_zoos]
    with stage_progress("evaluating", quiet) as stage:
        evaluation = evaluate(
            opened, training_zoos, images, stage, predictor_names=predictors, epochs=shown
        )
    write(evaluation, opened.path / FOLDER)
    return evaluation
