"""Writes the tables of an analysis to files, and the paper's tables in its layout."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from zoojax import presets
from zoojax.analysis import paper
from zoojax.analysis.added_tables import PREFIX
from zoojax.analysis.captions import about_members, table_captions
from zoojax.analysis.pairing import last_epoch
from zoojax.analysis.paper_comparison import paper_results_of
from zoojax.analysis.results import TABLES, Analysis, Method
from zoojax.filesystem.atomic import atomic_write, make_folder, os_errors, write_table
from zoojax.filesystem.reading import entries
from zoojax.filesystem.tables import write_both
from zoojax.text import printable

# Epochs shown in the paper's Tables 6 and 7.
_TABLE_6_EPOCHS, _TABLE_7_EPOCHS = (0, 2, 4, 6, 8, 10, 13, 16, 19, 22, 25), (0, 5, 10, 15, 20, 25)
# Names of the paper's tables, and beginnings of the names of tables of one method, or of one
# population.
_PAPER_TABLES = ("table1_agreement", "table2_correlation")
_CAPTIONS = "captions"
_PREFIXES = (
    *("table5_", "table6_", "table7_layers_", "table8_layers_"),
    *("agreement_", "geometry_", "representation_"),
    PREFIX,
)
_NAMES = {
    "test_acc": "Accuracy",
    "ggap": "GGap",
    "sparsity": "Sparsity",
    "agreement": "Agreement",
    "sampled_agreement": "Agreement, sampled",
}
# Last columns of Tables 7 and 8.
_LAYER_HEADINGS = ("Accuracy", "GGap")


@dataclass(frozen=True)
class PaperTable:
    """A table formatted as in the paper.

    Attributes:
        name: file name without suffix, and LaTeX label.
        caption: one or two sentences.
        columns: column headings.
        rows: formatted cells, one list per row.
    """

    name: str
    caption: str
    columns: list[str]
    rows: list[list[str]]

    def markdown(self) -> str:
        """Formats the table as Markdown, under its caption."""
        head, *rows = [list(map(_escape_markdown, row)) for row in (self.columns, *self.rows)]
        lines = [head, ["---:"] * len(head), *rows]
        table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
        return f"{_escape_markdown(self.caption)}\n\n{table}\n"

    def latex(self) -> str:
        """Formats the table as LaTeX with booktabs."""
        body = [_latex_row(self.columns), r"\midrule", *map(_latex_row, self.rows)]
        return "\n".join(
            [
                r"\begin{table}",
                r"\centering",
                rf"\caption{{{_escape_latex(self.caption)}}}",
                rf"\label{{tab:{self.name}}}",
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
    return " & ".join(map(_escape_latex, cells)) + r" \\"


_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "^": r"\textasciicircum{}",
        "~": r"\textasciitilde{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        '"': r"\textquotedbl{}",
        # Would form ligatures in ?` and !`.
        "`": r"\textasciigrave{}",
        **{c: f"\\{c}" for c in "&%$#_{}"},
    }
)
_MARKDOWN = str.maketrans({c: f"\\{c}" for c in "\\`*_<>|~$&"})


def _escape_latex(text: str) -> str:
    """Escapes text for LaTeX."""
    return printable(text, 1000).translate(_LATEX)


def _escape_markdown(text: str) -> str:
    """Escapes text for Markdown: no markup, cell separators or links."""
    return printable(text, 1000).translate(_MARKDOWN).replace("](", r"\](").replace("][", r"\][")


def write_tables(analysis: Analysis, folder: Path) -> None:
    """Writes all tables of an analysis.

    Tables are written as Parquet and CSV, agreement matrices as Parquet, and the paper's
    tables as Markdown and LaTeX; captions.md holds the captions. Files of an earlier analysis
    are removed first.

    Args:
        analysis: the analysis.
        folder: output folder; created if it does not exist.

    Raises:
        ZoojaxError: a file cannot be written.
    """
    make_folder(folder)
    # Otherwise tables that this analysis lacks would seem to belong to it.
    with os_errors(folder):
        for name in entries(folder):
            if _is_analysis_file(name):
                (folder / name).unlink()
    for name, table in analysis.tables.items():
        write_both(folder, name, table)
    for name, matrix in analysis.matrices.items():
        file = folder / f"agreement_{name.replace(' ', '_').replace('%', '')}.parquet"
        down, across = (analysis.zoo.members_table["id"].head(size) for size in matrix.shape)
        columns = across.cast(pl.String).to_list()
        table = pl.DataFrame({"member": down}).hstack(pl.DataFrame(matrix, schema=columns))
        write_table(file, table, durable=False)
    write_captions(folder, table_captions(analysis))
    for paper_table in paper_tables(analysis):
        for suffix, text in (("md", paper_table.markdown()), ("tex", paper_table.latex())):
            file = folder / f"{paper_table.name}.{suffix}"
            atomic_write(
                file, lambda path, text=text: path.write_text(text, "utf-8"), durable=False
            )


def write_captions(folder: Path, captions: dict[str, str]) -> None:
    """Writes the captions of the files in a folder to captions.md.

    Args:
        folder: an existing folder.
        captions: captions by name of the file, without suffix.

    Raises:
        ZoojaxError: the file cannot be written.
    """
    lines = [f"**{name}.** {_escape_markdown(caption)}" for name, caption in captions.items()]
    text = "\n\n".join(lines) + "\n"
    file = folder / f"{_CAPTIONS}.md"
    atomic_write(file, lambda path: path.write_text(text, "utf-8"), durable=False)


def _is_analysis_file(name: str) -> bool:
    """Whether an analysis writes files with this name."""
    stem, _, suffix = name.rpartition(".")
    known = stem in (*TABLES, *_PAPER_TABLES, _CAPTIONS) or stem.startswith(_PREFIXES)
    return known and suffix in ("parquet", "csv", "md", "tex")


def paper_tables(analysis: Analysis) -> Iterator[PaperTable]:
    """The paper's Tables 1, 2 and 5 to 8 for this zoo, as far as it has the twins for them.

    Tables 5 and 8 are those of each twin with pruning ratios, Tables 6 and 7 those of each twin
    whose sparsity varies with the epoch.
    """
    if analysis.zoo.config.shape.task.has_own_images:
        return
    values = f"Mean (standard deviation) over members in %. {about_members(analysis)}"
    yield from _agreement_table(analysis, values)
    yield from _correlation_table(analysis)
    trajectories = analysis.tables["trajectories"]
    layers = analysis.zoo.config.shape.layers
    for method in analysis.twin_methods("ratio"):
        table = trajectories.filter(pl.col("method") == method.key).sort("ratio", "epoch")
        if len(table):
            yield from _tables_by_ratio(analysis, method, table, layers, values)
    for method in analysis.twin_methods("epoch"):
        table = trajectories.filter(pl.col("method") == method.key).sort("epoch")
        if len(table):
            yield from _tables_by_epoch(analysis, method, table, layers, values)


def _file_name(method: Method) -> str:
    """A method in names of files: "magnitude_pruning", or "magnitude_pruning-2"."""
    sparsifier = method.sparsifier
    return sparsifier.name + method.key.removeprefix(sparsifier.method)


def _counterpart(analysis: Analysis, methods: list[Method], tables: str) -> str:
    """Names the paper's tables of this zoo; empty if the paper has none of the zoo and twins."""
    printed = paper_results_of(analysis.zoo)
    if printed.is_empty():
        return ""
    for each in methods:
        unknown = each.sparsifier.name not in paper.SPARSIFIERS.values()
        if unknown or presets.twin_difference(analysis.zoo, each.zoo) is not None:
            return ""
    return f" Compare with {tables} of arXiv 2304.13718."


