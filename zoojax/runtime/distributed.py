"""Multi-process coordination via jax.distributed.

Members are independent of each other: each process owns some rows of the members table and
trains them on its own devices. The processes exchange only a table of metrics per epoch, and
whether saving has succeeded.
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
from collections.abc import Iterator
from concurrent.futures import wait
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
import polars as pl
from jax.sharding import PartitionSpec

from zoojax.errors import ZoojaxError
from zoojax.runtime import collectives, host, signals
from zoojax.runtime.population import AXIS
from zoojax.text import printable

# Seconds without a heartbeat after which JAX names the dead process and ends the others.
HEARTBEAT = 30
# Variables in which launchers store the number of processes.
_COUNTS = ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE")
# Seconds to wait for the other processes before a warning, and before giving up.
_PATIENCE, _START = 1.5, 300
# (host name, pid) of every process, ordered by process index.
_process_addresses: list[tuple[str, int]] = []
_is_joining = False


class WaitingWarning(UserWarning):
    """Other processes have not started yet."""


class RemoteProcessError(ZoojaxError):
    """Another process has failed and has reported its error."""


def initialize(
    coordinator: str | None = None, count: int | None = None, index: int | None = None
) -> None:
    """Joins the processes that were started together; does nothing if there is only one.

    Call this function before JAX is first used. On SLURM, Open MPI, Kubernetes and TPU,
    `jax.distributed` finds the other processes by itself.

    Args:
        coordinator: Host and port ("host:port") of process 0, with a free port; None to detect
            it.
        count: Number of processes; 1 disables the search for others.
        index: Index of this process, from 0.

    Raises:
        ZoojaxError: If only some of the arguments are given, the other processes do not answer,
            or the processes have different numbers of devices.
    """
    if coordinator is None and (count == 1 or "1" in map(os.environ.get, _COUNTS)):
        return
    given = [x is not None for x in (coordinator, count, index)]
    if any(given) and not all(given):
        raise ZoojaxError(
            "give --coordinator, --num-processes and --process-id together, or none of them"
        )
    if coordinator is not None and not all(isinstance(n, int) for n in (count, index)):
        raise ZoojaxError(f"--num-processes {count} and --process-id {index} are not whole numbers")
    if coordinator is not None and (count is None or index is None or not 0 <= index < count):
        raise ZoojaxError(f"--process-id {index} is not one of 0 to {(count or 0) - 1}")
    # zoojax handles SIGTERM itself.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        _initialize(coordinator, count, index)
    except ZoojaxError:
        raise
    except ValueError as error:
        # JAX's message if it detects no cluster.
        if coordinator is None and "coordinator_address should be defined" in str(error):
            return
        raise ZoojaxError(f"cannot join the other processes: {error}") from error
    except RuntimeError as error:
        if coordinator is None and "before any JAX calls" in str(error):
            return  # JAX is already in use, for example in a notebook
        reason = str(error).splitlines()[0]
        raise ZoojaxError(f"cannot join the other processes: {reason}") from error
    except Exception as error:  # cluster detection raises many types
        raise ZoojaxError(
            f"cannot find out whether there are other processes ({type(error).__name__}: {error}); "
            "give --num-processes 1 if there are none"
        ) from error
    _exchange_addresses()


def _exchange_addresses() -> None:
    """Records the addresses of all processes and checks that they have equally many devices.

    Raises:
        ZoojaxError: If they do not.
    """
    address = json.dumps([socket.gethostname(), os.getpid(), jax.local_device_count()])
    with _redirect_stdout_to_stderr():
        addresses = [json.loads(message) for message in _all_gather(address.encode())]
    _process_addresses[:] = [(name, pid) for name, pid, _ in addresses]
    devices = [device_count for _, _, device_count in addresses]
    if len(set(devices)) > 1:
        # JAX's and Orbax's own gather operations require it.
        raise ZoojaxError(
            f"the processes have {', '.join(map(str, devices))} devices; give all of them the "
            "same number, on CPUs with JAX_NUM_CPU_DEVICES"
        )


def _initialize(coordinator: str | None, count: int | None, index: int | None) -> None:
    """Calls jax.distributed.initialize in another thread.

    JAX waits in C++, where signals are not handled, and aborts the process on a timeout.
    """
    global _is_joining
    connected = signals.submit(
        functools.partial(
            jax.distributed.initialize,
            *(coordinator, count, index),
            initialization_timeout=2 * _START,
            heartbeat_timeout_seconds=HEARTBEAT,
        )
    )
    _is_joining = True
    if not wait([connected], _PATIENCE).done:
        others, advice = _describe_missing(coordinator, count)
        warnings.warn(f"waiting for {others}; {advice}", WaitingWarning, stacklevel=3)
        if not wait([connected], _START - _PATIENCE).done:
            raise ZoojaxError(f"{others} did not start within {_START} seconds; {advice}")
    _is_joining = False
    connected.result()


def _describe_missing(coordinator: str | None, count: int | None) -> tuple[str, str]:
    """Describes the missing processes and their source, and what the user can do."""
    if coordinator is not None:
        return (
            f"the other processes of {count} (--num-processes) at {printable(coordinator)}",
            "start all of them, or omit --coordinator, --num-processes and --process-id to run "
            "a single process",
        )
    advice = "start all of them (with srun or mpirun), or give --num-processes 1 to run only one"
    for name in _COUNTS:
        if name in os.environ:
            total = printable(os.environ[name], 20)
            return f"the other processes of {total} ({name}={total})", advice
    return "the other processes that this one was started with", advice


def is_joining() -> bool:
    """Whether a thread is waiting for other processes; it cannot be stopped before exit."""
    return _is_joining


@contextmanager
def _redirect_stdout_to_stderr() -> Iterator[None]:
    """Redirects file descriptor 1, on which Gloo announces connections."""
    sys.stdout.flush()
    output = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(output, 1)
        os.close(output)


def is_distributed() -> bool:
    """Whether there are other processes."""
    return len(_process_addresses) > 1


def process_count() -> int:
    """Returns the number of processes."""
    return max(1, len(_process_addresses))


def process_index() -> int:
    """Returns the index of this process; process 0 writes files that all processes share."""
    return jax.process_index() if is_distributed() else 0


def local_rows(members: int) -> slice:
    """Returns the rows of the members table that belong to this process.

    All processes have the same number of rows; the last one also has the remainder.

    Args:
        members: Number of members of the zoo.

    Raises:
        ZoojaxError: If there are more processes than members.
    """
    share, index = members // process_count(), process_index()
    if share == 0:
        raise ZoojaxError(
            f"{members} members for {process_count()} processes; start at most {members}"
        )
    is_last = index == process_count() - 1
    return slice(share * index, members if is_last else share * (index + 1))


def global_array(tree: Any) -> Any:
    """Combines each process's arrays into arrays sharded over the processes.

    Args:
        tree: A pytree of arrays with the same shape in every process, [members, ...].

    Returns:
        Global arrays, [members * process_count(), ...].
    """
    return collectives.make_global(tree, PartitionSpec(AXIS))


def broadcast_from_last(tree: Any) -> Any:
    """Sends the last process's arrays to all processes.

    Args:
        tree: A pytree of arrays, [rows, ...]; the number of rows may differ between processes.

    Returns:
        The arrays of the last process, as global replicated arrays.
    """
    leaves, treedef = jax.tree.flatten(tree)
    content = b"".join(np.ascontiguousarray(x).tobytes() for x in leaves)
    content = all_gather_bytes(content)[-1]
    row_size = sum(x.dtype.itemsize * math.prod(x.shape[1:]) for x in leaves)
    received, start = [], 0
    for x in leaves:
        shape = (len(content) // row_size, *x.shape[1:])
        end = start + x.dtype.itemsize * math.prod(shape)
        received.append(np.frombuffer(content[start:end], x.dtype).reshape(shape))
        start = end
    return collectives.make_global(jax.tree.unflatten(treedef, received), PartitionSpec())


def all_gather_bytes(message: bytes) -> list[bytes]:
    """Gathers one message from every process. Blocks until all processes have called it.

    Args:
        message: This process's message.

    Returns:
        The messages, ordered by process index.

    Raises:
        ZoojaxError: If another process has ended.
    """
    return _all_gather(message) if is_distributed() else [message]


def _all_gather(message: bytes) -> list[bytes]:
    try:
        return collectives.all_gather(message)
    except (RuntimeError, ValueError) as error:
        raise ZoojaxError(find_dead_process() or _unknown_failure()) from error


def all_gather_table(table: pl.DataFrame) -> pl.DataFrame:
    """Concatenates the tables of all processes, ordered by process index."""
    memory = io.BytesIO()
    table.write_ipc(memory)
    return pl.concat([pl.read_ipc(content) for content in all_gather_bytes(memory.getvalue())])


def raise_if_any_failed(failure: ZoojaxError | None, number: int = 0) -> list[int]:
    """Raises in all processes if any of them has failed.

    Args:
        failure: This process's error; None if it has not failed.
        number: A non-negative number to send to all processes.

    Returns:
        The numbers, ordered by process index.

    Raises:
        ZoojaxError: `failure`, or a `RemoteProcessError` if another process has failed.
    """
    message = str(number if failure is None else -1)
    numbers = [int(text) for text in all_gather_bytes(message.encode())]
    if failure is not None:
        raise failure
    if min(numbers) < 0:
        raise RemoteProcessError(f"process {numbers.index(-1)} of {process_count()} has failed")
    return numbers


@contextmanager
def main_process_first() -> Iterator[bool]:
    """Yields whether this is process 0; at the end, the other processes wait for it.

    Raises:
        ZoojaxError: In all processes, if the body has failed in one of them.
    """
    try:
        yield process_index() == 0
    except Exception as error:
        if is_distributed():
            all_gather_bytes(b"-1")
        raise error
    raise_if_any_failed(None)


def broadcast_from_first(number: int) -> int:
    """Returns process 0's number in all processes."""
    return int(all_gather_bytes(str(number).encode())[0])


