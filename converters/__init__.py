"""Converts PyTorch zoos to zoojax and back.

    from zoojax import converters

    zoo = converters.from_torch("tune_zoo_usps", "zoos/usps", preset="usps-s-seed").zoo
    converters.verify(zoo, "tune_zoo_usps")
    converters.convert_to(zoo, "exported/usps")

These functions are also commands of `zoojax convert`.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zoojax.converters.api import (
        DifferenceError,
        Export,
        convert_each,
        convert_from,
        convert_to,
        from_dataset,
        from_torch,
        to_torch,
        verify,
    )

__all__ = [
    "DifferenceError",
    "Export",
    "convert_each",
    "convert_from",
    "convert_to",
    "from_dataset",
    "from_torch",
    "to_torch",
    "verify",
]


def __getattr__(name: str):
    if name not in __all__:
        raise AttributeError(f"module 'zoojax.converters' has no attribute '{name}'")
    return getattr(importlib.import_module("zoojax.converters.api"), name)
