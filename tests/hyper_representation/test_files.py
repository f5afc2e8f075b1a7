"""Evaluations and moved hyper-representations: read, shown and written safely."""

import json
import shutil
from pathlib import Path

import polars as pl
import pytest

import zoojax.cli.represent.evaluate as evaluate_command
from tests.support import disks, representations, zoo_fixtures
from zoojax import Zoo, ZoojaxError
from zoojax.figures.zero_shot import zero_shot as zero_shot_figure
from zoojax.filesystem.tables import write_both
from zoojax.hyper_representation.config import RepresentationConfig
from zoojax.hyper_representation.evaluated import (
    FOLDER,
    Evaluation,
    problem_of,
    read_evaluation,
    write,
)
from zoojax.hyper_representation.representation import (
    CONFIG,
    LOSSES,
    STATES,
    Representation,
    open_representation,
)
from zoojax.storage import checkpoints
from zoojax.text import for_csv, printable

pytestmark = pytest.mark.usefixtures("quickly_compiled")


@pytest.fixture
def known(tmp_path_factory) -> Representation:
    return representations.reconstructing(tmp_path_factory)


@pytest.fixture
def twin(tmp_path_factory) -> Zoo:
    return representations.twin(tmp_path_factory)


@pytest.fixture
def copied(known, tmp_path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(known.path, tmp_path / "rep"))


# ---- Evaluations ---------------------------------------------------------------------------


def tables(config: RepresentationConfig) -> dict[str, pl.DataFrame]:
    """Small tables as an evaluation of this representation has them."""
    members, epochs = config.members, config.epochs
    states = [(m, e, part) for part, ids in members._asdict().items() for m in ids for e in epochs]
    embeddings = pl.DataFrame(states, schema=["member", "epoch", "part"], orient="row")
    numbers = ("test_acc", "sparsity", "ggap", "x", "y")
    shares = {"weights": [0.5], "alphas": [None], "accuracy": [0.5], "sparsity": [0.5]}
    floats = dict.fromkeys(("alphas", "tau", "ggap"), pl.Float64)
    summary = {"zoo": ["z"], "features": ["f"], **shares, "epoch": [0.5], "ggap": [None]}
    probes = {"features": ["f"], "property": ["ggap"], "r2": [0.5], "tau": [None]}
    fit = {"part": ["test"], "quantity": ["weights"], "layer": ["all"], "count": [3], "r2": [0.5]}
    pairs = {"quantity": ["weights"] * 2, "layer": ["fc1"] * 2, "true": [0.0, 1.0]}
    found = {
        "summary": summary,
        "reconstruction": fit,
        "properties": probes | {"lambda": [1e-3]},
        "scatter": pairs | {"reconstructed": [0.0, 0.5]},
    }
    made = {
        name: pl.DataFrame(table, schema_overrides={n: t for n, t in floats.items() if n in table})
        for name, table in found.items()
    }
    return made | {"embeddings": embeddings.with_columns(pl.lit(0.5).alias(n) for n in numbers)}


@pytest.fixture
def evaluated(copied) -> Path:
    """A copy with an evaluation."""
    found = open_representation(copied)
    (copied / FOLDER).mkdir()
    for name, table in (tables(found.config) | {"losses": found.losses}).items():
        table.write_parquet(copied / FOLDER / f"{name}.parquet")
    return copied


def test_tables_of_an_evaluation_are_read(evaluated, known):
    assert set(read_evaluation(open_representation(evaluated)).tables) == {
        *tables(known.config),
        "losses",
    }


