"""What several commands share: devices, and the options of everything that trains."""

import os
from dataclasses import dataclass
from pathlib import Path

import tyro


def use_devices() -> None:
    """Makes every core that this process may use a device of its own.

    XLA then runs one block of members a core without synchronising inside operations.
    To be called before JAX is first used; accelerators are not touched by it.
    """
    import jax

    jax.config.update("jax_num_cpu_devices", len(os.sched_getaffinity(0)))


@dataclass(frozen=True)
class Running:
    """How to run."""

    chunk: int | None = None
    """Members that a core or GPU trains at once (default: chosen for the machine).
    Results are bit-identical at one chunk size and number of devices."""

    data_dir: Path | None = None
    """Where image sets are looked for (default: $ZOOJAX_DATA, else a cache folder)."""

    json: bool = False
    """Print the final table as JSON on standard output."""

    quiet: bool = False
    """Show no progress."""


RunningOptions = tyro.conf.OmitArgPrefixes[Running]
