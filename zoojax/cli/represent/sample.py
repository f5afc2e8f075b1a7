"""`zoojax represent sample REP --members N --out ZOO`: new members, from latent space."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from zoojax.cli.options import RunningOptions, RunOptions, option
from zoojax.runtime.startup import configure_jax

if TYPE_CHECKING:
    from zoojax.storage.zoo import Zoo
    from zoojax.training.trainer import ProgressCallback


@dataclass(frozen=True)
class Sample:
    """Sample new members from an autoencoder's latent space, decode and fine-tune them.

    They are a dense zoo like any other; epoch 0 are the members as decoded.
    Example: zoojax represent sample reps/usps --members 100 --out zoos/sampled
    """

    representation: Annotated[Path, tyro.conf.Positional, option("REP")]
    """Folder of a hyper-representation that reconstructs weights."""

    members: Annotated[int, option("N")]
    """Members to sample."""

    out: Annotated[Path, option("ZOO")]
    """Folder of the zoo: new, or one that the same command began."""

    zoo: Annotated[Path | None, option("ZOO")] = None
    """Folder of the zoo that it was learned from, if either was moved."""

    how: Literal["independent", "joint", "best"] = "independent"
    """Every latent dimension by itself, or around one training member, or around one of
    the best of them."""

    epochs: Annotated[int, option("N")] = 5
    """Epochs of fine-tuning."""

    scratch: Annotated[Path | None, option("ZOO")] = None
    """Folder for members trained from scratch beside them: same seeds, order and epochs."""

    epoch: Annotated[int | None, option("EPOCH")] = None
    """Epoch of the zoo whose embeddings are sampled from (default: the last learned from)."""

    best_share: Annotated[float, option("SHARE")] = 0.3
    """Share of the training members that are the best, by validation accuracy."""

    seed: Annotated[int, option("SEED")] = 1
    """Of the draws; a member depends on it and on its own number alone."""

    running: RunningOptions = field(default_factory=RunOptions)

    def run(self) -> None:
        """Samples, trains, and prints test accuracy by epoch."""
        configure_jax(self.running.processes.group)
        from zoojax.cli.terminal import print_comparison, show_json
        from zoojax.hyper_representation.representation import open_representation
        from zoojax.hyper_representation.sampling import accuracies, sample_zoo, train_from_scratch

        representation = open_representation(self.representation)
        source = representation.training_zoo(self.zoo)
        options = {"chunk": self.running.chunk, "data_dir": self.running.data_dir}

        def sample(report: "ProgressCallback | None") -> "Zoo":
            return sample_zoo(
                self.out,
                representation,
                source,
                self.members,
                how=self.how,
                epochs=self.epochs,
                epoch=self.epoch,
                best_share=self.best_share,
                seed=self.seed,
                report=report,
                **options,
            )

        zoos = {"sampled": self._made("sampled", sample)}
        if self.scratch is not None:
            folder, beside = self.scratch, zoos["sampled"]
            zoos["from scratch"] = self._made(
                "from scratch",
                lambda report: train_from_scratch(folder, beside, source, report=report, **options),
            )
        table = accuracies(zoos)
        if self.running.json:
            paths = {name: str(zoo.path) for name, zoo in zoos.items()}
            show_json({"zoos": paths, "rows": table.to_dicts()})
            return
        rows = []
        for (epoch,), part in table.group_by("epoch", maintain_order=True):
            cells = part.select("population", "test_acc_mean", "test_acc_std").iter_rows()
            rows.append((str(epoch), {name: (mean, std) for name, mean, std in cells}))
        print_comparison(
            f"test accuracy of {self.members} members in {self.out}",
            "epoch",
            rows,
            "mean (std) over members, %; epoch 0 is before any training",
        )

    def _made(self, label: str, make: Callable[["ProgressCallback | None"], "Zoo"]) -> "Zoo":
        """A zoo made, gone on with, or finished by an earlier call while the other was not."""
        from zoojax.cli.progress import training_progress

        with training_progress(label, self.running.quiet) as report:
            return make(report)
