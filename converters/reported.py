"""Metrics that trials report, by epoch: parsed from any type, percentages made fractions.

A `Row` keeps what was reported, including infinite and implausible values. `MetricUnits`
decides which of them enter a zoo's metrics.
"""

import functools
import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MEASURED = ("train_loss", "train_acc", "val_loss", "val_acc", "test_loss", "test_acc")
_ACCURACIES = tuple(name for name in MEASURED if name.endswith("_acc"))
_FRACTIONS = (*_ACCURACIES, "sparsity_ratio")
METRIC_NAMES = (*MEASURED, "ggap", "sparsity_ratio", "psnr")
# Names of the epoch counter in a report; the first one that a file uses counts.
EPOCH_KEYS = ("training_iteration", "epoch", "step", "iteration")
# Other names of metrics, used where a report does not have the usual one. Names in reports may be
# nested, or joined by other separators: "train/acc", "val.loss", {"test": {"accuracy": ...}}.
_OTHER_NAMES: dict[str, tuple[str, ...]] = {
    "train_acc": ("train_accuracy", "training_accuracy", "training_acc", "train_top1"),
    "train_loss": ("training_loss", "loss"),
    "val_acc": (
        "val_accuracy", "validation_accuracy", "valid_acc", "validation_acc", "valid_accuracy",
        "val_top1",
    ),
    "val_loss": ("validation_loss", "valid_loss"),
    "test_acc": (
        "test_accuracy", "eval_accuracy", "eval_acc", "eval_top1", "test_top1", "accuracy", "acc",
    ),
    "test_loss": ("eval_loss",),
}  # fmt: skip
_BY_OTHER_NAME = {
    other: (name, rank)
    for name, others in _OTHER_NAMES.items()
    for rank, other in enumerate((name, *others))
}
# First parts of nested names that are ignored.
_OUTER = re.compile(r"(?:metrics?|results?|last_result)_")
_MAX_DEPTH, _MAX_NAMES = 4, 10_000
MAX_EPOCH = 10**8

# Fractions rarely exceed 1, and percentages of a trained network are rarely below 1.5.
_MIN_PERCENT = 1.5
_MAX_FLOAT32 = 3.4e38
_MAX_TEXT_LENGTH = 64
_ROUNDING = 1e-6

Row = dict[str, float]


