"""Corrupt or malicious hyper-representations are refused with a one-line error."""

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
from zoojax.hyper_representation.config import SCHEMA, RepresentationConfig
from zoojax.hyper_representation.representation import (
    CONFIG,
    LOSSES,
    STATES,
    Representation,
    open_representation,
)
from zoojax.storage import checkpoints

HUGE = 10**400
LAYERS = ["conv1", "conv2", "conv3", "fc1", "fc2"]


@pytest.fixture
def representation(tmp_path_factory) -> Representation:
    return representations.reconstructing(tmp_path_factory)


@pytest.fixture
def twin(tmp_path_factory) -> Zoo:
    return representations.twin(tmp_path_factory)


@pytest.fixture
def copied(representation, tmp_path) -> Path:
    """A copy that a test may modify."""
    return Path(shutil.copytree(representation.path, tmp_path / "rep"))


def modify(path: Path, keys: tuple, value: object) -> None:
    """Sets a value of representation.json, or removes it if the value is Ellipsis."""
    content = json.loads((path / CONFIG).read_text())
    inner = content
    for key in keys[:-1]:
        inner = inner[key]
    if value is ...:
        del inner[keys[-1]]
    else:
        inner[keys[-1]] = value
    (path / CONFIG).write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("keys", "value", "named"),
    [
        (("settings",), [], "settings"),
        (("settings", "width"), "16", "int"),
        (("settings", "width"), True, "int"),
        (("settings", "width"), 2**20, "width"),
        (("settings", "width"), HUGE, "width"),
        (("settings", "width"), -HUGE, "width"),
        (("settings", "layers"), 10**6, "layers"),
        (("settings", "chunk_length"), 10**12, "chunk_length"),
        (("settings", "projection"), [400, 50, 1], "length 2"),
        (("settings", "projection"), [400, 0], "projection"),
        (("settings", "heads"), 3, "multiple of 3 heads"),
        (("settings", "task"), "else", "else"),
        (("settings", "schedule"), None, "schedule"),
        (("settings", "learning_rate"), HUGE, "learning_rate"),
        (("settings", "seed"), ..., "no seed"),
        (("settings", "__class__"), 1, "__class__ is not a field"),
        (("zoos",), ..., "no zoos"),
        (("zoos",), [], "zoos: none"),
        (("zoos",), {}, "array"),
        (("zoos",), ["zoo"], "zoos: not an object"),
        (("zoos", 0, "name"), "a\nb", "unprintable"),
        (("zoos", 0, "name"), ..., "no name"),
        (("activation",), "tanh", "activation"),
        (("settings", "probes"), -1, "probes"),
        (("settings", "probe_share"), 1.0, "probe_share"),
        (("settings", "behavior"), -0.5, "behavior"),
        (("settings", "queries"), 0, "queries"),
        (("zoos", 0, "path"), "/etc", "not relative"),
        (("zoos", 0, "path"), "a\nb", "unprintable"),
        (("zoos", 0, "path"), "\ud800", "unprintable"),
        (("zoos", 0, "path"), "", "path"),
        (("zoos", 0, "path"), "x" * 5000, "path"),
        (
            (
                "zoos",
                0,
                "fingerprint",
            ),
            "0" * 63,
            "fingerprint",
        ),
        (
            (
                "zoos",
                0,
                "fingerprint",
            ),
            "0" * 64 + "\n",
            "fingerprint",
        ),
        (("architecture",), "huge", "architecture"),
        (("channels",), 2, "channels is 2"),
        (("channels",), "1;", "channels"),
        (("classes",), 0, "classes"),
        (("classes",), 10**9, "classes"),
        (
            (
                "zoos",
                0,
                "members",
            ),
            [[0], [1], [2]],
            "not an object",
        ),
        (("zoos", 0, "members", "train"), [0.5, 1], "int"),
        (("zoos", 0, "members", "train"), [0], "too few"),
        (("zoos", 0, "members", "val"), [], "too few"),
        (("zoos", 0, "members", "test"), [-1], "test"),
        (("zoos", 0, "members", "more"), [77], "more is not a field"),
        (
            (
                "zoos",
                0,
                "left_out",
            ),
            -1,
            "left_out",
        ),
        (
            (
                "zoos",
                0,
                "epochs",
            ),
            [],
            "epochs",
        ),
        (
            (
                "zoos",
                0,
                "epochs",
            ),
            [1, 1],
            "duplicates",
        ),
        (
            (
                "zoos",
                0,
                "epochs",
            ),
            [2**70],
            "epochs",
        ),
        (("alphas_of",), "3", "alphas_of"),
        (("mean", "conv1"), ..., "mean must have one value"),
        (("mean", "conv9"), 0.0, "mean must have one value"),
        (("mean", "conv1"), 1e300, "mean contains"),
        (("mean", "conv1"), None, "mean"),
        (("deviation", "fc1"), 0, "not positive"),
        (("deviation", "fc1"), -1.0, "not positive"),
        (("deviation", "fc1"), 1e-300, "not positive"),
        (("variational", "fc1"), ..., "variational"),
        (("variational", "fc1"), ["bias"], "variational: fc1"),
        (("variational", "fc1"), ["kernel", "scale"], "variational: fc1"),
        (("variational", "fc1"), ["kernel", "kernel"], "variational: fc1"),
        (("variational", "fc1"), [], "variational: fc1"),
        (("variational", "../x"), ["kernel"], "variational"),
        (("variational",), None, "variational"),
        (("slices",), {}, "slices must have one number for each of conv1"),
        (("slices", "fc2"), ..., "slices must have one number for each of conv1"),
        (("slices", "../x"), 1, "slices must have one number for each of conv1"),
        (("slices", "fc2"), 22, "more dimensions than values"),
        (("slices", "fc2"), 21, "slices: more than"),
        (("slices", "fc2"), -1, "slices"),
        (("slices", "fc2"), 1.5, "slices"),
        (("settings", "decoded_noise"), 1, "decoded_noise"),
        (("versions",), {"jax": 1}, "versions"),
        (("versions",), {"jax": "\x1b[31m"}, "unprintable"),
        (("versions",), {"x" * 10_000: "1"}, "versions"),
        (("extra",), 1, "extra is not a field"),
        (("\x1b[2J" * 1000,), 1, "not a field"),
        (("schema",), "2", "damaged"),
        (("schema",), True, "damaged"),
        (("schema",), HUGE, "upgrade"),
        (("format",), {}, "damaged"),
    ],
)
def test_invalid_config_is_refused(copied, keys, value, named):
    modify(copied, keys, value)
    with pytest.raises(ZoojaxError) as refused:
        open_representation(copied)
    line = str(refused.value)
    assert line.startswith(str(copied / CONFIG)) and named in line
    assert line.isprintable() and len(line) < 700


