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
    an MLP such as "mlp-64-32", one that a --plugin registers, or MODULE:OBJECT, a function of
    yours. Images are resized to its input size."""

    data: Annotated[str | None, option("IMAGES")] = None
    """Another image set than the preset's: a name, or the path of an .npz file.
    It is resized and normalized like the preset's."""

    keep_data: Flag = False
    """Store the images in the zoo, so that it and its twins can be moved without them."""

    data_order: Literal["member", "shared"] = "member"
    """Shuffle the images for each member by its own seed, or once for all members (faster)."""

    batch_size: Annotated[int | None, option("N")] = None
    """Images per step (default: the preset's)."""

    learning_rate: Annotated[tuple[float, ...] | None, option("RATE ...")] = None
    """Learning rates (default: the preset's)."""

    weight_decay: Annotated[tuple[float, ...] | None, option("DECAY ...")] = None
    """Weight decays (default: the preset's)."""

    name: Annotated[str | None, option("NAME")] = None
    """Name of the zoo (default: the preset's, or PRESET-custom if options change the preset).
    Only --members, --first-seed and --keep-data do not count as changes.
    A changed preset is not compared with the paper."""

    running: RunningOptions = field(default_factory=RunOptions)

    def run(self) -> None:
        """Trains the zoo and prints its metrics."""
        configure_jax(self.running.processes.group)
        from zoojax.api.dense import train_zoo
        from zoojax.cli.progress import training_progress
        from zoojax.cli.terminal import show
        from zoojax.presets import preset, recorded

        settings = self._settings(preset(self.preset))
        default_name, recorded_preset = recorded(self.preset, settings)
        with training_progress(f"train {self.preset}", self.running.quiet) as report:
            zoo = train_zoo(
                self.out,
                self.name or default_name,
                settings.grid,
                settings.architecture,
                settings.data,
                epochs=settings.epochs,
                batch_size=settings.batch_size,
                data_order=settings.data_order,
                first_seed=self.first_seed,
                chunk=self.running.chunk,
                preset=recorded_preset,
                keep_data=self.keep_data,
                data_dir=self.running.data_dir,
                report=report,
            )
        last = zoo.metrics.filter(epoch=zoo.epochs[-1])
        show(zoo, last, as_json=self.running.json, title=f"{zoo.config.name} in {zoo.path}")

    def _settings(self, chosen: "Preset") -> "Preset":
        """Returns the preset with the changes of this command's options."""
        from zoojax.architectures.registry import architecture, is_reference
        from zoojax.cli.plugins import load_architecture

        grid, spec = chosen.grid, chosen.data
        name = chosen.architecture if self.architecture is None else self.architecture
        if is_reference(name):
            load_architecture(name)
        if name != chosen.architecture:
            spec = replace(spec, size=architecture(name, spec.channels).size)
        if self.members is not None:
            grid = replace(grid, seeds=self.members)
        if self.learning_rate is not None:
            grid = replace(grid, learning_rates=self.learning_rate)
        if self.weight_decay is not None:
            grid = replace(grid, weight_decays=self.weight_decay)
        if self.data is not None and self.data != spec.name:
            # An absolute path, so that the images are found from any folder.
            is_file = self.data.endswith(".npz")
            images = str(expand_user(self.data).resolve()) if is_file else self.data
            spec = replace(spec, name=images, train=None, val=None, crop=False)
        return replace(
            chosen,
            architecture=name,
            grid=grid,
            data=spec,
            epochs=chosen.epochs if self.epochs is None else self.epochs,
            batch_size=chosen.batch_size if self.batch_size is None else self.batch_size,
            data_order=self.data_order,
        )
