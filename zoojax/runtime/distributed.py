"""Several processes at one zoo: who they are, and what they tell each other.

JAX's distributed runtime starts them and watches them. Members are independent: each
process has rows of the members table to itself and works on them with its own devices. All
that is exchanged is a table of metrics an epoch, and whether saving went well.
"""

import functools
import io
import json
import math
import os
import socket
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
import polars as pl
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from zoojax.errors import ZoojaxError
from zoojax.runtime import signals
from zoojax.runtime.population import AXIS
from zoojax.text import printable

# Seconds without a sign of life after which JAX ends the others, naming who is gone.
HEARTBEAT = 30
# Where launchers say how many processes they started.
_COUNTS = ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE")
# Seconds that the others may take to start before it is said what is waited for; and until
# they are given up.
_PATIENCE, _START = 1.5, 300
# Where each process is, in their order: (host, process id of the system).
_places: list[tuple[str, int]] = []
_is_joining = False


class WaitingWarning(UserWarning):
    """Other processes have not started yet."""


class RemoteProcessError(ZoojaxError):
    """Another process has failed, and has said why."""


def initialize(
    coordinator: str | None = None, count: int | None = None, index: int | None = None
) -> None:
    """Joins the processes that were started together; alone, does nothing.

    To be called before JAX is first used. On SLURM, Open MPI, Kubernetes and TPU
    `jax.distributed` finds the others by itself.

    Args:
        coordinator: host:port of process 0, free there; None to find it.
        count: how many processes there are; 1 looks for no others.
        index: which of them this is, from 0.

    Raises:
        ZoojaxError: only some of the three are given, the others do not answer, or they do
            not all have as many devices.
    """
    if coordinator is None and (count == 1 or "1" in map(os.environ.get, _COUNTS)):
        return
    given = [x is not None for x in (coordinator, count, index)]
    if any(given) and not all(given):
        raise ZoojaxError(
            "give --coordinator, --num-processes and --process-id together, or none of them"
        )
    if coordinator is not None and (count is None or index is None or not 0 <= index < count):
        raise ZoojaxError(f"--process-id {index} is not one of 0 to {(count or 0) - 1}")
    # SIGTERM is ours: training ends with everything durable.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        _initialize(coordinator, count, index)
    except ZoojaxError:
        raise
    except ValueError as error:
        # What it says where there is nothing to join.
        if coordinator is None and "coordinator_address should be defined" in str(error):
            return
        raise ZoojaxError(f"cannot join the other processes: {error}") from error
    except RuntimeError as error:
        if coordinator is None and "before any JAX calls" in str(error):
            return  # Not at the start of a command: in a notebook, say.
        reason = str(error).splitlines()[0]
        raise ZoojaxError(f"cannot join the other processes: {reason}") from error
    except Exception as error:  # What looks for others asks the cluster, in its own words.
        raise ZoojaxError(
            f"cannot find out whether there are other processes ({type(error).__name__}: {error}); "
            "give --num-processes 1 if there are none"
        ) from error
    me = json.dumps([socket.gethostname(), os.getpid(), jax.local_device_count()])
    with _output_to_errors():
        told = [json.loads(place) for place in _gathered(me.encode())]
    _places[:] = [(host, pid) for host, pid, _ in told]
    devices = [number for _, _, number in told]
    if len(set(devices)) > 1:
        # JAX's and Orbax's own gathering needs it.
        raise ZoojaxError(
            f"the processes have {', '.join(map(str, devices))} devices; give each as many, "
            "on CPUs with JAX_NUM_CPU_DEVICES"
        )


