"""Trains a zoo and its sparse twins, and analyzes them: those of the paper, or all methods."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from zoojax import presets
from zoojax.analysis import Analysis
from zoojax.analysis.folder import check_folder
from zoojax.api.dense import train_zoo
from zoojax.api.twins import sparsify
from zoojax.architectures.registry import architecture
from zoojax.errors import ZoojaxError
from zoojax.filesystem.paths import output_folder
from zoojax.hyperparameters.declaration import check_whole
from zoojax.runtime import distributed
from zoojax.sparsifiers.allocation import check_ratio
from zoojax.sparsifiers.base import Sparsifier
from zoojax.sparsifiers.magnitude import MagnitudePruning
from zoojax.text import printable
from zoojax.training.callbacks import EpochCallback
from zoojax.workflows.analyze import analyze
from zoojax.workflows.defaults import RATIOS, SPARSIFIERS
from zoojax.workflows.method_plan import check_budget, chosen_sparsifiers, plan


def reproduce(
    preset: str,
    out: str | Path,
    *,
    members: int | None = None,
    epochs: int | None = None,
    mp_epochs: int = 15,
    vd_epochs: int = 25,
    ratios: Sequence[float] = RATIOS,
    sparsifiers: Sequence[str] = SPARSIFIERS,
    budget: int | None = None,
    chunk: int | None = None,
    data_dir: str | Path | None = None,
    quiet: bool = False,
    callbacks: Sequence[EpochCallback] = (),
) -> Analysis:
    """Trains a zoo, creates its sparse twins, and analyzes them: by default those of the paper.

    The zoos are OUT/dense, OUT/mp, OUT/vd and so on; the report is OUT/analysis/report.html. An
    interrupted call resumes if it is repeated with the same arguments.

    Twins of all methods have the same learning rate, that of the preset for magnitude pruning,
    except those for which the preset has another one. `Sparsifier.at_ratios` and
    `Sparsifier.comparison_epochs` define how a method is compared, for example at which ratios N:M
    pruning is possible.

    Args:
        preset: Name of the zoo's preset; `zoojax.presets.preset_table` lists them.
        out: Folder for the zoos and their analysis.
        members: Members per combination of hyperparameters; None takes the preset's.
        epochs: Epochs of dense training; None takes the preset's. With another number the zoo
            is called PRESET-custom and is not compared with the paper.
        mp_epochs: Epochs of fine-tuning after magnitude pruning.
        vd_epochs: Epochs of variational dropout.
        ratios: Fractions of weights to prune, each in [0, 1); 0 means fine-tuning only.
        sparsifiers: Names of the sparsifiers to compare; ("all",) compares all that apply to the
            architecture.
        budget: Epochs that every twin trains in addition to those of the dense zoo, so that all
            methods train for the same number of epochs; None takes the number of each method.
        chunk: Members that a device trains at once; None chooses for this machine.
        data_dir: Folder of image sets; None takes $ZOOJAX_DATA, or else a cache folder.
        quiet: Whether to show no progress.
        callbacks: Functions that receive the metrics of each epoch of each zoo.

    Returns:
        The analysis, see `zoojax.workflows.analyze.analyze`. If several processes train one
        zoo, it has tables only in process 0.

    Raises:
        ZoojaxError: The preset or a sparsifier is unknown, a sparsifier does not apply to the
            architecture, an argument is invalid, the images are missing, a folder holds something
            else, or writing failed.

    Example:
        >>> analysis = zoojax.reproduce(  # doctest: +SKIP
        ...     "digits-s-seed", "runs/digits", members=24
        ... )
        >>> analysis.page  # doctest: +SKIP
        PosixPath('runs/digits/analysis/report.html')
    """
    base, folder = presets.preset(preset), output_folder(out)
    # Checked before training, which can take hours.
    check_folder(folder / "analysis")
    if not isinstance(ratios, Iterable):
        raise ZoojaxError(f"ratios is {printable(ratios, 60)}; give a tuple of numbers")
    for ratio in ratios:
        check_ratio(ratio)
    check_budget(budget)
    shape = architecture(base.architecture, base.data.channels)
    chosen, notes = chosen_sparsifiers(sparsifiers, shape, preset)
    parent_epochs = base.epochs if epochs is None else epochs
    check_whole("epochs", parent_epochs)
    own: dict[str, int] = dict(zip(SPARSIFIERS, (mp_epochs, vd_epochs), strict=True))
    planned = plan(chosen, ratios, parent_epochs, budget=budget, epochs=own)
    shared: dict[str, Any] = {"chunk": chunk, "data_dir": data_dir, "quiet": quiet}
    shared["callbacks"] = callbacks
    zoo = train_zoo(preset, folder / "dense", members=members, epochs=epochs, **shared)
    twins = [
        sparsify(
            *(zoo, twin.sparsifier, folder / twin.folder),
            learning_rate=_learning_rate(base, twin.sparsifier),
            epochs=twin.epochs,
            epoch=twin.epoch,
            **shared,
        )
        for twin in planned
    ]
    with distributed.main_process_first() as is_main:
        if is_main:
            analysis = analyze(zoo, *twins, out=folder / "analysis", data_dir=data_dir, quiet=quiet)
            analysis.notes += notes
            return analysis
    return Analysis(zoo, twins, path=folder / "analysis")


def _learning_rate(base: presets.Preset, sparsifier: Sparsifier) -> float | None:
    """Returns the preset's learning rate of a twin, or of magnitude pruning if it has none."""
    settings = base.twin(sparsifier.name) or base.twin(MagnitudePruning.name)
    return None if settings is None else settings.learning_rate
