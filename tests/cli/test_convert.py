"""`zoojax convert`: exit status, output, and messages for bad input."""

import csv
import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from tests.support.foreign_zoos import lightning_runs
from tests.support.pickled_datasets import BASE, LAYERS, foreign_class, image_file
from tests.support.torch_zoos import checkpoint, state, trial_name, trials, write_trial, write_zoo
from zoojax.cli.main import main


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """Trial folders, and the zoo converted from them."""
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
    """The single line with which a command refuses its arguments."""
    status, out, err = run(capsys, *arguments)
    assert (status, out) == (2, "")
    (line,) = err.splitlines()
    assert line.startswith("zoojax: ")
    return line


def test_from_torch_prints_a_summary(capsys, tmp_path):
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
    printed = json.loads(text)
    assert (status, {name: printed[name] for name in facts}) == (0, facts)
    assert printed["notes"] == []


def test_from_dataset(capsys, tmp_path):
    with foreign_class(BASE) as cls:
        dataset = cls()
        dataset.__dict__.update(
            data_in=[state(1), state(2)],
            paths=[f"/zoos/{trial_name(1)}", f"/zoos/{trial_name(2)}"],
            epochs=[5, 5],
            properties={"test_acc": [0.5, 0.75]},
            layer_lst=LAYERS,
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
    result = json.loads(text)
    assert (result["states"], result["unequal"], result["missing"]) == (2, [], [])


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
            exported = torch.load(checkpoint(out / folder.name, 1), weights_only=True)
            original = torch.load(checkpoint(folder, 1), weights_only=True)
            assert all(torch.equal(exported[name], original[name]) for name in original)


def test_verify(capsys, converted):
    root, zoo = converted
    status, text, _ = run(capsys, "verify", zoo, root, "--sample", 0, "--images", 2)
    assert status == 0
    assert "states compared: 4, on 2 images" in text
    assert "states not equal bit for bit: 0" in text


def test_verify_fails_if_a_state_differs(capsys, converted, tmp_path):
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
    assert "was created with" in refused(capsys, "from-torch", root, "--out", zoo, "--epochs", "0")
    assert "no epoch 9" in refused(capsys, "to-torch", zoo, "--out", out, "--epochs", "9")
    assert "is not a zoo" in refused(capsys, "to-torch", root, "--out", out)
    assert "is not a zoo" in refused(capsys, "verify", root, root)
    refused(capsys, "from-dataset", tmp_path / "no.pt", "--out", out)
    assert not out.exists()


def test_repeated_conversion(capsys, converted):
    root, zoo = converted
    status, text, _ = run(capsys, "from-torch", root, "--out", zoo)
    assert (status, "members: 2, states: 4, rejected: 0" in text) == (0, True)


def test_parent_without_a_matching_member(capsys, converted, tmp_path):
    _, zoo = converted
    twins = write_zoo(tmp_path / "twins", members=3, kind="mp", epochs=[0])
    arguments = ("from-torch", twins, "--out", tmp_path / "out", "--parent", zoo)
    assert "1 twin(s) match no single dense member" in refused(capsys, *arguments)


def test_percentages_are_noted(capsys, tmp_path):
    root = write_zoo(tmp_path / "root", epochs=[0])
    for folder, acc in zip(trials(root), (40.0, 95.0), strict=True):
        line = {"training_iteration": 0, "test_acc": acc}
        (folder / "result.json").write_text(json.dumps(line))
    arguments = ("from-torch", root, "--min-accuracy", 0.9, "--out")
    status, text, err = run(capsys, *arguments, tmp_path / "zoo")
    assert (status, "members: 2, states: 1, rejected: 1" in text) == (0, True)
    note = "test_acc, ggap: reported in percent, stored as fractions"
    assert err == f"zoojax: note: {note}\n"
    status, text, err = run(capsys, *arguments, tmp_path / "json", "--json")
    assert json.loads(text)["notes"] == [note]


def test_rejection_of_every_state(capsys, tmp_path):
    root = write_zoo(tmp_path / "root")
    line = refused(capsys, "from-torch", root, "--out", tmp_path / "zoo", "--max-abs-weight", 1e-9)
    assert "every state is rejected" in line
    assert [p.name for p in tmp_path.iterdir()] == ["root"]


def test_former_option_names_are_accepted(capsys, tmp_path):
    root = write_zoo(tmp_path / "root", epochs=[1, 3])
    for name, options in {
        "new": ("--max-abs-weight", 50, "--min-accuracy", 0.25),
        "old": ("--largest-weight", 50, "--lowest-accuracy", 0.25),
    }.items():
        status, text, _ = run(capsys, "from-torch", root, "--out", tmp_path / name, *options)
        assert (status, "states: 2, rejected: 2" in text) == (0, True)
    arguments = ("from-torch", root, "--out", tmp_path / "other", "--largest-weight", "x")
    assert "--max-abs-weight" in refused(capsys, *arguments)


def pipe(path):
    os.mkfifo(path)


@pytest.mark.parametrize(
    "damage, reason",
    [
        (lambda f: f.write_bytes(b"not torch"), "not a torch file"),
        (lambda f: f.write_bytes(b""), "empty"),
        (lambda f: f.symlink_to(f.name), "symbolic links"),
        (lambda f: f.mkdir(), "a folder"),
        (pipe, "not a regular file"),
        (lambda f: torch.save({"trainset": 1}, f), "not a pickled dataset"),
        (lambda f: torch.save({k: v for k, v in image_file().items() if k != "trainset"}, f),
         "has no images in a trainset"),
        (lambda f: torch.save(image_file(0), f), "has no images in a trainset"),
        (lambda f: torch.save(image_file(), f), "does not fit the small CNN"),
    ],
    ids=["text", "empty", "circle", "folder", "pipe", "other", "no-train", "none", "size"],
)  # fmt: skip
def test_unusable_own_images_are_left_out(capsys, tmp_path, damage, reason):
    root, out = write_zoo(tmp_path / "root", epochs=[0]), tmp_path / "zoo"
    damage(root / "dataset.pt")
    status, text, err = run(capsys, "from-torch", root, "--out", out)
    assert status == 0, err
    assert "members: 2, states: 2, rejected: 0" in text
    (line,) = err.splitlines()
    assert line.startswith("zoojax: note: ") and "left out" in line and reason in line
    assert json.loads((out / "zoo.json").read_text())["data_hash"] is None
    if reason == "does not fit the small CNN":
        return
    # If they are requested, this is an error.
    arguments = ("from-torch", root, "--out", tmp_path / "other", "--data", root / "dataset.pt")
    assert reason in refused(capsys, *arguments)
    assert not (tmp_path / "other").exists()


def test_path_that_is_not_text(capsys, tmp_path):
    folder, zoo = tmp_path / os.fsdecode(b"\xff\n"), tmp_path / "zoo"
    root = write_zoo(folder / "root", epochs=[0])
    assert run(capsys, "from-torch", root, "--out", zoo)[0] == 0
    assert run(capsys, "verify", zoo, root, "--images", 2)[0] == 0
    assert run(capsys, "to-torch", zoo, "--out", folder / "back")[0] == 0
    checkpoint(trials(root)[0], 0).write_bytes(b"")
    line = refused(capsys, "from-torch", root, "--out", tmp_path / "strict", "--strict")
    assert "empty" in line


def test_export_notes_changed_names(capsys, tmp_path):
    root = write_zoo(tmp_path / "root", members=1, epochs=[0])
    trials(root)[0].rename(root / "a\\b_trainable_")
    assert run(capsys, "from-torch", root, "--out", tmp_path / "zoo")[0] == 0
    status, text, err = run(capsys, "to-torch", tmp_path / "zoo", "--out", tmp_path / "back")
    assert (status, text) == (0, f"1 states in {tmp_path / 'back'}\n")
    assert err.startswith("zoojax: note: 1 trial name(s) cannot name a folder")


@pytest.mark.parametrize("epochs", ["5-3", "1,,2", "-1", "1-", "²"])
def test_invalid_epochs(capsys, converted, tmp_path, epochs):
    assert "--epochs" in refused(
        *(capsys, "to-torch", converted[1], "--out", tmp_path / "out", f"--epochs={epochs}")
    )


def test_parent_without_epochs(capsys, converted, tmp_path):
    """As in a zoo whose first epoch is not complete yet."""
    _, zoo = converted
    parent = Path(shutil.copytree(zoo, tmp_path / "parent"))
    shutil.rmtree(parent / "states")
    twins = write_zoo(tmp_path / "twins", kind="vd")
    line = refused(capsys, "from-torch", twins, "--parent", parent, "--out", tmp_path / "vd")
    assert f"{parent} has no completed epoch yet" in line
    assert not (tmp_path / "vd").exists()


def test_from_recognizes_and_ends_with_remarks(capsys, tmp_path):
    root = lightning_runs(tmp_path / "root")
    (root / "version_0" / "checkpoints" / "epoch=1-step=9.ckpt").unlink()
    arguments = ("from", root, "--assume", "dropout=0.5", "--out")
    status, text, err = run(capsys, *arguments, tmp_path / "zoo")
    assert status == 0, err
    assert "note: read as folders of checkpoint files (--format checkpoints), because" in err
    assert "members: 2, states: 3, rejected: 0" in text
    lines = {line.strip() for line in text.splitlines()}
    assert "2  dropout is unknown, 0.5 is assumed" in lines
    assert "1  states missing of some member at some epoch" in lines
    status, text, _ = run(capsys, *arguments, tmp_path / "json", "--json")
    assert json.loads(text)["remarks"]["dropout is unknown, 0.5 is assumed"] == 2
    status, text, err = run(capsys, "verify", tmp_path / "zoo", root, "--images", 2)
    assert status == 0, err
    back = tmp_path / "back"
    assert run(capsys, "to-torch", tmp_path / "zoo", "--out", back, "--dialect", "original")[0] == 0
    assert (back / "version_1" / "checkpoints" / "epoch=1-step=9.ckpt").is_file()
    out = tmp_path / "other"
    assert "does not exist" in refused(capsys, "from", tmp_path / "none", "--out", out)
    assert "--assume" in refused(capsys, "from", root, "--assume", "x", "--out", out)
