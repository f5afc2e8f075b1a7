"""Converts torch zoos to zoojax and back: one function per command `zoojax convert`.

The functions have the options of the commands, with the same names and defaults. They need torch,
which is imported when they run.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

from zoojax.converters.arguments import Epochs, parse_epochs, require_torch
from zoojax.converters.foreign import convert_each, convert_from, opened_listing, run_conversion
from zoojax.errors import ZoojaxError
from zoojax.filesystem.paths import optional_path, output_folder, user_path
from zoojax.filesystem.reading import exists
from zoojax.hyperparameters.declaration import check_name
from zoojax.progress import count_progress
from zoojax.storage.opening import as_zoo
from zoojax.storage.zoo import Zoo
from zoojax.text import printable

if TYPE_CHECKING:
    import numpy as np

    from zoojax.converters.torch_to_zoo import Conversion
    from zoojax.converters.verification import Verification

__all__ = [
    "DifferenceError",
    "Export",
    "convert_each",
    "convert_from",
    "convert_to",
    "from_dataset",
    "from_torch",
    "to_torch",
    "verify",
]

Format = Literal["trial", "prune", "shrunk", "safetensors"]
Dialect = Literal["plain", "original"]
# The names of `convert_to`.
_TARGETS = {
    "trial": "trials",
    "prune": "trials-prune",
    "shrunk": "trials-shrunk",
    "safetensors": "safetensors",
}


class DifferenceError(ZoojaxError):
    """A zoo differs from the torch files that it was converted from.

    Attributes:
        result: What was compared, and what differs.
    """

    def __init__(self, message: str, result: "Verification"):
        super().__init__(message)
        self.result = result


class Export(NamedTuple):
    """The result of `convert_to` and `to_torch`.

    Attributes:
        written: Number of states, or of files with the format "safetensors".
        notes: Remarks for the user, one sentence each.
    """

    written: int
    notes: tuple[str, ...] = ()


def from_torch(
    root: str | Path,
    out: str | Path,
    *,
    parent: Zoo | str | Path | None = None,
    preset: str | None = None,
    data: str | None = None,
    data_dir: str | Path | None = None,
    epochs: Epochs = "all",
    where: str | None = None,
    max_abs_weight: float | None = None,
    min_accuracy: float | None = None,
    strict: bool = False,
    name: str | None = None,
    quiet: bool = False,
) -> "Conversion":
    """Converts the trial folders of a torch zoo (Ray Tune 1.8 and the zoos' original code).

    Lossless, and without running code in the files. States that cannot be converted are listed
    with the reason in rejects.csv in the zoo's folder. An interrupted conversion resumes if it
    is repeated with the same arguments.

    Args:
        root: Folder that contains the trial folders.
        out: Folder of the zoo: new, or of the same conversion, interrupted.
        parent: Dense zoo, already converted, whose twins these are; or its folder.
        preset: Preset of the zoo: defines its images, the learning rates of its twins, and the
            hyperparameters that the files do not report.
        data: Images of the zoo: the path of its dataset.pt, or the name of an image set (with
            `preset`, normalized as that defines). None takes ROOT/dataset.pt if it exists.
        data_dir: Folder of image sets; None takes $ZOOJAX_DATA, or else a cache folder.
        epochs: Epochs to convert: "all", numbers and ranges such as "0,25,40-50", or numbers.
        where: SQL expression over the members table, such as "learning_rate = 0.001"; only
            members for which it is true are converted.
        max_abs_weight: Rejects states with a larger absolute weight or bias.
        min_accuracy: Rejects states with a lower reported test accuracy, in [0, 1] (even if the
            files report percentages).
        strict: Whether the first state that cannot be converted is an error.
        name: Name of the zoo; None takes the name of its folder.
        quiet: Whether to show no progress.

    Returns:
        The zoo, the number of states, and the rejected states with their reasons.

    Raises:
        ZoojaxError: torch is not installed, an argument is invalid, there is nothing to convert,
            every state is rejected, or writing failed.

    Example (with trial folders of a zoo):
        from_torch("tune_zoo_usps", "zoos/usps", preset="usps-s-seed").zoo
    """
    require_torch()
    from zoojax.converters.sources import from_trials

    folder = user_path(root, "root")
    images = folder / "dataset.pt"
    return run_conversion(
        from_trials(folder),
        output_folder(out),
        images if exists(images) else None,
        parent=parent,
        preset=preset,
        data=data,
        data_dir=data_dir,
        epochs=epochs,
        where=where,
        max_abs_weight=max_abs_weight,
        min_accuracy=min_accuracy,
        strict=strict,
        name=name,
        quiet=quiet,
    )


def from_dataset(
    file: str | Path,
    out: str | Path,
    *,
    parent: Zoo | str | Path | None = None,
    preset: str | None = None,
    data: str | None = None,
    data_dir: str | Path | None = None,
    epochs: Epochs = "all",
    where: str | None = None,
    max_abs_weight: float | None = None,
    min_accuracy: float | None = None,
    strict: bool = False,
    name: str | None = None,
    quiet: bool = False,
) -> "Conversion":
    """Converts a pickled dataset of models; its split becomes a column of the members table.

    Args:
        file: Dataset, such as dataset_usps_seed.pt.
        out: Folder of the zoo: new, or of the same conversion, interrupted.
        parent: As in `from_torch`.
        preset: As in `from_torch`.
        data: As in `from_torch`, but None takes the images of the preset or of the parent.
        data_dir: As in `from_torch`.
        epochs: As in `from_torch`.
        where: As in `from_torch`.
        max_abs_weight: As in `from_torch`.
        min_accuracy: As in `from_torch`.
        strict: As in `from_torch`.
        name: As in `from_torch`.
        quiet: As in `from_torch`.

    Returns:
        The zoo, the number of states, and the rejected states with their reasons.

    Raises:
        ZoojaxError: torch is not installed, the file is not such a dataset, or as in
            `from_torch`.

    Example (with a dataset of a zoo):
        from_dataset("dataset_usps.pt", "zoos/usps-pt", preset="usps-s-seed").zoo
    """
    require_torch()
    from zoojax.converters import sources

    return run_conversion(
        sources.from_dataset(user_path(file, "file")),
        output_folder(out),
        None,
        parent=parent,
        preset=preset,
        data=data,
        data_dir=data_dir,
        epochs=epochs,
        where=where,
        max_abs_weight=max_abs_weight,
        min_accuracy=min_accuracy,
        strict=strict,
        name=name,
        quiet=quiet,
    )


def to_torch(
    zoo: Zoo | str | Path,
    out: str | Path,
    *,
    format: Format = "trial",
    dialect: Dialect = "plain",
    epochs: Epochs = "all",
    quiet: bool = False,
) -> Export:
    """Writes a zoo as torch files: `convert_to` with the formats of version 0.1.

    Args:
        zoo: Zoo, or its folder.
        out: Folder to write to: new, or of the same export, interrupted, which resumes.
        format: "trial" (trial folders with plain state dicts), "prune" (the same with
            torch.nn.utils.prune's keys for pruned members), "shrunk" (the same without unused
            hidden units: smaller networks, of twins of structured pruning) or "safetensors" (one
            stacked file per epoch, and the tables).
        dialect: "plain", or "original": trial folders with the states and file names of a
            converted zoo as they were.
        epochs: Epochs to write: "all", numbers and ranges such as "0,25,40-50", or numbers.
        quiet: Whether to show no progress.

    Returns:
        The number of written states or files, and notes.

    Raises:
        ZoojaxError: torch is not installed, an argument is invalid, no torch format is known for
            the zoo's architecture, an epoch is missing, the folder contains something else, or
            writing failed.

    Example (with a trained zoo):
        to_torch("zoos/usps-vd", "exported/usps-vd", epochs=[25]).written
    """
    if format not in get_args(Format):
        known = ", ".join(get_args(Format))
        raise ZoojaxError(f"format is '{printable(format, 80)}'; give one of {known}")
    if dialect not in get_args(Dialect):
        raise ZoojaxError(f"dialect is '{printable(dialect, 80)}'; give plain or original")
    if dialect == "original" and format != "trial":
        raise ZoojaxError(f"dialect 'original' has no format {format}; omit the format")
    target = "trials-original" if dialect == "original" else _TARGETS[format]
    return convert_to(zoo, out, format=target, epochs=epochs, quiet=quiet)


def convert_to(
    zoo: Zoo | str | Path,
    out: str | Path,
    *,
    format: str = "trials",
    epochs: Epochs = "all",
    quiet: bool = False,
) -> Export:
    """Writes a zoo in a format of other tools. `convert_from` reads all of them.

    Args:
        zoo: Zoo, or its folder.
        out: Folder to write to: new, or of an interrupted call of the same export.
        format: "trials", "trials-prune", "trials-shrunk", "trials-original", "safetensors",
            "matrix" or "dataset"; docs/converting.md describes them.
        epochs: Epochs to write: "all", numbers and ranges such as "0,25,40-50", or numbers.
        quiet: Whether to show no progress.

    Returns:
        The number of written states or files, and notes.

    Raises:
        ZoojaxError: torch is not installed, an argument is invalid, the format cannot hold the
            zoo, an epoch is missing, the folder contains other files, or writing failed.

    Example (with a trained zoo):
        convert_to("zoos/usps", "exported/usps", format="matrix").written
    """
    require_torch()
    from zoojax.converters.targets.base import Request
    from zoojax.converters.targets.registry import TARGETS

    check_name("target format", format, TARGETS)
    opened, folder, selected = as_zoo(zoo), output_folder(out), parse_epochs(epochs)
    notes: list[str] = []
    with count_progress("to torch", quiet) as report:
        request = Request(selected, report or (lambda done, total: None), notes.append)
        written = TARGETS[format].write(opened, folder, request)
    return Export(written, tuple(notes))


def verify(
    zoo: Zoo | str | Path,
    source: str | Path,
    *,
    sample: int = 100,
    images: int = 64,
    data_dir: str | Path | None = None,
    tolerance: float = 1e-5,
    quiet: bool = False,
) -> "Verification":
    """Reads torch files again through torch and compares them with the zoo made from them.

    Compares arrays bit for bit, and the logits of both networks in double precision.

    Args:
        zoo: Converted zoo, or its folder.
        source: The folder, file or archive that it was converted from.
        sample: Number of states to compare, evenly spread; 0 for all.
        images: Number of images for both networks: from the zoo's test set, or noise without
            one.
        data_dir: Folder of image sets; None takes $ZOOJAX_DATA, or else a cache folder.
        tolerance: Largest accepted difference between logits, as a share of the largest logit.
        quiet: Whether to show no progress.

    Returns:
        The number of compared states and the largest difference.

    Raises:
        DifferenceError: The zoo differs from the source, or lacks a state of it; `result` says
            where.
        ZoojaxError: torch is not installed, an argument is invalid, or the zoo was not converted
            or has no states in common with the source.

    Example (with a converted zoo):
        verify("zoos/usps", "tune_zoo_usps").difference
    """
    require_torch()
    from zoojax.converters import verification
    from zoojax.converters.dialects.base import DialectOptions

    for argument, value, least in (("sample", sample, 0), ("images", images, 1)):
        if not isinstance(value, int) or value < least:
            value = printable(value, 80)
            raise ZoojaxError(f"{argument} is {value}; give a whole number of at least {least}")
    opened, path = as_zoo(zoo), user_path(source, "source")
    batch = _images(opened, images, optional_path(data_dir, "data_dir"))
    # What was left out or rounded is not compared.
    options = DialectOptions(cast=True, drop_extra=True, fold_spectral_norm=True)
    with (
        opened_listing(path, options) as listing,
        count_progress("verify", quiet) as report,
    ):
        result = verification.verify(
            opened, listing.sources, batch, sample=sample or None, report=report
        )
    # Negated, so that NaN counts as a difference.
    if result.unequal or result.missing or not result.difference <= tolerance:
        raise DifferenceError(f"{opened.path} differs from {path}", result)
    return result


def _images(zoo: Zoo, count: int, data_dir: Path | None) -> "np.ndarray":
    """Returns test images of a zoo, or noise if it records none, [count, size, size, channels]."""
    import numpy as np

    from zoojax.storage.zoo_images import load_images

    if zoo.config.data_hash is not None:
        return load_images(zoo, data_dir).test.images[:count]
    net = zoo.config.shape
    shape = (count, net.size, net.size, net.channels)
    return np.random.default_rng(0).standard_normal(shape, np.float32)
