"""`zoojax train PRESET --out ZOO`: trains a dense zoo."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from zoojax.cli.hyperparameters import HyperparameterOptions, Hyperparameters, given
from zoojax.cli.options import (
    Flag,
    LogOption,
    RunningOptions,
    RunOptions,
    callbacks,
    option,
)
from zoojax.runtime.startup import configure_jax


@dataclass(frozen=True)
class Train:
    """Train a dense zoo from a preset. Rerun the command to resume an interrupted run.

    Example: zoojax train usps-s-seed --members 64 --out zoos/usps
    """

    preset: Annotated[str, tyro.conf.Positional, option("PRESET")]
    """Name of the preset; `zoojax presets` lists them."""

    out: Annotated[Path, option("ZOO")]
    """Folder of the zoo: new, or of an interrupted run of the same command."""

    members: Annotated[int | None, option("N")] = None
    """Members per combination of hyperparameters (default: the preset's).
    Seed zoos have one combination, grid zoos many."""

    epochs: Annotated[int | None, option("N")] = None
    """Number of epochs (default: the preset's)."""

    first_seed: Annotated[int, option("SEED")] = 1
    """Lowest seed of the members."""

    architecture: Annotated[str | None, option("NAME")] = None
    """Another architecture than the preset's: "small", "medium", "large", "lenet5", "gap_cnn",
    "gap_cnn_32", "siren", an MLP such as "mlp-64-32", a SIREN such as "siren-64-64", "resnet18",
    a ResNet of another width such as "resnet18-16" and "resnet50-16", a vision transformer such as
    "vit-64-4-4-8" (width, blocks, heads, side of the patches), a chain of layers such as
    "chain-28-c8x5-m2-a-f-d", one that a --plugin registers, or MODULE:OBJECT, a function of yours.
    Images are resized to its input size, except for SIRENs."""

    data: Annotated[str | None, option("IMAGES")] = None
    """Another image set than the preset's: a name, or the path of an .npz file.
    It is resized and normalized like the preset's."""

    keep_data: Flag = False
    """Store the images in the zoo, so that it and its twins can be moved without them."""

    data_order: Literal["member", "shared"] = "member"
    """Shuffle the images for each member by its own seed, or once for all members (faster)."""

    steps_per_epoch: Annotated[int | None, option("N")] = None
    """Steps per epoch of members that learn one image each, such as those of mnist-siren
    (default: the preset's)."""

    split: Annotated[str | None, option("PART")] = None
    """Part of the image set that these members learn: train, val, test or all (default: all).
    Seed 1 learns the first image, seed 2 the second, ..."""

    hyperparameters: HyperparameterOptions = field(default_factory=Hyperparameters)

    name: Annotated[str | None, option("NAME")] = None
    """Name of the zoo (default: the preset's, or PRESET-custom if options change the preset).
    Only --members, --first-seed and --keep-data do not count as changes.
    A changed preset is not compared with the paper."""

    log: LogOption = ()
    """Also write event files for TensorBoard to logs/tensorboard in the folder of the zoo."""

    running: RunningOptions = field(default_factory=RunOptions)

    def run(self) -> None:
        """Trains the zoo and prints its metrics."""
        configure_jax(self.running.processes.group)
        from zoojax.api.dense import train_zoo
        from zoojax.architectures.registry import is_reference
        from zoojax.cli.plugins import load_architecture
        from zoojax.cli.terminal import show

        if self.architecture is not None and is_reference(self.architecture):
            load_architecture(self.architecture)
        zoo = train_zoo(
            self.preset,
            self.out,
            members=self.members,
            epochs=self.epochs,
            first_seed=self.first_seed,
            architecture=self.architecture,
            data=self.data,
            keep_data=self.keep_data,
            data_order=self.data_order,
            steps_per_epoch=self.steps_per_epoch,
            split=self.split,
            **given(self.hyperparameters),
            name=self.name,
            chunk=self.running.chunk,
            data_dir=self.running.data_dir,
            quiet=self.running.quiet,
            callbacks=callbacks(self.log),
        )
        last = zoo.metrics.filter(epoch=zoo.epochs[-1])
        show(zoo, last, as_json=self.running.json, title=f"{zoo.config.name} in {zoo.path}")
