"""Random damage to foreign zoos: every reader converts them, or refuses them in one line."""

import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from tests.support import foreign_zoos
from tests.support.pickled_datasets import image_file, saved_dataset
from tests.support.pickled_datasets import states as dataset_states
from tests.support.torch_files import saved
from tests.support.torch_zoos import state
from zoojax.converters.api import convert_from, convert_to
from zoojax.converters.dialects.base import DialectOptions
from zoojax.converters.formats.archives import is_archive, unpacked
from zoojax.converters.formats.registry import recognize
from zoojax.converters.pickled_datasets import read_model_dataset
from zoojax.converters.pickled_images import read_image_set
from zoojax.converters.safe_load import UnreadableFileError
from zoojax.converters.state_dicts import UnknownNetworkError, infer_network
from zoojax.errors import ZoojaxError
from zoojax.text import is_printable

TEXTS = (
    b"-1", b"1e400", b"NaN", b"\x00", b"\x1b[31m", b"=cmd()", b"../../x", b"9" * 400,
    b"[" * 9000, b"{}", b"\xff\xfe", b"epoch", b'"seed": [1],', b"2147483648",
)  # fmt: skip


def zipped(path: Path) -> Path:
    """A zip of Lightning's runs."""
    root, file = foreign_zoos.lightning_runs(path / "runs"), path / "zoo.zip"
    with zipfile.ZipFile(file, "w") as archive:
        for each in sorted(root.rglob("*")):
            archive.write(each, each.relative_to(root))
    shutil.rmtree(root)
    return file


def tarred(path: Path) -> Path:
    """A compressed tar of a matrix."""
    root, file = foreign_zoos.flat_matrix(path / "matrix"), path / "zoo.tar.gz"
    with tarfile.open(file, "w:gz") as archive:
        archive.add(root, "matrix")
    shutil.rmtree(root)
    return file


def safetensors(path: Path) -> Path:
    """Two members with safetensors."""
    for i in range(2):
        (path / f"m{i}").mkdir(parents=True)
        save_file(
            {n: t.contiguous() for n, t in state(i).items()}, path / f"m{i}" / "a.safetensors"
        )
    return path


def dataset(path: Path) -> Path:
    """A pickled dataset in the legacy format, in which no checksum protects the pickle."""
    path.write_bytes(saved_dataset(zipped=False))
    return path


def stacked(path: Path) -> Path:
    """Stacked safetensors files of a matrix's zoo, with their tables."""
    zoo = convert_from(foreign_zoos.flat_matrix(path / "matrix"), path / "zoo", quiet=True).zoo
    convert_to(zoo, path / "root", format="safetensors", quiet=True)
    shutil.rmtree(path / "matrix")
    shutil.rmtree(path / "zoo")
    return path / "root"


ZOOS = {
    "trials": lambda path: foreign_zoos.function_trials(path / "root"),
    "class trials": lambda path: foreign_zoos.class_trials(path / "root"),
    "checkpoints": lambda path: foreign_zoos.lightning_runs(path / "root"),
    "safetensors": lambda path: safetensors(path / "root"),
    "stacked": stacked,
    "matrix": lambda path: foreign_zoos.flat_matrix(path / "root"),
    "file": lambda path: foreign_zoos.member_file(path / "root.pt"),
    "haiku": lambda path: foreign_zoos.haiku_runs(path / "root"),
    "inrs": lambda path: foreign_zoos.inrs(path / "root"),
    "wild park": lambda path: foreign_zoos.wild_park(path / "root"),
    "dataset": lambda path: dataset(path / "root.pt"),
    "zip": zipped,
    "tar": tarred,
}


@pytest.fixture(scope="module")
def zoos(tmp_path_factory):
    """A zoo in each format; not to be changed."""
    folder = tmp_path_factory.mktemp("zoos")
    made = {}
    for name, make in ZOOS.items():
        (folder / name).mkdir()
        made[name] = make(folder / name)
    return made


@st.composite
def damages(draw: st.DrawFn):
    """Edits of files: which file, where, and what."""
    return draw(
        st.lists(
            st.tuples(
                st.integers(0, 30),
                st.sampled_from(("flip", "cut", "insert", "empty", "folder", "link", "head")),
                st.floats(0, 1, exclude_max=True),
                st.sampled_from(TEXTS),
            ),
            min_size=1,
            max_size=3,
        )
    )


