"""Mask transfer with its table and figure: the command `zoojax geometry transfer`."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from zoojax import figures, geometry
from zoojax.analysis.geometry_tables import transfer_summary
from zoojax.figures.geometry import TRANSFER_CAPTION, transfer_figure
from zoojax.filesystem.paths import optional_path, output_folder
from zoojax.filesystem.tables import write_both
from zoojax.geometry.transfer import WAYS, Way
from zoojax.runtime import distributed
from zoojax.storage.opening import as_zoo
from zoojax.storage.zoo import Zoo


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
) -> pl.DataFrame | None:
    """Prunes members with the masks of others, and compares them with their own masks.

    Args:
        zoo: The dense zoo, or its folder.
        twin: Its twin whose masks are used, or its folder.
        out: Folder of the results; an interrupted call resumes if it is repeated.
        ways: How masks are carried over; see `zoojax.geometry.transfer_masks`.
        members: Ids of the members that are paired; None for all.
        epochs: Epochs of fine-tuning; None takes the twin's.
        chunk: Members that a device trains at once; None chooses for this machine.
        data_dir: Folder of image sets; None takes $ZOOJAX_DATA, or else a cache folder.
        quiet: Whether to show no progress.

    Returns:
        The table of `zoojax.analysis.geometry_tables.transfer_summary`, which is written to the
        folder with the figure; None except in process 0.

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
            return None
        by_member = geometry.transfer_table(dense, pruned, found)
        table = transfer_summary(by_member)
        write_both(folder, "transfer_members", by_member)
        write_both(folder, "transfer", table)
        caption = f"{TRANSFER_CAPTION} n = {by_member['target'].n_unique():,} members."
        figures.save(transfer_figure(table), folder, "transfer", caption)
    return table
