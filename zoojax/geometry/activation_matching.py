"""Matching of hidden units by their activations on images.

Each unit is assigned to the unit whose values correlate most with its own (Li et al., "Convergent
Learning", 2016; Ainsworth et al., "Git Re-Basin", 2023, section 3.1). The values of the units of a
group are the inputs of all layers that read them, at all images and positions.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from zoojax.architectures.base import Architecture, Module
from zoojax.architectures.layer_inputs import check_layer_inputs, layer_inputs
from zoojax.architectures.permuted_axes import PermutedAxis
from zoojax.architectures.rescalings import Kind
from zoojax.architectures.units import parameters_by_path, require_units, weights_out_of
from zoojax.errors import ZoojaxError
from zoojax.geometry.blocks import assign, squared_distance
from zoojax.geometry.descent import Matching
from zoojax.geometry.transforms import Symmetry, Transform, shapes_by_path
from zoojax.runtime.population import concatenate, take

# Members whose activations are computed at once: they need more memory than an evaluation.
_CHUNK = 8
_TINY = 1e-12
_MAX_SCALE = 100.0


def match_activations(
    arch: Architecture,
    variables: dict[str, Any],
    reference: dict[str, Any],
    images: Array | np.ndarray,
    *,
    activation: str = "tanh",
    reference_activation: str | None = None,
    symmetries: Sequence[Symmetry] = ("permutation", "sign"),
) -> Matching:
    """Matches the hidden units of members to those of references by their activations.

    Args:
        arch: Architecture of the members.
        variables: Stacked variables, {"params": ...} and the collections.
        reference: Variables of one reference, without member axis, or of one reference per
            member, stacked.
        images: Normalized images, [n, H, W, C].
        activation: Activation of the members.
        reference_activation: Activation of the references; None for that of the members.
        symmetries: "permutation", "sign", "scale". Without "permutation", only the signs or scales
            change. A scale is the ratio of the standard deviations of two units.

    Returns:
        The transform of each member, and its distances to the reference in weight space, which
        may increase.

    Raises:
        ZoojaxError: If the architecture has no permutation groups, or the inputs of its layers are
            unknown.

    Example:
        >>> variables = {"params": zoo.params()}
        >>> first = {"params": zoo.member(0)}
        >>> pixels = np.asarray(images[:8])
        >>> matched = zoojax.geometry.match_activations(
        ...     zoo.config.shape, variables, first, pixels
        ... )
        >>> matched.transform.orders[0][0].tolist()
        [0, 1, 2, 3, 4, 5, 6, 7]
    """
    require_units(arch)
    check_layer_inputs(arch)
    _check_readers(arch)
    theirs = parameters_by_path(variables["params"])
    ours = parameters_by_path(reference["params"])
    count = len(next(iter(theirs.values())))
    shared = all(np.ndim(ours[path]) < np.ndim(theirs[path]) for path in theirs)
    compare = _compare(arch, activation, reference_activation or activation, shared)
    pixels, parts = jnp.asarray(images), []
    for start in range(0, count, _CHUNK):
        rows = np.minimum(np.arange(start, start + _CHUNK), count - 1)
        own = reference if shared else take(reference, rows)
        result = jax.device_get(compare(own, take(variables, rows), pixels))
        parts.append(take(result, slice(min(_CHUNK, count - start))))
    allowed = (each for each in arch.rescalings(activation) if each.kind in symmetries)
    kinds: dict[int, Kind] = {each.group: each.kind for each in allowed}
    chosen = [
        _assigned(moments, kinds.get(group), "permutation" in symmetries)
        for group, moments in enumerate(concatenate(parts))
    ]
    orders, factors = zip(*chosen, strict=True)
    transform = Transform(tuple(orders), tuple(factors))
    return measured(arch, variables["params"], reference["params"], transform, activation)


def _assigned(
    moments: tuple[np.ndarray, np.ndarray, np.ndarray], kind: Kind | None, permutes: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the orders and factors of the units of one group; see `_compare`."""
    products, spread, reference_spread = moments
    scale = np.sqrt(spread[:, None, :] * reference_spread[:, :, None])
    # Members that are not finite have no correlations.
    correlation = np.nan_to_num(products / np.maximum(scale, _TINY))
    own = np.tile(np.arange(correlation.shape[1]), (len(correlation), 1))
    order = assign(-np.abs(correlation) if kind == "sign" else -correlation) if permutes else own
    factor = np.ones(order.shape, np.float32)
    if kind == "sign":
        best = np.take_along_axis(correlation, order[..., None], 2)[..., 0]
        factor[best < 0] = -1
    elif kind == "scale":
        moved = np.take_along_axis(spread, order, 1)
        ratio = np.sqrt(reference_spread / np.maximum(moved, _TINY))
        # Units without activity keep their scale.
        usable = (ratio > 1 / _MAX_SCALE) & (ratio < _MAX_SCALE)
        factor[usable] = ratio[usable]
    return order, factor


