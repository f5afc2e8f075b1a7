"""`zoojax represent sparsify REP ZOO --out TWIN`: prunes by predicted log alphas."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from zoojax.cli.options import Flag, RunningOptions, RunOptions, option
from zoojax.runtime.startup import configure_jax

if TYPE_CHECKING:
    import polars as pl

    from zoojax.hyper_representation.representation import Representation
    from zoojax.storage.zoo import Zoo


@dataclass(frozen=True)
class ZeroShot:
    """Prune dense members by the log alphas that an autoencoder predicts from their weights.

    For held-out members, also compares the accuracy at each sparsity with magnitude pruning,
    random pruning and the mask of the twin on which the autoencoder was trained.
    Example: zoojax represent sparsify reps/usps-sparsify zoos/usps --out zoos/zero-shot
    """

    representation: Annotated[Path, tyro.conf.Positional, option("REP")]
    """Folder of a hyper-representation with log alphas, preferably from --task sparsify."""

    zoo: Annotated[Path, tyro.conf.Positional, option("ZOO")]
    """Folder of the dense zoo."""

    out: Annotated[Path, option("TWIN")]
    """Folder of the twin: new, or from an interrupted run of the same command."""

    ratios: Annotated[tuple[float, ...], option("RATIO ...")] = (0.5, 0.6, 0.7, 0.8, 0.9)
    """Fractions of the network's weights to prune, each in [0, 1)."""

    held_out_only: Flag = False
    """Prune only members used neither for training nor for validation of the autoencoder."""

    epochs: Annotated[int, option("N")] = 0
    """Epochs of fine-tuning after pruning."""

    epoch: Annotated[int | None, option("EPOCH")] = None
    """Epoch of the dense zoo to start from (default: the last)."""

    learning_rate: Annotated[float | None, option("RATE")] = None
    """Learning rate of fine-tuning (default: the preset's, or each member's own)."""

    comparison: Annotated[Path | None, option("FOLDER")] = None
    """Folder for the comparison of methods: zero_shot.csv, .svg and .png."""

    source: Annotated[Path | None, option("ZOO", "zoo")] = None
    """Folder of the training zoo, if it or REP was moved."""

    running: RunningOptions = field(default_factory=RunOptions)

    def run(self) -> None:
        """Creates the twin, compares methods, and prints both."""
        from zoojax.runtime import distributed

        configure_jax(self.running.processes.group)
        from zoojax.cli.progress import training_progress
        from zoojax.hyper_representation.representation import open_representation
        from zoojax.hyper_representation.zero_shot import zero_shot_twin
        from zoojax.storage.zoo import open_zoo

        representation, parent = open_representation(self.representation), open_zoo(self.zoo)
        with training_progress("prune by predicted log alphas", self.running.quiet) as report:
            twin = zero_shot_twin(
                self.out,
                representation,
                parent,
                self.ratios,
                held_out_only=self.held_out_only,
                training_zoo=self.source,
                epochs=self.epochs,
                epoch=self.epoch,
                learning_rate=self.learning_rate,
                chunk=self.running.chunk,
                data_dir=self.running.data_dir,
                report=report,
            )
        with distributed.main_process_first() as first:
            if first:
                self._report(twin, representation, parent)

    def _report(self, twin: "Zoo", representation: "Representation", parent: "Zoo") -> None:
        from zoojax.cli.terminal import say, show, show_json, summary

        last = twin.metrics.filter(epoch=twin.epochs[-1])
        comparison = self._compare(representation, parent)
        if self.running.json:
            rows = summary(twin, last).to_dicts()
            compared = comparison if isinstance(comparison, str) else comparison.to_dicts()
            show_json({"zoo": str(twin.path), "rows": rows, "comparison": compared})
            return
        show(twin, last, as_json=False, title=f"{twin.config.name} in {twin.path}")
        if isinstance(comparison, str):
            say(f"no comparison with other methods: {comparison}")
        else:
            _show(comparison, parent)
            if self.comparison is not None:
                say(f"comparison: {self.comparison}")

    def _compare(self, representation: "Representation", parent: "Zoo") -> "pl.DataFrame | str":
        """Compares methods and writes the table if requested, or returns why it cannot."""
        from zoojax.errors import ZoojaxError
        from zoojax.hyper_representation.zero_shot import check_parent, compare
        from zoojax.storage import zoo_images

        try:
            twin = representation.training_zoo(self.source)
            check_parent(twin, parent)
        except ZoojaxError as error:
            return str(error)
        images = zoo_images.load_images(parent, self.running.data_dir)
        table = compare(representation, parent, twin, images, self.ratios, self.epoch)
        if self.comparison is not None:
            _write(table, parent, self.comparison)
        return table


def _show(table: "pl.DataFrame", parent: "Zoo") -> None:
    from zoojax.cli.terminal import print_comparison

    rows = []
    for at_threshold, sparsity in sorted(set(table.select("at_threshold", "sparsity").iter_rows())):
        subset = table.filter(sparsity=sparsity, at_threshold=at_threshold)
        cells = subset.select("method", "test_acc_mean", "test_acc_std").iter_rows()
        label = f"{100 * sparsity:.1f} %{', log alpha >= 3' if at_threshold else ''}"
        rows.append((label, {method: (mean, std) for method, mean, std in cells}))
    print_comparison(
        f"test accuracy of {table['members'][0]} held-out members of {parent.config.name}",
        "sparsity",
        rows,
        "mean (std) over members, %; pruned without training",
    )


def _write(table: "pl.DataFrame", parent: "Zoo", folder: Path) -> None:
    from zoojax import figures
    from zoojax.figures.zero_shot import zero_shot, zero_shot_caption
    from zoojax.filesystem.atomic import make_folder
    from zoojax.filesystem.tables import write_csv

    make_folder(folder)
    write_csv(folder / "zero_shot.csv", table)
    caption = zero_shot_caption(parent.config.name, table["members"][0])
    figures.save(zero_shot(table), folder, "zero_shot", caption)
