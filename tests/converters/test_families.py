"""Families of published zoos: what is in the files next to the weights, and in their names."""

import json
import pickle
from argparse import Namespace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from tests.support import foreign_zoos
from tests.support.pickled_datasets import foreign_class
from tests.support.torch_zoos import state, write_zoo
from zoojax.architectures.chain_names import named_chain
from zoojax.converters.api import convert_each, convert_from, to_torch, verify
from zoojax.converters.checkpoint_files import read_state
from zoojax.converters.dialects.base import DialectOptions
from zoojax.converters.formats.registry import recognize
from zoojax.converters.safe_load import UnreadableFileError
from zoojax.converters.stored_facts import stored_config
from zoojax.errors import ZoojaxError
from zoojax.hyperparameters.tables import seeds_of


def members(path: Path) -> dict:
    """The format of a path, and its members by name."""
    reader, _ = recognize(path)
    return {source.name: source for source in reader.members(path, DialectOptions()).sources}


class Evil:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return exec, ("raise SystemExit(3)",)


def test_image_networks(tmp_path):
    root = foreign_zoos.inrs(tmp_path / "inrs")
    result = convert_from(root, tmp_path / "zoo", quiet=True)
    table = result.zoo.members_table.sort("image")
    assert result.zoo.config.architecture == "siren-8"
    assert table["split"].to_list() == ["train", "train", "test"]
    assert table["label"].to_list() == [3, 4, 5] and table["image"].to_list() == [0, 1, 2]
    assert set(table["activation"]) == {"sine"}
    assert verify(result.zoo, root, images=4, quiet=True).difference < 1e-5
    to_torch(result.zoo, tmp_path / "back", dialect="original", quiet=True)
    restored = torch.load(tmp_path / "back" / "train-model_0" / "model_0.pth", weights_only=True)
    assert list(restored) == [*foreign_zoos.siren_state(0), "label"] and restored["label"] == 3
    # One part alone, without its splits.
    alone = convert_from(root / "test", tmp_path / "part", quiet=True).zoo.members_table
    assert alone.select("split", "image", "label").rows() == [("test", 2, 5)]


def test_published_splits_of_ambiguous_paths_are_not_guessed(tmp_path):
    root = foreign_zoos.inrs(tmp_path / "inrs")
    (root / "train").rename(root / "a")
    (root / "test").rename(root / "b")
    splits = {"train": ["x/model_0.pth", "y/model_1.pth"], "test": ["z/model_0.pth"], "old": [3]}
    (root / "splits.json").write_text(json.dumps(splits))
    result = convert_from(root, tmp_path / "zoo", quiet=True)
    found = dict(result.zoo.members_table.select("trial", "split").rows())
    assert found == {"model_0": None, "model_1": "train", "model_2": None}
    (root / "splits.json").write_text("[")
    result = convert_from(root, tmp_path / "again", quiet=True)
    assert any(note.startswith("splits cannot be read") for note in result.notes)
    assert "split" not in result.zoo.members_table.columns


@pytest.mark.parametrize(
    ("last", "network"),
    [
        (36, "chain-28-c8x5-a-m2-o-c6x5-a-m2-o-c4x2-a-f-d20-a-o-d"),
        (16, "chain-28-c8x5-a-m2-o-c6x5-a-m2-o-c4x2-a-m2s1-f-d20-a-o-d"),
        (64, "chain-32-c8x5-a-m2-o-c6x5-a-m2-o-c4x2-a-f-d20-a-o-d"),
    ],
)
def test_haiku_networks_are_found_by_their_flattened_images(tmp_path, last, network):
    root = foreign_zoos.haiku_runs(tmp_path / "root", last)
    result = convert_from(root, tmp_path / "zoo", quiet=True)
    assert result.zoo.config.architecture == network
    assert result.zoo.members_table["activation"].to_list() == ["silu"] * 2
    assert verify(result.zoo, root, images=4, quiet=True).difference < 1e-5
    file = Path("seed_42_iter_1", "100", "arrays.npy")
    kernel = np.asarray(result.zoo.state(100)["params"]["fc1"]["kernel"][1])
    with (root / file).open("rb") as arrays:
        stored = [np.load(arrays) for _ in range(10)]
    # Images are flattened with their channels last on both sides.
    assert np.array_equal(kernel, stored[7])
    to_torch(result.zoo, tmp_path / "back", dialect="original", quiet=True)
    assert (tmp_path / "back" / file).read_bytes() == (root / file).read_bytes()