def damage(root: Path, edits) -> None:
    """Damages files of a zoo."""
    for which, kind, where, text in edits:
        files = sorted(p for p in ([root] if root.is_file() else root.rglob("*")) if p.is_file())
        if not files:
            return
        file = files[which % len(files)]
        content = bytearray(file.read_bytes())
        # Headers and directories are at the ends of files.
        reach = min(len(content), 600) if kind == "head" else len(content)
        place = int(where * reach)
        if kind in ("flip", "head") and content:
            content[place] ^= text[0] or 1
        elif kind == "cut":
            del content[place:]
        elif kind == "insert":
            content[place:place] = text
        elif kind == "empty":
            content.clear()
        file.unlink()
        if kind == "folder":
            file.mkdir()
        elif kind == "link":
            file.symlink_to("/etc/hostname" if where < 0.5 else file.name)
        else:
            file.write_bytes(content)


def list_all(root: Path) -> None:
    """Lists the members of a zoo, and reads every state."""
    if is_archive(root):
        with unpacked(root) as (folder, _):
            list_all(folder)
        return
    reader, _ = recognize(root)
    for source in reader.members(root, DialectOptions()).sources:
        assert is_printable(source.name)
        for epoch in source.states:
            try:
                infer_network(source.states[epoch]())
            except (UnreadableFileError, UnknownNetworkError) as error:
                assert "\n" not in str(error)


def check(zoos, name: str, edits, folder: Path) -> None:
    """A damaged zoo is listed, or refused in one line; its neighbors are intact."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    root = folder / zoos[name].name
    (shutil.copytree if zoos[name].is_dir() else shutil.copy)(zoos[name], root)
    damage(root, edits)
    try:
        list_all(root)
    except ZoojaxError as error:
        assert "\n" not in str(error) and str(error)
        assert is_printable(str(error))


def fuzz(examples: int):
    """Runs a test with this many random damages."""
    health = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    limits = settings(max_examples=examples, deadline=None, suppress_health_check=health)
    return lambda function: limits(given(edits=damages())(function))


@pytest.mark.parametrize("name", ZOOS)
@fuzz(8)
def test_damaged_zoos(zoos, tmp_path, name, edits):
    check(zoos, name, edits, tmp_path / "copy")


@pytest.mark.slow
@pytest.mark.parametrize("name", ZOOS)
@fuzz(500)
def test_many_damaged_zoos(zoos, tmp_path, name, edits):
    check(zoos, name, edits, tmp_path / "copy")


def check_pickle(content: bytes, edits, file: Path) -> None:
    """A damaged file of images and a damaged dataset are read, or refused in one line."""
    file.write_bytes(content)
    damage(file, edits)
    for read in (read_image_set, read_model_dataset):
        try:
            read(file)
        except ZoojaxError as error:
            assert "\n" not in str(error) and is_printable(str(error))
    if file.is_dir():
        file.rmdir()
    else:
        file.unlink()


def pickles() -> tuple[bytes, ...]:
    """Pickled images and datasets of states and of vectors, without checksums."""
    vectors = [torch.cat([t.flatten() for t in each.values()]) for each in dataset_states()]
    return (
        saved(image_file(), zipped=False),
        saved_dataset(zipped=False),
        saved_dataset(zipped=False, data_in=torch.stack(vectors), mode="vector", use_bias=False),
    )


@fuzz(8)
def test_damaged_pickles(tmp_path, edits):
    for content in pickles():
        check_pickle(content, edits, tmp_path / "dataset.pt")


@pytest.mark.slow
@fuzz(500)
def test_many_damaged_pickles(tmp_path, edits):
    for content in pickles():
        check_pickle(content, edits, tmp_path / "dataset.pt")


@pytest.mark.slow
@fuzz(60)
def test_damaged_zoos_are_converted_or_refused(zoos, tmp_path, edits):
    for name in ("trials", "checkpoints", "matrix"):
        root, out = tmp_path / "copy", tmp_path / "out"
        for path in (root, out):
            shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(zoos[name], root)
        damage(root, edits)
        try:
            zoo = convert_from(root, out, quiet=True).zoo
        except ZoojaxError as error:
            assert "\n" not in str(error)
            assert not out.exists()
        else:
            assert len(zoo) and zoo.epochs
