"""Runs torch measurements of `zoojax bench` in separate processes."""

import json
import os
import subprocess
import sys
from importlib import util
from typing import Any

from zoojax.errors import ZoojaxError
from zoojax.runtime import host


def installed() -> bool:
    """Whether torch is installed."""
    return util.find_spec("torch") is not None


def device() -> str:
    """Returns torch's name of the kind of device that JAX uses: "cpu" or "cuda"."""
    import jax

    return "cpu" if jax.default_backend() == "cpu" else "cuda"


def speed(module: str, task: dict[str, Any], processes: int = 1) -> float:
    """Measures a task in concurrent processes that share the cores.

    Args:
        module: a module that takes the task as JSON on its command line and prints its speed.
        task: the module's options; "threads" and "device" are added.
        processes: number of processes.

    Returns:
        Samples per second, summed over the processes.

    Raises:
        ZoojaxError: a process failed.
    """
    threads = host.cpu_count() // processes
    task = {**task, "threads": threads, "device": device()}
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    running = [
        subprocess.Popen(
            [sys.executable, "-m", module, json.dumps(task)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for _ in range(processes)
    ]
    printed = [process.communicate() for process in running]
    for process, (_, errors) in zip(running, printed, strict=True):
        if process.returncode:
            last = errors.strip().splitlines()[-1:] or [f"exit status {process.returncode}"]
            raise ZoojaxError(f"{module} failed: {last[0][:200]}")
    return sum(json.loads(out) for out, _ in printed)