def _tables_by_ratio(
    analysis: Analysis, method: Method, table: pl.DataFrame, layers: Sequence[str], values: str
) -> Iterator[PaperTable]:
    """Tables 5 and 8, from trajectories sorted by ratio and epoch."""
    last = last_epoch(table)
    at_end = table.filter(pl.col("epoch") == last)
    ratios = at_end["ratio"].to_list()
    rows = []
    for metric in ("test_acc", "ggap"):
        for epoch in sorted({0, last} & set(table["epoch"].to_list())):
            at_epoch = table.filter(pl.col("epoch") == epoch)
            # In converted twins, ratios may end at different epochs.
            cells = dict(zip(at_epoch["ratio"], _cells(at_epoch, metric), strict=True))
            rows.append([_NAMES[metric], str(epoch), *(cells.get(r, "-") for r in ratios)])
    columns = ["Metric", "Epoch", *(f"{ratio:.0%}" for ratio in ratios)]
    name = f"table5_{_file_name(method)}"
    caption = (
        f"{method.capitalized}: test accuracy and generalization gap (GGap) by pruning ratio, "
        f"before and after fine-tuning. {values}"
    )
    caption += _counterpart(analysis, [method], "Table 5")
    yield PaperTable(name, caption, columns, rows)
    cells = zip(*(_cells(at_end, name) for name in _layer_quantities(layers)), strict=True)
    rows = [[f"{r:.0%}", *row] for r, row in zip(ratios, cells, strict=True)]
    caption = (
        f"{method.capitalized}: sparsity of each layer, accuracy and generalization gap (GGap) by "
        f"pruning ratio, at epoch {last}. {values}"
    )
    caption += _counterpart(analysis, [method], "Table 8")
    columns = ["Ratio", *layers, *_LAYER_HEADINGS]
    yield PaperTable(f"table8_layers_{method.key}", caption, columns, rows)


