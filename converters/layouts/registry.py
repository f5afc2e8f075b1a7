"""The torch layouts, by the name of the sparsifier."""

from zoojax.converters.layouts.base import SparsifierLayout
from zoojax.converters.layouts.dense import DenseLayout
from zoojax.converters.layouts.magnitude_pruning import MagnitudePruningLayout
from zoojax.converters.layouts.variational_dropout import VariationalDropoutLayout
from zoojax.errors import ZoojaxError
from zoojax.sparsifiers.base import Sparsifier
from zoojax.sparsifiers.dense import Dense
from zoojax.sparsifiers.magnitude import MagnitudePruning
from zoojax.sparsifiers.variational_dropout import VariationalDropout

# In the order in which they are tried; the dense layout, which accepts any names, is last.
LAYOUTS: dict[str, SparsifierLayout] = {
    MagnitudePruning.name: MagnitudePruningLayout(),
    VariationalDropout.name: VariationalDropoutLayout(),
    Dense.name: DenseLayout(),
}


def layout_of(sparsifier: Sparsifier) -> SparsifierLayout:
    """Returns the torch layout of a sparsifier.

    Args:
        sparsifier: The sparsifier.

    Raises:
        ZoojaxError: If no torch layout is known for it.
    """
    if sparsifier.name not in LAYOUTS:
        raise ZoojaxError(f"no torch format is known for {sparsifier.label}")
    return LAYOUTS[sparsifier.name]
