"""The kernel's two operations as functions of ONE member, with rules for vmap and grad."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from zoojax.errors import ZoojaxError
from zoojax.ops.kernel.build import register_targets
from zoojax.ops.kernel.operands import (
    Leaves,
    image_array,
    noise_arrays,
    parameter_leaves,
    real_array,
    variance_leaves,
    whole_array,
)
from zoojax.ops.kernel.spec import NetworkSizes
from zoojax.ops.noise import Noise
from zoojax.runtime import host
from zoojax.text import printable

# The kernel's numbers for them are their positions.
ACTIVATIONS = ("tanh", "sigmoid", "relu", "gelu", "silu", "leaky_relu")


def loss(
    arch: NetworkSizes,
    activation: str,
    params: dict,
    variances: dict | None,
    images: Array,
    labels: Array,
    index: Array,
    weights: Array,
    noise: Noise | None,
    dropout_rate: Array | None,
) -> tuple[Array, Array]:
    """Mean cross entropy of a member on a batch, and how many of it are classified rightly.

    Differentiable once, in params and variances: the gradients are computed with the loss.

    Args:
        arch: the shape of the member.
        activation: a name of ACTIVATIONS.
        params: the member's parameters.
        variances: under variational dropout those of all kernels (and of convolution
            biases, if they are variational); None without.
        images: of the whole set, [n, H, W, C].
        labels: [n] int32.
        index: the batch, [B] int32.
        weights: [B]; 0 for padding, else 1.
        noise: of this step; needed with variances or a dropout rate.
        dropout_rate: scalar; None without dropout.

    Returns:
        (loss, weighted number of right answers), scalars.

    Raises:
        ZoojaxError: an argument is missing, or has another shape or type; a number in index
            or labels that is out of range is an error of XLA when the program runs.
    """
    operation = _loss(arch, _number(activation), dropout_rate is not None, variances is not None)
    leaves = parameter_leaves(arch, params)
    if variances is not None:
        leaves += variance_leaves(arch, variances)
    images = image_array(arch, images)
    count, size = images.shape[:1], jnp.shape(index)[:1]
    if 0 in (*count, *size):
        raise ZoojaxError("there are no images to compute a loss of")
    noise = noise_arrays(noise)
    rate = jnp.float32(0) if dropout_rate is None else dropout_rate
    return operation(
        leaves,
        images,
        whole_array("labels", labels, count),
        whole_array("index", index, size),
        real_array("weights", weights, size),
        noise.key,
        noise.block,
        real_array("dropout rate", rate, ()),
    )


def evaluate(
    arch: NetworkSizes, activation: str, params: dict, images: Array, labels: Array
) -> tuple[Array, Array, Array]:
    """(summed cross entropy, number of right answers, answers [n] int32) of a member.

    Args:
        arch: the shape of the member.
        activation: a name of ACTIVATIONS.
        params: the member's parameters.
        images: [n, H, W, C].
        labels: [n] int32.

    Raises:
        ZoojaxError: as `loss`.
    """
    images = image_array(arch, images)
    return _evaluate(arch, _number(activation))(
        parameter_leaves(arch, params),
        images,
        whole_array("labels", labels, images.shape[:1]),
    )


def _number(activation: str) -> int:
    if activation not in ACTIVATIONS:
        listed = ", ".join(ACTIVATIONS)
        raise ZoojaxError(f"no activation named '{printable(activation)}'; there are: {listed}")
    return ACTIVATIONS.index(activation)


def _threads() -> np.int32:
    """Threads that one call may use: all cores, or one where every core is a device."""
    return np.int32(1 if jax.local_device_count("cpu") > 1 else host.cpu_count())


@functools.cache
def _loss(arch: NetworkSizes, activation: int, dropout: bool, variational: bool) -> Callable:
    attributes = {
        "activation": np.int32(activation),
        "dropout": dropout,
        "variational": variational,
    }

    def call(leaves: Leaves, images, labels, index, weights, key, block, rate):
        members = index.shape[0]
        scalars = [jax.ShapeDtypeStruct((members,), jnp.float32)] * 2
        results = [*scalars, *(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in leaves)]
        ffi = jax.ffi.ffi_call(f"{register_targets(arch)}_train", results, vmap_method="sequential")
        arguments = (images, labels, index, weights, key, block, rate, *leaves)
        value, correct, *gradients = ffi(*arguments, **attributes, threads=_threads())
        return value, correct, tuple(gradients)

    batched = _over_members(call, shared=(1, 2))

    @jax.custom_vjp
    def function(*arguments):
        return batched(*arguments)[:2]

    def forward(*arguments):
        value, correct, gradients = batched(*arguments)
        return (value, correct), gradients

    def backward(gradients: Leaves, cotangents: tuple[Array, Array]):
        return (tuple(cotangents[0] * g for g in gradients), *(None,) * 7)

    function.defvjp(forward, backward)
    return function


@functools.cache
def _evaluate(arch: NetworkSizes, activation: int) -> Callable:
    def call(leaves: Leaves, images, labels):
        members, count = leaves[0].shape[0], images.shape[0]
        results = [
            *[jax.ShapeDtypeStruct((members,), jnp.float32)] * 2,
            jax.ShapeDtypeStruct((members, count), jnp.int32),
        ]
        ffi = jax.ffi.ffi_call(
            f"{register_targets(arch)}_evaluate", results, vmap_method="sequential"
        )
        return tuple(
            ffi(images, labels, *leaves, activation=np.int32(activation), threads=_threads())
        )

    return _over_members(call, shared=(1, 2))


def _over_members(call: Callable, shared: tuple[int, ...]) -> Callable:
    """A function of one member from one of stacked members; under vmap it is called as it is.

    Args:
        call: takes arguments with a leading member axis, but for those at `shared`.
        shared: positions of what all members share.
    """

    def lift(arguments: tuple) -> tuple:
        return tuple(
            a if i in shared else jax.tree.map(lambda x: x[None], a)
            for i, a in enumerate(arguments)
        )

    def alone(*arguments):
        return jax.tree.map(lambda x: x[0], call(*lift(arguments)))

    function = jax.custom_batching.custom_vmap(alone)

    @function.def_vmap
    def rule(size: int, batched: list, *arguments: Any):
        if any(batched[i] for i in shared):
            axes = jax.tree.map(lambda b: 0 if b else None, tuple(batched))
            result = jax.vmap(alone, in_axes=axes)(*arguments)
        else:

            def stacked(x: Array, is_stacked: bool) -> Array:
                return x if is_stacked else jnp.broadcast_to(x[None], (size, *x.shape))

            result = call(
                *(
                    a if i in shared else jax.tree.map(stacked, a, b)
                    for i, (a, b) in enumerate(zip(arguments, batched, strict=True))
                )
            )
        return result, jax.tree.map(lambda _: True, result)

    return function
