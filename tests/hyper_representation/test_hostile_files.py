"""Hyper-representations that anybody may have made: they open cleanly, or one line says why not."""

import json
import os
import shutil
from pathlib import Path

import jax
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import representations
from zoojax import Zoo, ZoojaxError
from zoojax.hyper_representation.config import RepresentationConfig
from zoojax.hyper_representation.representation import (
    CONFIG,
    LOSSES,
    STATES,
    Representation,
    open_representation,
)
from zoojax.storage import checkpoints

pytestmark = pytest.mark.usefixtures("quickly_compiled")

LONG = 10**400
LAYERS = ["conv1", "conv2", "conv3", "fc1", "fc2"]


@pytest.fixture
def known(tmp_path_factory) -> Representation:
    return representations.reconstructing(tmp_path_factory)


@pytest.fixture
def twin(tmp_path_factory) -> Zoo:
    return representations.twin(tmp_path_factory)


@pytest.fixture
def copied(known, tmp_path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(known.path, tmp_path / "rep"))


def change(path: Path, where: tuple, value: object) -> None:
    """Sets a value of representation.json, or removes it (Ellipsis)."""
    content = json.loads((path / CONFIG).read_text())
    inner = content
    for key in where[:-1]:
        inner = inner[key]
    if value is ...:
        del inner[where[-1]]
    else:
        inner[where[-1]] = value
    (path / CONFIG).write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("where", "value", "named"),
    [
        (("settings",), [], "settings"),
        (("settings", "width"), "16", "int"),
        (("settings", "width"), True, "int"),
        (("settings", "width"), 2**20, "width"),
        (("settings", "width"), LONG, "width"),
        (("settings", "width"), -LONG, "width"),
        (("settings", "layers"), 10**6, "layers"),
        (("settings", "chunk_length"), 10**12, "chunk_length"),
        (("settings", "projection"), [400, 50, 1], "length 2"),
        (("settings", "projection"), [400, 0], "projection"),
        (("settings", "heads"), 3, "multiple of 3 heads"),
        (("settings", "task"), "else", "else"),
        (("settings", "schedule"), None, "schedule"),
        (("settings", "learning_rate"), LONG, "learning_rate"),
        (("settings", "seed"), ..., "no seed"),
        (("settings", "__class__"), 1, "__class__ is no field"),
        (("zoo",), ..., "no zoo"),
        (("zoo",), "/etc", "not relative"),
        (("zoo",), "a\nb", "cannot be shown"),
        (("zoo",), "\ud800", "cannot be shown"),
        (("zoo",), "", "zoo"),
        (("zoo",), "x" * 5000, "zoo"),
        (("fingerprint",), "0" * 63, "fingerprint"),
        (("fingerprint",), "0" * 64 + "\n", "fingerprint"),
        (("architecture",), "huge", "architecture"),
        (("channels",), 2, "2 channels"),
        (("channels",), "1;", "channels"),
        (("classes",), 0, "classes"),
        (("classes",), 10**9, "classes"),
        (("members",), [[0], [1], [2]], "not an object"),
        (("members", "train"), [0.5, 1], "int"),
        (("members", "train"), [0], "too few"),
        (("members", "val"), [], "too few"),
        (("members", "test"), [-1], "test"),
        (("members", "more"), [77], "more is no field"),
        (("left_out",), -1, "left_out"),
        (("epochs",), [], "epochs"),
        (("epochs",), [1, 1], "twice"),
        (("epochs",), [2**70], "epochs"),
        (("alphas_of",), "3", "alphas_of"),
        (("mean", "conv1"), ..., "mean is not of the layers"),
        (("mean", "conv9"), 0.0, "mean is not of the layers"),
        (("mean", "conv1"), 1e300, "mean holds"),
        (("mean", "conv1"), None, "mean"),
        (("deviation", "fc1"), 0, "not positive"),
        (("deviation", "fc1"), -1.0, "not positive"),
        (("deviation", "fc1"), 1e-300, "not positive"),
        (("variational", "fc1"), ["bias", "kernel"], "variational"),
        (("variational", "fc1"), [], "variational"),
        (("variational", "../x"), ["kernel"], "variational"),
        (("variational",), None, "variational"),
        (("versions",), {"jax": 1}, "versions"),
        (("versions",), {"jax": "\x1b[31m"}, "cannot be shown"),
        (("versions",), {"x" * 10_000: "1"}, "versions"),
        (("extra",), 1, "extra is no field"),
        (("\x1b[2J" * 1000,), 1, "no field"),
        (("schema",), "2", "damaged"),
        (("schema",), True, "damaged"),
        (("schema",), LONG, "upgrade"),
        (("format",), {}, "damaged"),
    ],
)
def test_a_manifest_that_contradicts_its_schema(copied, where, value, named):
    change(copied, where, value)
    with pytest.raises(ZoojaxError) as refused:
        open_representation(copied)
    line = str(refused.value)
    assert line.startswith(str(copied / CONFIG)) and named in line
    assert line.isprintable() and len(line) < 700


