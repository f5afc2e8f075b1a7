"""Torch zoos become zoojax zoos, to the bit, and what cannot is rejected by name."""

import copy
import csv
import json
import os
import shutil

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.torch_zoos import (
    SMALL,
    checkpoint,
    config,
    rows,
    state,
    trial_name,
    trials,
    write_trial,
    write_zoo,
)
from tests.support.zoo_fixtures import bits, same_bits
from zoojax import analysis, open_zoo, prune_zoo
from zoojax.architectures.base import architecture
from zoojax.cli.convert import _defaults, to_image_set
from zoojax.converters.members import Selection
from zoojax.converters.pickled_datasets import read_image_set
from zoojax.converters.rejects import read as rejected_before
from zoojax.converters.rejects import write as write_rejects
from zoojax.converters.sources import from_dataset, from_trials
from zoojax.converters.torch_to_zoo import REJECTS, Conversion, convert
from zoojax.converters.zoo_to_torch import verify, write_trials
from zoojax.errors import ZoojaxError
from zoojax.runtime import population
from zoojax.storage.writer import ZooWriter
from zoojax.text import is_printable

DENSE, VD, MP = "tune_zoo_usps_uniform", "cnn_small_usps_ard", "cnn_small_usps_mp"
SOME = (0, 1, 25, 50)
NOISE = np.random.default_rng(0).standard_normal((4, 28, 28, 1), np.float32)


def converted(root, out, **options) -> Conversion:
    """A root of trial folders, converted."""
    selection = Selection(**options.pop("select", {}))
    return convert(from_trials(root), out, name="zoo", selection=selection, **options)


def rejects(zoo) -> dict[str, str]:
    """rejects.csv."""
    with (zoo.path / REJECTS).open(newline="") as file:
        return {row["state"]: row["reason"] for row in csv.DictReader(file)}


def place(seed: int, epoch: int) -> str:
    """How a state is named."""
    return f"{trial_name(seed)}/checkpoint_{epoch:06d}/checkpoints"


def assert_verified(zoo, root, images=NOISE) -> None:
    """Every state of the root is in the zoo, to the bit."""
    found = verify(zoo, from_trials(root), images, sample=None)
    assert (found.unequal, found.missing) == ([], [])
    assert found.difference <= 1e-5


def load(file) -> dict[str, torch.Tensor]:
    """What plain torch reads."""
    return torch.load(file, weights_only=True)


def assert_round_trip(zoo, root, to, keep_masks=False, epochs=None) -> int:
    """Back to torch, every state is what it was: names, order, bits. How many there are."""
    write_trials(zoo, to, epochs=epochs, keep_masks=keep_masks)
    files = sorted(f.relative_to(to) for f in to.glob("*/checkpoint_*/checkpoints"))
    for file in files:
        ours, original = load(to / file), load(root / file)
        assert list(ours) == list(original), file
        for name, tensor in original.items():
            assert ours[name].dtype == tensor.dtype
            assert ours[name].numpy().tobytes() == tensor.numpy().tobytes(), (file, name)
    return len(files)


def same_zoo(a, b) -> bool:
    """All but the optimiser, which converted zoos have none of."""
    return (
        a.epochs == b.epochs
        and all(same_bits(a.state(e, raw=True), b.state(e, raw=True)) for e in a.epochs)
        and same_bits(bits(a.metrics), bits(b.metrics))
        and a.members.equals(b.members)
        and a.fingerprint == b.fingerprint
        and rejects(a) == rejects(b)
    )


# The reference zoo


@pytest.fixture(scope="module")
def usps(reference, tmp_path_factory):
    """The dense reference zoo, converted whole with its images."""
    root = reference / DENSE
    file = root / "dataset.pt"
    images = to_image_set(read_image_set(file), file)
    out = tmp_path_factory.mktemp("reference") / "dense"
    return converted(root, out, images=(None, images)).zoo


@pytest.fixture(scope="module")
def usps_twins(reference, usps):
    """Its twins by kind, converted whole."""
    return {
        kind: converted(reference / root, usps.path.with_name(kind), parent=usps).zoo
        for kind, root in {"vd": VD, "mp": MP}.items()
    }


def test_reference_dense(usps, reference, tmp_path):
    assert (len(usps), usps.epochs, len(usps.metrics)) == (4, list(range(51)), 4 * 51)
    assert usps.config.kind == "dense"
    assert usps.members_table["seed"].to_list() == [1, 2, 3, 4]
    assert rejects(usps) == {}
    assert assert_round_trip(usps, reference / DENSE, tmp_path, epochs=SOME) == 4 * len(SOME)


@pytest.mark.parametrize("kind, root, states", [("vd", VD, 4 * 26), ("mp", MP, 20 * 2)])
def test_reference_twins(usps, usps_twins, reference, tmp_path, kind, root, states):
    zoo = usps_twins[kind]
    assert (zoo.config.kind, len(zoo.metrics)) == (kind, states)
    seeds = dict(usps.members_table.select("id", "seed").iter_rows())
    assert [seeds[p] for p in zoo.members_table["parent_id"]] == zoo.members_table["seed"].to_list()
    epochs = None if kind == "mp" else [0, 1, 25]
    written = assert_round_trip(zoo, reference / root, tmp_path, kind == "mp", epochs)
    assert written == (states if epochs is None else 4 * len(epochs))


