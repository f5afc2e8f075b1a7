"""`zoojax represent sparsify REP ZOO --out TWIN`: prunes by predicted log alphas."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from zoojax.cli.options import Flag, RunningOptions, RunOptions, option
from zoojax.runtime.startup import configure_jax

if TYPE_CHECKING:
    import polars as pl

    from zoojax.hyper_representation.new_zoos import ZeroShotResult
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
        configure_jax(self.running.processes.group)
        from zoojax.hyper_representation.new_zoos import sparsify_zero_shot

        result = sparsify_zero_shot(
            self.representation,
            self.zoo,
            self.out,
            ratios=self.ratios,
            held_out_only=self.held_out_only,
            epochs=self.epochs,
            epoch=self.epoch,
            learning_rate=self.learning_rate,
            comparison=self.comparison,
            zoo=self.source,
            chunk=self.running.chunk,
            data_dir=self.running.data_dir,
            quiet=self.running.quiet,
        )
        self._print(result)

    def _print(self, result: "ZeroShotResult") -> None:
        from zoojax.cli.terminal import say, show, show_json, summary

        twin, comparison = result.zoo, result.comparison
        last = twin.metrics.filter(epoch=twin.epochs[-1])
        if self.running.json:
            rows = summary(twin, last).to_dicts()
            compared = result.note if comparison is None else comparison.to_dicts()
            show_json({"zoo": str(twin.path), "rows": rows, "comparison": compared})
            return
        show(twin, last, as_json=False, title=f"{twin.config.name} in {twin.path}")
        if comparison is None:
            say(f"no comparison with other methods: {result.note}")
            return
        _show(comparison, result.parent)
        if self.comparison is not None:
            say(f"comparison: {self.comparison}")


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
