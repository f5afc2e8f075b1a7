"""Source formats: what recognizes a path, the members in it, and their epochs and metrics."""

import gzip
import shutil

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import save_file

from tests.support import foreign_zoos
from tests.support.torch_zoos import state, write_trial, write_zoo
from zoojax.architectures.cnn import medium_cnn
from zoojax.converters.api import convert_each, convert_from, to_torch
from zoojax.converters.dialects.base import DialectOptions
from zoojax.converters.formats.registry import FORMATS, recognize
from zoojax.converters.state_dicts import State
from zoojax.errors import ZoojaxError
from zoojax.text import is_printable

NOTHING = DialectOptions()


def listing(path, name=None):
    """The name of the format of a path, and its members."""
    reader, reason = recognize(path, name)
    assert reason and "\n" not in reason
    return reader.name, reader.members(path, NOTHING)


def equal(read: State, seed: int) -> bool:
    """Whether a state is that of a seed."""
    return all(np.array_equal(read[name], t.numpy()) for name, t in state(seed).items())


def test_function_trials(tmp_path):
    name, found = listing(foreign_zoos.function_trials(tmp_path / "root"))
    assert name == "trials"
    first, second = found.sources
    assert (list(first.states), list(first.rows)) == ([1, 2], [1, 2])
    assert equal(second.states[2](), 11)
    assert first.config["optim::lr"] == 0.1 and first.config["model::nlin"] == "ReLU"
    assert [note.partition(" has ")[2] or note for note in found.notes] == [
        "epochs are training_iteration of result.json (2 trials)",
        "no checkpoint and is left out; it failed (error.txt)",
    ]


def test_class_trials(tmp_path):
    root = foreign_zoos.class_trials(tmp_path / "root")
    _, found = listing(root)
    assert [list(source.states) for source in found.sources] == [[1, 2], [1, 2]]
    assert "epochs of its checkpoints are those of its rows, in order" in found.sources[0].notes
    trial = next(root.glob("*_trainable_*"))
    (trial / "result.json").write_text('{"training_iteration": 7}\n')
    _, found = listing(root)
    by_name = {source.name: source for source in found.sources}
    assert any("epochs are unknown" in note for note in by_name[trial.name].notes)


def test_nested_trials(tmp_path):
    write_zoo(tmp_path / "a" / "b" / "zoo", members=1, epochs=[0])
    name, found = listing(tmp_path / "a")
    assert (name, len(found.sources)) == ("trials", 1)
    assert found.notes[0] == "the trials are in b/zoo"
    write_zoo(tmp_path / "a" / "c", members=1, epochs=[0])
    with pytest.raises(ZoojaxError, match=r"contains 2 zoos \(c, b/zoo"):
        listing(tmp_path / "a")


def test_lightning_runs(tmp_path):
    name, found = listing(foreign_zoos.lightning_runs(tmp_path / "root"))
    assert name == "checkpoints"
    first, second = found.sources
    assert (first.name, list(first.states)) == ("version_0", [0, 1])
    assert first.rows == {
        0: {"test_acc": 0.31, "train_loss": 2.1},
        1: {"test_acc": 0.42, "train_loss": 1.7},
    }
    assert equal(second.states[1](), 11)
    assert (second.config["seed"], second.config["optim::lr"]) == (1, 0.001)


@pytest.mark.parametrize(
    "files, members",
    [
        (["a/checkpoint-0.pth.tar", "a/checkpoint-1.pth.tar", "a/last.pth.tar"], {"a": [0, 1]}),
        (["a/model_0.pth", "a/model_5.pth", "b/model_0.pth"], {"a": [0, 5], "b": [0]}),
        (["model_0.pth", "model_1.pth"], {"model_0": [0], "model_1": [0]}),
        (["a/checkpoints/checkpoint_3/pytorch_model.bin"], {"a": [3]}),
        (["0003_acc0.5_seed0020_tag.pth", "0007_acc0.6_seed0020_tag.pth"], {"tag": [3, 7]}),
        (["a/weights.pt", "a/optimizer.pt", "a/.hidden/x.pt", "__MACOSX/y.pt"], {"a": [0]}),
        (["a/epoch_2/x.pt", "a/epoch_10/x.pt"], {"a": [2, 10]}),
    ],
)
def test_names_of_checkpoints(tmp_path, files, members):
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        torch.save(state(1), tmp_path / file)
    _, found = listing(tmp_path, "checkpoints")
    assert {source.name: sorted(source.states) for source in found.sources} == members


def test_shards_links_and_duplicates_are_named(tmp_path):
    folder = tmp_path / "zoo" / "a"
    folder.mkdir(parents=True)
    for name in ("model_1.pt", "b_1.pt", "model-00001-of-00002.safetensors"):
        torch.save(state(1), folder / name)
    (folder / "link.pt").symlink_to(folder / "model_1.pt")
    (tmp_path / "zoo" / "b").symlink_to(folder)
    _, found = listing(tmp_path / "zoo", "checkpoints")
    (source,) = found.sources
    shard = "a/model-00001-of-00002.safetensors"
    assert source.skipped["a/model_1.pt"] == "epoch 1 twice"
    assert source.skipped[shard].startswith("one of several files of a state")
    assert found.notes == ["b is a link and not followed", "a/link.pt is a link and not followed"]


