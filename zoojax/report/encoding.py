"""Arrays of fractions as text: two bytes, or one, per value."""

import base64

import numpy as np

# Code of non-finite values by number of bytes; the largest code of finite ones is one less.
_NULL = {1: 255, 2: 65535}


def encode(values: np.ndarray, low: float, high: float, width: int = 2) -> str:
    """Encodes values as base64 of little-endian unsigned integers.

    Args:
        values: The values; those outside of [low, high] are clipped.
        low: The value of code 0.
        high: The value of the largest code, 65534 or 254; one more is a non-finite value.
        width: Bytes per value, 1 or 2.

    Returns:
        The text.
    """
    finite, null = np.isfinite(values), _NULL[width]
    scaled = (np.where(finite, values, low) - low) / (high - low)
    codes = np.rint(np.clip(scaled, 0, 1) * (null - 1))
    return base64.b64encode(np.where(finite, codes, null).astype(f"<u{width}").tobytes()).decode()
