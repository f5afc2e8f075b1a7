"""An analysis as files: every table, and those that the paper prints as it prints them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from zoojax.analysis.pairing import last_epoch
from zoojax.analysis.results import TABLES, Analysis
from zoojax.filesystem.atomic import atomic_write, make_folder, os_errors, write_table
from zoojax.filesystem.reading import entries
from zoojax.filesystem.tables import write_both
from zoojax.text import printable

_LONGEST_NAME = 100
# Epochs that the paper's Tables 6 and 7 show.
_TABLE_6, _TABLE_7 = (0, 2, 4, 6, 8, 10, 13, 16, 19, 22, 25), (0, 5, 10, 15, 20, 25)
_PRINTED = (
    *("table1_agreement", "table2_correlation", "table5_magnitude_pruning"),
    *("table6_variational_dropout", "table7_layers_vd", "table8_layers_mp"),
)
_NAMES = {"test_acc": "Accuracy", "ggap": "GGap", "sparsity": "Sparsity", "agreement": "Agreement"}


@dataclass(frozen=True)
class PaperTable:
    """A table for reading.

    Attributes:
        name: of its files.
        caption: what it shows, a sentence.
        columns: headings.
        rows: cells.
    """

    name: str
    caption: str
    columns: list[str]
    rows: list[list[str]]

    def markdown(self) -> str:
        """As a Markdown table under its caption."""
        head, *rows = [list(map(_escaped_markdown, row)) for row in (self.columns, *self.rows)]
        lines = [head, ["---:"] * len(head), *rows]
        table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
        return f"{_escaped_markdown(self.caption)}\n\n{table}\n"

    def latex(self) -> str:
        """As a LaTeX table with booktabs."""
        body = [_latex_row(self.columns), r"\midrule", *map(_latex_row, self.rows)]
        return "\n".join(
            [
                r"\begin{table}",
                r"\centering",
                rf"\caption{{{_escaped(self.caption)}}}",
                rf"\begin{{tabular}}{{{'r' * len(self.columns)}}}",
                r"\toprule",
                *body,
                r"\bottomrule",
                r"\end{tabular}",
                r"\end{table}",
                "",
            ]
        )


def _latex_row(cells: list[str]) -> str:
    return " & ".join(map(_escaped, cells)) + r" \\"


_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "^": r"\textasciicircum{}",
        "~": r"\textasciitilde{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        '"': r"\textquotedbl{}",
        # Ligatures: ?` and !` are other signs, -- is a dash.
        "`": r"\textasciigrave{}",
        **{c: f"\\{c}" for c in "&%$#_{}"},
    }
)
_MARKDOWN = str.maketrans({c: f"\\{c}" for c in "\\`*_<>|~$&"})


def _escaped(text: str) -> str:
    """Text as LaTeX prints it."""
    return printable(text, 1000).translate(_LATEX)


def _escaped_markdown(text: str) -> str:
    """Text as Markdown shows it: no markup, no cell of its own, no link."""
    return printable(text, 1000).translate(_MARKDOWN).replace("](", r"\](").replace("][", r"\][")


def write_tables(found: Analysis, folder: Path) -> None:
    """Writes every table as Parquet and CSV, the matrices of agreement as Parquet, and
    those that the paper prints as Markdown and LaTeX too.

    Raises:
        ZoojaxError: a file cannot be written.
    """
    make_folder(folder)
    # Of an earlier analysis: what this one lacks would pass for its own.
    with os_errors(folder):
        for name in entries(folder):
            if _is_ours(name):
                (folder / name).unlink()
    for name, table in found.tables.items():
        write_both(folder, name, table)
    for name, matrix in found.matrices.items():
        file = folder / f"agreement_{name.replace(' ', '_').replace('%', '')}.parquet"
        down, across = (found.zoo.members_table["id"].head(size) for size in matrix.shape)
        columns = across.cast(pl.String).to_list()
        table = pl.DataFrame({"member": down}).hstack(pl.DataFrame(matrix, schema=columns))
        write_table(file, table, durable=False)
    for printed in paper_tables(found):
        for suffix, text in (("md", printed.markdown()), ("tex", printed.latex())):
            file = folder / f"{printed.name}.{suffix}"
            atomic_write(
                file, lambda path, text=text: path.write_text(text, "utf-8"), durable=False
            )


def _is_ours(name: str) -> bool:
    """Whether an analysis writes a file of this name."""
    stem, _, suffix = name.rpartition(".")
    known = stem in (*TABLES, *_PRINTED) or stem.startswith(("agreement_", "representation_"))
    return known and suffix in ("parquet", "csv", "md", "tex")


def paper_tables(found: Analysis) -> Iterator[PaperTable]:
    """The paper's Tables 1, 2 and 5 to 8 of this zoo, as far as it has twins."""
    zoo, count = printable(found.zoo.config.name, _LONGEST_NAME), len(found.zoo)
    values = f"{zoo}, {count} members; mean (std) in %."
    yield from _agreement(found, values)
    yield from _correlation(found, zoo)
    trajectories = found.tables["trajectories"]
    layers = [f"sparsity_{layer}" for layer in found.zoo.config.shape.layers]
    shown = [*layers, "test_acc", "ggap"]
    headings = [*found.zoo.config.shape.layers, "Accuracy", "GGap"]
    pruned = trajectories.filter(pl.col("method") == "mp").sort("ratio", "epoch")
    if len(pruned):
        last = last_epoch(pruned)
        ended = pruned.filter(pl.col("epoch") == last)
        # Converted twins may end at other epochs at other ratios.
        ratios = ended["ratio"].to_list()
        rows = []
        for metric in ("test_acc", "ggap"):
            for epoch in sorted({0, last} & set(pruned["epoch"].to_list())):
                of_epoch = pruned.filter(pl.col("epoch") == epoch)
                cells = dict(zip(of_epoch["ratio"], _cells(of_epoch, metric), strict=True))
                rows.append([_NAMES[metric], str(epoch), *(cells.get(r, "-") for r in ratios)])
        columns = ["Metric", "Epoch", *(f"{ratio:.0%}" for ratio in ratios)]
        caption = f"Magnitude pruning by ratio and epoch of fine-tuning (Table 5). {values}"
        yield PaperTable("table5_magnitude_pruning", caption, columns, rows)
        cells = zip(*(_cells(ended, name) for name in shown), strict=True)
        rows = [[f"{r:.0%}", *row] for r, row in zip(ratios, cells, strict=True)]
        caption = f"Magnitude pruning: sparsity by layer (Table 8). {values}"
        yield PaperTable("table8_layers_mp", caption, ["Ratio", *headings], rows)
    dropped = trajectories.filter(pl.col("method") == "vd").sort("epoch")
    if len(dropped):
        few = dropped.filter(pl.col("epoch").is_in(_TABLE_6))
        rows = [
            [_NAMES[metric], *_cells(few, metric)] for metric in ("test_acc", "ggap", "sparsity")
        ]
        caption = f"Variational dropout by epoch (Table 6). {values}"
        columns = ["Metric", *map(str, few["epoch"].to_list())]
        yield PaperTable("table6_variational_dropout", caption, columns, rows)
        few = dropped.filter(pl.col("epoch").is_in(_TABLE_7))
        cells = zip(*(_cells(few, name) for name in shown), strict=True)
        rows = [[str(e), *row] for e, row in zip(few["epoch"].to_list(), cells, strict=True)]
        caption = f"Variational dropout: sparsity by layer and epoch (Table 7). {values}"
        yield PaperTable("table7_layers_vd", caption, ["Epoch", *headings], rows)


