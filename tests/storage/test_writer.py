"""Creating zoos and resuming them after interruptions, damage and deleted files."""

import re
import shutil

import polars as pl
import pytest

from tests.support import zoo_fixtures
from tests.support.damage import DAMAGES, edit_config, flip_byte, largest_file, refuses
from zoojax import Zoo, open_zoo, train_zoo
from zoojax.storage.writer import CorruptionWarning


def unfinish(zoo: Zoo, epochs: int = 3) -> Zoo:
    """Changes the number of epochs to train, so that the zoo is not finished."""
    edit_config(zoo, lambda c: c.update(epochs=epochs))
    return open_zoo(zoo.path)


@pytest.mark.usefixtures("no_thread_errors")
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("folder", ["states", "optimizer"])
def test_resume_from_latest_valid_epoch(tmp_path_factory, zoo, folder, damage):
    """A warning names the damage; the result is that of an undamaged zoo."""
    expected = zoo_fixtures.train(tmp_path_factory, zoo.path.with_name("expected"), epochs=3)
    unfinish(zoo)
    damage(largest_file(zoo.path / folder / "2"))
    step = re.escape(f"{zoo.path / folder / '2'}")
    with pytest.warns(CorruptionWarning, match=f"{step} is damaged: .*; resuming from epoch 1"):
        resumed = zoo_fixtures.train(tmp_path_factory, zoo.path, epochs=3)
    zoo_fixtures.assert_same_zoo(resumed, expected)


@pytest.mark.usefixtures("no_thread_errors")
@pytest.mark.parametrize(("valid", "start"), [((0,), "epoch 0"), ((), "the beginning")])
def test_resume_with_several_damaged_epochs(tmp_path_factory, zoo, valid, start):
    """A finished zoo is trained again from the latest valid epoch too."""
    original = zoo_fixtures.copied(zoo, zoo.path.with_name("original"))
    for epoch in {0, 1, 2} - set(valid):
        flip_byte(largest_file(zoo.path / "states" / str(epoch)))
    with pytest.warns(CorruptionWarning, match=f"{zoo.path}/states/2.*; resuming from {start}"):
        resumed = zoo_fixtures.train(tmp_path_factory, zoo.path)
    zoo_fixtures.assert_same_zoo(resumed, open_zoo(original))


def test_resume_with_missing_optimizer_state(tmp_path_factory, zoo):
    expected = zoo_fixtures.train(tmp_path_factory, zoo.path.with_name("expected"), epochs=3)
    unfinish(zoo)
    shutil.rmtree(zoo.path / "optimizer" / "2")
    message = "optimizer/2 is damaged.*; resuming from epoch 1"
    with pytest.warns(CorruptionWarning, match=message):
        resumed = zoo_fixtures.train(tmp_path_factory, zoo.path, epochs=3)
    zoo_fixtures.assert_same_zoo(resumed, expected)


def test_training_without_optimizer_state_is_refused(tmp_path_factory, zoo):
    unfinish(zoo)
    shutil.rmtree(zoo.path / "optimizer")
    with refuses(f"{zoo.path} has no optimizer state; it cannot be trained further"):
        zoo_fixtures.train(tmp_path_factory, zoo.path, epochs=3)


def test_only_two_optimizer_states_are_kept(zoo):
    assert sorted(p.name for p in (zoo.path / "optimizer").iterdir()) == ["1", "2"]


def test_partial_epochs_are_invisible_and_removed(tmp_path_factory, zoo):
    """Files that a killed process leaves; the result is that of an uninterrupted run."""
    expected = zoo_fixtures.train(tmp_path_factory, zoo.path.with_name("expected"), epochs=3)
    unfinish(zoo)
    for folder in ("states", "optimizer"):
        # Saved, but not in the metrics; and still being saved.
        shutil.copytree(zoo.path / folder / "2", zoo.path / folder / "3")
        partial = zoo.path / folder / "3.orbax-checkpoint-tmp-17"
        partial.mkdir()
        (partial / "part").write_bytes(b"half")
        shutil.copytree(partial, zoo.path / folder / ".4.removed-99")
    (zoo.path / ".metrics.parquet.tmp-99").write_bytes(b"half")
    reopened = open_zoo(zoo.path)
    assert reopened.epochs == [0, 1, 2]
    assert set(reopened.metrics["epoch"]) == {0, 1, 2}
    with refuses("no epoch 3"):
        reopened.params(3)
    resumed = zoo_fixtures.train(tmp_path_factory, zoo.path, epochs=3)
    zoo_fixtures.assert_same_zoo(resumed, expected)
    assert sorted(p.name for p in (zoo.path / "states").iterdir()) == ["0", "1", "2", "3"]
    assert sorted(p.name for p in (zoo.path / "optimizer").iterdir()) == ["2", "3"]
    assert sorted(p.name for p in zoo.path.iterdir()) == [
        *("members.parquet", "metrics.parquet", "optimizer", "states", "timing.parquet"),
        "zoo.json",
    ]


