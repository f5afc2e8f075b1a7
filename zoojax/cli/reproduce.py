"""`zoojax reproduce PRESET --out FOLDER`: trains a zoo and its twins, and analyzes them."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from zoojax.cli.options import LogOption, RunningOptions, RunOptions, callbacks, option
from zoojax.runtime.startup import configure_jax
from zoojax.workflows.defaults import RATIOS, SPARSIFIERS


@dataclass(frozen=True)
class Reproduce:
    """Train a zoo, create its sparse twins, and analyze them: those of the paper, or all
    sparsifiers.

    Rerun the command to resume an interrupted run. The zoos are FOLDER/dense, FOLDER/mp,
    FOLDER/vd and so on; the report is FOLDER/analysis/report.html.
    Example: zoojax reproduce usps-s-seed --members 64 --out runs/usps
    Example: zoojax reproduce usps-s-seed --members 32 --sparsifiers all --out runs/all
    """

    preset: Annotated[str, tyro.conf.Positional, option("PRESET")]
    """Preset of the zoo; `zoojax presets` lists them."""

    out: Annotated[Path, option("FOLDER")]
    """Output folder for the zoos and their analysis."""

    members: Annotated[int | None, option("N")] = None
    """Members per combination of hyperparameters (default: the preset's)."""

    epochs: Annotated[int | None, option("N")] = None
    """Epochs of dense training (default: the preset's). With another number the zoo is called
    PRESET-custom and is not compared with the paper."""

    mp_epochs: Annotated[int, option("N")] = 15
    """Epochs of fine-tuning after magnitude pruning."""

    vd_epochs: Annotated[int, option("N")] = 25
    """Epochs of variational dropout."""

    ratios: Annotated[tuple[float, ...], option("RATIO ...")] = RATIOS
    """Fractions of weights to prune, each in [0, 1); 0 means fine-tuning only."""

    sparsifiers: Annotated[tuple[str, ...], option("NAME ...")] = SPARSIFIERS
    """Sparsifiers to compare; `all` compares all that apply to the architecture."""

    budget: Annotated[int | None, option("N")] = None
    """Epochs that every twin trains in addition to those of the dense zoo, so that all methods
    train for the same number of epochs (default: the number of each method)."""

    log: LogOption = ()
    """Also write event files for TensorBoard to logs/tensorboard in the folder of the zoo."""

    running: RunningOptions = field(default_factory=RunOptions)

    def run(self) -> None:
        """Trains or resumes the zoos, analyzes them, and prints a summary."""
        running = self.running
        configure_jax(running.processes.group)
        from zoojax.cli.analyze import print_analysis
        from zoojax.workflows.reproduce import reproduce

        analysis = reproduce(
            self.preset,
            self.out,
            members=self.members,
            epochs=self.epochs,
            mp_epochs=self.mp_epochs,
            vd_epochs=self.vd_epochs,
            ratios=self.ratios,
            sparsifiers=self.sparsifiers,
            budget=self.budget,
            chunk=running.chunk,
            data_dir=running.data_dir,
            quiet=running.quiet,
            callbacks=callbacks(self.log),
        )
        print_analysis(analysis, running.json, costs=True)
