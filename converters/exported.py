"""The parts of a zoo's states that torch files hold, for any sparsifier.

Twins of a sparsifier with a torch layout of its own (`layouts.registry.LAYOUTS`) are written in
that layout. For all others, torch files hold the parameters that members are evaluated with, and
the mask if the state has one.
"""

from typing import Any

import numpy as np

from zoojax.architectures.parameters import WEIGHT, flat_layers, nested_layers
from zoojax.converters.layouts.registry import LAYOUTS
from zoojax.sparsifiers.base import Sparsifier
from zoojax.sparsifiers.dense import Dense
from zoojax.sparsifiers.magnitude import MagnitudePruning
from zoojax.storage.states import COLLECTIONS, effective_params, state_like
from zoojax.storage.zoo import Zoo
from zoojax.storage.zoo_config import ZooConfig

MASK = "mask"


def exported_as(config: ZooConfig) -> Sparsifier:
    """Returns the sparsifier in whose torch layout the members of a zoo are written.

    Args:
        config: Config of the zoo.

    Returns:
        The zoo's own sparsifier if it has a layout; otherwise magnitude pruning if its states
        have a mask, and dense training if not.
    """
    if _has_layout(config.sparsifier):
        return config.sparsifier
    return MagnitudePruning().shared() if MASK in state_like(config, 1) else Dense()


def _has_layout(sparsifier: Sparsifier) -> bool:
    layout = LAYOUTS.get(sparsifier.name)
    return layout is not None and layout.holds(sparsifier)


def exported_state(zoo: Zoo, epoch: int | None = None, rows: slice | None = None) -> dict[str, Any]:
    """Reads the part of an epoch's state that torch files hold, stacked, as of `exported_as`.

    Args:
        zoo: The zoo.
        epoch: The epoch; None for the newest.
        rows: Rows of the members table to read; None for all.

    Returns:
        {"params", "mask", ...}. The weights where the mask is True are those that members are
        evaluated with; the others are as they are stored.

    Raises:
        ZoojaxError: If there is no such epoch, or its files are damaged.
    """
    stored = zoo.state(epoch, raw=True, rows=rows)
    if _has_layout(zoo.config.sparsifier):
        return stored
    evaluated = effective_params(zoo.config, zoo.state(epoch, rows=rows))
    collections = {COLLECTIONS: stored[COLLECTIONS]} if COLLECTIONS in stored else {}
    if MASK not in stored:
        return {"params": evaluated, **collections}
    mask, layers = stored[MASK], flat_layers(evaluated)
    for path, leaves in flat_layers(stored["params"]).items():
        if path in mask:
            kept = np.where(mask[path], layers[path][WEIGHT], leaves[WEIGHT])
            layers[path] = {**layers[path], WEIGHT: kept}
    return {"params": nested_layers(layers), MASK: mask, **collections}
