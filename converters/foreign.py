"""Converts foreign zoos of any format, and lists their members."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoojax.converters.arguments import Epochs, parse_assumptions, parse_epochs, require_torch
from zoojax.filesystem.paths import optional_path, output_folder, user_path
from zoojax.progress import count_progress
from zoojax.storage.opening import as_zoo
from zoojax.storage.zoo import Zoo
from zoojax.text import printable

if TYPE_CHECKING:
    from zoojax.converters.dialects.base import DialectOptions
    from zoojax.converters.formats.base import Listing
    from zoojax.converters.sources import Source
    from zoojax.converters.torch_to_zoo import Conversion


def convert_from(
    path: str | Path,
    out: str | Path,
    *,
    format: str | None = None,
    cast: bool = False,
    drop_extra: bool = False,
    fold_spectral_norm: bool = False,
    state_key: str = "",
    assume: Sequence[str] = (),
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
    files; `to_torch` with `dialect="original"` restores them. Hyperparameters that are not reported
    are assumed, with a note.

    Args:
        path: A folder of trials or checkpoints, a file of states, a matrix of weights with its
            tables, or a .zip or .tar archive of one of these.
        out: Folder of the zoo: new, or of the same conversion, interrupted.
        format: Name of the format; None recognizes it.
        cast: Whether float64 weights that do not fit into float32 are rounded.
        drop_extra: Whether tensors that belong to no layer are left out.
        fold_spectral_norm: Whether weights of layers with spectral_norm are computed.
        state_key: Name of the state dict in files with several, such as "state_dict_ema".
        assume: Hyperparameters for members that report none, such as "activation=relu".
        parent: As in `from_torch`.
        preset: As in `from_torch`.
        data: As in `from_torch`; None for the dataset.pt of the zoo, if it exists.
        data_dir: As in `from_torch`.
        epochs: As in `from_torch`.
        where: As in `from_torch`.
        max_abs_weight: As in `from_torch`.
        min_accuracy: As in `from_torch`.
        strict: As in `from_torch`.
        name: As in `from_torch`.
        quiet: As in `from_torch`.

    Returns:
        The zoo, the number of states, the rejected states with their reasons, and notes. The first
        note is the format and why it was chosen.

    Raises:
        ZoojaxError: The format is unknown, an archive is unsafe, or as in `from_torch`.

    Example (with an archive of checkpoints):
        convert_from("zoo.zip", "zoos/mine", assume=["activation=relu"]).notes
    """
    require_torch()
    from zoojax.converters.dialects.base import DialectOptions

    options = DialectOptions(cast, drop_extra, fold_spectral_norm, state_key)
    assumed = parse_assumptions(assume)
    with opened_listing(user_path(path, "path"), options, format) as listing:
        result = run_conversion(
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
    return replace(result, notes=(*listing.notes, *result.notes))


def convert_each(
    path: str | Path,
    out: str | Path,
    *,
    format: str | None = None,
    cast: bool = False,
    drop_extra: bool = False,
    fold_spectral_norm: bool = False,
    state_key: str = "",
    assume: Sequence[str] = (),
    **options: Any,
) -> "dict[str, Conversion]":
    """Converts a foreign zoo whose members have several networks: one zoo per network.

    Args:
        path: As in `convert_from`.
        out: Folder of the zoos' folders, which are named by network and sparsifier.
        format: As in `convert_from`.
        cast: As in `convert_from`.
        drop_extra: As in `convert_from`.
        fold_spectral_norm: As in `convert_from`.
        state_key: As in `convert_from`.
        assume: As in `convert_from`.
        **options: The other options of `convert_from`.

    Returns:
        The conversions by the name of their folder, the one with the most members first.

    Raises:
        ZoojaxError: As in `convert_from`.

    Example (with trial folders of several widths):
        {name: len(each.zoo) for name, each in convert_each("widths", "zoos/widths").items()}
    """
    require_torch()
    from zoojax.converters.common_network import group_by_network
    from zoojax.converters.dialects.base import DialectOptions

    dialects = DialectOptions(cast, drop_extra, fold_spectral_norm, state_key)
    assumed, folder = parse_assumptions(assume), output_folder(out)
    results = {}
    with opened_listing(user_path(path, "path"), dialects, format) as listing:
        for name, sources in group_by_network(listing.sources).items():
            result = run_conversion(
                sources, folder / name, listing.images, assumed=assumed, **_all_options(options)
            )
            results[name] = replace(result, notes=(*listing.notes, *result.notes))
    return results


def _all_options(options: dict[str, Any]) -> dict[str, Any]:
    """The options of `run_conversion`, with defaults."""
    defaults = dict.fromkeys(
        ("parent", "preset", "data", "data_dir", "where", "max_abs_weight", "min_accuracy", "name")
    )
    return {**defaults, "epochs": "all", "strict": False, "quiet": False, **options}


@contextlib.contextmanager
def opened_listing(
    path: Path, options: "DialectOptions", format: str | None = None
) -> Iterator["Listing"]:
    """Lists the members of a foreign zoo of any format; archives are unpacked while it is open.

    Args:
        path: A folder, file or archive.
        options: What may be changed in states.
        format: Name of the format; None recognizes it.

    Yields:
        The members; the first note says which format was chosen, and why.

    Raises:
        ZoojaxError: If the format is unknown, an archive is unsafe, or there are no members.
    """
    from zoojax.converters.formats.archives import is_archive, unpacked
    from zoojax.converters.formats.published_splits import add_splits
    from zoojax.converters.formats.registry import recognize

    with contextlib.ExitStack() as stack:
        notes: list[str] = []
        if is_archive(path):
            path, notes = stack.enter_context(unpacked(path))
        reader, reason = recognize(path, format)
        listing = reader.members(path, options)
        read = f"read as {reader.label} (--format {reader.name}), because {reason}"
        splits = add_splits(path, listing.sources)
        listing.notes = [read, *notes, *listing.notes, *splits]
        yield listing


def run_conversion(
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
    """Converts listed members with the options of `convert_from`.

    Args:
        sources: The members.
        out: The folder of the zoo.
        own_images: The file with the zoo's own images; None if there is none.
        assumed: Values of hyperparameters that are not reported; None if all must be reported.
        parent: As in `convert_from`.
        preset: As in `convert_from`.
        data: As in `convert_from`.
        data_dir: As in `convert_from`.
        epochs: As in `convert_from`.
        where: As in `convert_from`.
        max_abs_weight: As in `convert_from`.
        min_accuracy: As in `convert_from`.
        strict: As in `convert_from`.
        name: As in `convert_from`.
        quiet: As in `convert_from`.

    Raises:
        ZoojaxError: As in `convert_from`.
    """
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
