"""Untrusted files are read, or refused with a one-line error."""

import json
import os
import re
import socket

import numpy as np
import polars as pl
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoojax.errors import ZoojaxError
from zoojax.filesystem import reading
from zoojax.text import for_csv, for_matplotlib, is_printable, printable


@pytest.mark.parametrize("kind", ["pipe", "folder", "loop", "device", "socket", "long name"])
def test_only_regular_files_are_read(tmp_path, kind):
    path = tmp_path / "file"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(str(path))
    else:
        path = tmp_path / ("x" * 300)
    for read in (lambda: reading.read_bytes(path, 100), lambda: reading.read_table(path)):
        with pytest.raises(ZoojaxError, match=re.escape(str(path))):
            read()


def test_large_or_missing_file_is_named(tmp_path):
    with pytest.raises(reading.NotFoundError, match="missing"):
        reading.read_bytes(tmp_path / "none", 10)
    (tmp_path / "large").write_bytes(bytes(11))
    with pytest.raises(ZoojaxError, match="more than the 10"):
        reading.read_bytes(tmp_path / "large", 10)
    assert reading.read_bytes(tmp_path / "large", 11) == bytes(11)


@pytest.mark.parametrize(
    "text", ['{"a": 1, "a": 2}', "[NaN]", "[" * 100_000, "{", "", '"\xff', "[-Infinity]"]
)
def test_invalid_json_is_refused(tmp_path, text):
    path = tmp_path / "x.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ZoojaxError, match=r"x\.json is damaged"):
        reading.read_json(path)


def test_numbered_folders_are_only_those_written_by_zoojax(tmp_path):
    for name in ("0", "7", "12", "²", "007", "-1", "1.0", "9" * 20, ".DS_Store", "+3"):
        (tmp_path / name).mkdir()
    assert reading.numbered(tmp_path) == [0, 7, 12]
    assert reading.numbered(tmp_path / "none") == []


def test_table_round_trip(tmp_path):
    table = pl.DataFrame(
        {
            "i": pl.Series([1, None], dtype=pl.Int64),
            "f": pl.Series([1.5, np.nan], dtype=pl.Float32),
            "s": ["a", None],
            "l": pl.Series([[1, 2], []], dtype=pl.List(pl.Int64)),
            "b": [True, False],
        }
    )
    path = tmp_path / "t[1].parquet"
    with path.open("wb") as file:
        table.write_parquet(file)
    loaded = reading.read_table(path)
    assert loaded.schema == table.schema
    assert loaded.equals(table)
    assert reading.read_table(path, ["s"]).columns == ["s"]
    with pytest.raises(ZoojaxError, match="damaged"):
        reading.read_table(path, ["none"])


def test_path_is_not_expanded_as_a_pattern(tmp_path):
    with (tmp_path / "u1.parquet").open("wb") as file:
        pl.DataFrame({"other": [1]}).write_parquet(file)
    with pytest.raises(reading.NotFoundError):
        reading.read_table(tmp_path / "u[1].parquet")


def test_damaged_table_is_a_one_line_error(tmp_path, capfd):
    """Polars aborts the process on some of these files."""
    intact = tmp_path / "intact.parquet"
    rng = np.random.default_rng(0)
    frame = pl.DataFrame({"member": range(50), "name": [f"n{i}" for i in range(50)]})
    with intact.open("wb") as file:
        frame.write_parquet(file)
    content, path = intact.read_bytes(), tmp_path / "t.parquet"
    outcomes = set()
    for _ in range(300):
        damaged = bytearray(content)
        for at in rng.integers(len(content), size=rng.integers(1, 20)):
            damaged[at] = rng.integers(256)
        path.write_bytes(damaged[: rng.integers(len(damaged))] if rng.random() < 0.1 else damaged)
        try:
            reading.read_table(path)
            outcomes.add("read")
        except ZoojaxError as error:
            outcomes.add("refused")
            assert is_printable(str(error))
            assert len(str(error)) < 600
    assert outcomes == {"read", "refused"}
    assert capfd.readouterr().err == ""


def test_column_names_that_are_not_utf8_are_refused(tmp_path):
    path = tmp_path / "t.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"name": ["x"]}), path, store_schema=False)
    path.write_bytes(path.read_bytes().replace(b"name", b"n\xff\xfee"))
    with pytest.raises(ZoojaxError, match="damaged"):
        reading.read_table(path)


@given(st.text(max_size=400) | st.binary().map(lambda b: b.decode(errors="surrogateescape")))
def test_printable_returns_one_visible_line(text):
    shown = printable(text, 300)
    assert len(shown) <= 300
    assert len(shown.splitlines()) <= 1
    assert is_printable(shown)
    assert printable(shown, 300) == shown
    json.dumps(shown).encode()
    if is_printable(text) and len(text) <= 300:
        assert shown == text


def test_text_for_terminals_spreadsheets_and_figures():
    assert printable("a\x1b[2J\n\u202e") == r"a\x1b[2J\n\u202e"
    assert printable("x" * 10**6, 20) == "x" * 17 + "..."
    assert for_csv("=1+1") == "'=1+1"
    assert for_csv("usps") == "usps"
    assert for_matplotlib(r"$\foo$") == r"\$\foo\$"