def test_haiku_files_are_refused_if_they_do_not_fit(tmp_path):
    root = foreign_zoos.haiku_runs(tmp_path / "root")
    step = root / "seed_42_iter_0" / "100"
    whole, tree = (step / "arrays.npy").read_bytes(), (step / "tree.pkl").read_bytes()

    def reason() -> str:
        (source,) = (s for s in members(root).values() if s.name == "seed_42_iter_0")
        with pytest.raises(UnreadableFileError) as caught:
            source.states[100]()
        assert "\n" not in caught.value.reason
        return caught.value.reason

    (step / "tree.pkl").write_bytes(pickle.dumps(Evil()))
    assert "nothing was run" in reason()
    (step / "tree.pkl").write_bytes(pickle.dumps({"cnn/conv2_d": {"w": 0, "b": 0}}))
    assert "more arrays" in reason()
    larger = {"cnn/lstm": {"w": 0, "b": 0}} | pickle.loads(tree)
    (step / "tree.pkl").write_bytes(pickle.dumps(larger))
    assert "too few arrays" in reason()
    (step / "tree.pkl").unlink()
    assert "cannot be read" in reason()
    (step / "tree.pkl").write_bytes(tree)
    (step / "arrays.npy").write_bytes(whole[: len(whole) // 2])
    assert "damaged" in reason() or "truncated" in reason()
    with (step / "arrays.npy").open("wb") as file:
        np.save(file, np.array([Evil()], object), allow_pickle=True)
    assert "not of numbers" in reason()
    assert len(convert_from(root, tmp_path / "zoo", quiet=True).zoo) == 1


def test_networks_of_stored_configs(tmp_path):
    root = foreign_zoos.wild_park(tmp_path / "root")
    results = convert_each(root, tmp_path / "zoos", quiet=True)
    assert sorted(each.zoo.config.architecture for each in results.values()) == [
        "chain-32-c4x3p1-relu-c6x5p2-identity-g-d",
        "chain-32-c4x3p1-relu-c6x5p2-r1-identity-g-d",
    ]
    for result in results.values():
        # The files' iterations, not the numbers of the folders.
        assert result.zoo.epochs == [0, 10] and not result.rejected
        assert result.zoo.metrics["test_acc"].to_list() == pytest.approx([0.4, 0.5])
        assert verify(result.zoo, root, images=4, quiet=True).difference < 1e-5
    whole = convert_from(root, tmp_path / "one", quiet=True)
    assert any("1 of 2 members" in note and "--each-network" in note for note in whole.notes)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"activation": ["relu", "maxout"]}, "activation maxout is unknown"),
        ({"residual": [-1, 1]}, "complete blocks"),
        ({"channels": [3, 4, 8]}, "its weights are not those"),
        ({"channels": "34"}, "describes no known network"),
        ({"kernel_size": [3, 10**9]}, "describes no known network"),
        ({"stride": [1]}, "1 values for 2 layers"),
    ],
)
def test_configs_that_do_not_fit_are_refused(tmp_path, change, reason):
    config = {**foreign_zoos.described_config(), **change}
    root = foreign_zoos.wild_park(tmp_path / "root", configs=[config])
    with pytest.raises(ZoojaxError, match=reason) as caught:
        convert_from(root, tmp_path / "zoo", quiet=True)
    assert "\n" not in str(caught.value)


def test_configs_of_foreign_classes_are_read_as_data(tmp_path):
    file = tmp_path / "a.pt"

    def node(cls: type, **content: object) -> object:
        made = cls()
        made.__dict__.update(content, _parent=None)
        return made

    with (
        foreign_class("omegaconf.dictconfig.DictConfig") as config,
        foreign_class("omegaconf.nodes.AnyNode") as leaf,
        foreign_class("omegaconf.listconfig.ListConfig") as listed,
    ):
        inner = node(listed, _content=[node(leaf, _val=3)])
        content = {"lr": node(leaf, _val=0.5), "sizes": inner, "act": node(leaf, _val="gelu")}
        torch.save({"state_dict": state(0), "config": node(config, _content=content)}, file)
    stored = read_state(file).stored
    assert stored["config"] == {"lr": 0.5, "sizes": [3], "act": "gelu"}
    assert stored_config(stored)["optim::lr"] == 0.5
    torch.save({"model": state(0), "args": Namespace(lr=0.25, opt="sgd", seed=7)}, file)
    assert stored_config(read_state(file).stored)["optim::optimizer"] == "sgd"


