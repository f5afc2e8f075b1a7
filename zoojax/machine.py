"""This machine: its kind of processor, and where what was compiled for it is kept."""

import functools
import hashlib
import os
import platform
from pathlib import Path

import platformdirs


@functools.cache
def processor() -> str:
    """What decides which machine code runs here; differs between unlike processors."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    wanted = ("model name", "flags", "Features", "CPU part")
    return "\n".join(dict.fromkeys(line for line in lines if line.startswith(wanted)))


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cache(what: str) -> Path:
    """Folder in the user's cache for machine code; home folders are shared between machines.

    Args:
        what: its name there.
    """
    kind = hashlib.sha256(processor().encode()).hexdigest()[:16]
    return Path(platformdirs.user_cache_dir("zoojax")) / what / kind