def test_a_member_in_two_parts(copied, known):
    change(copied, ("members", "val"), [known.config.members.train[0]])
    with pytest.raises(ZoojaxError, match="there twice"):
        open_representation(copied)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(st.data())
@settings(max_examples=100)
def test_any_value_anywhere_is_read_or_refused(tmp_path_factory, data):
    config = representations.reconstructing(tmp_path_factory).config
    content = json.loads(json.dumps(config.to_json()))
    del content["format"], content["schema"]
    inner = content
    if data.draw(st.booleans()):
        inner = content[data.draw(st.sampled_from(["settings", "members", "mean", "variational"]))]
    inner[data.draw(st.sampled_from(sorted(inner)) | st.text())] = data.draw(JSON)
    try:
        found = RepresentationConfig.from_json(content)
    except (ValueError, ZoojaxError):
        return
    written = json.loads(json.dumps(found.to_json()))
    assert written == {**content, "format": written["format"], "schema": 2}


@pytest.mark.parametrize("kind", ["pipe", "folder", "loop", "device"])
@pytest.mark.parametrize("name", [CONFIG, LOSSES])
def test_only_regular_files_are_opened(copied, kind, name):
    path = copied / name
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(path if kind == "loop" else "/dev/zero")
    with pytest.raises(ZoojaxError, match=name):
        _ = open_representation(copied).epoch


@pytest.mark.parametrize(
    ("table", "named"),
    [
        ({"epoch": [1], "train_loss": ["1"]}, "train_loss"),
        ({"epoch": [1], "\x1b[2J": [1.0]}, "column"),
        ({"epoch": [1.0], "train_loss": [1.0]}, "epoch"),
        ({"epoch": [1], "train_loss": [None]}, "train_loss"),
        ({"epoch": [None, 1], "train_loss": [1.0, 1.0]}, "epoch has nulls"),
        ({"epoch": [1, 1], "train_loss": [1.0, 1.0]}, "ascend"),
        ({"epoch": [2], "train_loss": [1.0]}, "ascend"),
        ({"epoch": [0], "train_loss": [1.0]}, "ascend"),
        ({"train_loss": [1.0]}, "no column epoch"),
    ],
)
def test_losses_are_those_of_a_training(copied, table, named):
    pl.DataFrame(table).write_parquet(copied / LOSSES)
    with pytest.raises(ZoojaxError, match=named) as refused:
        _ = open_representation(copied).epoch
    assert str(copied / LOSSES) in str(refused.value) and str(refused.value).isprintable()


def test_names_that_are_no_epochs_are_passed_over(copied):
    for name in ("²", "007", "-1", ".DS_Store", "9" * 30):
        (copied / STATES / name).mkdir()
    assert open_representation(copied).epoch == 1


def saved(representation: Representation) -> dict:
    return checkpoints.read(representation.path / STATES / "1")


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda s: s["variables"]["params"].pop("cls"), "cls"),
        (lambda s: s["variables"]["params"].update(more=np.zeros(3)), "more"),
        (lambda s: s.pop("optimizer"), "optimizer"),
        (lambda s: s["variables"]["params"].update(cls=np.zeros((1, 17), np.float32)), "cls"),
        (lambda s: s["variables"]["params"].update(cls=np.zeros((1, 16), np.float64)), "cls"),
        (lambda s: s["variables"]["params"]["cls"].fill(np.nan), "not finite"),
    ],
)
def test_states_are_those_of_the_autoencoder(copied, known, spoil, named):
    """Known from the manifest, before memory is taken for them."""
    tree = jax.tree.map(np.array, saved(known))
    spoil(tree)
    checkpoints.save(copied / STATES / "1", tree)
    with pytest.raises(ZoojaxError, match=named) as refused:
        _ = open_representation(copied).variables
    assert str(copied / STATES / "1") in str(refused.value)


def test_a_larger_autoencoder_than_was_saved_is_refused(copied):
    change(copied, ("settings", "width"), 32)
    with pytest.raises(ZoojaxError, match=r"states/1 is damaged.*not"):
        _ = open_representation(copied).variables


def test_an_autoencoder_beyond_all_memory_is_not_built(copied):
    for name in ("width", "latent", "feed_forward", "chunk_length"):
        change(copied, ("settings", name), 2**16)
    with pytest.raises(ZoojaxError, match=rf"{CONFIG} asks for [0-9]+ numbers"):
        _ = open_representation(copied).variables
