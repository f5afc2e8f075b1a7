"""`zoojax convert`: converts PyTorch zoos to zoojax and back."""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from zoojax.cli.conversion_output import print_conversion, print_export
from zoojax.cli.options import DataDir, Flag, Processes, ProcessOptions, option
from zoojax.runtime.startup import join_processes

if TYPE_CHECKING:
    from zoojax.converters.verification import Verification


@dataclass(frozen=True)
class ConvertOptions:
    """What is converted, and what the files do not say."""

    parent: Annotated[Path | None, option("ZOO")] = None
    """The converted dense zoo, if these are its twins."""

    preset: Annotated[str | None, option("PRESET")] = None
    """The preset of the zoo: defines its images, the learning rates of its twins, and the
    hyperparameters that the files do not report."""

    data: Annotated[str | None, option("IMAGES")] = None
    """The images of the zoo: the path of its dataset.pt, or the name of an image set
    (with --preset, normalized as that defines). Default: ROOT/dataset.pt if it exists."""

    data_dir: DataDir = None
    """Folder of image sets (default: $ZOOJAX_DATA, or else a cache folder)."""

    epochs: Annotated[str, option("EPOCHS")] = "all"
    """The epochs to convert: "all", or numbers and ranges such as 0,25,40-50."""

    where: Annotated[str | None, option("SQL")] = None
    """Convert only members for which this SQL expression over the members table is true, such
    as "learning_rate = 0.001 AND activation = 'tanh'"."""

    max_abs_weight: Annotated[
        float | None, option("WEIGHT"), tyro.conf.arg(aliases=["--largest-weight"])
    ] = None
    """Reject states with a larger absolute weight or bias."""

    min_accuracy: Annotated[
        float | None, option("ACCURACY"), tyro.conf.arg(aliases=["--lowest-accuracy"])
    ] = None
    """Reject states with a lower reported test accuracy, in [0, 1] (even if the files report
    percentages)."""

    strict: Flag = False
    """Stop at the first state that cannot be converted."""

    name: Annotated[str | None, option("NAME")] = None
    """Name of the zoo (default: the name of its folder)."""

    json: Flag = False
    """Print the final summary as JSON on standard output."""

    quiet: Flag = False
    """Show no progress."""

    processes: ProcessOptions = field(default_factory=Processes)

    def arguments(self) -> dict[str, Any]:
        """Returns the options that the functions of `zoojax.converters` take."""
        names = [each.name for each in fields(self) if each.name not in ("json", "processes")]
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class From:
    """Convert a foreign zoo of any known format, and report the recognized format.

    Formats are folders of Ray Tune 1 and 2, folders of checkpoints of any training script, a file
    with one or many members (also safetensors), a matrix of flat weights with tables, and .zip and
    .tar archives of these. States are read in every known dialect; `to-torch --dialect original`
    restores them.

    Example: zoojax convert from downloads/zoo.zip --out zoos/mine
    """

    source: Annotated[Path, tyro.conf.Positional, option("SOURCE")]
    """The folder, file or archive."""

    out: Annotated[Path, option("ZOO")]
    """Folder of the zoo: new, or of an interrupted run of the same command."""

    conversion: tyro.conf.OmitArgPrefixes[ConvertOptions]

    format: Annotated[
        Literal[
            "trials", "checkpoints", "inrs", "haiku", "dataset", "file", "matrix", "safetensors"
        ]
        | None,
        option(None),
    ] = None
    """Format of SOURCE, instead of the recognized one."""

    cast: Flag = False
    """Round float64 weights that do not fit into float32."""

    drop_extra: Flag = False
    """Leave out tensors that belong to no layer."""

    fold_spectral_norm: Flag = False
    """Compute the weights of layers with spectral_norm."""

    state_key: Annotated[str, option("NAME")] = ""
    """State dict to read from files with several, such as state_dict_ema."""

    assume: Annotated[tuple[str, ...], option("NAME=VALUE")] = ()
    """Hyperparameters for members that report none, such as activation=relu."""

    each_network: Flag = False
    """Write one zoo per network and sparsifier, in subfolders of ZOO, instead of only the most
    frequent one."""

    def run(self) -> None:
        """Converts the zoo and prints a summary."""
        join_processes(self.conversion.processes.group)
        from zoojax.converters.api import convert_each, convert_from

        arguments = {
            "format": self.format,
            "cast": self.cast,
            "drop_extra": self.drop_extra,
            "fold_spectral_norm": self.fold_spectral_norm,
            "state_key": self.state_key,
            "assume": self.assume,
            **self.conversion.arguments(),
        }
        if not self.each_network:
            result = convert_from(self.source, self.out, **arguments)
            print_conversion(result, self.out, self.conversion.json)
            return
        for name, result in convert_each(self.source, self.out, **arguments).items():
            print_conversion(result, self.out / name, self.conversion.json)


