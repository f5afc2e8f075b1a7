"""Trains a zoo and both sparse twins, and analyzes them: the paper in one call."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from zoojax import presets
from zoojax.analysis import Analysis
from zoojax.analysis.folder import check_folder
from zoojax.api.dense import train_zoo
from zoojax.api.twins import sparsify
from zoojax.errors import ZoojaxError
from zoojax.filesystem.paths import output_folder
from zoojax.runtime import distributed
from zoojax.sparsifiers.allocation import check_ratio
from zoojax.sparsifiers.magnitude import MagnitudePruning
from zoojax.sparsifiers.variational_dropout import VariationalDropout
from zoojax.text import printable
from zoojax.training.callbacks import EpochCallback
from zoojax.workflows.analyze import analyze
from zoojax.workflows.defaults import RATIOS


def reproduce(
    preset: str,
    out: str | Path,
    *,
    members: int | None = None,
    epochs: int | None = None,
    mp_epochs: int = 15,
    vd_epochs: int = 25,
    ratios: Sequence[float] = RATIOS,
    chunk: int | None = None,
    data_dir: str | Path | None = None,
    quiet: bool = False,
    callbacks: Sequence[EpochCallback] = (),
) -> Analysis:
    """Trains a zoo, creates both sparse twins, and analyzes all three.

    The zoos are OUT/dense, OUT/mp and OUT/vd; the report is OUT/analysis/report.html. An
    interrupted call resumes if it is repeated with the same arguments.

    Args:
        preset: Name of the zoo's preset; `zoojax.presets.preset_table` lists them.
        out: Folder for the zoos and their analysis.
        members: Members per combination of hyperparameters; None takes the preset's.
        epochs: Epochs of dense training; None takes the preset's. With another number the zoo
            is called PRESET-custom and is not compared with the paper.
        mp_epochs: Epochs of fine-tuning after magnitude pruning.
        vd_epochs: Epochs of variational dropout.
        ratios: Fractions of weights to prune, each in [0, 1); 0 means fine-tuning only.
        chunk: Members that a device trains at once; None chooses for this machine.
        data_dir: Folder of image sets; None takes $ZOOJAX_DATA, or else a cache folder.
        quiet: Whether to show no progress.
        callbacks: Functions that get the metrics of each epoch of each zoo.

    Returns:
        The analysis, see `zoojax.workflows.analyze.analyze`. If several processes train one
        zoo, it has tables only in process 0.

    Raises:
        ZoojaxError: The preset is unknown, an argument is invalid, the images are missing, a
            folder holds something else, or writing failed.

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
    sparsifiers = MagnitudePruning(tuple(ratios)), VariationalDropout()
    shared: dict[str, Any] = {"chunk": chunk, "data_dir": data_dir, "quiet": quiet}
    shared["callbacks"] = callbacks
    zoo = train_zoo(preset, folder / "dense", members=members, epochs=epochs, **shared)
    twins = []
    for sparsifier, count in zip(sparsifiers, (mp_epochs, vd_epochs), strict=True):
        twin = base.twin(sparsifier.name)
        rate = None if twin is None else twin.learning_rate
        path = folder / sparsifier.method
        twins.append(sparsify(zoo, sparsifier, path, learning_rate=rate, epochs=count, **shared))
    with distributed.main_process_first() as is_main:
        if is_main:
            return analyze(zoo, *twins, out=folder / "analysis", data_dir=data_dir, quiet=quiet)
    return Analysis(zoo, twins, path=folder / "analysis")
