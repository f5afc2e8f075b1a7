"""Every target format: what it writes is read by `convert_from`, bit for bit."""

import csv
import gzip

import numpy as np
import polars as pl
import pytest
import torch

from tests.converters.test_resnets_and_vit import torch_network
from tests.support import zoo_fixtures
from tests.support.large_matrix import write_matrix
from tests.support.pickled_datasets import foreign_class
from tests.support.torch_models import params_to_torch
from tests.support.torch_zoos import config, write_trial
from tests.support.zoo_fixtures import bits, same_bits
from zoojax import Zoo, open_zoo
from zoojax.architectures.registry import architecture
from zoojax.converters import export
from zoojax.converters.api import Export, convert_from, convert_to, to_torch
from zoojax.converters.targets.registry import TARGETS
from zoojax.converters.zoo_to_torch import result_names
from zoojax.errors import ZoojaxError
from zoojax.hyperparameters.grid import HYPERPARAMETERS
from zoojax.runtime import population

PLAIN = ("trials", "safetensors", "matrix", "dataset")
BASE = "checkpoints_to_datasets.dataset_base.ModelDatasetBase"


def source_of(folder, name: str):
    """What `convert_from` reads of an export."""
    return folder / "dataset.pt" if name == "dataset" else folder


def there_and_back(zoo: Zoo, tmp_path, name: str) -> tuple[Zoo, Export]:
    """Writes a zoo in a format, and converts it again."""
    exported = convert_to(zoo, tmp_path / name, format=name, quiet=True)
    result = convert_from(
        source_of(tmp_path / name, name), tmp_path / f"{name}-zoo", format=name, quiet=True
    ) if name in ("safetensors", "matrix", "dataset") else convert_from(
        tmp_path / name, tmp_path / f"{name}-zoo", quiet=True
    )  # fmt: skip
    assert not result.rejected
    return result.zoo, exported


def assert_equal(zoo: Zoo, back: Zoo, *, params=None) -> None:
    """Compares parameters, metrics and hyperparameters of the members of the same names."""
    names = export.member_names(zoo)
    order = [names.index(trial) for trial in back.members_table["trial"]]
    assert sorted(order) == list(range(len(zoo))) and back.epochs == zoo.epochs
    for epoch in zoo.epochs:
        expected = population.take((params or Zoo.params)(zoo, epoch), np.array(order))
        assert same_bits(back.params(epoch), expected)
    columns = ["seed", *(h.name for h in HYPERPARAMETERS if h.name in zoo.members_table.columns)]
    expected = zoo.members_table[order].select(columns)
    assert back.members_table.select(columns).rows() == expected.rows()
    ids = dict(zip(zoo.members_table["id"][order], back.members_table["id"], strict=True))
    reported = ["member", "epoch", *result_names(zoo.metrics), "sparsity"]
    moved = zoo.metrics.with_columns(pl.col("member").replace_strict(ids)).select(reported)
    assert same_bits(
        bits(back.metrics.select(reported).sort("member", "epoch")),
        bits(moved.sort("member", "epoch")),
    )


@pytest.mark.parametrize("name", PLAIN)
def test_dense_zoo_comes_back(tmp_path_factory, tmp_path, name):
    zoo = zoo_fixtures.dense(tmp_path_factory)
    back, exported = there_and_back(zoo, tmp_path, name)
    assert exported.written == (len(zoo.epochs) if name == "safetensors" else len(zoo.metrics))
    assert_equal(zoo, back)


@pytest.mark.parametrize("name", ("trials-prune", "safetensors"))
def test_masks_come_back(tmp_path_factory, tmp_path, name):
    zoo = zoo_fixtures.pruned(tmp_path_factory)
    back, _ = there_and_back(zoo, tmp_path, name)
    assert_equal(zoo, back)
    names = export.member_names(zoo)
    order = np.array([names.index(trial) for trial in back.members_table["trial"]])
    for epoch in zoo.epochs:
        masks = population.take(zoo.state(epoch)["mask"], order)
        assert same_bits(back.state(epoch)["mask"], masks)
    assert back.members_table["ratio"].to_list() == zoo.members_table["ratio"][order].to_list()