def test_configs_in_checkpoints_fill_in_what_no_file_reports(tmp_path):
    root = tmp_path / "root"
    for i in range(2):
        (root / f"run_{i}").mkdir(parents=True)
        parameters = {"learning_rate": 0.5, "activation": "gelu", "seed": i}
        content = {"state_dict": state(i), "hyper_parameters": parameters, "epoch": 3}
        torch.save({**content, "test_acc": 87.5}, root / f"run_{i}" / "epoch_3.ckpt")
    (root / "run_1" / "params.json").write_text('{"lr": 0.25}')
    zoo = convert_from(root, tmp_path / "zoo", quiet=True).zoo
    assert zoo.members_table["learning_rate"].to_list() == [0.5, 0.25]
    assert zoo.members_table["seed"].to_list() == [0, 1]
    assert zoo.metrics["test_acc"].to_list() == [0.875, 0.875]


def test_runs_in_the_names_of_files(tmp_path):
    root = tmp_path / "tag" / "checkpoint"
    root.mkdir(parents=True)
    for epoch in range(2):
        for task in range(2):
            name = f"{epoch:04d}_acc0.5{task}00_class{task:04d}_seed0020_tag.pth"
            torch.save(state(10 * task + epoch), root / name)
    for path in (root, tmp_path / "tag"):
        zoo = convert_from(path, tmp_path / f"zoo-{path.name}", quiet=True).zoo
        assert zoo.members_table["trial"].to_list() == ["tag_class0000", "tag_class0001"]
        assert zoo.members_table["seed"].to_list() == [20, 20]
        assert zoo.metrics.filter(epoch=1)["test_acc"].to_list() == pytest.approx([0.5, 0.51])


def test_members_are_the_folders_of_checkpoints(tmp_path):
    for split in ("a", "b"):
        for run in range(2):
            folder = tmp_path / "zoo" / split / f"run_{run}" / "checkpoints" / "epoch_2"
            folder.mkdir(parents=True)
            torch.save(state(run), folder / "model.pt")
            (folder.parents[1] / "config.json").write_text(json.dumps({"seed": run}))
    found = members(tmp_path / "zoo")
    assert sorted(found) == ["a-run_0", "a-run_1", "b-run_0", "b-run_1"]
    assert [list(source.states) for source in found.values()] == [[2]] * 4
    assert found["b-run_1"].config["seed"] == 1


def test_column_of_epochs_is_always_reported(tmp_path):
    root = write_zoo(tmp_path / "root", members=2, epochs=[0])
    result = convert_from(root, tmp_path / "zoo", quiet=True)
    assert "epochs are training_iteration of result.json (2 trials)" in result.notes
    runs = convert_from(foreign_zoos.lightning_runs(tmp_path / "runs"), tmp_path / "l", quiet=True)
    remarks = runs.zoo.members_table["notes"].to_list()
    assert all("epochs of its metrics are the column epoch of metrics.csv" in n for n in remarks)


def test_skips_of_chains():
    chain = named_chain("chain-8-c4x3p1-relu-c6x3p1-r1-tanh-g-d", channels=1, classes=3)
    # The units of connected blocks are not permuted alone.
    assert chain.permutations == ()
    for name in ("chain-8-c4x3p1-r1-g-d", "chain-8-c4x3-relu-c6x3-r1-g-d", "chain-8-r1-g-d"):
        with pytest.raises(ZoojaxError, match="does not fit"):
            named_chain(name, channels=1, classes=3)


def test_members_without_seeds_are_trained_with_their_ids():
    table = pl.DataFrame({"id": [3, 4, 5], "seed": [9, None, 0]})
    assert seeds_of(table).tolist() == [9, 4, 0]
    assert seeds_of(pl.DataFrame({"seed": [2**32 - 1]})).tolist() == [2**32 - 1]