def test_reference_curves_are_of_every_epoch_that_was_measured(usps_twins, reference):
    zoo = usps_twins["mp"]
    reported = {
        (trial, row["training_iteration"]): row
        for trial in zoo.members_table["trial"]
        for row in map(
            json.loads, (reference / MP / trial / "result.json").read_text().splitlines()
        )
    }
    trial = dict(zoo.members_table.select("id", "trial").iter_rows())
    rows = zoo.metrics_history.to_dicts()
    assert len(rows) == len(reported) == 20 * 16
    for row in rows:
        told = reported[trial[row["member"]], row["epoch"]]
        for name in ("train_loss", "train_acc", "test_loss", "test_acc"):
            assert row[name] == np.float32(told[name])
        # The trials report the ratio that they were pruned to, the zoo counts whole weights.
        assert row["sparsity"] == pytest.approx(told["sparsity_ratio"], abs=5e-4)
        assert (row["sparsity_conv1"] is None) == (row["epoch"] not in zoo.epochs)
    curve = analysis.summary(zoo)
    assert curve["epoch"].to_list() == 5 * list(range(16))
    assert curve["test_acc_mean"].is_not_null().all()
    assert analysis.layer_sparsity(zoo)["epoch"].unique().sort().to_list() == [0, 15]


def test_reference_is_verified_on_its_own_images(usps, usps_twins, reference):
    from zoojax.storage.zoo_images import load_images

    images = load_images(usps, None).test.images[:16]
    for zoo, root in ((usps, DENSE), (usps_twins["vd"], VD), (usps_twins["mp"], MP)):
        found = verify(zoo, from_trials(reference / root), images, sample=12)
        assert (found.states, found.images) == (12, 16)
        assert (found.unequal, found.missing) == ([], [])
        assert 0 <= found.difference <= 1e-5


def test_reference_metrics_are_those_of_their_epoch(usps, reference):
    for trial, member in usps.members_table.select("trial", "id").iter_rows():
        text = (reference / DENSE / trial / "result.json").read_text()
        reported = {
            r["training_iteration"]: r["test_acc"] for r in map(json.loads, text.splitlines())
        }
        ours = usps.metrics.filter(pl.col("member") == member)
        for epoch, accuracy in ours.select("epoch", "test_acc").iter_rows():
            assert accuracy == np.float32(reported[epoch])


def test_reference_data_set_holds_the_same_parameters(usps, reference, tmp_path):
    sources = from_dataset(reference / "dataset_usps_seed.pt")
    done = convert(sources, tmp_path / "pt", name="pt", defaults=_defaults("usps-s-seed"))
    zoo = done.zoo
    assert zoo.epochs == [5, 15, 25]
    assert set(zoo.members_table["split"]) <= {"train", "val", "test"}
    order = {trial: i for i, trial in enumerate(usps.members_table["trial"])}
    chosen = np.array([order[trial] for trial in zoo.members_table["trial"]])
    members = dict(zip(zoo.members_table["id"], range(len(zoo)), strict=True))
    for epoch in zoo.epochs:
        present = zoo.metrics.filter(pl.col("epoch") == epoch)["member"]
        there = np.array([members[m] for m in present])
        ours = population.take(zoo.params(epoch), there)
        assert same_bits(ours, population.take(usps.params(epoch), chosen[there]))
    assert verify(zoo, sources, NOISE, sample=5).unequal == []


def test_reference_images_are_kept_and_twins_train_on_them(usps, reference, tmp_path):
    assert usps.config.data is None
    with np.load(usps.path / "images.npz") as file:
        held = {name: file[name].shape[0] for name in file.files if name.endswith("images")}
    assert sorted(held.values()) == [60, 60, 300]
    twin = prune_zoo(tmp_path / "twin", usps, [0.5], epochs=1, chunk=2)
    assert twin.config.data_hash == usps.config.data_hash
    assert twin.metrics.filter(pl.col("epoch") == 1)["test_acc"].is_not_null().all()
    spoiled = shutil.copytree(usps.path, tmp_path / "spoiled")
    with np.load(spoiled / "images.npz") as file:
        arrays = {name: file[name] for name in file.files}
    name = next(n for n in arrays if n.endswith("images"))
    arrays[name] = arrays[name] + arrays[name].dtype.type(1)
    np.savez(spoiled / "images.npz", **arrays)
    with pytest.raises(ZoojaxError, match="hash differs"):
        prune_zoo(tmp_path / "other", open_zoo(spoiled), [0.5], epochs=1)


# Networks, kinds, numberings


@pytest.mark.parametrize("dropouts", [(0.0,), (0.1,), (0.0, 0.1)], ids=["0-3-6", "0-4-8", "mixed"])
@pytest.mark.parametrize(
    "net",
    [SMALL, architecture("small", 3), architecture("large", 3), architecture("small", 1, 26)],
    ids=["small-1", "small-3", "large-3", "26-classes"],
)
def test_every_numbering_comes_back_under_its_own_names(tmp_path, net, dropouts):
    root = write_zoo(tmp_path / "root", net=net, dropouts=dropouts, epochs=[0])
    zoo = converted(root, tmp_path / "zoo").zoo
    assert zoo.config.shape == net
    assert assert_round_trip(zoo, root, tmp_path / "back") == 2
    shape = (2, net.size, net.size, net.channels)
    assert_verified(zoo, root, np.ones(shape, np.float32))


