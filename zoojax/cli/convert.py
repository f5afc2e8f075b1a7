"""`zoojax convert`: torch zoos in, torch zoos out."""

import re
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from zoojax.cli.options import DataDir, Flag, Processes, ProcessOptions, option
from zoojax.errors import ZoojaxError
from zoojax.filesystem.paths import expand_user
from zoojax.runtime.startup import join_processes
from zoojax.text import printable

if TYPE_CHECKING:
    from zoojax.converters.pickled_datasets import ImageFile
    from zoojax.converters.sources import Source
    from zoojax.datasets.specs import DataSpec, ImageSet
    from zoojax.storage.zoo import Zoo


@dataclass(frozen=True)
class ConvertOptions:
    """What is taken, and what is known of it."""

    parent: Annotated[Path | None, option("ZOO")] = None
    """The dense zoo, already converted, that these are twins of."""

    preset: Annotated[str | None, option("PRESET")] = None
    """The preset that the zoo is of: gives its images, its twins' learning rates, and the
    hyper-parameters that the files do not say."""

    data: Annotated[str | None, option("IMAGES")] = None
    """The zoo's images: the path of its dataset.pt, or the name of an image set
    (with --preset, normalised as that says). Default: ROOT/dataset.pt if it is there."""

    data_dir: DataDir = None
    """Where image sets are looked for (default: $ZOOJAX_DATA, else a cache folder)."""

    epochs: Annotated[str, option("EPOCHS")] = "all"
    """Which epochs: "all", or numbers and ranges such as 0,25,40-50."""

    where: Annotated[str | None, option("SQL")] = None
    """Take only members for which this SQL expression over the members table holds, such
    as "learning_rate = 0.001 AND activation = 'tanh'"."""

    largest_weight: Annotated[float | None, option("WEIGHT")] = None
    """Reject states with a larger absolute weight or bias."""

    lowest_accuracy: Annotated[float | None, option("SHARE")] = None
    """Reject states with a lower reported test accuracy, in [0, 1] (also where percent are
    reported)."""

    strict: Flag = False
    """Stop at the first state that cannot be converted."""

    name: Annotated[str | None, option("NAME")] = None
    """Name of the zoo (default: that of its folder)."""

    json: Flag = False
    """Print the closing table as JSON on standard output."""

    quiet: Flag = False
    """Show no progress."""

    processes: ProcessOptions = field(default_factory=Processes)


@dataclass(frozen=True)
class FromTorch:
    """Convert the trial folders of a torch zoo (Ray Tune 1.8 and the zoos' code).

    What cannot be converted is named, with the reason, in rejects.csv in the zoo's folder.
    Example: zoojax convert from-torch tune_zoo_usps --out zoos/usps
    """

    root: Annotated[Path, tyro.conf.Positional, option("ROOT")]
    """The folder that holds the trial folders."""

    out: Annotated[Path, option("ZOO")]
    """Folder of the zoo: new, or of the same conversion interrupted."""

    reading: tyro.conf.OmitArgPrefixes[ConvertOptions]

    def run(self) -> None:
        """Converts and prints what came of it."""
        require_torch()
        join_processes(self.reading.processes.group)
        from zoojax.converters.sources import from_trials
        from zoojax.filesystem.reading import exists

        own = self.root / "dataset.pt"
        _convert(from_trials(self.root), self.out, self.reading, own if exists(own) else None)


@dataclass(frozen=True)
class FromDataset:
    """Convert a pickled data set of models; its split becomes a column of the members.

    Example: zoojax convert from-dataset dataset_usps.pt --preset usps-s-seed --out zoos/usps-pt
    """

    file: Annotated[Path, tyro.conf.Positional, option("FILE")]
    """The data set, such as dataset_usps_seed.pt."""

    out: Annotated[Path, option("ZOO")]
    """Folder of the zoo: new, or of the same conversion interrupted."""

    reading: tyro.conf.OmitArgPrefixes[ConvertOptions]

    def run(self) -> None:
        """Converts and prints what came of it."""
        require_torch()
        join_processes(self.reading.processes.group)
        from zoojax.converters.sources import from_dataset

        _convert(from_dataset(self.file), self.out, self.reading, None)


