"""The tables of an evaluation: schema, validation, and files."""

from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from zoojax.errors import ZoojaxError
from zoojax.filesystem.atomic import is_temporary, make_folder, os_errors
from zoojax.filesystem.reading import NotFoundError, entries, read_table
from zoojax.filesystem.tables import write_both
from zoojax.hyper_representation.bootstrap import interval_columns
from zoojax.hyper_representation.config import RepresentationConfig
from zoojax.hyper_representation.dataset import PROPERTIES
from zoojax.hyper_representation.functional_fidelity import ALL_EPOCHS, MEASURED, SPARSITIES
from zoojax.hyper_representation.property_scores import SCOPES
from zoojax.hyper_representation.reconstruction import ALL, ALPHAS, LOG_ALPHAS, WEIGHTS
from zoojax.hyper_representation.representation import Representation
from zoojax.hyper_representation.training_zoos import Split
from zoojax.text import printable

FOLDER = "evaluation"
TABLES = (
    *("summary", "reconstruction", "properties", "differences", "functional"),
    *("functional_summary", "embeddings", "scatter", "losses"),
)
# Tables of zoos whose images are known.
_OF_IMAGES = {"functional", "functional_summary"}
# Pairs of true and reconstructed values stored per quantity and layer.
PAIRS = 2000
# R2 columns of the paper's Table 3, by property.
COLUMNS = {"test_acc": "accuracy", "sparsity": "sparsity", "epoch": "epoch", "ggap": "ggap"}

# The label of all training zoos together, if there are several.
ALL_ZOOS = "all zoos"

_FLOAT = "a float"


def _columns(kind: object, *names: str) -> dict[str, object]:
    return dict.fromkeys(names, kind)


def _intervals(*names: str) -> dict[str, object]:
    """Columns of figures with the ends of their intervals."""
    return _columns(_FLOAT, *(column for name in names for column in interval_columns(name)))


_SCHEMAS = {
    "summary": _columns(pl.String, "zoo", "features")
    | _intervals(WEIGHTS, ALPHAS, *COLUMNS.values()),
    "reconstruction": _columns(pl.String, "zoo", "part", "quantity", "layer")
    | {"count": pl.Int64}
    | _intervals("r2"),
    "properties": _columns(pl.String, "zoo", "features", "scope", "property")
    | _intervals("r2", "tau")
    | {"lambda": _FLOAT},
    "differences": _columns(pl.String, "zoo", "features", "other", "scope", "property")
    | _intervals("r2_difference", "tau_difference"),
    "functional": {"zoo": pl.String}
    | _columns(pl.Int64, "member", "epoch")
    | _columns(_FLOAT, "test_acc", "reconstructed_acc", "agreement", *SPARSITIES)
    | {"thresholded": pl.Boolean},
    "functional_summary": {"zoo": pl.String, "thresholded": pl.Boolean}
    | {"epochs": pl.String, "members": pl.Int64}
    | _intervals(*MEASURED)
    | _columns(_FLOAT, *SPARSITIES),
    "embeddings": {"zoo": pl.String}
    | _columns(pl.Int64, "member", "epoch")
    | _columns(_FLOAT, "test_acc", "sparsity", "ggap", "x", "y")
    | {"part": pl.String},
    "scatter": _columns(pl.String, "quantity", "layer") | _columns(_FLOAT, "true", "reconstructed"),
}
# Columns whose values identify a row.
_KEYS = {
    "properties": ("zoo", "features", "scope", "property"),
    "differences": ("zoo", "features", "other", "scope", "property"),
    "functional": ("zoo", "member", "epoch", "thresholded"),
    "functional_summary": ("zoo", "thresholded", "epochs"),
    "embeddings": ("zoo", "member", "epoch"),
}
# Columns that are plotted must be finite and small enough for matplotlib's arithmetic.
_PLOTTED = {
    "properties": interval_columns("r2"),
    "embeddings": ("x", "y"),
    "scatter": ("true", "reconstructed"),
}
_MAX_PLOTTED = 1e15
_MAX_TEXT_LENGTH = 1000


@dataclass
class Evaluation:
    """The results of `evaluate`.

    Attributes:
        tables: Polars frames by the names in TABLES. The column `zoo` is the name of the training
            zoo; with several, figures of all of them come first, with "all zoos".
            summary: R2 in the layout of the paper's Table 3, one row per kind of `features`,
                preceded by the paper's rows.
            reconstruction: See `R2Accumulator.table`.
            properties: See `PropertyScores.table`.
            differences: See `PropertyScores.differences`; of the embeddings and all others.
            functional: See `functional_fidelity`; test split only, and only if the zoo's images
                are known. `thresholded` is true for members whose weights are thresholded by log
                alphas, and false for those with all weights.
            functional_summary: See `functional_fidelity.summarize`.
            embeddings: One row per state: `member`, `epoch`, `part` of the split, `x` and `y`
                (principal components of the training split's embeddings), and properties.
            scatter: Pairs of the test split, see `scatter_pairs`.
            losses: See `Representation.losses`.
    """

    tables: dict[str, pl.DataFrame] = field(default_factory=dict)


