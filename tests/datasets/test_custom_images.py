"""A user's own images: located by their hash, or stored in the zoo."""

import shutil

import pytest

from tests.support import zoo_fixtures
from zoojax import DataSpec, ZoojaxError, open_zoo
from zoojax.storage.zoo_images import load_images


@pytest.fixture
def zoo(tmp_path_factory, tmp_path):
    """An untrained zoo on an .npz file that a test may move: (zoo, file)."""
    file = tmp_path / "here" / "mine.npz"
    file.parent.mkdir()
    shutil.copy(zoo_fixtures.images(tmp_path_factory), file)
    grid = zoo_fixtures.GRID.__class__(seeds=1)
    untrained = zoo_fixtures.train_zoo(
        None, tmp_path / "zoo", name="tiny", grid=grid, data=DataSpec(str(file)), epochs=0
    )
    return untrained, file


def test_images_at_the_original_path(zoo):
    zoo, file = zoo
    assert load_images(zoo, None).name == str(file)


@pytest.mark.parametrize("name", ["mine.npz", "renamed.npz"])
def test_images_in_the_data_directory_under_any_name(zoo, tmp_path, tmp_path_factory, name):
    zoo, file = zoo
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    # Other images and damaged files in the folder are skipped.
    shutil.copy(zoo_fixtures.other_images(tmp_path_factory), folder / "another.npz")
    (folder / "broken.npz").write_bytes(b"x")
    file.rename(folder / name)
    assert load_images(zoo, folder).hash == zoo.config.data_hash
    assert load_images(zoo, str(folder / name)).hash == zoo.config.data_hash
    done = zoo_fixtures.cli(tmp_path_factory, "evaluate", zoo.path, "--data-dir", folder)
    assert done.returncode == 0, done.stderr


def test_other_or_missing_images_are_refused(zoo, tmp_path_factory):
    zoo, file = zoo
    shutil.copy(zoo_fixtures.other_images(tmp_path_factory), file)
    with pytest.raises(ZoojaxError, match=r"mine\.npz contains different images.*--data-dir"):
        load_images(zoo, None)
    file.unlink()
    with pytest.raises(ZoojaxError, match=r"mine\.npz is missing.*--data-dir"):
        load_images(zoo, None)
    with pytest.raises(ZoojaxError, match="contains different images"):
        load_images(zoo, zoo_fixtures.other_images(tmp_path_factory))


def test_images_stored_in_the_zoo(tmp_path_factory, tmp_path):
    """Neither the zoo nor its twins need the original file."""
    file = tmp_path / "mine.npz"
    shutil.copy(zoo_fixtures.images(tmp_path_factory), file)
    words = ["train", "digits-s-seed", "--data", file, "--members", 1, "--epochs", 1]
    done = zoo_fixtures.cli(tmp_path_factory, *words, "--keep-data", "--out", tmp_path / "zoo")
    assert done.returncode == 0, done.stderr
    file.unlink()
    zoo = open_zoo(tmp_path / "zoo")
    assert load_images(zoo, None).hash == zoo.config.data_hash
    twin = zoo_fixtures.train_variational(tmp_path / "twin", zoo, epochs=0)
    shutil.rmtree(zoo.path)
    assert load_images(twin, None).hash == zoo.config.data_hash