@pytest.mark.parametrize("kind, zoo_kind, variant", [
    ("mp", "mp", None), ("vd", "vd", "released"), ("corrected", "vd", "corrected")
])  # fmt: skip
def test_kinds_of_twins(tmp_path, kind, zoo_kind, variant):
    root = write_zoo(tmp_path / "root", kind=kind, epochs=[0], dropouts=(0.0, 0.1))
    zoo = converted(root, tmp_path / "zoo").zoo
    assert (zoo.config.kind, zoo.config.variant) == (zoo_kind, variant)
    assert assert_round_trip(zoo, root, tmp_path / "back", kind == "mp") == 2
    assert_verified(zoo, root)


def test_what_is_under_a_mask_survives_but_is_not_read(tmp_path):
    root = write_zoo(tmp_path / "root", kind="mp", epochs=[0])
    zoo = converted(root, tmp_path / "zoo").zoo
    raw, read = zoo.state(0, raw=True), zoo.params(0)
    for layer, mask in raw["mask"].items():
        kernel = raw["params"][layer]["kernel"]
        assert (kernel[~mask] != 0).any()
        assert same_bits(read[layer]["kernel"], np.where(mask, kernel, np.float32(0)))
    assert zoo.members_table["ratio"].to_list() == [0.5, 0.5]
    np.testing.assert_allclose(zoo.metrics["sparsity"], 0.5, atol=1e-3)


def test_uninitialised_log_sigma2_bias_is_kept_and_hurts_nobody(tmp_path):
    root = write_zoo(tmp_path / "root", kind="vd", epochs=[0])
    for folder in trials(root):
        tensors = load(checkpoint(folder, 0))
        tensors["module_list.9.log_sigma2_bias"][0] = float("nan")
        torch.save(tensors, checkpoint(folder, 0))
    done = converted(root, tmp_path / "zoo")
    assert done.rejected == {}
    assert set(done.zoo.state(0, raw=True)["unused"]) == {"fc1", "fc2"}
    assert_round_trip(done.zoo, root, tmp_path / "back")


def test_what_params_json_says_of_the_network_is_not_believed(tmp_path):
    lies = {"model::o_dim": 50, "model::channels_in": 3, "model::use_bias": False}
    write_trial(tmp_path / "root", 1, {0: state(1)}, config(1, **lies))
    zoo = converted(tmp_path / "root", tmp_path / "zoo").zoo
    assert (zoo.config.classes, zoo.config.channels) == (10, 1)
    assert_verified(zoo, tmp_path / "root")


# Members


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
    found = zoo.metrics.sort("member", "epoch")["test_acc"].to_list()
    assert found == [0, pytest.approx(0.7), None, 0.5]
    assert "broken line" in zoo.members_table["notes"][0]
    assert zoo.metrics.sort("member", "epoch")["ggap"].to_list()[2:] == [None, 0.25]


def test_unreadable_params_are_taken_from_the_others(tmp_path):
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
def test_a_hyper_parameter_that_nothing_tells(tmp_path, value):
    write_trial(tmp_path / "root", 1, {0: state(1)}, config(1, **{"optim::lr": value}))
    with pytest.raises(ZoojaxError, match=f"{trial_name(1)} .*learning_rate.*--preset"):
        converted(tmp_path / "root", tmp_path / "zoo")
    zoo = converted(tmp_path / "root", tmp_path / "zoo", defaults={"learning_rate": 0.5}).zoo
    assert zoo.members_table["learning_rate"].to_list() == [0.5]


@pytest.mark.parametrize(
    "value, seed",
    [
        (3, 3),
        (3.0, 3),
        ("3", 3),
        (None, 1),
        (2**32 - 1, 2**32 - 1),
        *((odd, None) for odd in ([1], "\u00b2", 10**30, 2**32, -1, 1.5, True, "x" * 10**6)),
    ],
    ids=lambda value: str(value)[:20],
)
def test_odd_seeds(tmp_path, value, seed):
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
        # Of two seeds that are not known nobody can say that they are the same.
        assert ("same seed" in note) == (seed is not None)


def test_members_alike_are_noted(tmp_path):
    for name in ("A_trainable_1", "B_trainable_2"):
        write_trial(tmp_path / "root", 5, {0: state(1)}, name=name)
    zoo = converted(tmp_path / "root", tmp_path / "zoo").zoo
    assert zoo.members_table["notes"].to_list() == [
        "",
        "same seed and hyper-parameters as A_trainable_1",
    ]


@pytest.mark.parametrize("amount", [None, 50, -1, 1.0, "half", [0.5], True], ids=str)
def test_a_ratio_that_no_trial_says_is_that_of_the_masks(tmp_path, amount):
    root = write_zoo(tmp_path / "root", kind="mp", epochs=[0])
    content = json.loads((trials(root)[1] / "params.json").read_text())
    content |= {"prune::amount": amount}
    (trials(root)[1] / "params.json").write_text(json.dumps(content))
    zoo = converted(root, tmp_path / "zoo").zoo
    assert zoo.members_table["ratio"].to_list() == [0.5, 0.5]
    assert zoo.members_table["notes"].to_list() == ["", "ratio 0.5 taken from its masks"]