@pytest.mark.parametrize(
    ("name", "column", "values", "named"),
    [
        ("summary", "features", pl.Series([None], dtype=pl.String), "nulls"),
        ("summary", "zoo", ["x" * 2000], "characters"),
        ("summary", "weights", ["high"], "type"),
        ("summary", "extra", [1], "no evaluation"),
        ("summary", "\x1b[2J", [1], "no evaluation"),
        ("summary", "weights", None, "no column weights"),
        ("reconstruction", "layer", ["</script>"], "layer"),
        ("reconstruction", "quantity", [r"$\foo$"], "quantity"),
        ("reconstruction", "part", ["all"], "part"),
        ("reconstruction", "r2", [float("inf")], "not finite"),
        ("reconstruction", "count", [1.5], "type"),
        ("properties", "property", ["size"], "property"),
        ("scatter", "true", [0.0, float("nan")], "drawn"),
        ("scatter", "reconstructed", [0.0, 1e300], "drawn"),
        ("embeddings", "x", 1e200, "drawn"),
        ("embeddings", "y", None, "no column y"),
        ("embeddings", "part", "test", "part"),
        ("embeddings", "member", 0, "twice"),
        ("embeddings", "member", 77, "member"),
        ("embeddings", "epoch", 88, "epoch"),
    ],
)
def test_tables_of_something_else_are_refused(evaluated, name, column, values, named):
    file = evaluated / FOLDER / f"{name}.parquet"
    table = pl.read_parquet(file)
    if values is None:
        table = table.drop(column)
    elif isinstance(values, list | pl.Series):
        table = table.with_columns(pl.Series(column, values))
    else:
        table = table.with_columns(pl.lit(values).cast(table.schema[column]).alias(column))
    table.write_parquet(file)
    with pytest.raises(ZoojaxError, match=named) as refused:
        read_evaluation(open_representation(evaluated))
    assert str(refused.value).startswith(str(file)) and str(refused.value).isprintable()


def test_as_many_pairs_as_an_evaluation_keeps(known):
    many = pl.concat([tables(known.config)["scatter"]] * 1001)
    assert problem_of(known.config, "scatter", many) is None
    more = pl.concat([many, many])
    assert "pairs" in (problem_of(known.config, "scatter", more) or "")


def test_a_table_that_is_missing_is_named(evaluated):
    (evaluated / FOLDER / "scatter.parquet").unlink()
    with pytest.raises(ZoojaxError, match=r"no scatter\.parquet"):
        read_evaluation(open_representation(evaluated))


# ---- Moved ---------------------------------------------------------------------------------


@pytest.mark.parametrize("action", ["evaluate", "sample", "sparsify"])
def test_moved_without_its_zoo_every_command_takes_zoo(tmp_path_factory, tmp_path, twin, action):
    """Without it one line says so; another zoo is refused."""
    of = representations.sparsifying if action == "sparsify" else representations.reconstructing
    moved = shutil.copytree(of(tmp_path_factory).path, tmp_path / "elsewhere" / "rep")
    dense = representations.dense(tmp_path_factory)
    words = ["represent", action, moved, "--quiet"]
    words += {
        "evaluate": [],
        "sample": ["--members", 2, "--epochs", 0, "--out", tmp_path / "out"],
        "sparsify": [dense.path, "--held-out-only", "--ratios", 0.5, "--out", tmp_path / "out"],
    }[action]
    zoo_fixtures.assert_refused(zoo_fixtures.cli(tmp_path_factory, *words), "--zoo", moved)
    done = zoo_fixtures.cli(tmp_path_factory, *words, "--zoo", dense.path)
    zoo_fixtures.assert_refused(done, "is not the zoo", "--zoo")
    assert not (tmp_path / "out").exists()
    done = zoo_fixtures.cli(tmp_path_factory, *words, "--zoo", twin.path)
    assert done.returncode == 0, done.stderr
    assert "no comparison" not in done.stdout


def test_a_zoo_that_lacks_a_member_of_the_split(copied, twin):
    content = json.loads((copied / CONFIG).read_text())
    content["members"]["test"] = [1000]
    (copied / CONFIG).write_text(json.dumps(content))
    with pytest.raises(ZoojaxError, match="no member 1000"):
        open_representation(copied).training_zoo(twin.path)


# ---- What cannot be written, and how names are shown ---------------------------------------


