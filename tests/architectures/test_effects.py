"""Hyperparameters that networks ignore."""

from collections.abc import Callable

import flax.linen as nn
import numpy as np
import pytest

from zoojax import LogUniform, Uniform, ZoojaxError, train_zoo
from zoojax.architectures import (
    Activation,
    Chain,
    Dense,
    Dropout,
    Flatten,
    LinenArchitecture,
    registry,
)
from zoojax.architectures.effects import EFFECTS
from zoojax.architectures.layers import INITS
from zoojax.architectures.registry import architecture, register_architecture

ALL = {"activation", "dropout", "init"}


class Fixed(nn.Module):
    """Has fields for the hyperparameters, which it ignores, and dropout at a rate of its own."""

    classes: int
    activation: Callable = nn.tanh
    kernel_init: Callable = INITS["uniform"]

    @nn.compact
    def __call__(self, images, dropout_rate=None, train=False):
        x = nn.relu(nn.Dense(4)(images.reshape(len(images), -1)))
        return nn.Dense(self.classes)(nn.Dropout(0.5, deterministic=not train)(x))


class Free(Fixed):
    @nn.compact
    def __call__(self, images, noise=None, dropout_rate=None):
        x = nn.Dense(4, kernel_init=self.kernel_init)(images.reshape(len(images), -1))
        x = self.activation(x)
        if dropout_rate is not None:
            x = x * (1 - dropout_rate)
        return nn.Dense(self.classes)(x)


def chain(*layers):
    return Chain("own", 8, 1, 10, (Flatten(), Dense(4), *layers, Dense(10)))


def module(network: nn.Module) -> LinenArchitecture:
    return LinenArchitecture("own", 8, 1, 10, network)


@pytest.mark.parametrize(
    ("arch", "used"),
    [
        (chain(Activation("relu")), {"init"}),
        (chain(Activation(), Activation("relu")), {"init", "activation"}),
        (chain(Activation(omega=2.0)), {"init", "activation"}),
        (chain(Dropout()), {"init", "dropout"}),
        (module(Fixed(10)), set()),
        (module(Free(10)), ALL),
        (architecture("small", 1), ALL),
        (architecture("vit-8-1-2-4-8", 1), ALL),
        (architecture("siren-4", 1), {"init"}),
    ],
)
def test_hyperparameters_that_a_network_uses(arch, used):
    assert {name for name, has_effect in EFFECTS.items() if has_effect(arch)} == used


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("activation", ["tanh", "relu"]),
        ("init", ["uniform", "normal", "orthogonal"]),
        ("dropout", Uniform(0, 0.5)),
    ],
)
def test_members_that_would_be_the_same_are_refused(monkeypatch, tmp_path, name, values):
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))
    register_architecture("own", lambda channels, classes: module(Fixed(classes)))
    images, labels = np.zeros((40, 8, 8), np.uint8), np.arange(40) % 10
    options = {"data": (images, labels), "epochs": 0, "quiet": True, "architecture": "own"}
    with pytest.raises(ZoojaxError) as caught:
        train_zoo(out=tmp_path / "zoo", members=2, **options, **{name: values})
    assert str(caught.value).startswith(f"{name} has no effect on the own network, but members")
    assert "\n" not in str(caught.value) and not (tmp_path / "zoo").exists()
    # One value of each, and several of those that have an effect.
    zoo = train_zoo(members=2, activation="relu", learning_rate=LogUniform(1e-4, 1e-2), **options)
    assert zoo.members["activation"].to_list() == ["relu", "relu"]
