"""Unpacks .zip and .tar archives of zoos into a temporary folder, within limits.

Only regular files and folders are unpacked, and only into the target folder. The claimed sizes are
checked before anything is written, and the actual bytes while they are written.
"""

import bz2
import contextlib
import gzip
import io
import lzma
import stat
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple, cast

from zoojax.errors import ZoojaxError
from zoojax.text import printable

_MAX_ENTRIES = 2_000_000
_MAX_BYTES = 512 * 2**30
_MAX_RATIO = 200  # Weights compress little; tables of text by a factor below 100.
_FREE_BYTES = 64 * 2**20  # Small archives may compress more.
_MAX_DEPTH = 64
_BLOCK = 2**20
_MAX_READ = 16 * 2**20
_TAR_ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2")


class ArchiveLimits(NamedTuple):
    """Limits of an archive.

    Attributes:
        entries: Number of entries.
        size: Bytes of all unpacked files.
        ratio: Bytes of all unpacked files per byte of the archive; not applied to small ones.
    """

    entries: int = _MAX_ENTRIES
    size: int = _MAX_BYTES
    ratio: int = _MAX_RATIO


def is_archive(path: Path) -> bool:
    """Whether a file is a .zip or .tar archive; torch's own files, also zips, are not."""
    if not path.is_file():
        return False
    name = path.name.lower()
    if name.endswith((".pth.tar", ".pt.tar")):
        return False
    return name.endswith((".zip", *_TAR_ENDINGS))


@contextlib.contextmanager
def unpacked(path: Path, limits: ArchiveLimits | None = None) -> Iterator[tuple[Path, list[str]]]:
    """Unpacks an archive into a temporary folder, which is removed afterwards.

    Args:
        path: The archive.
        limits: Its limits; None for the defaults.

    Yields:
        The folder with its content (the innermost one, if folders have only one entry), and notes
        on what was left out.

    Raises:
        ZoojaxError: If the archive is damaged, exceeds the limits, or has names or links that
            lead out of the folder.
    """
    with tempfile.TemporaryDirectory(prefix="zoojax-") as folder:
        target, notes = Path(folder), []
        try:
            if path.name.lower().endswith(".zip"):
                _unpack_zip(path, target, limits or ArchiveLimits(), notes)
            else:
                _unpack_tar(path, target, limits or ArchiveLimits(), notes)
        except (
            zipfile.BadZipFile,
            tarfile.TarError,
            zlib.error,
            lzma.LZMAError,
            EOFError,
            ValueError,
            struct.error,
        ) as error:
            raise ZoojaxError(f"{printable(path)} is damaged: {printable(error, 200)}") from error
        except (NotImplementedError, RuntimeError) as error:
            reason = printable(error, 200)
            raise ZoojaxError(f"{printable(path)} cannot be unpacked: {reason}") from error
        except OSError as error:
            reason = error.strerror or printable(error, 200)
            raise ZoojaxError(f"{printable(path)} cannot be unpacked: {reason}") from error
        yield _content(target), notes


def _content(folder: Path) -> Path:
    """Returns the first folder of an archive that has more than one entry."""
    for _ in range(_MAX_DEPTH):
        entries = [e for e in folder.iterdir() if not e.name.startswith((".", "__MACOSX"))]
        if len(entries) != 1 or not entries[0].is_dir():
            return folder
        folder = entries[0]
    return folder


class _Budget:
    """Counts what is unpacked, within limits."""

    def __init__(self, path: Path, limits: ArchiveLimits):
        self._path = path
        self._limits = limits
        self._entries = 0
        size = max(path.stat().st_size, 1)
        self._bytes = min(limits.size, max(limits.ratio * size, _FREE_BYTES))

    def entry(self) -> None:
        """Counts an entry."""
        self._entries += 1
        if self._entries > self._limits.entries:
            raise ZoojaxError(
                f"{printable(self._path)} has more than {self._limits.entries} entries"
            )

    def claim(self, size: int) -> None:
        """Checks a size before anything is written."""
        if size > self._bytes:
            raise ZoojaxError(
                f"{printable(self._path)} expands to more than is allowed "
                f"({self._limits.ratio} times its size)"
            )

    def spend(self, size: int) -> None:
        """Counts bytes that are written."""
        self.claim(size)
        self._bytes -= size


def _unpack_zip(path: Path, target: Path, limits: ArchiveLimits, notes: list[str]) -> None:
    budget = _Budget(path, limits)
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        budget.claim(sum(entry.file_size for entry in entries))
        for entry in entries:
            budget.entry()
            kind = stat.S_IFMT(entry.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                _note(notes, f"{printable(entry.filename, 100)} is not a regular file; left out")
                continue
            file = _inside(path, target, entry.filename)
            if entry.is_dir():
                file.mkdir(parents=True, exist_ok=True)
                continue
            with archive.open(entry) as stream:
                _write(stream, file, budget)


def _unpack_tar(path: Path, target: Path, limits: ArchiveLimits, notes: list[str]) -> None:
    budget = _Budget(path, limits)
    with (
        _decompressed(path) as content,
        tarfile.open(fileobj=_ShortReads(content), mode="r:") as archive,
    ):
        for entry in archive:
            budget.entry()
            if not entry.isfile() and not entry.isdir():
                _note(notes, f"{printable(entry.name, 100)} is not a regular file; left out")
                continue
            file = _inside(path, target, entry.name)
            if entry.isdir():
                file.mkdir(parents=True, exist_ok=True)
                continue
            budget.claim(entry.size)
            stream = archive.extractfile(entry)
            if stream is not None:
                with stream:
                    _write(stream, file, budget)


class _ShortReads(io.BufferedIOBase):
    """A stream that refuses long reads: tarfile reads its extended headers at once."""

    def __init__(self, stream: IO[bytes]):
        self._stream = stream

    def read(self, size: int | None = -1, /) -> bytes:
        """Reads up to `size` bytes."""
        if size is None or not 0 <= size <= _MAX_READ:
            raise ValueError("an extended header is too large")
        return self._stream.read(size)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Moves to a position."""
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        """The position."""
        return self._stream.tell()

    def seekable(self) -> bool:
        """Whether `seek` works."""
        return True

    def readable(self) -> bool:
        """Whether `read` works."""
        return True


def _decompressed(path: Path) -> IO[bytes]:
    """Opens a tar archive, decompressed as it is read."""
    with path.open("rb") as file:
        start = file.read(6)
    if start.startswith(b"\x1f\x8b"):
        return cast(IO[bytes], gzip.open(path, "rb"))
    if start.startswith(b"BZh"):
        return cast(IO[bytes], bz2.open(path, "rb"))
    if start == b"\xfd7zXZ\0":
        return cast(IO[bytes], lzma.open(path, "rb"))
    return path.open("rb")


def _note(notes: list[str], note: str) -> None:
    if len(notes) < 20:
        notes.append(note)


def _inside(path: Path, target: Path, name: str) -> Path:
    """Returns the path of an entry, which must be within the target."""
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
    if name.startswith(("/", "\\")) or ".." in parts or "\0" in name or ":" in name[:3]:
        raise ZoojaxError(
            f"{printable(path)} has an entry that leads out of its folder: {printable(name, 100)}"
        )
    if not parts or len(parts) > _MAX_DEPTH:
        raise ZoojaxError(f"{printable(path)} has an entry with an invalid name")
    return target.joinpath(*parts)


def _write(stream: IO[bytes], file: Path, budget: _Budget) -> None:
    """Writes one file; an existing file is an error."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("xb") as out:
        while block := stream.read(_BLOCK):
            budget.spend(len(block))
            out.write(block)
