"""Publishing a zoo with its twins: other programs read the folder, and weights keep their bits."""

import json
import re
from pathlib import Path

import mlcroissant
import numpy as np
import polars as pl
import pytest
import yaml
from datasets import load_dataset
from safetensors.numpy import load_file

from tests.support import zoo_fixtures
from tests.support.damage import refuses
from zoojax import Zoo, analysis, open_zoo
from zoojax.publishing import upload as uploading
from zoojax.publishing.publish import publish
from zoojax.storage.zoo_images import load_images
from zoojax.workflows.info import info

TWINS = ("pruned", "variational-dropout")


@pytest.fixture(scope="module")
def zoos(tmp_path_factory) -> list[Zoo]:
    return [make(tmp_path_factory) for make in zoo_fixtures.KINDS.values()]


@pytest.fixture(scope="module")
def published(tmp_path_factory, zoos) -> Path:
    return publish(
        *zoos,
        out=tmp_path_factory.mktemp("published") / "digits",
        license="cc-by-4.0",
        creator="Ada",
        citation="@misc{zoo,\n  title={Zoo}\n}",
    )


def opened(published: Path) -> list[Zoo]:
    return [open_zoo(published), *(open_zoo(published / "twins" / name) for name in TWINS)]


def test_states_and_tables_keep_their_bits(zoos, published):
    for original, zoo in zip(zoos, opened(published), strict=True):
        assert zoo.fingerprint == original.fingerprint
        assert zoo.epochs == original.epochs
        for epoch in zoo.epochs:
            assert zoo_fixtures.same_bits(zoo.state(epoch), original.state(epoch))
        assert zoo.metrics.equals(original.metrics)
        assert zoo.members.equals(original.members)
    part = opened(published)[0].state(1, rows=slice(1, 2))
    assert zoo_fixtures.same_bits(part, zoos[0].state(1, rows=slice(1, 2)))


def test_twins_belong_to_the_published_zoo(tmp_path_factory, published):
    zoo, *twins = opened(published)
    for twin in twins:
        assert len(analysis.paired_metrics(zoo, twin))
        assert twin.config.parent is not None
        assert (twin.path / twin.config.parent.path).resolve() == published
    pruned = zoo_fixtures.prune(
        tmp_path_factory.mktemp("own") / "twin",
        zoo,
        [0.5],
        epochs=0,
        data=zoo_fixtures.images(tmp_path_factory),
    )
    assert len(pruned) == len(zoo)


def test_safetensors_without_zoojax(zoos, published):
    arrays = load_file(published / "weights" / "epoch-2.safetensors")
    kernel = zoos[0].params(2)["conv1"]["kernel"]
    assert np.array_equal(arrays["params/conv1/kernel"], kernel)


# rdflib and mlcroissant use deprecated functions of their dependencies.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_croissant_is_valid_and_reads_the_tables(zoos, published):
    dataset = mlcroissant.Dataset(jsonld=str(published / "croissant.json"))
    assert not dataset.metadata.issues.errors
    assert not dataset.metadata.issues.warnings
    names = {str(record_set.name) for record_set in dataset.metadata.record_sets}
    twins = {f"twins/{name}/{table}" for name in TWINS for table in ("members", "metrics")}
    assert names == {"members", "metrics"} | twins
    records = list(dataset.records("members"))
    assert [r["members/seed"] for r in records] == zoos[0].members_table["seed"].to_list()
    rows = list(dataset.records("twins/pruned/metrics"))
    assert len(rows) == len(zoos[1].metrics_history)


def test_datasets_reads_the_tables(tmp_path, zoos, published):
    cache = str(tmp_path / "cache")
    members = load_dataset(str(published), cache_dir=cache)["train"]
    assert members["seed"][:] == zoos[0].members_table["seed"].to_list()
    metrics = load_dataset(str(published), "pruned-metrics", split="train", cache_dir=cache)
    assert metrics["sparsity"][:] == zoos[1].metrics_history["sparsity"].to_list()


def test_card(zoos, published):
    text = (published / "README.md").read_text()
    header = yaml.safe_load(text.split("---\n")[1])
    assert header["tags"] == ["weight-space-learning", "model-zoo", "sparsity"]
    assert (header["license"], header["size_categories"]) == ("cc-by-4.0", ["n<1K"])
    data_hash = zoos[0].config.data_hash
    assert data_hash is not None
    for part in (data_hash, "Ada", "@misc{zoo,", "open_zoo", "variational dropout", "MB in total"):
        assert part in text


def test_nothing_names_a_folder_of_this_machine(zoos, published):
    folder = str(zoos[0].path.parent).encode()
    images = str(zoo_fixtures.Path(zoos[0].config.data.name).parent).encode()  # pyright: ignore
    for file in published.rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            assert folder not in content, file
            assert images not in content, file


