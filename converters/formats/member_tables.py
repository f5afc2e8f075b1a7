"""Configs and metrics that training scripts write to the folder of a member."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from zoojax.converters.formats.tables import find_file, read_config, read_rows
from zoojax.converters.reported import EPOCH_KEYS, MAX_EPOCH, Row, parse_integer, parse_row
from zoojax.errors import ZoojaxError
from zoojax.filesystem.reading import MIB, read_bytes
from zoojax.text import printable

_CONFIGS = ("params.json", "config.json", "run_config.json", "hparams.yaml", "args.yaml",
            "config.yaml", "args.json")  # fmt: skip
_TABLES = ("progress.csv", "metrics.csv", "metrics.csv.gz", "summary.csv", "log.csv")
_LINES, _TRAINER = "result.json", "trainer_state.json"
_MAX_LINES_BYTES = 64 * MIB
_MAX_ROWS = 20_000


def config_of(folder: Path) -> dict[str, Any]:
    """Reads the config of a member: the first readable file of a known name; empty if none is."""
    for name in _CONFIGS:
        file = find_file(folder, (name,))
        if file is not None:
            try:
                return read_config(file)
            except ZoojaxError:
                continue
    return {}


class Reports(NamedTuple):
    """The metrics of a member.

    Attributes:
        rows: Metrics by epoch; empty if there is no readable table.
        notes: Remarks: which column holds the epochs, and lines without an epoch.
    """

    rows: dict[int, Row]
    notes: list[str]


def reports_of(folder: Path) -> Reports:
    """Reads the metrics of a member by epoch.

    Args:
        folder: The folder of the member.
    """
    rows: dict[int, Row] = {}
    try:
        name, reports = _reports(folder)
    except ZoojaxError as error:
        return Reports(rows, [f"its metrics cannot be read: {printable(error, 200)}"])
    if not reports:
        return Reports(rows, [])
    key = next(
        (k for k in EPOCH_KEYS if any(_epoch(report, k) is not None for report in reports)), None
    )
    if key is None:
        return Reports(rows, [f"{name} has no column of epochs and is not read"])
    notes = [f"epochs of its metrics are the column {key} of {name}"]
    without = 0
    for report in reports[:_MAX_ROWS]:
        epoch = _epoch(report, key)
        if epoch is None:
            without += 1
        else:
            # Lightning writes a separate line for each kind of metric, with empty cells.
            rows[epoch] = rows.get(epoch, {}) | parse_row(report)
    if without:
        notes.append(f"{without} line(s) of {name} have no {key} and are left out")
    return Reports(rows, notes)


def last_epoch(folder: Path) -> int | None:
    """Reads the epoch of a Hugging Face model from trainer_state.json; None if there is none."""
    file = find_file(folder, (_TRAINER,))
    if file is None:
        return None
    try:
        return parse_integer(read_config(file).get("epoch"), MAX_EPOCH)
    except ZoojaxError:
        return None


def _reports(folder: Path) -> tuple[str, list[dict[str, Any]]]:
    """Returns the name of the table of metrics, and its rows."""
    lines = find_file(folder, (_LINES,))
    if lines is not None:
        return _LINES, _json_lines(read_bytes(lines, _MAX_LINES_BYTES).decode(errors="replace"))
    table = find_file(folder, _TABLES)
    if table is not None:
        return table.name, list(read_rows(table))
    trainer = find_file(folder, (_TRAINER,))
    history = read_config(trainer).get("log_history") if trainer is not None else None
    reports = history if isinstance(history, list) else []
    return _TRAINER, [each for each in reports if isinstance(each, dict)]


def _json_lines(content: str) -> list[dict[str, Any]]:
    reports = []
    for line in content.split("\n")[: 4 * _MAX_ROWS]:
        try:
            report = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(report, dict):
            reports.append(report)
    return reports


def _epoch(report: dict[str, Any], key: str) -> int | None:
    return parse_integer(report.get(key), MAX_EPOCH)
