"""Reports and configurations of trials: result.json, progress.csv and params.json."""

import json

import pytest

from tests.support.torch_zoos import config, trials
from zoojax.converters.ray_trials import Trial, scan_trials


def only(root) -> Trial:
    """The only trial of a zoo."""
    (trial,) = scan_trials(root)
    return trial


def test_rows_are_keyed_by_iteration(one_trial):
    (folder,) = trials(one_trial)
    lines = [{"training_iteration": e, "test_acc": e / 100} for e in (40, 3, 7)]
    (folder / "result.json").write_text("\n".join(map(json.dumps, lines)))
    assert {e: row["test_acc"] for e, row in only(one_trial).rows.items()} == {
        40: 0.4,
        3: 0.03,
        7: 0.07,
    }


def test_last_of_repeated_rows_counts(one_trial):
    (folder,) = trials(one_trial)
    lines = [{"training_iteration": e, "test_acc": acc} for e, acc in [(0, 0.1), (1, 0.2), (0, 1)]]
    (folder / "result.json").write_text("\n".join(map(json.dumps, lines)))
    assert {e: row["test_acc"] for e, row in only(one_trial).rows.items()} == {0: 1, 1: 0.2}


@pytest.mark.parametrize(
    "line",
    [
        '{"test_acc": 0.8, "training_iter',
        "[1, 2]",
        "7",
        '{"test_acc": 1}',
        '{"training_iteration": Infinity}',
        '{"training_iteration": NaN}',
        '{"training_iteration": null}',
        "[" * 100_000,
        "\x00\xff",
    ],
    ids=["cut", "list", "number", "no-iteration", "inf", "nan", "null", "deep", "bytes"],
)
def test_broken_line_is_skipped(one_trial, line):
    (folder,) = trials(one_trial)
    with (folder / "result.json").open("a") as file:
        file.write(line)
    trial = only(one_trial)
    assert sorted(trial.rows) == [0, 1]
    assert trial.notes == ["1 broken line(s) in result.json"]


def test_progress_csv_replaces_missing_result_json(one_trial):
    (folder,) = trials(one_trial)
    (folder / "result.json").unlink()
    (folder / "progress.csv").write_text(
        "test_acc,training_iteration\n0.5,1\n0.25,0\n0.75,1\nnone,x\n"
    )
    assert {e: float(r["test_acc"]) for e, r in only(one_trial).rows.items()} == {1: 0.75, 0: 0.25}


def test_missing_reports_are_noted(one_trial):
    (folder,) = trials(one_trial)
    (folder / "result.json").unlink()
    trial = only(one_trial)
    assert (trial.rows, trial.notes) == ({}, ["no result.json and no progress.csv"])
    assert trial.config["seed"] == 1


@pytest.mark.parametrize(
    "content, note",
    [
        ("{", "unreadable"),
        ("[1]", "not an object"),
        ("\udcff", "unreadable"),
        ("[" * 100_000, "unreadable"),
    ],
    ids=["cut", "list", "bytes", "deep"],
)
def test_config_in_result_json_replaces_unreadable_params(one_trial, content, note):
    (folder,) = trials(one_trial)
    (folder / "params.json").write_bytes(content.encode(errors="surrogateescape"))
    trial = only(one_trial)
    assert trial.config == config(1)
    assert trial.notes == [f"params.json is {note}"]


def test_epochs_under_another_key(one_trial):
    (trial,) = trials(one_trial)
    lines = [{"epoch": e, "test_acc": e / 8} for e in (0, 1.0, 2)]
    (trial / "result.json").write_text("\n".join(map(json.dumps, lines)))
    assert {e: row["test_acc"] for e, row in only(one_trial).rows.items()} == {
        0: 0,
        1: 0.125,
        2: 0.25,
    }
    assert only(one_trial).notes == ["result.json has no training_iteration: epochs are its epoch"]
    (trial / "result.json").unlink()
    (trial / "progress.csv").write_text("epoch,test_acc\n3.0,0.5\n")
    assert only(one_trial).rows == {3: {"test_acc": 0.5}}
    assert only(one_trial).notes == ["progress.csv has no training_iteration: epochs are its epoch"]


def test_training_iteration_takes_precedence_over_epoch(one_trial):
    (trial,) = trials(one_trial)
    lines = [{"epoch": 7, "training_iteration": 1, "test_acc": 0.5}, {"epoch": 8}]
    (trial / "result.json").write_text("\n".join(map(json.dumps, lines)))
    assert only(one_trial).rows == {1: {"test_acc": 0.5}}
    assert only(one_trial).notes == ["1 broken line(s) in result.json"]


@pytest.mark.parametrize("value", [1.5, -1, 2**63, 10**400, True, "x", [1], 1e300], ids=str)
def test_invalid_epochs(one_trial, value):
    (trial,) = trials(one_trial)
    (trial / "result.json").write_text(json.dumps({"training_iteration": value, "test_acc": 1}))
    assert only(one_trial).rows == {}
    assert only(one_trial).notes == ["1 broken line(s) in result.json"]


def test_absurd_number_of_columns(one_trial):
    """Memory is bounded: only known columns are read."""
    (trial,) = trials(one_trial)
    (trial / "result.json").unlink()
    header = ",".join(["x"] * 200_000 + ["training_iteration", "test_acc"])
    lines = [header, *("," * 200_000 + f"{e},0.5" for e in range(20))]
    (trial / "progress.csv").write_text("\n".join(lines))
    assert only(one_trial).rows == {e: {"test_acc": 0.5} for e in range(20)}


def test_absurd_number_of_rows(one_trial):
    (trial,) = trials(one_trial)
    lines = (f'{{"training_iteration": {e}}}' for e in range(30_000))
    (trial / "result.json").write_text("\n".join(lines))
    assert len(only(one_trial).rows) == 20_000
    assert only(one_trial).notes == ["result.json has 30000 epochs; 20000 are kept"]
