"""What the command line makes of mistakes, narrow terminals, foreign text and closed pipes."""

import json
import os
import subprocess
import sys
import warnings
from importlib import metadata
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import zoojax
from tests.support import zoo_fixtures
from zoojax import ZoojaxError
from zoojax.cli import main, terminal
from zoojax.cli.parsing import _options, _subcommands
from zoojax.cli.terminal import Column
from zoojax.presets import PRESETS

HOSTILE = "[/b][red]\x1b[2J\u202e\n" + "x" * 10_000


@pytest.fixture
def refused(tmp_path_factory):
    """What a command that is refused says."""

    def run(*words: object) -> str:
        return zoo_fixtures.assert_refused(zoo_fixtures.cli(tmp_path_factory, *words))

    return run


# Mistakes.


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("trian", "no command trian; did you mean train? (see `zoojax --help`)"),
        ("", "needs one of presets, train, sparsify"),
        ("--verison", "no option --verison; did you mean --version?"),
        ("sparsify", "sparsify needs one of magnitude, variational-dropout"),
        ("sparsify magntude", "no command magntude; did you mean magnitude?"),
        ("train", "train needs PRESET and --out ZOO (see `zoojax train --help`)"),
        ("train p", "train needs --out ZOO"),
        ("train p --memebrs 4", "train has no option --memebrs; did you mean --members?"),
        ("train p --out z --memebrs=4", "did you mean --members?"),
        ("train p --out z --batch_sise 4", "did you mean --batch-size?"),
        ("train p --out z --cunk 4", "did you mean --chunk?"),
        ("train p --out z --num-process 4", "did you mean --num-processes?"),
        ("info z --chek", "info has no option --chek; did you mean --check?"),
        ("info z --ratios", "info has no option --ratios ("),
        ("convert from-torch a --out z --epoch 3", "from-torch has no option --epoch; did you "),
        ("represent sample r --out z", "sample needs --members N"),
        ("info a b", "info takes no further argument 'b'"),
        ("train p --out z --members many", "--members expects a whole number, not 'many'"),
        ("train p --out z --members=1.5", "--members expects a whole number, not '1.5'"),
        ("train p --out z --batch_size x", "--batch-size expects a whole number, not 'x'"),
        ("train p --out z --learning-rate 0.1 fast", "--learning-rate expects numbers, not 'fast'"),
        ("sparsify magnitude a --out z --ratios 0.1 b 0.2", "--ratios expects numbers, not 'b'"),
        ("bench --seconds long", "--seconds expects a number, not 'long'"),
        ("train p --out z --data-order random", "--data-order is 'random'; give one of member, "),
        ("represent train a --out z --tokens q", "--tokens is 'q'; give one of chunk, neuron ("),
        ("train p --out", "--out needs a value: ZOO"),
        ("train p --out z --members", "--members needs a value: N"),
        ("info z --json=no", "--json takes no value"),
    ],
)
def test_a_mistake_is_one_line_that_says_what_to_do(refused, words, told):
    assert told in refused(*words.split())


def test_foreign_text_in_a_mistake_is_made_visible(refused):
    for words in (
        ("train", "p", "--out", "z", "--members", HOSTILE),
        ("info", "z", f"--x{HOSTILE}"),
    ):
        line = refused(*words)
        assert "\x1b" not in line and "\u202e" not in line and len(line) < 300
        assert "[/b][red]\\x1b[2J\\u202e\\nx" in line


def test_the_options_of_every_command_are_known():
    """The nearest option is looked for among them: those that --help lists."""

    def commands(here) -> list:
        found = _subcommands(here)
        return [c for sub in found.values() for c in commands(sub)] if found else [here]

    everything = commands(main._Command)
    assert len(everything) == 17
    by_name = {command.__name__: {name for name, _ in _options(command)} for command in everything}
    assert {"--out", "--members", "--chunk", "--json", "--process-id"} <= by_name["Train"]
    assert {"--where", "--parent", "--coordinator"} <= by_name["FromTorch"]
    assert "--zoo" not in by_name["Info"] and "--zoo" in by_name["EvaluateRepresentation"]


# Help.


def every_help(factory) -> list[str]:
    done = [
        zoo_fixtures.cli(factory, *words.split(), "--help")
        for words in (
            *("", "presets", "train", "sparsify magnitude", "sparsify variational-dropout"),
            *("analyze", "reproduce", "evaluate", "info", "bench", "convert from-torch"),
            *("convert from-dataset", "convert to-torch", "convert verify", "represent train"),
            *("represent evaluate", "represent sparsify", "represent sample"),
        )
    ]
    assert all(help.returncode == 0 for help in done)
    return [help.stdout for help in done]


def test_help_names_things_and_says_no_default_twice(tmp_path_factory):
    for text in every_help(tmp_path_factory):
        for clutter in ("None", "{None}|", " INT", " STR", " PATH", " FLOAT", "--no-"):
            assert clutter not in text.replace("--no-such", "")
    train = zoo_fixtures.cli(tmp_path_factory, "train", "--help").stdout
    assert "--members N" in train and "--out ZOO" in train and "PRESET-custom" in train
    assert "--version" in zoo_fixtures.cli(tmp_path_factory, "--help").stdout


