"""Zoos as datasets: views of the states, splits, augmentation, statistics.

>>> from zoojax.weight_datasets import Tokens
>>> tokens = zoojax.WeightDataset(zoo, Tokens("chunk", size=100), cache="cache")
>>> tokens[0].shape
(25, 100)

Reading a dataset does not need JAX, so worker processes start fast. Only creating one does.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoojax.weight_datasets.batches import Batches, Draw
    from zoojax.weight_datasets.dataset import WeightDataset
    from zoojax.weight_datasets.graphs import Graph
    from zoojax.weight_datasets.tokens import Tokens
    from zoojax.weight_datasets.vector_views import Flat, State
    from zoojax.weight_datasets.view import View

_PUBLIC = {
    "Batches": "batches",
    "Draw": "batches",
    "Flat": "vector_views",
    "Graph": "graphs",
    "State": "vector_views",
    "Tokens": "tokens",
    "View": "view",
    "WeightDataset": "dataset",
}

__all__ = ["Batches", "Draw", "Flat", "Graph", "State", "Tokens", "View", "WeightDataset"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'zoojax.weight_datasets' has no attribute '{name}'")
    return getattr(importlib.import_module(f"zoojax.weight_datasets.{_PUBLIC[name]}"), name)
