"""The CPU kernel: training step and evaluation of a CNN in C++, for many members at once.

`cnn.cc` is compiled with the host's own compiler when an architecture is first used, and the
library is cached in the user's cache folder. If it cannot be compiled, zoojax runs on XLA only.
"""

from zoojax.ops.kernel.build import unavailable_reason
from zoojax.ops.kernel.cnn import evaluate, loss

__all__ = ["evaluate", "loss", "unavailable_reason"]
