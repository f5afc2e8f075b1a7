"""Convolution as a few matrix products of an efficient size.

``vmap`` of ``lax.conv`` over kernels becomes a grouped convolution, which XLA runs several times
slower than a matrix product with the same number of operations. The product of patches and
kernel would be such a matrix product, but it has only as many columns as the layer has features
(4 to 32), too few for the hardware. Here, a strip of ``strip`` neighboring output columns is
computed at once: the kernel is expanded along the width into a small Toeplitz matrix, in which a
fraction of ``kernel / (strip + kernel - 1)`` is non-zero, and the product has ``strip`` times
more columns. Layers with many channels need no strips; for them there is ``conv_by_taps``.
"""

import functools

import jax.numpy as jnp
import numpy as np
from jax import Array

# Output columns per strip: enough to fill vector registers, but not so many that most of the
# Toeplitz matrix is zero. On CPU, 4 is the fastest for both convolutions of the small CNN (2 is
# slower by a third, 8 by a tenth).
STRIP = 4


@functools.cache
def _spread(kernel: int, strip: int, stride: int) -> np.ndarray:
    """Indicator of (input column, tap, output column), [columns, kernel, strip]."""
    ones = np.zeros(((strip - 1) * stride + kernel, kernel, strip), np.float32)
    for column in range(strip):
        for tap in range(kernel):
            ones[column * stride + tap, tap, column] = 1.0
    return ones


def _strip_width(columns: int, pool: int) -> int:
    """The widest strip up to STRIP that divides the columns and consists of full pools."""
    candidates = [s for s in range(pool, max(STRIP, pool) + 1, pool) if columns % s == 0]
    return candidates[-1]


def conv(
    x_BHWC: Array,
    kernel_KKCO: Array,
    pool: int = 1,
    stride: int = 1,
    padding: tuple[int, int] = (0, 0),
) -> Array:
    """Computes a convolution, laid out by pooling positions.

    Output rows and columns that a following ``pool`` x ``pool`` pooling would drop (floor mode)
    are not computed.

    Args:
        x_BHWC: Images, [batch, height, width, channels].
        kernel_KKCO: Square kernel, [k, k, channels, features].
        pool: Side of the pooling window that follows; 1 for no pooling.
        stride: Distance between neighboring positions of the kernel.
        padding: Zeros before and after each row and column.

    Returns:
        [batch, height', pool, pool, width', features] with
        height' = ((H + padding - k) // stride + 1) // pool.
        Element (b, h, p, q, w, o) is the convolution at row h*pool+p, column w*pool+q.
        Max pooling is the maximum over axes 2 and 3.
    """
    if any(padding):
        x_BHWC = jnp.pad(x_BHWC, ((0, 0), padding, padding, (0, 0)))
    batch, height, width, channels = x_BHWC.shape
    k, features = kernel_KKCO.shape[0], kernel_KKCO.shape[-1]
    rows, columns = (((side - k) // stride + 1) // pool * pool for side in (height, width))
    strip = _strip_width(columns, pool)
    strips, taps = columns // strip, (strip - 1) * stride + k

    # Output columns within a strip are ordered by pooling position, then by window.
    spread = _spread(k, strip, stride).reshape(taps, k, strip // pool, pool)
    toeplitz = jnp.einsum("ijco,xjvq->ixcqvo", kernel_KKCO, spread)
    row_span = (rows - 1) * stride + 1
    windows = [
        jnp.stack(
            [x_BHWC[:, i : i + row_span : stride, s : s + taps] for i in range(k)],
            axis=2,
        )
        for s in range(0, columns * stride, strip * stride)
    ]
    x = jnp.stack(windows, axis=2).reshape(batch * rows * strips, k * taps * channels)
    y = x @ toeplitz.reshape(k * taps * channels, strip * features)
    y = y.reshape(batch, rows // pool, pool, strips, pool, strip // pool, features)
    y = jnp.moveaxis(y, 3, 4)
    return y.reshape(batch, rows // pool, pool, pool, columns // pool, features)


def conv_by_taps(
    x_BHWC: Array, kernel_KKCO: Array, stride: int = 1, padding: tuple[int, int] = (0, 0)
) -> Array:
    """Computes a convolution as a sum of matrix products, one per position in the kernel.

    With 8 to 16 channels it is as fast as `conv` on CPUs, and with 64 or more several times faster:
    it multiplies no zeros.

    Args:
        x_BHWC: Images, [batch, height, width, channels].
        kernel_KKCO: Square kernel, [k, k, channels, features].
        stride: Distance between neighboring positions of the kernel.
        padding: Zeros before and after each row and column.

    Returns:
        [batch, height', 1, 1, width', features], laid out as by `conv` without pooling.
    """
    if any(padding):
        x_BHWC = jnp.pad(x_BHWC, ((0, 0), padding, padding, (0, 0)))
    batch, height, width, channels = x_BHWC.shape
    k, features = kernel_KKCO.shape[0], kernel_KKCO.shape[-1]
    rows, columns = ((side - k) // stride + 1 for side in (height, width))
    if k == stride:
        # Patches do not overlap: one product suffices.
        x = x_BHWC[:, : rows * k, : columns * k].reshape(batch, rows, k, columns, k, channels)
        x = x.swapaxes(2, 3).reshape(-1, k * k * channels)
        y = x @ kernel_KKCO.reshape(k * k * channels, features)
        return y.reshape(batch, rows, 1, 1, columns, features)
    row_span, column_span = ((count - 1) * stride + 1 for count in (rows, columns))
    y = jnp.zeros((batch * rows * columns, features), x_BHWC.dtype)
    for i in range(k):
        for j in range(k):
            tap = x_BHWC[:, i : i + row_span : stride, j : j + column_span : stride]
            y = y + tap.reshape(-1, channels) @ kernel_KKCO[i, j]
    return y.reshape(batch, rows, 1, 1, columns, features)
