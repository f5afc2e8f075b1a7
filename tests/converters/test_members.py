"""The members table: hyperparameters, seeds, ratios, notes and parents of members."""

import json
import shutil

import numpy as np
import polars as pl
import pytest
import torch

from tests.support.conversions import (
    assert_round_trip,
    assert_verified,
    converted,
    load_tensors,
    place,
)
from tests.support.torch_zoos import (
    checkpoint,
    config,
    rows,
    state,
    trial_name,
    trials,
    write_trial,
    write_zoo,
)
from zoojax.converters.zoo_to_torch import write_trials
from zoojax.errors import ZoojaxError


def test_missing_epochs(tmp_path):
    root = write_zoo(tmp_path / "root", members=3, epochs=[0, 1, 2])
    shutil.rmtree(checkpoint(trials(root)[1], 1).parent)
    zoo = converted(root, tmp_path / "zoo").zoo
    assert zoo.members_table["missing_epochs"].to_list() == [[], [1], []]
    assert zoo.metrics.filter(pl.col("epoch") == 1)["member"].to_list() == [0, 2]
    kernels = zoo.params(1)["conv1"]["kernel"]
    assert np.isnan(kernels[1]).all()
    assert np.isfinite(kernels[[0, 2]]).all()
    assert_verified(zoo, root)
    assert assert_round_trip(zoo, root, tmp_path / "back") == 8


def test_metrics_of_resumed_and_crashed_trials(tmp_path):
    root = write_zoo(tmp_path / "root", members=2, epochs=[0, 1])
    first, second = trials(root)
    content = config(1)
    (first / "result.json").write_text(
        rows([1, 0], content) + rows([7], content).replace("7}", "1}") + '{"cut": '
    )
    (second / "result.json").unlink()
    (second / "progress.csv").write_text("training_iteration,test_acc,train_acc\n1,0.5,0.75\n")
    zoo = converted(root, tmp_path / "zoo").zoo
    accuracies = zoo.metrics.sort("member", "epoch")["test_acc"].to_list()
    assert accuracies == [0, pytest.approx(0.7), None, 0.5]
    assert "broken line" in zoo.members_table["notes"][0]
    assert zoo.metrics.sort("member", "epoch")["ggap"].to_list()[2:] == [None, 0.25]


def test_unreadable_params_fall_back_to_the_other_members(tmp_path):
    root = write_zoo(tmp_path / "root", members=3, epochs=[0])
    broken = trials(root)[1]
    (broken / "params.json").write_text("{")
    (broken / "result.json").unlink()
    zoo = converted(root, tmp_path / "zoo").zoo
    assert zoo.members_table["learning_rate"].to_list() == [0.0003] * 3
    assert zoo.members_table["seed"].to_list() == [1, 2, 3]
    notes = zoo.members_table["notes"].to_list()
    assert notes[0] == notes[2] == ""
    assert "params.json is unreadable" in notes[1]
    assert "activation taken from the other members" in notes[1]


@pytest.mark.parametrize("value", [None, [1], {}, "fast", True], ids=str)
def test_unknown_hyperparameter(tmp_path, value):
    write_trial(tmp_path / "root", 1, {0: state(1)}, config(1, **{"optim::lr": value}))
    with pytest.raises(ZoojaxError, match=f"{trial_name(1)} .*learning_rate.*--preset"):
        converted(tmp_path / "root", tmp_path / "zoo")
    zoo = converted(tmp_path / "root", tmp_path / "zoo", defaults={"learning_rate": 0.5}).zoo
    assert zoo.members_table["learning_rate"].to_list() == [0.5]


def test_momentum_and_schedule(tmp_path):
    """Reported by the trials, or the defaults; kept when the zoo is converted back."""
    root = tmp_path / "root"
    sgd = {"optim::optimizer": "SGD"}
    changes = [
        sgd | {"optim::momentum": 0.5, "optim::scheduler": "OneCycleLR"},
        sgd | {"optim::scheduler": "Unheard\x1b[2J"},
        {"optim::momentum": "none", "optim::optimizer": "AdamW"},
    ]
    for number, change in enumerate(changes, start=1):
        write_trial(root, number, {0: state(number)}, config(number, **change))
    zoo = converted(root, tmp_path / "zoo").zoo
    expected = [("sgd", 0.5, "one_cycle"), ("sgd", 0.9, "constant"), ("adamw", 0.9, "constant")]
    assert zoo.members_table.select("optimizer", "momentum", "schedule").rows() == expected
    assert zoo.members_table["notes"].to_list() == ["", "schedule Unheard\\x1b[2J is unknown", ""]
    write_trials(zoo, tmp_path / "trials")
    files = (tmp_path / "trials").rglob("params.json")
    written = [json.loads(file.read_text())["optim::scheduler"] for file in files]
    assert sorted(written) == ["OneCycleLR", "constant", "constant"]
    back = converted(tmp_path / "trials", tmp_path / "back").zoo
    assert sorted(back.members_table.select("optimizer", "momentum", "schedule").rows()) == sorted(
        expected
    )


