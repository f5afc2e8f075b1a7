"""Errors, warnings, broken pipes, encodings and caches of the command line."""

import json
import os
import subprocess
import sys
import warnings

import pytest

from tests.support import zoo_fixtures
from zoojax import ZoojaxError
from zoojax.cli import main

HOSTILE = "[/b][red]\x1b[2J\u202e\n" + "x" * 10_000


def test_errors_and_warnings_are_one_line(capsys, monkeypatch):
    class Note(UserWarning):
        __module__ = "zoojax.tests"

    def run(self) -> None:
        print(warnings.formatwarning(Note(HOSTILE), Note, "file", 1), end="", file=sys.stderr)
        raise ZoojaxError(HOSTILE)

    monkeypatch.setattr("zoojax.cli.list_presets.Presets.run", run)
    assert main.main(["presets"]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    note, error = output.err.splitlines()
    for line in (note, error):
        assert line.startswith("zoojax: [/b][red]\\x1b[2J\\u202e\\nxxx") and len(line) < 6_000


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("RESOURCE_EXHAUSTED: Out of memory\nallocating 3 GiB")]
)
def test_out_of_memory_is_reported_in_one_line(tmp_path_factory, monkeypatch, error):
    def run(self) -> None:
        raise error

    monkeypatch.setattr("zoojax.cli.list_presets.Presets.run", run)
    zoo_fixtures.assert_refused(zoo_fixtures.cli(tmp_path_factory, "presets"), "out of memory")


def test_unexpected_errors_are_raised(tmp_path_factory, monkeypatch):
    def run(self) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr("zoojax.cli.list_presets.Presets.run", run)
    with pytest.raises(RuntimeError, match="a defect"):
        zoo_fixtures.cli(tmp_path_factory, "presets")


@pytest.mark.parametrize(
    "words", ["--help", "train --help", "--version", "presets", "presets --json", "info ZOO"]
)
def test_broken_pipe(tmp_path_factory, words):
    """As with `zoojax presets | head -1`: no traceback, status 141."""
    zoo = zoo_fixtures.dense(tmp_path_factory).path
    command = [*zoo_fixtures.COMMAND, *(str(zoo) if w == "ZOO" else w for w in words.split())]
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        done = subprocess.run(
            command,
            env=zoo_fixtures.environment(tmp_path_factory),
            stdout=pipe,
            stderr=subprocess.PIPE,
            text=True,
            timeout=300,
        )
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_output_encoding_lacks_characters(tmp_path_factory, tmp_path, encoding):
    """Characters of a name are escaped."""
    path = zoo_fixtures.copied(zoo_fixtures.dense(tmp_path_factory), tmp_path / "zoo-é-Ж")
    content = json.loads((path / "zoo.json").read_text())
    (path / "zoo.json").write_text(json.dumps({**content, "name": "зоо"}))
    done = subprocess.run(
        [*zoo_fixtures.COMMAND, "info", path],
        env={
            **zoo_fixtures.environment(tmp_path_factory),
            "PYTHONIOENCODING": f"{encoding}:strict",
        },
        capture_output=True,
        timeout=300,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    shown = done.stdout.decode(encoding)
    assert path.name.encode(encoding, "backslashreplace").decode(encoding) in shown
    assert "зоо".encode(encoding, "backslashreplace").decode(encoding) in shown
    assert "test_acc" in shown


def test_home_folder_is_expanded(tmp_path_factory, tmp_path, monkeypatch, capsys, refused):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setitem(zoo_fixtures.environment(tmp_path_factory), "HOME", str(tmp_path))
    zoo = zoo_fixtures.copied(zoo_fixtures.dense(tmp_path_factory), tmp_path / "dense")
    zoo_fixtures.copied(zoo_fixtures.variational_dropout(tmp_path_factory), tmp_path / "vd")
    assert main.main(["info", "~/dense", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["path"] == str(zoo)
    for words in (
        ("sparsify", "magnitude-pruning", "~/dense", "--out=~/mp", "--ratios", 0.5, "--epochs", 0),
        ("evaluate", "~/mp", "--data", "~/none.npz"),
        ("analyze", "~/dense", "~/vd", "--out", "~/none/analysis", "--representation", "~/r"),
    ):
        done = zoo_fixtures.cli(tmp_path_factory, *words)
        assert done.returncode in (0, 2) and "~" not in done.stdout + done.stderr
    assert (tmp_path / "mp/zoo.json").exists()
    assert "~no-such-user" in refused("info", "~no-such-user/zoo")


def test_truncated_program_in_the_cache(tmp_path_factory, tmp_path):
    """An interruption left no access time next to it, with which JAX would cache nothing new."""
    environment = {**zoo_fixtures.environment(tmp_path_factory), "XDG_CACHE_HOME": str(tmp_path)}
    environment |= {"ZOOJAX_KERNEL": "off"}
    del environment["JAX_COMPILATION_CACHE_DIR"]
    command = [*zoo_fixtures.COMMAND, "evaluate", str(zoo_fixtures.dense(tmp_path_factory).path)]

    def cached_programs() -> dict[str, int]:
        subprocess.run(command, env=environment, cwd=tmp_path, check=True, capture_output=True)
        return {f.name: f.stat().st_size for f in tmp_path.glob("zoojax/programs/*/*-cache")}

    first = cached_programs()
    largest = max(first, key=lambda name: first[name])
    (truncated,) = tmp_path.glob(f"zoojax/programs/*/{largest}")
    truncated.write_bytes(truncated.read_bytes()[:100])
    truncated.with_name(truncated.name.removesuffix("cache") + "atime").unlink()
    again = cached_programs()
    assert again.keys() == first.keys() and again[largest] > 100
