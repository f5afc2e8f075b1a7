"""Archives of zoos: read within limits, and never outside the target folder."""

import gzip
import io
import os
import stat
import tarfile
import zipfile
from pathlib import Path
from typing import Any, cast

import pytest

from tests.support.torch_zoos import write_zoo
from zoojax.converters.api import convert_from
from zoojax.converters.formats.archives import ArchiveLimits, is_archive, unpacked
from zoojax.errors import ZoojaxError


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Trial folders of two members, in a folder `zoo` of a folder; not to be changed."""
    return write_zoo(tmp_path_factory.mktemp("archives") / "a" / "zoo", members=2, epochs=[0])


def zipped(root: Path, file: Path) -> Path:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(root.parent.rglob("*")):
            archive.write(path, path.relative_to(root.parent))
    return file


def tarred(root: Path, file: Path, mode: str) -> Path:
    with tarfile.open(name=str(file), mode=cast(Any, f"w:{mode}")) as archive:
        archive.add(root, "zoo")
    return file


def zip_of(file: Path, entries: dict[str, bytes], mode: int | None = None) -> Path:
    """A zip with entries of any names."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            if mode is not None:
                info.external_attr = mode << 16
            archive.writestr(info, content)
    return file


def tar_of(file: Path, entries: list[tarfile.TarInfo], content: bytes = b"") -> Path:
    """A tar with entries of any names and kinds."""
    with tarfile.open(file, "w") as archive:
        for entry in entries:
            entry.size = len(content) if entry.isfile() else 0
            archive.addfile(entry, io.BytesIO(content) if entry.isfile() else None)
    return file


def tar_entry(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, target
    return entry


def refused(path: Path, limits: ArchiveLimits | None = None) -> str:
    """The single line with which an archive is refused; nothing is written outside."""
    before = sorted(path.parent.rglob("*"))
    with pytest.raises(ZoojaxError) as caught, unpacked(path, limits):
        pass
    assert sorted(path.parent.rglob("*")) == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("ending", [".zip", ".tar", ".tar.gz", ".tar.xz", ".tar.bz2", ".tgz"])
def test_archives_are_unpacked(tmp_path, root, ending):
    file = tmp_path / f"zoo{ending}"
    modes = {".tgz": "gz"}
    if ending == ".zip":
        zipped(root, file)
    elif ending == ".tar":
        tarred(root, file, "")
    else:
        tarred(root, file, modes.get(ending) or ending.rpartition(".")[2])
    assert is_archive(file)
    with unpacked(file) as (folder, notes):
        assert notes == []
        written = {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert not folder.exists()
    assert written == {p.relative_to(root): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_archive_is_converted_as_its_content(tmp_path, root):
    plain = convert_from(root, tmp_path / "plain", quiet=True)
    result = convert_from(zipped(root, tmp_path / "zoo.zip"), tmp_path / "zoo", quiet=True)
    assert result.notes[0].startswith("read as trial folders of Ray Tune")
    assert result.zoo.members_table.equals(plain.zoo.members_table)
    for name, layer in plain.zoo.params(0).items():
        assert (layer["kernel"] == result.zoo.params(0)[name]["kernel"]).all()


def test_files_of_torch_are_no_archives(tmp_path):
    for name in ("a.pth.tar", "a.pt", "zip"):
        (tmp_path / name).touch()
        assert not is_archive(tmp_path / name)
    assert not is_archive(tmp_path)


@pytest.mark.parametrize(
    "name",
    ["../evil", "a/../../evil", "/tmp/evil-zoojax", "..\\evil", "C:\\evil", "a/..", "\\\\x\\y"],
)
def test_names_that_lead_out_are_refused(tmp_path, name):
    assert "leads out of its folder" in refused(zip_of(tmp_path / "a.zip", {name: b"x"}))
    assert "leads out of its folder" in refused(tar_of(tmp_path / "a.tar", [tar_entry(name)]))
    assert not Path("/tmp/evil-zoojax").exists()


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE]
)
def test_links_and_devices_are_left_out(tmp_path, kind):
    secret = tmp_path / "secret"
    secret.write_text("secret")
    entries = [tar_entry("link", kind, str(secret)), tar_entry("other")]
    with unpacked(tar_of(tmp_path / "a.tar", entries)) as (folder, notes):
        assert notes == ["link is not a regular file; left out"]
        assert [path.name for path in folder.iterdir()] == ["other"]


def test_files_below_links_are_not_written_through_them(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    entries = [tar_entry("link", tarfile.SYMTYPE, str(outside)), tar_entry("link/file")]
    with unpacked(tar_of(tmp_path / "a.tar", entries, b"x")) as (folder, _):
        assert (folder / "file").read_bytes() == b"x" or (folder / "link/file").exists()
    assert not list(outside.iterdir())
    with unpacked(zip_of(tmp_path / "a.zip", {"link": b"/etc"}, stat.S_IFLNK | 0o777)) as content:
        assert content[1] == ["link is not a regular file; left out"]


def test_bombs_are_refused(tmp_path):
    zeros = bytes(100 * 2**20)
    bomb = zip_of(tmp_path / "a.zip", {"a": zeros})
    assert bomb.stat().st_size < 200_000
    assert "expands to more" in refused(bomb)
    # A directory that lies about the size.
    lying = bytearray(bomb.read_bytes())
    place = lying.rindex(b"PK\x01\x02") + 24
    lying[place : place + 4] = (10).to_bytes(4, "little")
    bomb.write_bytes(lying)
    refused(bomb)
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        entry = tarfile.TarInfo("a")
        entry.size = len(zeros)
        archive.addfile(entry, io.BytesIO(zeros))
    assert "expands to more" in refused(tmp_path / "a.tar.gz")
    many = {f"f{i}": b"" for i in range(20)}
    limits = ArchiveLimits(entries=10)
    assert "more than 10 entries" in refused(zip_of(tmp_path / "b.zip", many), limits)
    entries = [tar_entry(name) for name in many]
    assert "more than 10 entries" in refused(tar_of(tmp_path / "b.tar", entries), limits)
    assert "expands" in refused(
        zip_of(tmp_path / "c.zip", {"a": os.urandom(2000)}), ArchiveLimits(size=1000)
    )


def test_huge_headers_of_tar_are_refused(tmp_path):
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 2**33
    content = gzip.compress(header.tobuf(tarfile.PAX_FORMAT) + bytes(2**20))
    (tmp_path / "a.tar.gz").write_bytes(content)
    assert "is damaged" in refused(tmp_path / "a.tar.gz")


def test_duplicates_and_damage_are_refused(tmp_path, root):
    twice = tar_of(tmp_path / "a.tar", [tar_entry("a"), tar_entry("a")])
    assert "File exists" in refused(twice)
    for file in (zipped(root, tmp_path / "b.zip"), tarred(root, tmp_path / "b.tar.gz", "gz")):
        content = file.read_bytes()
        file.write_bytes(content[: len(content) // 2])
        assert "is damaged" in refused(file)
        file.write_bytes(b"")
        refused(file)
