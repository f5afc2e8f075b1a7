"""Options that `zoojax geometry lines` and `zoojax geometry curves` share."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from zoojax.cli.options import DataDir, Flag, option

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class Between:
    """The members to connect, and where to evaluate."""

    pairs: Annotated[tuple[tuple[int, int], ...] | None, option("ID ID ...")] = None
    """Ids of the first and second member of each pair (default: all pairs of one zoo; each member
    at two epochs; or all pairs of parent and twin, or of twins of the same member)."""

    epoch: Annotated[int | None, option("EPOCH")] = None
    """Epoch of the first members (default: the last)."""

    other_epoch: Annotated[int | None, option("EPOCH")] = None
    """Epoch of the second members (default: that of the first ones, or the last of OTHER)."""

    align: Flag = False
    """Align the second member of each pair to the first one by weights."""

    symmetries: Annotated[
        tuple[Literal["permutation", "sign", "scale"], ...], option("NAME ...")
    ] = ("permutation", "sign")
    """Changes to search with --align: permutation, sign, scale."""

    points: Annotated[int, option("N")] = 11
    """Number of evenly spaced points, with the ends."""

    split: Literal["train", "val", "test"] = "test"
    """Images to evaluate on."""

    out: Annotated[Path | None, option("FOLDER")] = None
    """Folder for the tables of points and barriers, as Parquet and CSV (default: none)."""

    data_dir: DataDir = None
    """Folder of image sets (default: $ZOOJAX_DATA, or else a cache folder)."""

    json: Flag = False
    """Print the barriers as JSON on standard output."""

    quiet: Flag = False
    """Show no progress."""


BetweenOptions = tyro.conf.OmitArgPrefixes[Between]


def report_barriers(points: "pl.DataFrame", name: str, options: Between) -> None:
    """Writes the tables of points and barriers, and prints the barriers.

    Args:
        points: the points.
        name: name of the table of points.
        options: the options of the command.
    """
    from zoojax.cli.terminal import say, show_json
    from zoojax.filesystem.atomic import make_folder
    from zoojax.filesystem.paths import output_folder
    from zoojax.filesystem.tables import write_both
    from zoojax.geometry import barriers

    table = barriers(points)
    if options.out is not None:
        folder = output_folder(options.out)
        make_folder(folder)
        write_both(folder, name, points)
        write_both(folder, "barriers", table)
    if options.json:
        show_json({"rows": table.to_dicts()})
        return
    finite = table.fill_nan(None).drop_nulls()
    say(f"{len(table)} pairs, {len(finite)} of them with finite losses")
    for column, unit, factor in (("loss_barrier", "", 1), ("acc_barrier", " %", 100)):
        values = finite[column].to_numpy() * factor
        if len(values):
            mean, spread = values.mean(), values.std()
            label = column.replace("_", " ").replace("acc", "accuracy")
            say(f"{label}: mean {mean:.4g}{unit}, std {spread:.3g}, largest {values.max():.4g}")