def find_error(config: RepresentationConfig, name: str, table: pl.DataFrame) -> str | None:
    """Returns what is wrong with an evaluation table, or None if it is valid.

    Args:
        config: Configuration of the hyper-representation.
        name: One of TABLES, except "losses".
        table: The table as read.
    """
    error = _column_error(table, _SCHEMAS[name])
    if error is not None:
        return error
    epochs = sorted({epoch for zoo in config.zoos for epoch in zoo.epochs})
    known: dict[str, list] = {
        "part": list(Split._fields),
        "quantity": [WEIGHTS, ALPHAS, LOG_ALPHAS],
        "layer": [ALL, *config.shape.layers],
        "property": list(PROPERTIES),
        "scope": list(SCOPES),
        "epochs": [ALL_EPOCHS, *map(str, epochs)],
        "member": [member for zoo in config.zoos for member in zoo.all_members],
    }
    if name != "summary":
        known |= {"epoch": epochs, "zoo": groups(config)}
    for column, values in known.items():
        if column in table.columns and not table[column].is_in(values).all():
            return f"column {column} contains unknown values"
    for column in _PLOTTED.get(name, ()):
        if not (table[column].is_finite() & (table[column].abs() <= _MAX_PLOTTED)).all():
            return f"column {column} contains values that cannot be plotted"
    for column, kind in table.schema.items():
        if kind == pl.String and (table[column].str.len_chars() > _MAX_TEXT_LENGTH).any():
            return f"column {column} contains a text of more than {_MAX_TEXT_LENGTH} characters"
    if name in _KEYS and table.select(_KEYS[name]).is_duplicated().any():
        return f"duplicate rows of the same {' and '.join(_KEYS[name])}"
    if name == "embeddings":
        return _split_error(config, table)
    if name == "scatter" and len(table):
        max_pairs = PAIRS + sum(len(zoo.epochs) for zoo in config.zoos)
        counts = table.group_by("quantity", "layer").len()["len"]
        if counts.max() > max_pairs:  # pyright: ignore
            return f"more than {max_pairs} pairs per quantity and layer"
    return None


def _column_error(table: pl.DataFrame, schema: dict[str, object]) -> str | None:
    for column in schema:
        if column not in table.columns:
            return f"it has no column {column}"
    for column, kind in table.schema.items():
        if column not in schema:
            return f"unexpected column {printable(column, 60)}"
        expected = schema[column]
        if not (kind.is_float() if expected is _FLOAT else kind == expected):
            return f"column {column} does not have the type {expected}"
        if expected is not _FLOAT and table[column].has_nulls():
            return f"column {column} has nulls"
        if expected is _FLOAT and table[column].is_infinite().any():
            return f"column {column} contains infinite values"
    return None


def _split_error(config: RepresentationConfig, table: pl.DataFrame) -> str | None:
    for label, zoo in zip(config.labels, config.zoos, strict=True):
        states = table.filter(zoo=label)
        if not states["epoch"].is_in(zoo.epochs).all():
            return f"column epoch: contains epochs on which {label} was not trained"
        for part, members in zoo.members._asdict().items():
            if not states.filter(part=part)["member"].is_in(members).all():
                return f"column part: contains members that are not in the {part} split"
    return None


def groups(config: RepresentationConfig) -> list[str]:
    """Returns the labels of the zoos for which figures are reported, all zoos first."""
    return config.labels if len(config.zoos) == 1 else [ALL_ZOOS, *config.labels]


def selected(metrics: pl.DataFrame, label: str) -> pl.Series:
    """Returns which states belong to a label of `groups`.

    Args:
        metrics: One row per state, with a column `zoo`.
        label: The label.
    """
    return (metrics["zoo"] == label) | pl.Series([label == ALL_ZOOS])


def check(config: RepresentationConfig, tables: dict[str, pl.DataFrame]) -> None:
    """Validates computed tables with the same rules as tables that are read.

    Raises:
        ZoojaxError: If a table is invalid, for example because the autoencoder produces values
            that cannot be plotted.
    """
    for name, table in tables.items():
        error = None if name == "losses" else find_error(config, name, table)
        if error is not None:
            raise ZoojaxError(f"the evaluation table {name} is invalid: {error}")


def write(evaluation: Evaluation, folder: Path) -> None:
    """Writes all tables as Parquet and CSV, and removes those of an earlier evaluation.

    Raises:
        ZoojaxError: If a file cannot be written.
    """
    make_folder(folder)
    stale = {f"{name}.{kind}" for name in TABLES for kind in ("parquet", "csv")}
    stale -= {f"{name}.{kind}" for name in evaluation.tables for kind in ("parquet", "csv")}
    with os_errors(folder):
        for name in entries(folder):
            if name in stale or is_temporary(name):
                (folder / name).unlink()
    for name, table in evaluation.tables.items():
        write_both(folder, name, table)


def read_evaluation(representation: Representation) -> Evaluation:
    """Reads the evaluation of a hyper-representation.

    Raises:
        ZoojaxError: If the hyper-representation has not been evaluated, was trained further
            afterwards, or a file is damaged.
    """
    folder, command = representation.path / FOLDER, "zoojax represent evaluate"
    tables, losses = {}, representation.losses
    for name in TABLES:
        file = folder / f"{name}.parquet"
        try:
            tables[name] = read_table(file)
        except NotFoundError:
            continue
        error = None
        if name != "losses":
            error = find_error(representation.config, name, tables[name])
        if error is not None:
            raise ZoojaxError(
                f"{file} is damaged, or of an older version: {error}; rerun '{command} "
                f"{representation.path}'"
            )
    if "losses" not in tables:
        raise ZoojaxError(
            f"{representation.path} has not been evaluated; run '{command} {representation.path}'"
        )
    if not tables["losses"].equals(losses):
        raise ZoojaxError(
            f"{representation.path} was trained further after its evaluation; rerun '{command} "
            f"{representation.path}'"
        )
    for name in TABLES:
        if name not in tables and name not in _OF_IMAGES:
            raise ZoojaxError(
                f"{folder} has no {name}.parquet; rerun '{command} {representation.path}'"
            )
    return Evaluation(tables)
