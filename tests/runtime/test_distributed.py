"""Several processes, several devices: the same bits whatever the topology, and faults."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.support import torch_zoos, zoo_fixtures
from zoojax import Zoo, ZoojaxError, open_zoo, prune_zoo, train_variational_dropout
from zoojax.filesystem.locks import locked
from zoojax.runtime import distributed
from zoojax.storage import zoo_images
from zoojax.training import inference

SEVEN = replace(zoo_fixtures.GRID, seeds=7)
RATIOS = (0.5, 0.9)


def start(
    factory, devices: int, *arguments: object, command: Sequence[str] = zoo_fixtures.COMMAND
) -> subprocess.Popen[str]:
    """A command on so many virtual devices."""
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
    """The same command in processes that know of each other."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    common = ("--coordinator", f"localhost:{port}", "--num-processes", count)
    return [
        start(factory, devices, *arguments, *common, "--process-id", index, command=command)
        for index in range(count)
    ]


def end(started: list[subprocess.Popen[str]], status: int = 0) -> list[tuple[str, str]]:
    """What they printed, all of the same exit status."""
    told = [process.communicate(timeout=600) for process in started]
    assert [process.returncode for process in started] == [status] * len(started), told
    return told


def wait_for(path: Path, started: list[subprocess.Popen[str]]) -> None:
    """Until a path is there, while all of them run."""
    deadline = time.monotonic() + 600
    while not path.exists():
        assert time.monotonic() < deadline
        assert all(process.poll() is None for process in started), end(started)
        time.sleep(0.01)


def train_arguments(factory, out: Path, epochs: int = zoo_fixtures.EPOCHS) -> list[object]:
    return [
        *("train", "digits-s-seed", "--data", zoo_fixtures.images(factory), "--members", 7),
        *("--learning-rate", 1e-2, "--name", "tiny", "--epochs", epochs),
        *("--chunk", zoo_fixtures.CHUNK, "--out", out),
    ]


def same(a: Zoo, b: Zoo) -> None:
    """As `zoo_fixtures.assert_same_zoo`, where one was made by the command line and one was not."""
    for epoch in a.epochs:
        assert zoo_fixtures.same_bits(a.state(epoch), b.state(epoch)), (
            f"states of epoch {epoch} differ"
        )
    assert a.epochs == b.epochs
    assert zoo_fixtures.same_bits(a.optimizer_state(), b.optimizer_state())
    assert a.metrics.equals(b.metrics)
    assert a.members_table.equals(b.members_table)


@zoo_fixtures.once
def seven(factory) -> Zoo:
    """Seven members, two epochs, by this process on its two devices."""
    return zoo_fixtures.train(factory, factory.mktemp("seven") / "dense", SEVEN)


@zoo_fixtures.once
def seven_together(factory) -> Zoo:
    """The same by two processes of two devices; told by one of them."""
    out = factory.mktemp("together") / "dense"
    told = end(start_together(factory, 2, 2, *train_arguments(factory, out), "--json"))
    assert json.loads(told[0][0])["rows"][0]["members"] == 7
    assert told[1][0] == ""
    assert "epoch 2/2" in told[0][1] and "epoch" not in told[1][1]
    return open_zoo(out)


def test_dense_zoos_have_the_same_bits(tmp_path_factory):
    """Seven members on two processes: one has a member more. Filling reaches no disk."""
    zoo = seven_together(tmp_path_factory)
    same(zoo, seven(tmp_path_factory))
    assert zoo.params(2)["fc1"]["kernel"].shape == (7, 36, 20)


