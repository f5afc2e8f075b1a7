"""Trains Flax networks that predict properties of members."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from zoojax import keys
from zoojax.hyper_representation.predictors import Floats, SplitArrays

# Weight decays that are tried.
DECAYS = (0.01, 1.0)
# Fewer epochs of many states, so that a training has at most about MAX_STEPS steps.
EPOCHS, MAX_STEPS = 30, 1800
_BATCH_SIZE, _LEARNING_RATE, _WARMUP, _CLIP = 64, 1e-3, 0.05, 1.0


class _State(NamedTuple):
    params: Any
    optimizer: Any


def fit_network(
    module: nn.Module,
    inputs: SplitArrays,
    targets: SplitArrays,
    seed: int,
    batch_size: int = _BATCH_SIZE,
) -> Floats:
    """Trains a network with AdamW, and predicts the test split.

    The weight decay and the number of epochs are those with the lowest validation error, for each
    target.

    Args:
        module: Called with [n, features] and `train`, a bool, and a random key "dropout" in
            training; returns [n, targets].
        inputs: [n, features] float32 per split.
        targets: [n, targets] per split.
        seed: Seed of the initial weights, the order of the states and dropout.
        batch_size: States per step.

    Returns:
        Finite predictions of the test split, [n, targets] float64.
    """
    center, scale = targets.train.mean(axis=0), targets.train.std(axis=0)
    y, val = ((part - center) / scale for part in (targets.train, targets.val))
    count = len(y)
    batch = min(batch_size, count)
    steps = count // batch
    epochs = min(EPOCHS, -(-MAX_STEPS // steps))
    data = jax.device_put((*inputs, y.astype(np.float32)))
    lowest = np.full(y.shape[1], np.inf)
    best = np.zeros((len(inputs.test), y.shape[1]))
    for number, decay in enumerate(DECAYS):
        key = jax.random.fold_in(keys.stream_key(seed, "predictor"), number)
        state = _start(module, epochs * steps, data[0][:1], key)
        for epoch in range(1, epochs + 1):
            order_key, dropout_key = jax.random.split(jax.random.fold_in(key, epoch))
            order = keys.permutation(order_key, count)[: steps * batch].reshape(steps, batch)
            state, *predicted = _train_epoch(
                module, epochs * steps, state, jnp.float32(decay), order, dropout_key, data
            )
            # A diverged network predicts the mean.
            on_val, on_test = (np.nan_to_num(np.float64(x), posinf=0, neginf=0) for x in predicted)
            errors = np.square(on_val - val).mean(axis=0)
            better = errors < lowest
            lowest, best = np.where(better, errors, lowest), np.where(better, on_test, best)
    return center + scale * best


def _optimizer(total_steps: int, decay: Any) -> optax.GradientTransformation:
    """AdamW with a warmup and a cosine schedule; the decay may be traced."""
    warmup = max(1, int(_WARMUP * total_steps))
    schedule = optax.warmup_cosine_decay_schedule(
        0, _LEARNING_RATE, warmup, max(warmup + 1, total_steps)
    )
    return optax.chain(optax.clip_by_global_norm(_CLIP), optax.adamw(schedule, weight_decay=decay))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _start(module: nn.Module, total_steps: int, x: Array, key: Array) -> _State:
    """Initializes a network as Flax does, except that kernels are normal."""
    shapes = jax.eval_shape(module.init, key, x)
    leaves, tree = jax.tree.flatten_with_path(shapes)
    sizes = [leaf.size for _, leaf in leaves]
    # A single draw, because XLA compiles each random generator separately and slowly.
    drawn = jnp.split(jax.random.normal(key, (sum(sizes),)), np.cumsum(sizes)[:-1])
    values = [
        _INITS[path[-1].key](values.reshape(leaf.shape))
        for (path, leaf), values in zip(leaves, drawn, strict=True)
    ]
    params = jax.tree.unflatten(tree, values)
    return _State(params, _optimizer(total_steps, 0.0).init(params))


# Initial values of parameters from normal ones, by name.
_INITS: dict[str, Callable[[Array], Array]] = {
    "kernel": lambda x: x / np.sqrt(x.shape[0]),
    "embedding": lambda x: x,
    "bias": jnp.zeros_like,
    "scale": jnp.ones_like,
}


@functools.partial(jax.jit, static_argnums=(0, 1))
def _train_epoch(
    module: nn.Module,
    total_steps: int,
    state: _State,
    decay: Array,
    order: Array,
    key: Array,
    data: tuple[Array, ...],
) -> tuple[_State, Array, Array]:
    """Trains for an epoch, and predicts the validation and the test split.

    Args:
        module: See `fit_network`.
        total_steps: Steps of all epochs.
        state: Parameters and optimizer state.
        decay: Weight decay.
        order: Training states of each step, [steps, batch].
        key: Random key of dropout.
        data: Inputs of the training, validation and test split, and targets of the first.
    """
    x, val, test, y = data
    optimizer = _optimizer(total_steps, decay)

    def step(state: _State, now: tuple[Array, Array]) -> tuple[_State, None]:
        rows, number = now

        def loss(params: Any) -> Array:
            rngs = {"dropout": jax.random.fold_in(key, number)}
            predicted: Any = module.apply(params, x[rows], train=True, rngs=rngs)
            return jnp.mean(jnp.square(predicted - y[rows]))

        gradients = jax.grad(loss)(state.params)
        updates, moments = optimizer.update(gradients, state.optimizer, state.params)
        return _State(optax.apply_updates(state.params, updates), moments), None

    state, _ = jax.lax.scan(step, state, (order, jnp.arange(len(order))))
    on_val, on_test = (_predict(module, state.params, part, order.shape[1]) for part in (val, test))
    return state, on_val, on_test


def _predict(module: nn.Module, params: Any, x: Array, batch: int) -> Array:
    """Predictions in batches, [n, targets]."""
    size = -(-len(x) // batch) * batch
    padded = jnp.pad(x, ((0, size - len(x)), (0, 0)))
    apply = functools.partial(module.apply, params, train=False)
    predicted: Any = jax.lax.map(apply, padded.reshape(-1, batch, x.shape[1]))
    return predicted.reshape(size, -1)[: len(x)]