def _initialize(coordinator: str | None, count: int | None, index: int | None) -> None:
    """Waits for the others, in another thread: JAX does so in C++, and aborts when it gives up."""
    global _is_joining
    connected = signals.begun(
        functools.partial(
            jax.distributed.initialize,
            *(coordinator, count, index),
            initialization_timeout=2 * _START,
            heartbeat_timeout_seconds=HEARTBEAT,
        )
    )
    _is_joining = True
    if not wait([connected], _PATIENCE).done:
        others, advice = _awaited(coordinator, count)
        warnings.warn(f"waiting for {others}; {advice}", WaitingWarning, stacklevel=3)
        if not wait([connected], _START - _PATIENCE).done:
            raise ZoojaxError(f"{others} did not start within {_START} seconds; {advice}")
    _is_joining = False
    connected.result()


def _awaited(coordinator: str | None, count: int | None) -> tuple[str, str]:
    """Who is waited for and who says that they are there; and what to do where they are not."""
    if coordinator is not None:
        return (
            f"the other processes of {count} (--num-processes) at {printable(coordinator)}",
            "start all of them, or leave out --coordinator, --num-processes and --process-id "
            "to run alone",
        )
    advice = "start all of them (with srun or mpirun), or give --num-processes 1 to run alone"
    for name in _COUNTS:
        if name in os.environ:
            number = printable(os.environ[name], 20)
            return f"the other processes of {number} ({name}={number})", advice
    return "the other processes that this one was started with", advice


def is_joining() -> bool:
    """Whether a thread waits for the others to start: only the end of the process ends that."""
    return _is_joining


@contextmanager
def _output_to_errors() -> Iterator[None]:
    """Gloo announces connections on standard output, where results belong."""
    sys.stdout.flush()
    output = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(output, 1)
        os.close(output)


def is_distributed() -> bool:
    """Whether there are others."""
    return len(_places) > 1


def process_count() -> int:
    """How many processes there are."""
    return max(1, len(_places))


def process_index() -> int:
    """Which of them this is; the first one writes what there is one of."""
    return jax.process_index() if is_distributed() else 0


def local_rows(members: int) -> slice:
    """The rows of the members table that are this process's: as many for each, and what is
    left for the last.

    Raises:
        ZoojaxError: there are more processes than members.
    """
    each, me = members // process_count(), process_index()
    if each == 0:
        raise ZoojaxError(
            f"{members} members for {process_count()} processes; start at most {members}"
        )
    return slice(each * me, members if me == process_count() - 1 else each * (me + 1))


def global_array(tree: Any) -> Any:
    """Arrays of as many members from each process as single ones, laid over the processes."""
    return _global(tree, PartitionSpec(AXIS))


def broadcast_from_last(tree: Any) -> Any:
    """What the last process has, as arrays that all have."""
    leaves, kind = jax.tree.flatten(tree)
    own = b"".join(np.ascontiguousarray(x).tobytes() for x in leaves)
    told = all_gather_bytes(own)[-1]
    found, at = [], 0
    row = sum(x.dtype.itemsize * math.prod(x.shape[1:]) for x in leaves)
    for x in leaves:
        shape = (len(told) // row, *x.shape[1:])
        end = at + x.dtype.itemsize * math.prod(shape)
        found.append(np.frombuffer(told[at:end], x.dtype).reshape(shape))
        at = end
    return _global(jax.tree.unflatten(kind, found), PartitionSpec())


def _global(tree: Any, spec: PartitionSpec) -> Any:
    """Global arrays over one device of every process."""
    firsts = {d.process_index: d for d in reversed(jax.devices())}
    mesh = Mesh(np.array([firsts[i] for i in range(jax.process_count())]), (AXIS,))
    sharding = NamedSharding(mesh, spec)
    return jax.tree.map(
        lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), tree
    )


def all_gather_bytes(message: bytes) -> list[bytes]:
    """What every process says, in their order. Waits for all of them.

    Raises:
        ZoojaxError: one of them is gone.
    """
    return _gathered(message) if is_distributed() else [message]