@pytest.mark.parametrize("kind", ["mp", "vd"])
def test_twins_have_the_same_bits(tmp_path_factory, tmp_path, kind):
    parent = seven(tmp_path_factory)
    options = {"epochs": zoo_fixtures.EPOCHS, "chunk": zoo_fixtures.CHUNK, "learning_rate": 1e-2}
    if kind == "mp":
        alone = prune_zoo(tmp_path / "alone", parent, RATIOS, **options)
        method = ("magnitude", parent.path, "--ratios", *RATIOS)
    else:
        alone = train_variational_dropout(tmp_path / "alone", parent, **options)
        method = ("variational-dropout", parent.path)
    arguments = (
        "--epochs",
        zoo_fixtures.EPOCHS,
        "--chunk",
        zoo_fixtures.CHUNK,
        "--learning-rate",
        1e-2,
    )
    out = tmp_path / "together"
    end(start_together(tmp_path_factory, 2, 2, "sparsify", *method, *arguments, "--out", out))
    same(open_zoo(out), alone)


@zoo_fixtures.once
def two_optimizers(factory) -> Zoo:
    """Three members with Adam, then three with SGD."""
    grid = replace(zoo_fixtures.GRID, optimizers=("adam", "sgd"))
    zoo = zoo_fixtures.train(factory, factory.mktemp("optimizers") / "dense", grid, epochs=0)
    assert zoo.members_table["optimizer"].to_list() == ["adam"] * 3 + ["sgd"] * 3
    return zoo


@pytest.mark.parametrize("members", [5, pytest.param(6, marks=pytest.mark.slow)])
def test_shares_of_other_optimizers(tmp_path_factory, tmp_path, members):
    """Six: one process has Adam alone, the other SGD. Five: one has a member more."""
    parent = two_optimizers(tmp_path_factory)
    options = {"epochs": 2, "chunk": zoo_fixtures.CHUNK, "learning_rate": 1e-2, "members": members}
    alone = prune_zoo(tmp_path / "alone", parent, [0.5], **options)
    command = ("sparsify", "magnitude", parent.path, "--ratios", 0.5, "--epochs", 2)
    command += ("--chunk", zoo_fixtures.CHUNK, "--learning-rate", 1e-2, "--members", members)
    out = tmp_path / "together"
    end(start_together(tmp_path_factory, 2, 2, *command, "--out", out))
    same(open_zoo(out), alone)


