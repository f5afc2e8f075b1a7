"""Hyper-representations as Python functions; the commands call the same functions."""

import dataclasses
from unittest import mock

import pytest

from tests.support import representations, zoo_fixtures
from zoojax import Zoo, ZoojaxError, hyper_representation
from zoojax.hyper_representation import (
    Representation,
    evaluate_representation,
    sample_zoo,
    sparsify_zero_shot,
    train_representation,
)
from zoojax.hyper_representation.settings import PRESETS


@pytest.fixture
def twin(tmp_path_factory) -> Zoo:
    return representations.twin(tmp_path_factory)


@pytest.fixture
def sparsifying(tmp_path_factory) -> Representation:
    return representations.sparsifying(tmp_path_factory)


def test_public_names_resolve():
    for name in hyper_representation.__all__:
        assert getattr(hyper_representation, name).__name__ == name
    assert set(hyper_representation._PUBLIC) == set(hyper_representation.__all__)
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = hyper_representation.no_such_thing


def test_options_become_settings(twin, tmp_path, monkeypatch):
    """And `report` replaces the progress on standard error."""
    monkeypatch.setitem(PRESETS, "small", representations.SETTINGS)
    calls = []
    target = "zoojax.hyper_representation.api.train_autoencoder"
    with mock.patch(target, representations.train_stub):
        trained = train_representation(
            str(twin.path), tmp_path / "rep", task="sparsify", latent=4, seed=3, report=calls.append
        )
    settings, config = trained.config.settings, trained.config
    assert (settings.task, settings.latent, settings.seed) == ("sparsify", 4, 3)
    assert settings.precision == "float32" and settings.width == representations.SETTINGS.width
    assert config.alphas_of == representations.EPOCHS
    assert [call.epoch for call in calls] == [0, 1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "huge"}, "^preset is 'huge'; give one of paper, small$"),
        ({"task": "guess"}, "^task is 'guess'; give one of reconstruct, sparsify$"),
        ({"tokens": "word"}, "^tokens is 'word'; give one of chunk, neuron$"),
        ({"precision": "float8"}, "^precision is 'float8'; give one of bfloat16, float32$"),
        ({"epochs": "3"}, "^epochs is 3; give a whole number$"),
        ({"learning_rate": "fast"}, "^learning_rate is fast; give a number$"),
        ({"out": None}, "^out is None; give the path"),
        ({"zoos": [None]}, "^zoo is None; give a zoo or the folder of one$"),
    ],
)
def test_invalid_arguments(twin, tmp_path, options, message):
    with pytest.raises(ZoojaxError, match=message):
        train_representation(**{"zoos": twin, "out": tmp_path / "rep", **options})
    assert not list(tmp_path.iterdir())


def test_zero_shot_twin_with_and_without_a_comparison(
    twin, sparsifying, tmp_path_factory, tmp_path, capsys
):
    """Opened objects or folders; a zoo that was trained on another twin has no comparison."""
    dense = representations.dense(tmp_path_factory)
    options = {"ratios": (0.5,), "chunk": zoo_fixtures.CHUNK, "quiet": True}
    result = sparsify_zero_shot(
        sparsifying.path, str(dense.path), tmp_path / "zero", zoo=twin, **options
    )
    assert (len(result.zoo), result.parent.path, result.note) == (len(dense), dense.path, None)
    assert result.comparison is not None and "predicted" in result.comparison["method"].to_list()
    alone = zoo_fixtures.copied(dense, tmp_path / "alone")
    with mock.patch.object(
        Representation, "training_zoos", side_effect=ZoojaxError("it was moved")
    ):
        other = sparsify_zero_shot(sparsifying, alone, tmp_path / "other", **options)
    assert other.comparison is None and other.note == "it was moved"
    assert capsys.readouterr().err == ""


def test_arguments_that_are_no_representation(twin, tmp_path):
    for call in (
        lambda: evaluate_representation(None),  # pyright: ignore
        lambda: sample_zoo(None, 1, tmp_path / "zoo"),  # pyright: ignore
        lambda: sparsify_zero_shot(None, twin, tmp_path / "zoo"),  # pyright: ignore
    ):
        with pytest.raises(ZoojaxError, match=r"^representation is None; give a hyper-representat"):
            call()


def test_parameters_of_another_shape(twin, sparsifying):
    for params, message in (
        (5, "params: 'conv1' is missing"),
        (twin.member(0), r"conv1/\w+ has shape"),
    ):
        for method in (sparsifying.embed, sparsifying.reconstruct, sparsifying.log_alphas):
            with pytest.raises(ZoojaxError, match=message):
                method(params)


def test_training_zoo_that_was_in_memory(sparsifying):
    zoo = dataclasses.replace(sparsifying.config.zoos[0], path="unknown")
    config = dataclasses.replace(sparsifying.config, zoos=[zoo])
    with (
        mock.patch.object(sparsifying, "config", config),
        pytest.raises(ZoojaxError, match="does not record the folder of its training zoo; give it"),
    ):
        evaluate_representation(sparsifying)
