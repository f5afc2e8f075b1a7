"""Trainings that are interrupted and resumed with other processes and devices."""

import signal
import subprocess
from pathlib import Path

import pytest

from tests.support import zoo_fixtures
from tests.support.processes import (
    LONG_EPOCHS,
    SEVEN,
    assert_same_bits,
    finish,
    start,
    start_together,
    train_arguments,
    uninterrupted,
    wait_for,
)
from zoojax import open_zoo


class StopTrainingError(Exception):
    """Raised to stop a training."""


def train_partially(factory, out: Path, stop: int) -> None:
    """Trains in this process and stops after an epoch."""

    def report(progress) -> None:
        if progress.epoch > stop:
            raise StopTrainingError

    with pytest.raises(StopTrainingError):
        zoo_fixtures.train(factory, out, SEVEN, epochs=LONG_EPOCHS, report=report)


def terminate(processes: list[subprocess.Popen[str]], out: Path, epoch: int) -> None:
    """Sends SIGTERM to all processes when the states of an epoch exist."""
    wait_for(out / "states" / str(epoch), processes)
    for process in processes:
        process.terminate()
    outputs = [process.communicate(timeout=300) for process in processes]
    # A process may notice the end of another one before its own signal; JAX aborts the others if
    # process 0 has ended.
    first, *others = [process.returncode for process in processes]
    assert first in (143, 2), outputs
    assert all(status in (143, 2, -signal.SIGABRT) for status in others), outputs
    assert any(process.returncode == 143 for process in processes), outputs


@pytest.mark.parametrize(("first", "then"), [(4, 1), (1, 4)])
def test_resume_with_another_number_of_devices(tmp_path_factory, tmp_path, first, then):
    out = tmp_path / "zoo"
    arguments = train_arguments(tmp_path_factory, out, LONG_EPOCHS)
    terminate([start(tmp_path_factory, first, *arguments)], out, 2)
    assert open_zoo(out).epochs[-1] < LONG_EPOCHS
    finish([start(tmp_path_factory, then, *arguments)])
    assert_same_bits(open_zoo(out), uninterrupted(tmp_path_factory))


def test_resume_two_processes_with_one(tmp_path_factory, tmp_path):
    out = tmp_path / "zoo"
    arguments = train_arguments(tmp_path_factory, out, LONG_EPOCHS)
    terminate(start_together(tmp_path_factory, 2, 1, *arguments), out, 2)
    assert 1 <= open_zoo(out).epochs[-1] < LONG_EPOCHS
    resumed = zoo_fixtures.train(tmp_path_factory, out, SEVEN, epochs=LONG_EPOCHS)
    assert_same_bits(resumed, uninterrupted(tmp_path_factory))


def test_resume_one_process_with_two(tmp_path_factory, tmp_path):
    out = tmp_path / "zoo"
    train_partially(tmp_path_factory, out, 2)
    assert 1 <= open_zoo(out).epochs[-1] < LONG_EPOCHS
    arguments = train_arguments(tmp_path_factory, out, LONG_EPOCHS)
    finish(start_together(tmp_path_factory, 2, 1, *arguments))
    assert_same_bits(open_zoo(out), uninterrupted(tmp_path_factory))


@pytest.mark.slow
def test_resume_three_devices_with_two_processes_of_two_devices(tmp_path_factory, tmp_path):
    out = tmp_path / "zoo"
    arguments = train_arguments(tmp_path_factory, out, LONG_EPOCHS)
    terminate([start(tmp_path_factory, 3, *arguments)], out, 2)
    finish(start_together(tmp_path_factory, 2, 2, *arguments))
    assert_same_bits(open_zoo(out), uninterrupted(tmp_path_factory))
