"""What all tests share: two CPU devices, strict JAX, real data where it is to be had."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest
from hypothesis import HealthCheck, settings

jax.config.update("jax_platforms", "cpu")
# For commands too, which are run in this process or in their own.
os.environ["JAX_NUM_CPU_DEVICES"] = "2"
jax.config.update("jax_num_cpu_devices", 2)
# XLA splits its sums by its threads, which are as many as the devices where those outnumber the
# cores. As many as the most devices that a test takes, or the kernel switched off shows it.
os.environ["NPROC"] = "4"
jax.config.update("jax_numpy_rank_promotion", "raise")

# Workers, and the commands that tests start, share what one of them has compiled: most of the
# time is XLA's. Whoever comes first makes the folder, and removes it.
_KEPT = "JAX_COMPILATION_CACHE_DIR"
_OWN = None if _KEPT in os.environ else tempfile.mkdtemp(prefix="zoojax-programs-")
if _OWN is not None:
    os.environ[_KEPT] = _OWN
jax.config.update("jax_compilation_cache_dir", os.environ[_KEPT])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)


def pytest_unconfigure() -> None:
    """Removes the compiled programs of this run."""
    if _OWN is not None:
        shutil.rmtree(_OWN, ignore_errors=True)


# The first example of a test may compile for seconds, on a busy machine for many.
settings.register_profile("zoojax", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("zoojax")


def _folder(variable: str) -> Path:
    value = os.environ.get(variable)
    if value is None:
        pytest.skip(f"{variable} is not set")
    return Path(value)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real image sets (USPS)."""
    return _folder("ZOOJAX_DATA")


@pytest.fixture(scope="session")
def reference() -> Path:
    """The folder of a real zoo made by the original torch code."""
    return _folder("ZOOJAX_REFERENCE")


@pytest.fixture(scope="module")
def quickly_compiled() -> Iterator[None]:
    """XLA optimises less and takes half the time: where programs are large and hardly run.

    Not where rounding or the bits of a population are the subject.
    """
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