def test_metrics_without_states_are_invisible_and_replaced(tmp_path_factory, zoo):
    """An epoch whose state was deleted is trained again, without duplicate rows."""
    unfinish(zoo, 2)
    shutil.rmtree(zoo.path / "states" / "2")
    shutil.rmtree(zoo.path / "optimizer" / "2")
    assert open_zoo(zoo.path).epochs == [0, 1]
    resumed = zoo_fixtures.train(tmp_path_factory, zoo.path)
    assert resumed.epochs == [0, 1, 2]
    assert len(resumed.metrics) == 9


def test_files_of_other_programs_are_kept(tmp_path_factory, tmp_path):
    """Resuming neither fails because of them nor removes them."""
    out = tmp_path / "zoo"
    zoo = zoo_fixtures.train(tmp_path_factory, out)
    files = [".DS_Store", "Thumbs.db", ".nfs000001", "²", "notes.txt"]
    folders = [".sync.tmp-1", "backup", "007"]
    for parent in (out, out / "states", out / "optimizer", out / "states" / "1"):
        for name in files:
            (parent / name).write_bytes(b"mine")
    for parent in (out, out / "states", out / "optimizer"):
        for name in folders:
            (parent / name).mkdir()
            (parent / name / "file").write_bytes(b"mine")
    assert open_zoo(out).epochs == [0, 1, 2]
    # As after an interruption: the last epoch is incomplete.
    table = pl.read_parquet(out / "metrics.parquet").filter(pl.col("epoch") < 2)
    table.write_parquet(out / "metrics.parquet")
    (out / ".metrics.parquet.tmp-123").write_bytes(b"half")
    (out / "states" / "2.orbax-checkpoint-tmp-7").mkdir()
    (out / "states" / ".3.removed-9").mkdir()
    (out / "states" / "..3.orbax-checkpoint-tmp.removed-9.removed-10").mkdir()
    resumed = zoo_fixtures.train(tmp_path_factory, out)
    zoo_fixtures.assert_same_zoo(resumed, zoo_fixtures.dense(tmp_path_factory))
    assert zoo_fixtures.same_bits(resumed.state(2), zoo.state(2))
    for parent in (out, out / "states", out / "optimizer"):
        for name in files:
            assert (parent / name).read_bytes() == b"mine"
        for name in folders:
            assert (parent / name / "file").read_bytes() == b"mine"
    assert not (out / ".metrics.parquet.tmp-123").exists()
    assert not (out / "states" / "2.orbax-checkpoint-tmp-7").exists()
    assert not (out / "states" / ".3.removed-9").exists()
    assert not (out / "states" / "..3.orbax-checkpoint-tmp.removed-9.removed-10").exists()


def test_output_path_that_is_a_file_or_another_folder(tmp_path_factory, tmp_path):
    file, folder = tmp_path / "file", tmp_path / "folder"
    file.write_text("mine")
    folder.mkdir()
    (folder / "thesis.txt").write_text("mine")
    parent = zoo_fixtures.dense(tmp_path_factory)
    for out in (file, folder):
        before = zoo_fixtures.contents(tmp_path)
        with refuses(out):
            zoo_fixtures.train(tmp_path_factory, out)
        with refuses(out):
            zoo_fixtures.prune(out, parent, [0.5], epochs=0)
        assert zoo_fixtures.contents(tmp_path) == before
    with refuses(file / "zoo"):
        spec = zoo_fixtures.spec(tmp_path_factory)
        train_zoo(None, file / "zoo", data=spec, epochs=0, chunk=1)
