"""Marks tests that need the C++ kernel."""

from typing import cast

import pytest

from zoojax.architectures.cnn import small_cnn
from zoojax.ops import kernel

SMALL = small_cnn(channels=1, classes=10)
SMALL_SPEC = cast("kernel.KernelSpec", SMALL.kernel)
_REASON = kernel.unavailable_reason(SMALL_SPEC)
needs_kernel = pytest.mark.skipif(_REASON is not None, reason=f"no kernel here: {_REASON}")
