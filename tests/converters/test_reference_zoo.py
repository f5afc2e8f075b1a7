"""Conversion of the reference zoo: lossless, linked, and with all of its metrics."""

import json
import shutil

import numpy as np
import polars as pl
import pytest

from tests.support import zoo_fixtures
from tests.support.conversions import (
    NOISE,
    assert_round_trip,
    converted,
    read_rejects,
)
from tests.support.zoo_fixtures import same_bits
from zoojax import analysis, open_zoo
from zoojax.converters.members import preset_defaults
from zoojax.converters.own_images import to_image_set
from zoojax.converters.pickled_images import read_image_set
from zoojax.converters.sources import from_dataset, from_trials
from zoojax.converters.torch_to_zoo import convert
from zoojax.converters.verification import verify
from zoojax.errors import ZoojaxError
from zoojax.runtime import population
from zoojax.storage.zoo_images import load_images

DENSE, VD, MP = "tune_zoo_usps_uniform", "cnn_small_usps_ard", "cnn_small_usps_mp"
EPOCHS = (0, 1, 25, 50)


@pytest.fixture(scope="module")
def usps(reference, tmp_path_factory):
    """The converted dense reference zoo with its images."""
    root = reference / DENSE
    file = root / "dataset.pt"
    images = to_image_set(read_image_set(file), file)
    out = tmp_path_factory.mktemp("reference") / "dense"
    return converted(root, out, images=(None, images)).zoo


@pytest.fixture(scope="module")
def usps_twins(reference, usps):
    """Its converted twins by kind."""
    return {
        kind: converted(reference / root, usps.path.with_name(kind), parent=usps).zoo
        for kind, root in {"vd": VD, "mp": MP}.items()
    }


def test_dense_zoo(usps, reference, tmp_path):
    assert (len(usps), usps.epochs, len(usps.metrics)) == (4, list(range(51)), 4 * 51)
    assert usps.config.is_dense
    assert usps.members_table["seed"].to_list() == [1, 2, 3, 4]
    assert read_rejects(usps) == {}
    assert assert_round_trip(usps, reference / DENSE, tmp_path, epochs=EPOCHS) == 4 * len(EPOCHS)


@pytest.mark.parametrize("kind, root, states", [("vd", VD, 4 * 26), ("mp", MP, 20 * 2)])
def test_twins(usps, usps_twins, reference, tmp_path, kind, root, states):
    zoo = usps_twins[kind]
    assert (zoo.config.sparsifier.method, len(zoo.metrics)) == (kind, states)
    seeds = dict(usps.members_table.select("id", "seed").iter_rows())
    assert [seeds[p] for p in zoo.members_table["parent_id"]] == zoo.members_table["seed"].to_list()
    epochs = None if kind == "mp" else [0, 1, 25]
    written = assert_round_trip(zoo, reference / root, tmp_path, kind == "mp", epochs)
    assert written == (states if epochs is None else 4 * len(epochs))


def test_metrics_history_has_every_reported_epoch(usps_twins, reference):
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
        report = reported[trial[row["member"]], row["epoch"]]
        for name in ("train_loss", "train_acc", "test_loss", "test_acc"):
            assert row[name] == np.float32(report[name])
        # Trials report the ratio that they were pruned to, the zoo the fraction of weights.
        assert row["sparsity"] == pytest.approx(report["sparsity_ratio"], abs=5e-4)
        assert (row["sparsity_conv1"] is None) == (row["epoch"] not in zoo.epochs)
    curve = analysis.summary(zoo)
    assert curve["epoch"].to_list() == 5 * list(range(16))
    assert curve["test_acc_mean"].is_not_null().all()
    assert analysis.layer_sparsity(zoo)["epoch"].unique().sort().to_list() == [0, 15]


def test_verification_on_own_images(usps, usps_twins, reference):
    images = load_images(usps, None).test.images[:16]
    for zoo, root in ((usps, DENSE), (usps_twins["vd"], VD), (usps_twins["mp"], MP)):
        result = verify(zoo, from_trials(reference / root), images, sample=12)
        assert (result.states, result.images) == (12, 16)
        assert (result.unequal, result.missing) == ([], [])
        assert 0 <= result.difference <= 1e-5


def test_accuracies_match_the_reports(usps, reference):
    for trial, member in usps.members_table.select("trial", "id").iter_rows():
        text = (reference / DENSE / trial / "result.json").read_text()
        reported = {
            r["training_iteration"]: r["test_acc"] for r in map(json.loads, text.splitlines())
        }
        ours = usps.metrics.filter(pl.col("member") == member)
        for epoch, accuracy in ours.select("epoch", "test_acc").iter_rows():
            assert accuracy == np.float32(reported[epoch])


def test_pickled_dataset_has_the_same_parameters(usps, reference, tmp_path):
    sources = from_dataset(reference / "dataset_usps_seed.pt")
    done = convert(sources, tmp_path / "pt", name="pt", defaults=preset_defaults("usps-s-seed"))
    zoo = done.zoo
    assert zoo.epochs == [5, 15, 25]
    assert set(zoo.members_table["split"]) <= {"train", "val", "test"}
    order = {trial: i for i, trial in enumerate(usps.members_table["trial"])}
    chosen = np.array([order[trial] for trial in zoo.members_table["trial"]])
    members = dict(zip(zoo.members_table["id"], range(len(zoo)), strict=True))
    for epoch in zoo.epochs:
        present = zoo.metrics.filter(pl.col("epoch") == epoch)["member"]
        existing = np.array([members[m] for m in present])
        ours = population.take(zoo.params(epoch), existing)
        assert same_bits(ours, population.take(usps.params(epoch), chosen[existing]))
    assert verify(zoo, sources, NOISE, sample=5).unequal == []


def test_own_images_are_stored_and_used_for_twins(usps, reference, tmp_path):
    assert usps.config.data is None
    with np.load(usps.path / "images.npz") as file:
        sizes = {name: file[name].shape[0] for name in file.files if name.endswith("images")}
    assert sorted(sizes.values()) == [60, 60, 300]
    twin = zoo_fixtures.prune(tmp_path / "twin", usps, [0.5], epochs=1, chunk=2)
    assert twin.config.data_hash == usps.config.data_hash
    assert twin.metrics.filter(pl.col("epoch") == 1)["test_acc"].is_not_null().all()
    damaged = shutil.copytree(usps.path, tmp_path / "damaged")
    with np.load(damaged / "images.npz") as file:
        arrays = {name: file[name] for name in file.files}
    name = next(n for n in arrays if n.endswith("images"))
    arrays[name] = arrays[name] + arrays[name].dtype.type(1)
    np.savez(damaged / "images.npz", **arrays)
    with pytest.raises(ZoojaxError, match="hash differs"):
        zoo_fixtures.prune(tmp_path / "other", open_zoo(damaged), [0.5], epochs=1)