def test_a_full_disk_is_one_line(evaluated, twin, tmp_path):
    """What was there stays, and nothing half written."""
    found = read_evaluation(open_representation(evaluated))
    with disks.full(), pytest.raises(ZoojaxError, match="cannot write"):
        write(found, tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []
    with disks.full(), pytest.raises(ZoojaxError, match=rf"cannot write .*{CONFIG}"):
        representations.learn(tmp_path / "learned", twin, representations.SETTINGS)
    assert list((tmp_path / "learned").iterdir()) == []


def test_a_disk_that_is_full_in_the_end_keeps_what_was_learned(twin, tmp_path, monkeypatch):
    def save(path, tree):
        with disks.full():
            original(path, tree)

    original = checkpoints.save
    monkeypatch.setattr(checkpoints, "save", save)
    with pytest.raises(ZoojaxError, match="cannot write"):
        representations.learn(tmp_path / "rep", twin, representations.SETTINGS)
    assert open_representation(tmp_path / "rep").epoch == 0
    monkeypatch.undo()
    assert representations.learn(tmp_path / "rep", twin, representations.SETTINGS).epoch == 1


@pytest.mark.parametrize("where", ["/proc/none", "file/out"])
def test_a_place_that_cannot_be_written_is_one_line(tmp_path_factory, tmp_path, twin, where):
    (tmp_path / "file").write_text("")
    words = ["represent", "train", twin.path, "--out", tmp_path / where, "--quiet"]
    zoo_fixtures.assert_refused(zoo_fixtures.cli(tmp_path_factory, *words), tmp_path / where)


def test_files_of_others_stay(copied, known, twin):
    """Whatever systems and users put among the states."""
    for name in (".DS_Store", "Thumbs.db", ".nfs0001"):
        (copied / STATES / name).write_text("")
    (copied / STATES / ".sync.tmp-1").mkdir()
    (copied / LOSSES).unlink()
    found = representations.learn(copied, twin, representations.SETTINGS)
    assert found.epoch == 1
    names = {".DS_Store", "Thumbs.db", ".nfs0001", ".sync.tmp-1", "1"}
    assert {path.name for path in (copied / STATES).iterdir()} == names


def test_an_evaluation_that_was_killed_leaves_nothing_when_repeated(evaluated):
    folder = evaluated / FOLDER
    for name in (".summary.csv.tmp-7", ".scatter.parquet.tmp-7"):
        (folder / name).write_text("half")
    (folder / "notes.txt").write_text("mine")
    write(read_evaluation(open_representation(evaluated)), folder)
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []
    assert (folder / "notes.txt").exists()


NASTY = ("=cmd()", "+1", "-1", "@x", "a\x1b[31mb\nc", "[/b][red]", "x" * 10_000, 'a,"b"\r')


@pytest.mark.parametrize("name", NASTY)
def test_text_in_csv_is_no_formula_and_no_escape(tmp_path, name):
    table = pl.DataFrame({"zoo": [name, None], "r2": [0.5, -0.5], "layers": [[name], []]})
    write_both(tmp_path, "table", table)
    assert pl.read_parquet(tmp_path / "table.parquet").equals(table)
    read = pl.read_csv(tmp_path / "table.csv", infer_schema=False)
    cell = read["zoo"][0]
    assert cell == for_csv(printable(name)) and cell.isprintable() and len(cell) <= 301
    assert not cell.startswith(("=", "+", "-", "@"))
    assert read["zoo"][1] in (None, "") and read["r2"].to_list() == ["0.5", "-0.5"]
    assert read["layers"][0].isprintable()


@pytest.mark.parametrize("name", NASTY)
def test_any_name_is_printed_and_drawn(known, capsys, monkeypatch, name):
    found = tables(known.config)
    found["summary"] = found["summary"].with_columns(zoo=pl.lit(name))
    monkeypatch.setenv("COLUMNS", "160")
    evaluate_command._show(Evaluation(found))
    shown = capsys.readouterr().out
    assert "\x1b" not in shown and printable(name, 60)[:20] in shown
    figure = zero_shot_figure(ZERO_SHOT, f"$5 or $6 for zoo {name}, 2 members.")
    figure.draw_without_rendering()
    assert r"\$5 or \$6" in figure.get_supxlabel()


ZERO_SHOT = pl.DataFrame(
    {
        "method": ["predicted", "predicted"],
        "sparsity": [0.5, 0.9],
        "at_threshold": [False, True],
        "test_acc_mean": [0.8, 0.4],
        "test_acc_std": [0.1, 0.1],
        "members": [2, 2],
    }
)