def test_hostile_names_are_escaped(tmp_path):
    folder = tmp_path / "zoo" / "a\x1b[31m\n"
    folder.mkdir(parents=True)
    (folder / "x\x1b.pt").write_bytes(b"no state")
    with pytest.raises(ZoojaxError) as caught:
        convert_from(tmp_path / "zoo", tmp_path / "out", quiet=True)
    assert is_printable(str(caught.value)) and "not a torch file" in str(caught.value)
    root = foreign_zoos.function_trials(tmp_path / "trials")
    for file in root.glob("*/*/model.pt"):
        file.write_bytes(b"no state")
        file.rename(file.with_name("m\x1b[1m.pt"))
    with pytest.raises(ZoojaxError) as caught:
        convert_from(root, tmp_path / "out", quiet=True)
    assert is_printable(str(caught.value)) and "not a torch file" in str(caught.value)


def test_hub_models(tmp_path):
    folder = tmp_path / "Model__1"
    folder.mkdir()
    save_file({name: t.contiguous() for name, t in state(1).items()}, folder / "model.safetensors")
    (folder / "training_args.bin").write_bytes(b"a pickle that is not opened")
    (folder / "trainer_state.json").write_text(
        '{"epoch": 2.0, "log_history": [{"epoch": 2.0, "eval_accuracy": 0.6, "eval_loss": 1}]}'
    )
    _, found = listing(tmp_path)
    (source,) = found.sources
    assert source.rows == {2: {"test_acc": 0.6, "test_loss": 1.0}}
    assert equal(source.states[2](), 1)


def test_flat_matrix(tmp_path):
    root = foreign_zoos.flat_matrix(tmp_path / "root")
    name, found = listing(root)
    assert (name, [list(source.states) for source in found.sources]) == ("matrix", [[0, 20]] * 2)
    row = np.load(root / "weights.npy")[1]
    read = found.sources[0].states[20]()
    np.testing.assert_array_equal(read["conv2d.bias"], row[:16])
    kernel = row[16:160].reshape(3, 3, 1, 16)
    np.testing.assert_array_equal(read["conv2d.weight"], kernel.transpose(3, 2, 0, 1))
    np.testing.assert_array_equal(read["dense.weight"], row[4810:].reshape(16, 10).T)
    zoo = convert_from(root, tmp_path / "zoo", quiet=True).zoo
    assert zoo.config.architecture == "gap_cnn"
    assert zoo.members_table.select("trial", "seed", "optimizer", "init", "dropout").rows() == [
        ("/zoo/0", 42, "rmsprop", "he_normal", 0.25),
        ("/zoo/1", 42, "rmsprop", "he_normal", 0.25),
    ]
    assert zoo.metrics_history["test_acc"].to_list() == [0.5] * 4


@pytest.mark.parametrize(
    "damage, reason",
    [
        (lambda r: np.save(r / "weights.npy", np.zeros((4, 9), np.float32)), "does not cover"),
        (lambda r: np.save(r / "weights.npy", np.zeros((3, 4970), np.float32)), "4 rows for 3"),
        (lambda r: np.save(r / "weights.npy", np.zeros(9, np.float32)), "not rows of numbers"),
        (lambda r: np.save(r / "weights.npy", np.zeros((4, 9), np.int64)), "not rows of numbers"),
        (lambda r: np.save(r / "weights.npy", np.array([[{}]])), "not rows of numbers"),
        (lambda r: (r / "weights.npy").write_bytes(b"\x93NUMPY"), "not a NumPy file"),
        (lambda r: (r / "layout.csv").write_text("varname\na\n"), "start_idx"),
        (lambda r: (r / "layout.csv").write_text("a,a\n1,2\n"), "distinct names"),
        (lambda r: (r / "metrics.csv.gz").write_bytes(b"\x1f\x8b\x08"), "is damaged"),
        (lambda r: (r / "metrics.csv.gz").unlink(), "has no metrics.csv"),
    ],
)  # fmt: skip
def test_damaged_matrix_is_refused(tmp_path, damage, reason):
    root = foreign_zoos.flat_matrix(tmp_path / "root")
    damage(root)
    with pytest.raises(ZoojaxError) as caught:
        convert_from(root, tmp_path / "zoo", quiet=True)
    assert reason in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "zoo").exists()


def test_compressed_table_cannot_expand_without_bound(tmp_path):
    root = foreign_zoos.flat_matrix(tmp_path / "root")
    with gzip.open(root / "metrics.csv.gz", "wb") as file:
        file.write(b"step\n" + b"0\n" * 3_000_000)
    with pytest.raises(ZoojaxError, match="expands from"):
        convert_from(root, tmp_path / "zoo", quiet=True)


