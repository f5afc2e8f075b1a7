"""Trial folders: checkpoints, links, files that cannot be read, and names."""

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
from zoojax.converters.ray_trials import scan_trials
from zoojax.converters.sources import from_trials
from zoojax.errors import ZoojaxError
from zoojax.text import is_printable


def only(root):
    """The only trial of a zoo."""
    (trial,) = scan_trials(root)
    return trial


def test_other_entries_of_the_root_are_ignored(tmp_path):
    root = write_zoo(tmp_path / "root", members=2)
    (root / "experiment_state-2022.json").write_text("{}")
    (root / "notes_trainable_file").write_text("a file")
    (root / "other_folder").mkdir()
    assert [trial.path for trial in scan_trials(root)] == trials(root)


def test_temporary_and_other_entries_of_a_trial_are_ignored(one_trial):
    (folder,) = trials(one_trial)
    for name in ("checkpoint_tmp0a1b", "checkpoint_", "checkpoint_5x", "xcheckpoint_7"):
        (folder / name).mkdir()
        (folder / name / "checkpoints").write_bytes(b"x")
    (folder / "checkpoint_000009").write_bytes(b"a plain file")
    assert sorted(only(one_trial).checkpoints) == [0, 1]


def test_checkpoint_names_with_and_without_zeros(one_trial):
    (folder,) = trials(one_trial)
    (folder / "checkpoint_000001").rename(folder / "checkpoint_1")
    (folder / "checkpoint_000000").rename(folder / "checkpoint_000012")
    assert {e: f.parent.name for e, f in only(one_trial).checkpoints.items()} == {
        1: "checkpoint_1",
        12: "checkpoint_000012",
    }


def test_duplicate_epoch_is_noted(one_trial):
    (folder,) = trials(one_trial)
    (folder / "checkpoint_000000").rename(folder / "checkpoint_1")
    trial = only(one_trial)
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
def test_metadata_linked_out_of_the_root_is_not_read(one_trial, tmp_path, name):
    secret = tmp_path / "secret"
    line = {"seed": 4, "training_iteration": 0, "config": {"seed": 4}}
    text = "training_iteration,seed\n0,4\n" if name == "progress.csv" else json.dumps(line)
    secret.write_text(text)
    (folder,) = trials(one_trial)
    for other in ("params.json", "result.json", "progress.csv"):
        (folder / other).unlink(missing_ok=True)
    (folder / name).symlink_to(secret)
    trial = only(one_trial)
    assert (trial.config, trial.rows) == ({}, {})
    assert any(name in note for note in trial.notes)


def test_links_within_the_root_are_followed(one_trial):
    (folder,) = trials(one_trial)
    (folder / "checkpoint_000002").symlink_to("checkpoint_000001")
    assert sorted(only(one_trial).checkpoints) == [0, 1, 2]


def test_trials_without_checkpoints_are_not_members(tmp_path):
    root = write_zoo(tmp_path / "root", members=2)
    write_trial(root, 3, {})
    assert [s.name for s in from_trials(root)] == [trial_name(1), trial_name(2)]
    assert len(scan_trials(root)) == 3


def test_root_without_checkpoints_is_refused(tmp_path):
    with pytest.raises(ZoojaxError, match="is not a folder"):
        scan_trials(tmp_path / "missing")
    with pytest.raises(ZoojaxError, match="contains no trial folder"):
        scan_trials(tmp_path)
    write_trial(tmp_path, 1, {})
    with pytest.raises(ZoojaxError, match="none of its trial folders has a checkpoint"):
        from_trials(tmp_path)


def test_checkpoints_are_read_lazily(tmp_path):
    folder = write_trial(tmp_path, 1, {0: state(1)})
    checkpoint(folder, 0).write_bytes(b"")
    (source,) = from_trials(tmp_path)
    assert source.places == {0: f"{trial_name(1)}/checkpoint_000000/checkpoints"}


def pipe(path: Path) -> None:
    os.mkfifo(path)


def unix_socket(path: Path) -> None:
    # The path of a socket has a low limit, so bind a relative one.
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


UNUSUAL = [pipe, unix_socket, folder, circle, device]


@pytest.mark.parametrize("make", UNUSUAL)
@pytest.mark.parametrize("name", ["params.json", "result.json", "progress.csv"])
def test_unusual_metadata_files_are_noted(one_trial, make, name):
    (trial,) = trials(one_trial)
    if name == "progress.csv":
        (trial / "result.json").unlink()
    (trial / name).unlink(missing_ok=True)
    make(trial / name)
    assert f"{name} is unreadable" in only(one_trial).notes


@pytest.mark.parametrize("make", UNUSUAL)
def test_unusual_state_files_are_rejected(one_trial, make):
    (trial,) = trials(one_trial)
    checkpoint(trial, 1).unlink()
    make(checkpoint(trial, 1))
    (source,) = from_trials(one_trial)
    if make is device:
        assert source.skipped == {f"{trial.name}/checkpoint_000001": "leads out of the zoo"}
    else:
        with pytest.raises(ZoojaxError, match="checkpoint_000001"):
            source.states[1]()
    assert source.states[0]()


def test_absurdly_large_file_is_not_read(one_trial):
    (trial,) = trials(one_trial)
    with (trial / "params.json").open("wb") as file:
        file.truncate(2**40)
    assert only(one_trial).notes == ["params.json is unreadable"]
    assert only(one_trial).config == config(1)


@pytest.mark.parametrize(
    "name", [f"checkpoint_{end}" for end in ("-00001", "5x", "", "²", "9" * 9, "9" * 19)]
)
def test_checkpoint_without_epoch_is_skipped(one_trial, name):
    (trial,) = trials(one_trial)
    (trial / name).mkdir()
    (source,) = from_trials(one_trial)
    assert sorted(source.states) == [0, 1]
    assert source.skipped == {f"{trial.name}/{name}": "is no epoch"}
    assert source.notes == [f"{name} is no epoch and is ignored"]


def test_linked_trials_are_skipped_with_a_reason(tmp_path):
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
        "B_trainable_gone": "a link that does not lead to a folder",
        "C_trainable_circle": "a link that does not lead to a folder",
    }
    assert [s.name for s in sources if s.states] == [
        "D_trainable_own", trial_name(1), trial_name(2)
    ]  # fmt: skip


def test_unprintable_names_are_escaped_and_distinct(tmp_path):
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
    """Makes a path unreadable for this process, even if it runs as root."""
    user = os.geteuid()
    path.chmod(0)
    try:
        if user == 0:
            os.seteuid(65534)
        yield
    finally:
        os.seteuid(user)
        path.chmod(0o755)


def test_unreadable_folders_are_named():
    # Outside pytest's folder, which other users cannot enter.
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