def test_a_member_without_any_weight_has_no_ratio(tmp_path):
    root = write_zoo(tmp_path / "root", kind="mp", epochs=[0])
    content = config(1, "mp")
    (trials(root)[0] / "params.json").write_text(json.dumps(content))
    tensors = load(checkpoint(trials(root)[0], 0))
    tensors |= {k: torch.zeros_like(v) for k, v in tensors.items() if k.endswith("_mask")}
    torch.save(tensors, checkpoint(trials(root)[0], 0))
    done = converted(root, tmp_path / "zoo")
    assert done.rejected == {place(1, 0): "its masks leave no weight, and it says no prune::amount"}


@pytest.mark.parametrize("name, value", [
    ("training::batchsize", [1]), ("training::batchsize", 0), ("training::batchsize", 1e300),
    ("model::dropout", 1.0), ("optim::lr", -1), ("optim::wd", float("inf")),
    ("optim::lr", 10**400), ("model::nlin", "tanh\ud800"),
    ("training::init_checkpoint_path", "/a/\ud800\x1b[31m"),
])  # fmt: skip
def test_settings_that_no_training_has(tmp_path, name, value):
    root = write_zoo(tmp_path / "root", epochs=[0])
    content = config(1) | {name: value}
    (trials(root)[0] / "params.json").write_text(json.dumps(content))
    zoo = converted(root, tmp_path / "zoo").zoo
    assert zoo.config.batch_size == 10
    settings = ["activation", "learning_rate", "weight_decay", "dropout"]
    assert zoo.members_table.select(settings).rows() == [("tanh", 0.0003, 0.001, 0.0)] * 2


def test_twins_are_linked_by_the_trial_that_they_name(tmp_path):
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
    with pytest.raises(ZoojaxError, match="1 twins have no one dense member"):
        converted(twins, tmp_path / "mp", parent=dense)
    assert not (tmp_path / "mp").exists()
    zoo = converted(twins, tmp_path / "mp").zoo
    with pytest.raises(ZoojaxError, match="is itself a twin"):
        converted(twins, tmp_path / "other", parent=zoo)


# Rejections


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return os.mkdir, (self.marker,)


def spoilers(marker) -> dict:
    """What befalls a state: the file's path, and its tensors, -> nothing; and the reason."""

    def changed(change):
        def spoil(file):
            tensors = load(file)
            change(tensors)
            torch.save(tensors, file)

        return spoil

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
        "extra": (changed(lambda t: t.update(extra=torch.zeros(1))), "extra is of no known"),
        "missing": (changed(lambda t: t.pop("module_list.0.bias")), "is missing"),
        "double": (changed(lambda t: t.update({name: t[name].double()})), "float64"),
        "nested": (lambda f: torch.save({"model": load(f)}, f), "not a tensor"),
        "list": (lambda f: torch.save([1, 2], f), "not a state dict"),
        "number": (changed(lambda t: t.update({"a.\u00b2.weight": torch.zeros(1)})), ""),
        "payload": (lambda f: torch.save({"x": Payload(marker)}, f), "mkdir"),
        "legacy-payload": (
            lambda f: torch.save(Payload(marker), f, _use_new_zipfile_serialization=False),
            "mkdir",
        ),
    }


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """A root of three members, two epochs."""
    return write_zoo(tmp_path_factory.mktemp("three") / "root", members=3)


@pytest.mark.parametrize("how", list(spoilers("")))
@pytest.mark.parametrize("epoch", [0, 1])
def test_a_bad_state_is_rejected_and_the_rest_converted(three, tmp_path, how, epoch):
    root = shutil.copytree(three, tmp_path / "root")
    spoil, reason = spoilers(tmp_path / "marker")[how]
    spoil(checkpoint(trials(root)[1], epoch))
    done = converted(root, tmp_path / "zoo")
    assert list(done.rejected) == [place(2, epoch)]
    assert reason in done.rejected[place(2, epoch)]
    assert rejects(done.zoo) == done.rejected
    assert (len(done.zoo), done.states) == (3, 5)
    rest = done.zoo.metrics.select("member", "epoch").rows()
    assert sorted(rest) == sorted({(m, e) for m in range(3) for e in range(2)} - {(1, epoch)})
    assert not (tmp_path / "marker").exists()
    assert verify(done.zoo, from_trials(root), NOISE, sample=None).missing == [place(2, epoch)]


def test_a_member_without_any_good_state_is_left_out(three, tmp_path):
    root = shutil.copytree(three, tmp_path / "root")
    for epoch in (0, 1):
        checkpoint(trials(root)[1], epoch).write_bytes(b"")
    done = converted(root, tmp_path / "zoo")
    assert done.rejected == {place(2, 0): "empty", place(2, 1): "empty"}
    assert done.zoo.members_table["seed"].to_list() == [1, 3]


