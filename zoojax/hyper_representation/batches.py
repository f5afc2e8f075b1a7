"""Applies programs to stacked members in batches of a fixed size."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from zoojax.runtime import population

_BATCH_SIZE = 64


def map_batches(program: Callable[[Any], Any], stacked: Any) -> Any:
    """Applies a program in batches of a fixed size; the last batch is padded.

    Args:
        program: Compiled function of a stacked tree, [batch, ...].
        stacked: Tree of at least one member, [n, ...].

    Returns:
        The results of all members, [n, ...].
    """
    n = len(jax.tree.leaves(stacked)[0])

    def batches() -> Iterator[Any]:
        for first in range(0, n, _BATCH_SIZE):
            rows = np.minimum(np.arange(first, first + _BATCH_SIZE), n - 1)
            yield jax.device_get(program(population.take(stacked, rows)))

    return population.take(population.concatenate(list(batches())), np.s_[:n])