@pytest.mark.parametrize("name", ("trials", "matrix", "dataset"))
def test_pruned_members_are_plain_weights(tmp_path_factory, tmp_path, name):
    zoo = zoo_fixtures.pruned(tmp_path_factory)
    back, _ = there_and_back(zoo, tmp_path, name)
    assert back.config.is_dense
    assert_equal(zoo, back, params=Zoo.sparse_params)


@pytest.mark.parametrize("name", PLAIN)
def test_variances_come_back(tmp_path_factory, tmp_path, name):
    zoo = zoo_fixtures.variational_dropout(tmp_path_factory)
    back, _ = there_and_back(zoo, tmp_path, name)
    assert_equal(zoo, back)
    names = export.member_names(zoo)
    order = np.array([names.index(trial) for trial in back.members_table["trial"]])
    for epoch in zoo.epochs:
        expected = population.take(zoo.state(epoch)["log_sigma2"], order)
        assert same_bits(back.state(epoch)["log_sigma2"], expected)


@pytest.mark.parametrize("name", ("safetensors", "matrix", "dataset"))
def test_splits_and_missing_states_come_back(tmp_path, name):
    source = write_matrix(tmp_path / "source", runs=5, steps=(0, 20), nan_rows=(3,))
    with gzip.open(source / "metrics.csv.gz", "rt", newline="") as file:
        lines = list(csv.reader(file))
    splits = ("train", "train", "val", "test", "train")
    rows = [[*line, splits[i // 2]] for i, line in enumerate(lines[1:])]
    with gzip.open(source / "metrics.csv.gz", "wt", newline="") as file:
        csv.writer(file).writerows([[*lines[0], "split"], *rows])
    result = convert_from(source, tmp_path / "zoo", quiet=True)
    zoo = result.zoo
    assert zoo.members_table["split"].to_list() == list(splits)
    assert result.rejected == {"weights.npy[3]": "one of its values is not finite"}
    back, exported = there_and_back(zoo, tmp_path, name)
    assert (len(zoo.metrics), len(back.metrics)) == (9, 9)
    if name == "dataset":  # Folder names have no slash.
        assert any("cannot name a folder" in note for note in exported.notes)
        names = export.folder_names(zoo)[0]
        order = [names.index(trial) for trial in back.members_table["trial"]]
        assert back.members_table["split"].to_list() == [splits[i] for i in order]
        expected = population.take(zoo.params(20), np.array(order))
        assert same_bits(back.params(20), expected)
        return
    assert_equal(zoo, back)
    assert back.members_table["split"].to_list() == list(splits)


def test_matrix_of_a_matrix_is_the_same(tmp_path):
    source = write_matrix(tmp_path / "source", runs=3, steps=(0, 20))
    zoo = convert_from(source, tmp_path / "zoo", quiet=True).zoo
    convert_to(zoo, tmp_path / "out", format="matrix", quiet=True)
    original, written = (np.load(path / "weights.npy") for path in (source, tmp_path / "out"))
    # Columns go by name: biases are first in the source.
    spans = []
    for path in (source, tmp_path / "out"):
        with (path / "layout.csv").open(newline="") as file:
            rows = csv.DictReader(file)
            spans.append(
                {
                    "/".join(row["varname"].split("/")[-2:]): (
                        int(row["start_idx"]), int(row["end_idx"]), row["shape"]
                    )
                    for row in rows
                }
            )  # fmt: skip
    assert spans[0].keys() == spans[1].keys()
    for name, (begin, end, shape) in spans[0].items():
        first, last, other = spans[1][name]
        assert shape == other
        np.testing.assert_array_equal(written[:, first:last], original[:, begin:end])


def test_dataset_loads_with_torch(tmp_path_factory, tmp_path):
    zoo = zoo_fixtures.dense(tmp_path_factory)
    exported = convert_to(zoo, tmp_path / "out", format="dataset", epochs=[1, 2], quiet=True)
    assert exported.notes == (
        "the zoo has no splits; its members are split at random with seed 42",
    )
    with foreign_class(BASE) as cls:
        content = torch.load(tmp_path / "out" / "dataset.pt", weights_only=False)
    assert list(content) == ["trainset", "valset", "testset"]
    assert all(type(each) is cls for each in content.values())
    count = 0
    names = export.folder_names(zoo)[0]
    for each in content.values():
        assert len(each.data_in) == len(each.data_out) == len(each.paths) == len(each.epochs)
        assert each.mode == "checkpoint" and [kind for _, kind in each.layer_lst][-1] == "fc"
        for i, state in enumerate(each.data_in):
            row, epoch = names.index(each.paths[i].name), each.epochs[i]
            member = population.take(zoo.params(epoch), row)
            expected = params_to_torch(member, zoo.config.shape, False)
            assert list(state) == list(expected)
            assert all(same_bits(state[name].numpy(), expected[name]) for name in state)
            measured = zoo.metrics.filter(member=row, epoch=epoch)
            assert each.properties["test_acc"][i] == measured["test_acc"][0]
            assert each.properties["seed"][i] == zoo.members_table["seed"][row]
            count += 1
    assert count == 2 * len(zoo)


@pytest.mark.slow
@pytest.mark.parametrize("name", ("trials", "safetensors", "dataset"))
def test_counters_come_back(tmp_path, name):
    net = architecture("resnet18-2", 3, 10)
    for seed in range(2):
        module = torch_network(net, "relu", seed)
        write_trial(tmp_path / "root", seed, {0: module.state_dict()}, config(seed))
    zoo = convert_from(tmp_path / "root", tmp_path / "zoo", quiet=True).zoo
    back, _ = there_and_back(zoo, tmp_path, name)
    assert_equal(zoo, back)
    assert same_bits(back.state(0), zoo.state(0))
    with pytest.raises(ZoojaxError, match="num_batches_tracked of type int64"):
        convert_to(zoo, tmp_path / "out", format="matrix", quiet=True)
    assert not (tmp_path / "out").exists()


def test_interrupted_export_leaves_no_partial_file(tmp_path_factory, tmp_path, monkeypatch):
    zoo = zoo_fixtures.dense(tmp_path_factory)
    original = Zoo.state

    def failing(self, epoch=None, **options):
        if epoch == 2:
            raise KeyboardInterrupt
        return original(self, epoch, **options)

    for name in ("matrix", "dataset", "safetensors"):
        monkeypatch.setattr(Zoo, "state", failing)
        with pytest.raises(KeyboardInterrupt):
            convert_to(zoo, tmp_path / name, format=name, quiet=True)
        left = {path.name for path in (tmp_path / name).iterdir()}
        assert not left & {"weights.npy", "dataset.pt", "epoch_000002.safetensors"}
        assert not any(".tmp-" in each for each in left)
        monkeypatch.setattr(Zoo, "state", original)
        convert_to(zoo, tmp_path / name, format=name, quiet=True)


def test_names_of_formats(tmp_path_factory, tmp_path):
    zoo = zoo_fixtures.dense(tmp_path_factory)
    assert {name: target.name for name, target in TARGETS.items()} == {n: n for n in TARGETS}
    with pytest.raises(ZoojaxError, match="no target format named 'x'"):
        convert_to(zoo, tmp_path / "x", format="x", quiet=True)
    old = to_torch(zoo, tmp_path / "old", format="trial", epochs=[1], quiet=True)
    new = convert_to(zoo, tmp_path / "new", epochs=[1], quiet=True)
    assert old == new
    files = [
        sorted(p.relative_to(r) for p in r.rglob("*")) for r in (tmp_path / "old", tmp_path / "new")
    ]
    assert files[0] == files[1]
    assert open_zoo(zoo.path).epochs == zoo.epochs
