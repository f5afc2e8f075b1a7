"""zoojax: populations of neural networks as single batched JAX programs.

>>> import zoojax
>>> zoo = zoojax.open_zoo("zoos/usps")
>>> zoo.members, zoo.metrics          # polars frames
>>> zoo.params(50)                    # stacked Flax parameters
"""

import importlib
from typing import TYPE_CHECKING

from zoojax.errors import ZoojaxError

if TYPE_CHECKING:
    from zoojax.data import DataSpec
    from zoojax.grid import Grid
    from zoojax.make import make_dense
    from zoojax.make_twins import make_dropped_out, make_pruned
    from zoojax.zoo import Zoo, open_zoo

# Imported where first used: a command's --help should not wait for JAX.
_PUBLIC = {
    "DataSpec": "data",
    "Grid": "grid",
    "Zoo": "zoo",
    "make_dense": "make",
    "make_dropped_out": "make_twins",
    "make_pruned": "make_twins",
    "open_zoo": "zoo",
}

__all__ = [
    "DataSpec",
    "Grid",
    "Zoo",
    "ZoojaxError",
    "make_dense",
    "make_dropped_out",
    "make_pruned",
    "open_zoo",
]


def __getattr__(name: str):
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("zoojax")
    if name not in _PUBLIC:
        raise AttributeError(f"module 'zoojax' has no attribute '{name}'")
    return getattr(importlib.import_module(f"zoojax.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
