"""`zoojax convert`: converts torch zoos to zoos and back."""

import re
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from zoojax.cli.options import DataDir, Flag, Processes, ProcessOptions, option
from zoojax.errors import ZoojaxError
from zoojax.runtime.startup import join_processes
from zoojax.text import printable

if TYPE_CHECKING:
    from zoojax.converters.sources import Source


@dataclass(frozen=True)
class ConvertOptions:
    """What is converted, and what the files do not say."""

    parent: Annotated[Path | None, option("ZOO")] = None
    """The dense zoo, already converted, whose twins these are."""

    preset: Annotated[str | None, option("PRESET")] = None
    """The preset of the zoo: defines its images, the learning rates of its twins, and the
    hyperparameters that the files do not report."""

    data: Annotated[str | None, option("IMAGES")] = None
    """The images of the zoo: the path of its dataset.pt, or the name of an image set
    (with --preset, normalized as that defines). Default: ROOT/dataset.pt if it exists."""

    data_dir: DataDir = None
    """The folder of image sets (default: $ZOOJAX_DATA, else a cache folder)."""

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


@dataclass(frozen=True)
class FromTorch:
    """Convert the trial folders of a torch zoo (Ray Tune 1.8 and the zoos' code).

    States that cannot be converted are listed with the reason in rejects.csv in the zoo's
    folder.

    Example: zoojax convert from-torch tune_zoo_usps --out zoos/usps
    """

    root: Annotated[Path, tyro.conf.Positional, option("ROOT")]
    """The folder that contains the trial folders."""

    out: Annotated[Path, option("ZOO")]
    """Folder of the zoo: new, or of the same conversion, interrupted, which resumes."""

    conversion: tyro.conf.OmitArgPrefixes[ConvertOptions]

    def run(self) -> None:
        """Converts the trials and prints a summary."""
        require_torch()
        join_processes(self.conversion.processes.group)
        from zoojax.converters.sources import from_trials
        from zoojax.filesystem.reading import exists

        images = self.root / "dataset.pt"
        own_images = images if exists(images) else None
        _convert(from_trials(self.root), self.out, self.conversion, own_images)


@dataclass(frozen=True)
class FromDataset:
    """Convert a pickled dataset of models; its split becomes a column of the members table.

    Example: zoojax convert from-dataset dataset_usps.pt --preset usps-s-seed --out zoos/usps-pt
    """

    file: Annotated[Path, tyro.conf.Positional, option("FILE")]
    """The dataset, such as dataset_usps_seed.pt."""

    out: Annotated[Path, option("ZOO")]
    """Folder of the zoo: new, or of the same conversion, interrupted, which resumes."""

    conversion: tyro.conf.OmitArgPrefixes[ConvertOptions]

    def run(self) -> None:
        """Converts the models and prints a summary."""
        require_torch()
        join_processes(self.conversion.processes.group)
        from zoojax.converters.sources import from_dataset

        _convert(from_dataset(self.file), self.out, self.conversion, None)


@dataclass(frozen=True)
class ToTorch:
    """Write a zoo as torch files.

    Example: zoojax convert to-torch zoos/usps-vd --out exported/usps-vd
    """

    zoo: Annotated[Path, tyro.conf.Positional, option("ZOO")]
    """Folder of the zoo."""

    out: Annotated[Path, option("FOLDER")]
    """Folder to write to: new, or of the same export, interrupted, which resumes."""

    format: Literal["trial", "prune", "safetensors"] = "trial"
    """Trial folders with plain state dicts; the same with torch.nn.utils.prune's keys for
    pruned members; or one stacked safetensors file per epoch and the tables."""

    epochs: Annotated[str, option("EPOCHS")] = "all"
    """The epochs to write: "all", or numbers and ranges such as 0,25,40-50."""

    quiet: Flag = False
    """Show no progress."""

    def run(self) -> None:
        """Writes the files and prints how many."""
        require_torch()
        from zoojax.cli.terminal import say
        from zoojax.converters.zoo_to_torch import write_safetensors, write_trials
        from zoojax.progress import count_progress
        from zoojax.storage.zoo import open_zoo

        zoo, epochs = open_zoo(self.zoo), parse_epochs(self.epochs)
        notes: list[str] = []
        with count_progress("to torch", self.quiet) as report:
            if self.format == "safetensors":
                written = write_safetensors(zoo, self.out, epochs=epochs, report=report)
            else:
                written = write_trials(
                    *(zoo, self.out),
                    epochs=epochs,
                    keep_masks=self.format == "prune",
                    report=report,
                    note=notes.append,
                )
        _print_notes(notes)
        unit = "epoch files" if self.format == "safetensors" else "states"
        say(f"{written} {unit} in {self.out}")


