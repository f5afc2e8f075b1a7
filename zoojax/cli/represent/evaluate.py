"""`zoojax represent evaluate REP`: measures reconstruction and property prediction."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from zoojax.cli.options import DataDir, Flag, option
from zoojax.runtime.startup import configure_jax

if TYPE_CHECKING:
    import polars as pl

    from zoojax.hyper_representation.evaluation_tables import Evaluation


@dataclass(frozen=True)
class EvaluateRepresentation:
    """Measure a hyper-representation on held-out members.

    Writes tables (Parquet and CSV) to REP/evaluation, where `zoojax analyze` reads them. All
    figures have 95 % intervals over members.
    Example: zoojax represent evaluate reps/usps --predictors boosting mlp equivariant
    """

    representation: Annotated[Path, tyro.conf.Positional, option("REP")]
    """Folder of the hyper-representation."""

    zoo: Annotated[tuple[Path, ...], option("ZOO")] = ()
    """Folders of training zoos, if they or REP were moved."""

    predictors: Annotated[
        tuple[Literal["boosting", "mlp", "equivariant"], ...],
        option("{boosting,mlp,equivariant} ..."),
    ] = ()
    """Predictors of properties to compare with, which take minutes: gradient boosting on layer
    statistics, a multilayer perceptron on flat weights, and a graph network that is invariant to
    the order of hidden units."""

    epochs: Annotated[tuple[int, ...], option("N ...")] = (0, 10, 25)
    """Epochs at which the accuracy of reconstructed members is summarized, or the nearest."""

    data_dir: DataDir = None
    """Folder of image sets (default: $ZOOJAX_DATA, or else a cache folder)."""

    json: Flag = False
    """Print the tables of scores as JSON on standard output."""

    quiet: Flag = False
    """Show no progress."""

    def run(self) -> None:
        """Evaluates, writes the tables, and prints R2 with the paper's."""
        configure_jax()
        from zoojax.cli.terminal import say, show_json
        from zoojax.hyper_representation.api import evaluate_representation
        from zoojax.hyper_representation.evaluation_tables import FOLDER

        evaluation = evaluate_representation(
            self.representation,
            self.zoo,
            predictors=self.predictors,
            epochs=self.epochs,
            data_dir=self.data_dir,
            quiet=self.quiet,
        )
        if self.json:
            tables = evaluation.tables
            rows = {name: tables[name].to_dicts() for name in _PRINTED if name in tables}
            show_json({"representation": str(self.representation), **rows})
            return
        _show(evaluation)
        if "functional" not in evaluation.tables:
            say("note: the zoo records no images, so reconstructed members were not run on them")
        say(f"evaluation: {self.representation / FOLDER}")


_PRINTED = ("summary", "reconstruction", "properties", "differences", "functional_summary")


def _show(evaluation: "Evaluation") -> None:
    """Prints R2 in the layout of the paper's Table 3, baselines, and functional fidelity."""
    import polars as pl

    from zoojax.hyper_representation.evaluation import EMBEDDING
    from zoojax.hyper_representation.property_scores import ALL_STATES

    tables, within = evaluation.tables, pl.col("scope") != ALL_STATES
    _print(tables["summary"], ["zoo", "features"], "R2 on held-out members")
    compared = _wide(tables["differences"].filter(~within, features=EMBEDDING), "r2_difference")
    _print(compared, ["zoo", "other"], "R2 of the embedding minus R2 of other features, all states")
    scores = _wide(tables["properties"].filter(within), "r2")
    _print(scores, ["zoo", "features", "scope"], "R2 of what the epoch does not explain")
    if "functional_summary" in tables:
        summary = tables["functional_summary"].with_columns(
            weights=pl.when("thresholded").then(pl.lit("thresholded")).otherwise(pl.lit("all"))
        )
        order = pl.exclude("zoo", "thresholded", "epochs", "members", "weights")
        table = summary.select("zoo", "weights", "epochs", order)
        _print(table, ["zoo", "weights", "epochs"], "Reconstructed members on the test images")


def _wide(table: "pl.DataFrame", score: str) -> "pl.DataFrame":
    """One column per property, with the ends of its interval, instead of one row."""
    import polars as pl

    from zoojax.hyper_representation.bootstrap import interval_columns
    from zoojax.hyper_representation.evaluation_tables import COLUMNS

    keys = [name for name in ("zoo", "features", "other", "scope") if name in table.columns]
    return table.group_by(keys, maintain_order=True).agg(
        pl.col(column).filter(property=name).first().alias(alias)
        for name, short in COLUMNS.items()
        for column, alias in zip(interval_columns(score), interval_columns(short), strict=True)
    )


def _print(table: "pl.DataFrame", texts: list[str], title: str) -> None:
    """Prints columns of text, and fractions with their intervals that are not all unknown."""
    from zoojax.cli.terminal import Column, print_table

    shown = [
        name
        for name, column in table.to_dict().items()
        if column.dtype.is_float()
        and not name.endswith(("_low", "_high"))
        and column.null_count() < len(table)
    ]
    columns = [*(Column(name, numeric=False) for name in texts), *map(Column, shown)]
    rows = [
        [*(row[name] for name in texts), *(_cell(row, name) for name in shown)]
        for row in table.to_dicts()
    ]
    print_table(columns, rows, title=f"{title}, % [95 % interval over members]")


def _cell(row: dict[str, Any], name: str) -> str:
    value, low, high = (row.get(f"{name}{end}") for end in ("", "_low", "_high"))
    if value is None:
        return "-"
    text = f"{100 * value:z.1f}"
    return text if low is None or high is None else f"{text} [{100 * low:z.1f}, {100 * high:z.1f}]"