def test_version(tmp_path_factory):
    done = zoo_fixtures.cli(tmp_path_factory, "--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"zoojax {metadata.version('zoojax')}\n"
    assert zoojax.__version__ == metadata.version("zoojax")


@pytest.mark.parametrize("words", ["--help", "train --help", "--version", "presets", "info ZOO"])
def test_nobody_reads_on(tmp_path_factory, words):
    """As `zoojax presets | head -1`: no traceback, status 141."""
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


# Narrow terminals.


def lines(capsys, monkeypatch, width: int | None, *arguments, **options) -> list[str]:
    """What `print_table` prints in so many columns."""
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


def test_a_table_that_fits_is_whole(capsys, monkeypatch):
    for width in (None, 200, 64):
        shown = lines(capsys, monkeypatch, width, COLUMNS, ROWS)
        assert len(shown) == 4 and "0.001, 0.0001, 0.00001" in shown[-1]
        assert all(cell in shown[-1] for cell in ROWS[0])


def test_words_fold_before_columns_go(capsys, monkeypatch):
    shown = lines(capsys, monkeypatch, 50, COLUMNS, ROWS)
    assert max(map(len, shown)) <= 50
    assert not any("not shown" in line for line in shown)
    assert "text" in shown[2] and "0.00001" in shown[4]


def test_columns_that_do_not_fit_are_named(capsys, monkeypatch):
    *table, note = lines(capsys, monkeypatch, 35, COLUMNS, ROWS)
    assert max(map(len, table)) <= 35 and "12.3 (4.5)" in table[-1]
    assert note.startswith("not shown in 35 columns: rates, last (") and "--json" in note
    *table, note = lines(capsys, monkeypatch, 40, COLUMNS, ROWS, drop=("accuracy", "rates"))
    assert note.startswith("not shown in 40 columns: accuracy (") and "text" in table[-3]


@pytest.mark.parametrize("width", [1, 2, 5, 12])
def test_the_first_column_is_never_left_out(capsys, monkeypatch, width):
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


# Foreign text.


def test_tables_show_foreign_text_as_it_is(capsys, monkeypatch):
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


def test_lines_are_lines(capsys):
    terminal.say(f"report: {HOSTILE[:20]}", "two")
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("report: [/b][red]\\x1b[2J\\u202e\\n") and second == "two"


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


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_output_never_fails_on_what_cannot_be_encoded(tmp_path_factory, tmp_path, encoding):
    """Names that the output's encoding does not have."""
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


# JSON.


def test_json_has_numbers_as_numbers(capsys):
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


def test_every_command_that_prints_a_table_has_json():
    def commands(here) -> list:
        found = _subcommands(here)
        return [c for sub in found.values() for c in commands(sub)] if found else [here]

    without = {c.__name__ for c in commands(main._Command) if "--json" not in dict(_options(c))}
    # They print a line or two.
    assert without == {"ToTorch", "TrainRepresentation"}


# Python's view, and paths with ~.


def test_dir_shows_the_public_names():
    assert set(zoojax.__all__) <= set(dir(zoojax))
    assert {"open_zoo", "prune_zoo", "__version__"} <= set(dir(zoojax))
    assert "importlib" not in dir(zoojax)


def test_making_takes_text_and_expands_home(tmp_path_factory, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    spec = zoo_fixtures.spec(tmp_path_factory)
    zoo = zoojax.train_zoo(
        "~/dense", "tiny", zoo_fixtures.GRID, "small", spec, epochs=0, data_dir="~"
    )
    assert zoo.path == tmp_path / "dense"
    twins = (
        zoojax.prune_zoo("~/mp", zoo, [0.5], epochs=0),
        zoojax.train_variational_dropout(str(tmp_path / "vd"), zoo, epochs=0),
    )
    assert [twin.path for twin in twins] == [tmp_path / "mp", tmp_path / "vd"]
    with pytest.raises(ZoojaxError, match="~no-such-user"):
        zoojax.train_variational_dropout("~no-such-user/vd", zoo, epochs=0)


def test_commands_expand_home(tmp_path_factory, tmp_path, monkeypatch, capsys, refused):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setitem(zoo_fixtures.environment(tmp_path_factory), "HOME", str(tmp_path))
    zoo = zoo_fixtures.copied(zoo_fixtures.dense(tmp_path_factory), tmp_path / "dense")
    zoo_fixtures.copied(zoo_fixtures.dropped_out(tmp_path_factory), tmp_path / "vd")
    assert main.main(["info", "~/dense", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["path"] == str(zoo)
    for words in (
        ("sparsify", "magnitude", "~/dense", "--out=~/mp", "--ratios", 0.5, "--epochs", 0),
        ("evaluate", "~/mp", "--data", "~/none.npz"),
        ("analyze", "~/dense", "~/vd", "--out", "~/none/analysis", "--representation", "~/r"),
    ):
        done = zoo_fixtures.cli(tmp_path_factory, *words)
        assert done.returncode in (0, 2) and "~" not in done.stdout + done.stderr
    assert (tmp_path / "mp/zoo.json").exists()
    assert "~no-such-user" in refused("info", "~no-such-user/zoo")


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("RESOURCE_EXHAUSTED: Out of memory\nallocating 3 GiB")]
)
def test_too_little_memory_is_one_line(tmp_path_factory, monkeypatch, error):
    def run(self) -> None:
        raise error

    monkeypatch.setattr("zoojax.cli.list_presets.Presets.run", run)
    zoo_fixtures.assert_refused(zoo_fixtures.cli(tmp_path_factory, "presets"), "out of memory")


def test_other_errors_are_not_hidden(tmp_path_factory, monkeypatch):
    def run(self) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr("zoojax.cli.list_presets.Presets.run", run)
    with pytest.raises(RuntimeError, match="a defect"):
        zoo_fixtures.cli(tmp_path_factory, "presets")
