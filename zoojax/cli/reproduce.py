"""`zoojax reproduce PRESET --out FOLDER`: trains a zoo and both twins, and analyzes them."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from zoojax.cli.options import RunningOptions, RunOptions, option
from zoojax.runtime.startup import configure_jax

if TYPE_CHECKING:
    from zoojax.sparsifiers.base import Sparsifier
    from zoojax.storage.zoo import Zoo
    from zoojax.training.trainer import ProgressCallback

# Those of the paper, and two that allow locating a crossover between 0.7 and 0.9.
RATIOS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9)


@dataclass(frozen=True)
class Reproduce:
    """Train a zoo, create both sparse twins, and analyze all three: the paper in one command.

    Rerun the command to resume an interrupted run. The zoos are FOLDER/dense,
    FOLDER/mp and FOLDER/vd; the report is FOLDER/analysis/report.html.
    Example: zoojax reproduce usps-s-seed --members 64 --out runs/usps
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

    running: RunningOptions = field(default_factory=RunOptions)

    def run(self) -> None:
        """Trains or resumes the zoos, then analyzes them."""
        from zoojax.runtime import distributed

        configure_jax(self.running.processes.group)
        from zoojax.analysis.folder import check_folder
        from zoojax.api.dense import train_zoo
        from zoojax.api.twins import sparsify
        from zoojax.cli.analyze import write_analysis
        from zoojax.presets import preset, recorded
        from zoojax.sparsifiers.magnitude import MagnitudePruning
        from zoojax.sparsifiers.variational_dropout import VariationalDropout

        base, running = preset(self.preset), self.running
        # Checked before training, which can take hours.
        check_folder(self.out / "analysis")
        seeds = base.grid.seeds if self.members is None else self.members
        config = replace(
            base,
            grid=replace(base.grid, seeds=seeds),
            epochs=base.epochs if self.epochs is None else self.epochs,
        )
        name, recorded_preset = recorded(self.preset, config)
        shared = {"chunk": running.chunk, "data_dir": running.data_dir}

        def train_dense(path: Path, report: "ProgressCallback | None") -> "Zoo":
            return train_zoo(
                *(path, name, config.grid, config.architecture, config.data),
                epochs=config.epochs,
                batch_size=config.batch_size,
                preset=recorded_preset,
                report=report,
                **shared,
            )

        def sparsify_with(
            sparsifier: "Sparsifier", epochs: int
        ) -> Callable[[Path, "ProgressCallback | None"], "Zoo"]:
            settings = base.twin(sparsifier.name)
            rate = None if settings is None else settings.learning_rate
            options = {"learning_rate": rate, "epochs": epochs, **shared}
            return lambda path, report: sparsify(zoo, sparsifier, path, report=report, **options)

        pruning, dropout = MagnitudePruning(self.ratios), VariationalDropout()
        zoo = _with_progress(self.out / "dense", f"train {self.preset}", train_dense, running.quiet)
        twins = [
            _with_progress(
                *(self.out / each.method, each.label, sparsify_with(each, epochs), running.quiet)
            )
            for each, epochs in ((pruning, self.mp_epochs), (dropout, self.vd_epochs))
        ]
        with distributed.main_process_first() as is_main:
            if is_main:
                write_analysis(
                    *(zoo, twins, self.out / "analysis"),
                    *(running.data_dir, running.quiet, running.json),
                )


def _with_progress(
    path: Path, label: str, create: Callable[[Path, "ProgressCallback | None"], "Zoo"], quiet: bool
) -> "Zoo":
    """Creates the zoo at a path with a progress bar, resumes it, or opens it if it is complete."""
    from zoojax.cli.progress import training_progress

    with training_progress(label, quiet) as report:
        return create(path, report)
