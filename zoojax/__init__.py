"""zoojax: populations of neural networks as single batched JAX programs.

>>> import zoojax
>>> zoo = zoojax.open_zoo("zoos/usps")
>>> zoo.members, zoo.metrics          # polars frames
>>> zoo.params(50)                    # stacked Flax parameters
"""

import importlib
from typing import TYPE_CHECKING

from zoojax.deprecation import current_name
from zoojax.errors import ZoojaxError

if TYPE_CHECKING:
    from zoojax.api.dense import train_zoo
    from zoojax.api.twins import prune_zoo, sparsify, train_variational_dropout
    from zoojax.architectures.base import Architecture
    from zoojax.architectures.registry import register_architecture
    from zoojax.datasets.specs import DataSpec
    from zoojax.sparsifiers.base import Sparsifier
    from zoojax.sparsifiers.magnitude import MagnitudePruning
    from zoojax.sparsifiers.registry import register_sparsifier
    from zoojax.sparsifiers.variational_dropout import VariationalDropout
    from zoojax.storage.zoo import Zoo, open_zoo
    from zoojax.training.hyperparameters import Grid

# Imported on first use: a command's --help should not wait for JAX.
_PUBLIC = {
    "Architecture": "architectures.base",
    "DataSpec": "datasets.loading",
    "Grid": "training.hyperparameters",
    "MagnitudePruning": "sparsifiers.magnitude",
    "Sparsifier": "sparsifiers.base",
    "VariationalDropout": "sparsifiers.variational_dropout",
    "Zoo": "storage.zoo",
    "register_architecture": "architectures.registry",
    "register_sparsifier": "sparsifiers.registry",
    "sparsify": "api.twins",
    "train_zoo": "api.dense",
    "train_variational_dropout": "api.twins",
    "prune_zoo": "api.twins",
    "open_zoo": "storage.zoo",
}
_RENAMED = {
    "make_dense": "train_zoo",
    "make_dropped_out": "train_variational_dropout",
    "make_pruned": "prune_zoo",
}

__all__ = [
    "Architecture",
    "DataSpec",
    "Grid",
    "MagnitudePruning",
    "Sparsifier",
    "VariationalDropout",
    "Zoo",
    "ZoojaxError",
    "open_zoo",
    "prune_zoo",
    "register_architecture",
    "register_sparsifier",
    "sparsify",
    "train_variational_dropout",
    "train_zoo",
]


def __getattr__(name: str):
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("zoojax")
    name = current_name("zoojax", name, _RENAMED)
    if name not in _PUBLIC:
        raise AttributeError(f"module 'zoojax' has no attribute '{name}'")
    return getattr(importlib.import_module(f"zoojax.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
