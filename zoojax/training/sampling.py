"""Predictions with the noise of training: sampled pre-activations, or sampled gates."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh

from zoojax import keys
from zoojax.runtime import population, signals
from zoojax.runtime.population import vmap_members
from zoojax.sparsifiers.base import Sparsifier
from zoojax.storage.states import split_state
from zoojax.storage.zoo import Zoo
from zoojax.training import engine, loop
from zoojax.training.blocks import MemberBlock, gather_in_order, make_blocks
from zoojax.training.inputs import checked_images
from zoojax.training.programs import ProgramSpec

# Images per forward pass.
_BATCH = 64


def has_noise(sparsifier: Sparsifier) -> bool:
    """Whether the sparsifier adds noise in training, which evaluation leaves out."""
    return sparsifier.samples_layers or sparsifier.draws_noise


def sampled_predictions(zoo: Zoo, images: np.ndarray, epoch: int | None = None) -> np.ndarray:
    """Predicts classes with the noise of the sparsifier, as in training.

    Each image gets one draw, and parameters are not thresholded. Dropout is off.

    Args:
        zoo: A twin whose sparsifier `has_noise`.
        images: Images normalized like those of the zoo, [n, H, W, C] floating point.
        epoch: Epoch to predict with; None for the newest.

    Returns:
        Predicted classes, [members, n] uint16. They depend on the member's seed, the epoch and the
        position of the image.

    Raises:
        ZoojaxError: If there is no such epoch, it is damaged, or the images have the wrong shape
            or type.
    """
    images = checked_images(zoo.config.shape, images)
    epoch = zoo.newest_epoch if epoch is None else epoch
    mesh = population.make_mesh()
    parts = split_state(zoo.config, zoo.state(epoch))
    blocks = make_blocks(zoo.config, zoo.members_table, mesh, parts, None)
    replicated = population.replicate(images, mesh)

    def run_block(block: MemberBlock) -> np.ndarray:
        program = _program(block.spec, mesh)
        result = program(block.state, block.hyperparams, replicated, jnp.int32(epoch))
        return signals.run_interruptible(np.asarray, result)

    return gather_in_order(blocks, list(map(run_block, blocks)))


@functools.cache
def _program(spec: ProgramSpec, mesh: Mesh) -> Callable[..., Array]:
    """A jitted (states, hyperparams, images, epoch) -> predicted classes [members, n] uint16."""

    def predict_member(state, hyperparams, images, epoch):
        logits = _sampled_logits(spec, state, hyperparams, images, epoch)
        return jnp.argmax(logits, axis=-1).astype(jnp.uint16)

    return jax.jit(vmap_members(predict_member, mesh, (0, 0, None, None)))


def _sampled_logits(
    spec: ProgramSpec,
    state: loop.TrainState,
    hyperparams: loop.Hyperparams,
    images: Array,
    epoch: Array,
) -> Array:
    """Logits of one member, [n, classes]."""
    n, sparsifier = images.shape[0], spec.sparsifier
    steps = -(-n // _BATCH)
    key = keys.stream_key(hyperparams.seed, "sampling", epoch)
    # Padding repeats the last image.
    index = jnp.minimum(jnp.arange(steps * _BATCH, dtype=jnp.int32), n - 1).reshape(steps, _BATCH)

    def body(_, xs):
        step, rows = xs
        noise = keys.step_noise(key, step, spec.architecture.noise_slots)

        def loss(params, variances=None):
            variables = {"params": params, **state.collections}
            logits = engine.sampled_outputs(
                *(spec.architecture, spec.activation, spec.engine, variables, variances),
                *(images, rows, noise),
            )
            return jnp.float32(0), logits

        own_key = (jax.random.fold_in(key, step),) if sparsifier.draws_noise else ()
        return None, sparsifier.objective(loss, state.trainable, state.fixed, epoch, *own_key)[1]

    xs = jnp.arange(steps, dtype=jnp.int32), index
    logits = jax.lax.scan(body, None, xs)[1]
    return logits.reshape(-1, logits.shape[-1])[:n]
