"""Geometry of a zoo with its tables and figures: commands of `zoojax geometry`.

Each function has the options of its command, with the same names and defaults.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import polars as pl

from zoojax import figures, geometry
from zoojax.analysis.geometry_tables import (
    CURVED_IMAGES,
    EIGENVALUES,
    IMAGES,
    MEMBERS,
    OVERLAPS,
    SAMPLES,
    STEPS,
    barrier_summary,
    curvature_tables,
    summarize,
    training_images,
    transfer_summary,
)
from zoojax.errors import ZoojaxError
from zoojax.figures.basins import (
    BARRIER_CAPTION,
    TRANSFER_CAPTION,
    barrier_figure,
    transfer_figure,
)
from zoojax.filesystem.atomic import make_folder
from zoojax.filesystem.paths import optional_path, output_folder
from zoojax.filesystem.reading import exists, is_folder
from zoojax.filesystem.tables import write_both
from zoojax.geometry.transfer import WAYS, Way
from zoojax.progress import count_progress
from zoojax.runtime import distributed
from zoojax.storage.opening import as_zoo
from zoojax.storage.zoo import Zoo


def curvature(
    zoo: Zoo | str | Path,
    *,
    out: str | Path | None = None,
    epoch: int | None = None,
    members: Sequence[int] | None = None,
    images: int = CURVED_IMAGES,
    samples: int = SAMPLES,
    exact: bool = False,
    eigenvalues: int = EIGENVALUES,
    steps: int = STEPS,
    data_dir: str | Path | None = None,
    quiet: bool = False,
) -> dict[str, pl.DataFrame]:
    """Measures the curvature of the loss on training images at the members of a zoo.

    Args:
        zoo: The zoo, dense or a twin, or its folder.
        out: Folder for the tables; None writes none.
        epoch: Epoch; None for the newest.
        members: Ids of the members; None for all.
        images: Number of training images, the first ones.
        samples: Random vectors of Hutchinson's estimate of the trace.
        exact: Whether to compute the exact trace instead, with one product per parameter.
        eigenvalues: Number of eigenvalues.
        steps: Lanczos steps.
        data_dir: Folder of image sets; None takes $ZOOJAX_DATA, or else a cache folder.
        quiet: Whether to show no progress.

    Returns:
        Tables of the members: "curvature" (`zoojax.geometry.hessian_trace`) and "eigenvalues"
        (`zoojax.geometry.top_eigenvalues`), with column `ratio`.

    Raises:
        ZoojaxError: An argument is invalid, or images or states are missing.
    """
    opened = as_zoo(zoo)
    folder = _output(out)
    with count_progress("curvature", quiet) as show:
        traces, values = curvature_tables(
            opened,
            epoch=epoch,
            members=members,
            images=images,
            samples=None if exact else samples,
            steps=steps,
            count=eigenvalues,
            data_dir=optional_path(data_dir, "data_dir"),
            show=show,
        )
    return _written(folder, {"curvature": traces, "eigenvalues": values})


def similarity(
    zoo: Zoo | str | Path,
    *,
    out: str | Path | None = None,
    epoch: int | None = None,
    members: Sequence[int] | None = None,
    images: int = IMAGES,
    data_dir: str | Path | None = None,
    quiet: bool = False,
) -> dict[str, pl.DataFrame]:
    """Measures how similar members are: in weight space by epoch, and in the outputs of layers.

    Args:
        zoo: The zoo, dense, aligned or a twin, or its folder.
        out: Folder for the tables; None writes none.
        epoch: Epoch of CKA; None for the newest.
        members: Ids of the members for CKA; None for the first 64.
        images: Number of training images for CKA, the first ones.
        data_dir: Folder of image sets; None takes $ZOOJAX_DATA, or else a cache folder.
        quiet: Whether to show no progress.

    Returns:
        Tables: "similarity" (`zoojax.geometry.similarity_by_epoch`) and "layers"
        (`zoojax.geometry.layer_similarity`).

    Raises:
        ZoojaxError: An argument is invalid, or images or states are missing.
    """
    opened = as_zoo(zoo)
    folder = _output(out)
    if members is None:
        members = opened.members_table["id"].head(MEMBERS).to_list()
    chosen = geometry.members_at(opened, epoch, members)
    pixels, _ = training_images(opened, images, optional_path(data_dir, "data_dir"))
    with count_progress("layers", quiet) as show:
        layers = geometry.layer_similarity(chosen, geometry.cka(chosen, pixels, show=show))
    with count_progress("weight space", quiet) as show:
        by_epoch = geometry.similarity_by_epoch(opened, show=show)
    return _written(folder, {"similarity": by_epoch, "layers": layers})


def basins(
    zoo: Zoo | str | Path,
    twin: Zoo | str | Path,
    *,
    out: str | Path | None = None,
    epoch: int | None = None,
    points: int = 11,
    split: Literal["train", "val", "test"] = "test",
    data_dir: str | Path | None = None,
    quiet: bool = False,
) -> dict[str, pl.DataFrame]:
    """Measures whether twins leave the basins of their parents, and how masks overlap.

    Args:
        zoo: The dense zoo, or its folder.
        twin: Its twin, or its folder.
        out: Folder for the tables and a figure of barriers; None writes none.
        epoch: Epoch of the twin; None for the newest.
        points: Number of evenly spaced points on each line, with its ends.
        split: Images to evaluate on: "train", "val" or "test".
        data_dir: Folder of image sets; None takes $ZOOJAX_DATA, or else a cache folder.
        quiet: Whether to show no progress.

    Returns:
        Tables: "barriers_lines" (`zoojax.geometry.basins`), "masks_pairs"
        (`zoojax.geometry.mask_overlap`), and their means, "barriers" and "masks".

    Raises:
        ZoojaxError: An argument is invalid, or images or states are missing.
    """
    dense, pruned = as_zoo(zoo), as_zoo(twin, "a twin")
    folder = _output(out)
    with count_progress("barriers", quiet) as show:
        by_line = geometry.basins(
            dense,
            pruned,
            epoch=epoch,
            points=points,
            split=split,
            data_dir=optional_path(data_dir, "data_dir"),
            show=show,
        )
    overlap = geometry.mask_overlap(dense, pruned, epoch=epoch)
    tables = {
        "barriers_lines": by_line,
        "barriers": barrier_summary(by_line),
        "masks_pairs": overlap,
        "masks": summarize(overlap, ["ratio"], list(OVERLAPS)),
    }
    if folder is not None:
        make_folder(folder)
        figures.save(barrier_figure(tables["barriers"]), folder, "barriers", BARRIER_CAPTION)
    return _written(folder, tables)


def mask_transfer(
    zoo: Zoo | str | Path,
    twin: Zoo | str | Path,
    out: str | Path,
    *,
    ways: Sequence[Way] = WAYS,
    members: Sequence[int] | None = None,
    epochs: int | None = None,
    chunk: int | None = None,
    data_dir: str | Path | None = None,
    quiet: bool = False,
) -> dict[str, pl.DataFrame]:
    """Prunes members with the masks of others, and compares them with their own masks.

    Args:
        zoo: The dense zoo, or its folder.
        twin: Its twin whose masks are used, or its folder.
        out: Folder of the twins, the tables and a figure. Repeat an interrupted call to resume
            it.
        ways: How masks are transferred; see `zoojax.geometry.transfer_masks`.
        members: Ids of the members that are paired; None for all.
        epochs: Epochs of fine-tuning; None takes the twin's.
        chunk: Members that a device trains at once; None chooses for this machine.
        data_dir: Folder of image sets; None takes $ZOOJAX_DATA, or else a cache folder.
        quiet: Whether to show no progress.

    Returns:
        Tables: "transfer_members" (`zoojax.geometry.transfer_table`) and "transfer", their means
        (`zoojax.analysis.geometry_tables.transfer_summary`). Empty except in process 0.

    Raises:
        ZoojaxError: An argument is invalid; see `zoojax.geometry.transfer_masks`.
    """
    dense, pruned, folder = as_zoo(zoo), as_zoo(twin, "a twin"), output_folder(out)
    found = geometry.transfer_masks(
        dense,
        pruned,
        folder,
        ways=ways,
        members=members,
        epochs=epochs,
        chunk=chunk,
        data_dir=optional_path(data_dir, "data_dir"),
        quiet=quiet,
    )
    with distributed.main_process_first() as is_main:
        if not is_main:
            return {}
        by_member = geometry.transfer_table(dense, pruned, found)
        tables = {"transfer_members": by_member, "transfer": transfer_summary(by_member)}
        _written(folder, tables)
        caption = f"{TRANSFER_CAPTION} n = {by_member['target'].n_unique():,} members."
        figures.save(transfer_figure(tables["transfer"]), folder, "transfer", caption)
    return tables


def _output(out: str | Path | None) -> Path | None:
    """Checks an output folder before the computation, which can take minutes."""
    if out is None:
        return None
    folder = output_folder(out)
    if exists(folder) and not is_folder(folder):
        raise ZoojaxError(f"{folder} is a file; give --out a new folder")
    return folder


def _written(folder: Path | None, tables: Mapping[str, pl.DataFrame]) -> dict[str, pl.DataFrame]:
    """Writes tables as Parquet and CSV, and returns them."""
    if folder is not None:
        make_folder(folder)
        for name, table in tables.items():
            write_both(folder, name, table)
    return dict(tables)