def _agreement(found: Analysis, values: str) -> Iterator[PaperTable]:
    table = found.tables.get("agreement_summary")
    if table is None:
        return
    quantities = ("test_acc", "sparsity", "agreement")
    cells = zip(*(_cells(table, name) for name in quantities), strict=True)
    rows = [
        [_population(row), str(row["epoch"]), *cell]
        for row, cell in zip(table.iter_rows(named=True), cells, strict=True)
    ]
    caption = f"Agreement of twins with the members they were made from (Tables 1, 9). {values}"
    columns = ["Twin", "Epoch", *(_NAMES[name] for name in quantities)]
    yield PaperTable("table1_agreement", caption, columns, rows)


def _correlation(found: Analysis, zoo: str) -> Iterator[PaperTable]:
    table = found.tables.get("correlation")
    if table is None:
        return
    last = pl.col("epoch").max().over("method")
    table = table.filter((pl.col("method") == "vd") | (pl.col("epoch") == last))
    rows = [
        [
            _population(row),
            str(row["epoch"]),
            _percent(row["sparsity"]),
            *(
                f"{_percent(row[name])} [{_percent(row[f'{name}_low'])}, "
                f"{_percent(row[f'{name}_high'])}]"
                if row[name] is not None
                else "-"
                for name in ("pearson", "kendall")
            ),
        ]
        for row in table.iter_rows(named=True)
    ]
    caption = (
        f"Correlation of accuracy before and after sparsification (Table 2). {zoo}, "
        f"{len(found.zoo)} members; in %, with 95 % bootstrap intervals."
    )
    columns = ["Twin", "Epoch", "Sparsity", "Pearson's r", "Kendall's tau"]
    yield PaperTable("table2_correlation", caption, columns, rows)


def _population(row: dict) -> str:
    if row["method"] == "vd":
        return "variational dropout"
    return f"magnitude pruning {row['ratio']:.0%}"


def _cells(table: pl.DataFrame, name: str) -> list[str]:
    means, stds = table[f"{name}_mean"].to_list(), table[f"{name}_std"].to_list()
    return [f"{_percent(m)} ({_percent(s)})" for m, s in zip(means, stds, strict=True)]


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"
