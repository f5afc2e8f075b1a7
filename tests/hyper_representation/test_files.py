"""Evaluation files, moved hyper-representations, failed writes, and safe output of names."""

import json
import shutil
from pathlib import Path
from xml.etree import ElementTree

import polars as pl
import pytest

import zoojax.cli.represent.evaluate as evaluate_command
from tests.support import disks, representations, zoo_fixtures
from zoojax import Zoo, ZoojaxError, figures
from zoojax.figures.zero_shot import zero_shot as zero_shot_figure
from zoojax.figures.zero_shot import zero_shot_caption
from zoojax.filesystem.tables import write_both
from zoojax.hyper_representation import evaluation_tables
from zoojax.hyper_representation.config import RepresentationConfig
from zoojax.hyper_representation.evaluation_tables import (
    FOLDER,
    Evaluation,
    find_error,
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


@pytest.fixture
def representation(tmp_path_factory) -> Representation:
    return representations.reconstructing(tmp_path_factory)


@pytest.fixture
def twin(tmp_path_factory) -> Zoo:
    return representations.twin(tmp_path_factory)


@pytest.fixture
def copied(representation, tmp_path) -> Path:
    """A copy that a test may modify."""
    return Path(shutil.copytree(representation.path, tmp_path / "rep"))


# ---- Evaluations ---------------------------------------------------------------------------


def small_tables(config: RepresentationConfig) -> dict[str, pl.DataFrame]:
    """Small valid tables of an evaluation."""
    members, epochs = config.zoos[0].members, config.zoos[0].epochs
    states = [(m, e, part) for part, ids in members._asdict().items() for m in ids for e in epochs]
    embeddings = pl.DataFrame(states, schema=["member", "epoch", "part"], orient="row")
    zoo = {"zoo": config.labels[0]}
    columns = ("test_acc", "sparsity", "ggap", "x", "y")
    text = {"features": "f", "other": "g", "scope": "all states", "property": "ggap"}
    contents = {
        "summary": {"zoo": "z", "features": "f"},
        "reconstruction": zoo | {"part": "test", "quantity": "weights", "layer": "all", "count": 3},
        "properties": zoo | {name: text[name] for name in ("features", "scope", "property")},
        "differences": zoo | text,
        "functional_summary": zoo | {"thresholded": False, "epochs": "all", "members": 3},
    }
    frames = {}
    for name, values in contents.items():
        # Figures that are unknown.
        floats = [column for column in evaluation_tables._SCHEMAS[name] if column not in values]
        schema_overrides = dict.fromkeys(floats, pl.Float64)
        row = dict.fromkeys(floats) | values
        frames[name] = pl.DataFrame([row], schema_overrides=schema_overrides)
    pairs = {"quantity": ["weights"] * 2, "layer": ["fc1"] * 2, "true": [0.0, 1.0]}
    frames["scatter"] = pl.DataFrame(pairs | {"reconstructed": [0.0, 0.5]})
    halves = embeddings.with_columns(pl.lit(0.5).alias(n) for n in columns)
    return frames | {"embeddings": halves.with_columns(zoo=pl.lit(config.labels[0]))}


@pytest.fixture
def evaluated(copied) -> Path:
    """A copy with an evaluation."""
    copy = open_representation(copied)
    (copied / FOLDER).mkdir()
    for name, table in (small_tables(copy.config) | {"losses": copy.losses}).items():
        table.write_parquet(copied / FOLDER / f"{name}.parquet")
    return copied


def test_valid_evaluation_is_read(evaluated, representation):
    assert set(read_evaluation(open_representation(evaluated)).tables) == {
        *small_tables(representation.config),
        "losses",
    }


@pytest.mark.parametrize(
    ("name", "column", "values", "named"),
    [
        ("summary", "features", pl.Series([None], dtype=pl.String), "nulls"),
        ("summary", "zoo", ["x" * 2000], "characters"),
        ("summary", "weights", ["high"], "type"),
        ("summary", "extra", [1], "unexpected column"),
        ("summary", "\x1b[2J", [1], "unexpected column"),
        ("summary", "weights", None, "no column weights"),
        ("reconstruction", "layer", ["</script>"], "layer"),
        ("reconstruction", "quantity", [r"$\foo$"], "quantity"),
        ("reconstruction", "part", ["all"], "part"),
        ("reconstruction", "r2", [float("inf")], "infinite"),
        ("reconstruction", "count", [1.5], "type"),
        ("properties", "property", ["size"], "property"),
        ("properties", "scope", ["today"], "scope"),
        ("properties", "scope", None, "no column scope; rerun 'zoojax represent evaluate"),
        ("properties", "r2", [1e300], "plotted"),
        ("properties", "tau_low", ["-"], "type"),
        ("differences", "other", pl.Series([None], dtype=pl.String), "nulls"),
        ("differences", "r2_difference_low", [float("-inf")], "infinite"),
        ("functional_summary", "epochs", ["88"], "epochs"),
        ("functional_summary", "members", [1.5], "type"),
        ("functional_summary", "thresholded", ["yes"], "type"),
        ("scatter", "true", [0.0, float("nan")], "plotted"),
        ("scatter", "reconstructed", [0.0, 1e300], "plotted"),
        ("embeddings", "x", 1e200, "plotted"),
        ("embeddings", "y", None, "no column y"),
        ("embeddings", "part", "test", "part"),
        ("embeddings", "member", 0, "duplicate"),
        ("embeddings", "member", 77, "member"),
        ("embeddings", "epoch", 88, "epoch"),
    ],
)
def test_invalid_table_is_refused(evaluated, name, column, values, named):
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


@pytest.mark.parametrize("name", ["properties", "differences", "embeddings"])
def test_duplicate_rows_are_refused(representation, name):
    table = small_tables(representation.config)[name]
    assert find_error(representation.config, name, table) is None
    assert "duplicate rows" in (
        find_error(representation.config, name, pl.concat([table, table])) or ""
    )


def test_maximum_number_of_scatter_pairs(representation):
    many = pl.concat([small_tables(representation.config)["scatter"]] * 1001)
    assert find_error(representation.config, "scatter", many) is None
    more = pl.concat([many, many])
    assert "pairs" in (find_error(representation.config, "scatter", more) or "")


def test_missing_table_is_named(evaluated):
    (evaluated / FOLDER / "scatter.parquet").unlink()
    with pytest.raises(ZoojaxError, match=r"no scatter\.parquet"):
        read_evaluation(open_representation(evaluated))


# ---- Moved folders -------------------------------------------------------------------------


@pytest.mark.parametrize("action", ["evaluate", "sample", "sparsify"])
def test_moved_representation_needs_option_zoo(tmp_path_factory, tmp_path, twin, action):
    """Every command accepts --zoo, refuses a different zoo, and names the option if missing."""
    create = representations.sparsifying if action == "sparsify" else representations.reconstructing
    moved = shutil.copytree(create(tmp_path_factory).path, tmp_path / "elsewhere" / "rep")
    dense = representations.dense(tmp_path_factory)
    words = ["represent", action, moved, "--quiet"]
    words += {
        "evaluate": [],
        "sample": ["--members", 2, "--epochs", 0, "--out", tmp_path / "out"],
        "sparsify": [dense.path, "--held-out-only", "--ratios", 0.5, "--out", tmp_path / "out"],
    }[action]
    zoo_fixtures.assert_refused(zoo_fixtures.cli(tmp_path_factory, *words), "--zoo", moved)
    done = zoo_fixtures.cli(tmp_path_factory, *words, "--zoo", dense.path)
    zoo_fixtures.assert_refused(done, "is not a zoo that", "--zoo")
    assert not (tmp_path / "out").exists()
    done = zoo_fixtures.cli(tmp_path_factory, *words, "--zoo", twin.path)
    assert done.returncode == 0, done.stderr
    assert "no comparison" not in done.stdout


def test_zoo_without_a_member_of_the_split(copied, twin):
    content = json.loads((copied / CONFIG).read_text())
    content["zoos"][0]["members"]["test"] = [1000]
    (copied / CONFIG).write_text(json.dumps(content))
    with pytest.raises(ZoojaxError, match="no member 1000"):
        open_representation(copied).training_zoo(twin.path)


# ---- Failed writes and names of all kinds --------------------------------------------------


def test_full_disk_leaves_no_partial_files(evaluated, twin, tmp_path):
    evaluation = read_evaluation(open_representation(evaluated))
    with disks.full(), pytest.raises(ZoojaxError, match="cannot write"):
        write(evaluation, tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []
    with disks.full(), pytest.raises(ZoojaxError, match=rf"cannot write .*{CONFIG}"):
        representations.train_stub(tmp_path / "trained", twin, representations.SETTINGS)
    assert list((tmp_path / "trained").iterdir()) == []


def test_training_resumes_after_disk_was_full_during_save(twin, tmp_path, monkeypatch):
    def save(path, tree):
        with disks.full():
            original(path, tree)

    original = checkpoints.save
    monkeypatch.setattr(checkpoints, "save", save)
    with pytest.raises(ZoojaxError, match="cannot write"):
        representations.train_stub(tmp_path / "rep", twin, representations.SETTINGS)
    assert open_representation(tmp_path / "rep").epoch == 0
    monkeypatch.undo()
    assert representations.train_stub(tmp_path / "rep", twin, representations.SETTINGS).epoch == 1


@pytest.mark.parametrize("folder", ["/proc/none", "file/out"])
def test_unwritable_output_folder_is_named(tmp_path_factory, tmp_path, twin, folder):
    (tmp_path / "file").write_text("")
    words = ["represent", "train", twin.path, "--out", tmp_path / folder, "--quiet"]
    zoo_fixtures.assert_refused(zoo_fixtures.cli(tmp_path_factory, *words), tmp_path / folder)


def test_foreign_files_are_kept(copied, representation, twin):
    """Files that operating systems and users add to the checkpoints."""
    for name in (".DS_Store", "Thumbs.db", ".nfs0001"):
        (copied / STATES / name).write_text("")
    (copied / STATES / ".sync.tmp-1").mkdir()
    (copied / LOSSES).unlink()
    resumed = representations.train_stub(copied, twin, representations.SETTINGS)
    assert resumed.epoch == 1
    names = {".DS_Store", "Thumbs.db", ".nfs0001", ".sync.tmp-1", "1"}
    assert {path.name for path in (copied / STATES).iterdir()} == names


def test_partial_files_of_killed_evaluation_are_removed(evaluated):
    folder = evaluated / FOLDER
    for name in (".summary.csv.tmp-7", ".scatter.parquet.tmp-7"):
        (folder / name).write_text("half")
    (folder / "notes.txt").write_text("mine")
    write(read_evaluation(open_representation(evaluated)), folder)
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []
    assert (folder / "notes.txt").exists()


HOSTILE_NAMES = ("=cmd()", "+1", "-1", "@x", "a\x1b[31mb\nc", "[/b][red]", "x" * 10_000, 'a,"b"\r')


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_csv_text_has_no_formulas_or_escape_codes(tmp_path, name):
    table = pl.DataFrame({"zoo": [name, None], "r2": [0.5, -0.5], "layers": [[name], []]})
    write_both(tmp_path, "table", table)
    assert pl.read_parquet(tmp_path / "table.parquet").equals(table)
    read = pl.read_csv(tmp_path / "table.csv", infer_schema=False)
    cell = read["zoo"][0]
    assert cell == for_csv(printable(name)) and cell.isprintable() and len(cell) <= 301
    assert not cell.startswith(("=", "+", "-", "@"))
    assert read["zoo"][1] in (None, "") and read["r2"].to_list() == ["0.5", "-0.5"]
    assert read["layers"][0].isprintable()


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_hostile_names_are_printed_and_plotted(representation, tmp_path, capsys, monkeypatch, name):
    tables = small_tables(representation.config)
    tables["summary"] = tables["summary"].with_columns(zoo=pl.lit(name))
    monkeypatch.setenv("COLUMNS", "160")
    evaluate_command._show(Evaluation(tables))
    shown = capsys.readouterr().out
    assert "\x1b" not in shown and printable(name, 60)[:20] in shown
    caption = zero_shot_caption(f"$5 or $6 {name}", 2)
    figures.save(zero_shot_figure(ZERO_SHOT), tmp_path, "zero_shot", caption)
    drawn = ElementTree.parse(tmp_path / "zero_shot.svg")
    assert any("$5 or $6" in (element.text or "") for element in drawn.iter())


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