def parse_number(value: object) -> float | None:
    """Parses a number from JSON, CSV or a pickle.

    Returns:
        The number, possibly infinite or NaN; None if the value is not a number.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str) and len(value) > _MAX_TEXT_LENGTH:
        return None
    try:
        return float(value)
    except ValueError:
        return None
    except OverflowError:
        return math.inf


def parse_integer(value: object, maximum: int) -> int | None:
    """Parses an integer from 0 to `maximum`; 1.0 and "1" count as integers.

    Returns:
        The integer; None if the value is not one.
    """
    number = parse_number(value)
    if number is None or not 0 <= number <= maximum or number != int(number):
        return None
    return int(number)


def parse_row(report: Mapping[str, Any]) -> Row:
    """Extracts the known metrics from a report, nested or not, under any of their names."""
    row = {name: parse_number(report.get(name)) for name in METRIC_NAMES}
    ranks: dict[str, int] = {}
    for key, value in _flat(report):
        known = is_metric(key)
        if known is None:
            continue
        name, rank = known
        if row[name] is not None and name not in ranks:
            continue  # The report has it under its usual name.
        number = parse_number(value)
        if number is not None and rank < ranks.get(name, len(_OTHER_NAMES[name]) + 1):
            row[name], ranks[name] = number, rank
    return {name: number for name, number in row.items() if number is not None}


@functools.lru_cache(maxsize=10_000)
def is_metric(key: str) -> tuple[str, int] | None:
    """Finds the metric that a name in a report refers to.

    Args:
        key: The name; parts of nested names are joined by "/".

    Returns:
        The metric and the rank of the spelling, from 0; None if it is not a metric.
    """
    name = re.sub(r"[/. -]+", "_", key[:200].lower())
    return _BY_OTHER_NAME.get(_OUTER.sub("", name, count=1) if _OUTER.match(name) else name)


def is_reported(name: str) -> bool:
    """Whether a name in a report is that of a metric or of the epoch, not of a hyperparameter."""
    return name in METRIC_NAMES or name in EPOCH_KEYS or is_metric(name) is not None


def _flat(report: Mapping[str, Any], start: str = "", depth: int = 1) -> Iterator[tuple[str, Any]]:
    """Yields the entries of a report; names of nested ones are joined by "/"."""
    for key, value in itertools.islice(report.items(), _MAX_NAMES):
        if isinstance(value, dict):
            if depth < _MAX_DEPTH and key != "config":
                yield from _flat(value, f"{start}{key}/", depth + 1)
        elif isinstance(key, str):
            yield start + key, value


def metric_columns(table: Mapping[str, Sequence[object]]) -> dict[str, list[list[float | None]]]:
    """Parses the columns of a table of reports that have metrics.

    Args:
        table: Columns by name.

    Returns:
        By metric, its columns in the order in which `parse_row` prefers them.
    """
    columns = {}
    for metric in METRIC_NAMES:
        ranked = [(known[1], name) for name in table if (known := is_metric(name)) is not None
                  and known[0] == metric and name != metric]  # fmt: skip
        names = [metric] if metric in table else []
        names += [name for _, name in sorted(ranked)]
        if names:
            columns[metric] = [[parse_number(value) for value in table[name]] for name in names]
    return columns


def row_at(columns: Mapping[str, list[list[float | None]]], index: int) -> Row:
    """Returns a row of `metric_columns`, as `parse_row` does."""
    row = {}
    for metric, candidates in columns.items():
        for column in candidates:
            if column[index] is not None:
                row[metric] = column[index]
                break
    return row


def is_finite(row: Row) -> bool:
    """Whether all values of a row are finite as float32."""
    return all(abs(value) <= _MAX_FLOAT32 for value in row.values())


@dataclass(frozen=True)
class MetricUnits:
    """The units in which the trials of a zoo report their metrics.

    Attributes:
        percent: Names of the metrics that are reported in percent.
    """

    percent: frozenset[str]

    @staticmethod
    def detect(rows: Iterable[Row]) -> "MetricUnits":
        """Detects the metrics in percent: most of their positive values are in (1.5, 100].

        A majority is required, so that a single implausible value does not rescale a zoo.
        """
        above, positive = dict.fromkeys(_FRACTIONS, 0), dict.fromkeys(_FRACTIONS, 0)
        for row in rows:
            for name in _FRACTIONS:
                value = row.get(name, 0.0)
                positive[name] += 0 < value <= 100
                above[name] += _MIN_PERCENT < value <= 100
        percent = {n for n in _FRACTIONS if above[n] and 2 * above[n] >= positive[n]}
        # A reported gap is in the unit of the accuracies.
        return MetricUnits(frozenset(percent | ({"ggap"} if percent & {*_ACCURACIES} else set())))

    def value(self, row: Row, name: str) -> float:
        """The value of a metric in a zoo's units.

        Returns:
            The value; NaN if it is missing, infinite or out of range.
        """
        value = row.get(name, math.nan)
        if name in self.percent:
            value /= 100
        if name in _FRACTIONS or name == "ggap":
            minimum = -1 if name == "ggap" else 0
            if not minimum - _ROUNDING <= value <= 1 + _ROUNDING:
                return math.nan
            return min(max(value, minimum), 1)
        return value if abs(value) <= _MAX_FLOAT32 else math.nan

    def notes(self, rows: Iterable[Row]) -> list[str]:
        """Describes the values of a member's rows that are left out; empty if there are none."""
        infinite = outside = 0
        for row in rows:
            for name, value in row.items():
                if not abs(value) <= _MAX_FLOAT32:
                    infinite += 1
                elif math.isnan(self.value(row, name)):
                    outside += 1
        # Notes are stored in the members table, which decides a zoo's fingerprint: reworded,
        # the same files would convert to another zoo.
        notes = []
        if infinite:
            notes.append(f"{infinite} reported number(s) that are not finite are left out")
        if outside:
            notes.append(f"{outside} reported share(s) outside 0 to 1 are left out")
        return notes

    def summary(self) -> list[str]:
        """One line about the metrics in percent, for the user; empty if there are none."""
        names = [name for name in METRIC_NAMES if name in self.percent]
        return [f"{', '.join(names)}: reported in percent, stored as fractions"] if names else []
