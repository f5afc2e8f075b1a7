"""Tables at any terminal width, text with escapes and markup, and JSON."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.support import zoo_fixtures
from zoojax.cli import main, terminal
from zoojax.cli.terminal import Column
from zoojax.presets import PRESETS

HOSTILE = "[/b][red]\x1b[2J\u202e\n" + "x" * 10_000


def lines(capsys, monkeypatch, width: int | None, *arguments, **options) -> list[str]:
    """The lines that `print_table` prints at a terminal width."""
    if width is None:
        monkeypatch.delenv("COLUMNS", raising=False)
    else:
        monkeypatch.setenv("COLUMNS", str(width))
    terminal.print_table(*arguments, **options)
    return capsys.readouterr().out.splitlines()


ROWS = [["a-rather-long-name", "12.3 (4.5)", "0.001, 0.0001, 0.00001", "text"]] * 2
COLUMNS = (
    Column("name", numeric=False),
    Column("accuracy"),
    Column("rates", folds=True),
    Column("last", numeric=False),
)


def test_table_that_fits(capsys, monkeypatch):
    for width in (None, 200, 64):
        shown = lines(capsys, monkeypatch, width, COLUMNS, ROWS)
        assert len(shown) == 4 and "0.001, 0.0001, 0.00001" in shown[-1]
        assert all(cell in shown[-1] for cell in ROWS[0])


def test_words_fold_before_columns_are_dropped(capsys, monkeypatch):
    shown = lines(capsys, monkeypatch, 50, COLUMNS, ROWS)
    assert max(map(len, shown)) <= 50
    assert not any("not shown" in line for line in shown)
    assert "text" in shown[2] and "0.00001" in shown[4]


def test_dropped_columns_are_named(capsys, monkeypatch):
    *table, note = lines(capsys, monkeypatch, 35, COLUMNS, ROWS)
    assert max(map(len, table)) <= 35 and "12.3 (4.5)" in table[-1]
    assert note.startswith("not shown in 35 columns: rates, last (") and "--json" in note
    *table, note = lines(capsys, monkeypatch, 40, COLUMNS, ROWS, drop=("accuracy", "rates"))
    assert note.startswith("not shown in 40 columns: accuracy (") and "text" in table[-3]


@pytest.mark.parametrize("width", [1, 2, 5, 12])
def test_first_column_is_never_dropped(capsys, monkeypatch, width):
    *table, note = lines(capsys, monkeypatch, width, COLUMNS, ROWS[:1])
    assert "".join(part.strip() for part in table).endswith(ROWS[0][0])
    assert "accuracy, rates, last" in note


@pytest.mark.parametrize("width", [40, 80, 100, 160, None])
def test_presets_at_any_width(capsys, monkeypatch, width):
    lines(capsys, monkeypatch, width, COLUMNS, ROWS)
    assert main.main(["presets"]) == 0
    printed = capsys.readouterr().out
    assert {line.split()[0] for line in printed.splitlines() if line.strip()} >= set(PRESETS)
    *table, last = printed.splitlines()
    if width is not None:
        assert max(map(len, table)) <= width
    assert ("not shown" in last) == (width is not None and width < 160)


def test_info_at_80_columns(tmp_path_factory, monkeypatch, capsys):
    zoo = zoo_fixtures.pruned(tmp_path_factory)
    monkeypatch.setenv("COLUMNS", "80")
    assert main.main(["info", str(zoo.path)]) == 0
    printed = capsys.readouterr().out.splitlines()
    facts = {line.strip() for line in printed}
    assert {"kind  mp", "learning rate  0.01", "ratio  0, 0.5, 0.9"} <= facts
    start = next(i for i, line in enumerate(printed) if line.strip().startswith("epoch 2"))
    assert max(map(len, printed[start:-1])) <= 80
    header = printed[start + 1].split()
    assert header[:3] == ["ratio", "epoch", "members"] and {"test_acc", "sparsity"} <= {*header}
    assert "not shown in 80 columns: " in printed[-1] and "conv1" in printed[-1]


def test_markup_and_escapes_in_tables(capsys, monkeypatch):
    columns = [Column(HOSTILE, numeric=False), Column("value [/]")]
    shown = "\n".join(
        lines(
            capsys,
            monkeypatch,
            90,
            columns,
            [["[/b]\x1b[0m:smile:", "[bold]"]],
            title=HOSTILE,
            caption=HOSTILE,
        )
    )
    assert "[/b]\\x1b[0m:smile:" in shown and "[bold]" in shown and "value [/]" in shown
    assert "\x1b" not in shown and "\u202e" not in shown and len(shown) < 5_000
    terminal.show_rows(pl.DataFrame({"[/b]": ["[/i]\n"], "n": [None], "x": [1 / 3]}))
    shown = capsys.readouterr().out
    assert "[/i]\\n" in shown and "0.3333" in shown and "None" not in shown
    terminal.print_comparison(HOSTILE, "[/a]", [("[/r]", {"[/c]": (0.5, 0.1)})], HOSTILE)
    shown = capsys.readouterr().out
    assert all(part in shown for part in ("[/a]", "[/r]", "[/c]", "50.0 (10.0)"))


def test_say_escapes_line_breaks(capsys):
    terminal.say(f"report: {HOSTILE[:20]}", "two")
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("report: [/b][red]\\x1b[2J\\u202e\\n") and second == "two"


def test_json_types(capsys):
    terminal.show_json(
        {
            "float32": np.float32(0.5),
            "int64": np.int64(3),
            "bool": np.bool_(True),
            "array": np.array([1.0, np.nan]),
            "nan": np.float32("nan"),
            "inf": (float("inf"), 1),
            "path": Path("a/b"),
            "none": None,
            "text": "\udcff\x1b",
        }
    )
    text = capsys.readouterr().out
    assert text.isascii() and "\x1b" not in text
    assert json.loads(text, parse_constant=lambda name: pytest.fail(name)) == {
        "float32": 0.5,
        "int64": 3,
        "bool": True,
        "array": [1.0, None],
        "nan": None,
        "inf": [None, 1],
        "path": "a/b",
        "none": None,
        "text": "\udcff\x1b",
    }