@dataclass(frozen=True)
class FromTorch:
    """Convert the trial folders of a PyTorch zoo (Ray Tune 1.8 and the zoos' code).

    States that cannot be converted are listed with the reason in rejects.csv in the zoo's
    folder.

    Example: zoojax convert from-torch tune_zoo_usps --out zoos/usps
    """

    root: Annotated[Path, tyro.conf.Positional, option("ROOT")]
    """The folder that contains the trial folders."""

    out: Annotated[Path, option("ZOO")]
    """Folder of the zoo: new, or of an interrupted run of the same command."""

    conversion: tyro.conf.OmitArgPrefixes[ConvertOptions]

    def run(self) -> None:
        """Converts the trials and prints a summary."""
        join_processes(self.conversion.processes.group)
        from zoojax.converters.api import from_torch

        result = from_torch(self.root, self.out, **self.conversion.arguments())
        print_conversion(result, self.out, self.conversion.json)


@dataclass(frozen=True)
class FromDataset:
    """Convert a pickled dataset of models; its split becomes a column of the members table.

    Example: zoojax convert from-dataset dataset_usps.pt --preset usps-s-seed --out zoos/usps-pt
    """

    file: Annotated[Path, tyro.conf.Positional, option("FILE")]
    """The dataset, such as dataset_usps_seed.pt."""

    out: Annotated[Path, option("ZOO")]
    """Folder of the zoo: new, or of an interrupted run of the same command."""

    conversion: tyro.conf.OmitArgPrefixes[ConvertOptions]

    def run(self) -> None:
        """Converts the models and prints a summary."""
        join_processes(self.conversion.processes.group)
        from zoojax.converters.api import from_dataset

        result = from_dataset(self.file, self.out, **self.conversion.arguments())
        print_conversion(result, self.out, self.conversion.json)


@dataclass(frozen=True)
class To:
    """Write a zoo in a format of other tools; `convert from` reads all of them.

    Formats are trial folders with plain state dicts (trials), with torch.nn.utils.prune's keys
    (trials-prune), without unused hidden units (trials-shrunk), or with the original names and
    types of a converted zoo (trials-original); one stacked safetensors file per epoch; a matrix of
    flat weights with tables, as in the Small CNN Zoo; and a pickled dataset.pt with splits, as in
    ModelZooDataset and SANE.

    Example: zoojax convert to zoos/usps --format matrix --out exported/usps
    """

    zoo: Annotated[Path, tyro.conf.Positional, option("ZOO")]
    """Folder of the zoo."""

    out: Annotated[Path, option("FOLDER")]
    """Folder to write to: new, or of an interrupted run of the same command."""

    format: Literal[
        "trials",
        "trials-prune",
        "trials-shrunk",
        "trials-original",
        "safetensors",
        "matrix",
        "dataset",
    ] = "trials"
    """Format of the files."""

    epochs: Annotated[str, option("EPOCHS")] = "all"
    """The epochs to write: "all", or numbers and ranges such as 0,25,40-50."""

    quiet: Flag = False
    """Show no progress."""

    def run(self) -> None:
        """Writes the files and prints how many."""
        from zoojax.converters.api import convert_to

        export = convert_to(
            self.zoo, self.out, format=self.format, epochs=self.epochs, quiet=self.quiet
        )
        print_export(export, self.format, self.out)


