"""Checks that a user's architecture does what zoojax relies on, by running it once."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import Array

from zoojax.architectures.base import Architecture, logits, variable_shapes
from zoojax.architectures.layers import Conv, Dense, Layers
from zoojax.architectures.parameters import flat_layers
from zoojax.architectures.permutations import permute
from zoojax.errors import ZoojaxError
from zoojax.ops import Noise
from zoojax.runtime.population import jit_fast_compile
from zoojax.text import first_line, printable

# Sums are in another order after a permutation: differences relative to the largest logit.
_TOLERANCE = 1e-4
_IMAGES = 3


@functools.cache
def check_architecture(arch: Architecture) -> None:
    """Checks an architecture on random images and parameters.

    Its module must return the logits; evaluation must be deterministic, and must not change
    variables or depend on the other images of a batch; and `Architecture.permutations` must not
    change the function of the network.

    Args:
        arch: The architecture.

    Raises:
        ZoojaxError: If a check fails. The message names the architecture and the check.
    """
    name = printable(arch.name, 200)
    try:
        _check(arch)
    except ZoojaxError as error:
        raise ZoojaxError(f"architecture {name}: {error}") from error
    except Exception as error:
        # A user's module may raise anything.
        reason = first_line(error)
        raise ZoojaxError(
            f"architecture {name} cannot be evaluated (with train=False, and without random keys): "
            f"{reason}"
        ) from error


def check_replaceable(arch: Architecture) -> None:
    """Checks that a sparsifier can replace all layers with weights.

    Args:
        arch: The architecture.

    Raises:
        ZoojaxError: If layers are not built with `Layers`. The message names them.
    """
    module = arch.module("tanh", "uniform", Layers(_RecordedConv, _RecordedDense))
    images = np.zeros((1, *arch.image_shape), np.float32)
    variables = jax.eval_shape(lambda: module.init(jax.random.key(0), images))
    missing = set(arch.layers) - flat_layers(variables.get(_REPLACED, {})).keys()
    if missing:
        raise ZoojaxError(
            f"the {arch.label} does not build {', '.join(sorted(missing))} with the `layers` that "
            "it is given, so their pre-activations cannot be sampled; use another sparsifier"
        )


_REPLACED = "replaced"


class _RecordedConv(Conv):
    def __call__(self, x_BHWC: Array, noise: Noise | None) -> Array:
        self.sow(_REPLACED, "was", True)
        return super().__call__(x_BHWC, noise)


class _RecordedDense(Dense):
    def __call__(self, x_BC: Array, noise: Noise | None) -> Array:
        self.sow(_REPLACED, "was", True)
        return super().__call__(x_BC, noise)


def _check(arch: Architecture) -> None:
    variables, evaluate = _random_variables(arch), _program(arch)
    images = np.random.default_rng(0).standard_normal((_IMAGES, *arch.image_shape), np.float32)
    identity = [np.arange(units) for units in arch.permuted_units()]
    outputs = evaluate(variables, images, identity)
    if not hasattr(outputs, "shape"):
        raise ZoojaxError(f"its module returns a {type(outputs).__name__}; return only the logits")
    shape, expected = np.shape(outputs), (_IMAGES, arch.classes)
    if shape != expected:
        raise ZoojaxError(
            f"its module returns an array {list(shape)} for {_IMAGES} images and {arch.classes} "
            f"classes; return one logit per image and class, {list(expected)} (the function that "
            "creates it gets the number of classes)"
        )
    if not np.isfinite(outputs).all():
        raise ZoojaxError("its logits of random images are not finite")
    if _differ(_program(arch)(variables, images, identity), outputs):
        raise ZoojaxError(
            "its evaluation is not deterministic: two evaluations of the same images differ; draw "
            "random numbers only in training"
        )
    changed = np.concatenate([images[:1], -images[1:]])
    if _differ(evaluate(variables, changed, identity)[:1], outputs[:1]):
        raise ZoojaxError(
            "its evaluation of an image depends on the other images of the batch; use running "
            "statistics if `train` is False"
        )
    rng = np.random.default_rng(2)
    for i, order in enumerate(identity):
        orders = [*identity[:i], rng.permutation(order), *identity[i + 1 :]]
        if _differ(evaluate(variables, images, orders), outputs):
            paths = ", ".join(axis.path for axis in arch.permutations[i])
            raise ZoojaxError(
                f"its permutation of {paths} changes the function of the network; a group holds "
                "all axes of the same hidden units, and no others"
            )


def _random_variables(arch: Architecture) -> dict[str, Any]:
    """Variables that differ from unit to unit, of a usual scale."""
    rng = np.random.default_rng(1)

    def draw(leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        if not np.issubdtype(leaf.dtype, np.floating):
            return np.zeros(leaf.shape, leaf.dtype)
        if len(leaf.shape) > 1:
            scale = math.sqrt(2 / math.prod(leaf.shape[:-1]))
            return (scale * rng.standard_normal(leaf.shape)).astype(leaf.dtype)
        # Positive, as variances are.
        return rng.uniform(0.1, 0.5, leaf.shape).astype(leaf.dtype)

    return jax.tree.map(draw, variable_shapes(arch))


def _program(arch: Architecture) -> Callable[[Any, np.ndarray, list[np.ndarray]], np.ndarray]:
    """Compiles the logits of (variables, images, orders of the units of each group).

    Each call traces the module again.
    """
    module = arch.module("tanh", "uniform")

    def program(variables, images, orders):
        trees = {n: permute(tree, orders, arch.permutations) for n, tree in variables.items()}
        return logits(module, trees, images)

    return jit_fast_compile(program)


def _differ(actual: np.ndarray, expected: np.ndarray) -> bool:
    actual, expected = np.asarray(actual), np.asarray(expected)
    return bool(np.abs(actual - expected).max() > _TOLERANCE * np.abs(expected).max())
