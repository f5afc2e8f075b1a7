"""Trial folders are found and read as they are: crashed, resumed, linked, half there."""

import json

import pytest
from torch_zoos import checkpoint, config, state, trial_name, trials, write_trial, write_zoo

from converters import trials as reading
from converters.sources import from_trials
from zoojax.errors import ZoojaxError


def only(root):
    """The one trial of a root."""
    (trial,) = reading.scan(root)
    return trial


@pytest.fixture
def root(tmp_path):
    """A root with one trial of epochs 0 and 1."""
    return write_zoo(tmp_path / "root", members=1)


def test_finds_trials_and_nothing_else(tmp_path):
    root = write_zoo(tmp_path / "root", members=2)
    (root / "experiment_state-2022.json").write_text("{}")
    (root / "notes_trainable_file").write_text("a file")
    (root / "other_folder").mkdir()
    assert [trial.path for trial in reading.scan(root)] == trials(root)


def test_temporary_and_other_entries_are_no_checkpoints(root):
    (folder,) = trials(root)
    for name in ("checkpoint_tmp0a1b", "checkpoint_", "checkpoint_5x", "xcheckpoint_7"):
        (folder / name).mkdir()
        (folder / name / "checkpoints").write_bytes(b"x")
    (folder / "checkpoint_000009").write_bytes(b"a plain file")
    assert sorted(only(root).checkpoints) == [0, 1]


def test_both_forms_of_a_checkpoint_name(root):
    (folder,) = trials(root)
    (folder / "checkpoint_000001").rename(folder / "checkpoint_1")
    (folder / "checkpoint_000000").rename(folder / "checkpoint_000012")
    assert {e: f.parent.name for e, f in only(root).checkpoints.items()} == {
        1: "checkpoint_1",
        12: "checkpoint_000012",
    }


def test_one_epoch_under_two_names_is_noted(root):
    (folder,) = trials(root)
    (folder / "checkpoint_000000").rename(folder / "checkpoint_1")
    trial = only(root)
    assert trial.checkpoints == {1: checkpoint(folder, 1)}
    assert trial.notes == ["epoch 1 twice; checkpoint_1 is ignored"]


def test_links_out_of_the_root_are_not_followed(tmp_path):
    outside = write_zoo(tmp_path / "outside", members=2)
    root = write_zoo(tmp_path / "root", members=1)
    (root / "NN_tune_trainable_linked").symlink_to(trials(outside)[1])
    (folder,) = (p for p in trials(root) if not p.is_symlink())
    (folder / "checkpoint_000007").symlink_to(trials(outside)[0] / "checkpoint_000000")
    (folder / "checkpoint_000008").mkdir()
    checkpoint(folder, 8).symlink_to(checkpoint(trials(outside)[0], 1))
    trial = only(root)
    assert trial.path == folder
    assert sorted(trial.checkpoints) == [0, 1]
    assert trial.notes == [
        f"checkpoint_00000{e} leads out of the zoo and is ignored" for e in (7, 8)
    ]


@pytest.mark.parametrize("name", ["params.json", "result.json", "progress.csv"])
def test_metadata_linked_out_of_the_root_is_not_read(root, tmp_path, name):
    secret = tmp_path / "secret"
    line = {"seed": 4, "training_iteration": 0, "config": {"seed": 4}}
    text = "training_iteration,seed\n0,4\n" if name == "progress.csv" else json.dumps(line)
    secret.write_text(text)
    (folder,) = trials(root)
    for other in ("params.json", "result.json", "progress.csv"):
        (folder / other).unlink(missing_ok=True)
    (folder / name).symlink_to(secret)
    trial = only(root)
    assert (trial.config, trial.rows) == ({}, {})
    assert any(name in note for note in trial.notes)


def test_links_within_the_root_are_followed(root):
    (folder,) = trials(root)
    (folder / "checkpoint_000002").symlink_to("checkpoint_000001")
    assert sorted(only(root).checkpoints) == [0, 1, 2]


def test_rows_are_joined_on_their_iteration(root):
    (folder,) = trials(root)
    lines = [{"training_iteration": e, "test_acc": e / 100} for e in (40, 3, 7)]
    (folder / "result.json").write_text("\n".join(map(json.dumps, lines)))
    assert {e: row["test_acc"] for e, row in only(root).rows.items()} == {40: 0.4, 3: 0.03, 7: 0.07}


def test_of_repeated_rows_the_last_counts(root):
    (folder,) = trials(root)
    lines = [{"training_iteration": e, "test_acc": acc} for e, acc in [(0, 0.1), (1, 0.2), (0, 1)]]
    (folder / "result.json").write_text("\n".join(map(json.dumps, lines)))
    assert {e: row["test_acc"] for e, row in only(root).rows.items()} == {0: 1, 1: 0.2}


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
def test_a_broken_line_is_passed_over(root, line):
    (folder,) = trials(root)
    with (folder / "result.json").open("a") as file:
        file.write(line)
    trial = only(root)
    assert sorted(trial.rows) == [0, 1]
    assert trial.notes == ["1 broken line(s) in result.json"]


def test_progress_csv_stands_in_for_result_json(root):
    (folder,) = trials(root)
    (folder / "result.json").unlink()
    (folder / "progress.csv").write_text(
        "test_acc,training_iteration\n0.5,1\n0.25,0\n0.75,1\nnone,x\n"
    )
    assert {e: float(r["test_acc"]) for e, r in only(root).rows.items()} == {1: 0.75, 0: 0.25}


def test_no_metrics_at_all_is_noted(root):
    (folder,) = trials(root)
    (folder / "result.json").unlink()
    trial = only(root)
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
def test_unreadable_params_give_way_to_the_config_in_result_json(root, content, note):
    (folder,) = trials(root)
    (folder / "params.json").write_bytes(content.encode(errors="surrogateescape"))
    trial = only(root)
    assert trial.config == config(1)
    assert trial.notes == [f"params.json is {note}"]


def test_trials_without_checkpoints_are_no_members(tmp_path):
    root = write_zoo(tmp_path / "root", members=2)
    write_trial(root, 3, {})
    assert [s.name for s in from_trials(root)] == [trial_name(1), trial_name(2)]
    assert len(reading.scan(root)) == 3


def test_a_root_without_anything_to_convert_is_refused(tmp_path):
    with pytest.raises(ZoojaxError, match="is not a folder"):
        reading.scan(tmp_path / "missing")
    with pytest.raises(ZoojaxError, match="holds no trial folder"):
        reading.scan(tmp_path)
    write_trial(tmp_path, 1, {})
    with pytest.raises(ZoojaxError, match="none of its trial folders holds a checkpoint"):
        from_trials(tmp_path)


def test_a_checkpoint_is_not_read_before_it_is_asked_for(tmp_path):
    folder = write_trial(tmp_path, 1, {0: state(1)})
    checkpoint(folder, 0).write_bytes(b"")
    (source,) = from_trials(tmp_path)
    assert source.places == {0: f"{trial_name(1)}/checkpoint_000000/checkpoints"}