def test_processes_of_unlike_devices_are_refused(tmp_path_factory, tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    arguments = train_arguments(tmp_path_factory, tmp_path / "zoo")
    arguments += ["--coordinator", f"localhost:{port}", "--num-processes", 2, "--process-id"]
    told = end([start(tmp_path_factory, i + 1, *arguments, i) for i in range(2)], status=2)
    for _, error in told:
        assert "the processes have 1, 2 devices" in error.splitlines()[-1]


def test_evaluation_is_the_same(tmp_path_factory):
    zoo = seven_together(tmp_path_factory)
    told = end(start_together(tmp_path_factory, 2, 1, "evaluate", zoo.path, "--members", "--json"))
    rows = pl.DataFrame(json.loads(told[0][0])["rows"])
    assert told[1][0] == ""
    alone = inference.evaluate(zoo, zoo_images.load_images(zoo, None))
    assert rows["id"].to_list() == list(range(7))
    for name in ("train_loss", "test_acc", "sparsity"):
        assert rows[name].to_numpy().astype(np.float32).tolist() == alone[name].to_list()


def test_a_torch_zoo_is_converted(tmp_path_factory, tmp_path):
    """Three members, one of whose states is no state, on two processes."""
    root = torch_zoos.write_zoo(tmp_path / "torch", members=3)
    broken = sorted(torch_zoos.trials(root)[0].glob("checkpoint_*/checkpoints"))[0]
    broken.write_bytes(b"no state")
    arguments = ("convert", "from-torch", root, "--name", "tiny", "--out")
    (alone,) = (start(tmp_path_factory, 1, *arguments, tmp_path / "alone"),)
    end([alone])
    told = end(start_together(tmp_path_factory, 2, 1, *arguments, tmp_path / "together"))
    assert "rejected: 1" in told[0][0] and told[1][0] == ""
    a, b = open_zoo(tmp_path / "together"), open_zoo(tmp_path / "alone")
    assert (
        a.epochs == b.epochs
        and a.metrics.equals(b.metrics)
        and a.members_table.equals(b.members_table)
    )
    for epoch in a.epochs:
        assert zoo_fixtures.same_bits(a.state(epoch), b.state(epoch))
    assert (a.path / "rejects.csv").read_bytes() == (b.path / "rejects.csv").read_bytes()


class Enough(Exception):
    """Raised where a training is to stop."""


def begun_here(factory, out: Path, stop: int) -> None:
    """By this process, up to an epoch."""

    def report(at) -> None:
        if at.epoch > stop:
            raise Enough

    with pytest.raises(Enough):
        zoo_fixtures.train(factory, out, SEVEN, epochs=EPOCHS, report=report)


def stopped(started: list[subprocess.Popen[str]], out: Path, epoch: int) -> None:
    """Sends SIGTERM to all once an epoch's states are there."""
    wait_for(out / "states" / str(epoch), started)
    for process in started:
        process.terminate()
    told = [process.communicate(timeout=300) for process in started]
    # One may find that the other has gone before it is told to go; JAX ends it without the first.
    first, *others = [process.returncode for process in started]
    assert first in (143, 2), told
    assert all(status in (143, 2, -signal.SIGABRT) for status in others), told
    assert any(process.returncode == 143 for process in started), told


EPOCHS = 12


@zoo_fixtures.once
def undisturbed(factory) -> Zoo:
    """Undisturbed, long enough to be stopped."""
    return zoo_fixtures.train(
        factory, factory.mktemp("undisturbed") / "dense", SEVEN, epochs=EPOCHS
    )


@pytest.mark.parametrize(("first", "then"), [(4, 1), (1, 4)])
def test_a_zoo_goes_on_with_other_devices(tmp_path_factory, tmp_path, first, then):
    out = tmp_path / "zoo"
    arguments = train_arguments(tmp_path_factory, out, EPOCHS)
    stopped([start(tmp_path_factory, first, *arguments)], out, 2)
    assert open_zoo(out).epochs[-1] < EPOCHS
    end([start(tmp_path_factory, then, *arguments)])
    same(open_zoo(out), undisturbed(tmp_path_factory))


def test_two_processes_then_one(tmp_path_factory, tmp_path):
    out = tmp_path / "zoo"
    arguments = train_arguments(tmp_path_factory, out, EPOCHS)
    stopped(start_together(tmp_path_factory, 2, 1, *arguments), out, 2)
    assert 1 <= open_zoo(out).epochs[-1] < EPOCHS
    again = zoo_fixtures.train(tmp_path_factory, out, SEVEN, epochs=EPOCHS)
    same(again, undisturbed(tmp_path_factory))


def test_one_process_then_two(tmp_path_factory, tmp_path):
    out = tmp_path / "zoo"
    begun_here(tmp_path_factory, out, 2)
    assert 1 <= open_zoo(out).epochs[-1] < EPOCHS
    arguments = train_arguments(tmp_path_factory, out, EPOCHS)
    end(start_together(tmp_path_factory, 2, 1, *arguments))
    same(open_zoo(out), undisturbed(tmp_path_factory))


@pytest.mark.slow
def test_three_devices_then_two_processes_of_two(tmp_path_factory, tmp_path):
    out = tmp_path / "zoo"
    arguments = train_arguments(tmp_path_factory, out, EPOCHS)
    stopped([start(tmp_path_factory, 3, *arguments)], out, 2)
    end(start_together(tmp_path_factory, 2, 2, *arguments))
    same(open_zoo(out), undisturbed(tmp_path_factory))


def test_a_process_that_dies_is_named(tmp_path_factory, tmp_path):
    """Within a minute; and the same command goes on."""
    out = tmp_path / "zoo"
    arguments = train_arguments(tmp_path_factory, out, EPOCHS)
    started = start_together(tmp_path_factory, 2, 1, *arguments)
    wait_for(out / "states" / "2", started)
    started[1].kill()
    killed = time.monotonic()
    error = started[0].communicate(timeout=120)[1]
    assert time.monotonic() - killed < 60
    assert started[0].returncode == 2
    assert f"process 1 of 2 (pid {started[1].pid} on" in error.splitlines()[-1]
    started[1].communicate()
    end(start_together(tmp_path_factory, 2, 1, *arguments))
    same(open_zoo(out), undisturbed(tmp_path_factory))


# The command, one process of which takes its time.
LATE = """
import sys, time
from zoojax.cli.main import main
from zoojax.runtime import distributed

def late_share(members, share=distributed.local_rows):
    time.sleep(3 if distributed.process_index() == int(sys.argv[1]) else 0)
    return share(members)

distributed.local_rows = late_share
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.parametrize("late", [0, 1])
def test_all_say_why_they_are_refused(tmp_path_factory, tmp_path, late):
    """Whoever is first to end takes nobody along."""
    arguments = [*train_arguments(tmp_path_factory, tmp_path / "zoo"), "--members", 1]
    command = (sys.executable, "-c", LATE, str(late))
    told = end(start_together(tmp_path_factory, 2, 1, *arguments, command=command), status=2)
    for _, error in told:
        assert "1 members for 2 processes" in error.splitlines()[-1]


def test_all_succeed_where_a_zoo_is_finished(tmp_path_factory):
    """The first says so, and prints the table."""
    finished = train_arguments(tmp_path_factory, seven_together(tmp_path_factory).path)
    (table, note), (nothing, quiet) = end(start_together(tmp_path_factory, 2, 1, *finished))
    assert "test_acc" in table and not nothing
    assert "already complete (epoch 2)" in note and "already complete" not in quiet


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("--num-processes", 2), "together"),
        (("--coordinator", "localhost:1", "--process-id", 0), "together"),
        (("--coordinator", "x:1", "--num-processes", 2, "--process-id", 2), "not one of 0 to 1"),
    ],
)
def test_mistakes_of_joining(tmp_path_factory, tmp_path, given, told):
    arguments = (*train_arguments(tmp_path_factory, tmp_path / "zoo"), *given)
    zoo_fixtures.assert_refused(zoo_fixtures.cli(tmp_path_factory, *arguments), told)
    assert not (tmp_path / "zoo").exists()


@pytest.mark.parametrize("members", [1, 5, 7, 1000])
def test_shares_hold_every_member_once(monkeypatch, members):
    for count in (1, 2, 3, 4):
        monkeypatch.setattr(distributed, "process_count", lambda n=count: n)
        found = []
        for index in range(count):
            monkeypatch.setattr(distributed, "process_index", lambda i=index: i)
            if members < count:
                with pytest.raises(ZoojaxError, match=f"start at most {members}"):
                    distributed.local_rows(members)
            else:
                found += range(members)[distributed.local_rows(members)]
        assert members < count or found == list(range(members))


# Two commands on one zoo


def test_the_second_writer_is_refused_and_told_of_the_first(tmp_path_factory, tmp_path):
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


def test_a_lock_ends_with_its_process(tmp_path_factory, tmp_path):
    out = tmp_path / "zoo"
    (writer,) = (start(tmp_path_factory, 1, *train_arguments(tmp_path_factory, out, EPOCHS)),)
    wait_for(out / "states" / "1", [writer])
    with pytest.raises(ZoojaxError, match=re.escape(f"(pid {writer.pid} on ")):
        zoo_fixtures.train(tmp_path_factory, out, SEVEN, epochs=EPOCHS)
    writer.send_signal(signal.SIGKILL)
    writer.communicate()
    again = zoo_fixtures.train(tmp_path_factory, out, SEVEN, epochs=EPOCHS)
    same(again, undisturbed(tmp_path_factory))