def test_nothing_good_at_all(tmp_path):
    root = write_zoo(tmp_path / "root", members=1, epochs=[0])
    checkpoint(trials(root)[0], 0).write_bytes(b"")
    with pytest.raises(ZoojaxError, match=r"no state can be converted.*empty"):
        converted(root, tmp_path / "zoo")
    assert not (tmp_path / "zoo").exists()


@pytest.mark.parametrize("epoch", [0, 1])
def test_strict_stops_at_the_first(three, tmp_path, epoch):
    root = shutil.copytree(three, tmp_path / "root")
    checkpoint(trials(root)[1], epoch).write_bytes(b"")
    with pytest.raises(ZoojaxError, match=f"{place(2, epoch)}: empty"):
        converted(root, tmp_path / "zoo", select={"strict": True})


def test_strict_stops_at_another_kind(tmp_path):
    root = write_zoo(tmp_path / "root", members=2, epochs=[0])
    write_trial(root, 9, {0: state(9, "vd")})
    with pytest.raises(ZoojaxError, match=f"{place(9, 0)}: variational"):
        converted(root, tmp_path / "zoo", select={"strict": True})


def test_the_minority_is_rejected(tmp_path):
    root = write_zoo(tmp_path / "root", members=2, epochs=[0])
    write_trial(root, 7, {0: state(7, net=architecture("small", 3))})
    write_trial(root, 8, {0: state(8, "mp")})
    done = converted(root, tmp_path / "zoo")
    assert done.rejected == {
        place(7, 0): "dense small CNN, 3 channel(s), 10 classes, where the zoo's is a "
        "dense small CNN, 1 channel(s), 10 classes",
        place(8, 0): "pruned small CNN, 1 channel(s), 10 classes, where the zoo's is a "
        "dense small CNN, 1 channel(s), 10 classes",
    }
    assert len(done.zoo) == 2


def test_a_mask_of_other_numbers_is_rejected(tmp_path):
    root = write_zoo(tmp_path / "root", kind="mp", epochs=[0])
    file = checkpoint(trials(root)[0], 0)
    tensors = load(file)
    tensors["module_list.0.weight_mask"][0] = 0.5
    torch.save(tensors, file)
    (reason,) = converted(root, tmp_path / "zoo").rejected.values()
    assert reason == "module_list.0.weight_mask holds other values than 0 and 1"


def test_filters(tmp_path):
    root = write_zoo(tmp_path / "root", members=3, epochs=[1, 2, 3])
    file = checkpoint(trials(root)[2], 2)
    tensors = load(file)
    tensors["module_list.0.bias"][0] = -77.5
    torch.save(tensors, file)
    select = {
        "epochs": (2, 3, 99),
        "where": "seed > 1",
        "largest_weight": 50.0,
        "lowest_accuracy": 0.25,
    }
    done = converted(root, tmp_path / "zoo", select=select)
    assert done.zoo.members_table["seed"].to_list() == [2, 3]
    assert done.zoo.metrics.select("member", "epoch").rows() == [(0, 3), (1, 3)]
    assert done.rejected == {
        place(2, 2): "its test accuracy is 0.2",
        place(3, 2): "its largest weight is 77.5",
    }


@pytest.mark.parametrize("where", ["no_column = 1", "seed >", "seed", "seed = 100"])
def test_an_expression_that_does_not_filter(three, tmp_path, where):
    with pytest.raises(ZoojaxError, match="--where"):
        converted(three, tmp_path / "zoo", select={"where": where})


def test_none_of_the_epochs(three, tmp_path):
    with pytest.raises(ZoojaxError, match="none of the epochs"):
        converted(three, tmp_path / "zoo", select={"epochs": (9,)})


@pytest.mark.parametrize(
    "select",
    [{"largest_weight": 1e-9}, {"lowest_accuracy": 0.99}],
    ids=["weight", "accuracy"],
)
def test_where_every_state_is_rejected_no_zoo_stays(three, tmp_path, select):
    with pytest.raises(ZoojaxError, match=r"every state is rejected.* x its .*seed=1") as caught:
        converted(three, tmp_path / "zoo", select=select)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


# Metrics


def report(folder, *lines: dict) -> None:
    """Writes result.json."""
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "result.json").write_text(text)


def test_all_rows_are_kept(tmp_path):
    """Of epochs without checkpoints, of members without one, of states that are damaged."""
    root = write_zoo(tmp_path / "root", epochs=[0, 2])
    first, second = trials(root)
    for folder in (first, second):
        lines = [{"training_iteration": e, "test_acc": e / 10, "train_acc": 0.75} for e in range(5)]
        report(folder, *lines)
    shutil.rmtree(checkpoint(first, 2).parent)
    checkpoint(second, 0).write_bytes(b"")
    zoo = converted(root, tmp_path / "zoo").zoo
    assert zoo.epochs == [0, 2]
    table = zoo.metrics_history
    assert table.select("epoch", "member").rows() == [(e, m) for e in range(5) for m in range(2)]
    assert table["test_acc"].to_list() == [np.float32(e / 10) for e in range(5) for _ in range(2)]
    assert table["finite"].all()
    # What has a state is what it was.
    assert zoo.metrics.select("member", "epoch").rows() == [(0, 0), (1, 2)]
    assert zoo.metrics["sparsity_fc1"].is_not_null().all()
    assert analysis.summary(zoo)["epoch"].to_list() == list(range(5))
    assert analysis.summary(zoo)["members"].to_list() == [2] * 5
    # And so it goes back to torch.
    write_trials(zoo, tmp_path / "back")
    again = converted(tmp_path / "back", tmp_path / "again").zoo
    assert same_bits(bits(again.metrics_history), bits(table))