def test_checksums_are_of_all_files(published):
    listed = json.loads((published / "checksums.json").read_text())["files"]
    files = {str(f.relative_to(published)) for f in published.rglob("*") if f.is_file()}
    assert set(listed) == files - {"checksums.json"}
    assert all(each["bytes"] == (published / n).stat().st_size for n, each in listed.items())
    assert info(published, check=True, quiet=True)["damaged"] == []


def test_chosen_epochs(tmp_path, zoos):
    zoo = open_zoo(publish(zoos[0], out=tmp_path / "zoo", epochs=[2, 0]))
    assert zoo.epochs == [0, 2]
    assert zoo.metrics_history["epoch"].unique().to_list() == [0, 1, 2]


def test_images_are_published_only_on_request(tmp_path_factory, tmp_path, zoos):
    kept = zoo_fixtures.train(tmp_path_factory, tmp_path / "zoo", epochs=0, keep_data=True)
    without = open_zoo(publish(kept, out=tmp_path / "without"))
    assert not without.store.has_images
    with_images = open_zoo(publish(kept, out=tmp_path / "with", with_images=True))
    assert load_images(with_images, None).hash == zoos[0].config.data_hash


def test_published_zoo_is_not_changed(tmp_path_factory, published):
    before = zoo_fixtures.contents(published)
    with refuses("is a published zoo, which is read-only"):
        zoo_fixtures.train(tmp_path_factory, published, epochs=9)
    assert zoo_fixtures.contents(published) == before


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"license": "My License"}, "license is My License"),
        ({"epochs": [9]}, "has no epoch 9"),
        ({"epochs": []}, "has no epoch -1"),
        ({"epochs": "0"}, "give a list of epochs"),
        ({"title": "a\nb"}, "title has 2 lines"),
        ({"title": ""}, "title is"),
        ({"creator": "a\x1b[31m"}, "creator is"),
        ({"repo_id": "me"}, "give OWNER/NAME"),
        ({"repo_id": "../me"}, "give OWNER/NAME"),
    ],
    ids=str,
)
def test_invalid_options(tmp_path, zoos, options, named):
    with refuses(named):
        publish(zoos[0], out=tmp_path / "zoo", **options)
    assert list(tmp_path.iterdir()) == []


def test_wrong_zoos_are_refused(tmp_path_factory, tmp_path, zoos):
    other = zoo_fixtures.train(tmp_path_factory, tmp_path / "other", epochs=0, first_seed=9)
    with refuses(f"{zoos[1].path} is not a twin of {other.path}"):
        publish(other, zoos[1], out=tmp_path / "zoo")
    with refuses("is given twice"):
        publish(zoos[0], zoos[1], zoos[1], out=tmp_path / "zoo")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    with refuses("is not empty"):
        publish(zoos[0], out=tmp_path / "full")


def test_upload_of_an_existing_data_set(published, zoos, monkeypatch):
    """The folder is uploaded as it is; a failed upload is one line."""
    calls = []

    class Api:
        def create_repo(self, *arguments, **options):
            calls.append(("create", arguments, options))

        def upload_folder(self, **options):
            calls.append(("upload", options))
            if len(calls) > 2:
                raise OSError("no network")

    library = type("Hub", (), {"HfApi": Api})
    monkeypatch.setattr(uploading, "library", lambda: library)
    before = zoo_fixtures.contents(published)
    publish(*zoos, out=published, repo_id="me/digits", private=True)
    expected = {"repo_type": "dataset", "private": True, "exist_ok": True}
    assert calls[0] == ("create", ("me/digits",), expected)
    assert calls[1][1]["folder_path"] == published
    with refuses("cannot upload .* to me/digits: no network".replace(".*", str(published))):
        publish(*zoos, out=published, repo_id="me/digits")
    assert zoo_fixtures.contents(published) == before


def test_command(tmp_path_factory, tmp_path, zoos):
    words = ["publish", *(zoo.path for zoo in zoos), "--out", tmp_path / "zoo", "--epochs", 0, 2]
    done = zoo_fixtures.cli(tmp_path_factory, *words, "--quiet")
    assert (done.returncode, done.stdout) == (0, f"dataset: {tmp_path / 'zoo'}\n"), done.stderr
    assert open_zoo(tmp_path / "zoo").epochs == [0, 2]
    evaluated = zoo_fixtures.cli_json(tmp_path_factory, "info", tmp_path / "zoo")
    assert re.fullmatch("[0-9a-f]{16}", evaluated["fingerprint"])
    assert pl.DataFrame(evaluated["rows"])["epoch"].to_list() == [2]
