"""Small zoos and twins of every architecture and sparsifier, for the contract tests."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import pytest

from tests.support import zoo_fixtures
from zoojax import Grid, Sparsifier, Zoo, open_zoo, sparsify, train_zoo
from zoojax.architectures import registry as architecture_registry
from zoojax.architectures.registry import architecture
from zoojax.sparsifiers import registry as sparsifier_registry
from zoojax.sparsifiers.registry import sparsifiers
from zoojax.training.trainer import Progress

GRID = Grid(inits=("kaiming_uniform",), learning_rates=(1e-2,), seeds=2)
EPOCHS = 2
_zoos: dict[tuple, Zoo] = {}


class Interruption(Exception):
    """Raised by a progress callback."""


def after_one_epoch(progress: Progress) -> None:
    """Interrupts training in its second epoch."""
    if progress.epoch == 2:
        raise Interruption


def register_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Registers the architectures and sparsifiers of a user, for one test."""
    known = dict(architecture_registry._registered)
    monkeypatch.setattr(architecture_registry, "_registered", known)
    monkeypatch.setattr(sparsifier_registry, "_registered", dict(sparsifiers()))
    # Importing the modules registers them only once in a process.
    from tests.support.plugins.mlp import MLP
    from tests.support.plugins.moving_mask import MovingMask
    from tests.support.plugins.residual_cnn import ResidualCNN

    for name, kind in (("mlp", MLP), ("residual_cnn", ResidualCNN)):
        known[name] = functools.partial(kind, name, 28)
    sparsifier_registry.register_sparsifier(MovingMask)


def options_of(name: str) -> Sparsifier:
    """A sparsifier with its default options; of those with several values, the first and last."""
    default = sparsifiers()[name]()
    values = {field.name: getattr(default, field.name) for field in dataclasses.fields(default)}
    several = {option: v for option, v in values.items() if isinstance(v, tuple)}
    return dataclasses.replace(default, **{k: (v[0], v[-1]) for k, v in several.items()})


def train(factory: pytest.TempPathFactory, out: Any, name: str, **changes: Any) -> Zoo:
    """Trains a dense zoo with an architecture, in chunks of two."""
    shape, spec = architecture(name, 1), zoo_fixtures.spec(factory)
    if not shape.task.has_own_images:
        spec = dataclasses.replace(spec, size=shape.size)
    options = {"grid": GRID, "epochs": EPOCHS, "chunk": 2, "quiet": True, **changes}
    return train_zoo(None, out, name=name, architecture=name, data=spec, **options)


def dense(factory: pytest.TempPathFactory, name: str) -> Zoo:
    """A dense zoo with two members, trained for two epochs."""
    key = factory.getbasetemp(), name
    if key not in _zoos:
        _zoos[key] = train(factory, factory.mktemp("contract") / name, name)
    return _zoos[key]


def create_twin(factory: pytest.TempPathFactory, name: str, sparsifier: str, out: Any, **changes):
    """Sparsifies `dense`, one member per device at a time."""
    options = {"epochs": EPOCHS, "chunk": 1, "quiet": "report" not in changes, **changes}
    return sparsify(dense(factory, name), options_of(sparsifier), out, **options)


def twin(factory: pytest.TempPathFactory, name: str, sparsifier: str) -> Zoo:
    """The twin of `dense`: two members per parent if there are per-member options."""
    key = factory.getbasetemp(), name, sparsifier
    if key not in _zoos:
        out = dense(factory, name).path.with_name(f"{name}-{sparsifier}")
        _zoos[key] = create_twin(factory, name, sparsifier, out)
    return _zoos[key]


def interrupted_and_resumed(out: Any, create: Callable[..., Zoo]) -> Zoo:
    """Interrupts a run after its first epoch, and resumes it."""
    with pytest.raises(Interruption):
        create(out, report=after_one_epoch)
    assert open_zoo(out).newest_epoch < EPOCHS
    return create(out)
