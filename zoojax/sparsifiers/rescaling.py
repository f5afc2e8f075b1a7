"""States of twins whose weights are multiplied by factors that keep the function of the network."""

import functools
from typing import Any

import numpy as np

from zoojax.sparsifiers.base import Sparsifier
from zoojax.sparsifiers.iterative_magnitude import IterativeMagnitude
from zoojax.sparsifiers.variational_dropout import VariationalDropout

Tree = dict[str, Any]


@functools.singledispatch
def rescaled(
    sparsifier: Sparsifier, trainable: Tree, fixed: Tree, factors: Tree
) -> tuple[Tree, Tree]:
    """Multiplies the parameters of stacked twins by factors.

    Sparsifiers with other parts that depend on the magnitude of the weights register their own
    function with `rescaled.register`.

    Args:
        sparsifier: The sparsifier.
        trainable: Trainable part of the states, stacked.
        fixed: Fixed part of the states, stacked.
        factors: Factors of all parameters, in their structure; arrays that broadcast to them.

    Returns:
        (trainable, fixed) of the rescaled twins.
    """
    return {**trainable, "params": _multiplied(trainable["params"], factors)}, fixed


@rescaled.register
def _(sparsifier: VariationalDropout, trainable: Tree, fixed: Tree, factors: Tree):
    """Keeps log alpha, the ratio of the variance to the squared weight."""
    log_sigma2 = _shifted(trainable["log_sigma2"], factors)
    params = _multiplied(trainable["params"], factors)
    return {**trainable, "params": params, "log_sigma2": log_sigma2}, fixed


@rescaled.register
def _(sparsifier: IterativeMagnitude, trainable: Tree, fixed: Tree, factors: Tree):
    """Also multiplies the weights for rewinding."""
    trainable = {**trainable, "params": _multiplied(trainable["params"], factors)}
    if "rewind" in fixed:
        fixed = {**fixed, "rewind": _multiplied(fixed["rewind"], factors)}
    return trainable, fixed


def _multiplied(tree: Any, factors: Any) -> Any:
    if not isinstance(tree, dict):
        return tree * factors
    return {name: _multiplied(part, factors[name]) for name, part in tree.items()}


def _shifted(tree: Any, factors: Any) -> Any:
    if not isinstance(tree, dict):
        return tree + 2 * np.log(np.abs(factors)).astype(np.float32)
    return {name: _shifted(part, factors[name]) for name, part in tree.items()}
