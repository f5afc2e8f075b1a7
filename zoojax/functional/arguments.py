"""Validation of arguments that may be traced: their values are checked only if they are known."""

from collections.abc import Callable
from typing import Any, TypeGuard

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from zoojax.errors import ZoojaxError
from zoojax.text import printable

_SEED_LIMIT = 2**32


def is_traced(value: Any) -> bool:
    """Whether a value is unknown, inside of a caller's `jax.jit`, `jax.vmap` or `jax.grad`."""
    return isinstance(value, Tracer)


def is_array(value: Any) -> TypeGuard[Array | np.ndarray]:
    """Whether a value has a shape and a type, as arrays of NumPy and JAX have."""
    return hasattr(value, "dtype") and hasattr(value, "shape")


def described(value: Any) -> str:
    """Describes what was given instead of an array of the expected shape and type."""
    if value is None:
        return "missing"
    return f"{value.dtype} {value.shape}" if is_array(value) else printable(value, 60)


def number(name: str, value: Any, check: Callable[[Any], None], whole: bool = False) -> Array:
    """Validates a scalar.

    Args:
        name: Name of the argument.
        value: A number, or an array of shape ().
        check: Raises ZoojaxError if a number is out of range.
        whole: Whether the number is an integer.

    Returns:
        The scalar, float32 or int32.

    Raises:
        ZoojaxError: If the value is not a real number, or out of range.
    """
    kinds = (jnp.integer,) if whole else (jnp.floating, jnp.integer)
    array = _scalar(name, value, kinds, "an integer" if whole else "a number")
    if not is_traced(array):
        check(array.item())
    return jnp.asarray(array, jnp.int32 if whole else jnp.float32)


def seed(value: Any) -> Array:
    """Validates the seed of a member.

    Args:
        value: An integer, or an integer array of shape ().

    Returns:
        The seed, uint32.

    Raises:
        ZoojaxError: If the value is not an integer, or not in [0, 2**32).
    """
    array = _scalar("seed", value, (jnp.integer,), "an integer")
    if not is_traced(array) and not 0 <= int(array) < _SEED_LIMIT:
        raise ZoojaxError(f"seed is {int(array)}; give an integer from 0 to 2**32 - 1")
    return jnp.asarray(array).astype(jnp.uint32) if is_traced(array) else jnp.uint32(int(array))


def count(name: str, value: Any) -> int:
    """Validates a static number, such as that of images per step.

    Args:
        name: Name of the argument.
        value: An integer of at least 1.

    Raises:
        ZoojaxError: If the value is not an integer, is traced, or is below 1.
    """
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < 1:
        raise ZoojaxError(
            f"{name} is {printable(value, 60)}; give an integer of at least 1, which cannot "
            "be an argument of jax.jit or jax.vmap"
        )
    return int(value)


def _scalar(name: str, value: Any, kinds: tuple[type, ...], expected: str) -> Any:
    try:
        array = value if is_traced(value) else np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ZoojaxError(f"{name} is not {expected}: {printable(error, 100)}") from error
    if not any(jnp.issubdtype(array.dtype, kind) for kind in kinds):
        raise ZoojaxError(f"{name} is {printable(value, 60)} ({array.dtype}); give {expected}")
    if array.shape:
        raise ZoojaxError(
            f"{name} has shape {array.shape}; give {expected}, or map the function over members "
            "with jax.vmap"
        )
    return array
