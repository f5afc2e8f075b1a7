"""States that cannot be converted are rejected with a reason; all others are converted."""

import os
import shutil

import pytest
import torch

from tests.support.conversions import (
    NOISE,
    converted,
    load_tensors,
    place,
    read_rejects,
)
from tests.support.torch_zoos import checkpoint, state, trials, write_trial, write_zoo
from zoojax.architectures.cnn import small_cnn
from zoojax.converters.sources import from_trials
from zoojax.converters.verification import verify
from zoojax.errors import ZoojaxError


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return os.mkdir, (self.marker,)


def damages(marker) -> dict:
    """Functions that damage the file of a state, and the expected reasons."""

    def changed(change):
        def damage(file):
            tensors = load_tensors(file)
            change(tensors)
            torch.save(tensors, file)

        return damage

    def fill(value):
        return changed(lambda t: t["module_list.3.weight"].view(-1)[:1].fill_(value))

    name = "module_list.0.weight"
    return {
        "truncated": (lambda f: f.write_bytes(f.read_bytes()[:-100]), "truncated"),
        "empty": (lambda f: f.write_bytes(b""), "empty"),
        "gone": (lambda f: f.unlink(), "cannot be read"),
        "folder": (lambda f: (f.unlink(), f.mkdir()), "a folder"),
        "text": (lambda f: f.write_text("not torch"), "not a torch file"),
        "nan": (fill(float("nan")), "not finite"),
        "inf": (fill(float("inf")), "not finite"),
        "shape": (changed(lambda t: t.update({name: torch.zeros(8, 1, 5, 4)})), "no known network"),
        "bias": (changed(lambda t: t.update({"module_list.0.bias": torch.zeros(7)})), "has shape"),
        "extra": (changed(lambda t: t.update(extra=torch.zeros(1))), "extra is of no known layer"),
        "missing": (changed(lambda t: t.pop("module_list.0.bias")), "is missing"),
        "double": (changed(lambda t: t.update({name: t[name].double() / 3})), "float64"),
        "nested": (
            lambda f: torch.save({"a": {"b": {"c": {"d": load_tensors(f)}}}}, f),
            "not a tensor",
        ),
        "list": (lambda f: torch.save([1, 2], f), "not a state dict"),
        "number": (changed(lambda t: t.update({"a.\u00b2.weight": torch.zeros(1)})), ""),
        "integers": (changed(lambda t: t.update({name: t[name].long()})), "is int64"),
        "payload": (lambda f: torch.save({"x": Payload(marker)}, f), "mkdir"),
        "legacy-payload": (
            lambda f: torch.save(Payload(marker), f, _use_new_zipfile_serialization=False),
            "mkdir",
        ),
    }


@pytest.mark.parametrize("how", list(damages("")))
@pytest.mark.parametrize("epoch", [0, 1])
def test_damaged_state_is_rejected_and_the_rest_converted(three_trials, tmp_path, how, epoch):
    root = shutil.copytree(three_trials, tmp_path / "root")
    damage, reason = damages(tmp_path / "marker")[how]
    damage(checkpoint(trials(root)[1], epoch))
    done = converted(root, tmp_path / "zoo")
    assert list(done.rejected) == [place(2, epoch)]
    assert reason in done.rejected[place(2, epoch)]
    assert read_rejects(done.zoo) == done.rejected
    assert (len(done.zoo), done.states) == (3, 5)
    rest = done.zoo.metrics.select("member", "epoch").rows()
    assert sorted(rest) == sorted({(m, e) for m in range(3) for e in range(2)} - {(1, epoch)})
    assert not (tmp_path / "marker").exists()
    assert verify(done.zoo, from_trials(root), NOISE, sample=None).missing == [place(2, epoch)]


def test_member_without_valid_states_is_left_out(three_trials, tmp_path):
    root = shutil.copytree(three_trials, tmp_path / "root")
    for epoch in (0, 1):
        checkpoint(trials(root)[1], epoch).write_bytes(b"")
    done = converted(root, tmp_path / "zoo")
    assert done.rejected == {place(2, 0): "empty", place(2, 1): "empty"}
    assert done.zoo.members_table["seed"].to_list() == [1, 3]


