"""A zoo does not open under another network that is registered by the same name."""

import functools
import json
from dataclasses import replace
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import pytest

from tests.support import zoo_fixtures
from tests.support.damage import assert_read_fails
from tests.support.weight_zoos import random_zoo, twin_of
from zoojax import concat, open_zoo, register_architecture, sparsify, train_zoo
from zoojax.architectures import (
    Activation,
    Chain,
    Conv,
    Dense,
    Flatten,
    LinenArchitecture,
    MaxPool,
    registry,
)
from zoojax.architectures.base import Architecture
from zoojax.architectures.definitions import Definition, definition, difference
from zoojax.publishing.publish import publish
from zoojax.storage.zoo_config import ZooConfig

CHAIN_NAME = "chain-8-c2x3-relu-m2-f-d"
# The logits of `Net`, which are the same for all activations.
RECORDED = [1.6002, 0.16412, 0.96492, 0.32181, 1.7332, 0.16727, 1.1041, 0.20096]


class Net(nn.Module):
    classes: int
    stride: int = 2
    slope: float = 0.0
    scale: float = 1.0

    @nn.compact
    def __call__(self, images):
        x = nn.Conv(2, (3, 3), strides=self.stride, name="conv")(images)
        x = nn.leaky_relu(x, self.slope) * self.scale
        return nn.Dense(self.classes, name="head")(x.mean((1, 2)))


class Moved(nn.Module):
    """The function of `Net`, written in another way."""

    classes: int

    @nn.compact
    def __call__(self, images):
        x = jax.nn.relu(nn.Conv(2, (3, 3), strides=2, name="conv")(images))
        return nn.Dense(self.classes, name="head")(x.sum((1, 2)) / 16)


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    """The registry, which a test may change."""
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))
    return registry._registered


def chain(activation: str | None = "relu", name: str = "own") -> Chain:
    layers = Conv(2, 3), Activation(activation), MaxPool(2), Flatten(), Dense(10)
    return Chain(name, 8, 1, 10, layers)


def module(network: nn.Module) -> LinenArchitecture:
    return LinenArchitecture("own", 8, 1, 10, network)


def register(registered: dict, arch: Architecture) -> None:
    """Registers a network as if in a new session."""
    registered.pop("own", None)
    register_architecture("own", lambda channels, classes: arch)


def stored(zoo) -> dict:
    return json.loads((zoo.path / "zoo.json").read_text("utf-8"))


def zoo_of(registered: dict, arch: Architecture, path):
    register(registered, arch)
    config = ZooConfig("own", "own", 1, 10, None, None, 1, 10, "member", 4).defined()
    return random_zoo(path, "own", members=2, epochs=1, definition=config.definition)


def test_other_layers_are_refused(tmp_path, registered):
    zoo = zoo_of(registered, chain(), tmp_path / "zoo")
    assert stored(zoo)["definition"] == {"layers": CHAIN_NAME}
    register(registered, chain())
    assert open_zoo(zoo.path).fingerprint == zoo.fingerprint
    register(registered, chain("tanh"))
    named = "own is registered with another network", CHAIN_NAME, "chain-8-c2x3-tanh-m2-f-d"
    assert_read_fails(lambda: open_zoo(zoo.path), zoo.path, *named)
    # A zoo that was opened before, too.
    assert_read_fails(lambda: zoo.config.shape, "zoo random", *named)
    register(registered, LinenArchitecture("own", 8, 1, 10, Net(10)))
    assert_read_fails(lambda: open_zoo(zoo.path), zoo.path, CHAIN_NAME, "a module instead of")


@pytest.mark.parametrize("other", [Net(10, stride=1), Net(10, slope=0.1), Net(10, scale=1.01)])
def test_other_modules_are_refused(tmp_path, registered, other):
    zoo = zoo_of(registered, module(Net(10)), tmp_path / "zoo")
    assert len(stored(zoo)["definition"]["logits"]) == 16
    register(registered, module(Moved(10)))
    assert len(open_zoo(zoo.path)) == 2
    register(registered, module(other))
    named = "own is registered with another network", "logits of the same weights and images differ"
    assert_read_fails(lambda: open_zoo(zoo.path), zoo.path, *named)


def test_older_zoos_open(tmp_path, registered):
    register(registered, chain())
    zoo = random_zoo(tmp_path / "zoo", "own", members=2, epochs=1)
    assert "definition" not in stored(zoo)
    newer = zoo_of(registered, chain(), tmp_path / "newer")
    assert newer.config.shape == open_zoo(zoo.path).config.shape
    # The same members: the definition is not part of the identity.
    same = replace(zoo.config, definition=newer.config.definition)
    assert type(zoo)(zoo.path, same).fingerprint == zoo.fingerprint
    for both in (concat([zoo, newer]), concat([newer, zoo])):
        assert both.config.definition == Definition(layers=CHAIN_NAME)
    register(registered, chain("tanh"))
    assert_read_fails(lambda: concat([zoo, newer]), "zoo random", CHAIN_NAME)