def test_rows_follow_the_selection_of_epochs_and_the_filters(tmp_path):
    root = write_zoo(tmp_path / "root", epochs=[0, 4])
    for folder in trials(root):
        report(folder, *({"training_iteration": e, "test_acc": e / 10} for e in range(6)))
    chosen = converted(root, tmp_path / "chosen", select={"epochs": (1, 4)}).zoo
    assert chosen.metrics_history["epoch"].unique().sort().to_list() == [1, 4]
    filtered = converted(root, tmp_path / "filtered", select={"lowest_accuracy": 0.2}).zoo
    assert filtered.metrics_history["epoch"].unique().sort().to_list() == [1, 2, 3, 4, 5]


def test_an_agreement_needs_states(tmp_path):
    """Rows of twins without a state are in curves, and in nothing that reads states."""
    dense = converted(write_zoo(tmp_path / "d", members=3, epochs=[0]), tmp_path / "dense").zoo
    root = write_zoo(tmp_path / "v", members=3, kind="vd", epochs=[0, 1])
    shutil.rmtree(checkpoint(trials(root)[0], 1).parent)
    for folder in trials(root):
        numbers = {"test_acc": 0.5, "train_acc": 0.5}
        lines = [{"training_iteration": e, "sparsity_ratio": 0.1 * e, **numbers} for e in range(3)]
        report(folder, *lines)
    twin = converted(root, tmp_path / "vd", parent=dense).zoo
    answers = np.zeros((3, 10), int)
    table = analysis.agreement(dense, twin, 1, of_zoo=answers, of_twin=answers)
    assert table["member"].to_list() == [1, 2]
    assert analysis.nearest_sparsity_epoch(twin, 0.2) in twin.epochs
    assert len(analysis.paired_metrics(dense, twin)) == 9


def test_accuracies_in_percent_become_fractions(tmp_path):
    root = write_zoo(tmp_path / "root", epochs=[0, 1])
    for folder, last in zip(trials(root), (40.0, 95.0), strict=True):
        report(
            folder,
            {"training_iteration": 0, "test_acc": 0.5, "train_acc": 9.5, "train_loss": 50.0},
            {"training_iteration": 1, "test_acc": last, "train_acc": 97.5, "train_loss": 40.0},
        )
    done = converted(root, tmp_path / "zoo", select={"lowest_accuracy": 0.9})
    assert done.zoo.metrics.select("member", "epoch").rows() == [(1, 1)]
    (row,) = done.zoo.metrics.to_dicts()
    expected = np.float32(0.975), np.float32(0.95), np.float32(40)
    assert (row["train_acc"], row["test_acc"], row["train_loss"]) == expected
    assert done.notes == ("train_acc, test_acc, ggap: reported in percent, kept as fractions",)
    assert done.rejected[place(1, 1)] == "its test accuracy is 0.4"


def test_one_absurd_accuracy_does_not_rescale_a_zoo(tmp_path):
    root = write_zoo(tmp_path / "root", epochs=[0, 1])
    report(
        trials(root)[0], *({"training_iteration": e, "test_acc": [0.5, 77.0][e]} for e in (0, 1))
    )
    done = converted(root, tmp_path / "zoo")
    assert done.zoo.metrics["test_acc"].to_list() == [0.5, 0, None, np.float32(0.1)]
    assert done.zoo.members_table["notes"][0] == "1 reported share(s) outside 0 to 1 are left out"
    assert done.notes == ()


def test_numbers_that_are_not_finite_are_null(tmp_path):
    root = write_zoo(tmp_path / "root", members=1, epochs=[0])
    (folder,) = trials(root)
    content = (
        '{"training_iteration": 0, "train_loss": Infinity, "test_loss": NaN, "test_acc": 0.5}\n'
        '{"training_iteration": 1, "train_loss": -Infinity, "val_loss": 1e39, "test_acc": 0.5}\n'
        '{"training_iteration": 2, "train_loss": 1%s, "test_acc": true}\n'
        '{"training_iteration": 3, "train_loss": "0.25", "test_acc": [1], "val_acc": null}\n'
    ) % ("0" * 400)
    (folder / "result.json").write_text(content)
    zoo = converted(root, tmp_path / "zoo").zoo
    table = zoo.metrics_history
    assert table["train_loss"].to_list() == [None, None, None, 0.25]
    assert table["test_acc"].to_list() == [0.5, 0.5, None, None]
    assert table["test_loss"].null_count() == table["val_loss"].null_count() == 4
    # Of the first epoch the weights are there, and finite.
    assert table["finite"].to_list() == [True, False, False, True]
    assert zoo.members_table["notes"][0] == "5 reported number(s) that are not finite are left out"


# Foreign text