def find_dead_process(patience: float = 5.0) -> str | None:
    """Describes a process on this host that has ended.

    Args:
        patience: Seconds to search for; connections close before their process ends.

    Returns:
        An error message; None if all processes are running.
    """
    deadline = time.monotonic() + patience
    while is_distributed():
        for i, (name, pid) in enumerate(_process_addresses):
            if name == socket.gethostname() and not host.is_process_alive(pid):
                return (
                    f"process {i} of {process_count()} (pid {pid} on {name}) has ended; rerun "
                    "the command in all processes to resume from the last complete epoch"
                )
        if time.monotonic() > deadline:
            break
        time.sleep(0.1)
    return None


def wait_before_exit(patience: float = 20.0) -> None:
    """Makes process 0 wait until the other processes have ended.

    Call this function before exiting for a reason that may affect the other processes, too.
    Process 0 hosts the coordination service and must exit last; otherwise JAX aborts the others
    before they report errors and release their files.

    Args:
        patience: Maximum number of seconds to wait, also for processes on other hosts, whose
            end cannot be observed.
    """
    deadline, here = time.monotonic() + patience, socket.gethostname()
    others = _process_addresses[1:] if process_index() == 0 else []
    while time.monotonic() < deadline and any(
        name != here or host.is_process_alive(pid) for name, pid in others
    ):
        time.sleep(0.1)


def _unknown_failure() -> str:
    """Returns the error message for a process that has ended and is not on this host.

    Waits first: when the heartbeats of a process on another host stop, JAX names that process
    and ends this one.
    """
    time.sleep(2 * HEARTBEAT)
    return (
        "another process no longer answers; rerun the command in all processes to resume from "
        "the last complete epoch"
    )
