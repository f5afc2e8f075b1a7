"""`zoojax convert`: exit status, what it prints, and what it says of bad input."""

import csv
import json

import pytest
import torch
from test_pickled_datasets import foreign_class
from torch_zoos import checkpoint, state, trial_name, trials, write_trial, write_zoo

from experiments.cli import main

BASE = "checkpoints_to_datasets.dataset_base.ModelDatasetBase"


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """A root of trial folders, and the zoo made of it."""
    folder = tmp_path_factory.mktemp("cli")
    root = write_zoo(folder / "root")
    assert main(["convert", "from-torch", str(root), "--out", str(folder / "zoo"), "--quiet"]) == 0
    return root, folder / "zoo"


def run(capsys, *arguments: object) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of `zoojax convert`."""
    capsys.readouterr()
    status = main(["convert", *map(str, arguments), "--quiet"])
    return status, *capsys.readouterr()


def refused(capsys, *arguments: object) -> str:
    """The one line that a command says when it cannot."""
    status, out, err = run(capsys, *arguments)
    assert (status, out) == (2, "")
    (line,) = err.splitlines()
    assert line.startswith("zoojax: ")
    return line


def test_from_torch_tells_what_came_of_it(capsys, tmp_path):
    root, out = write_zoo(tmp_path / "root"), tmp_path / "zoo"
    checkpoint(trials(root)[0], 1).write_bytes(b"")
    status, text, _ = run(capsys, "from-torch", root, "--out", out)
    assert status == 0
    assert "members: 2, states: 3, rejected: 1" in text
    assert "1 x empty" in text
    assert "rejects.csv" in text
    with (out / "rejects.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["state"] == f"{trial_name(1)}/checkpoint_000001/checkpoints"
    json_out = tmp_path / "json"
    status, text, _ = run(capsys, "from-torch", root, "--out", json_out, "--json")
    facts = {"zoo": str(json_out), "members": 2, "states": 3, "rejected": {"empty": 1}}
    assert (status, json.loads(text)) == (0, {**facts, "notes": []})


def test_from_dataset(capsys, tmp_path):
    with foreign_class(BASE) as held:
        dataset = held()
        dataset.__dict__.update(
            data_in=[state(1), state(2)],
            paths=[f"/zoos/{trial_name(1)}", f"/zoos/{trial_name(2)}"],
            epochs=[5, 5],
            properties={"test_acc": [0.5, 0.75]},
            layer_lst=[(0, "conv2d"), (3, "conv2d"), (6, "conv2d"), (9, "fc"), (11, "fc")],
            mode="checkpoint",
            use_bias=True,
            train_val_test="train",
        )
        torch.save({"trainset": dataset}, tmp_path / "set.pt")
    file, out = tmp_path / "set.pt", tmp_path / "zoo"
    assert "--preset" in refused(capsys, "from-dataset", file, "--out", out)
    arguments = ("from-dataset", file, "--out", out, "--preset", "digits-s-seed", "--json")
    status, text, err = run(capsys, *arguments)
    assert status == 0, err
    assert json.loads(text)["states"] == 2
    status, text, err = run(capsys, "verify", out, file, "--json", "--images", 4)
    assert status == 0, err
    found = json.loads(text)
    assert (found["states"], found["unequal"], found["missing"]) == (2, [], [])


@pytest.mark.parametrize("form", ["trial", "prune", "safetensors"])
def test_to_torch(capsys, converted, tmp_path, form):
    root, zoo = converted
    out = tmp_path / "out"
    arguments = ("to-torch", zoo, "--out", out, "--format", form, "--epochs", "1")
    status, text, _ = run(capsys, *arguments)
    assert status == 0
    if form == "safetensors":
        assert text == f"1 epoch files in {out}\n"
        assert (out / "epoch_000001.safetensors").exists()
    else:
        assert text == f"2 states in {out}\n"
        for folder in trials(root):
            ours = torch.load(checkpoint(out / folder.name, 1), weights_only=True)
            original = torch.load(checkpoint(folder, 1), weights_only=True)
            assert all(torch.equal(ours[name], original[name]) for name in original)


def test_verify(capsys, converted):
    root, zoo = converted
    status, text, _ = run(capsys, "verify", zoo, root, "--sample", 0, "--images", 2)
    assert status == 0
    assert "states compared: 4, on 2 images" in text
    assert "states not equal bit for bit: 0" in text


def test_verify_fails_where_something_differs(capsys, converted, tmp_path):
    _, zoo = converted
    other = write_trial(tmp_path, 1, {0: state(77)}).parent
    status, text, err = run(capsys, "verify", zoo, other, "--json")
    assert status == 2
    assert len(json.loads(text)["unequal"]) == 1
    assert "differs from" in err


def test_bad_input(capsys, converted, tmp_path):
    root, zoo = converted
    out = tmp_path / "out"
    assert "is not a folder" in refused(capsys, "from-torch", tmp_path / "no", "--out", out)
    assert "no trial folder" in refused(capsys, "from-torch", tmp_path, "--out", out)
    assert "--epochs" in refused(capsys, "from-torch", root, "--out", out, "--epochs", "1,x")
    assert "epochs" in refused(capsys, "from-torch", root, "--out", out, "--epochs", "9")
    assert "--where" in refused(capsys, "from-torch", root, "--out", out, "--where", "nope = 1")
    assert "is not a zoo" in refused(capsys, "from-torch", root, "--out", out, "--parent", root)
    assert "is finished" in refused(capsys, "from-torch", root, "--out", zoo)
    assert "no epoch 9" in refused(capsys, "to-torch", zoo, "--out", out, "--epochs", "9")
    assert "is not a zoo" in refused(capsys, "to-torch", root, "--out", out)
    assert "is not a zoo" in refused(capsys, "verify", root, root)
    refused(capsys, "from-dataset", tmp_path / "no.pt", "--out", out)
    assert not out.exists()


def test_a_parent_that_is_none(capsys, converted, tmp_path):
    _, zoo = converted
    twins = write_zoo(tmp_path / "twins", members=3, kind="mp", epochs=[0])
    arguments = ("from-torch", twins, "--out", tmp_path / "out", "--parent", zoo)
    assert "1 twins have no one dense member" in refused(capsys, *arguments)
