"""`zoojax represent train ZOO... --out REP`: trains an autoencoder on the states of zoos."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from zoojax.cli.options import DataDir, Flag, option
from zoojax.runtime.startup import configure_jax


@dataclass(frozen=True)
class TrainRepresentation:
    """Train an autoencoder on the weights and log alphas of zoos; resumes if interrupted.

    70 % of the members are for training, 15 % for validation, and 15 % for `evaluate`; a member
    and its twins are on the same side.
    Example: zoojax represent train zoos/usps zoos/usps-vd --out reps/usps
    """

    zoos: Annotated[tuple[Path, ...], tyro.conf.Positional, option("ZOO")]
    """Folders of zoos of one architecture, such as a dense zoo and its variational-dropout twin.
    One must have log alphas; none, with --weights-only."""

    out: Annotated[Path, option("REP")]
    """Folder of the hyper-representation: new, or from an interrupted run of the same command."""

    preset: Literal["small", "paper"] = "small"
    """Sizes and schedule: small trains in half an hour on two cores; paper needs a GPU."""

    task: Literal["reconstruct", "sparsify"] = "reconstruct"
    """Reconstruct weights and the log alphas of the same epoch, or predict the log alphas of a
    later epoch, by which `zoojax represent sparsify` prunes dense members."""

    alphas_of: Annotated[int | None, option("EPOCH")] = None
    """Epoch whose log alphas the task "sparsify" predicts (default: the first at which the
    twin's mean sparsity is at least 80 %)."""

    weights_only: Flag = False
    """Reconstruct weights only, for zoos without log alphas."""

    without_behavior: Flag = False
    """Use the weights alone. Otherwise, where the images are known, the encoder also sees
    predictions on training images, and reconstructed members must predict as the originals."""

    tokens: Annotated[Literal["neuron", "chunk"] | None, option("{neuron,chunk}")] = None
    """One token per unit, or chunks of equal length (default: the preset's)."""

    epochs: Annotated[int | None, option("N")] = None
    """Training epochs (default: the preset's)."""

    batch_size: Annotated[int | None, option("N")] = None
    """States per step, each in two views (default: the preset's)."""

    learning_rate: Annotated[float | None, option("RATE")] = None
    """Learning rate of Adam (default: the preset's)."""

    latent: Annotated[int | None, option("N")] = None
    """Dimension of the embedding (default: the preset's)."""

    precision: Annotated[Literal["float32", "bfloat16"] | None, option("{float32,bfloat16}")] = None
    """Precision of matrix products (default: bfloat16 on an accelerator, float32 on a CPU)."""

    seed: Annotated[int, option("SEED")] = 1
    """Seed of the split, the initial weights, the sample order and the views."""

    data_dir: DataDir = None
    """Folder of image sets (default: $ZOOJAX_DATA, or else a cache folder)."""

    quiet: Flag = False
    """Show no progress."""

    def run(self) -> None:
        """Trains the autoencoder and prints its validation losses."""
        configure_jax()
        from zoojax.cli.terminal import say
        from zoojax.hyper_representation.api import train_representation

        representation = train_representation(
            self.zoos,
            self.out,
            preset=self.preset,
            task=self.task,
            alphas_of=self.alphas_of,
            weights_only=self.weights_only,
            tokens=self.tokens,
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            latent=self.latent,
            precision=self.precision,
            without_behavior=self.without_behavior,
            seed=self.seed,
            data_dir=self.data_dir,
            quiet=self.quiet,
        )
        last = representation.losses.tail(1)
        columns = [name for name in last.columns if name.startswith("val_")]
        losses = ", ".join(f"{n.removeprefix('val_')} {last[n][0]:.3f}" for n in columns)
        say(f"{representation.path}: epoch {representation.epoch}; validation losses: {losses}")
        if excluded := sum(zoo.left_out for zoo in representation.config.zoos):
            say(f"note: excluded {excluded} {'member' if excluded == 1 else 'members'} with NaN")
