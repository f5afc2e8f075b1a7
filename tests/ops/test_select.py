"""Selection of the lowest values, compared with sorting."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoojax.ops.select import lowest

SIZE = 12
select = jax.jit(lowest)
NUMBERS = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan]), st.floats(width=32)
)


def expected(keys, count):
    """The first entries in the order of numpy.lexsort, whose last key is the primary one."""
    mask = np.zeros(len(keys[0]), bool)
    mask[np.lexsort([*reversed(keys)])[:count]] = True
    return mask


@settings(max_examples=150, derandomize=True)
@given(
    st.lists(NUMBERS, min_size=SIZE, max_size=SIZE),
    st.lists(st.sampled_from([0.0, 0.5, np.nan]), min_size=SIZE, max_size=SIZE),
    st.integers(0, SIZE),
)
def test_lowest_are_the_first_of_a_stable_sort(primary, secondary, count):
    keys = [np.array(primary, np.float32), np.array(secondary, np.float32)]
    np.testing.assert_array_equal(select(keys, count), expected(keys, count))


@pytest.mark.parametrize("dtype", [np.int32, np.uint32, np.uint8, np.int8, np.bool_, np.float16])
def test_types(dtype):
    rng = np.random.default_rng(0)
    key = np.frombuffer(rng.bytes(SIZE * np.dtype(dtype).itemsize), dtype)
    key = key.astype(np.uint8) > 127 if dtype == np.bool_ else key
    for count in range(SIZE + 1):
        np.testing.assert_array_equal(select([key], count), expected([key], count))


def test_counts_by_column():
    values = np.random.default_rng(0).integers(0, 4, (SIZE, 5)).astype(np.float32)
    counts = np.array([0, 3, 7, SIZE, 1])
    mask = select([jnp.asarray(values)], counts)
    for column, count in enumerate(counts):
        np.testing.assert_array_equal(mask[:, column], expected([values[:, column]], count))
