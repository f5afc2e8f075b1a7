"""Interrupted at any moment, in any way, the same command ends with the same bits."""

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
    """How a command that was sent a signal ended, and how many seconds later."""

    status: int
    stdout: str
    stderr: str
    sent: bool
    seconds: float


def progress(out: Path) -> list[tuple[str, int]]:
    """What of a zoo is there: changes with every step of saving."""
    files = [*out.parent.glob(f".{out.name}.tmp-*"), *out.glob("*"), *out.glob("*/*")]
    found = []
    for file in files:
        try:
            found.append((str(file), file.stat().st_mtime_ns))
        except FileNotFoundError:
            continue
    return sorted(found)


def interrupt(
    factory, arguments, out: Path, number: int, delay: float = 0.0, first: str = ""
) -> Interrupted:
    """Runs a command, waits until a time to be cruel, and sends a signal.

    Args:
        factory: of the session.
        arguments: the command.
        out: its zoo.
        number: the signal.
        delay: seconds after the moment.
        first: the moment: when this path in the zoo is there; or when anything changes.
    """
    before, deadline = progress(out), time.monotonic() + 1500
    with subprocess.Popen(
        [*zoo_fixtures.COMMAND, *map(str, arguments)],
        env=zoo_fixtures.environment(factory),
        cwd=factory.getbasetemp(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        while process.poll() is None and (
            not (out / first).exists() if first else progress(out) == before
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


def undisturbed(kind: str):
    """The zoo that no one interrupted."""

    def make(factory: pytest.TempPathFactory) -> Zoo:
        out = factory.mktemp("undisturbed") / kind
        done = zoo_fixtures.cli(factory, *arguments(factory, kind, out))
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        zoo = open_zoo(out)
        assert zoo.epochs == list(range(EPOCHS + 1))
        return zoo

    return zoo_fixtures.once(make)


UNDISTURBED = {kind: undisturbed(kind) for kind in zoo_fixtures.KINDS}


def assert_sound(path: Path, whole: Zoo) -> None:
    """Whatever can be read of an interrupted zoo is whole and right."""
    if not path.exists():
        return
    zoo = open_zoo(path)
    assert zoo.epochs == whole.epochs[: len(zoo.epochs)]
    assert set(zoo.metrics["epoch"]) == set(zoo.epochs)
    for epoch in zoo.epochs[-2:]:
        assert zoo_fixtures.same_bits(zoo.state(epoch), whole.state(epoch))


def finish(factory, kind: str, out: Path) -> None:
    """The same command once more, undisturbed: the same zoo, and no litter."""
    whole = UNDISTURBED[kind](factory)
    done = zoo_fixtures.cli(factory, *arguments(factory, kind, out))
    assert done.returncode == 0, done.stderr
    zoo_fixtures.assert_same_zoo(open_zoo(out), whole)
    names = sorted(p.name for p in (*out.glob("*"), *out.glob("*/*")))
    assert names == sorted(p.name for p in (*whole.path.glob("*"), *whole.path.glob("*/*")))


def kill_and_finish(factory, tmp_path: Path, kind: str, kills: int, seed: int) -> None:
    whole = UNDISTURBED[kind](factory)
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
            # Finished before its moment came: the next kill begins another zoo.
            assert ended.status == 0, ended.stderr
            zoo_fixtures.assert_same_zoo(open_zoo(out), whole)
            attempt += 1
        assert_sound(out, whole)
    out = tmp_path / f"zoo-{attempt}"
    if out.exists() and EPOCHS in open_zoo(out).epochs:
        zoo_fixtures.assert_same_zoo(open_zoo(out), whole)
    else:
        finish(factory, kind, out)


def test_killed_at_ten_moments(tmp_path_factory, tmp_path):
    """kill -9, while saving or training; then to the end."""
    kill_and_finish(tmp_path_factory, tmp_path, "dense", kills=10, seed=1)


@pytest.mark.parametrize(("kind", "seed"), [("mp", 2), ("vd", 3)])
def test_killed_twins(tmp_path_factory, tmp_path, kind, seed):
    kill_and_finish(tmp_path_factory, tmp_path, kind, kills=2, seed=seed)


def test_interrupted_and_terminated(tmp_path_factory, tmp_path):
    """Ctrl-C gives 130, SIGTERM 143, both one line that says how to go on."""
    out = tmp_path / "zoo"
    command = train_arguments(tmp_path_factory, out)
    for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        ended = interrupt(tmp_path_factory, command, out, number, 0.1)
        assert ended.sent, "finished before the signal; train longer"
        assert (ended.status, ended.stdout, ended.stderr) == (status, "", MESSAGE)
        assert_sound(out, UNDISTURBED["dense"](tmp_path_factory))
    finish(tmp_path_factory, "dense", out)


def test_no_epoch_is_waited_for(tmp_path_factory, tmp_path):
    """A signal ends the first epoch, far from its end, and leaves the zoo as it was drawn."""
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
    """Runs a command for which the disk is full once a file has `limit` bytes."""
    wrapper = (
        "import os, resource, sys; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2); "
        "os.execv(sys.argv[2], sys.argv[2:])"
    )
    return subprocess.run(
        [sys.executable, "-c", wrapper, str(limit), *zoo_fixtures.COMMAND, *map(str, arguments)],
        # Without the compilation cache, which would complain of the same limit.
        env={k: v for k, v in zoo_fixtures.environment(factory).items() if "CACHE" not in k},
        cwd=factory.getbasetemp(),
        capture_output=True,
        text=True,
        timeout=1500,
        check=False,
    )


def test_the_disk_is_full_from_the_start(tmp_path_factory, tmp_path):
    """No half zoo stays; room for the tables alone leaves a zoo that can be gone on with."""
    whole = UNDISTURBED["dense"](tmp_path_factory)
    out = tmp_path / "zoo"
    command = train_arguments(tmp_path_factory, out)
    zoo_fixtures.assert_refused(limited(tmp_path_factory, command, 100), tmp_path, "zoo.json")
    assert not list(tmp_path.iterdir())
    zoo_fixtures.assert_refused(limited(tmp_path_factory, command, 8000), out / "states" / "0")
    assert open_zoo(out).epochs == []
    assert_sound(out, whole)
    finish(tmp_path_factory, "dense", out)


def test_the_disk_becomes_full(tmp_path_factory, tmp_path):
    """Too full for the states of the next epoch; earlier ones stay."""
    out = tmp_path / "zoo"
    command = train_arguments(tmp_path_factory, out)
    assert interrupt(tmp_path_factory, command, out, signal.SIGKILL, first="states/3").sent
    epochs = open_zoo(out).epochs
    assert epochs[:3] == [0, 1, 2]
    full = out / "states" / str(epochs[-1] + 1)
    zoo_fixtures.assert_refused(limited(tmp_path_factory, command, 8000), full)
    assert open_zoo(out).epochs == epochs
    assert_sound(out, UNDISTURBED["dense"](tmp_path_factory))
    finish(tmp_path_factory, "dense", out)


def test_a_finished_zoo_is_left_alone(tmp_path_factory):
    """The same command again, on each kind."""
    for kind in ("dense", "mp"):
        zoo = UNDISTURBED[kind](tmp_path_factory)
        before = zoo_fixtures.contents(zoo.path)
        done = zoo_fixtures.cli(tmp_path_factory, *arguments(tmp_path_factory, kind, zoo.path))
        assert done.returncode == 0, done.stderr
        assert f"already complete (epoch {EPOCHS})" in done.stderr
        assert zoo_fixtures.contents(zoo.path) == before


@pytest.mark.parametrize(
    ("option", "value", "named"),
    [
        ("--epochs", 13, "epochs 12, not 13"),
        ("--members", 4, "members (3, not 4"),
        ("--learning-rate", 0.5, "learning"),
        ("--chunk", 2, "chunk 4, not 2"),
    ],
)
def test_other_options_than_it_was_begun_with(tmp_path_factory, option, value, named):
    """Named in the message; nothing is touched."""
    zoo = UNDISTURBED["dense"](tmp_path_factory)
    before = zoo_fixtures.contents(zoo.path)
    command = [*train_arguments(tmp_path_factory, zoo.path), option, value]
    zoo_fixtures.assert_refused(zoo_fixtures.cli(tmp_path_factory, *command), zoo.path, named)
    assert zoo_fixtures.contents(zoo.path) == before


def test_chunk_need_not_be_given_again(tmp_path_factory, tmp_path):
    """A zoo goes on with the chunk that it was begun with, whatever the machine would choose."""
    out = tmp_path / "zoo"
    command = train_arguments(tmp_path_factory, out)
    assert interrupt(tmp_path_factory, command, out, signal.SIGKILL, first="states/1").sent
    at = command.index("--chunk")
    done = zoo_fixtures.cli(tmp_path_factory, *command[:at], *command[at + 2 :])
    assert done.returncode == 0, done.stderr
    zoo_fixtures.assert_same_zoo(open_zoo(out), UNDISTURBED["dense"](tmp_path_factory))


def test_out_that_is_something_else(tmp_path_factory, tmp_path):
    """A folder with a file in it, and a file: both untouched. An empty folder will do."""
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
