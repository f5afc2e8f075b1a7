"""Architectures: chains of layers, the networks of published zoos, and any Linen module.

>>> from zoojax.architectures import Chain, Dense, Flatten
>>> chain = Chain("linear", 28, 1, 10, (Flatten(), Dense(10)))
>>> chain.parameter_shapes()["fc1"]["kernel"]
(784, 10)
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoojax.architectures.base import Architecture
    from zoojax.architectures.chain import Chain
    from zoojax.architectures.chain_layers import (
        Activation,
        AvgPool,
        Conv,
        Dense,
        Dropout,
        Flatten,
        GlobalAvgPool,
        MaxPool,
        Normalization,
        Skip,
    )
    from zoojax.architectures.linen import LinenArchitecture
    from zoojax.architectures.permuted_axes import PermutedAxis
    from zoojax.architectures.registry import architecture, register_architecture

# Imported on first use: the command line imports this package without JAX.
_PUBLIC = {
    **dict.fromkeys(
        (
            *("Activation", "AvgPool", "Conv", "Dense", "Dropout", "Flatten", "GlobalAvgPool"),
            *("MaxPool", "Normalization", "Skip"),
        ),
        "chain_layers",
    ),
    "Architecture": "base",
    "Chain": "chain",
    "LinenArchitecture": "linen",
    "PermutedAxis": "permuted_axes",
    "architecture": "registry",
    "register_architecture": "registry",
}

__all__ = [
    "Activation",
    "Architecture",
    "AvgPool",
    "Chain",
    "Conv",
    "Dense",
    "Dropout",
    "Flatten",
    "GlobalAvgPool",
    "LinenArchitecture",
    "MaxPool",
    "Normalization",
    "PermutedAxis",
    "Skip",
    "architecture",
    "register_architecture",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'zoojax.architectures' has no attribute '{name}'")
    return getattr(importlib.import_module(f"zoojax.architectures.{_PUBLIC[name]}"), name)
