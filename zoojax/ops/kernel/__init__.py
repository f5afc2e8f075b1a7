"""The CPU kernel: a CNN's training step and evaluation in C++, many members at once.

`cnn.cc` is compiled with the machine's own compiler when an architecture is first used,
and kept in the user's cache folder. Where it cannot be, everything runs without it.
"""

from zoojax.ops.kernel.build import unavailable_reason
from zoojax.ops.kernel.cnn import evaluate, loss

__all__ = ["evaluate", "loss", "unavailable_reason"]