def _tables_by_epoch(
    analysis: Analysis, method: Method, table: pl.DataFrame, layers: Sequence[str], values: str
) -> Iterator[PaperTable]:
    """Tables 6 and 7, from trajectories sorted by epoch."""
    selected = table.filter(pl.col("epoch").is_in(_TABLE_6_EPOCHS))
    rows = [
        [_NAMES[metric], *_cells(selected, metric)] for metric in ("test_acc", "ggap", "sparsity")
    ]
    caption = (
        f"{method.capitalized}: test accuracy, generalization gap (GGap) and sparsity by epoch. "
        f"{values}{_counterpart(analysis, [method], 'Table 6')}"
    )
    columns = ["Metric", *map(str, selected["epoch"].to_list())]
    yield PaperTable(f"table6_{_file_name(method)}", caption, columns, rows)
    selected = table.filter(pl.col("epoch").is_in(_TABLE_7_EPOCHS))
    cells = zip(*(_cells(selected, name) for name in _layer_quantities(layers)), strict=True)
    rows = [[str(e), *row] for e, row in zip(selected["epoch"].to_list(), cells, strict=True)]
    caption = (
        f"{method.capitalized}: sparsity of each layer, accuracy and generalization gap (GGap) by "
        f"epoch. {values}{_counterpart(analysis, [method], 'Table 7')}"
    )
    columns = ["Epoch", *layers, *_LAYER_HEADINGS]
    yield PaperTable(f"table7_layers_{method.key}", caption, columns, rows)


def _layer_quantities(layers: Sequence[str]) -> list[str]:
    """Columns of Tables 7 and 8."""
    return [*(f"sparsity_{layer}" for layer in layers), "test_acc", "ggap"]


def _agreement_table(analysis: Analysis, values: str) -> Iterator[PaperTable]:
    table = analysis.tables.get("agreement_summary")
    if table is None:
        return
    quantities = ["test_acc", "sparsity", "agreement"]
    sampled = ""
    if table["sampled_agreement_mean"].is_not_null().any():
        quantities.append("sampled_agreement")
        sampled = " Sampled: with the noise of training, without a threshold."
    cells = zip(*(_cells(table, name) for name in quantities), strict=True)
    rows = [
        [_population(analysis, row), str(row["epoch"]), *cell]
        for row, cell in zip(table.iter_rows(named=True), cells, strict=True)
    ]
    caption = (
        "Agreement of twins with their parents: test images for which both predict the same class. "
        f"{values}{sampled}{_counterpart(analysis, analysis.twin_methods(), 'Tables 1 and 9')}"
    )
    columns = ["Twin", "Epoch", *(_NAMES[name] for name in quantities)]
    yield PaperTable("table1_agreement", caption, columns, rows)


def _correlation_table(analysis: Analysis) -> Iterator[PaperTable]:
    table = analysis.tables.get("correlation")
    if table is None:
        return
    last = pl.col("epoch").max().over("method")
    by_epoch = [method.key for method in analysis.twin_methods("epoch")]
    table = table.filter(pl.col("method").is_in(by_epoch) | (pl.col("epoch") == last))
    rows = [
        [
            _population(analysis, row),
            str(row["epoch"]),
            _percent(row["sparsity"]),
            str(row["members"] - row["diverged"]),
            *(_coefficient(row, name) for name in ("pearson", "kendall")),
        ]
        for row in table.iter_rows(named=True)
    ]
    caption = (
        "Correlation over members (n of them finite) of test accuracy before and after "
        "sparsification, in % with 95 % bootstrap intervals. "
        f"{about_members(analysis)}{_counterpart(analysis, analysis.twin_methods(), 'Table 2')}"
    )
    columns = ["Twin", "Epoch", "Sparsity", "n", "Pearson's r", "Kendall's tau"]
    yield PaperTable("table2_correlation", caption, columns, rows)


def _coefficient(row: dict, name: str) -> str:
    if row[name] is None:
        return row["remark"] or "-"
    low, high = (_percent(row[f"{name}_{end}"]) for end in ("low", "high"))
    return f"{_percent(row[name])} [{low}, {high}]"


def _population(analysis: Analysis, row: dict) -> str:
    method = next(each for each in analysis.methods if each.key == row["method"])
    ratio = row["ratio"]
    return method.label if ratio is None else f"{method.label} {ratio:.0%}{method.of}"


def _cells(table: pl.DataFrame, name: str) -> list[str]:
    means, stds = table[f"{name}_mean"].to_list(), table[f"{name}_std"].to_list()
    return [f"{_percent(m)} ({_percent(s)})" for m, s in zip(means, stds, strict=True)]


def _percent(fraction: float | None) -> str:
    return "-" if fraction is None else f"{100 * fraction:.1f}"
