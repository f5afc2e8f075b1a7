"""Tiny hyper-representations of synthetic zoos, shared by several test files.

Their single epoch is complete, but the network is untrained: compiling the training program would
take longer than most of the tests, which need no trained network.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import jax.numpy as jnp
import pytest

from tests.support import synthetic_zoos, zoo_fixtures
from zoojax import Zoo
from zoojax.hyper_representation import trainer
from zoojax.hyper_representation.representation import Representation
from zoojax.hyper_representation.settings import Settings
from zoojax.hyperparameters.grid import Grid
from zoojax.storage.writer import create_or_resume
from zoojax.storage.zoo_config import ZooConfig

SETTINGS = Settings(width=16, heads=2, layers=1, feed_forward=16, latent=8, epochs=1, batch_size=4)
MEMBERS, EPOCHS = 9, 3


def _train(codec, samples):
    return lambda state, data, queries, epoch: (state, {"loss": jnp.float32(1)})


def _validate(codec, samples):
    return lambda variables, data, queries: {"loss": jnp.float32(1)}


# Programs of `trainer` that do not train.
STUBS: dict[str, Any] = {"epoch_program": _train, "validation_program": _validate}


def train_stub(*arguments, **options) -> Representation:
    """Calls `trainer.train_autoencoder` without training the network."""
    with mock.patch.multiple(trainer, **STUBS):
        return trainer.train_autoencoder(*arguments, **options)


@zoo_fixtures.once
def dense(factory: pytest.TempPathFactory) -> Zoo:
    """A dense zoo of nine members on the tiny images."""
    path = factory.mktemp("represented") / "dense"
    grid = Grid(inits=("kaiming_uniform",), learning_rates=(1e-2,))
    return synthetic_zoos.dense(path, MEMBERS, grid, spec=zoo_fixtures.spec(factory))


@zoo_fixtures.once
def twin(factory: pytest.TempPathFactory) -> Zoo:
    """The variational-dropout twin of the dense zoo."""
    parent = dense(factory)
    return synthetic_zoos.variational_dropout(parent.path.with_name("vd"), parent, EPOCHS)


@zoo_fixtures.once
def reconstructing(factory: pytest.TempPathFactory) -> Representation:
    """Reconstructs weights and log alphas; trained on all states of the twin."""
    zoo = twin(factory)
    return train_stub(zoo.path.with_name("reconstructing"), zoo, SETTINGS)


@zoo_fixtures.once
def sparsifying(factory: pytest.TempPathFactory) -> Representation:
    """Predicts the log alphas of the twin's last epoch."""
    zoo, settings = twin(factory), replace(SETTINGS, task="sparsify")
    return train_stub(zoo.path.with_name("sparsifying"), zoo, settings, alphas_of=EPOCHS)


@zoo_fixtures.once
def without_alphas(factory: pytest.TempPathFactory) -> Representation:
    """Reconstructs weights only; trained on the dense zoo."""
    zoo = dense(factory)
    return train_stub(zoo.path.with_name("weights"), zoo, SETTINGS, weights_only=True)


def large(path: Path) -> Zoo:
    """A zoo of another architecture."""
    config = ZooConfig("large", "large", 3, 10, None, None, 0, 10, "member", 16, None)
    table = replace(Grid(), seeds=MEMBERS).members(1)
    with create_or_resume(path, config, table) as writer:
        params = synthetic_zoos._params(config, table["seed"].to_list())
        rows = synthetic_zoos.metrics(config, table, 0, 0.5, 0.0)
        writer.append(0, {"params": params}, None, rows)
    return writer.zoo
