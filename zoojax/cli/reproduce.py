"""`zoojax reproduce PRESET --out FOLDER`: a zoo, both its twins, and their analysis."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from zoojax.cli.options import RunningOptions, RunOptions, option
from zoojax.runtime.startup import configure_jax

if TYPE_CHECKING:
    from zoojax.storage.zoo import Zoo
    from zoojax.training.trainer import ProgressCallback

PAPER_RATIOS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True)
class Reproduce:
    """Train a zoo, prune it, drop it out, and analyse all three: the paper in one command.

    The same command resumes an interrupted run. The zoos are FOLDER/dense,
    FOLDER/mp and FOLDER/vd; the page is FOLDER/analysis/report.html.
    Example: zoojax reproduce usps-s-seed --members 64 --out runs/usps
    """

    preset: Annotated[str, tyro.conf.Positional, option("PRESET")]
    """Which zoo; `zoojax presets` lists them."""

    out: Annotated[Path, option("FOLDER")]
    """Folder of the zoos and their analysis."""

    members: Annotated[int | None, option("N")] = None
    """Members of each combination of hyper-parameters (default: the preset's)."""

    epochs: Annotated[int | None, option("N")] = None
    """Epochs of dense training (default: the preset's). With others the zoo is called
    PRESET-custom, and it is not compared with the paper."""

    mp_epochs: Annotated[int, option("N")] = 15
    """Epochs of fine-tuning after pruning."""

    vd_epochs: Annotated[int, option("N")] = 25
    """Epochs of variational dropout."""

    ratios: Annotated[tuple[float, ...], option("RATIO ...")] = PAPER_RATIOS
    """Shares of weights to prune, each in [0, 1); 0 is fine-tuning alone."""

    running: RunningOptions = field(default_factory=RunOptions)

    def run(self) -> None:
        """Makes what is missing of the zoos, and the analysis."""
        from zoojax.runtime import distributed

        configure_jax(self.running.processes.group)
        from zoojax.analysis.folder import check_folder
        from zoojax.api.dense import train_zoo
        from zoojax.api.twins import prune_zoo, train_variational_dropout
        from zoojax.cli.analyze import write_analysis
        from zoojax.presets import preset, recorded

        chosen, running = preset(self.preset), self.running
        # Hours before it is written.
        check_folder(self.out / "analysis")
        seeds = chosen.grid.seeds if self.members is None else self.members
        made = replace(
            chosen,
            grid=replace(chosen.grid, seeds=seeds),
            epochs=chosen.epochs if self.epochs is None else self.epochs,
        )
        name, kept = recorded(self.preset, made)
        shared = {"chunk": running.chunk, "data_dir": running.data_dir}

        def dense(path: Path, report: "ProgressCallback | None") -> "Zoo":
            return train_zoo(
                *(path, name, made.grid, made.architecture, made.data),
                epochs=made.epochs,
                batch_size=made.batch_size,
                preset=kept,
                report=report,
                **shared,
            )

        def pruned(path: Path, report: "ProgressCallback | None") -> "Zoo":
            return prune_zoo(
                *(path, zoo, self.ratios),
                learning_rate=chosen.mp_learning_rate,
                epochs=self.mp_epochs,
                report=report,
                **shared,
            )

        def dropped_out(path: Path, report: "ProgressCallback | None") -> "Zoo":
            return train_variational_dropout(
                *(path, zoo),
                learning_rate=chosen.vd_learning_rate,
                epochs=self.vd_epochs,
                report=report,
                **shared,
            )

        zoo = _made(self.out / "dense", f"train {self.preset}", dense, running.quiet)
        mp = _made(self.out / "mp", "prune and fine-tune", pruned, running.quiet)
        vd = _made(self.out / "vd", "variational dropout", dropped_out, running.quiet)
        with distributed.main_process_first() as first:
            if first:
                write_analysis(
                    *(zoo, [mp, vd], self.out / "analysis"),
                    *(running.data_dir, running.quiet, running.json),
                )


def _made(
    path: Path, label: str, make: Callable[[Path, "ProgressCallback | None"], "Zoo"], quiet: bool
) -> "Zoo":
    """The zoo at a path: made, gone on with, or the finished one if it is the same."""
    from zoojax.cli.progress import training_progress

    with training_progress(label, quiet) as report:
        return make(path, report)
