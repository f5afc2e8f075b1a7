"""`zoojax analyze ZOO TWINS --out FOLDER`: the paper's tables and figures, and a report page."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from zoojax.cli.options import DataDir, Flag, option
from zoojax.runtime.startup import configure_jax

if TYPE_CHECKING:
    import polars as pl

    from zoojax.analysis import Analysis
    from zoojax.storage.zoo import Zoo

# Tables printed with --json.
_JSON_TABLES = ("crossing", "agreement_summary", "paper")


@dataclass(frozen=True)
class Analyze:
    """Analyze a zoo and its twins: tables, figures, and an interactive report page.

    Writes tables/ (Parquet and CSV; the paper's tables also as Markdown and LaTeX), figures/
    (SVG and PNG) and report.html, which needs no network.
    Example: zoojax analyze zoos/usps zoos/usps-mp zoos/usps-vd --out analysis
    """

    zoo: Annotated[Path, tyro.conf.Positional, option("ZOO")]
    """Folder of the dense zoo."""

    twins: Annotated[tuple[Path, ...], tyro.conf.Positional, option("[TWIN ...]")] = ()
    """Folders of its twins, of any sparsifiers."""

    out: Annotated[Path, option("FOLDER")] = Path("analysis")
    """Output folder: a new one, or that of an earlier analysis of the same zoo, which is
    replaced."""

    data: Annotated[Path | None, option("NPZ")] = None
    """The .npz file with the zoo's images, if it was moved."""

    data_dir: DataDir = None
    """Folder with the image sets (default: $ZOOJAX_DATA, else a cache folder)."""

    representation: Annotated[Path | None, option("REP")] = None
    """Folder of an evaluated hyper-representation of the zoo or of a twin, to include in the
    report."""

    json: Flag = False
    """Print JSON on standard output."""

    quiet: Flag = False
    """Show no progress."""

    def run(self) -> None:
        """Analyzes the zoos, writes all files and prints the path of the page."""
        configure_jax()
        from zoojax.storage.zoo import open_zoo

        zoo, twins = open_zoo(self.zoo), [open_zoo(twin) for twin in self.twins]
        extra_tables = (
            {}
            if self.representation is None
            else representation_tables(self.representation, zoo, *twins)
        )
        images = self.data or self.data_dir
        write_analysis(zoo, twins, self.out, images, self.quiet, self.json, extra_tables)


def representation_tables(path: Path, *zoos: "Zoo") -> "dict[str, pl.DataFrame]":
    """Tables of a hyper-representation's evaluation under their names in an analysis.

    Args:
        path: folder of the hyper-representation.
        zoos: the analyzed zoos; the hyper-representation must be trained on one of them.

    Returns:
        Frames by name, each name starting with "representation_".

    Raises:
        ZoojaxError: it was trained on another zoo, or has not been evaluated.
    """
    from zoojax.errors import ZoojaxError
    from zoojax.hyper_representation.evaluation_tables import read_evaluation
    from zoojax.hyper_representation.representation import open_representation

    representation = open_representation(path)
    if representation.config.fingerprint not in {zoo.fingerprint for zoo in zoos}:
        names = ", ".join(str(zoo.path) for zoo in zoos)
        raise ZoojaxError(f"{path} was trained on none of {names}")
    tables = read_evaluation(representation).tables
    return {f"representation_{name}": table for name, table in tables.items()}


def write_analysis(
    zoo: "Zoo",
    twins: "list[Zoo]",
    out: Path,
    data_dir: Path | None,
    quiet: bool,
    as_json: bool,
    extra_tables: "dict[str, pl.DataFrame] | None" = None,
) -> Path:
    """Analyzes a zoo and its twins, writes all files and prints a summary.

    Args:
        zoo: the dense zoo.
        twins: its twins.
        out: output folder.
        data_dir: the .npz file with the zoo's images, or the folder with the image sets.
        quiet: show no progress.
        as_json: print JSON instead of a table.
        extra_tables: more tables to write and show, by name.

    Returns:
        Path of the report page.

    Raises:
        ZoojaxError: the zoos do not belong together, or the folder holds another analysis
            or cannot be written.
    """
    from rich.console import Console

    from zoojax import figures, report
    from zoojax.analysis import analyze, write_tables
    from zoojax.analysis.folder import FIGURES, REPORT, TABLES, check_folder, claim_folder
    from zoojax.cli.terminal import comparison, say, show_comparison, show_json

    check_folder(out, zoo, twins)
    console = Console(stderr=True, quiet=quiet)
    with console.status("analyzing") as status:
        analysis = analyze(
            zoo, twins, data_dir=data_dir, step=lambda name: status.update(f"analyzing: {name}")
        )
        analysis.tables |= extra_tables or {}
        # Claimed only now, so that zoos that do not belong together leave no folder behind.
        claim_folder(out, zoo, analysis.twins)
        status.update("writing tables")
        write_tables(analysis, out / TABLES)
        status.update("drawing figures")
        drawn = figures.draw(analysis, out / FIGURES)
        images = {path.stem: path.with_suffix(".svg") for path in drawn}
        status.update("writing the report")
        page = out / REPORT
        report.write(analysis, page, images, out / TABLES)
    if as_json:
        tables = {n: analysis.tables[n].to_dicts() for n in _JSON_TABLES if n in analysis.tables}
        rows = comparison(zoo, *analysis.twins)
        show_json({"report": page, "rows": rows, **tables, "notes": analysis.notes})
        return page
    show_comparison(zoo, *analysis.twins)
    print_findings(analysis)
    say(f"report: {page}")
    return page


def print_findings(analysis: "Analysis") -> None:
    """Prints the notes, and where a method becomes more accurate than another."""
    from zoojax.cli.terminal import say
    from zoojax.text import printable

    say(*(f"note: {note}" for note in analysis.notes))
    for one, other, crossover in analysis.by_pair("crossing"):
        above, below = crossover["above"][0], crossover["below"][0]
        if above is None:
            continue
        between = f"between the measured sparsities {100 * above:.4g} % and {100 * below:.4g} %"
        point, members = crossover["sparsity"][0], crossover["members"][0]
        estimate = "" if point is None else f", at about {100 * point:.0f} % by interpolation"
        say(
            f"{printable(other.label)} becomes more accurate than {printable(one.label)} "
            f"{between}{estimate} (means of {members} members)"
        )
