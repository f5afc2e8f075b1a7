"""The output folder of an export: its owner, safe names, links, permissions and full disks."""

import os
import resource
import shutil
from pathlib import Path

import polars as pl
import pytest
from safetensors.numpy import load_file

from tests.support import zoo_fixtures
from tests.support.conversions import write_safetensors
from zoojax import open_zoo
from zoojax.converters import export
from zoojax.converters.zoo_to_torch import trial_names, write_trials
from zoojax.errors import ZoojaxError


def with_columns(zoo, to: Path, **columns: list):
    """A copy of a zoo with other columns in its members table."""
    shutil.copytree(zoo.path, to)
    table = zoo.members_table.with_columns(
        pl.Series(name, values) for name, values in columns.items()
    )
    table.write_parquet(to / "members.parquet")
    return open_zoo(to)


def inventory(folder: Path) -> dict[str, bytes | None]:
    """The content of all files in a folder; None for other entries, including links."""
    contents = {}
    for path in sorted(folder.rglob("*")):
        regular = path.is_file() and not path.is_symlink()
        contents[str(path.relative_to(folder))] = path.read_bytes() if regular else None
    return contents


HOSTILE = [
    "/tmp/evil_trainable_", "../evil_trainable_", "..", ".", "", None, "a/b_trainable_", "a\\b",
    "nul\0_trainable_", "line\n_trainable_", "\x1b[31m_trainable_", "\u202e_trainable_",
    "x" * 256, "é" * 128, "CON", "con.txt", "Lpt1.a", "dot.", "space ", " space", "zoojax.json",
    "ZOOJAX.JSON",
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE, ids=lambda name: repr(name)[:20])
def test_unsafe_folder_name_is_replaced(tmp_path_factory, tmp_path, name):
    good = "Good:trainable,lr=0.1"
    zoo = with_columns(
        zoo_fixtures.dense(tmp_path_factory), tmp_path / "zoo", trial=[name, good, good.upper()]
    )
    before, out, notes = inventory(tmp_path / "zoo"), tmp_path / "in" / "out", []
    assert write_trials(zoo, out, epochs=[0], note=notes.append) == 3
    expected = ["NN_tune_trainable_00000_seed=1", good, "NN_tune_trainable_00002_seed=3"]
    assert trial_names(zoo) == expected
    assert sorted(p.name for p in out.iterdir()) == sorted([*expected, export.MARKER])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "zoo"]
    assert [p.name for p in (tmp_path / "in").iterdir()] == ["out"]
    assert inventory(tmp_path / "zoo") == before
    (note,) = notes
    assert note.startswith("2 trial name(s) cannot name a folder or are duplicates")
    assert len(note) < 300 and note.isprintable()


def test_replacement_name_is_unique(tmp_path_factory, tmp_path):
    trials = ["..", "nn_tune_trainable_00000_SEED=1", "NN_tune_trainable_00000_seed=1_2"]
    zoo = with_columns(zoo_fixtures.dense(tmp_path_factory), tmp_path / "zoo", trial=trials)
    assert trial_names(zoo) == ["NN_tune_trainable_00000_seed=1_3", *trials[1:]]


@pytest.mark.parametrize("layers", [
    ["a"], ["a"] * 5, ["a", "b", "c", "d", None], ["a", "b", "c", "d", "e\n"], list("abcdef"),
    ["a", "b", "c", "d", "e" * 1000],
], ids=["one", "same", "null", "line", "six", "long"])  # fmt: skip
def test_invalid_layer_names_are_refused(tmp_path_factory, tmp_path, layers):
    zoo = with_columns(zoo_fixtures.dense(tmp_path_factory), tmp_path / "zoo", layers=[layers] * 3)
    for write in (write_trials, write_safetensors):
        with pytest.raises(ZoojaxError, match=r"members\.parquet is damaged.*5 names"):
            write(zoo, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_folder_of_another_zoo_or_layout_is_refused(tmp_path_factory, tmp_path):
    zoo, twin = zoo_fixtures.dense(tmp_path_factory), zoo_fixtures.pruned(tmp_path_factory)
    out = tmp_path / "out"
    assert write_trials(zoo, out, epochs=[0]) == 3
    before = inventory(tmp_path)
    with pytest.raises(ZoojaxError, match="out contains the export of another zoo"):
        write_trials(twin, out)
    with pytest.raises(ZoojaxError, match="out was exported as trial, not prune"):
        write_trials(zoo, out, keep_masks=True)
    with pytest.raises(ZoojaxError, match="out was exported as trial, not safetensors"):
        write_safetensors(zoo, out)
    assert inventory(tmp_path) == before
    assert write_trials(zoo, out) == 9


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"format": "zoojax-export"}'])
def test_damaged_marker_is_refused(tmp_path_factory, tmp_path, content):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / export.MARKER).write_text(content)
    before = inventory(tmp_path)
    with pytest.raises(ZoojaxError, match="out"):
        write_trials(zoo_fixtures.dense(tmp_path_factory), tmp_path / "out")
    assert inventory(tmp_path) == before


