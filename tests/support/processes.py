"""Starts commands on several devices and in several processes."""

import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tests.support import zoo_fixtures
from zoojax import Zoo

SEVEN = replace(zoo_fixtures.GRID, seeds=7)
# Enough epochs to stop a training in between.
LONG_EPOCHS = 12


def free_address() -> str:
    """Host and port of a coordinator."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return f"localhost:{probe.getsockname()[1]}"


def start(
    factory, devices: int, *arguments: object, command: Sequence[str] = zoo_fixtures.COMMAND
) -> subprocess.Popen[str]:
    """Starts a command on the given number of virtual devices."""
    environment = zoo_fixtures.environment(factory) | {"JAX_NUM_CPU_DEVICES": str(devices)}
    return subprocess.Popen(
        [*command, *map(str, arguments)],
        env=environment,
        cwd=factory.getbasetemp(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def start_together(
    factory, count: int, devices: int, *arguments, command: Sequence[str] = zoo_fixtures.COMMAND
) -> list[subprocess.Popen[str]]:
    """Starts a command in several processes that join each other."""
    common = ("--coordinator", free_address(), "--num-processes", count)
    return [
        start(factory, devices, *arguments, *common, "--process-id", index, command=command)
        for index in range(count)
    ]


def finish(processes: list[subprocess.Popen[str]], status: int = 0) -> list[tuple[str, str]]:
    """Waits for all processes, checks their exit status and returns their (stdout, stderr)."""
    outputs = [process.communicate(timeout=600) for process in processes]
    assert [process.returncode for process in processes] == [status] * len(processes), outputs
    return outputs


def wait_for(path: Path, processes: list[subprocess.Popen[str]]) -> None:
    """Waits until a path exists, while all processes are running."""
    deadline = time.monotonic() + 600
    while not path.exists():
        assert time.monotonic() < deadline
        assert all(process.poll() is None for process in processes), finish(processes)
        time.sleep(0.01)


def train_arguments(factory, out: Path, epochs: int = zoo_fixtures.EPOCHS) -> list[object]:
    """Arguments of a command that trains seven members."""
    return [
        *("train", "digits-s-seed", "--data", zoo_fixtures.images(factory), "--members", 7),
        *("--learning-rate", 1e-2, "--name", "tiny", "--epochs", epochs),
        *("--chunk", zoo_fixtures.CHUNK, "--out", out),
    ]


def assert_same_bits(a: Zoo, b: Zoo) -> None:
    """As `zoo_fixtures.assert_same_zoo`, but ignores which command or call created the zoos."""
    for epoch in a.epochs:
        assert zoo_fixtures.same_bits(a.state(epoch), b.state(epoch)), (
            f"states of epoch {epoch} differ"
        )
    assert a.epochs == b.epochs
    assert zoo_fixtures.same_bits(a.optimizer_state(), b.optimizer_state())
    assert a.metrics.equals(b.metrics)
    assert a.members_table.equals(b.members_table)


@zoo_fixtures.once
def uninterrupted(factory) -> Zoo:
    """Seven members, trained for LONG_EPOCHS by this process without interruption."""
    return zoo_fixtures.train(
        factory, factory.mktemp("uninterrupted") / "dense", SEVEN, epochs=LONG_EPOCHS
    )