@dataclass(frozen=True)
class Verify:
    """Read torch files again through torch and compare them with the zoo made from them.

    Compares arrays bit for bit, and the logits of both networks on images. Exit status 2
    if anything differs or is missing.

    Example: zoojax convert verify zoos/usps tune_zoo_usps
    """

    zoo: Annotated[Path, tyro.conf.Positional, option("ZOO")]
    """Folder of the converted zoo."""

    source: Annotated[Path, tyro.conf.Positional, option("SOURCE")]
    """What it was converted from: the folder of trial folders, or the pickled dataset."""

    sample: Annotated[int, option("N")] = 100
    """Number of states to compare, evenly spread; 0 for all."""

    images: Annotated[int, option("N")] = 64
    """Number of images for both networks: from the zoo's test set, or noise without one."""

    data_dir: DataDir = None
    """The folder of image sets (default: $ZOOJAX_DATA, else a cache folder)."""

    tolerance: Annotated[float, option("DIFFERENCE")] = 1e-5
    """Largest accepted difference between logits."""

    json: Flag = False
    """Print JSON on standard output."""

    quiet: Flag = False
    """Show no progress."""

    def run(self) -> None:
        """Verifies the zoo and prints the largest difference."""
        require_torch()
        import numpy as np

        from zoojax.cli.terminal import say, show_json
        from zoojax.converters.sources import from_dataset, from_trials
        from zoojax.converters.verification import verify
        from zoojax.filesystem.reading import exists, is_folder
        from zoojax.progress import count_progress
        from zoojax.storage.zoo import open_zoo
        from zoojax.storage.zoo_images import load_images

        zoo = open_zoo(self.zoo)
        net = zoo.config.shape
        if zoo.config.data_hash is None:
            shape = (self.images, net.size, net.size, net.channels)
            images = np.random.default_rng(0).standard_normal(shape, np.float32)
        else:
            images = load_images(zoo, self.data_dir).test.images[: self.images]
        is_file = exists(self.source) and not is_folder(self.source)
        sources = (from_dataset if is_file else from_trials)(self.source)
        with count_progress("verify", self.quiet) as report:
            result = verify(zoo, sources, images, sample=self.sample or None, report=report)
        if self.json:
            show_json(result._asdict())
        else:
            say(f"states compared: {result.states}, on {result.images} images")
            say(f"largest difference of logits: {result.difference:.2e} ({result.worst})")
            say(f"states not equal bit for bit: {len(result.unequal)}")
            say(f"states missing from the zoo: {len(result.missing)}")
        # Negated, so that NaN counts as a difference.
        if result.unequal or result.missing or not result.difference <= self.tolerance:
            raise ZoojaxError(f"{zoo.path} differs from {self.source}")


@dataclass(frozen=True)
class Convert:
    """Convert torch zoos to zoos and back: lossless, and without running code in the files."""

    command: (
        Annotated[FromTorch, tyro.conf.subcommand("from-torch")]
        | Annotated[FromDataset, tyro.conf.subcommand("from-dataset")]
        | Annotated[ToTorch, tyro.conf.subcommand("to-torch")]
        | Annotated[Verify, tyro.conf.subcommand("verify")]
    )

    def run(self) -> None:
        """Runs the command."""
        self.command.run()


def require_torch() -> None:
    """Checks that the packages for conversion are installed.

    Raises:
        ZoojaxError: If they are not.
    """
    from importlib.util import find_spec

    if find_spec("torch") is None or find_spec("safetensors") is None:
        raise ZoojaxError("converting needs torch; install it with: pip install 'zoojax[torch]'")


def parse_epochs(text: str) -> tuple[int, ...] | None:
    """Parses epochs such as "all" (None) or "0,25,40-50".

    Args:
        text: The value of --epochs.

    Raises:
        ZoojaxError: If it is anything else.
    """
    if text == "all":
        return None
    epochs: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not re.fullmatch("[0-9]{1,6}(-[0-9]{1,6})?", part.strip()):
            raise ZoojaxError(
                f"--epochs {text!r} is invalid; give all, or numbers and ranges such as 0,25,40-50"
            )
        if dash and int(last) < int(first):
            raise ZoojaxError(f"--epochs {part.strip()} ends before it starts")
        epochs += range(int(first), int(last if dash else first) + 1)
    return tuple(epochs)


def _convert(
    sources: "list[Source]", out: Path, options: ConvertOptions, own_images: Path | None
) -> None:
    """Converts sources to a zoo and prints a summary."""
    from zoojax.cli.terminal import say, show_json
    from zoojax.converters.members import Selection, preset_defaults
    from zoojax.converters.own_images import choose_images
    from zoojax.converters.torch_to_zoo import REJECTS, convert
    from zoojax.progress import count_progress
    from zoojax.storage.zoo import open_zoo

    notes: list[str] = []
    parent = None if options.parent is None else open_zoo(options.parent)
    selection = Selection(
        epochs=parse_epochs(options.epochs),
        where=options.where,
        max_abs_weight=options.max_abs_weight,
        min_accuracy=options.min_accuracy,
        strict=options.strict,
    )
    with count_progress("convert", options.quiet) as report:
        result = convert(
            sources,
            out,
            name=options.name or printable(out.resolve().name, 200),
            images=choose_images(
                *(options.data, options.preset, own_images, parent, options.data_dir),
                note=notes.append,
            ),
            parent=parent,
            preset=options.preset or (parent.config.preset if parent else None),
            defaults=preset_defaults(options.preset),
            selection=selection,
            report=report,
        )
    reasons = Counter(result.rejected.values())
    notes += result.notes
    if options.json:
        summary = {"zoo": str(out), "members": len(result.zoo), "states": result.states}
        show_json({**summary, "rejected": dict(reasons), "notes": notes})
        return
    _print_notes(notes)
    members, states, rejected = len(result.zoo), result.states, len(result.rejected)
    say(f"{result.zoo}")
    say(f"members: {members}, states: {states}, rejected: {rejected}")
    for reason, count in reasons.most_common(20):
        say(f"  {count} x {reason}")
    if reasons:
        say(f"all rejected states are listed in {out / REJECTS}")


def _print_notes(notes: list[str]) -> None:
    """Prints notes on standard error, one line each."""
    for note in notes:
        print(f"zoojax: note: {printable(note, 2000)}", file=sys.stderr)
