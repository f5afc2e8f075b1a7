"""`zoojax info --check` names the damaged files of a zoo, and no others."""

import json
import shutil

import polars as pl
import pytest

from tests.support import torch_zoos, zoo_fixtures
from zoojax.converters.sources import from_trials
from zoojax.converters.torch_to_zoo import convert
from zoojax.datasets import loading, specs
from zoojax.storage.integrity import find_corrupt_files


@pytest.mark.parametrize("kind", zoo_fixtures.KINDS)
def test_undamaged_zoos(tmp_path_factory, kind):
    progress = []
    zoo = zoo_fixtures.KINDS[kind](tmp_path_factory)
    assert find_corrupt_files(zoo, lambda done, total: progress.append((done, total))) == []
    # States of three epochs and optimizer states of two.
    assert progress == [(i, 5) for i in range(1, 6)]
    done = zoo_fixtures.cli(tmp_path_factory, "info", zoo.path, "--check")
    assert (done.returncode, done.stderr) == (0, "")
    assert "3 epochs, no damage found" in done.stdout


@pytest.mark.parametrize("step", ["states/0", "states/2", "optimizer/1", "optimizer/2"])
def test_flipped_byte_in_any_file(tmp_path_factory, zoo, step):
    files = sorted(f for f in (zoo.path / step).rglob("*") if f.is_file() and f.stat().st_size)
    for file in files:
        content = file.read_bytes()
        file.write_bytes(bytes([content[0] ^ 1]) + content[1:])
        (error,) = find_corrupt_files(zoo)
        assert error.startswith(f"{zoo.path / step} is damaged")
        file.write_bytes(content)
    assert find_corrupt_files(zoo) == []
    files[0].unlink()
    done = zoo_fixtures.cli(tmp_path_factory, "info", zoo.path, "--check", "--json")
    assert done.returncode == 2
    (error,) = json.loads(done.stdout)["damaged"]
    assert str(zoo.path / step) in error
    assert "resume from the last undamaged epoch" in done.stderr
    done = zoo_fixtures.cli(tmp_path_factory, "info", zoo.path, "--check")
    assert done.returncode == 2 and done.stdout.splitlines() == [error]


def test_invalid_metrics_table(zoo):
    file = zoo.path / "metrics.parquet"
    table = pl.read_parquet(file)
    table.with_columns(pl.col("member") + pl.col("epoch") // 2).write_parquet(file)
    (error,) = find_corrupt_files(zoo)
    assert error.startswith(f"{file} is not a valid table of this zoo: rows of member 3")
    pl.concat([table, table.head(1)]).write_parquet(file)
    (error,) = find_corrupt_files(zoo)
    assert error.endswith("several rows for one member and epoch")


def test_images_stored_in_the_zoo(tmp_path_factory, tmp_path):
    sources = from_trials(torch_zoos.write_zoo(tmp_path / "torch"))
    images = loading.load(zoo_fixtures.spec(tmp_path_factory), None)
    zoo = convert(sources, tmp_path / "zoo", name="own", images=(None, images)).zoo
    assert find_corrupt_files(zoo) == []
    file = zoo.path / "images.npz"
    loading.save(
        loading.load(specs.DataSpec(str(zoo_fixtures.other_images(tmp_path_factory))), None), file
    )
    assert find_corrupt_files(zoo) == [f"{file} contains different images"]
    file.write_bytes(b"no images")
    (error,) = find_corrupt_files(zoo)
    assert str(file) in error


def test_system_cannot_be_checked(tmp_path_factory):
    zoo_fixtures.assert_refused(
        zoo_fixtures.cli(tmp_path_factory, "info", "--system", "--check"), "--system"
    )


def test_missing_states_are_named(tmp_path_factory, zoo):
    shutil.rmtree(zoo.path / "states" / "1")
    done = zoo_fixtures.cli(tmp_path_factory, "info", zoo.path, "--check")
    assert done.returncode == 0, done.stderr
    assert "epochs without saved states: 1" in done.stdout
    assert zoo_fixtures.cli_json(tmp_path_factory, "info", zoo.path, "--check")["missing"] == [1]


@pytest.mark.parametrize("remaining", ["none", "one"])
def test_removed_checksums(zoo, remaining):
    """Regression: an empty list of checksums was accepted."""
    step = zoo.path / "states" / "1"
    checksums = json.loads((step / "sha256.json").read_text())
    few = {} if remaining == "none" else dict([next(iter(checksums.items()))])
    (step / "sha256.json").write_text(json.dumps(few))
    (error,) = find_corrupt_files(zoo)
    assert str(step) in error


def test_data_removed_together_with_its_checksum(zoo):
    step = zoo.path / "states" / "1"
    checksums = json.loads((step / "sha256.json").read_text())
    for name in [name for name in checksums if "/d/" in name]:
        (step / name).unlink()
        del checksums[name]
    (step / "sha256.json").write_text(json.dumps(checksums))
    (error,) = find_corrupt_files(zoo)
    assert str(step) in error


def test_states_linked_from_outside_the_zoo(zoo, tmp_path):
    (zoo.path / "states" / "1").rename(tmp_path / "elsewhere")
    (zoo.path / "states" / "1").symlink_to(tmp_path / "elsewhere")
    (error,) = find_corrupt_files(zoo)
    assert error == f"{zoo.path / 'states' / '1'} is a link that leads out of the zoo"
