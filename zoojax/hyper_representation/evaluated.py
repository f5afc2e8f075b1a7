"""An evaluation on disk: its tables, what they must hold, and their files."""

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
# Pairs of true and reconstructed numbers kept of each quantity and layer.
PAIRS = 2000
# Columns with R2 of the paper's Table 3, by property.
COLUMNS = {"test_acc": "accuracy", "sparsity": "sparsity", "epoch": "epoch", "ggap": "ggap"}

_FLOAT = "a float"


def _of(kind: object, *names: str) -> dict[str, object]:
    return dict.fromkeys(names, kind)


_NEEDED = {
    "summary": _of(pl.String, "zoo", "features") | _of(_FLOAT, WEIGHTS, ALPHAS, *COLUMNS.values()),
    "reconstruction": _of(pl.String, "part", "quantity", "layer")
    | {"count": pl.Int64, "r2": _FLOAT},
    "properties": _of(pl.String, "features", "property") | _of(_FLOAT, "r2", "tau", "lambda"),
    "functional": _of(pl.Int64, "member", "epoch")
    | _of(_FLOAT, "test_acc", "reconstructed_acc", "agreement")
    | _of(_FLOAT, "sparsity", "reconstructed_sparsity"),
    "embeddings": _of(pl.Int64, "member", "epoch")
    | _of(_FLOAT, "test_acc", "sparsity", "ggap", "x", "y")
    | {"part": pl.String},
    "scatter": _of(pl.String, "quantity", "layer") | _of(_FLOAT, "true", "reconstructed"),
}
# Numbers that are drawn: all finite, and small enough for the arithmetic of drawing.
_DRAWN = {"embeddings": ("x", "y"), "scatter": ("true", "reconstructed")}
_LARGEST = 1e15
_LONGEST_TEXT = 1000


@dataclass
class Evaluation:
    """What `evaluate` found.

    Attributes:
        tables: polars frames by names of TABLES:
            summary: R2 as the paper's Table 3 has it, one row per kind of `features`, and the
                paper's rows.
            reconstruction: see `Fidelity.table`.
            properties: see `probe_table`.
            functional: see `reconstruction.functional`; of the test split, where the images
                are known.
            embeddings: one row per state: `member`, `epoch`, `part` of the split, `x` and `y`
                (principal components of the training split's embeddings), properties.
            scatter: pairs of the test split, see `reconstruction.scatter`.
            losses: see `Representation.losses`.
    """

    tables: dict[str, pl.DataFrame] = field(default_factory=dict)


def problem_of(config: RepresentationConfig, name: str, table: pl.DataFrame) -> str | None:
    """What is wrong with a table of an evaluation; None if nothing is.

    Args:
        config: of the hyper-representation.
        name: one of TABLES, but the losses.
        table: as read.
    """
    problem = _columns_problem(table, _NEEDED[name])
    if problem is not None:
        return problem
    parts = config.members._asdict()
    known: dict[str, list] = {
        "part": list(parts),
        "quantity": [WEIGHTS, ALPHAS, LOG_ALPHAS],
        "layer": [ALL, *config.shape.layers],
        "property": list(PROPERTIES),
        "member": [member for part in parts.values() for member in part],
    }
    if name != "summary":
        known["epoch"] = config.epochs
    for column, values in known.items():
        if column in table.columns and not table[column].is_in(values).all():
            return f"column {column} names what it does not hold"
    for column in _DRAWN.get(name, ()):
        if not (table[column].is_finite() & (table[column].abs() <= _LARGEST)).all():
            return f"column {column} holds numbers that cannot be drawn"
    for column, kind in table.schema.items():
        if kind == pl.String and (table[column].str.len_chars() > _LONGEST_TEXT).any():
            return f"column {column} holds a text of more than {_LONGEST_TEXT} characters"
    if "member" in table.columns and table.select("member", "epoch").is_duplicated().any():
        return "a state is there twice"
    if name == "embeddings":
        return _split_problem(parts, table)
    if name == "scatter" and len(table):
        most = PAIRS + len(config.epochs)
        if table.group_by("quantity", "layer").len()["len"].max() > most:  # pyright: ignore
            return f"more than {most} pairs of a layer"
    return None


def _columns_problem(table: pl.DataFrame, needed: dict[str, object]) -> str | None:
    for column in needed:
        if column not in table.columns:
            return f"it has no column {column}"
    for column, kind in table.schema.items():
        if column not in needed:
            return f"column {printable(column, 60)}: no evaluation has it"
        expected = needed[column]
        if not (kind.is_float() if expected is _FLOAT else kind == expected):
            return f"column {column} is not of the type {expected}"
        if expected is not _FLOAT and table[column].has_nulls():
            return f"column {column} has nulls"
        if expected is _FLOAT and table[column].is_infinite().any():
            return f"column {column} holds numbers that are not finite"
    return None


def _split_problem(parts: dict[str, list[int]], table: pl.DataFrame) -> str | None:
    for part, members in parts.items():
        if not table.filter(part=part)["member"].is_in(members).all():
            return f"column part: members that are not of the part {part}"
    return None


def check(config: RepresentationConfig, tables: dict[str, pl.DataFrame]) -> None:
    """Checks what was computed by the rules for what is read.

    Raises:
        ZoojaxError: the autoencoder gives numbers that cannot be shown.
    """
    for name, table in tables.items():
        problem = None if name == "losses" else problem_of(config, name, table)
        if problem is not None:
            raise ZoojaxError(f"the evaluation's table {name} cannot be kept: {problem}")


def write(evaluation: Evaluation, folder: Path) -> None:
    """Writes every table as Parquet and CSV; files of an earlier evaluation are replaced.

    Raises:
        ZoojaxError: a file cannot be written.
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
    """What was written next to a hyper-representation.

    Raises:
        ZoojaxError: it has not been evaluated, or was trained since, or a file is damaged.
    """
    folder, command = representation.path / FOLDER, "zoojax represent evaluate"
    tables, losses = {}, representation.losses
    for name in TABLES:
        file = folder / f"{name}.parquet"
        try:
            tables[name] = read_table(file)
        except NotFoundError:
            continue
        problem = None
        if name != "losses":
            problem = problem_of(representation.config, name, tables[name])
        if problem is not None:
            raise ZoojaxError(f"{file} is damaged: {problem}")
    if "losses" not in tables:
        raise ZoojaxError(
            f"{representation.path} has not been evaluated; run '{command} {representation.path}'"
        )
    if not tables["losses"].equals(losses):
        raise ZoojaxError(
            f"{representation.path} was trained since it was evaluated; run '{command} "
            f"{representation.path}' again"
        )
    for name in set(TABLES) - {"functional"}:
        if name not in tables:
            raise ZoojaxError(f"{folder} has no {name}.parquet; run '{command}' again")
    return Evaluation(tables)
