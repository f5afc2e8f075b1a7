"""Zoos are bit-identical for any number of processes and devices."""

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from tests.support import torch_zoos, zoo_fixtures
from tests.support.processes import (
    SEVEN,
    assert_same_bits,
    finish,
    start,
    start_together,
    train_arguments,
)
from zoojax import Zoo, ZoojaxError, open_zoo
from zoojax.runtime import distributed
from zoojax.storage import zoo_images
from zoojax.training import inference

RATIOS = (0.5, 0.9)


@zoo_fixtures.once
def seven(factory) -> Zoo:
    """Seven members, trained for two epochs by this process on two devices."""
    return zoo_fixtures.train(factory, factory.mktemp("seven") / "dense", SEVEN)


@zoo_fixtures.once
def seven_distributed(factory) -> Zoo:
    """The same by two processes with two devices each; only process 0 prints results."""
    out = factory.mktemp("together") / "dense"
    outputs = finish(start_together(factory, 2, 2, *train_arguments(factory, out), "--json"))
    assert json.loads(outputs[0][0])["rows"][0]["members"] == 7
    assert outputs[1][0] == ""
    assert "epoch 2/2" in outputs[0][1] and "epoch" not in outputs[1][1]
    return open_zoo(out)


def test_dense_zoos_are_bit_identical(tmp_path_factory):
    """Seven members on two processes: one has an additional member. Padding is not saved."""
    zoo = seven_distributed(tmp_path_factory)
    assert_same_bits(zoo, seven(tmp_path_factory))
    assert zoo.params(2)["fc1"]["kernel"].shape == (7, 36, 20)


@pytest.mark.parametrize("kind", ["mp", pytest.param("vd", marks=pytest.mark.slow)])
def test_twins_are_bit_identical(tmp_path_factory, tmp_path, kind):
    parent = seven(tmp_path_factory)
    options = {"epochs": zoo_fixtures.EPOCHS, "chunk": zoo_fixtures.CHUNK, "learning_rate": 1e-2}
    if kind == "mp":
        expected = zoo_fixtures.prune(tmp_path / "alone", parent, RATIOS, **options)
        method = ("magnitude-pruning", parent.path, "--ratios", *RATIOS)
    else:
        expected = zoo_fixtures.train_variational(tmp_path / "alone", parent, **options)
        method = ("variational-dropout", parent.path)
    arguments = ("--epochs", zoo_fixtures.EPOCHS, "--chunk", zoo_fixtures.CHUNK)
    arguments += ("--learning-rate", 1e-2)
    out = tmp_path / "together"
    finish(start_together(tmp_path_factory, 2, 2, "sparsify", *method, *arguments, "--out", out))
    assert_same_bits(open_zoo(out), expected)


@zoo_fixtures.once
def two_optimizers(factory) -> Zoo:
    """Three members with Adam, followed by three with SGD."""
    grid = replace(zoo_fixtures.GRID, optimizers=("adam", "sgd"))
    zoo = zoo_fixtures.train(factory, factory.mktemp("optimizers") / "dense", grid, epochs=0)
    assert zoo.members_table["optimizer"].to_list() == ["adam"] * 3 + ["sgd"] * 3
    return zoo


@pytest.mark.parametrize("members", [5, pytest.param(6, marks=pytest.mark.slow)])
def test_processes_with_different_optimizers(tmp_path_factory, tmp_path, members):
    """Six members: Adam on one process, SGD on the other. Five: one has an additional member."""
    parent = two_optimizers(tmp_path_factory)
    options = {"epochs": 2, "chunk": zoo_fixtures.CHUNK, "learning_rate": 1e-2, "members": members}
    expected = zoo_fixtures.prune(tmp_path / "alone", parent, [0.5], **options)
    command = ("sparsify", "magnitude-pruning", parent.path, "--ratios", 0.5, "--epochs", 2)
    command += ("--chunk", zoo_fixtures.CHUNK, "--learning-rate", 1e-2, "--members", members)
    out = tmp_path / "together"
    finish(start_together(tmp_path_factory, 2, 2, *command, "--out", out))
    assert_same_bits(open_zoo(out), expected)


def test_evaluation_is_identical(tmp_path_factory):
    zoo = seven_distributed(tmp_path_factory)
    outputs = finish(
        start_together(tmp_path_factory, 2, 1, "evaluate", zoo.path, "--members", "--json")
    )
    rows = pl.DataFrame(json.loads(outputs[0][0])["rows"])
    assert outputs[1][0] == ""
    expected = inference.evaluate(zoo, zoo_images.load_images(zoo, None))
    assert rows["id"].to_list() == list(range(7))
    for name in ("train_loss", "test_acc", "sparsity"):
        assert rows[name].to_numpy().astype(np.float32).tolist() == expected[name].to_list()


def test_converted_torch_zoo_is_identical(tmp_path_factory, tmp_path):
    """Two processes convert three members; one checkpoint is damaged."""
    root = torch_zoos.write_zoo(tmp_path / "torch", members=3)
    broken = sorted(torch_zoos.trials(root)[0].glob("checkpoint_*/checkpoints"))[0]
    broken.write_bytes(b"no state")
    arguments = ("convert", "from-torch", root, "--name", "tiny", "--out")
    finish([start(tmp_path_factory, 1, *arguments, tmp_path / "alone")])
    outputs = finish(start_together(tmp_path_factory, 2, 1, *arguments, tmp_path / "together"))
    assert "rejected: 1" in outputs[0][0] and outputs[1][0] == ""
    a, b = open_zoo(tmp_path / "together"), open_zoo(tmp_path / "alone")
    assert (
        a.epochs == b.epochs
        and a.metrics.equals(b.metrics)
        and a.members_table.equals(b.members_table)
    )
    for epoch in a.epochs:
        assert zoo_fixtures.same_bits(a.state(epoch), b.state(epoch))
    assert (a.path / "rejects.csv").read_bytes() == (b.path / "rejects.csv").read_bytes()


def test_complete_zoo(tmp_path_factory):
    """All processes succeed; process 0 prints a note and the table."""
    arguments = train_arguments(tmp_path_factory, seven_distributed(tmp_path_factory).path)
    (table, note), (other_table, other_note) = finish(
        start_together(tmp_path_factory, 2, 1, *arguments)
    )
    assert "test_acc" in table and not other_table
    assert "already complete (epoch 2)" in note and "already complete" not in other_note


@pytest.mark.parametrize("members", [1, 5, 7, 1000])
def test_local_rows_contain_every_member_once(monkeypatch, members):
    for count in (1, 2, 3, 4):
        monkeypatch.setattr(distributed, "process_count", lambda n=count: n)
        rows = []
        for index in range(count):
            monkeypatch.setattr(distributed, "process_index", lambda i=index: i)
            if members < count:
                with pytest.raises(ZoojaxError, match=f"start at most {members}"):
                    distributed.local_rows(members)
            else:
                rows += range(members)[distributed.local_rows(members)]
        assert members < count or rows == list(range(members))
