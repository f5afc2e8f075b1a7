"""Marks tests that need the C++ kernel."""

from typing import cast

import pytest

from zoojax.architectures.cnn import small_cnn
from zoojax.architectures.layers import OMEGA
from zoojax.ops import kernel

SMALL = small_cnn(channels=1, classes=10)
SMALL_SPEC = cast("kernel.KernelSpec", SMALL.kernel)
_REASON = kernel.unavailable_reason(SMALL_SPEC)
needs_kernel = pytest.mark.skipif(_REASON is not None, reason=f"no kernel here: {_REASON}")


def scale_for(activation: str) -> float:
    """A factor of made-up parameters; each sine would multiply rounding errors by its frequency."""
    return 1 / OMEGA if activation == "sine" else 1.0
