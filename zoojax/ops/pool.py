"""Pooling over windows that are laid out as two axes; max pooling has a cheap gradient.

The gradient of ``jnp.max`` compares every input with the maximum and splits it evenly between
ties. Here, the index of the maximum is stored instead (one byte per output). The gradient goes
to the first of equal inputs in scan order, as in torch.
"""

import functools

import jax
import jax.numpy as jnp
from jax import Array


def _max_and_index(y_BHPQWO: Array) -> tuple[Array, Array]:
    positions = [
        y_BHPQWO[:, :, p, q] for p in range(y_BHPQWO.shape[2]) for q in range(y_BHPQWO.shape[3])
    ]
    best, index = positions[0], jnp.zeros(positions[0].shape, jnp.int8)
    for i, y in enumerate(positions[1:], start=1):
        # NaNs propagate, as in torch, so that a diverged member remains visible as such.
        better = (y > best) | jnp.isnan(y)
        best, index = jnp.where(better, y, best), jnp.where(better, jnp.int8(i), index)
    return best, index


def max_pool(y_BHPQWO: Array) -> Array:
    """Computes the maximum over the pooling positions that `zoojax.ops.conv` lays out.

    Args:
        y_BHPQWO: Convolved images or `windows`, [batch, height, pool, pool, width, features];
            `pool` is at most 11.

    Returns:
        [batch, height, width, features].
    """
    return _max_pool(y_BHPQWO, y_BHPQWO.shape[2])


def avg_pool(y_BHPQWO: Array) -> Array:
    """Computes the average over pooling positions, as `max_pool` does the maximum."""
    return y_BHPQWO.mean((2, 3))


def windows(
    x_BHWC: Array, window: int, stride: int, padding: tuple[int, int], fill: float
) -> Array:
    """Lays out the pooling windows of images, which may overlap.

    Args:
        x_BHWC: Images, [batch, height, width, channels].
        window: Side of the windows.
        stride: Distance between neighboring windows.
        padding: Elements before and after each row and column.
        fill: Value of the padding.

    Returns:
        [batch, height', window, window, width', channels], for `max_pool` and `avg_pool`.
    """
    if any(padding):
        borders = ((0, 0), padding, padding, (0, 0))
        x_BHWC = jnp.pad(x_BHWC, borders, constant_values=fill)
    if stride == window:
        batch, height, width, channels = x_BHWC.shape
        rows, columns = height // window, width // window
        x_BHWC = x_BHWC[:, : rows * window, : columns * window]
        x = x_BHWC.reshape(batch, rows, window, columns, window, channels)
        return jnp.moveaxis(x, 4, 3)
    rows, columns = (((side - window) // stride) * stride + 1 for side in x_BHWC.shape[1:3])
    shifted = [
        jnp.stack(
            [x_BHWC[:, p : p + rows : stride, q : q + columns : stride] for q in range(window)],
            axis=2,
        )
        for p in range(window)
    ]
    return jnp.stack(shifted, axis=2)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _max_pool(y_BHPQWO: Array, pool: int) -> Array:
    return _max_and_index(y_BHPQWO)[0]


def _forward(y_BHPQWO: Array, pool: int) -> tuple[Array, Array]:
    return _max_and_index(y_BHPQWO)


def _backward(pool: int, index: Array, g_BHWO: Array) -> tuple[Array]:
    zero = jnp.zeros_like(g_BHWO)
    g = [jnp.where(index == i, g_BHWO, zero) for i in range(pool * pool)]
    rows = [jnp.stack(g[p * pool : (p + 1) * pool], axis=2) for p in range(pool)]
    return (jnp.stack(rows, axis=2),)


_max_pool.defvjp(_forward, _backward)
