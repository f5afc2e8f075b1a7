"""Analyzes a zoo and its twins, and writes the tables, figures and report page."""

from collections.abc import Callable
from pathlib import Path

import polars as pl

from zoojax import figures, report
from zoojax.analysis import Analysis, write_tables
from zoojax.analysis import analyze as compute_tables
from zoojax.analysis.folder import FIGURES, REPORT, TABLES, check_folder, claim_folder
from zoojax.analysis.geometry_tables import add_geometry
from zoojax.errors import ZoojaxError
from zoojax.filesystem.paths import optional_path, output_folder
from zoojax.hyper_representation.evaluation_tables import read_evaluation
from zoojax.hyper_representation.representation import Representation, as_representation
from zoojax.progress import stage_progress
from zoojax.storage.opening import as_zoo
from zoojax.storage.parent import has_same_ids
from zoojax.storage.zoo import Zoo

# A zoo, or the path of its folder.
ZooLike = Zoo | str | Path


def analyze(
    zoo: ZooLike,
    *twins: ZooLike,
    out: str | Path | None = "analysis",
    data: str | Path | None = None,
    data_dir: str | Path | None = None,
    representation: Representation | str | Path | None = None,
    geometry: bool = False,
    quiet: bool = False,
) -> Analysis:
    """Computes the paper's tables for a zoo and its twins, and writes them with all figures.

    The folder contains tables/ (Parquet and CSV; the paper's tables also as Markdown and LaTeX),
    figures/ (SVG and PNG) and the report.html, which needs no network. `zoojax.analysis` has a
    function for each single table.

    Args:
        zoo: Dense zoo, or its folder.
        *twins: Its twins, of any sparsifiers, or their folders.
        out: Folder to write: a new one, or that of an earlier analysis of the same zoo, which is
            replaced. None writes nothing.
        data: The .npz file with the zoo's images, if it was moved.
        data_dir: Folder of image sets; None takes $ZOOJAX_DATA, or else a cache folder.
        representation: An evaluated hyper-representation of the zoo or of a twin, or its folder,
            to include; its tables are named "representation_...".
        geometry: Whether to add the geometry of the zoo: weight space, similarity of layers,
            curvature, and overlap of masks; its tables are named "geometry_...".
        quiet: Whether to show no progress.

    Returns:
        The analysis: polars frames in `tables`, accuracies and sparsities as fractions in
        [0, 1]. If files were written, `path` is their folder and `page` the report.

    Raises:
        ZoojaxError: An argument is neither a zoo nor the folder of one, the zoos do not belong
            together, one has no completed epoch, the images are missing, or the folder holds
            another analysis or cannot be written.

    Example:
        >>> analysis = zoojax.analyze(zoo, out=None, quiet=True)
        >>> analysis.tables["trajectories"].filter(epoch=2)["members"].to_list()
        [3]
    """
    dense = as_zoo(zoo)
    opened = [as_zoo(twin, "a twin") for twin in twins]
    folder = None if out is None else output_folder(out)
    images = optional_path(data, "data") or optional_path(data_dir, "data_dir")
    extra = {}
    if representation is not None:
        extra = representation_tables(representation, dense, *opened)
    if folder is not None:
        check_folder(folder, dense, opened)
    with stage_progress("analyzing", quiet) as stage:
        analysis = compute_tables(dense, opened, data_dir=images, step=stage)
        if geometry:
            add_geometry(analysis, images, stage)
        analysis.tables |= extra
        if folder is not None:
            _write(analysis, folder, stage)
    return analysis


def _write(analysis: Analysis, folder: Path, stage: Callable[[str], None]) -> None:
    # Claimed only now, so that zoos that do not belong together leave no folder behind.
    claim_folder(folder, analysis.zoo, analysis.twins)
    stage("writing tables")
    write_tables(analysis, folder / TABLES)
    stage("drawing figures")
    drawn = figures.draw(analysis, folder / FIGURES)
    images = {path.stem: path.with_suffix(".svg") for path in drawn}
    stage("writing the report")
    report.write(analysis, folder / REPORT, images, folder / TABLES)
    analysis.path = folder


def representation_tables(
    representation: Representation | str | Path, *zoos: Zoo
) -> dict[str, pl.DataFrame]:
    """Returns the tables of a hyper-representation's evaluation under their names in an analysis.

    Args:
        representation: The hyper-representation, or its folder.
        *zoos: The analyzed zoos; it must be trained on one of them.

    Returns:
        Frames by name, each name starting with "representation_".

    Raises:
        ZoojaxError: It was trained on another zoo, or has not been evaluated.
    """
    opened = as_representation(representation)
    trained = [entry.fingerprint for entry in opened.config.zoos]
    if not any(has_same_ids(zoo, fingerprint) for zoo in zoos for fingerprint in trained):
        names = ", ".join(str(zoo.path) for zoo in zoos)
        raise ZoojaxError(f"{opened.path} was trained on none of {names}")
    tables = read_evaluation(opened).tables
    return {f"representation_{name}": table for name, table in tables.items()}
