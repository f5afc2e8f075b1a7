"""Compiled code is loaded from the user's cache only as it was written, by this user alone."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support import ROOT, zoo_fixtures
from zoojax import open_zoo
from zoojax.architectures.base import architecture
from zoojax.ops import kernel
from zoojax.ops.kernel import build
from zoojax.runtime import host

SMALL = architecture("small", 1)
STRANGER = 12345

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "getuid"), reason="POSIX permissions"),
    pytest.mark.skipif(
        kernel.unavailable_reason(SMALL) is not None,
        reason=f"no kernel here: {kernel.unavailable_reason(SMALL)}",
    ),
]
only_root = pytest.mark.skipif(
    not hasattr(os, "getuid") or os.getuid() != 0, reason="only root gives files away"
)

# Uses the kernel, and shows warnings as the command line does.
USE = """
import warnings
from zoojax.architectures.base import architecture
from zoojax.ops import kernel
warnings.showwarning = lambda message, category, *_: print(category.__name__, message)
print("reason:", kernel.unavailable_reason(architecture("small", 1)))
"""


class Used(NamedTuple):
    """What a process that uses the kernel did."""

    compiled: int
    notes: list[str]


class Cache(NamedTuple):
    """A user's cache folder, and processes that use it with a compiler that only copies."""

    home: Path
    environment: dict[str, str]
    calls: Path

    def use(self) -> Used:
        before = self.compilations()
        done = subprocess.run(
            [sys.executable, "-c", USE], env=self.environment, capture_output=True, text=True
        )
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        *notes, reason = done.stdout.splitlines()
        assert reason == "reason: None"
        return Used(self.compilations() - before, notes)

    def compilations(self) -> int:
        return len(self.calls.read_text().splitlines())

    @property
    def folder(self) -> Path:
        (folder,) = (self.home / "zoojax" / "kernels").iterdir()
        return folder

    @property
    def library(self) -> Path:
        (library,) = self.folder.glob("*.so")
        return library


@pytest.fixture
def cache(tmp_path) -> Cache:
    """Empty, so far."""
    real = host.cache_dir("kernels") / f"{build.register_targets(SMALL)}.so"
    calls, compiler, home = tmp_path / "calls", tmp_path / "compiler", tmp_path / "home"
    calls.touch()
    home.mkdir(0o700)
    compiler.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && exit\n'
        f"echo called >> {calls}\n"
        f'for last; do :; done\ncp {real} "$last"\n'
    )
    compiler.chmod(0o700)
    changes = {
        **{"CXX": str(compiler), "XDG_CACHE_HOME": str(home), "JAX_PLATFORMS": "cpu"},
        "PYTHONPATH": str(ROOT),
    }
    return Cache(home, {**os.environ, **changes}, calls)


def test_a_library_is_kept_private_with_its_hash(cache, tmp_path):
    """Whatever the umask."""
    before = os.umask(0o002)
    try:
        assert cache.use() == Used(1, [])
        assert cache.use() == Used(0, [])
    finally:
        os.umask(before)
    library = cache.library
    for folder in (library.parent, *list(library.parents)[1:3]):
        assert folder.stat().st_mode & 0o777 == 0o700
    for file in library.parent.iterdir():
        assert not file.stat().st_mode & 0o022
    assert sorted(f.suffix for f in library.parent.iterdir()) == [".sha256", ".so"]


def digest_of(library: Path) -> Path:
    return library.with_name(f"{library.name}.sha256")


def _replaced_by_fifo(library: Path) -> None:
    library.unlink()
    os.mkfifo(library)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "truncated": lambda library: os.truncate(library, 5000),
    "empty": lambda library: os.truncate(library, 0),
    "foreign": lambda library: library.write_bytes(b"#!/bin/sh\necho hello\n"),
    "flipped": lambda library: library.write_bytes(library.read_bytes()[:-1] + b"x"),
    "longer": lambda library: library.write_bytes(library.read_bytes() + b"x"),
    "missing": lambda library: library.unlink(),
    "hash missing": lambda library: digest_of(library).unlink(),
    "hash wrong": lambda library: digest_of(library).write_text("0" * 64),
    "hash binary": lambda library: digest_of(library).write_bytes(b"\xff\x00" * 3000),
}


