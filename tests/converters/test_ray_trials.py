"""Trial folders are found and read as they are: crashed, resumed, linked, half there."""

import contextlib
import json
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.torch_zoos import (
    checkpoint,
    config,
    state,
    trial_name,
    trials,
    write_trial,
    write_zoo,
)
from zoojax.converters import ray_trials as reading
from zoojax.converters.sources import from_trials
from zoojax.errors import ZoojaxError
from zoojax.text import is_printable


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


# What anybody may have put there


def pipe(path: Path) -> None:
    os.mkfifo(path)


def bound(path: Path) -> None:
    # Names of sockets are short.
    before = Path.cwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as end:
            end.bind(path.name)
    finally:
        os.chdir(before)


def folder(path: Path) -> None:
    path.mkdir()


def circle(path: Path) -> None:
    path.symlink_to(path.name)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


UNUSUAL = [pipe, bound, folder, circle, device]


@pytest.mark.parametrize("make", UNUSUAL)
@pytest.mark.parametrize("name", ["params.json", "result.json", "progress.csv"])
def test_what_is_no_regular_file_is_noted_and_not_waited_for(root, make, name):
    (trial,) = trials(root)
    if name == "progress.csv":
        (trial / "result.json").unlink()
    (trial / name).unlink(missing_ok=True)
    make(trial / name)
    assert f"{name} is unreadable" in only(root).notes


@pytest.mark.parametrize("make", UNUSUAL)
def test_a_state_that_is_no_regular_file_is_rejected_when_it_is_read(root, make):
    (trial,) = trials(root)
    checkpoint(trial, 1).unlink()
    make(checkpoint(trial, 1))
    (source,) = from_trials(root)
    if make is device:
        assert source.skipped == {f"{trial.name}/checkpoint_000001": "leads out of the zoo"}
    else:
        with pytest.raises(ZoojaxError, match="checkpoint_000001"):
            source.states[1]()
    assert source.states[0]()


def test_an_absurdly_large_file_is_not_read(root):
    (trial,) = trials(root)
    with (trial / "params.json").open("wb") as file:
        file.truncate(2**40)
    assert only(root).notes == ["params.json is unreadable"]
    assert only(root).config == config(1)


@pytest.mark.parametrize(
    "name", [f"checkpoint_{end}" for end in ("-00001", "5x", "", "²", "9" * 9, "9" * 19)]
)
def test_a_checkpoint_of_no_epoch_is_named(root, name):
    (trial,) = trials(root)
    (trial / name).mkdir()
    (source,) = from_trials(root)
    assert sorted(source.states) == [0, 1]
    assert source.skipped == {f"{trial.name}/{name}": "is no epoch"}
    assert source.notes == [f"{name} is no epoch and is ignored"]


def test_linked_trials_are_named(tmp_path):
    outside = write_zoo(tmp_path / "outside", members=1)
    root = write_zoo(tmp_path / "root", members=2)
    (root / "A_trainable_out").symlink_to(trials(outside)[0])
    (root / "B_trainable_gone").symlink_to("nowhere")
    (root / "C_trainable_circle").symlink_to("C_trainable_circle")
    (root / "D_trainable_own").symlink_to(trial_name(1))
    sources = from_trials(root)
    skipped = {place: reason for s in sources for place, reason in s.skipped.items()}
    assert skipped == {
        "A_trainable_out": "a link that leads out of the zoo",
        "B_trainable_gone": "a link that leads to no folder",
        "C_trainable_circle": "a link that leads to no folder",
    }
    assert [s.name for s in sources if s.states] == [
        "D_trainable_own", trial_name(1), trial_name(2)
    ]  # fmt: skip


def test_names_that_cannot_be_shown_are_escaped_and_stay_different(tmp_path):
    root = tmp_path / "root"
    names = [b"a_trainable_\xff", b"a_trainable_\\udcff", b"b_trainable_\x1b[31m\n"]
    for seed, name in enumerate(names, 1):
        write_trial(root, seed, {0: state(seed)}, name=os.fsdecode(name))
    sources = from_trials(root)
    assert len({s.name for s in sources}) == 3
    for source in sources:
        assert is_printable(source.name) and is_printable(source.places[0])
        assert source.states[0]()
    assert sum("its folder has another name" in n for s in sources for n in s.notes) == 2


@contextlib.contextmanager
def without_permission(path: Path) -> Iterator[None]:
    """A path that nobody may read, this process included, whoever runs it."""
    user = os.geteuid()
    path.chmod(0)
    try:
        if user == 0:
            os.seteuid(65534)
        yield
    finally:
        os.seteuid(user)
        path.chmod(0o755)


def test_what_cannot_be_read_is_named_in_one_line():
    # Not below pytest's own folder, which other users cannot enter.
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        root = write_zoo(Path(name) / "root", members=2)
        last = trials(root)[-1]
        for path in (last, root):
            message = rf"{path.name} cannot be read \(Permission denied\)"
            with without_permission(path), pytest.raises(ZoojaxError, match=message):
                from_trials(root)
        with without_permission(checkpoint(last, 0).parent):
            source = from_trials(root)[-1]
            with pytest.raises(ZoojaxError, match="cannot be read: Permission denied"):
                source.states[0]()


def test_epochs_by_another_name(root):
    (trial,) = trials(root)
    lines = [{"epoch": e, "test_acc": e / 8} for e in (0, 1.0, 2)]
    (trial / "result.json").write_text("\n".join(map(json.dumps, lines)))
    assert {e: row["test_acc"] for e, row in only(root).rows.items()} == {0: 0, 1: 0.125, 2: 0.25}
    assert only(root).notes == ["result.json has no training_iteration: epochs are its epoch"]
    (trial / "result.json").unlink()
    (trial / "progress.csv").write_text("epoch,test_acc\n3.0,0.5\n")
    assert only(root).rows == {3: {"test_acc": 0.5}}
    assert only(root).notes == ["progress.csv has no training_iteration: epochs are its epoch"]


def test_a_known_name_goes_before_another(root):
    (trial,) = trials(root)
    lines = [{"epoch": 7, "training_iteration": 1, "test_acc": 0.5}, {"epoch": 8}]
    (trial / "result.json").write_text("\n".join(map(json.dumps, lines)))
    assert only(root).rows == {1: {"test_acc": 0.5}}
    assert only(root).notes == ["1 broken line(s) in result.json"]


@pytest.mark.parametrize("value", [1.5, -1, 2**63, 10**400, True, "x", [1], 1e300], ids=str)
def test_epochs_that_are_none(root, value):
    (trial,) = trials(root)
    (trial / "result.json").write_text(json.dumps({"training_iteration": value, "test_acc": 1}))
    assert only(root).rows == {}
    assert only(root).notes == ["1 broken line(s) in result.json"]


def test_more_columns_than_anything_has(root):
    """Within memory: of the columns the known ones are kept."""
    (trial,) = trials(root)
    (trial / "result.json").unlink()
    header = ",".join(["x"] * 200_000 + ["training_iteration", "test_acc"])
    lines = [header, *("," * 200_000 + f"{e},0.5" for e in range(20))]
    (trial / "progress.csv").write_text("\n".join(lines))
    assert only(root).rows == {e: {"test_acc": 0.5} for e in range(20)}


def test_more_rows_than_anything_has(root):
    (trial,) = trials(root)
    lines = (f'{{"training_iteration": {e}}}' for e in range(30_000))
    (trial / "result.json").write_text("\n".join(lines))
    assert len(only(root).rows) == 20_000
    assert only(root).notes == ["result.json has 30000 epochs; 20000 are kept"]
