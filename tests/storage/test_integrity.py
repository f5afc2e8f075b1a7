"""`zoojax info --check`: what is damaged is named, and nothing else."""

import json
import shutil

import polars as pl
import pytest

from tests.support import torch_zoos, zoo_fixtures
from zoojax import open_zoo
from zoojax.converters.sources import from_trials
from zoojax.converters.torch_to_zoo import convert
from zoojax.datasets import loading, specs
from zoojax.storage.integrity import find_corrupt_files


@pytest.fixture
def zoo(tmp_path_factory, tmp_path):
    return open_zoo(zoo_fixtures.copied(zoo_fixtures.dense(tmp_path_factory), tmp_path / "zoo"))


@pytest.mark.parametrize("kind", zoo_fixtures.KINDS)
def test_sound_zoos(tmp_path_factory, kind):
    told = []
    sound = zoo_fixtures.KINDS[kind](tmp_path_factory)
    assert find_corrupt_files(sound, lambda done, total: told.append((done, total))) == []
    # States of three epochs, moments of two.
    assert told == [(i, 5) for i in range(1, 6)]
    done = zoo_fixtures.cli(tmp_path_factory, "info", sound.path, "--check")
    assert (done.returncode, done.stderr) == (0, "")
    assert "3 epochs, no damage found" in done.stdout


@pytest.mark.parametrize("step", ["states/0", "states/2", "optimizer/1", "optimizer/2"])
def test_a_flipped_byte_is_found_wherever_it_is(tmp_path_factory, zoo, step):
    files = sorted(f for f in (zoo.path / step).rglob("*") if f.is_file() and f.stat().st_size)
    for file in files:
        whole = file.read_bytes()
        file.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
        (told,) = find_corrupt_files(zoo)
        assert told.startswith(f"{zoo.path / step} is damaged")
        file.write_bytes(whole)
    assert find_corrupt_files(zoo) == []
    files[0].unlink()
    done = zoo_fixtures.cli(tmp_path_factory, "info", zoo.path, "--check", "--json")
    assert done.returncode == 2
    (named,) = json.loads(done.stdout)["damaged"]
    assert str(zoo.path / step) in named
    assert "resume from the last undamaged epoch" in done.stderr
    done = zoo_fixtures.cli(tmp_path_factory, "info", zoo.path, "--check")
    assert done.returncode == 2 and done.stdout.splitlines() == [named]


def test_metrics_of_members_that_are_not_there(zoo):
    file = zoo.path / "metrics.parquet"
    table = pl.read_parquet(file)
    table.with_columns(pl.col("member") + pl.col("epoch") // 2).write_parquet(file)
    (told,) = find_corrupt_files(zoo)
    assert told.startswith(f"{file} is not the table of such a zoo: rows of member 3")
    pl.concat([table, table.head(1)]).write_parquet(file)
    (told,) = find_corrupt_files(zoo)
    assert told.endswith("a member twice at one epoch")


def test_images_that_a_zoo_keeps(tmp_path_factory, tmp_path):
    sources = from_trials(torch_zoos.write_zoo(tmp_path / "torch"))
    images = loading.load(zoo_fixtures.spec(tmp_path_factory), None)
    zoo = convert(sources, tmp_path / "zoo", name="own", images=(None, images)).zoo
    assert find_corrupt_files(zoo) == []
    file = zoo.path / "images.npz"
    loading.save(
        loading.load(specs.DataSpec(str(zoo_fixtures.other_images(tmp_path_factory))), None), file
    )
    assert find_corrupt_files(zoo) == [f"{file} holds other images"]
    file.write_bytes(b"no images")
    (told,) = find_corrupt_files(zoo)
    assert str(file) in told


def test_the_system_is_not_checked(tmp_path_factory):
    zoo_fixtures.assert_refused(
        zoo_fixtures.cli(tmp_path_factory, "info", "--system", "--check"), "--system"
    )


def test_states_that_are_gone_are_named(tmp_path_factory, zoo):
    shutil.rmtree(zoo.path / "states" / "1")
    done = zoo_fixtures.cli(tmp_path_factory, "info", zoo.path, "--check")
    assert done.returncode == 0, done.stderr
    assert "epochs without saved states: 1" in done.stdout
    assert zoo_fixtures.cli_json(tmp_path_factory, "info", zoo.path, "--check")["missing"] == [1]


@pytest.mark.parametrize("kept", ["none", "one"])
def test_checksums_that_were_removed_do_not_pass(zoo, kept):
    """An emptied list once passed for a sound step."""
    step = zoo.path / "states" / "1"
    listed = json.loads((step / "sha256.json").read_text())
    few = {} if kept == "none" else dict([next(iter(listed.items()))])
    (step / "sha256.json").write_text(json.dumps(few))
    (found,) = find_corrupt_files(zoo)
    assert str(step) in found


def test_data_that_was_removed_with_its_checksum_is_missed(zoo):
    step = zoo.path / "states" / "1"
    listed = json.loads((step / "sha256.json").read_text())
    for name in [name for name in listed if "/d/" in name]:
        (step / name).unlink()
        del listed[name]
    (step / "sha256.json").write_text(json.dumps(listed))
    (found,) = find_corrupt_files(zoo)
    assert str(step) in found


def test_states_behind_a_link_out_of_the_zoo(zoo, tmp_path):
    (zoo.path / "states" / "1").rename(tmp_path / "elsewhere")
    (zoo.path / "states" / "1").symlink_to(tmp_path / "elsewhere")
    (found,) = find_corrupt_files(zoo)
    assert found == f"{zoo.path / 'states' / '1'} is a link that leads out of the zoo"
