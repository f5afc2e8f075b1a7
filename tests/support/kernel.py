"""Marks tests that need the C++ kernel."""

import pytest

from zoojax.architectures.base import architecture
from zoojax.ops import kernel

SMALL = architecture("small", 1)
needs_kernel = pytest.mark.skipif(
    kernel.unavailable_reason(SMALL) is not None,
    reason=f"no kernel here: {kernel.unavailable_reason(SMALL)}",
)
