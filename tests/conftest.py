"""Configuration shared by all tests: two CPU devices, strict JAX, paths of real data."""

import ctypes
import gc
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest
from hypothesis import HealthCheck, settings

jax.config.update("jax_platforms", "cpu")
# Also for commands, which run in this process or in their own.
os.environ["JAX_NUM_CPU_DEVICES"] = "2"
jax.config.update("jax_num_cpu_devices", 2)
# XLA's sums depend on its number of threads, which is the number of devices if there are more
# devices than cores. Set it to the largest number of devices in a test: without the kernel,
# results would otherwise differ between numbers of devices.
os.environ["NPROC"] = "4"
jax.config.update("jax_numpy_rank_promotion", "raise")
# XLA optimizes less and compiles in half the time: most programs of tests run only briefly.
# `test_recorded_bits` runs fully optimized programs.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
jax.config.update(
    "jax_disable_most_optimizations", os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] == "1"
)

# Workers and the commands that tests start share compiled programs, as most of the time is spent
# compiling. The first process creates the folder and removes it.
_CACHE_VARIABLE = "JAX_COMPILATION_CACHE_DIR"
_OWN_CACHE = None if _CACHE_VARIABLE in os.environ else tempfile.mkdtemp(prefix="zoojax-programs-")
if _OWN_CACHE is not None:
    os.environ[_CACHE_VARIABLE] = _OWN_CACHE
jax.config.update("jax_compilation_cache_dir", os.environ[_CACHE_VARIABLE])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)


def pytest_unconfigure() -> None:
    """Removes the compiled programs of this test run."""
    if _OWN_CACHE is not None:
        shutil.rmtree(_OWN_CACHE, ignore_errors=True)


# The first example of a test may take many seconds to compile on a busy machine.
settings.register_profile("zoojax", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("zoojax")


def _folder(variable: str) -> Path:
    value = os.environ.get(variable)
    if value is None:
        pytest.skip(f"{variable} is not set")
    return Path(value)


# Resident memory above which compiled programs are released after a file of tests.
_MEMORY = 4 * 2**30


@pytest.fixture(autouse=True, scope="module")
def released_programs() -> Iterator[None]:
    """Keeps the memory of a worker bounded; released programs are read from the cache on disk."""
    yield
    statistics = Path("/proc/self/statm")
    if not statistics.exists():
        return
    resident = int(statistics.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    if resident > _MEMORY:
        jax.clear_caches()
        gc.collect()
        # Freed memory stays with the process otherwise.
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of real image sets (USPS)."""
    return _folder("ZOOJAX_DATA")


@pytest.fixture(scope="session")
def reference() -> Path:
    """Folder of a real zoo that the original torch code has trained."""
    return _folder("ZOOJAX_REFERENCE")
