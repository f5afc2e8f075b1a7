"""Torch as the peer of `zoojax bench`: in processes of its own."""

import json
import os
import subprocess
import sys
from importlib import util
from typing import Any

from zoojax.errors import ZoojaxError
from zoojax.runtime import host


def installed() -> bool:
    """Whether there is a torch."""
    return util.find_spec("torch") is not None


def device() -> str:
    """Where torch computes: where JAX does."""
    import jax

    return "cpu" if jax.default_backend() == "cpu" else "cuda"


def speed(module: str, task: dict[str, Any], processes: int = 1) -> float:
    """Samples per second of processes that run at once and share the cores, summed.

    Args:
        module: of converters/, whose command line takes the task and prints a number.
        task: its options; threads and device are added.
        processes: how many.

    Raises:
        ZoojaxError: one of them failed.
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
    for process, (_, complaints) in zip(running, printed, strict=True):
        if process.returncode:
            last = complaints.strip().splitlines()[-1:] or [f"exit status {process.returncode}"]
            raise ZoojaxError(f"{module} failed: {last[0][:200]}")
    return sum(json.loads(out) for out, _ in printed)
