"""The tables of an evaluation: schema, validation, and files."""

from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from zoojax.errors import ZoojaxError
from zoojax.filesystem.atomic import is_temporary, make_folder, os_errors
from zoojax.filesystem.reading import NotFoundError, entries, read_table
from zoojax.filesystem.tables import write_both
from zoojax.hyper_representation.config import RepresentationConfig
from zoojax.hyper_representation.dataset import PROPERTIES
from zoojax.hyper_representation.reconstruction import ALL, ALPHAS, LOG_ALPHAS, WEIGHTS
from zoojax.hyper_representation.representation import Representation
from zoojax.text import printable

FOLDER = "evaluation"
TABLES = (
    *("summary", "reconstruction", "properties", "functional", "embeddings", "scatter"),
    "losses",
)
# Pairs of true and reconstructed values stored per quantity and layer.
PAIRS = 2000
# R2 columns of the paper's Table 3, by property.
COLUMNS = {"test_acc": "accuracy", "sparsity": "sparsity", "epoch": "epoch", "ggap": "ggap"}

_FLOAT = "a float"


def _columns(kind: object, *names: str) -> dict[str, object]:
    return dict.fromkeys(names, kind)


_SCHEMAS = {
    "summary": _columns(pl.String, "zoo", "features")
    | _columns(_FLOAT, WEIGHTS, ALPHAS, *COLUMNS.values()),
    "reconstruction": _columns(pl.String, "part", "quantity", "layer")
    | {"count": pl.Int64, "r2": _FLOAT},
    "properties": _columns(pl.String, "features", "property")
    | _columns(_FLOAT, "r2", "tau", "lambda"),
    "functional": _columns(pl.Int64, "member", "epoch")
    | _columns(_FLOAT, "test_acc", "reconstructed_acc", "agreement")
    | _columns(_FLOAT, "sparsity", "reconstructed_sparsity"),
    "embeddings": _columns(pl.Int64, "member", "epoch")
    | _columns(_FLOAT, "test_acc", "sparsity", "ggap", "x", "y")
    | {"part": pl.String},
    "scatter": _columns(pl.String, "quantity", "layer") | _columns(_FLOAT, "true", "reconstructed"),
}
# Columns that are plotted must be finite and small enough for matplotlib's arithmetic.
_PLOTTED = {"embeddings": ("x", "y"), "scatter": ("true", "reconstructed")}
_MAX_PLOTTED = 1e15
_MAX_TEXT_LENGTH = 1000


@dataclass
class Evaluation:
    """The results of `evaluate`.

    Attributes:
        tables: Polars frames by the names in TABLES:
            summary: R2 in the layout of the paper's Table 3, one row per kind of `features`,
                preceded by the paper's rows.
            reconstruction: See `R2Accumulator.table`.
            properties: See `probe_table`.
            functional: See `functional_fidelity`; test split only, and only if the zoo's images
                are known.
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
    (entry,) = config.zoos
    parts = entry.members._asdict()
    known: dict[str, list] = {
        "part": list(parts),
        "quantity": [WEIGHTS, ALPHAS, LOG_ALPHAS],
        "layer": [ALL, *config.shape.layers],
        "property": list(PROPERTIES),
        "member": [member for part in parts.values() for member in part],
    }
    if name != "summary":
        known["epoch"] = entry.epochs
    for column, values in known.items():
        if column in table.columns and not table[column].is_in(values).all():
            return f"column {column} contains unknown values"
    for column in _PLOTTED.get(name, ()):
        if not (table[column].is_finite() & (table[column].abs() <= _MAX_PLOTTED)).all():
            return f"column {column} contains values that cannot be plotted"
    for column, kind in table.schema.items():
        if kind == pl.String and (table[column].str.len_chars() > _MAX_TEXT_LENGTH).any():
            return f"column {column} contains a text of more than {_MAX_TEXT_LENGTH} characters"
    if "member" in table.columns and table.select("member", "epoch").is_duplicated().any():
        return "duplicate states (member and epoch)"
    if name == "embeddings":
        return _split_error(parts, table)
    if name == "scatter" and len(table):
        max_pairs = PAIRS + len(entry.epochs)
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


def _split_error(parts: dict[str, list[int]], table: pl.DataFrame) -> str | None:
    for part, members in parts.items():
        if not table.filter(part=part)["member"].is_in(members).all():
            return f"column part: contains members that are not in the {part} split"
    return None


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
            raise ZoojaxError(f"{file} is damaged: {error}")
    if "losses" not in tables:
        raise ZoojaxError(
            f"{representation.path} has not been evaluated; run '{command} {representation.path}'"
        )
    if not tables["losses"].equals(losses):
        raise ZoojaxError(
            f"{representation.path} was trained further after its evaluation; rerun '{command} "
            f"{representation.path}'"
        )
    for name in set(TABLES) - {"functional"}:
        if name not in tables:
            raise ZoojaxError(
                f"{folder} has no {name}.parquet; rerun '{command} {representation.path}'"
            )
    return Evaluation(tables)