@dataclass(frozen=True)
class ToTorch:
    """Write a zoo as PyTorch files: `convert to` with the formats of version 0.1.

    Example: zoojax convert to-torch zoos/usps-vd --out exported/usps-vd
    """

    zoo: Annotated[Path, tyro.conf.Positional, option("ZOO")]
    """Folder of the zoo."""

    out: Annotated[Path, option("FOLDER")]
    """Folder to write to: new, or of an interrupted run of the same command."""

    format: Literal["trial", "prune", "shrunk", "safetensors"] = "trial"
    """Trial folders with plain state dicts; the same with torch.nn.utils.prune's keys for
    pruned members; the same without unused hidden units, for smaller networks after structured
    pruning; or one stacked safetensors file per epoch and the tables."""

    dialect: Literal["plain", "original"] = "plain"
    """Names and types of the zoo, or those of the files that it was converted from."""

    epochs: Annotated[str, option("EPOCHS")] = "all"
    """The epochs to write: "all", or numbers and ranges such as 0,25,40-50."""

    quiet: Flag = False
    """Show no progress."""

    def run(self) -> None:
        """Writes the files and prints how many."""
        from zoojax.converters.api import to_torch

        export = to_torch(
            self.zoo,
            self.out,
            format=self.format,
            dialect=self.dialect,
            epochs=self.epochs,
            quiet=self.quiet,
        )
        print_export(export, self.format, self.out)


@dataclass(frozen=True)
class Verify:
    """Compare a converted zoo with its PyTorch files, which are read again with torch.

    Compares arrays bit for bit, and the logits of both networks on images. Exit status 2
    if anything differs or is missing.

    Example: zoojax convert verify zoos/usps tune_zoo_usps
    """

    zoo: Annotated[Path, tyro.conf.Positional, option("ZOO")]
    """Folder of the converted zoo."""

    source: Annotated[Path, tyro.conf.Positional, option("SOURCE")]
    """The folder, file or archive that it was converted from."""

    sample: Annotated[int, option("N")] = 100
    """Number of states to compare, evenly spread; 0 for all."""

    images: Annotated[int, option("N")] = 64
    """Number of images for both networks: from the zoo's test set, or noise without one."""

    data_dir: DataDir = None
    """Folder of image sets (default: $ZOOJAX_DATA, or else a cache folder)."""

    tolerance: Annotated[float, option("DIFFERENCE")] = 1e-5
    """Largest accepted difference between logits, as a share of the largest logit."""

    json: Flag = False
    """Print JSON on standard output."""

    quiet: Flag = False
    """Show no progress."""

    def run(self) -> None:
        """Verifies the zoo and prints the largest difference."""
        from zoojax.converters.api import DifferenceError, verify

        try:
            result = verify(
                self.zoo,
                self.source,
                sample=self.sample,
                images=self.images,
                data_dir=self.data_dir,
                tolerance=self.tolerance,
                quiet=self.quiet,
            )
        except DifferenceError as error:
            self._print(error.result)
            raise
        self._print(result)

    def _print(self, result: "Verification") -> None:
        from zoojax.cli.terminal import say, show_json

        if self.json:
            show_json(result._asdict())
            return
        say(f"states compared: {result.states}, on {result.images} images")
        say(
            f"largest difference of logits: {result.difference:.2e} of the largest ({result.worst})"
        )
        say(f"states not equal bit for bit: {len(result.unequal)}")
        say(f"states missing from the zoo: {len(result.missing)}")


@dataclass(frozen=True)
class Convert:
    """Convert PyTorch zoos to zoojax and back, without loss, and without running code in files."""

    command: (
        Annotated[From, tyro.conf.subcommand("from")]
        | Annotated[FromTorch, tyro.conf.subcommand("from-torch")]
        | Annotated[FromDataset, tyro.conf.subcommand("from-dataset")]
        | Annotated[To, tyro.conf.subcommand("to")]
        | Annotated[ToTorch, tyro.conf.subcommand("to-torch")]
        | Annotated[Verify, tyro.conf.subcommand("verify")]
    )

    def run(self) -> None:
        """Runs the command."""
        self.command.run()