@dataclass(frozen=True)
class ToTorch:
    """Write a zoo as torch files.

    Example: zoojax convert to-torch zoos/usps-vd --out exported/usps-vd
    """

    zoo: Annotated[Path, tyro.conf.Positional, option("ZOO")]
    """Folder of the zoo."""

    out: Annotated[Path, option("FOLDER")]
    """Folder to write to: new, or of the same export interrupted, which resumes."""

    format: Literal["trial", "prune", "safetensors"] = "trial"
    """Trial folders with plain state dicts; the same with torch.nn.utils.prune's keys for
    pruned members; or one stacked safetensors file per epoch and the tables."""

    epochs: Annotated[str, option("EPOCHS")] = "all"
    """Which epochs: "all", or numbers and ranges such as 0,25,40-50."""

    quiet: Flag = False
    """Show no progress."""

    def run(self) -> None:
        """Writes and says how much."""
        require_torch()
        from zoojax.cli.progress import count_progress
        from zoojax.cli.terminal import say
        from zoojax.converters.zoo_to_torch import write_safetensors, write_trials
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
        _show(notes)
        unit = "epoch files" if self.format == "safetensors" else "states"
        say(f"{written} {unit} in {self.out}")


@dataclass(frozen=True)
class Verify:
    """Read torch files again through torch, and compare with the zoo made from them.

    Compares arrays bit for bit, and the logits of both networks on images. Exit status 2
    if anything differs or is missing.
    Example: zoojax convert verify zoos/usps tune_zoo_usps
    """

    zoo: Annotated[Path, tyro.conf.Positional, option("ZOO")]
    """Folder of the converted zoo."""

    source: Annotated[Path, tyro.conf.Positional, option("SOURCE")]
    """What it was converted from: the folder of trial folders, or the pickled data set."""

    sample: Annotated[int, option("N")] = 100
    """States to compare, evenly spread; 0 for all."""

    images: Annotated[int, option("N")] = 64
    """Images that both networks are run on: of the zoo's test set, or noise without one."""

    data_dir: DataDir = None
    """Where image sets are looked for (default: $ZOOJAX_DATA, else a cache folder)."""

    tolerance: Annotated[float, option("DIFFERENCE")] = 1e-5
    """The largest difference between logits that passes."""

    json: Flag = False
    """Print JSON on standard output."""

    quiet: Flag = False
    """Show no progress."""

    def run(self) -> None:
        """Verifies and prints the largest difference."""
        require_torch()
        import numpy as np

        from zoojax.cli.progress import count_progress
        from zoojax.cli.terminal import say, show_json
        from zoojax.converters.sources import from_dataset, from_trials
        from zoojax.converters.zoo_to_torch import verify
        from zoojax.filesystem.reading import exists, is_folder
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
            found = verify(zoo, sources, images, sample=self.sample or None, report=report)
        if self.json:
            show_json(found._asdict())
        else:
            say(f"states compared: {found.states}, on {found.images} images")
            say(f"largest difference of logits: {found.difference:.2e} ({found.worst})")
            say(f"states not equal bit for bit: {len(found.unequal)}")
            say(f"states that the zoo does not have: {len(found.missing)}")
        if found.unequal or found.missing or not found.difference <= self.tolerance:
            raise ZoojaxError(f"{zoo.path} differs from {self.source}")


@dataclass(frozen=True)
class Convert:
    """Torch zoos in, torch zoos out: lossless, and without running anything in the files."""

    what: (
        Annotated[FromTorch, tyro.conf.subcommand("from-torch")]
        | Annotated[FromDataset, tyro.conf.subcommand("from-dataset")]
        | Annotated[ToTorch, tyro.conf.subcommand("to-torch")]
        | Annotated[Verify, tyro.conf.subcommand("verify")]
    )

    def run(self) -> None:
        """Runs the conversion."""
        self.what.run()


def require_torch() -> None:
    """Raises ZoojaxError unless the extra that converters need is installed."""
    from importlib.util import find_spec

    if find_spec("torch") is None or find_spec("safetensors") is None:
        raise ZoojaxError("converting needs torch; install it with: pip install 'zoojax[torch]'")


def parse_epochs(text: str) -> tuple[int, ...] | None:
    """Epochs out of "all" (None) or "0,25,40-50".

    Raises:
        ZoojaxError: anything else.
    """
    if text == "all":
        return None
    epochs: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not re.fullmatch("[0-9]{1,6}(-[0-9]{1,6})?", part.strip()):
            raise ZoojaxError(
                f"--epochs {text!r}: give all, or numbers and ranges as in 0,25,40-50"
            )
        if dash and int(last) < int(first):
            raise ZoojaxError(f"--epochs {part.strip()} ends before it begins")
        epochs += range(int(first), int(last if dash else first) + 1)
    return tuple(epochs)


