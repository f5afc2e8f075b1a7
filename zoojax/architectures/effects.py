"""Which hyperparameters of a member have an effect on its network.

A network may fix its activation or its initialization, or have no dropout. Members that differ only
in such a hyperparameter are the same.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from zoojax import keys
from zoojax.architectures.base import Architecture, init_params, training_logits
from zoojax.architectures.chain import Chain
from zoojax.architectures.chain_layers import Activation, Dropout
from zoojax.architectures.definitions import fixed_inputs, fixed_logits
from zoojax.runtime.population import jit_fast_compile


def uses_activation(arch: Architecture) -> bool:
    """Whether the activation of a member changes what it computes.

    Example:
        >>> from zoojax.architectures import Activation, Chain, Dense, Flatten
        >>> layers = Flatten(), Dense(8), Activation("relu"), Dense(10)
        >>> uses_activation(Chain("fixed", 28, 1, 10, layers)), uses_activation(zoo.config.shape)
        (False, True)
    """
    if type(arch) is Chain:
        return any(isinstance(x, Activation) and x.name is None for x in arch.sequence)
    first, second = fixed_logits(arch)
    return not np.array_equal(first, second)


def uses_dropout(arch: Architecture) -> bool:
    """Whether the dropout rate of a member changes how it is trained.

    Example:
        >>> uses_dropout(zoo.config.shape)
        True
    """
    if type(arch) is Chain:
        return Dropout() in arch.sequence
    module = arch.module("tanh", "uniform")

    def program(variables, images, rate):
        noise = keys.step_noise(keys.stream_key(0, "noise", 1), 0, arch.noise_slots)
        mask = jnp.ones(len(images), bool)
        return training_logits(module, variables, images, noise, rate, mask)[0]

    run, inputs = jit_fast_compile(program), fixed_inputs(arch)
    return not np.array_equal(*(run(*inputs, np.float32(rate)) for rate in (0.1, 0.9)))


def uses_init(arch: Architecture) -> bool:
    """Whether the initialization scheme of a member changes its initial weights.

    Example:
        >>> uses_init(zoo.config.shape)
        True
    """
    if type(arch) is Chain:
        return True
    schemes = "normal", "kaiming_uniform"
    first, second = jit_fast_compile(lambda: [init_params(arch, each, 0) for each in schemes])()
    pairs = zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
    return not all(np.array_equal(a, b) for a, b in pairs)


# By the column of the members table.
EFFECTS: Mapping[str, Callable[[Architecture], bool]] = {
    "activation": uses_activation,
    "dropout": uses_dropout,
    "init": uses_init,
}
