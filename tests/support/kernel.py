"""Marks tests that need the C++ kernel."""

import pytest

from zoojax.architectures.cnn import small_cnn
from zoojax.ops import kernel

SMALL = small_cnn(channels=1, classes=10)
SMALL_SPEC = SMALL.kernel
assert SMALL_SPEC is not None
_REASON = kernel.unavailable_reason(SMALL_SPEC)
needs_kernel = pytest.mark.skipif(_REASON is not None, reason=f"no kernel here: {_REASON}")
