"""Runs that are interrupted at any moment and resumed match an uninterrupted run, bit for bit."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from tests.support import zoo_fixtures
from zoojax import Zoo, open_zoo

EPOCHS = 12
MESSAGE = "zoojax: interrupted; rerun the command to resume from the last complete epoch\n"


class Interrupted(NamedTuple):
    """Result of a command that was sent a signal.

    Attributes:
        status: Exit status.
        stdout: Standard output.
        stderr: Standard error.
        sent: Whether the command was still running when the signal was sent.
        seconds: Time from the signal to the exit.
    """

    status: int
    stdout: str
    stderr: str
    sent: bool
    seconds: float


def snapshot(out: Path) -> list[tuple[str, int]]:
    """Files of a zoo with their modification times: changes with every step of saving."""
    files = [*out.parent.glob(f".{out.name}.tmp-*"), *out.glob("*"), *out.glob("*/*")]
    times = []
    for file in files:
        try:
            times.append((str(file), file.stat().st_mtime_ns))
        except FileNotFoundError:
            continue
    return sorted(times)


def interrupt(
    factory, arguments, out: Path, number: int, delay: float = 0.0, first: str = ""
) -> Interrupted:
    """Runs a command and sends it a signal.

    Args:
        factory: `tmp_path_factory` of the session.
        arguments: Command line.
        out: Folder of the zoo that the command writes.
        number: Number of the signal.
        delay: Seconds to wait before the signal, after `first` exists.
        first: Path in the zoo to wait for; if empty, waits for any change in the zoo.
    """
    before, deadline = snapshot(out), time.monotonic() + 1500
    with subprocess.Popen(
        [*zoo_fixtures.COMMAND, *map(str, arguments)],
        env=zoo_fixtures.environment(factory),
        cwd=factory.getbasetemp(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        while process.poll() is None and (
            not (out / first).exists() if first else snapshot(out) == before
        ):
            assert time.monotonic() < deadline
            time.sleep(0.002)
        time.sleep(delay)
        sent = process.poll() is None
        process.send_signal(number)
        signalled = time.monotonic()
        try:
            stdout, stderr = process.communicate(timeout=120)
        except subprocess.TimeoutExpired:
            process.kill()
            pytest.fail(f"still running two minutes after signal {number}")
    return Interrupted(process.returncode, stdout, stderr, sent, time.monotonic() - signalled)


def train_arguments(factory, out: Path) -> list:
    data = zoo_fixtures.images(factory)
    return [
        *("train", "digits-s-seed", "--data", data, "--members", 3, "--epochs", EPOCHS),
        *("--chunk", zoo_fixtures.CHUNK, "--quiet", "--out", out),
    ]


def twin_arguments(factory, kind: str, out: Path) -> list:
    method = {"mp": ["magnitude", "--ratios", 0.5, 0.9], "vd": ["variational-dropout"]}[kind]
    return [
        *("sparsify", method[0], zoo_fixtures.dense(factory).path, *method[1:], "--epochs", EPOCHS),
        *("--chunk", zoo_fixtures.CHUNK, "--quiet", "--out", out),
    ]


def arguments(factory, kind: str, out: Path) -> list:
    return train_arguments(factory, out) if kind == "dense" else twin_arguments(factory, kind, out)


def _uninterrupted(kind: str):
    """Returns a cached function that trains a zoo without interruption."""

    def make(factory: pytest.TempPathFactory) -> Zoo:
        out = factory.mktemp("uninterrupted") / kind
        done = zoo_fixtures.cli(factory, *arguments(factory, kind, out))
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        zoo = open_zoo(out)
        assert zoo.epochs == list(range(EPOCHS + 1))
        return zoo

    return zoo_fixtures.once(make)


UNINTERRUPTED = {kind: _uninterrupted(kind) for kind in zoo_fixtures.KINDS}


def assert_epochs_match(path: Path, expected: Zoo) -> None:
    """Asserts that the readable epochs of an interrupted zoo equal those of another zoo."""
    if not path.exists():
        return
    zoo = open_zoo(path)
    assert zoo.epochs == expected.epochs[: len(zoo.epochs)]
    assert set(zoo.metrics["epoch"]) == set(zoo.epochs)
    for epoch in zoo.epochs[-2:]:
        assert zoo_fixtures.same_bits(zoo.state(epoch), expected.state(epoch))


def finish(factory, kind: str, out: Path) -> None:
    """Reruns the command to the end; the zoo is as expected, without leftover files."""
    expected = UNINTERRUPTED[kind](factory)
    done = zoo_fixtures.cli(factory, *arguments(factory, kind, out))
    assert done.returncode == 0, done.stderr
    zoo_fixtures.assert_same_zoo(open_zoo(out), expected)
    names = sorted(p.name for p in (*out.glob("*"), *out.glob("*/*")))
    assert names == sorted(p.name for p in (*expected.path.glob("*"), *expected.path.glob("*/*")))


def kill_and_finish(factory, tmp_path: Path, kind: str, kills: int, seed: int) -> None:
    """Kills a command at random moments, resumes it each time, and checks the result."""
    expected = UNINTERRUPTED[kind](factory)
    moments = random.Random(seed)
    killed, attempt = 0, 0
    while killed < kills:
        out = tmp_path / f"zoo-{attempt}"
        ended = interrupt(
            factory, arguments(factory, kind, out), out, signal.SIGKILL, moments.uniform(0, 0.5)
        )
        if ended.sent:
            assert ended.status == -signal.SIGKILL
            killed += 1
        else:
            # Finished before the kill: continue with a new zoo.
            assert ended.status == 0, ended.stderr
            zoo_fixtures.assert_same_zoo(open_zoo(out), expected)
            attempt += 1
        assert_epochs_match(out, expected)
    out = tmp_path / f"zoo-{attempt}"
    if out.exists() and EPOCHS in open_zoo(out).epochs:
        zoo_fixtures.assert_same_zoo(open_zoo(out), expected)
    else:
        finish(factory, kind, out)


def test_resume_after_ten_kills(tmp_path_factory, tmp_path):
    """kill -9 while saving or training, then resumed to the end."""
    kill_and_finish(tmp_path_factory, tmp_path, "dense", kills=10, seed=1)


@pytest.mark.parametrize(("kind", "seed"), [("mp", 2), ("vd", 3)])
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


def limited(factory, arguments: list, limit: int) -> subprocess.CompletedProcess[str]:
    """Runs a command that cannot write more than `limit` bytes to a file, as on a full disk."""
    wrapper = (
        "import os, resource, sys; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2); "
        "os.execv(sys.argv[2], sys.argv[2:])"
    )
    return subprocess.run(
        [sys.executable, "-c", wrapper, str(limit), *zoo_fixtures.COMMAND, *map(str, arguments)],
        # Without the compilation cache, which would fail at the same limit.
        env={k: v for k, v in zoo_fixtures.environment(factory).items() if "CACHE" not in k},
        cwd=factory.getbasetemp(),
        capture_output=True,
        text=True,
        timeout=1500,
        check=False,
    )


def test_disk_full_from_the_start(tmp_path_factory, tmp_path):
    """No partial zoo remains; with space for the tables only, the zoo can be resumed."""
    expected = UNINTERRUPTED["dense"](tmp_path_factory)
    out = tmp_path / "zoo"
    command = train_arguments(tmp_path_factory, out)
    zoo_fixtures.assert_refused(limited(tmp_path_factory, command, 100), tmp_path, "zoo.json")
    assert not list(tmp_path.iterdir())
    zoo_fixtures.assert_refused(limited(tmp_path_factory, command, 8000), out / "states" / "0")
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
    zoo_fixtures.assert_refused(limited(tmp_path_factory, command, 8000), full)
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
        ("--epochs", 13, "created with epochs=12, but 13 was requested"),
        ("--members", 4, "other members (3 members, but 4 were requested)"),
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