def test_twins_copies_views_and_data_sets_have_it(tmp_path, registered):
    zoo = zoo_of(registered, module(Net(10)), tmp_path / "zoo")
    twin = twin_of(tmp_path / "twin", zoo, epoch=0)
    copy, selected = zoo.save(tmp_path / "copy"), zoo[:1].save(tmp_path / "selected")
    folder = publish(zoo, twin, out=tmp_path / "published")
    found = [open_zoo(each) for each in (folder, folder / "twins" / "twin")]
    for each in (twin, copy, selected, concat([zoo, copy]), *found):
        assert each.config.definition == zoo.config.definition is not None
    register(registered, module(Net(10, stride=1)))
    for path in (twin.path, copy.path, selected.path, folder, folder / "twins" / "twin"):
        assert_read_fails(
            functools.partial(open_zoo, path), path, "own is registered with another network"
        )


def test_trained_zoos_have_it(tmp_path_factory, tmp_path, registered):
    """It is stored, and resuming and extending keep what is stored."""
    register(registered, module(Net(10)))
    data = zoo_fixtures.images(tmp_path_factory)
    options: dict[str, Any] = {"architecture": "own", "batch_size": 32, "quiet": True, "chunk": 2}

    def train(members: int, epochs: int):
        out = tmp_path / "zoo"
        return train_zoo(data=data, out=out, members=members, epochs=epochs, **options)

    zoo = train(1, 1)
    content, file = stored(zoo), zoo.path / "zoo.json"
    assert len(content["definition"]["logits"]) == 16
    # As from a machine that sums in another order.
    logits = [value * (1 + 1e-5) for value in content["definition"]["logits"]]
    content["definition"] = {"logits": logits}
    file.write_text(json.dumps(content), "utf-8")
    assert train(1, 1).fingerprint == zoo.fingerprint
    train(1, 2)
    assert len(train(2, 2)) == 2
    assert stored(zoo)["definition"] == content["definition"]
    pruned = sparsify(zoo.path, "magnitude_pruning", tmp_path / "twin", epochs=0, quiet=True)
    assert stored(pruned)["definition"] == content["definition"]
    options["architecture"] = "mlp-4"
    assert_read_fails(lambda: train(2, 2), "created with architecture=own, but mlp-4 was requested")
    options["architecture"] = "own"
    register(registered, module(Net(10, slope=0.5)))
    assert_read_fails(lambda: train(2, 2), zoo.path, "own is registered with another network")


@pytest.mark.parametrize("name", ["small", "mlp-8", "resnet18-4", "siren", CHAIN_NAME])
def test_networks_of_zoojax_need_none(name):
    config = ZooConfig("own", name, 1, 10, None, None, 1, 10, "member", 4)
    assert config.defined() is config
    assert "definition" not in config.to_json()


def test_networks_without_finite_logits_have_none():
    assert definition(module(Net(10, scale=float("inf")))) is None


@pytest.mark.parametrize(
    "value",
    [
        *(3, "", CHAIN_NAME, [], [0.5], {}, {"name": "own"}, {"layers": None}, {"logits": None}),
        *({"layers": each} for each in (3, "", "chain", "Chain-8-f-d", [], "chain-8\n")),
        *({"logits": each} for each in (0.5, [], ["a"], [None], [[0.5]], {}, [0.5] * 65)),
        {"layers": CHAIN_NAME, "logits": [0.5]},
    ],
)
def test_damaged_definitions_are_refused(tmp_path, registered, value):
    zoo = zoo_of(registered, chain(), tmp_path / "zoo")
    content = stored(zoo)
    (zoo.path / "zoo.json").write_text(json.dumps(content | {"definition": value}), "utf-8")
    assert_read_fails(lambda: open_zoo(zoo.path), zoo.path / "zoo.json")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_numbers_that_no_network_has(value):
    arch = module(Net(10))
    recorded = definition(arch)
    assert recorded is not None and recorded.logits is not None
    assert difference(arch, recorded) is None
    changed, shorter = (value, *recorded.logits[1:]), recorded.logits[1:]
    assert difference(arch, Definition(logits=changed)) is not None
    found = difference(arch, Definition(logits=shorter))
    assert found == "16 logits of fixed weights and images instead of 15"


def test_logits_stay_the_same():
    """Zoos hold them, so they must not change with versions of zoojax or NumPy."""
    recorded = definition(module(Net(10)))
    assert recorded is not None and recorded.logits is not None
    np.testing.assert_allclose(recorded.logits, RECORDED * 2, rtol=1e-3)
