"""The kernel's two operations as functions of ONE member, with rules for vmap and grad."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from zoojax import machine
from zoojax.architectures import Architecture
from zoojax.ops.kernel.build import prefix
from zoojax.ops.noise import Noise

# The kernel's numbers for them are their positions.
ACTIVATIONS = ("tanh", "sigmoid", "relu", "gelu", "silu", "leaky_relu")

Leaves = tuple[Array, ...]


def loss(
    arch: Architecture,
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
    """
    operation = _loss(arch, activation, dropout_rate is not None, variances is not None)
    leaves = _flatten(arch, params)
    if variances is not None:
        leaves += _flatten_variances(arch, variances)
    if noise is None:
        noise = Noise(jnp.zeros(2, jnp.uint32), jnp.uint32(0))
    rate = jnp.float32(0) if dropout_rate is None else dropout_rate
    return operation(leaves, images, labels, index, weights, noise.key, noise.block, rate)


def evaluate(
    arch: Architecture, activation: str, params: dict, images: Array, labels: Array
) -> tuple[Array, Array, Array]:
    """(summed cross entropy, number of right answers, answers [n] int32) of a member.

    Args:
        arch: the shape of the member.
        activation: a name of ACTIVATIONS.
        params: the member's parameters.
        images: [n, H, W, C].
        labels: [n] int32.
    """
    return _evaluate(arch, activation)(_flatten(arch, params), images, labels)


def _flatten(arch: Architecture, params: dict) -> Leaves:
    return tuple(params[layer][name] for layer in arch.layers for name in ("kernel", "bias"))


def _flatten_variances(arch: Architecture, variances: dict) -> Leaves:
    kernels = tuple(variances[layer]["kernel"] for layer in arch.layers)
    convs = [(layer, c.features) for layer, c in zip(arch.layers, arch.convs, strict=False)]
    biases = (variances[layer].get("bias", jnp.zeros(n)) for layer, n in convs)
    return (*kernels, *biases)


def _threads() -> np.int32:
    """Threads that one call may use: all cores, or one where every core is a device."""
    return np.int32(1 if jax.local_device_count("cpu") > 1 else machine.cores())


@functools.cache
def _loss(arch: Architecture, activation: str, dropout: bool, variational: bool) -> Callable:
    attributes = {
        "activation": np.int32(ACTIVATIONS.index(activation)),
        "dropout": dropout,
        "variational": variational,
    }

    def call(leaves: Leaves, images, labels, index, weights, key, block, rate):
        members = index.shape[0]
        scalars = [jax.ShapeDtypeStruct((members,), jnp.float32)] * 2
        results = [*scalars, *(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in leaves)]
        ffi = jax.ffi.ffi_call(f"{prefix(arch)}_train", results, vmap_method="sequential")
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
def _evaluate(arch: Architecture, activation: str) -> Callable:
    number = np.int32(ACTIVATIONS.index(activation))

    def call(leaves: Leaves, images, labels):
        members, count = leaves[0].shape[0], images.shape[0]
        results = [
            *[jax.ShapeDtypeStruct((members,), jnp.float32)] * 2,
            jax.ShapeDtypeStruct((members, count), jnp.int32),
        ]
        ffi = jax.ffi.ffi_call(f"{prefix(arch)}_evaluate", results, vmap_method="sequential")
        return tuple(ffi(images, labels, *leaves, activation=number, threads=_threads()))

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
