"""The kernel's two operations as functions of ONE member, with vmap and grad rules."""

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
    float_array,
    image_array,
    int_array,
    noise_arrays,
    parameter_leaves,
    variance_leaves,
)
from zoojax.ops.kernel.spec import NetworkSizes
from zoojax.ops.noise import Noise
from zoojax.runtime import host
from zoojax.text import printable

# The kernel identifies an activation by its position in this tuple (see lanes.h).
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
    """Computes the mean cross entropy and the correct predictions of a member on a batch.

    The function is differentiable once with respect to params and variances; the gradients are
    computed together with the loss. If an element of `index` or `labels` is out of range, XLA
    raises an error when the program runs.

    Args:
        arch: The architecture.
        activation: A name of ACTIVATIONS.
        params: Parameters of the member.
        variances: Variances of all kernels (and of the convolutions' biases, if they are
            variational) with variational dropout; None without.
        images: All images of the set, [n, H, W, C] float32.
        labels: Their labels, [n] int32.
        index: Positions of the batch in the set, [B] int32.
        weights: Weight of each sample, [B] float32; 0 for padding, otherwise 1.
        noise: Noise source of this step; required with variances or a dropout rate.
        dropout_rate: Scalar float32; None without dropout.

    Returns:
        (loss, weighted number of correct predictions), scalars.

    Raises:
        ZoojaxError: If an argument is missing, or has the wrong shape or type.
    """
    operation = _loss(
        arch, _activation_id(activation), dropout_rate is not None, variances is not None
    )
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
        int_array("labels", labels, count),
        int_array("index", index, size),
        float_array("weights", weights, size),
        noise.key,
        noise.counter,
        float_array("dropout rate", rate, ()),
    )


def evaluate(
    arch: NetworkSizes, activation: str, params: dict, images: Array, labels: Array
) -> tuple[Array, Array, Array]:
    """Evaluates a member on a set of images.

    If a label is out of range, XLA raises an error when the program runs.

    Args:
        arch: The architecture.
        activation: A name of ACTIVATIONS.
        params: Parameters of the member.
        images: [n, H, W, C] float32.
        labels: [n] int32.

    Returns:
        (summed cross entropy, number of correct predictions, predictions [n] int32).

    Raises:
        ZoojaxError: If an argument is missing, or has the wrong shape or type.
    """
    images = image_array(arch, images)
    return _evaluate(arch, _activation_id(activation))(
        parameter_leaves(arch, params),
        images,
        int_array("labels", labels, images.shape[:1]),
    )


def _activation_id(activation: str) -> int:
    if activation not in ACTIVATIONS:
        listed = ", ".join(ACTIVATIONS)
        raise ZoojaxError(f"no activation named '{printable(activation)}'; there are: {listed}")
    return ACTIVATIONS.index(activation)


def _threads() -> np.int32:
    """Threads that one call may use: all cores, or one if each core is a device."""
    return np.int32(1 if jax.local_device_count("cpu") > 1 else host.cpu_count())


@functools.cache
def _loss(arch: NetworkSizes, activation: int, dropout: bool, variational: bool) -> Callable:
    attributes = {
        "activation": np.int32(activation),
        "dropout": dropout,
        "variational": variational,
    }

    def call(leaves: Leaves, images, labels, index, weights, key, counter, rate):
        members = index.shape[0]
        scalars = [jax.ShapeDtypeStruct((members,), jnp.float32)] * 2
        results = [*scalars, *(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in leaves)]
        ffi = jax.ffi.ffi_call(f"{register_targets(arch)}_train", results, vmap_method="sequential")
        arguments = (images, labels, index, weights, key, counter, rate, *leaves)
        value, correct, *gradients = ffi(*arguments, **attributes, threads=_threads())
        return value, correct, tuple(gradients)

    batched = _batch_over_members(call, shared=(1, 2))

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

    return _batch_over_members(call, shared=(1, 2))


def _batch_over_members(call: Callable, shared: tuple[int, ...]) -> Callable:
    """Converts a function of stacked members to a function of one member.

    `jax.vmap` of the result calls the original function once for all members.

    Args:
        call: A function whose arguments have a leading member axis, except those at `shared`.
        shared: Positions of the arguments that all members share.
    """

    def add_axis(arguments: tuple) -> tuple:
        return tuple(
            a if i in shared else jax.tree.map(lambda x: x[None], a)
            for i, a in enumerate(arguments)
        )

    def single(*arguments):
        return jax.tree.map(lambda x: x[0], call(*add_axis(arguments)))

    function = jax.custom_batching.custom_vmap(single)

    @function.def_vmap
    def rule(size: int, batched: list, *arguments: Any):
        if any(batched[i] for i in shared):
            axes = jax.tree.map(lambda b: 0 if b else None, tuple(batched))
            result = jax.vmap(single, in_axes=axes)(*arguments)
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
