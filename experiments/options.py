"""What several commands share: devices, and the options of everything that trains."""

import os
import warnings
from dataclasses import dataclass
from pathlib import Path

import tyro

# Compiled programs are kept up to here, the least recently used ones dropped.
_PROGRAMS_BYTES = 2**30


def prepare_jax() -> None:
    """Makes every core a device of its own, and keeps compiled programs between commands.

    XLA then runs one block of members a core without synchronising inside operations.
    To be called before JAX is first used; accelerators are not touched by it. A folder for
    compiled programs that the user has set (JAX_COMPILATION_CACHE_DIR) is left as it is.
    """
    import jax

    from zoojax import machine

    jax.config.update("jax_num_cpu_devices", len(os.sched_getaffinity(0)))
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    folder = machine.cache("programs")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_compilation_cache_max_size", _PROGRAMS_BYTES)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    # A program that cannot be read or kept is compiled; that is all there is to know.
    warnings.filterwarnings("ignore", message="Error (reading|writing) persistent compilation")


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
