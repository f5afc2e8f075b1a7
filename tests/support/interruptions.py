"""Runs commands that are killed, interrupted or out of disk space, and checks what they leave."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support import zoo_fixtures
from zoojax import Zoo, open_zoo

EPOCHS = 12


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
    method = {"mp": ["magnitude-pruning", "--ratios", 0.5, 0.9], "vd": ["variational-dropout"]}[
        kind
    ]
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
    assert _file_names(out) == _file_names(expected.path)


def _file_names(zoo: Path) -> list[str]:
    """Names of the files of a zoo, without the logs, one per run."""
    return sorted(p.name for p in (*zoo.glob("*"), *zoo.glob("*/*")) if p.parent.name != "logs")


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


def run_with_file_limit(factory, arguments: list, limit: int) -> subprocess.CompletedProcess[str]:
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