def _convert(
    sources: "list[Source]", out: Path, reading: ConvertOptions, images_file: Path | None
) -> None:
    from zoojax.cli.progress import count_progress
    from zoojax.cli.terminal import say, show_json
    from zoojax.converters.members import Selection
    from zoojax.converters.torch_to_zoo import REJECTS, convert
    from zoojax.storage.zoo import open_zoo

    notes: list[str] = []
    parent = None if reading.parent is None else open_zoo(reading.parent)
    selection = Selection(
        parse_epochs(reading.epochs),
        reading.where,
        reading.largest_weight,
        reading.lowest_accuracy,
        reading.strict,
    )
    with count_progress("convert", reading.quiet) as report:
        done = convert(
            sources,
            out,
            name=reading.name or printable(out.resolve().name, 200),
            images=_images(reading, images_file, parent, notes),
            parent=parent,
            preset=reading.preset or (parent.config.preset if parent else None),
            defaults=_defaults(reading.preset),
            selection=selection,
            report=report,
        )
    reasons = Counter(done.rejected.values())
    notes += done.notes
    if reading.json:
        facts = {"zoo": str(out), "members": len(done.zoo), "states": done.states}
        show_json({**facts, "rejected": dict(reasons), "notes": notes})
        return
    _show(notes)
    say(f"{done.zoo}")
    say(f"members: {len(done.zoo)}, states: {done.states}, rejected: {len(done.rejected)}")
    for reason, count in reasons.most_common(20):
        say(f"  {count} x {reason}")
    if reasons:
        say(f"every rejected state is named in {out / REJECTS}")


def _show(notes: list[str]) -> None:
    """Prints notes on standard error, one line each."""
    for note in notes:
        print(f"zoojax: note: {printable(note, 2000)}", file=sys.stderr)


def _images(
    reading: ConvertOptions, found: Path | None, parent: "Zoo | None", notes: list[str]
) -> "tuple[DataSpec | None, ImageSet] | None":
    """The zoo's images: those asked for, else the preset's, else its own, else its parent's.

    Its own, found and not asked for, are left out with a note where they cannot be read.
    """
    from dataclasses import replace

    from zoojax.converters.pickled_datasets import read_image_set
    from zoojax.datasets import loading
    from zoojax.presets import preset
    from zoojax.storage.zoo_images import load_images

    named = reading.data is not None and not reading.data.endswith(".pt")
    file = expand_user(reading.data) if reading.data is not None and not named else None
    if file is None and not named and reading.preset is None:
        file = found
    if file is not None:
        try:
            return None, to_image_set(read_image_set(file), file)
        except ZoojaxError as error:
            if reading.data is not None:
                raise
            notes.append(f"images are left out: {printable(error, 600)}")
    if reading.preset is not None:
        spec = preset(reading.preset).data
        if named and reading.data is not None:
            spec = replace(spec, name=reading.data, train=None, val=None, crop=False)
        return spec, loading.load(spec, reading.data_dir)
    if named:
        raise ZoojaxError(f"--data {reading.data} needs --preset, which says how it is normalised")
    if parent is not None and parent.config.data_hash is not None:
        return parent.config.data, load_images(parent, reading.data_dir)
    return None


def to_image_set(file: "ImageFile", path: Path) -> "ImageSet":
    """A zoo's own images as an image set; without validation images, the test images are both."""
    from zoojax.datasets import loading

    splits = file.splits
    for needed in ("train", "test"):
        if needed not in splits or not len(splits[needed].labels):
            raise ZoojaxError(f"{path} holds no images in a {needed}set")
    train, test = splits["train"], splits["test"]
    classes = int(max(train.labels.max(), test.labels.max())) + 1
    return loading.make(path.name, train, splits.get("val", test), test, classes)


def _defaults(name: str | None) -> dict[str, object]:
    """The hyper-parameters that a preset leaves no choice of."""
    from zoojax.presets import preset

    if name is None:
        return {}
    grid = preset(name).grid
    values = {
        "activation": grid.activations,
        "init": grid.inits,
        "optimizer": grid.optimizers,
        "learning_rate": grid.learning_rates,
        "weight_decay": grid.weight_decays,
        "dropout": grid.dropouts,
    }
    return {key: options[0] for key, options in values.items() if len(options) == 1}
