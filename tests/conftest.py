"""What all tests share: two CPU devices, strict JAX, real data where it is to be had."""

import os
from pathlib import Path

import jax
import pytest
from hypothesis import HealthCheck, settings

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_numpy_rank_promotion", "raise")

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