def test_foreign_text_is_shown_in_one_line_of_visible_characters(tmp_path):
    root = tmp_path / "root"
    nasty = {"=cmd()_trainable_\x1b[31m\n": "k\x1b[2J\n" * 10**5, "-a_trainable_b": "\ud800"}
    write_trial(root, 1, {0: state(1)})
    for name, key in nasty.items():
        write_trial(root, 2, {0: {**state(1), key: torch.zeros(1)}}, name=name)
    done = converted(root, tmp_path / "zoo")
    assert len(done.rejected) == 2
    for text in (*done.rejected, *done.rejected.values()):
        assert is_printable(text)
        assert len(text) <= 300
    lines = (tmp_path / "zoo" / REJECTS).read_text().splitlines()
    assert len(lines) == 3
    assert all(line.startswith("'") for line in lines[1:])
    # Read again, it is what was written.
    written = (tmp_path / "zoo" / REJECTS).read_bytes()
    assert rejected_before(tmp_path / "zoo" / REJECTS) == done.rejected
    write_rejects(tmp_path / "copy.csv", done.rejected)
    assert (tmp_path / "copy.csv").read_bytes() == written


@pytest.mark.parametrize("content", [b"", b"a,b\n", b"state,reason\nx\n", b"state,reason\n\xff,\n",
                                     b'state,reason\n"' + b"x" * 200_000])  # fmt: skip
def test_a_damaged_list_of_rejects_is_refused_when_resuming(three, tmp_path, content):
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        converted(three, tmp_path / "zoo", report=stop)
    (tmp_path / "zoo" / REJECTS).write_bytes(content)
    with pytest.raises(ZoojaxError, match=f"{REJECTS} is damaged, remove it"):
        converted(three, tmp_path / "zoo")


# Interruption, verification


def test_an_interrupted_conversion_goes_on_to_the_same_zoo(tmp_path):
    root = write_zoo(tmp_path / "root", members=3, epochs=[0, 1, 2, 5])
    checkpoint(trials(root)[0], 1).write_bytes(b"")
    whole = converted(root, tmp_path / "whole")

    def stop(done, total):
        if done >= 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        converted(root, tmp_path / "zoo", report=stop)
    assert open_zoo(tmp_path / "zoo").epochs == [0, 1]
    reports = []
    resumed = converted(root, tmp_path / "zoo", report=lambda *told: reports.append(told))
    assert reports == [(3, 12), (6, 12), (9, 12), (12, 12)]
    assert same_zoo(open_zoo(tmp_path / "zoo"), open_zoo(tmp_path / "whole"))
    assert (resumed.states, resumed.rejected) == (whole.states, whole.rejected)
    # Finished, it is what the same call returns, and nothing of it is written again.
    before = inventory(tmp_path / "zoo")
    again = converted(root, tmp_path / "zoo")
    assert (again.states, again.rejected) == (whole.states, whole.rejected)
    assert inventory(tmp_path / "zoo") == before
    with pytest.raises(ZoojaxError, match="was created with"):
        converted(root, tmp_path / "zoo", select={"epochs": (0,)})


def inventory(folder) -> dict[str, tuple[int, int]]:
    """When each file was written, and its place on the disk."""
    files = (f for f in folder.rglob("*") if f.is_file())
    return {str(f): (f.stat().st_mtime_ns, f.stat().st_ino) for f in files}


def test_rows_without_states_come_in_after_an_interruption(tmp_path, monkeypatch):
    """They are written last: the zoo is finished by then, and the same call adds them."""
    root = write_zoo(tmp_path / "root", epochs=[0])
    for folder in trials(root):
        report(folder, *({"training_iteration": e, "test_acc": e / 10} for e in range(4)))

    def stop(self, metrics):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(ZooWriter, "note", stop)
        converted(root, tmp_path / "zoo")
    assert len(open_zoo(tmp_path / "zoo").metrics_history) == 2
    assert len(converted(root, tmp_path / "zoo").zoo.metrics_history) == 8
    whole = converted(root, tmp_path / "whole").zoo.metrics_history
    assert same_bits(bits(open_zoo(tmp_path / "zoo").metrics_history), bits(whole))


def test_verify_notices_what_differs(tmp_path):
    root = write_zoo(tmp_path / "root", epochs=[0, 1])
    done = converted(root, tmp_path / "zoo", select={"epochs": (0,)})
    file = checkpoint(trials(root)[1], 0)
    tensors = load(file)
    tensors["module_list.3.weight"][0, 0, 0, 0] += 1
    torch.save(tensors, file)
    found = verify(done.zoo, from_trials(root), NOISE, sample=None)
    assert found.unequal == [place(2, 0)]
    assert found.missing == [place(1, 1), place(2, 1)]
    assert found.worst == place(2, 0)
    assert found.difference > 1e-5
    torch.save(state(1, "vd"), file)
    with pytest.raises(ZoojaxError, match=trial_name(2)):
        verify(done.zoo, from_trials(root), NOISE, sample=None)
    with pytest.raises(ZoojaxError, match="no states in common"):
        other = write_trial(tmp_path / "other", 50, {0: state(1)}).parent
        verify(done.zoo, from_trials(other), NOISE)


