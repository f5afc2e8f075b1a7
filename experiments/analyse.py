"""`zoojax analyse ZOO TWINS --out FOLDER`: the paper's tables and figures, and a page."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from experiments.options import prepare_jax

if TYPE_CHECKING:
    from zoojax.analysis import Analysis

REPORT = "report.html"


@dataclass(frozen=True)
class Analyse:
    """Analyse a zoo and its twins: tables, figures, and a page to explore them.

    Writes tables/ (Parquet, CSV; Markdown and LaTeX of those that the paper has), figures/
    (SVG, PNG) and report.html, which needs no network.
    Example: zoojax analyse zoos/usps zoos/usps-mp zoos/usps-vd --out analysis
    """

    zoo: Annotated[Path, tyro.conf.Positional]
    """Folder of the dense zoo."""

    twins: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """Folders of its twins, one by magnitude pruning, one by variational dropout."""

    out: Path = Path("analysis")
    """Folder to write to; files of an earlier analysis there are replaced."""

    data_dir: Path | None = None
    """Where image sets are looked for (default: $ZOOJAX_DATA, else a cache folder)."""

    quiet: bool = False
    """Show no progress."""

    def run(self) -> None:
        """Analyses, writes, and names the page."""
        prepare_jax()
        from zoojax.zoo import open_zoo

        zoo, twins = open_zoo(self.zoo), [open_zoo(twin) for twin in self.twins]
        write_analysis(zoo, twins, self.out, self.data_dir, self.quiet)


def write_analysis(zoo, twins: list, out: Path, data_dir: Path | None, quiet: bool) -> Path:
    """Analyses a zoo and its twins into a folder, prints what the page says first.

    Returns:
        The page.
    """
    from rich.console import Console

    from experiments.tables import show_comparison
    from zoojax import figures, report
    from zoojax.analysis import analyse, write_tables

    console = Console(stderr=True, quiet=quiet)
    with console.status("analysing") as status:
        found = analyse(
            zoo, twins, data_dir=data_dir, step=lambda what: status.update(f"analysing: {what}")
        )
        status.update("writing tables")
        write_tables(found, out / "tables")
        status.update("drawing figures")
        drawn = {path.stem: path for path in figures.draw(found, out / "figures")}
        status.update("writing the page")
        page = out / REPORT
        report.write(found, page, drawn)
    show_comparison(zoo, *found.twins)
    _show(found)
    print(f"report: {page}")
    return page


def _show(found: "Analysis") -> None:
    """Prints agreement, correlation and where the methods cross, of the last epochs."""
    for note in found.notes:
        print(f"note: {note}")
    crossing = found.tables.get("crossing")
    if crossing is not None and crossing["sparsity"][0] is not None:
        at, low, high = (crossing[name][0] for name in ("sparsity", "low", "high"))
        print(
            "variational dropout is the more accurate above a sparsity of "
            f"{at:.1%} ({low:.1%} to {high:.1%})"
        )
