"""Calls of the kernel's targets, and their rules for vmap."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from zoojax.ops.kernel.build import register_targets
from zoojax.ops.kernel.spec import KernelSpec
from zoojax.runtime import host


def threads() -> np.int32:
    """Threads that one call may use: all cores, or one if each core is a device."""
    return np.int32(1 if jax.local_device_count("cpu") > 1 else host.cpu_count())


def ffi_call(
    spec: KernelSpec, target: str, results: Any, aliases: dict[int, int] | None = None
) -> Callable:
    """Returns the function that calls a target of the kernel.

    Args:
        spec: The chain of operations.
        target: Name of the target.
        results: Shapes and types of the results.
        aliases: Operands that results replace in memory, {operand: result}.
    """
    return jax.ffi.ffi_call(
        f"{register_targets(spec)}_{target}",
        results,
        vmap_method="sequential",
        input_output_aliases=aliases,
    )


def batch_over_members(call: Callable, shared: tuple[int, ...]) -> Callable:
    """Converts a function of stacked members to a function of one member.

    `jax.vmap` of the result calls the original function once for all members.

    Args:
        call: A function whose arguments have a leading member axis, except those at `shared`.
        shared: Positions of the arguments that all members share.
    """

    def add_axis(arguments: tuple) -> tuple:
        return tuple(
            a if i in shared else jax.tree.map(lambda x: x[None], a)
            for i, a in enumerate(arguments)
        )

    def single(*arguments):
        return jax.tree.map(lambda x: x[0], call(*add_axis(arguments)))

    function = jax.custom_batching.custom_vmap(single)

    @function.def_vmap
    def rule(size: int, batched: list, *arguments: Any):
        if any(batched[i] for i in shared):
            axes = jax.tree.map(lambda b: 0 if b else None, tuple(batched))
            result = jax.vmap(single, in_axes=axes)(*arguments)
        else:

            def stacked(x: Array, is_stacked: bool) -> Array:
                return x if is_stacked else jnp.broadcast_to(x[None], (size, *x.shape))

            result = call(
                *(
                    a if i in shared else jax.tree.map(stacked, a, b)
                    for i, (a, b) in enumerate(zip(arguments, batched, strict=True))
                )
            )
        return result, jax.tree.map(lambda _: True, result)

    return function
