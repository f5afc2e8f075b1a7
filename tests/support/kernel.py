"""Marks tests that need the C++ kernel."""

import pytest

from zoojax.architectures.cnn import small_cnn
from zoojax.ops import kernel

SMALL = small_cnn(channels=1, classes=10)
assert SMALL.kernel is not None
SMALL_SIZES = SMALL.kernel
needs_kernel = pytest.mark.skipif(
    kernel.unavailable_reason(SMALL_SIZES) is not None,
    reason=f"no kernel here: {kernel.unavailable_reason(SMALL_SIZES)}",
)
