"""`zoojax analyse ZOO TWINS --out FOLDER`: the paper's tables and figures, and a page."""

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


@dataclass(frozen=True)
class Analyse:
    """Analyse a zoo and its twins: tables, figures, and a page to explore them.

    Writes tables/ (Parquet, CSV; Markdown and LaTeX of those that the paper has), figures/
    (SVG, PNG) and report.html, which needs no network.
    Example: zoojax analyse zoos/usps zoos/usps-mp zoos/usps-vd --out analysis
    """

    zoo: Annotated[Path, tyro.conf.Positional, option("ZOO")]
    """Folder of the dense zoo."""

    twins: Annotated[tuple[Path, ...], tyro.conf.Positional, option("[TWIN ...]")] = ()
    """Folders of its twins, one by magnitude pruning, one by variational dropout."""

    out: Annotated[Path, option("FOLDER")] = Path("analysis")
    """Folder to write to: new, or that of an earlier analysis of the same zoo, which is
    replaced."""

    data: Annotated[Path | None, option("NPZ")] = None
    """The .npz file of the zoo's images, where it is no longer in its place."""

    data_dir: DataDir = None
    """Where image sets are looked for (default: $ZOOJAX_DATA, else a cache folder)."""

    representation: Annotated[Path | None, option("REP")] = None
    """Folder of a hyper-representation of the zoo or a twin, evaluated, to show besides."""

    json: Flag = False
    """Print JSON on standard output."""

    quiet: Flag = False
    """Show no progress."""

    def run(self) -> None:
        """Analyses, writes, and names the page."""
        configure_jax()
        from zoojax.storage.zoo import open_zoo

        zoo, twins = open_zoo(self.zoo), [open_zoo(twin) for twin in self.twins]
        more = (
            {}
            if self.representation is None
            else representation_tables(self.representation, zoo, *twins)
        )
        images = self.data or self.data_dir
        write_analysis(zoo, twins, self.out, images, self.quiet, self.json, more)


def representation_tables(path: Path, *zoos: "Zoo") -> "dict[str, pl.DataFrame]":
    """Tables of a hyper-representation's evaluation, as an analysis names them.

    Args:
        path: its folder.
        zoos: of which it must have been learned from one.

    Raises:
        ZoojaxError: it was not, or it has not been evaluated.
    """
    from zoojax.errors import ZoojaxError
    from zoojax.hyper_representation.evaluation_tables import read_evaluation
    from zoojax.hyper_representation.representation import open_representation

    representation = open_representation(path)
    if representation.config.fingerprint not in {zoo.fingerprint for zoo in zoos}:
        raise ZoojaxError(f"{path} was learned from none of {', '.join(str(z.path) for z in zoos)}")
    tables = read_evaluation(representation).tables
    return {f"representation_{name}": table for name, table in tables.items()}


def write_analysis(
    zoo: "Zoo",
    twins: "list[Zoo]",
    out: Path,
    data_dir: Path | None,
    quiet: bool,
    as_json: bool,
    more: "dict[str, pl.DataFrame] | None" = None,
) -> Path:
    """Analyses a zoo and its twins into a folder, prints what the page says first.

    Args:
        zoo, twins, out, data_dir, quiet: see `Analyse`.
        as_json: print JSON.
        more: tables to write and show besides.

    Returns:
        The page.
    """
    from rich.console import Console

    from zoojax import figures, report
    from zoojax.analysis import analyze, write_tables
    from zoojax.analysis.folder import FIGURES, REPORT, TABLES, check_folder, claim_folder
    from zoojax.cli.terminal import comparison, say, show_comparison, show_json

    check_folder(out, zoo, twins)
    console = Console(stderr=True, quiet=quiet)
    with console.status("analysing") as status:
        found = analyze(
            zoo, twins, data_dir=data_dir, step=lambda what: status.update(f"analysing: {what}")
        )
        found.tables |= more or {}
        # Not before: a zoo and twins that do not belong together leave no trace.
        claim_folder(out, zoo, found.twins)
        status.update("writing tables")
        write_tables(found, out / TABLES)
        status.update("drawing figures")
        drawn = {path.stem: path for path in figures.draw(found, out / FIGURES)}
        status.update("writing the page")
        page = out / REPORT
        report.write(found, page, drawn)
    if as_json:
        names = ("crossing", "agreement_summary", "paper")
        tables = {name: found.tables[name].to_dicts() for name in names if name in found.tables}
        rows = comparison(zoo, *found.twins)
        show_json({"report": page, "rows": rows, **tables, "notes": found.notes})
        return page
    show_comparison(zoo, *found.twins)
    _show(found)
    say(f"report: {page}")
    return page


def _show(found: "Analysis") -> None:
    """Prints the notes, and where the methods cross."""
    from zoojax.cli.terminal import say

    say(*(f"note: {note}" for note in found.notes))
    crossing = found.tables.get("crossing")
    if crossing is not None and crossing["above"][0] is not None:
        above, below = crossing["above"][0], crossing["below"][0]
        say(
            "variational dropout becomes the more accurate between the measured sparsities "
            f"{100 * above:.4g} % and {100 * below:.4g} %"
        )
