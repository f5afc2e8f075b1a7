"""`zoojax represent train ZOO --out FOLDER`: trains an autoencoder on a zoo's states."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from zoojax.cli.options import Flag, option
from zoojax.runtime.startup import configure_jax


@dataclass(frozen=True)
class TrainRepresentation:
    """Learn to reconstruct a zoo's weights and log alphas; interrupted, go on.

    70 % of the members are learned from, 15 % choose, 15 % are for `evaluate`.
    Example: zoojax represent train zoos/usps-vd --preset small --out reps/usps
    """

    zoo: Annotated[Path, tyro.conf.Positional, option("ZOO")]
    """Folder of a variational-dropout twin; of any zoo with --weights-only."""

    out: Annotated[Path, option("REP")]
    """Folder of the hyper-representation: new, or one that the same command began."""

    preset: Literal["small", "paper"] = "small"
    """Sizes and schedule: for half an hour of two cores, or the paper's, for a GPU."""

    task: Literal["reconstruct", "sparsify"] = "reconstruct"
    """Learn weights and the log alphas of the same epoch; or the log alphas of a later
    one, from which `zoojax represent sparsify` prunes members that were never dropped out."""

    alphas_of: Annotated[int | None, option("EPOCH")] = None
    """The epoch whose log alphas the task "sparsify" learns (default: the first at which
    the twin's mean sparsity is at least 80 %)."""

    weights_only: Flag = False
    """Learn weights alone, of a zoo without log alphas."""

    tokens: Annotated[Literal["neuron", "chunk"] | None, option("{neuron,chunk}")] = None
    """One token a unit, or pieces of one length (default: the preset's)."""

    epochs: Annotated[int | None, option("N")] = None
    """Epochs of training (default: the preset's)."""

    batch_size: Annotated[int | None, option("N")] = None
    """States a step, each in two views (default: the preset's)."""

    learning_rate: Annotated[float | None, option("RATE")] = None
    """Of Adam (default: the preset's)."""

    latent: Annotated[int | None, option("N")] = None
    """Dimensions of the embedding (default: the preset's)."""

    precision: Annotated[Literal["float32", "bfloat16"] | None, option("{float32,bfloat16}")] = None
    """Of matrix products (default: bfloat16 on an accelerator, float32 on a CPU)."""

    seed: Annotated[int, option("SEED")] = 1
    """Of the split, the initial weights, the order and the views."""

    quiet: Flag = False
    """Show no progress."""

    def run(self) -> None:
        """Trains, and says how well held-out members are reconstructed."""
        configure_jax()
        import jax

        from zoojax.cli.progress import training_progress
        from zoojax.cli.terminal import say
        from zoojax.hyper_representation.settings import preset
        from zoojax.hyper_representation.trainer import default_alpha_epoch, train_representation
        from zoojax.storage.zoo import open_zoo

        zoo = open_zoo(self.zoo)
        on_cpu = jax.default_backend() == "cpu"
        asked = {
            "tokens": self.tokens,
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "learning_rate": self.learning_rate,
            "latent": self.latent,
            "precision": self.precision or ("float32" if on_cpu else "bfloat16"),
            "seed": self.seed,
        }
        chosen = {name: value for name, value in asked.items() if value is not None}
        alphas_of = self.alphas_of
        if self.task == "sparsify" and alphas_of is None:
            alphas_of = default_alpha_epoch(zoo)
        with training_progress("represent", self.quiet, unit="states") as report:
            found = train_representation(
                self.out,
                zoo,
                replace(preset(self.preset, self.task), **chosen),
                alphas_of=alphas_of,
                weights_only=self.weights_only,
                report=report,
            )
        last = found.losses.tail(1)
        parts = [name for name in last.columns if name.startswith("val_")]
        told = ", ".join(f"{n.removeprefix('val_')} {last[n][0]:.3f}" for n in parts)
        say(f"{found.path}: epoch {found.epoch}; validation losses: {told}")
        if found.config.left_out:
            say(f"note: {found.config.left_out} members with NaN were left out")
