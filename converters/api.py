"""Converts torch zoos to zoojax and back: one function per command `zoojax convert`.

The functions have the options of the commands, with the same names and defaults. They need torch,
which is imported when they run.
"""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

from zoojax.converters.arguments import Epochs, parse_assumptions, parse_epochs, require_torch
from zoojax.errors import ZoojaxError
from zoojax.filesystem.paths import optional_path, output_folder, user_path
from zoojax.filesystem.reading import exists, is_folder
from zoojax.progress import count_progress
from zoojax.storage.opening import as_zoo
from zoojax.storage.zoo import Zoo
from zoojax.text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from zoojax.converters.sources import Source
    from zoojax.converters.torch_to_zoo import Conversion
    from zoojax.converters.verification import Verification

Format = Literal["trial", "prune", "shrunk", "safetensors"]
Dialect = Literal["plain", "original"]


class DifferenceError(ZoojaxError):
    """A zoo differs from the torch files that it was converted from.

    Attributes:
        result: What was compared, and what differs.
    """

    def __init__(self, message: str, result: "Verification"):
        super().__init__(message)
        self.result = result


class Export(NamedTuple):
    """The result of `to_torch`.

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
    return _convert(
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

    return _convert(
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


def convert_from(
    path: str | Path,
    out: str | Path,
    *,
    format: str | None = None,
    cast: bool = False,
    drop_extra: bool = False,
    fold_spectral_norm: bool = False,
    state_key: str = "",
    assume: "Sequence[str]" = (),
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
    """Converts a foreign zoo of any known format: a folder, a file, or an archive of either.

    State dicts are read in every known dialect (docs/converting.md), without running code in the
    files; `to_torch` with `dialect="original"` restores them. Hyperparameters that nothing reports
    are assumed, with a note.

    Args:
        path: A folder of trials or checkpoints, a file of states, a matrix of weights with its
            tables, or a .zip or .tar archive of one of these.
        out: Folder of the zoo: new, or of the same conversion, interrupted.
        format: Name of the format; None recognizes it.
        cast: Whether float64 weights that do not fit into float32 are rounded.
        drop_extra: Whether tensors that belong to no layer are left out.
        fold_spectral_norm: Whether weights under spectral_norm are computed.
        state_key: Name of the state dict in files with several, such as "state_dict_ema".
        assume: Hyperparameters for members that report none, such as "activation=relu".
        parent: As in `from_torch`.
        preset: As in `from_torch`.
        data: As in `from_torch`; None takes the dataset.pt of the zoo if it exists.
        data_dir: As in `from_torch`.
        epochs: As in `from_torch`.
        where: As in `from_torch`.
        max_abs_weight: As in `from_torch`.
        min_accuracy: As in `from_torch`.
        strict: As in `from_torch`.
        name: As in `from_torch`.
        quiet: As in `from_torch`.

    Returns:
        The zoo, the number of states, the rejected states with their reasons, and notes: the
        reader and why it was chosen come first.

    Raises:
        ZoojaxError: The format is unknown, an archive is unsafe, or as in `from_torch`.

    Example (with an archive of checkpoints):
        convert_from("zoo.zip", "zoos/mine", assume=["activation=relu"]).notes
    """
    require_torch()
    import contextlib

    from zoojax.converters.dialects.base import DialectOptions
    from zoojax.converters.formats.archives import is_archive, unpacked
    from zoojax.converters.formats.registry import recognize

    options = DialectOptions(cast, drop_extra, fold_spectral_norm, state_key)
    folder, assumed = user_path(path, "path"), parse_assumptions(assume)
    with contextlib.ExitStack() as stack:
        notes: list[str] = []
        if is_archive(folder):
            folder, notes = stack.enter_context(unpacked(folder))
        reader, reason = recognize(folder, format)
        listing = reader.members(folder, options)
        result = _convert(
            listing.sources,
            output_folder(out),
            listing.images,
            assumed=assumed,
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
    read = f"read as {reader.label} (--format {reader.name}), because {reason}"
    return replace(result, notes=(read, *notes, *listing.notes, *result.notes))


def _convert(
    sources: "list[Source]",
    out: Path,
    own_images: Path | None,
    *,
    assumed: "dict[str, Any] | None" = None,
    parent: Zoo | str | Path | None,
    preset: str | None,
    data: str | None,
    data_dir: str | Path | None,
    epochs: Epochs,
    where: str | None,
    max_abs_weight: float | None,
    min_accuracy: float | None,
    strict: bool,
    name: str | None,
    quiet: bool,
) -> "Conversion":
    from zoojax.converters.members import Selection, preset_defaults
    from zoojax.converters.own_images import choose_images
    from zoojax.converters.torch_to_zoo import convert

    notes: list[str] = []
    dense = None if parent is None else as_zoo(parent, "parent")
    selection = Selection(
        epochs=parse_epochs(epochs),
        where=where,
        max_abs_weight=max_abs_weight,
        min_accuracy=min_accuracy,
        strict=strict,
    )
    folder = optional_path(data_dir, "data_dir")
    requested = None if data is None else str(data)
    with count_progress("convert", quiet) as report:
        result = convert(
            sources,
            out,
            name=name or printable(out.resolve().name, 200),
            images=choose_images(
                *(requested, preset, own_images, dense, folder), note=notes.append
            ),
            parent=dense,
            preset=preset or (dense.config.preset if dense else None),
            defaults=preset_defaults(preset),
            assumed=assumed,
            selection=selection,
            report=report,
        )
    return replace(result, notes=(*notes, *result.notes))


def to_torch(
    zoo: Zoo | str | Path,
    out: str | Path,
    *,
    format: Format = "trial",
    dialect: Dialect = "plain",
    epochs: Epochs = "all",
    quiet: bool = False,
) -> Export:
    """Writes a zoo as torch files.

    Args:
        zoo: Zoo, or its folder.
        out: Folder to write to: new, or of the same export, interrupted, which resumes.
        format: "trial" (trial folders with plain state dicts), "prune" (the same with
            torch.nn.utils.prune's keys for pruned members), "shrunk" (the same without hidden
            units that nothing uses: smaller networks, of twins of structured pruning) or
            "safetensors" (one stacked file per epoch, and the tables).
        dialect: "plain", or "original": trial folders with the states of a converted zoo as they
            were, in files of their names.
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
    require_torch()
    from zoojax.converters.zoo_to_torch import write_safetensors, write_trials

    if format not in get_args(Format):
        known = ", ".join(get_args(Format))
        raise ZoojaxError(f"format is '{printable(format, 80)}'; give one of {known}")
    if dialect not in get_args(Dialect):
        raise ZoojaxError(f"dialect is '{printable(dialect, 80)}'; give plain or original")
    if dialect == "original" and format != "trial":
        raise ZoojaxError(f"dialect 'original' has no format {format}; omit the format")
    opened, folder, selected = as_zoo(zoo), output_folder(out), parse_epochs(epochs)
    notes: list[str] = []
    with count_progress("to torch", quiet) as report:
        if format == "safetensors":
            return Export(write_safetensors(opened, folder, epochs=selected, report=report))
        written = write_trials(
            *(opened, folder),
            epochs=selected,
            keep_masks=format == "prune",
            original=dialect == "original",
            shrunk=format == "shrunk",
            report=report,
            note=notes.append,
        )
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
        source: What it was converted from: the folder of trial folders, or the pickled dataset.
        sample: Number of states to compare, evenly spread; 0 for all.
        images: Number of images for both networks: from the zoo's test set, or noise without
            one.
        data_dir: Folder of image sets; None takes $ZOOJAX_DATA, or else a cache folder.
        tolerance: Largest accepted absolute difference between logits.
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
    from zoojax.converters import sources, verification

    for argument, value, least in (("sample", sample, 0), ("images", images, 1)):
        if not isinstance(value, int) or value < least:
            value = printable(value, 80)
            raise ZoojaxError(f"{argument} is {value}; give a whole number of at least {least}")
    opened, path = as_zoo(zoo), user_path(source, "source")
    batch = _images(opened, images, optional_path(data_dir, "data_dir"))
    is_file = exists(path) and not is_folder(path)
    members = (sources.from_dataset if is_file else sources.from_trials)(path)
    with count_progress("verify", quiet) as report:
        result = verification.verify(opened, members, batch, sample=sample or None, report=report)
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
