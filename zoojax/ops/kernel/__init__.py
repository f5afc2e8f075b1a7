"""The CPU kernel: training step and evaluation of a network in C++, for many members at once.

A network is a chain of operations (`KernelSpec`). `kernel.cc` is compiled for it with the host's
own compiler when it is first used, and the library is cached in the user's cache folder. If it
cannot be compiled, or the kernel does not support the chain, zoojax runs on XLA.
"""

from zoojax.ops.kernel.build import unavailable_reason
from zoojax.ops.kernel.calls import Penalty, evaluate, loss, outputs
from zoojax.ops.kernel.lowering import computes_variances, step_gap
from zoojax.ops.kernel.spec import KernelSpec
from zoojax.ops.kernel.steps import AdamConstants, AdamNumbers, Values, adam_step

__all__ = [
    "AdamConstants",
    "AdamNumbers",
    "KernelSpec",
    "Penalty",
    "Values",
    "adam_step",
    "computes_variances",
    "evaluate",
    "loss",
    "outputs",
    "step_gap",
    "unavailable_reason",
]