def _gathered(message: bytes) -> list[bytes]:
    try:
        sizes = _rows(np.array([[len(message)]], np.int32))[:, 0]
        # Powers of two: XLA compiles a program a shape.
        padded = np.zeros((1, 1 << int(sizes.max()).bit_length()), np.uint8)
        padded[0, : len(message)] = np.frombuffer(message, np.uint8)
        rows = _rows(padded)
    except (RuntimeError, ValueError) as error:
        raise ZoojaxError(find_dead_process() or _unnamed()) from error
    return [row[:size].tobytes() for row, size in zip(rows, sizes, strict=True)]


def _rows(row: np.ndarray) -> np.ndarray:
    """The rows of all processes, whatever devices they have."""
    shared = global_array(row)
    return np.asarray(_replicated(shared.sharding.mesh)(shared))


@functools.cache
def _replicated(mesh: Mesh) -> Callable[[jax.Array], jax.Array]:
    return jax.jit(lambda x: x, out_shardings=NamedSharding(mesh, PartitionSpec()))


def all_gather_table(table: pl.DataFrame) -> pl.DataFrame:
    """The tables of all processes as one, in their order."""
    memory = io.BytesIO()
    table.write_ipc(memory)
    return pl.concat([pl.read_ipc(told) for told in all_gather_bytes(memory.getvalue())])


def raise_if_any_failed(failure: ZoojaxError | None, number: int = 0) -> list[int]:
    """Raises in all processes if any has failed: its own failure, or that another has.

    Args:
        failure: this process's.
        number: not negative, told to the others.

    Returns:
        The numbers of all.

    Raises:
        ZoojaxError: as said.
    """
    numbers = [
        int(t) for t in all_gather_bytes(str(-1 if failure is not None else number).encode())
    ]
    if failure is not None:
        raise failure
    if min(numbers) < 0:
        raise RemoteProcessError(f"process {numbers.index(-1)} of {process_count()} has failed")
    return numbers


@contextmanager
def main_process_first() -> Iterator[bool]:
    """Yields whether this process is the first; the others wait at the end for it.

    Raises:
        ZoojaxError: in all of them, what it failed with or that it failed.
    """
    try:
        yield process_index() == 0
    except Exception as error:
        if is_distributed():
            all_gather_bytes(b"-1")
        raise error
    raise_if_any_failed(None)


def broadcast_from_first(number: int) -> int:
    """What the first process says."""
    return int(all_gather_bytes(str(number).encode())[0])


def find_dead_process(patience: float = 5.0) -> str | None:
    """A sentence on a process of this host that has ended; None if all of them run.

    Args:
        patience: seconds to look for it: connections end before processes do.
    """
    deadline = time.monotonic() + patience
    while is_distributed():
        for i, (host, pid) in enumerate(_places):
            if host == socket.gethostname() and not _runs(pid):
                return (
                    f"process {i} of {process_count()} (pid {pid} on {host}) has ended; the same "
                    "command, in all processes, goes on from the last whole epoch"
                )
        if time.monotonic() > deadline:
            break
        time.sleep(0.1)
    return None


def wait_before_exit(patience: float = 20.0) -> None:
    """To be called before this process ends for a reason that others may have, too.

    The first one keeps JAX's coordination service. JAX aborts those that lose it, before
    they have said why they end, or let go of their files: so the first one leaves last.

    Args:
        patience: seconds that it waits for those that do not end, or run on other hosts.
    """
    deadline, here = time.monotonic() + patience, socket.gethostname()
    others = _places[1:] if process_index() == 0 else []
    while time.monotonic() < deadline and any(host != here or _runs(pid) for host, pid in others):
        time.sleep(0.1)


def _unnamed() -> str:
    """What is said where no one knows who is gone.

    JAX knows, when the heartbeats of a process on another host stay out: it names it and
    ends this process while it waits.
    """
    time.sleep(2 * HEARTBEAT)
    return "another process no longer answers; the same command goes on from the last whole epoch"


def _runs(pid: int) -> bool:
    """Whether a process of this host is alive, and not merely unburied."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state != "Z"
