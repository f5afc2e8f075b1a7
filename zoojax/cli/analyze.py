"""`zoojax analyze ZOO TWINS --out FOLDER`: the paper's tables and figures, and a report page."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from zoojax.cli.options import DataDir, Flag, option
from zoojax.runtime.startup import configure_jax

if TYPE_CHECKING:
    from zoojax.analysis import Analysis

# Tables printed with --json.
_JSON_TABLES = ("crossing", "agreement_summary", "paper")
_COST, _RANKING = "added_method_cost", "added_method_ranking"
_EACH = "cpu_seconds_per_member"


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
    """Folder of image sets (default: $ZOOJAX_DATA, or else a cache folder)."""

    representation: Annotated[Path | None, option("REP")] = None
    """Folder of an evaluated hyper-representation of the zoo or of a twin, to include in the
    report."""

    geometry: Flag = False
    """Add the geometry of the zoo: weight space, similarity of layers, curvature of the loss, and
    overlap of masks. Takes minutes for small networks."""

    json: Flag = False
    """Print JSON on standard output."""

    quiet: Flag = False
    """Show no progress."""

    def run(self) -> None:
        """Analyzes the zoos, writes all files and prints the path of the page."""
        configure_jax()
        from zoojax.workflows.analyze import analyze

        analysis = analyze(
            self.zoo,
            *self.twins,
            out=self.out,
            data=self.data,
            data_dir=self.data_dir,
            representation=self.representation,
            geometry=self.geometry,
            quiet=self.quiet,
        )
        print_analysis(analysis, self.json)


def print_analysis(analysis: "Analysis", as_json: bool, *, costs: bool = False) -> None:
    """Prints a summary of a written analysis, and the path of its page.

    Args:
        analysis: the analysis.
        as_json: print JSON instead of a table.
        costs: whether to print the training cost of each zoo.
    """
    from zoojax.cli.terminal import comparison, say, show_comparison, show_json

    zoo, twins = analysis.zoo, analysis.twins
    if as_json:
        printed = (*_JSON_TABLES, _COST, _RANKING)
        tables = {
            n.removeprefix("added_"): analysis.tables[n].to_dicts()
            for n in printed
            if n in analysis.tables
        }
        rows = comparison(zoo, *twins)
        show_json({"report": analysis.page, "rows": rows, **tables, "notes": analysis.notes})
        return
    show_comparison(zoo, *twins)
    print_findings(analysis)
    if costs and _COST in analysis.tables:
        print_costs(analysis)
    say(f"report: {analysis.page}")


def print_costs(analysis: "Analysis") -> None:
    """Prints the training cost of each zoo of an analysis, if it is known.

    Args:
        analysis: the analysis.
    """
    from zoojax.cli.terminal import Column, print_table
    from zoojax.text import printable

    labels = {method.key: method.label for method in (analysis.methods[0], *analysis.whole_methods)}
    rows = [
        [printable(labels[row["method"]]), *(str(row[n]) for n in ("epochs", "budget", "members"))]
        + ["-" if row[n] is None else f"{row[n]:.{d}f}" for n, d in (("seconds", 0), (_EACH, 2))]
        for row in analysis.tables[_COST].iter_rows(named=True)
    ]
    names = ("epochs", "total epochs", "members", "seconds", "CPU s per member")
    print_table(
        [Column("zoo", numeric=False), *map(Column, names)],
        rows,
        title="Training cost of each zoo",
        caption="total epochs include those of the dense parents",
    )


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
