"""Processes that end, cannot join each other or write to the same zoo."""

import os
import re
import signal
import socket
import sys
import time

import pytest

from tests.support import zoo_fixtures
from tests.support.processes import (
    LONG_EPOCHS,
    SEVEN,
    assert_same_bits,
    finish,
    free_address,
    start,
    start_together,
    train_arguments,
    uninterrupted,
    wait_for,
)
from zoojax import ZoojaxError, open_zoo
from zoojax.filesystem.locks import locked


def test_killed_process_is_named(tmp_path_factory, tmp_path):
    """The error comes within a minute, and the same command resumes."""
    out = tmp_path / "zoo"
    arguments = train_arguments(tmp_path_factory, out, LONG_EPOCHS)
    processes = start_together(tmp_path_factory, 2, 1, *arguments)
    wait_for(out / "states" / "2", processes)
    processes[1].kill()
    killed = time.monotonic()
    error = processes[0].communicate(timeout=120)[1]
    assert time.monotonic() - killed < 60
    assert processes[0].returncode == 2
    assert f"process 1 of 2 (pid {processes[1].pid} on" in error.splitlines()[-1]
    processes[1].communicate()
    finish(start_together(tmp_path_factory, 2, 1, *arguments))
    assert_same_bits(open_zoo(out), uninterrupted(tmp_path_factory))


def test_processes_with_different_numbers_of_devices(tmp_path_factory, tmp_path):
    arguments = train_arguments(tmp_path_factory, tmp_path / "zoo")
    arguments += ["--coordinator", free_address(), "--num-processes", 2, "--process-id"]
    outputs = finish([start(tmp_path_factory, i + 1, *arguments, i) for i in range(2)], status=2)
    for _, error in outputs:
        assert "the processes have 1, 2 devices" in error.splitlines()[-1]


# A command in which one process is slower than the others.
LATE = """
import sys, time
from zoojax.cli.main import main
from zoojax.runtime import distributed

def late_rows(members, local_rows=distributed.local_rows):
    time.sleep(3 if distributed.process_index() == int(sys.argv[1]) else 0)
    return local_rows(members)

distributed.local_rows = late_rows
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.parametrize("late", [0, 1])
def test_all_processes_report_their_error(tmp_path_factory, tmp_path, late):
    """The first process to end does not abort the others."""
    arguments = [*train_arguments(tmp_path_factory, tmp_path / "zoo"), "--members", 1]
    command = (sys.executable, "-c", LATE, str(late))
    outputs = finish(start_together(tmp_path_factory, 2, 1, *arguments, command=command), status=2)
    for _, error in outputs:
        assert "1 members for 2 processes" in error.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--num-processes", 2), "together"),
        (("--coordinator", "localhost:1", "--process-id", 0), "together"),
        (("--coordinator", "x:1", "--num-processes", 2, "--process-id", 2), "not one of 0 to 1"),
    ],
)
def test_invalid_process_arguments(tmp_path_factory, tmp_path, arguments, reason):
    arguments = (*train_arguments(tmp_path_factory, tmp_path / "zoo"), *arguments)
    zoo_fixtures.assert_refused(zoo_fixtures.cli(tmp_path_factory, *arguments), reason)
    assert not (tmp_path / "zoo").exists()


def test_second_writer_is_refused_with_the_holder_of_the_lock(tmp_path_factory, tmp_path):
    out = tmp_path / "zoo"
    with locked(out):
        done = zoo_fixtures.cli(tmp_path_factory, *train_arguments(tmp_path_factory, out))
        line = zoo_fixtures.assert_refused(
            done, out, f"pid {os.getpid()} on {socket.gethostname()}"
        )
        assert "is being written by another command" in line
        with pytest.raises(ZoojaxError, match="another command"):
            zoo_fixtures.train(tmp_path_factory, out, SEVEN)
    assert not out.exists() and not [*tmp_path.iterdir()]
    zoo_fixtures.train(tmp_path_factory, out, SEVEN, epochs=0)
    assert [p.name for p in tmp_path.iterdir()] == ["zoo"]


def test_lock_is_released_when_its_process_ends(tmp_path_factory, tmp_path):
    out = tmp_path / "zoo"
    writer = start(tmp_path_factory, 1, *train_arguments(tmp_path_factory, out, LONG_EPOCHS))
    wait_for(out / "states" / "1", [writer])
    with pytest.raises(ZoojaxError, match=re.escape(f"(pid {writer.pid} on ")):
        zoo_fixtures.train(tmp_path_factory, out, SEVEN, epochs=LONG_EPOCHS)
    writer.send_signal(signal.SIGKILL)
    writer.communicate()
    resumed = zoo_fixtures.train(tmp_path_factory, out, SEVEN, epochs=LONG_EPOCHS)
    assert_same_bits(resumed, uninterrupted(tmp_path_factory))