def measured(
    arch: Architecture,
    params: dict[str, Any],
    reference: dict[str, Any],
    transform: Transform,
    activation: str,
) -> Matching:
    """Returns a transform with the distances of the members before and after it."""
    changed = transform.moved(arch, params)
    factors = transform.factors_of(arch, arch.rescalings(activation))
    theirs, scales = parameters_by_path(changed), parameters_by_path(factors)
    after = {path: x * scales[path] for path, x in theirs.items()}
    before = {path: np.asarray(x) for path, x in parameters_by_path(params).items()}
    ours = {path: np.asarray(x) for path, x in parameters_by_path(reference).items()}
    ours = {path: x if x.ndim == before[path].ndim else x[None] for path, x in ours.items()}
    distances = (np.sqrt(squared_distance(ours, each)) for each in (before, after))
    return Matching(transform, *distances)


@functools.cache
def _compare(
    arch: Architecture, activation: str, reference_activation: str, shared: bool
) -> Callable:
    """Compiles the comparison of members with references.

    Returns:
        Function (reference, variables, images) -> for each group (sums of products of centered
        values [members, units of the reference, units], sums of squares of the members' values
        [members, units], and of the reference's).
    """
    modules = [arch.module(name, "uniform") for name in (reference_activation, activation)]
    units = arch.permuted_units()
    shapes = shapes_by_path(arch)
    readers = [weights_out_of(group, shapes) for group in arch.permutations]

    def values(module: Module, variables: dict[str, Any], images: Array) -> list[list[Array]]:
        inputs = layer_inputs(arch, module, variables, images)
        return [
            [_unit_values(inputs, shapes, axis, size) for axis in axes]
            for axes, size in zip(readers, units, strict=True)
        ]

    def compare(reference: dict[str, Any], variables: dict[str, Any], images: Array):
        found = []
        both = zip(modules, (reference, variables), strict=True)
        for ours, theirs in zip(*(values(m, v, images) for m, v in both), strict=True):
            pairs = [(_centered(a), _centered(b)) for a, b in zip(ours, theirs, strict=True)]
            products = sum(a.T @ b for a, b in pairs)
            spread, own = (sum(jnp.sum(x[i] ** 2, axis=0) for x in pairs) for i in (1, 0))
            found.append((products, spread, own))
        return found

    return jax.jit(jax.vmap(compare, in_axes=(None if shared else 0, 0, None)))


def _unit_values(
    inputs: dict[str, Array], shapes: dict[str, tuple[int, ...]], axis: PermutedAxis, units: int
) -> Array:
    """Returns the values of the units that a layer reads, [images and positions, units]."""
    layer = axis.path.rpartition("/")[0]
    rows = inputs[layer]
    taps = math.prod(shapes[axis.path][:-2])
    # At the center of the kernel, to leave out padding where possible.
    center = rows.reshape(len(rows), taps, -1)[:, taps // 2]
    split = center.reshape(len(rows), axis.positions, units, axis.width)
    return jnp.moveaxis(split, 2, -1).reshape(-1, units)


def _centered(values: Array) -> Array:
    return values - jnp.mean(values, axis=0, keepdims=True)


def _check_readers(arch: Architecture) -> None:
    """Checks that a layer reads the units of each permutation group.

    Raises:
        ZoojaxError: If no layer does.
    """
    shapes = shapes_by_path(arch)
    for group in arch.permutations:
        if not weights_out_of(group, shapes):
            raise ZoojaxError(
                f"no layer of {arch.label} reads the units of {group[0].path}; align by weights"
            )
