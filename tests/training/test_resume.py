"""Runs that are interrupted at any moment and resumed match an uninterrupted run, bit for bit."""

import signal

import numpy as np
import pytest

from tests.support import zoo_fixtures
from tests.support.interruptions import (
    EPOCHS,
    UNINTERRUPTED,
    arguments,
    assert_epochs_match,
    finish,
    interrupt,
    kill_and_finish,
    run_with_file_limit,
    train_arguments,
)
from zoojax import open_zoo

MESSAGE = "zoojax: interrupted; rerun the command to resume from the last complete epoch\n"


@pytest.mark.parametrize("kills", [4, pytest.param(10, marks=pytest.mark.slow)])
def test_resume_after_kills(tmp_path_factory, tmp_path, kills):
    """kill -9 while saving or training, then resumed to the end."""
    kill_and_finish(tmp_path_factory, tmp_path, "dense", kills=kills, seed=1)


@pytest.mark.parametrize(
    ("kind", "seed"), [pytest.param("mp", 2, marks=pytest.mark.slow), ("vd", 3)]
)
def test_resume_of_killed_twins(tmp_path_factory, tmp_path, kind, seed):
    kill_and_finish(tmp_path_factory, tmp_path, kind, kills=2, seed=seed)


def test_sigint_and_sigterm(tmp_path_factory, tmp_path):
    """Exit status 130 or 143, and one line that says how to resume."""
    out = tmp_path / "zoo"
    command = train_arguments(tmp_path_factory, out)
    for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        ended = interrupt(tmp_path_factory, command, out, number, 0.1)
        assert ended.sent, "finished before the signal; train longer"
        assert (ended.status, ended.stdout, ended.stderr) == (status, "", MESSAGE)
        assert_epochs_match(out, UNINTERRUPTED["dense"](tmp_path_factory))
    finish(tmp_path_factory, "dense", out)


def test_signal_does_not_wait_for_the_epoch(tmp_path_factory, tmp_path):
    """A signal in the middle of a long first epoch leaves the zoo at epoch 0."""
    rows = np.arange(30_000) % 65
    with np.load(zoo_fixtures.images(tmp_path_factory)) as images:
        many = {k: v[rows] if k.startswith("train") else v for k, v in images.items()}
    np.savez(tmp_path / "many.npz", **many)
    out = tmp_path / "zoo"
    command = [
        *("train", "digits-s-seed", "--data", tmp_path / "many.npz", "--members", 8),
        *("--epochs", 1, "--chunk", 4, "--quiet", "--out", out),
    ]
    ended = interrupt(tmp_path_factory, command, out, signal.SIGTERM, 0.5, first="states/0")
    assert (ended.status, ended.stdout, ended.stderr) == (143, "", MESSAGE)
    assert open_zoo(out).epochs == [0]
    assert ended.seconds < 5


def test_disk_full_from_the_start(tmp_path_factory, tmp_path):
    """No partial zoo remains; with space for the tables only, the zoo can be resumed."""
    expected = UNINTERRUPTED["dense"](tmp_path_factory)
    out = tmp_path / "zoo"
    command = train_arguments(tmp_path_factory, out)
    zoo_fixtures.assert_refused(
        run_with_file_limit(tmp_path_factory, command, 100), tmp_path, "zoo.json"
    )
    assert not list(tmp_path.iterdir())
    zoo_fixtures.assert_refused(
        run_with_file_limit(tmp_path_factory, command, 8000), out / "states" / "0"
    )
    assert open_zoo(out).epochs == []
    assert_epochs_match(out, expected)
    finish(tmp_path_factory, "dense", out)


def test_disk_full_during_training(tmp_path_factory, tmp_path):
    """There is no space for the states of the next epoch; earlier epochs are kept."""
    out = tmp_path / "zoo"
    command = train_arguments(tmp_path_factory, out)
    assert interrupt(tmp_path_factory, command, out, signal.SIGKILL, first="states/3").sent
    epochs = open_zoo(out).epochs
    assert epochs[:3] == [0, 1, 2]
    full = out / "states" / str(epochs[-1] + 1)
    zoo_fixtures.assert_refused(run_with_file_limit(tmp_path_factory, command, 8000), full)
    assert open_zoo(out).epochs == epochs
    assert_epochs_match(out, UNINTERRUPTED["dense"](tmp_path_factory))
    finish(tmp_path_factory, "dense", out)


def test_rerun_of_a_finished_zoo_changes_nothing(tmp_path_factory):
    for kind in ("dense", "mp"):
        zoo = UNINTERRUPTED[kind](tmp_path_factory)
        before = zoo_fixtures.contents(zoo.path)
        done = zoo_fixtures.cli(tmp_path_factory, *arguments(tmp_path_factory, kind, zoo.path))
        assert done.returncode == 0, done.stderr
        assert f"already complete (epoch {EPOCHS})" in done.stderr
        assert zoo_fixtures.contents(zoo.path) == before


@pytest.mark.parametrize(
    ("option", "value", "named"),
    [
        ("--epochs", 11, "created with epochs=12, but 11 was requested"),
        ("--members", 2, "other members (3 members, but 2 were requested)"),
        ("--learning-rate", 0.5, "learning"),
        ("--chunk", 2, "created with chunk=4, but 2 was requested"),
    ],
)
def test_resume_with_other_options_is_refused(tmp_path_factory, option, value, named):
    """The message names the option; nothing is changed."""
    zoo = UNINTERRUPTED["dense"](tmp_path_factory)
    before = zoo_fixtures.contents(zoo.path)
    command = [*train_arguments(tmp_path_factory, zoo.path), option, value]
    zoo_fixtures.assert_refused(zoo_fixtures.cli(tmp_path_factory, *command), zoo.path, named)
    assert zoo_fixtures.contents(zoo.path) == before


def test_chunk_is_optional_when_resuming(tmp_path_factory, tmp_path):
    """The recorded chunk is used, not the default of this machine."""
    out = tmp_path / "zoo"
    command = train_arguments(tmp_path_factory, out)
    assert interrupt(tmp_path_factory, command, out, signal.SIGKILL, first="states/1").sent
    at = command.index("--chunk")
    done = zoo_fixtures.cli(tmp_path_factory, *command[:at], *command[at + 2 :])
    assert done.returncode == 0, done.stderr
    zoo_fixtures.assert_same_zoo(open_zoo(out), UNINTERRUPTED["dense"](tmp_path_factory))


def test_output_path_in_use(tmp_path_factory, tmp_path):
    """A file, or a folder that contains files, is refused; an empty folder is used."""
    folder, file, empty = tmp_path / "folder", tmp_path / "file", tmp_path / "empty"
    folder.mkdir()
    empty.mkdir()
    (folder / "thesis.txt").write_text("mine")
    file.write_text("mine")
    before = zoo_fixtures.contents(tmp_path)
    for out in (folder, file):
        command = train_arguments(tmp_path_factory, out)
        zoo_fixtures.assert_refused(
            zoo_fixtures.cli(tmp_path_factory, *command), out, "--out a new folder"
        )
    assert zoo_fixtures.contents(tmp_path) == before
    finish(tmp_path_factory, "dense", empty)