def test_member_in_two_splits(copied, representation):
    modify(copied, ("zoos", 0, "members", "val"), [representation.config.zoos[0].members.train[0]])
    with pytest.raises(ZoojaxError, match="duplicate ids"):
        open_representation(copied)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(st.data())
@settings(max_examples=100)
def test_random_config_is_read_or_refused(tmp_path_factory, data):
    config = representations.reconstructing(tmp_path_factory).config
    content = json.loads(json.dumps(config.to_json()))
    del content["format"], content["schema"]
    inner = content
    if data.draw(st.booleans()):
        parts = [content[name] for name in ("settings", "mean", "variational")]
        parts += [content["zoos"][0], content["zoos"][0]["members"]]
        inner = data.draw(st.sampled_from(parts))
    inner[data.draw(st.sampled_from(sorted(inner)) | st.text())] = data.draw(JSON)
    try:
        parsed = RepresentationConfig.from_json(content)
    except (ValueError, ZoojaxError):
        return
    written = json.loads(json.dumps(parsed.to_json()))
    assert written == {**content, "format": written["format"], "schema": SCHEMA}


@pytest.mark.parametrize("kind", ["pipe", "folder", "loop", "device"])
@pytest.mark.parametrize("name", [CONFIG, LOSSES])
def test_irregular_files_are_refused(copied, kind, name):
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
        ({"epoch": [1, 1], "train_loss": [1.0, 1.0]}, "ascending"),
        ({"epoch": [2], "train_loss": [1.0]}, "ascending"),
        ({"epoch": [0], "train_loss": [1.0]}, "ascending"),
        ({"train_loss": [1.0]}, "no column epoch"),
    ],
)
def test_invalid_losses_are_refused(copied, table, named):
    pl.DataFrame(table).write_parquet(copied / LOSSES)
    with pytest.raises(ZoojaxError, match=named) as refused:
        _ = open_representation(copied).epoch
    assert str(copied / LOSSES) in str(refused.value) and str(refused.value).isprintable()


def test_folders_that_are_not_epochs_are_ignored(copied):
    for name in ("²", "007", "-1", ".DS_Store", "9" * 30):
        (copied / STATES / name).mkdir()
    assert open_representation(copied).epoch == 1


def read_checkpoint(representation: Representation) -> dict:
    return checkpoints.read(representation.path / STATES / "1")


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda s: s["variables"]["params"].pop("cls"), "cls"),
        (lambda s: s["variables"]["params"].update(more=np.zeros(3)), "more"),
        (lambda s: s.pop("optimizer"), "optimizer"),
        (lambda s: s["variables"]["params"].update(cls=np.zeros((1, 17), np.float32)), "cls"),
        (lambda s: s["variables"]["params"].update(cls=np.zeros((1, 16), np.float64)), "cls"),
        (lambda s: s["variables"]["params"]["cls"].fill(np.nan), "not finite"),
    ],
)
def test_checkpoint_must_match_the_config(copied, representation, damage, named):
    """Shapes are checked before memory is allocated."""
    tree = jax.tree.map(np.array, read_checkpoint(representation))
    damage(tree)
    checkpoints.save(copied / STATES / "1", tree)
    with pytest.raises(ZoojaxError, match=named) as refused:
        _ = open_representation(copied).variables
    assert str(copied / STATES / "1") in str(refused.value)


def test_config_of_a_larger_autoencoder_is_refused(copied):
    modify(copied, ("settings", "width"), 32)
    with pytest.raises(ZoojaxError, match=r"states/1 is damaged.*not"):
        _ = open_representation(copied).variables


def test_config_of_an_enormous_autoencoder_is_refused(copied):
    for name in ("width", "latent", "feed_forward", "chunk_length"):
        modify(copied, ("settings", name), 2**16)
    with pytest.raises(ZoojaxError, match=rf"{CONFIG} describes an autoencoder with [0-9]+ values"):
        _ = open_representation(copied).variables