@pytest.mark.parametrize(
    "value, seed",
    [
        (3, 3),
        (3.0, 3),
        ("3", 3),
        (None, 1),
        (2**32 - 1, 2**32 - 1),
        *(
            (invalid, None)
            for invalid in ([1], "\u00b2", 10**30, 2**32, -1, 1.5, True, "x" * 10**6)
        ),
    ],
    ids=lambda value: str(value)[:20],
)
def test_invalid_seeds_are_null_and_noted(tmp_path, value, seed):
    for number in (1, 2):
        write_trial(tmp_path / "root", number, {0: state(1)}, config(number, seed=value))
    zoo = converted(tmp_path / "root", tmp_path / "zoo").zoo
    note = zoo.members_table["notes"][1]
    if value is None:
        assert zoo.members_table["seed"].to_list() == [1, 2]
        assert note == ""
    else:
        assert zoo.members_table["seed"].to_list() == [seed, seed]
        assert (" is not an integer from 0 to 4294967295" in note) == (seed is None)
        # Two unknown seeds may be different ones.
        assert ("same seed" in note) == (seed is not None)


def test_duplicate_members_are_noted(tmp_path):
    for name in ("A_trainable_1", "B_trainable_2"):
        write_trial(tmp_path / "root", 5, {0: state(1)}, name=name)
    zoo = converted(tmp_path / "root", tmp_path / "zoo").zoo
    assert zoo.members_table["notes"].to_list() == [
        "",
        "same seed and hyper-parameters as A_trainable_1",
    ]


@pytest.mark.parametrize("amount", [None, 50, -1, 1.0, "half", [0.5], True], ids=str)
def test_unreported_ratio_is_computed_from_the_masks(tmp_path, amount):
    root = write_zoo(tmp_path / "root", kind="mp", epochs=[0])
    content = json.loads((trials(root)[1] / "params.json").read_text())
    content |= {"prune::amount": amount}
    (trials(root)[1] / "params.json").write_text(json.dumps(content))
    zoo = converted(root, tmp_path / "zoo").zoo
    assert zoo.members_table["ratio"].to_list() == [0.5, 0.5]
    assert zoo.members_table["notes"][0] == ""
    assert zoo.members_table["notes"][1].endswith("ratio 0.5 taken from its masks")


def test_fully_pruned_member_needs_a_reported_ratio(tmp_path):
    root = write_zoo(tmp_path / "root", kind="mp", epochs=[0])
    content = config(1, "mp")
    (trials(root)[0] / "params.json").write_text(json.dumps(content))
    tensors = load_tensors(checkpoint(trials(root)[0], 0))
    tensors |= {k: torch.zeros_like(v) for k, v in tensors.items() if k.endswith("_mask")}
    torch.save(tensors, checkpoint(trials(root)[0], 0))
    done = converted(root, tmp_path / "zoo")
    assert done.rejected == {
        place(1, 0): "its masks leave no weight, and it reports no prune::amount"
    }


@pytest.mark.parametrize("name, value", [
    ("training::batchsize", [1]), ("training::batchsize", 0), ("training::batchsize", 1e300),
    ("model::dropout", 1.0), ("optim::lr", -1), ("optim::wd", float("inf")),
    ("optim::lr", 10**400), ("model::nlin", "tanh\ud800"),
    ("training::init_checkpoint_path", "/a/\ud800\x1b[31m"),
])  # fmt: skip
def test_invalid_hyperparameters_are_replaced(tmp_path, name, value):
    root = write_zoo(tmp_path / "root", epochs=[0])
    content = config(1) | {name: value}
    (trials(root)[0] / "params.json").write_text(json.dumps(content))
    zoo = converted(root, tmp_path / "zoo").zoo
    assert zoo.config.batch_size == 10
    settings = ["activation", "learning_rate", "weight_decay", "dropout"]
    assert zoo.members_table.select(settings).rows() == [("tanh", 0.0003, 0.001, 0.0)] * 2


def test_twins_are_linked_by_the_trial_they_name(tmp_path):
    dense = converted(write_zoo(tmp_path / "d", members=3, epochs=[0]), tmp_path / "dense").zoo
    for seed, named in ((1, 3), (2, 2)):
        path = f"/old/place/{trial_name(named)}/"
        content = config(seed, "vd", **{"training::init_checkpoint_path": path})
        write_trial(tmp_path / "v", seed, {0: state(seed, "vd")}, content)
    zoo = converted(tmp_path / "v", tmp_path / "vd", parent=dense).zoo
    assert zoo.members_table["parent_id"].to_list() == [2, 1]
    assert zoo.config.parent is not None
    assert zoo.config.parent.fingerprint == dense.fingerprint


def test_twins_of_another_zoo_are_refused(tmp_path):
    dense = converted(write_zoo(tmp_path / "d", members=1, epochs=[0]), tmp_path / "dense").zoo
    twins = write_zoo(tmp_path / "m", members=2, kind="mp", epochs=[0])
    with pytest.raises(ZoojaxError, match=r"1 twin\(s\) match no single dense member"):
        converted(twins, tmp_path / "mp", parent=dense)
    assert not (tmp_path / "mp").exists()
    zoo = converted(twins, tmp_path / "mp").zoo
    with pytest.raises(ZoojaxError, match="is itself a twin"):
        converted(twins, tmp_path / "other", parent=zoo)
