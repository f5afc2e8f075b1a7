"""`zoojax represent sample REP --members N --out ZOO`: samples members from latent space."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from zoojax.cli.options import RunningOptions, RunOptions, option
from zoojax.runtime.startup import configure_jax


@dataclass(frozen=True)
class Sample:
    """Sample new members from the latent space of an autoencoder, decode and fine-tune them.

    The result is a dense zoo whose epoch 0 contains the decoded members.
    Example: zoojax represent sample reps/usps --members 100 --out zoos/sampled
    """

    representation: Annotated[Path, tyro.conf.Positional, option("REP")]
    """Folder of a hyper-representation trained with --task reconstruct."""

    members: Annotated[int, option("N")]
    """Number of members to sample."""

    out: Annotated[Path, option("ZOO")]
    """Folder of the zoo: new, or from an interrupted run of the same command."""

    zoo: Annotated[Path | None, option("ZOO")] = None
    """Folder of the training zoo, if it or REP was moved."""

    how: Literal["independent", "joint", "best"] = "independent"
    """Sampling method: each latent dimension independently, jointly around one training
    member, or jointly around one of the best training members."""

    epochs: Annotated[int, option("N")] = 5
    """Epochs of fine-tuning."""

    scratch: Annotated[Path | None, option("ZOO")] = None
    """Folder for a baseline trained from scratch with the same seeds, data order and epochs."""

    epoch: Annotated[int | None, option("EPOCH")] = None
    """Epoch of the training zoo whose embeddings are used (default: the last trained on)."""

    best_share: Annotated[float, option("SHARE")] = 0.3
    """Fraction of the training members, by validation accuracy, used by --how best."""

    seed: Annotated[int, option("SEED")] = 1
    """Random seed. Each member depends only on the seed and its own id."""

    running: RunningOptions = field(default_factory=RunOptions)

    def run(self) -> None:
        """Samples, trains, and prints test accuracy by epoch."""
        configure_jax(self.running.processes.group)
        from zoojax.cli.terminal import print_comparison, show_json
        from zoojax.hyper_representation.new_zoos import sample_zoo
        from zoojax.hyper_representation.sampling import accuracies
        from zoojax.storage.zoo import open_zoo

        zoo = sample_zoo(
            self.representation,
            self.members,
            self.out,
            zoo=self.zoo,
            how=self.how,
            epochs=self.epochs,
            scratch=self.scratch,
            epoch=self.epoch,
            best_share=self.best_share,
            seed=self.seed,
            chunk=self.running.chunk,
            data_dir=self.running.data_dir,
            quiet=self.running.quiet,
        )
        zoos = {"sampled": zoo}
        if self.scratch is not None:
            zoos["from scratch"] = open_zoo(self.scratch)
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
            "mean (std) over members, %; epoch 0 is before training",
        )
