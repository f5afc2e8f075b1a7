"""`zoojax train PRESET --out ZOO`: trains a dense zoo."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from zoojax.cli.options import Flag, RunningOptions, RunOptions, option
from zoojax.filesystem.paths import expand_user
from zoojax.runtime.startup import configure_jax

if TYPE_CHECKING:
    from zoojax.presets import Preset


@dataclass(frozen=True)
class Train:
    """Train a dense zoo from a preset. The same command resumes an interrupted run.

    Example: zoojax train usps-s-seed --members 64 --out zoos/usps
    """

    preset: Annotated[str, tyro.conf.Positional, option("PRESET")]
    """Which zoo; `zoojax presets` lists them."""

    out: Annotated[Path, option("ZOO")]
    """Folder of the zoo: new, or one that the same command began."""

    members: Annotated[int | None, option("N")] = None
    """Members of each combination of hyper-parameters (default: the preset's; seed zoos
    have one combination, grid zoos many)."""

    epochs: Annotated[int | None, option("N")] = None
    """Epochs to train (default: the preset's)."""

    first_seed: Annotated[int, option("SEED")] = 1
    """The lowest seed."""

    data: Annotated[str | None, option("IMAGES")] = None
    """Another image set than the preset's: a name, or the path of an .npz with images
    and labels. It is resized and normalised as the preset's would be."""

    keep_data: Flag = False
    """Store the images in the zoo, so that it and its twins can be moved without them."""

    data_order: Literal["member", "shared"] = "member"
    """Whether each member shuffles by its own seed, or all see one order (faster)."""

    batch_size: Annotated[int | None, option("N")] = None
    """Images a step (default: the preset's)."""

    learning_rate: Annotated[tuple[float, ...] | None, option("RATE ...")] = None
    """Learning rates in place of the preset's."""

    weight_decay: Annotated[tuple[float, ...] | None, option("DECAY ...")] = None
    """Weight decays in place of the preset's."""

    name: Annotated[str | None, option("NAME")] = None
    """Name of the zoo (default: the preset's; PRESET-custom if --epochs, --data,
    --data-order, --batch-size, --learning-rate or --weight-decay change the preset: such a
    zoo is not compared with the paper)."""

    running: RunningOptions = field(default_factory=RunOptions)

    def run(self) -> None:
        """Trains the zoo and prints how its members do."""
        configure_jax(self.running.processes.group)
        from zoojax.api.dense import train_zoo
        from zoojax.cli.progress import training_progress
        from zoojax.cli.terminal import show
        from zoojax.presets import preset, recorded

        made = self._made(preset(self.preset))
        name, kept = recorded(self.preset, made)
        with training_progress(f"train {self.preset}", self.running.quiet) as report:
            zoo = train_zoo(
                self.out,
                self.name or name,
                made.grid,
                made.architecture,
                made.data,
                epochs=made.epochs,
                batch_size=made.batch_size,
                data_order=made.data_order,
                first_seed=self.first_seed,
                chunk=self.running.chunk,
                preset=kept,
                keep_data=self.keep_data,
                data_dir=self.running.data_dir,
                report=report,
            )
        last = zoo.metrics.filter(epoch=zoo.epochs[-1])
        show(zoo, last, as_json=self.running.json, title=f"{zoo.config.name} in {zoo.path}")

    def _made(self, chosen: "Preset") -> "Preset":
        """The preset with what was asked for in place of its own."""
        grid, spec = chosen.grid, chosen.data
        if self.members is not None:
            grid = replace(grid, seeds=self.members)
        if self.learning_rate is not None:
            grid = replace(grid, learning_rates=self.learning_rate)
        if self.weight_decay is not None:
            grid = replace(grid, weight_decays=self.weight_decay)
        if self.data is not None and self.data != spec.name:
            # An absolute path, so that the zoo finds its images from anywhere.
            own = self.data.endswith(".npz")
            name = str(expand_user(self.data).resolve()) if own else self.data
            spec = replace(spec, name=name, train=None, val=None, crop=False)
        return replace(
            chosen,
            grid=grid,
            data=spec,
            epochs=chosen.epochs if self.epochs is None else self.epochs,
            batch_size=chosen.batch_size if self.batch_size is None else self.batch_size,
            data_order=self.data_order,
        )
