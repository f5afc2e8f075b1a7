"""Similarity of the outputs of layers: centered kernel alignment of all pairs of layers."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import polars as pl
from jax import Array

from zoojax.architectures.base import Architecture, Module
from zoojax.errors import ZoojaxError
from zoojax.geometry.members import Members, Show, map_members
from zoojax.text import printable
from zoojax.training.inputs import checked_images

_COLLECTION = "layer_outputs"
# Bytes of the kernels of images of all members and layers that are kept at once.
_MAX_BYTES = 2**31


def cka(members: Members, images: Any, *, show: Show = None) -> np.ndarray:
    """Computes linear CKA between all layers of all members.

    With the outputs of two layers on the same images as matrices X and Y, centered over images, it
    is |Y^T X|^2 / (|X^T X| |Y^T Y|) in Frobenius norms (Kornblith et al., "Similarity of Neural
    Network Representations Revisited", 2019). It does not depend on the order of the units.

    Args:
        members: The members.
        images: Normalized images, [n, H, W, C], two or more. Memory grows with their square.
        show: Called with the numbers of completed and of all members.

    Returns:
        [members, layers, members, layers] float32 in [0, 1], layers in the order of
        `Architecture.layers`; their outputs are taken before the activation. NaN for layers whose
        outputs are the same for all images.

    Raises:
        ZoojaxError: If images are invalid or too many for the memory, or the output of a layer is
            unknown.

    Example:
        >>> from zoojax import geometry
        >>> similarity = geometry.cka(geometry.members_at(zoo), images[:16])
        >>> similarity.shape, bool(np.allclose(similarity[0, 1, 0, 1], 1, atol=1e-5))
        ((3, 5, 3, 5), True)
    """
    arch = members.architecture
    pixels = checked_images(arch, images)
    count, layers = len(pixels), arch.layers
    if count < 2:
        raise ZoojaxError("CKA needs two or more images")
    needed = 4 * count**2 * len(members) * len(layers)
    if needed > _MAX_BYTES:
        fitting = int((_MAX_BYTES / (4 * len(members) * len(layers))) ** 0.5)
        raise ZoojaxError(
            f"CKA of {len(members)} members with {len(layers)} layers on {count} images needs "
            f"{needed / 2**30:.1f} GiB; give at most {fitting} images, or fewer members"
        )

    def make(activation: str) -> Callable[..., Array]:
        module = arch.module(activation, "uniform")

        def member_kernels(params, collections, own, images):
            outputs = layer_outputs(arch, module, {"params": params, **collections}, images)
            return jnp.stack([_normalized_kernel(outputs[path]) for path in layers])

        return member_kernels

    # Activations are the largest arrays; those of convolutions are several times as large as
    # the images.
    memory = 64 * pixels.nbytes + 4 * len(layers) * count**2
    unused = np.zeros(len(members), np.float32)
    found = map_members(make, members, unused, pixels, memory=memory, show=show)
    flat = found.reshape(len(members) * len(layers), -1)
    shape = len(members), len(layers)
    return np.clip(flat @ flat.T, 0, 1).reshape(*shape, *shape)


def layer_outputs(
    arch: Architecture, module: Module, variables: dict[str, Any], images: Array
) -> dict[str, Array]:
    """Computes the outputs of the layers with weights of one member, in evaluation.

    Args:
        arch: Architecture of the member.
        module: Its module; see `Architecture.module`.
        variables: Its variables, {"params": ...} and the collections.
        images: Normalized images, [batch, size, size, channels].

    Returns:
        {layer path: outputs before the activation, [batch, values]}.

    Raises:
        ZoojaxError: If a layer with weights is not a module of its own, or is used more than once.
    """

    def record(call: Callable, args: tuple, kwargs: dict, context: Any) -> Any:
        result = call(*args, **kwargs)
        path = "/".join(context.module.path)
        if path in arch.layers and context.method_name == "__call__":
            context.module.sow(_COLLECTION, "outputs", result.reshape(len(images), -1))
        return result

    with nn.intercept_methods(record):
        _, recorded = module.apply(variables, images, mutable=[_COLLECTION])
    outputs = {}
    for path in arch.layers:
        tree: Any = recorded.get(_COLLECTION, {})
        for name in path.split("/"):
            tree = tree.get(name, {})
        values = tree.get("outputs", ())
        if len(values) != 1:
            raise ZoojaxError(
                f"the outputs of layer {printable(path, 60)} of {arch.label} are unknown: it is "
                f"called {len(values)} times as a module with weights, not once"
            )
        outputs[path] = values[0]
    return outputs


def _normalized_kernel(outputs: Array) -> Array:
    """Inner products of the outputs for all pairs of images, centered, with norm 1."""
    centered = outputs - outputs.mean(axis=0, keepdims=True)
    kernel = centered @ centered.T
    return kernel / jnp.linalg.norm(kernel)


def layer_similarity(members: Members, similarity: np.ndarray) -> pl.DataFrame:
    """Averages CKA over pairs of different members.

    Intervals are 95 %, by the jackknife over members.

    Args:
        members: The members.
        similarity: The result of `cka`.

    Returns:
        One row per pair of layers: `layer`, `other`, `cka`, and its interval `cka_low`
        and `cka_high`.

    Raises:
        ZoojaxError: If there are fewer than three members.

    Example:
        >>> from zoojax import geometry
        >>> members = geometry.members_at(zoo)
        >>> table = geometry.layer_similarity(members, geometry.cka(members, images[:16]))
        >>> table.columns, len(table)
        (['layer', 'other', 'cka', 'cka_low', 'cka_high'], 25)
    """
    count, layers = len(members), members.architecture.layers
    if count < 3:
        raise ZoojaxError("averages of CKA over pairs need three or more members")
    # Pairs of a member with itself are excluded.
    others = similarity * ~np.eye(count, dtype=bool)[:, None, :, None]
    total = others.sum(axis=(0, 2))
    own = others.sum(axis=2) + others.sum(axis=0).transpose(1, 0, 2)
    mean = total / (count * (count - 1))
    without = (total - own) / ((count - 1) * (count - 2))
    deviations = without - without.mean(axis=0)
    error = 1.96 * np.sqrt((count - 1) / count * np.square(deviations).sum(axis=0))
    rows = [
        (layer, other, mean[i, j], mean[i, j] - error[i, j], mean[i, j] + error[i, j])
        for i, layer in enumerate(layers)
        for j, other in enumerate(layers)
    ]
    names = {"layer": pl.String, "other": pl.String}
    schema = names | dict.fromkeys(("cka", "cka_low", "cka_high"), pl.Float64)
    return pl.DataFrame(rows, schema=schema, orient="row")
