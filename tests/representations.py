"""Tiny hyper-representations of made-up zoos, for several test files.

They have one epoch, but are as they were before it: compiling their training would take
longer than the tests that ask for no more than any representation.
"""

from dataclasses import replace
from unittest import mock

import jax.numpy as jnp
import made_up_zoos
import pytest
import zoos

from zoojax import Zoo
from zoojax.grid import Grid
from zoojax.hyper_representation import learning
from zoojax.hyper_representation.representation import Representation
from zoojax.hyper_representation.settings import Settings

SETTINGS = Settings(width=16, heads=2, layers=1, feed_forward=16, latent=8, epochs=1, batch_size=4)
MEMBERS, EPOCHS = 9, 3


def learn(*arguments, **options) -> Representation:
    """As `learning.learn`, but that nothing is learned."""

    def train(codec, samples):
        return lambda state, data, number: (state, {"loss": jnp.float32(1)})

    def validate(codec, samples):
        return lambda variables, data: {"loss": jnp.float32(1)}

    programs = {"epoch_program": train, "validation_program": validate}
    with mock.patch.multiple(learning, **programs):
        return learning.learn(*arguments, **options)


@zoos.once
def dense(factory: pytest.TempPathFactory) -> Zoo:
    """Nine members on the tiny images."""
    path = factory.mktemp("represented") / "dense"
    grid = Grid(inits=("kaiming_uniform",), learning_rates=(1e-2,))
    return made_up_zoos.dense(path, MEMBERS, grid, spec=zoos.spec(factory))


@zoos.once
def twin(factory: pytest.TempPathFactory) -> Zoo:
    """Its variational-dropout twin."""
    parent = dense(factory)
    return made_up_zoos.dropped_out(parent.path.with_name("vd"), parent, EPOCHS)


@zoos.once
def reconstructing(factory: pytest.TempPathFactory) -> Representation:
    """Learned from all states of the twin."""
    zoo = twin(factory)
    return learn(zoo.path.with_name("reconstructing"), zoo, SETTINGS)


@zoos.once
def sparsifying(factory: pytest.TempPathFactory) -> Representation:
    """Learned to predict the twin's last log alphas."""
    zoo, settings = twin(factory), replace(SETTINGS, task="sparsify")
    return learn(zoo.path.with_name("sparsifying"), zoo, settings, alphas_of=EPOCHS)


@zoos.once
def without_alphas(factory: pytest.TempPathFactory) -> Representation:
    """Learned from the dense zoo."""
    zoo = dense(factory)
    return learn(zoo.path.with_name("weights"), zoo, SETTINGS, weights_only=True)