# Fuzzing


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A root of two members, one epoch, whose second the fuzzer spoils; and for zoos."""
    folder = tmp_path_factory.mktemp("fuzz")
    return write_zoo(folder / "root", epochs=[0]), folder / "zoo"


KINDS = ("dense", "mp", "vd")
DTYPES = (torch.float64, torch.float16, torch.int32, torch.bool, torch.complex64)
NAMES = ("module_list.1", "module_list.99", "0", "", "module_list.\u00b2", "a.b.c", "9" * 5000)


@st.composite
def damaged_bytes(draw: st.DrawFn):
    """How to damage a file: its old or new form, cut and flipped."""
    zipped, whole = draw(st.booleans()), draw(st.booleans())
    cut = 1.0 if whole else draw(st.floats(0, 1))
    flips = draw(st.lists(st.tuples(st.floats(0, 1), st.integers(1, 255)), max_size=4))

    def spoil(file):
        tensors = state(2)
        torch.save(tensors, file, _use_new_zipfile_serialization=zipped)
        data = bytearray(file.read_bytes())
        for where, flip in flips:
            data[int(where * (len(data) - 1))] ^= flip
        file.write_bytes(data[: int(cut * len(data))])

    return spoil


@st.composite
def damaged_content(draw: st.DrawFn):
    """How to damage what is in a file: names, shapes, types, numbers, kinds."""
    kind = draw(st.sampled_from(KINDS))
    edits = draw(
        st.lists(
            st.tuples(
                st.integers(0, 19),
                st.sampled_from(("rename", "move", "drop", "shape", "dtype", "number", "swap")),
                st.integers(0, 10),
            ),
            min_size=1,
            max_size=3,
        )
    )

    def spoil(file):
        tensors = state(2, kind)
        for which, edit, choice in edits:
            if not tensors:
                break
            name = list(tensors)[which % len(tensors)]
            value = tensors.pop(name)
            prefix, _, leaf = name.rpartition(".")
            if edit == "rename":
                tensors[f"{NAMES[choice % len(NAMES)]}.{leaf}"] = value
            elif edit == "move":
                moved = {k: tensors.pop(k) for k in list(tensors) if k.startswith(f"{prefix}.")}
                for old, tensor in {name: value, **moved}.items():
                    new = old.removeprefix(f"{prefix}.")
                    tensors[f"{NAMES[choice % len(NAMES)]}.{new}"] = tensor
            elif edit == "shape":
                flat = value.flatten()  # An earlier edit may have left a number.
                shapes = (flat, flat[:1], value[None], value.new_zeros(0), value.sum())
                tensors[name] = shapes[choice % len(shapes)]
            elif edit == "dtype":
                tensors[name] = value.real.to(DTYPES[choice % len(DTYPES)])
            elif edit == "number":
                numbers = (float("nan"), float("inf"), 1e38, 0.0, -0.0, 1e-45)
                tensors[name] = torch.full(value.shape, numbers[choice % len(numbers)])
            elif edit == "swap":
                tensors[name] = (
                    value.mT.contiguous().mT if value.ndim > 1 else value.flatten().flip(0)
                )
        torch.save(dict(tensors), file)

    return spoil


def assert_rejected_or_verified(two, spoil) -> None:
    """The spoiled state alone is rejected, or it is in the zoo to the bit."""
    root, out = two
    shutil.rmtree(out, ignore_errors=True)
    spoil(checkpoint(trials(root)[1], 0))
    done = converted(root, out)
    good = 2 - len(done.rejected)
    assert list(done.rejected) in ([], [place(2, 0)])
    assert (done.states, len(rejects(done.zoo))) == (good, 2 - good)
    if done.rejected:
        return
    found = verify(done.zoo, from_trials(root), NOISE[:1], sample=None)
    assert (found.states, found.unequal, found.missing) == (2, [], [])
    # Bytes flipped in the old form, without checksums, can make a weight of any size.
    values = [v for layer in done.zoo.params(0).values() for v in layer.values()]
    if max(np.abs(v).max() for v in values) < 1e3:
        assert found.difference <= 1e-5


def fuzz(strategy, examples):
    """A test of that many examples."""

    def decorate(function):
        health = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
        limits = settings(max_examples=examples, deadline=None, suppress_health_check=health)
        return limits(given(spoil=strategy)(function))

    return decorate


@fuzz(damaged_bytes(), 50)
def test_fuzzed_bytes(two, spoil):
    assert_rejected_or_verified(two, spoil)


@fuzz(damaged_content(), 50)
def test_fuzzed_content(two, spoil):
    assert_rejected_or_verified(two, spoil)


@pytest.mark.slow
@fuzz(st.one_of(damaged_bytes(), damaged_content()), 500)
def test_fuzzed_at_length(two, spoil):
    assert_rejected_or_verified(two, spoil)


def test_sources_are_not_spoiled_by_a_conversion(three, tmp_path):
    sources = from_trials(three)
    before = [copy.deepcopy(s.states[0]()) for s in sources]
    convert(sources, tmp_path / "a", name="a")
    convert(sources, tmp_path / "b", name="a")
    assert same_bits([dict(s.states[0]()) for s in sources], [dict(b) for b in before])
    assert same_zoo(open_zoo(tmp_path / "a"), open_zoo(tmp_path / "b"))