def test_no_valid_state_at_all(tmp_path):
    root = write_zoo(tmp_path / "root", members=1, epochs=[0])
    checkpoint(trials(root)[0], 0).write_bytes(b"")
    with pytest.raises(ZoojaxError, match=r"no state can be converted.*empty"):
        converted(root, tmp_path / "zoo")
    assert not (tmp_path / "zoo").exists()


@pytest.mark.parametrize("epoch", [0, 1])
def test_strict_mode_stops_at_the_first_rejection(three_trials, tmp_path, epoch):
    root = shutil.copytree(three_trials, tmp_path / "root")
    checkpoint(trials(root)[1], epoch).write_bytes(b"")
    with pytest.raises(ZoojaxError, match=f"{place(2, epoch)}: empty"):
        converted(root, tmp_path / "zoo", select={"strict": True})


def test_strict_mode_stops_at_another_kind(tmp_path):
    root = write_zoo(tmp_path / "root", members=2, epochs=[0])
    write_trial(root, 9, {0: state(9, "vd")})
    with pytest.raises(ZoojaxError, match=f"{place(9, 0)}: variational"):
        converted(root, tmp_path / "zoo", select={"strict": True})


def test_members_of_another_network_or_kind_are_rejected(tmp_path):
    root = write_zoo(tmp_path / "root", members=2, epochs=[0])
    write_trial(root, 7, {0: state(7, net=small_cnn(3, 10))})
    write_trial(root, 8, {0: state(8, "mp")})
    done = converted(root, tmp_path / "zoo")
    assert done.rejected == {
        place(7, 0): "dense small CNN, 3 channel(s), 10 classes; the zoo's network is: "
        "dense small CNN, 1 channel(s), 10 classes",
        place(8, 0): "pruned small CNN, 1 channel(s), 10 classes; the zoo's network is: "
        "dense small CNN, 1 channel(s), 10 classes",
    }
    assert len(done.zoo) == 2


def test_mask_values_other_than_0_and_1_are_rejected(tmp_path):
    root = write_zoo(tmp_path / "root", kind="mp", epochs=[0])
    file = checkpoint(trials(root)[0], 0)
    tensors = load_tensors(file)
    tensors["module_list.0.weight_mask"][0] = 0.5
    torch.save(tensors, file)
    (reason,) = converted(root, tmp_path / "zoo").rejected.values()
    assert reason == "module_list.0.weight_mask has values other than 0 and 1"


def test_filters(tmp_path):
    root = write_zoo(tmp_path / "root", members=3, epochs=[1, 2, 3])
    file = checkpoint(trials(root)[2], 2)
    tensors = load_tensors(file)
    tensors["module_list.0.bias"][0] = -77.5
    torch.save(tensors, file)
    select = {
        "epochs": (2, 3, 99),
        "where": "seed > 1",
        "max_abs_weight": 50.0,
        "min_accuracy": 0.25,
    }
    done = converted(root, tmp_path / "zoo", select=select)
    assert done.zoo.members_table["seed"].to_list() == [2, 3]
    assert done.zoo.metrics.select("member", "epoch").rows() == [(0, 3), (1, 3)]
    assert done.rejected == {
        place(2, 2): "its test accuracy is 0.2",
        place(3, 2): "its largest weight is 77.5",
    }


@pytest.mark.parametrize("where", ["no_column = 1", "seed >", "seed", "seed = 100"])
def test_invalid_or_unmatched_where_expression(three_trials, tmp_path, where):
    with pytest.raises(ZoojaxError, match="--where"):
        converted(three_trials, tmp_path / "zoo", select={"where": where})


def test_no_requested_epoch_exists(three_trials, tmp_path):
    with pytest.raises(ZoojaxError, match="none of the requested epochs"):
        converted(three_trials, tmp_path / "zoo", select={"epochs": (9,)})


@pytest.mark.parametrize(
    "select",
    [{"max_abs_weight": 1e-9}, {"min_accuracy": 0.99}],
    ids=["weight", "accuracy"],
)
def test_no_zoo_remains_if_every_state_is_rejected(three_trials, tmp_path, select):
    with pytest.raises(ZoojaxError, match=r"every state is rejected.* x its .*seed=1") as caught:
        converted(three_trials, tmp_path / "zoo", select=select)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
