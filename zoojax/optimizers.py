"""The optimizers by name, with the semantics of torch.optim.

>>> from zoojax import optimizers
>>> sorted(optimizers.OPTIMIZERS)
['adam', 'adamw', 'nesterov', 'rmsprop', 'sgd']
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

Scalar = Array | np.ndarray | float


class Adam(NamedTuple):
    """Constants of Adam (Kingma and Ba, 2015), with the defaults of torch.

    Attributes:
        b1: Decay of the mean of gradients.
        b2: Decay of the mean of squared gradients.
        eps: Added to the square root of that mean.
    """

    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8

    def corrections(self, count: Any) -> tuple[Array, Array]:
        """Returns the factors that correct the biases of both means after a number of steps.

        Example:
            >>> from zoojax import optimizers
            >>> [round(float(x), 3) for x in optimizers.Adam().corrections(1)]
            [10.0, 1000.0]
        """
        return 1 / (1 - jnp.float32(self.b1) ** count), 1 / (1 - jnp.float32(self.b2) ** count)


class Optimizer(NamedTuple):
    """An optimizer.

    Attributes:
        init: Creates the moments of parameters, all zero.
        update: Function (gradients, moments, momentum) -> (updates, moments); the updates times
            the learning rate are subtracted from the parameters.
        decoupled_decay: Whether weight decay shrinks the parameters, as in AdamW (Loshchilov and
            Hutter, 2019). Otherwise it is added to the gradient (L2) and enters the moments.
        adam: Constants if the updates are those of Adam, which the C++ kernel can compute.
    """

    init: Callable[[Any], Any]
    update: Callable[[Any, Any, Scalar], tuple[Any, Any]]
    decoupled_decay: bool = False
    adam: Adam | None = None


def _adam(decoupled_decay: bool) -> Optimizer:
    """optax.scale_by_adam with bias corrections as multiplications instead of divisions.

    XLA rewrites a division by a broadcast scalar as a multiplication in single-device programs,
    but not always in multi-device programs, and the last bits of the results would differ.
    """

    adam = Adam()

    def update(updates, state, momentum):
        del momentum
        count = optax.safe_increment(state.count)
        mu = optax.tree.update_moment(updates, state.mu, adam.b1, 1)
        nu = optax.tree.update_moment_per_elem_norm(updates, state.nu, adam.b2, 2)
        mu_scale, nu_scale = adam.corrections(count)

        def scale(m, n):
            return m * mu_scale / (jnp.sqrt(n * nu_scale) + adam.eps)

        return jax.tree.map(scale, mu, nu), optax.ScaleByAdamState(count, mu, nu)

    return Optimizer(optax.scale_by_adam().init, update, decoupled_decay, adam)


def _sgd(nesterov: bool) -> Optimizer:
    def update(updates, state, momentum):
        def accumulate(g, t):
            return g + momentum * t

        trace = jax.tree.map(accumulate, updates, state.trace)
        ahead = jax.tree.map(accumulate, updates, trace) if nesterov else trace
        return ahead, optax.TraceState(trace)

    return Optimizer(optax.trace(decay=0.9).init, update)


def _rmsprop(decay=0.99, eps=1e-8) -> Optimizer:
    def update(updates, state, momentum):
        del momentum
        nu = optax.tree.update_moment_per_elem_norm(updates, state.nu, decay, 2)
        scaled = jax.tree.map(lambda g, n: g / (jnp.sqrt(n) + eps), updates, nu)
        return scaled, optax.ScaleByRmsState(nu)

    return Optimizer(optax.scale_by_rms().init, update)


OPTIMIZERS: dict[str, Optimizer] = {
    "adam": _adam(decoupled_decay=False),
    "adamw": _adam(decoupled_decay=True),
    "sgd": _sgd(nesterov=False),
    "nesterov": _sgd(nesterov=True),
    "rmsprop": _rmsprop(),
}


def map_moments(change: Callable[[dict[str, Any]], dict[str, Any]], moments: Any) -> Any:
    """Changes each moment of an optimizer, but not its count of steps.

    Args:
        change: Function of one moment of all parameters, in the structure of the parameters,
            {"params": {layer: {"kernel": ...}}, ...}.
        moments: State of an optimizer for such parameters.

    Returns:
        The state with changed moments.

    Example:
        >>> from zoojax import optimizers
        >>> moments = optimizers.OPTIMIZERS["adam"].init({"params": {"fc": jnp.ones(2)}})
        >>> moments = optimizers.map_moments(lambda tree: jax.tree.map(jnp.cos, tree), moments)
        >>> moments.nu["params"]["fc"].tolist(), int(moments.count)
        ([1.0, 1.0], 0)
    """
    trees = {name: tree for name, tree in moments._asdict().items() if isinstance(tree, dict)}
    return moments._replace(**{name: change(tree) for name, tree in trees.items()})


def step(
    name: str,
    trainable: Any,
    gradients: Any,
    moments: Any,
    learning_rate: Scalar,
    weight_decay: Scalar,
    momentum: Scalar,
) -> tuple[Any, Any]:
    """Takes one step of an optimizer.

    Args:
        name: A name of OPTIMIZERS.
        trainable: Pytree of parameters.
        gradients: Their gradients.
        moments: State of the optimizer.
        learning_rate: Learning rate of this step.
        weight_decay: Weight decay.
        momentum: Momentum of "sgd" and "nesterov".

    Returns:
        (parameters, moments) after the step.

    Example:
        >>> from zoojax import optimizers
        >>> moments = optimizers.OPTIMIZERS["sgd"].init(1.0)
        >>> after, _ = optimizers.step("sgd", 1.0, 2.0, moments, 0.1, 0.0, 0.9)
        >>> round(float(after), 6)
        0.8
    """
    optimizer = OPTIMIZERS[name]
    if optimizer.decoupled_decay:
        shrink = 1 - learning_rate * weight_decay
        updates, moments = optimizer.update(gradients, moments, momentum)
        trainable = jax.tree.map(lambda p: p * shrink, trainable)
    else:
        decayed = jax.tree.map(lambda g, p: g + weight_decay * p, gradients, trainable)
        updates, moments = optimizer.update(decayed, moments, momentum)
    return jax.tree.map(lambda p, u: p - learning_rate * u, trainable, updates), moments
