"""Hyper-representations: autoencoders of the weights of a zoo.

    from zoojax import hyper_representation

    zoos = ["zoos/usps", "zoos/usps-vd"]
    representation = hyper_representation.train_representation(zoos, "reps/usps")
    hyper_representation.evaluate_representation(representation).tables["summary"]
    zoo = hyper_representation.sample_zoo(representation, 100, "zoos/sampled")

These functions are also commands of `zoojax represent`.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zoojax.hyper_representation.api import evaluate_representation, train_representation
    from zoojax.hyper_representation.new_zoos import ZeroShotResult, sample_zoo, sparsify_zero_shot
    from zoojax.hyper_representation.representation import Representation, open_representation

# Imported on first use: an analysis without a hyper-representation needs none of them.
_PUBLIC = {
    "Representation": "representation",
    "ZeroShotResult": "new_zoos",
    "evaluate_representation": "api",
    "open_representation": "representation",
    "sample_zoo": "new_zoos",
    "sparsify_zero_shot": "new_zoos",
    "train_representation": "api",
}

__all__ = [
    "Representation",
    "ZeroShotResult",
    "evaluate_representation",
    "open_representation",
    "sample_zoo",
    "sparsify_zero_shot",
    "train_representation",
]


def __getattr__(name: str):
    if name not in _PUBLIC:
        raise AttributeError(f"module 'zoojax.hyper_representation' has no attribute '{name}'")
    module = importlib.import_module(f"zoojax.hyper_representation.{_PUBLIC[name]}")
    return getattr(module, name)
