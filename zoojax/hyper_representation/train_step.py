"""Training an autoencoder: one epoch is one XLA program over samples on the device."""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from jax import Array

from zoojax import keys
from zoojax.hyper_representation.augmentation import add_noise, draw_permutation, erase, permute
from zoojax.hyper_representation.codec import Codec, Variables
from zoojax.hyper_representation.losses import masked_mse, nt_xent
from zoojax.hyper_representation.tokens import Tokens

_PATIENCE, _FACTOR = 10, 0.5
_WARMUP = 0.05


class Data(NamedTuple):
    """Samples as they are trained on: see `Codec.targets`.

    Attributes:
        weights: normalised, [n, ...].
        alphas: scaled; None without any.
    """

    weights: dict
    alphas: dict | None


class State(NamedTuple):
    """Variables of the network, and the optimiser's state."""

    variables: Variables
    optimizer: Any


def optimizer(codec: Codec, samples: int) -> optax.GradientTransformationExtraArgs:
    """Adam on the schedule of the settings, decay as torch.optim.Adam has it."""
    s, steps = codec.settings, steps_of(codec, samples)
    adam = optax.chain(optax.add_decayed_weights(s.weight_decay), optax.scale_by_adam())
    if s.schedule == "plateau":
        plateau = optax.contrib.reduce_on_plateau(
            factor=_FACTOR, patience=_PATIENCE, accumulation_size=steps
        )
        return optax.chain(adam, optax.scale(-s.learning_rate), plateau)
    total = max(2, steps * s.epochs)
    rate = optax.warmup_cosine_decay_schedule(
        0.0, s.learning_rate, max(1, round(_WARMUP * total)), total
    )
    return optax.with_extra_args_support(optax.chain(adam, optax.scale_by_learning_rate(rate)))


def steps_of(codec: Codec, samples: int) -> int:
    """Steps of an epoch: whole batches alone, so that every sample has as many negatives."""
    return max(1, samples // codec.settings.batch_size)


def init(codec: Codec, samples: int) -> State:
    """The state before training."""
    variables = codec.init(keys.stream_key(codec.settings.seed, "init"))
    return State(variables, optimizer(codec, samples).init(variables))


def objective(
    codec: Codec, variables: Variables, batch: Data, key: Array, train: bool
) -> tuple[Array, dict[str, Array]]:
    """Equation 6 of two views of a batch, the first of them reconstructed, and its parts.

    Args:
        codec: the autoencoder.
        variables: of its network.
        batch: [B, ...].
        key: of the views, and of dropout.
        train: with dropout.

    Returns:
        The loss, and {"loss", "contrastive", "weights", "alphas"}.
    """
    s, size = codec.settings, jax.tree.leaves(batch.weights)[0].shape[0]
    drawn = jax.random.split(key, 2 * size + 1)

    def view(one: Data, key: Array) -> tuple[Data, Tokens]:
        order, noise, erased = jax.random.split(key, 3)
        orders = draw_permutation(order, codec.arch)
        weights = permute(one.weights, orders, codec.arch)
        alphas = one.alphas and permute(one.alphas, orders, codec.arch)
        permuted = Data(weights, alphas)
        seen = codec.tokenizer.tokenize(permuted.weights)
        seen = add_noise(noise, seen, s.noise) if s.noise else seen
        return permuted, erase(erased, seen, s.erase) if s.erase else seen

    twice = jax.tree.map(lambda x: jnp.concatenate([x, x]), batch)
    permuted, seen = jax.vmap(view)(twice, drawn[1:])
    # Of the second view nothing but its embedding is wanted.
    first = jax.tree.map(lambda x: x[:size], permuted)
    dropout = drawn[0] if train else None
    _, projected, out = codec.outputs(variables, seen, first.weights, dropout)
    target = codec.tokens(first.weights)
    parts = {
        "contrastive": nt_xent(projected[:size], projected[size:], s.temperature),
        "weights": masked_mse(out[0], target, codec.masks[0]),
    }
    if first.alphas is not None:
        guessed = {name: jnp.tanh(x) for name, x in out[1].items()}
        target = codec.alpha_tokens(first.alphas)
        parts["alphas"] = masked_mse(guessed, target, codec.masks[1])
    reconstruction = parts["weights"] + parts.get("alphas", 0.0)
    parts["loss"] = s.gamma * parts["contrastive"] + (1 - s.gamma) * reconstruction
    return parts["loss"], parts


def epoch_program(codec: Codec, samples: int) -> Callable[[State, Data, Array], tuple[State, dict]]:
    """(state, data, number) -> (state, means of the loss's parts): one epoch, from 1."""
    s, update = codec.settings, optimizer(codec, samples)
    steps, size = steps_of(codec, samples), min(s.batch_size, samples)

    def run(state: State, data: Data, number: Array) -> tuple[State, dict]:
        order = keys.permutation(keys.stream_key(s.seed, "order", number), samples)
        views = keys.stream_key(s.seed, "views", number)

        def step(state: State, inputs: tuple[Array, Array]):
            chosen, index = inputs
            batch = jax.tree.map(lambda x: x[chosen], data)
            key = jax.random.fold_in(views, index)
            (_, parts), gradient = jax.value_and_grad(
                lambda v: objective(codec, v, batch, key, True), has_aux=True
            )(state.variables)
            changes, moments = update.update(
                gradient, state.optimizer, state.variables, value=parts["loss"]
            )
            variables = optax.apply_updates(state.variables, changes)
            return State(cast(Variables, variables), moments), parts

        batches = order[: steps * size].reshape(steps, size)
        state, parts = jax.lax.scan(step, state, (batches, jnp.arange(steps)))
        return state, {name: jnp.mean(x) for name, x in parts.items()}

    return run


def validation_program(codec: Codec, samples: int) -> Callable[[Variables, Data], dict[str, Array]]:
    """(variables, data) -> means of the loss's parts, of the same views every time."""
    size = min(codec.settings.batch_size, samples)
    steps = samples // size
    key = keys.stream_key(codec.settings.seed, "views")

    def run(variables: Variables, data: Data) -> dict[str, Array]:
        def step(_, inputs):
            rows, index = inputs
            batch = jax.tree.map(lambda x: x[rows], data)
            return None, objective(codec, variables, batch, jax.random.fold_in(key, index), False)[
                1
            ]

        rows = keys.permutation(key, samples)[: steps * size].reshape(steps, size)
        parts = jax.lax.scan(step, None, (rows, jnp.arange(steps)))[1]
        return {name: jnp.mean(x) for name, x in parts.items()}

    return run