def test_files_with_many_members(tmp_path):
    name, found = listing(foreign_zoos.member_file(tmp_path / "members.pt"))
    assert (name, [source.name for source in found.sources]) == ("file", ["run 0", "run 1"])
    assert equal(found.sources[1].states[0](), 1)
    torch.save([state(0), {"state_dict": state(1)}], tmp_path / "list.pt")
    _, found = listing(tmp_path / "list.pt")
    assert equal(found.sources[1].states[0](), 1)
    stacked = {name: torch.stack([t, state(1)[name]]) for name, t in state(0).items()}
    save_file(stacked, tmp_path / "stacked.safetensors")
    _, found = listing(tmp_path / "stacked.safetensors")
    assert equal(found.sources[0].states[0](), 0) and equal(found.sources[1].states[0](), 1)
    torch.save(state(5), tmp_path / "one.pt")
    _, found = listing(tmp_path / "one.pt")
    assert [source.name for source in found.sources] == ["one"]


def test_unknown_paths_are_refused(tmp_path):
    for path, reason in {
        tmp_path / "none": "does not exist",
        tmp_path: "is in no known format",
    }.items():
        with pytest.raises(ZoojaxError, match=reason):
            recognize(path)
    with pytest.raises(ZoojaxError, match="no source format named 'x'"):
        recognize(tmp_path, "x")
    assert {*FORMATS} == {
        *("matrix", "trials", "dataset", "checkpoints", "file", "inrs", "haiku", "safetensors"),
    }


def test_unknown_hyperparameters_are_assumed_and_noted(tmp_path):
    root = foreign_zoos.lightning_runs(tmp_path / "root")
    result = convert_from(root, tmp_path / "zoo", assume=["optimizer=sgd"], quiet=True)
    table = result.zoo.members_table
    columns = table.select("seed", "activation", "optimizer", "learning_rate", "dropout")
    assert columns.rows() == [(0, "relu", "sgd", 0.001, 0.0), (1, "relu", "sgd", 0.001, 0.0)]
    assert "optimizer is unknown, sgd is assumed" in table["notes"][0]
    assert result.remarks["optimizer is unknown, sgd is assumed"] == 2
    assert result.notes[0].startswith("read as folders of checkpoint files (--format checkpoints)")
    for assumption in ("optimizer=nope", "nope=1", "optimizer", "dropout=2", "dropout=x"):
        with pytest.raises(ZoojaxError):
            convert_from(root, tmp_path / "other", assume=[assumption], quiet=True)


def test_states_return_to_files_of_their_names(tmp_path):
    root = foreign_zoos.lightning_runs(tmp_path / "root")
    zoo = convert_from(root, tmp_path / "zoo", quiet=True).zoo
    to_torch(zoo, tmp_path / "back", dialect="original", quiet=True)
    place = "version_1/checkpoints/epoch=1-step=9.ckpt"
    original, back = (
        torch.load(folder / place, weights_only=True)["state_dict"]
        for folder in (root, tmp_path / "back")
    )
    assert list(original) == list(back)
    assert all(torch.equal(original[name], back[name]) for name in original)
    with pytest.raises(ZoojaxError, match="omit the format"):
        to_torch(zoo, tmp_path / "other", dialect="original", format="prune", quiet=True)


def test_contradictions_are_noted(tmp_path):
    root = write_zoo(tmp_path / "root", members=1, epochs=[0])
    trial = next(root.glob("*_trainable_*"))
    lines = (trial / "result.json").read_text()
    row = '{"training_iteration": 0, "test_acc": 0.25, "config": {"seed": 99}}\n'
    (trial / "result.json").write_text(lines + row)
    notes = convert_from(root, tmp_path / "zoo", quiet=True).zoo.members_table["notes"][0]
    assert "1 epoch(s) in result.json reported twice with other values, the last counts" in notes
    assert "params.json and its reports differ in seed, params.json counts" in notes


def test_interrupted_conversion_of_a_format_resumes(tmp_path):
    root = foreign_zoos.lightning_runs(tmp_path / "root")
    whole = convert_from(root, tmp_path / "zoo", quiet=True).zoo
    shutil.rmtree(tmp_path / "zoo" / "states" / "1")
    table = pl.read_parquet(tmp_path / "zoo" / "metrics.parquet").filter(pl.col("epoch") < 1)
    table.write_parquet(tmp_path / "zoo" / "metrics.parquet")
    again = convert_from(root, tmp_path / "zoo", quiet=True).zoo
    assert again.epochs == whole.epochs == [0, 1]


def test_each_network_has_a_zoo(tmp_path):
    root = write_zoo(tmp_path / "root", members=3, epochs=[0])
    write_trial(root, 9, {0: state(9, "dense", medium_cnn(1, 10))})
    (next(root.glob("*seed=1")) / "checkpoint_000000" / "checkpoints").write_bytes(b"x")
    results = convert_each(root, tmp_path / "zoos", quiet=True)
    shapes = {name: (len(each.zoo), len(each.rejected)) for name, each in results.items()}
    assert shapes == {"small-1x28-10": (2, 1), "medium-1x28-10": (1, 0)}
    assert {path.name for path in (tmp_path / "zoos").iterdir()} == shapes.keys()
