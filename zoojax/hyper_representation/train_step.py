"""The training program of the autoencoder: one epoch is one XLA program over on-device data."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from zoojax import keys
from zoojax.hyper_representation.augmentation import add_noise, draw_permutation, erase, permute
from zoojax.hyper_representation.codec import Codec, Variables
from zoojax.hyper_representation.losses import divergence, masked_mse, nt_xent
from zoojax.hyper_representation.tokens import Tokens

_PLATEAU_PATIENCE, _PLATEAU_FACTOR = 10, 0.5
_WARMUP_FRACTION = 0.05


class Data(NamedTuple):
    """Training samples, see `Codec.targets`.

    Attributes:
        weights: Normalized weights, [n, ...].
        alphas: Scaled log alphas, [n, ...]; None without log alphas.
        probed: Normalized probabilities of the classes of the probes, [n, probed]; None without
            probes.
        answers: Log probabilities of the (thresholded) members on the queries,
            [n, queries, classes]; None without a loss of behavior.
    """

    weights: dict
    alphas: dict | None
    probed: Array | None = None
    answers: Array | None = None


class State(NamedTuple):
    """Variables of the network and state of the optimizer."""

    variables: Variables
    optimizer: Any


def make_optimizer(codec: Codec, samples: int) -> optax.GradientTransformationExtraArgs:
    """Creates Adam with the configured schedule and with weight decay as in torch.optim.Adam.

    Args:
        codec: The autoencoder.
        samples: Number of training samples.
    """
    s, steps = codec.settings, steps_per_epoch(codec, samples)
    adam = optax.chain(optax.add_decayed_weights(s.weight_decay), optax.scale_by_adam())
    if s.schedule == "plateau":
        plateau = optax.contrib.reduce_on_plateau(
            factor=_PLATEAU_FACTOR, patience=_PLATEAU_PATIENCE, accumulation_size=steps
        )
        return optax.chain(adam, optax.scale(-s.learning_rate), plateau)
    total = max(2, steps * s.epochs)
    rate = optax.warmup_cosine_decay_schedule(
        0.0, s.learning_rate, max(1, round(_WARMUP_FRACTION * total)), total
    )
    return optax.with_extra_args_support(optax.chain(adam, optax.scale_by_learning_rate(rate)))


def steps_per_epoch(codec: Codec, samples: int) -> int:
    """Returns the number of full batches, so that all samples have equally many negatives."""
    return max(1, samples // codec.settings.batch_size)


def init(codec: Codec, samples: int) -> State:
    """Creates the untrained state for a number of training samples."""
    variables = codec.init(keys.stream_key(codec.settings.seed, "init"))
    return State(variables, make_optimizer(codec, samples).init(variables["params"]))


def objective(
    codec: Codec, variables: Variables, batch: Data, queries: Array, key: Array, train: bool
) -> tuple[Array, dict[str, Array]]:
    """Computes equation 6 and its terms for two views of a batch; the first is reconstructed.

    Args:
        codec: The autoencoder.
        variables: Variables of its network.
        batch: Samples, [B, ...]; their answers are those to the queries.
        queries: Query images, [q, H, W, C].
        key: Random key of the views and of dropout.
        train: Whether to apply dropout.

    Returns:
        The loss, and its terms: "loss", "contrastive", "weights", "alphas" (with log alphas),
        "probes" (with probes) and "behavior" (with answers).
    """
    s, size = codec.settings, jax.tree.leaves(batch.weights)[0].shape[0]
    view_keys = jax.random.split(key, 2 * size + 1)

    def view(one: Data, key: Array) -> tuple[Data, Tokens]:
        order, noise, erased = jax.random.split(key, 3)
        orders = draw_permutation(order, codec.arch)
        weights = permute(one.weights, orders, codec.arch)
        alphas = one.alphas and permute(one.alphas, orders, codec.arch)
        permuted = one._replace(weights=weights, alphas=alphas)
        seen = codec.tokenizer.tokenize(permuted.weights)
        seen = add_noise(noise, seen, s.noise) if s.noise else seen
        return permuted, erase(erased, seen, s.erase) if s.erase else seen

    twice = jax.tree.map(lambda x: jnp.concatenate([x, x]), batch)
    permuted, seen = jax.vmap(view)(twice, view_keys[1:])
    # The second view is only embedded, not reconstructed.
    first = jax.tree.map(lambda x: x[:size], permuted)
    dropout = view_keys[0] if train else None
    _, projected, out, probed = codec.outputs(
        variables, seen, permuted.probed, first.weights, dropout
    )
    target = codec.tokens(first.weights)
    parts = {
        "contrastive": nt_xent(projected[:size], projected[size:], s.temperature),
        "weights": masked_mse(out[0], target, codec.masks[0]),
    }
    if first.alphas is not None:
        predicted = {name: jnp.tanh(x) for name, x in out[1].items()}
        target = codec.alpha_tokens(first.alphas)
        parts["alphas"] = masked_mse(predicted, target, codec.masks[1])
    reconstruction = parts["weights"] + parts.get("alphas", 0.0)
    if probed is not None:
        parts["probes"] = jnp.mean(jnp.square(probed - first.probed))
        reconstruction += s.probe_loss * parts["probes"]
    if first.answers is not None:
        answers = codec.behavior(codec.thresholded(out), queries)
        parts["behavior"] = divergence(first.answers, answers)
        reconstruction += s.behavior * parts["behavior"]
    parts["loss"] = s.gamma * parts["contrastive"] + (1 - s.gamma) * reconstruction
    return parts["loss"], parts


def _with_queries(codec: Codec, batch: Data, queries: Array, key: Array) -> tuple[Data, Array]:
    """Draws the queries of a step, and selects their answers."""
    if batch.answers is None:
        return batch, queries
    count = min(codec.settings.queries, queries.shape[0])
    drawn = jax.random.randint(key, (count,), 0, queries.shape[0])
    return batch._replace(answers=batch.answers[:, drawn]), queries[drawn]


def epoch_program(
    codec: Codec, samples: int
) -> Callable[[State, Data, Array, Array], tuple[State, dict]]:
    """Creates the program of one training epoch.

    Args:
        codec: The autoencoder.
        samples: Number of training samples.

    Returns:
        (state, data, queries, epoch) -> (state, mean of each loss term). Epochs count from 1.
    """
    s, optimizer = codec.settings, make_optimizer(codec, samples)
    steps, size = steps_per_epoch(codec, samples), min(s.batch_size, samples)

    def run(state: State, data: Data, queries: Array, epoch: Array) -> tuple[State, dict]:
        order = keys.permutation(keys.stream_key(s.seed, "order", epoch), samples)
        views = keys.stream_key(s.seed, "views", epoch)

        def step(state: State, inputs: tuple[Array, Array]):
            rows, index = inputs
            key = jax.random.fold_in(views, index)
            batch = jax.tree.map(lambda x: x[rows], data)
            batch, images = _with_queries(codec, batch, queries, jax.random.fold_in(key, 0))
            variables, params = state.variables, state.variables["params"]
            (_, parts), gradient = jax.value_and_grad(
                lambda p: objective(codec, {**variables, "params": p}, batch, images, key, True),
                has_aux=True,
            )(params)
            updates, optimizer_state = optimizer.update(
                gradient, state.optimizer, params, value=parts["loss"]
            )
            updated = optax.apply_updates(params, updates)
            return State({**variables, "params": updated}, optimizer_state), parts

        batches = order[: steps * size].reshape(steps, size)
        state, parts = jax.lax.scan(step, state, (batches, jnp.arange(steps)))
        return state, {name: jnp.mean(x) for name, x in parts.items()}

    return run


def validation_program(
    codec: Codec, samples: int
) -> Callable[[Variables, Data, Array], dict[str, Array]]:
    """Creates the validation program, which uses the same views at every epoch.

    Args:
        codec: The autoencoder.
        samples: Number of validation samples.

    Returns:
        (variables, data, queries) -> mean of each loss term.
    """
    size = min(codec.settings.batch_size, samples)
    steps = samples // size
    key = keys.stream_key(codec.settings.seed, "views")

    def run(variables: Variables, data: Data, queries: Array) -> dict[str, Array]:
        def step(_, inputs):
            rows, index = inputs
            step_key = jax.random.fold_in(key, index)
            batch = jax.tree.map(lambda x: x[rows], data)
            batch, images = _with_queries(codec, batch, queries, jax.random.fold_in(step_key, 0))
            return None, objective(codec, variables, batch, images, step_key, False)[1]

        rows = keys.permutation(key, samples)[: steps * size].reshape(steps, size)
        parts = jax.lax.scan(step, None, (rows, jnp.arange(steps)))[1]
        return {name: jnp.mean(x) for name, x in parts.items()}

    return run
