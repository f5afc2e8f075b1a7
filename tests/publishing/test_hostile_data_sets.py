"""Published zoos of others: damaged, missing and forged files are one-line errors."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import load_file, save_file

from tests.support import zoo_fixtures
from tests.support.damage import assert_read_fails, flip_byte
from zoojax import open_zoo
from zoojax.publishing.publish import publish
from zoojax.workflows.info import info

WEIGHTS = "weights/epoch-1.safetensors"


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    zoo = zoo_fixtures.dense(tmp_path_factory)
    return publish(zoo, out=tmp_path_factory.mktemp("published") / "zoo")


@pytest.fixture
def published(tmp_path, original) -> Path:
    return Path(shutil.copytree(original, tmp_path / "zoo"))


def read_all(folder: Path) -> None:
    zoo = open_zoo(folder)
    _ = zoo.metrics
    for epoch in zoo.epochs:
        zoo.state(epoch)


def edit_checksums(folder: Path, edit: Callable[[dict], object]) -> None:
    file = folder / "checksums.json"
    content = json.loads(file.read_text())
    edit(content)
    file.write_text(json.dumps(content))


def forge(folder: Path, name: str) -> None:
    """Makes the checksum of a changed file valid."""
    digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    edit_checksums(folder, lambda c: c["files"][name].update(sha256=digest))


@pytest.mark.parametrize("name", ["zoo.json", "members.parquet", "metrics.parquet", WEIGHTS])
def test_damaged_and_missing_files_are_named_with_their_checksum(published, name):
    digest = json.loads((published / "checksums.json").read_text())["files"][name]["sha256"]
    flip_byte(published / name)
    assert_read_fails(lambda: read_all(published), name, "is damaged", digest)
    (published / name).unlink()
    assert_read_fails(lambda: read_all(published), name, "is missing", digest)


def test_check_lists_all_damaged_files(published):
    flip_byte(published / WEIGHTS)
    (published / "README.md").unlink()
    damaged = info(published, check=True, quiet=True)["damaged"]
    assert len(damaged) == 2
    assert "README.md is missing" in damaged[0]
    assert f"{WEIGHTS} is damaged" in damaged[1]


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (lambda c: c.update(format="other"), "is another file"),
        (lambda c: c.update(schema=2), "upgrade"),
        (lambda c: c.update(schema="1"), "is another file"),
        (lambda c: c.pop("files"), "checksums.json is damaged"),
        (lambda c: c["files"]["zoo.json"].update(sha256="x"), "checksums.json is damaged"),
        (lambda c: c["files"]["zoo.json"].update(bytes=-1), "checksums.json is damaged"),
        (lambda c: c["files"].pop("zoo.json"), "has no zoo.json"),
        (
            lambda c: c["files"].update({"../x": c["files"]["zoo.json"]}),
            "../x is not a file name",
        ),
        (
            lambda c: c["files"].update({"/etc/passwd": c["files"]["zoo.json"]}),
            "/etc/passwd is not a file name",
        ),
        (
            lambda c: c["files"].update({"weights/epoch-7.safetensors": c["files"][WEIGHTS]}),
            None,
        ),
    ],
)
def test_forged_list_of_files(published, edit, named):
    edit_checksums(published, edit)
    if named is None:  # An epoch without metrics does not exist.
        assert open_zoo(published).epochs == [0, 1, 2]
        return
    assert_read_fails(lambda: open_zoo(published), named)


@pytest.mark.parametrize("content", ["", "[]", "{", "\x00", '{"format": 1e999}'])
def test_list_of_files_is_no_json(published, content):
    (published / "checksums.json").write_text(content)
    assert_read_fails(lambda: open_zoo(published), "checksums.json")


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (lambda arrays: arrays.pop("params/fc1/bias"), "array params/fc1/bias is missing"),
        (lambda arrays: arrays.update({"x/\x1b[31m": np.zeros(3)}), "is unexpected"),
        (
            lambda arrays: arrays.update({"params/fc1/bias": np.zeros((3, 7), np.float32)}),
            "array params/fc1/bias is float32 [3, 7], not float32 [3, 20]",
        ),
        (
            lambda arrays: arrays.update({"params/fc1/bias": np.zeros((3, 20), np.int32)}),
            "array params/fc1/bias is int32 [3, 20], not float32 [3, 20]",
        ),
    ],
)
def test_forged_arrays(published, edit, named):
    arrays = load_file(published / WEIGHTS)
    edit(arrays)
    save_file(arrays, published / WEIGHTS)
    forge(published, WEIGHTS)
    assert_read_fails(lambda: open_zoo(published).state(1), WEIGHTS, named)


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff" * 100, (2**62).to_bytes(8, "little") + b"{}", b"\x02" + bytes(7) + b"{}" * 9],
)
def test_files_that_are_no_safetensors(published, content):
    (published / WEIGHTS).write_bytes(content)
    forge(published, WEIGHTS)
    assert_read_fails(lambda: open_zoo(published).state(1), WEIGHTS, "is damaged")


def test_forged_tables(published):
    members = pl.read_parquet(published / "members.parquet")
    members.with_columns(id=pl.lit(0, pl.Int64)).write_parquet(published / "members.parquet")
    forge(published, "members.parquet")
    assert_read_fails(lambda: open_zoo(published), "members.parquet", "duplicate members")


def test_link_to_a_device_is_refused(published):
    (published / WEIGHTS).unlink()
    (published / WEIGHTS).symlink_to("/dev/zero")
    assert_read_fails(lambda: open_zoo(published).state(1), WEIGHTS, "not a regular file")