def test_files_of_other_programs_are_not_overwritten(tmp_path_factory, tmp_path):
    zoo = zoo_fixtures.dense(tmp_path_factory)
    out = tmp_path / "out"
    other = out / trial_names(zoo)[1]
    other.mkdir(parents=True)
    (other / "params.json").write_text("mine")
    (out / "members.parquet").write_text("mine")
    (out / "notes.txt").write_text("mine")
    before = inventory(tmp_path)
    for write, name in ((write_trials, other.name), (write_safetensors, "members.parquet")):
        with pytest.raises(ZoojaxError, match=f"{name} exists and is not part of this export"):
            write(zoo, out)
        assert inventory(tmp_path) == before
    shutil.rmtree(other)
    assert write_trials(zoo, out) == 9
    assert (out / "notes.txt").read_text() == "mine"


def test_links_in_the_folder_are_not_followed(tmp_path_factory, tmp_path):
    zoo, out, outside = zoo_fixtures.dense(tmp_path_factory), tmp_path / "out", tmp_path / "outside"
    assert write_trials(zoo, out, epochs=[0]) == 3
    outside.mkdir()
    folder = out / trial_names(zoo)[1]
    (folder / "checkpoint_000001").symlink_to(outside)
    with pytest.raises(ZoojaxError, match="checkpoint_000001 is not a folder"):
        write_trials(zoo, out)
    shutil.rmtree(folder)
    folder.symlink_to(outside)
    with pytest.raises(ZoojaxError, match=f"{folder.name} is not a folder"):
        write_trials(zoo, out)
    assert not list(outside.iterdir())
    # A link in the place of a file is replaced; its target is not written.
    folder.unlink()
    write_trials(zoo, out, epochs=[1])
    state = folder / "checkpoint_000001" / "checkpoints"
    content = state.read_bytes()
    state.unlink()
    (outside / "file").write_text("mine")
    state.symlink_to(outside / "file")
    write_trials(zoo, out)
    assert (outside / "file").read_text() == "mine"
    assert state.read_bytes() == content and not state.is_symlink()


def test_file_permissions_follow_the_umask(tmp_path_factory, tmp_path):
    before = os.umask(0o027)
    try:
        write_safetensors(zoo_fixtures.dense(tmp_path_factory), tmp_path / "out")
        write_trials(zoo_fixtures.dense(tmp_path_factory), tmp_path / "trials")
    finally:
        os.umask(before)
    for folder in ("out", "trials"):
        for file in (f for f in (tmp_path / folder).rglob("*") if f.is_file()):
            assert file.stat().st_mode & 0o777 == 0o640, file


def test_full_disk_is_one_line_and_resumable(tmp_path_factory, tmp_path):
    """With a limit on file sizes writing fails; without it the same call resumes."""
    zoo = zoo_fixtures.dense(tmp_path_factory)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    for write, limits in ((write_trials, (50, 400, 5000)), (write_safetensors, (50, 5000, 20_000))):
        out = tmp_path / write.__name__
        for limit in limits:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
            try:
                with pytest.raises(ZoojaxError, match=r"cannot write .*: .") as caught:
                    write(zoo, out)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, before)
            assert "\n" not in str(caught.value)
            assert not [p for p in out.rglob("*") if ".tmp-" in p.name]
        write(zoo, out)
        complete = tmp_path / "complete" / write.__name__
        write(zoo, complete)
        one, other = inventory(out), inventory(complete)
        for name in (n for n in list(one) if n.endswith(".safetensors")):
            # safetensors writes its header in random order.
            del one[name], other[name]
            assert zoo_fixtures.same_bits(load_file(out / name), load_file(complete / name))
        assert one == other