def test_a_damaged_library_is_compiled_again(cache):
    cache.use()
    library = cache.library
    for damage in DAMAGES.values():
        damage(library)
        assert cache.use() == Used(1, [])
    assert cache.use() == Used(0, [])


def test_a_pipe_in_place_of_the_library_does_not_hang(cache):
    cache.use()
    library = cache.library
    _replaced_by_fifo(library)
    used = cache.use()
    assert used.compiled == 1 and len(used.notes) == 1
    assert cache.use() == Used(0, [])


def test_a_folder_in_place_of_the_library(cache):
    cache.use()
    library = cache.library
    library.unlink()
    library.mkdir()
    used = cache.use()
    assert used.compiled and len(used.notes) == 1


@pytest.mark.parametrize("mode", [0o722, 0o720, 0o702])
def test_a_library_that_others_could_write_is_compiled_again(cache, mode):
    cache.use()
    cache.library.chmod(mode)
    used = cache.use()
    assert used.compiled == 1
    (note,) = used.notes
    assert note.startswith("CacheWarning") and str(cache.library) in note
    assert cache.use() == Used(0, [])


@only_root
def test_a_library_of_another_user_is_compiled_again(cache):
    cache.use()
    os.chown(cache.library, STRANGER, STRANGER)
    used = cache.use()
    assert (used.compiled, len(used.notes)) == (1, 1)
    assert cache.library.stat().st_uid == 0
    assert cache.use() == Used(0, [])


def test_a_link_to_a_library_is_not_followed(cache, tmp_path):
    cache.use()
    library = cache.library
    outside = tmp_path / "outside.so"
    shutil.move(library, outside)
    library.symlink_to(outside)
    used = cache.use()
    assert (used.compiled, len(used.notes)) == (1, 1)
    assert not library.is_symlink()


PARTS = [(), ("kernels",), ("kernels", "*")]


def part_of(cache: Cache, parts: tuple[str, ...]) -> Path:
    (found,) = (cache.home / "zoojax").glob("/".join(parts)) if parts else [cache.home / "zoojax"]
    return found


def plant(cache: Cache, marker: Path) -> None:
    """A library with the right hash that writes a marker when it is loaded."""
    source = cache.home.with_name("planted.cc")
    source.write_text(
        "#include <cstdio>\n__attribute__((constructor)) static void run() "
        f'{{ if (FILE* f = fopen("{marker}", "w")) fclose(f); }}\n'
    )
    library = cache.library
    subprocess.run([build._compiler(), "-shared", "-fPIC", source, "-o", library], check=True)
    library.chmod(0o700)
    digest = hashlib.sha256(library.read_bytes()).hexdigest()
    digest_of(library).write_text(digest)


def test_a_planted_library_would_write_its_marker(cache, tmp_path):
    """What the next test rests on. It lacks the kernel's functions, and is replaced."""
    cache.use()
    plant(cache, tmp_path / "marker")
    cache.use()
    assert (tmp_path / "marker").exists()
    assert cache.use().notes == []


@pytest.mark.parametrize("parts", PARTS)
@pytest.mark.parametrize("change", ["group", "others", pytest.param("owner", marks=only_root)])
def test_nothing_is_loaded_from_a_folder_of_others(cache, tmp_path, parts, change):
    cache.use()
    plant(cache, tmp_path / "marker")
    folder = part_of(cache, parts)
    if change == "owner":
        os.chown(folder, STRANGER, STRANGER)
    else:
        folder.chmod(0o770 if change == "group" else 0o707)
    before = zoo_fixtures.contents(cache.home)
    used = cache.use()
    assert used.compiled == 1 and not (tmp_path / "marker").exists()
    (note,) = used.notes
    assert note.startswith("CacheWarning") and str(folder) in note
    assert zoo_fixtures.contents(cache.home) == before


def test_nothing_is_loaded_where_others_can_rename_folders(cache, tmp_path):
    cache.use()
    plant(cache, tmp_path / "marker")
    cache.home.chmod(0o777)
    used = cache.use()
    assert used.compiled == 1 and not (tmp_path / "marker").exists()
    (note,) = used.notes
    assert str(cache.home) in note
    # Unless they can rename only what is theirs.
    cache.home.chmod(0o1777)
    assert cache.use().notes == []


def test_files_that_others_could_write_are_dropped_as_a_folder_is_made_private(cache, tmp_path):
    """Folders of earlier versions could be entered by anybody."""
    cache.use()
    library, folder = cache.library, cache.folder
    (folder / "open").touch(0o600)
    (folder / "open").chmod(0o666)
    (folder / "link").symlink_to(tmp_path)
    folder.chmod(0o755)
    assert cache.use() == Used(0, [])
    assert sorted(f.name for f in folder.iterdir()) == [library.name, digest_of(library).name]
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("make", ["file", "loop"])
def test_a_cache_that_cannot_be_made(cache, make):
    cache.home.rmdir()
    if make == "file":
        cache.home.touch()
    else:
        cache.home.symlink_to(cache.home)
    used = cache.use()
    assert used.compiled == 1
    (note,) = used.notes
    assert "compiled code is not cached" in note


def test_a_linked_cache_is_used(cache, tmp_path):
    """Caches are often kept on another disk."""
    cache.home.rmdir()
    (tmp_path / "disk").mkdir(0o700)
    cache.home.symlink_to(tmp_path / "disk")
    assert cache.use() == Used(1, [])
    assert cache.use() == Used(0, [])


# The command line, which keeps the programs of XLA there too


def trained(factory, cache: Cache, out: Path) -> subprocess.CompletedProcess[str]:
    arguments = ("train", "digits-s-seed", "--data", zoo_fixtures.images(factory), "--members", 2)
    arguments += ("--epochs", 1, "--quiet", "--out", out)
    environment = {**zoo_fixtures.environment(factory), **cache.environment}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    return subprocess.run(
        [*zoo_fixtures.COMMAND, *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
    )


def test_a_command_says_once_that_it_keeps_nothing(tmp_path_factory, tmp_path, cache):
    (cache.home / "zoojax").mkdir()
    (cache.home / "zoojax").chmod(0o777)
    done = trained(tmp_path_factory, cache, tmp_path / "zoo")
    assert done.returncode == 0
    (note,) = done.stderr.splitlines()
    assert note.startswith("zoojax: compiled code is not cached: ") and "zoojax; " in note
    assert zoo_fixtures.contents(cache.home) == {}


def test_programs_that_are_damaged_or_that_others_could_write_are_not_used(
    tmp_path_factory, tmp_path, cache
):
    done = trained(tmp_path_factory, cache, tmp_path / "a")
    assert (done.returncode, done.stderr) == (0, "")
    (folder,) = (cache.home / "zoojax" / "programs").iterdir()
    programs = sorted(folder.glob("*-cache"))
    assert programs and folder.stat().st_mode & 0o777 == 0o700
    programs[0].write_bytes(b"not a program")
    programs[0].chmod(0o666)
    os.truncate(programs[1], 100)
    os.truncate(programs[2], 0)
    folder.chmod(0o755)
    done = trained(tmp_path_factory, cache, tmp_path / "b")
    assert (done.returncode, done.stderr) == (0, "")
    assert b"not a program" not in {f.read_bytes() for f in folder.glob("*-cache")}
    assert folder.stat().st_mode & 0o777 == 0o700
    zoo_fixtures.assert_same_zoo(open_zoo(tmp_path / "a"), open_zoo(tmp_path / "b"))
