"""Cached compiled code is loaded only if it is unchanged and no other user could write it."""

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
from tests.support.kernel import SMALL_SPEC, needs_kernel
from zoojax import open_zoo
from zoojax.ops.kernel import build
from zoojax.runtime import host

OTHER_USER = 12345

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "getuid"), reason="POSIX permissions"),
    needs_kernel,
]
only_root = pytest.mark.skipif(
    not hasattr(os, "getuid") or os.getuid() != 0, reason="only root can change the owner of files"
)

# Uses the kernel, and prints warnings to standard output.
USE = """
import warnings
from zoojax.architectures.cnn import small_cnn
from zoojax.ops import kernel
warnings.showwarning = lambda message, category, *_: print(category.__name__, message)
print("reason:", kernel.unavailable_reason(small_cnn(1, 10).kernel))
"""


class Usage(NamedTuple):
    """Number of compilations and printed warnings of a process that uses the kernel."""

    compiled: int
    warnings: list[str]


class Cache(NamedTuple):
    """A user's cache folder, used by processes whose compiler only copies a library."""

    home: Path
    environment: dict[str, str]
    calls: Path

    def use(self) -> Usage:
        before = self.compilations()
        result = subprocess.run(
            [sys.executable, "-c", USE], env=self.environment, capture_output=True, text=True
        )
        assert (result.returncode, result.stderr) == (0, ""), result.stderr
        *warnings, reason = result.stdout.splitlines()
        assert reason == "reason: None"
        return Usage(self.compilations() - before, warnings)

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
    """An empty cache."""
    library = host.cache_dir("kernels") / f"{build.register_targets(SMALL_SPEC)}.so"
    calls, compiler, home = tmp_path / "calls", tmp_path / "compiler", tmp_path / "home"
    calls.touch()
    home.mkdir(0o700)
    compiler.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && exit\n'
        f"echo called >> {calls}\n"
        f'for last; do :; done\ncp {library} "$last"\n'
    )
    compiler.chmod(0o700)
    changes = {
        **{"CXX": str(compiler), "XDG_CACHE_HOME": str(home), "JAX_PLATFORMS": "cpu"},
        "PYTHONPATH": str(ROOT),
    }
    return Cache(home, {**os.environ, **changes}, calls)


def test_library_is_stored_privately_with_its_hash(cache, tmp_path):
    """Independent of the umask."""
    before = os.umask(0o002)
    try:
        assert cache.use() == Usage(1, [])
        assert cache.use() == Usage(0, [])
    finally:
        os.umask(before)
    library = cache.library
    for folder in (library.parent, *list(library.parents)[1:3]):
        assert folder.stat().st_mode & 0o777 == 0o700
    for file in library.parent.iterdir():
        assert not file.stat().st_mode & 0o022
    assert sorted(f.suffix for f in library.parent.iterdir()) == [".sha256", ".so"]


def digest_file(library: Path) -> Path:
    return library.with_name(f"{library.name}.sha256")


def _replace_with_pipe(library: Path) -> None:
    library.unlink()
    os.mkfifo(library)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "truncated": lambda library: os.truncate(library, 5000),
    "empty": lambda library: os.truncate(library, 0),
    "foreign": lambda library: library.write_bytes(b"#!/bin/sh\necho hello\n"),
    "flipped": lambda library: library.write_bytes(library.read_bytes()[:-1] + b"x"),
    "longer": lambda library: library.write_bytes(library.read_bytes() + b"x"),
    "missing": lambda library: library.unlink(),
    "hash missing": lambda library: digest_file(library).unlink(),
    "hash wrong": lambda library: digest_file(library).write_text("0" * 64),
    "hash binary": lambda library: digest_file(library).write_bytes(b"\xff\x00" * 3000),
}


def test_damaged_library_is_recompiled(cache):
    cache.use()
    library = cache.library
    for damage in DAMAGES.values():
        damage(library)
        assert cache.use() == Usage(1, [])
    assert cache.use() == Usage(0, [])


def test_pipe_in_place_of_the_library_does_not_block(cache):
    cache.use()
    library = cache.library
    _replace_with_pipe(library)
    usage = cache.use()
    assert usage.compiled == 1 and len(usage.warnings) == 1
    assert cache.use() == Usage(0, [])


def test_folder_in_place_of_the_library(cache):
    cache.use()
    library = cache.library
    library.unlink()
    library.mkdir()
    usage = cache.use()
    assert usage.compiled and len(usage.warnings) == 1


@pytest.mark.parametrize("mode", [0o722, 0o720, 0o702])
def test_library_writable_by_others_is_recompiled(cache, mode):
    cache.use()
    cache.library.chmod(mode)
    usage = cache.use()
    assert usage.compiled == 1
    (warning,) = usage.warnings
    assert warning.startswith("CacheWarning") and str(cache.library) in warning
    assert cache.use() == Usage(0, [])


@only_root
def test_library_of_another_user_is_recompiled(cache):
    cache.use()
    os.chown(cache.library, OTHER_USER, OTHER_USER)
    usage = cache.use()
    assert (usage.compiled, len(usage.warnings)) == (1, 1)
    assert cache.library.stat().st_uid == 0
    assert cache.use() == Usage(0, [])


def test_link_to_a_library_is_not_followed(cache, tmp_path):
    cache.use()
    library = cache.library
    outside = tmp_path / "outside.so"
    shutil.move(library, outside)
    library.symlink_to(outside)
    usage = cache.use()
    assert (usage.compiled, len(usage.warnings)) == (1, 1)
    assert not library.is_symlink()


PARTS = [(), ("kernels",), ("kernels", "*")]


def part_of(cache: Cache, parts: tuple[str, ...]) -> Path:
    (path,) = (cache.home / "zoojax").glob("/".join(parts)) if parts else [cache.home / "zoojax"]
    return path


def plant(cache: Cache, marker: Path) -> None:
    """Replaces the library by one with a valid hash that writes a marker when it is loaded."""
    source = cache.home.with_name("planted.cc")
    source.write_text(
        "#include <cstdio>\n__attribute__((constructor)) static void run() "
        f'{{ if (FILE* f = fopen("{marker}", "w")) fclose(f); }}\n'
    )
    library = cache.library
    subprocess.run([build._compiler(), "-shared", "-fPIC", source, "-o", library], check=True)
    library.chmod(0o700)
    digest = hashlib.sha256(library.read_bytes()).hexdigest()
    digest_file(library).write_text(digest)


def test_planted_library_writes_its_marker(cache, tmp_path):
    """The next tests rely on this. The library lacks the kernel's functions and is replaced."""
    cache.use()
    plant(cache, tmp_path / "marker")
    cache.use()
    assert (tmp_path / "marker").exists()
    assert cache.use().warnings == []


@pytest.mark.parametrize("parts", PARTS)
@pytest.mark.parametrize("change", ["group", "others", pytest.param("owner", marks=only_root)])
def test_nothing_is_loaded_from_a_folder_that_others_can_change(cache, tmp_path, parts, change):
    cache.use()
    plant(cache, tmp_path / "marker")
    folder = part_of(cache, parts)
    if change == "owner":
        os.chown(folder, OTHER_USER, OTHER_USER)
    else:
        folder.chmod(0o770 if change == "group" else 0o707)
    before = zoo_fixtures.contents(cache.home)
    usage = cache.use()
    assert usage.compiled == 1 and not (tmp_path / "marker").exists()
    (warning,) = usage.warnings
    assert warning.startswith("CacheWarning") and str(folder) in warning
    assert zoo_fixtures.contents(cache.home) == before


def test_nothing_is_loaded_if_others_can_rename_folders(cache, tmp_path):
    cache.use()
    plant(cache, tmp_path / "marker")
    cache.home.chmod(0o777)
    usage = cache.use()
    assert usage.compiled == 1 and not (tmp_path / "marker").exists()
    (warning,) = usage.warnings
    assert str(cache.home) in warning
    # With the sticky bit, they can rename only their own folders.
    cache.home.chmod(0o1777)
    assert cache.use().warnings == []


def test_public_folder_is_made_private_and_files_of_others_are_removed(cache, tmp_path):
    """Earlier versions created public folders."""
    cache.use()
    library, folder = cache.library, cache.folder
    (folder / "open").touch(0o600)
    (folder / "open").chmod(0o666)
    (folder / "link").symlink_to(tmp_path)
    folder.chmod(0o755)
    assert cache.use() == Usage(0, [])
    assert sorted(f.name for f in folder.iterdir()) == [library.name, digest_file(library).name]
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("obstacle", ["file", "loop"])
def test_cache_that_cannot_be_created(cache, obstacle):
    cache.home.rmdir()
    if obstacle == "file":
        cache.home.touch()
    else:
        cache.home.symlink_to(cache.home)
    usage = cache.use()
    assert usage.compiled == 1
    (warning,) = usage.warnings
    assert "compiled code is not cached" in warning


def test_linked_cache_is_used(cache, tmp_path):
    """Caches are often stored on another disk."""
    cache.home.rmdir()
    (tmp_path / "disk").mkdir(0o700)
    cache.home.symlink_to(tmp_path / "disk")
    assert cache.use() == Usage(1, [])
    assert cache.use() == Usage(0, [])


# The command line also caches XLA's programs.


def train(factory, cache: Cache, out: Path) -> subprocess.CompletedProcess[str]:
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


def test_command_warns_once_if_it_cannot_cache(tmp_path_factory, tmp_path, cache):
    (cache.home / "zoojax").mkdir()
    (cache.home / "zoojax").chmod(0o777)
    done = train(tmp_path_factory, cache, tmp_path / "zoo")
    assert done.returncode == 0
    (warning,) = done.stderr.splitlines()
    assert warning.startswith("zoojax: compiled code is not cached: ") and "zoojax; " in warning
    assert zoo_fixtures.contents(cache.home) == {}


def test_programs_that_are_damaged_or_writable_by_others_are_not_used(
    tmp_path_factory, tmp_path, cache
):
    done = train(tmp_path_factory, cache, tmp_path / "a")
    assert (done.returncode, done.stderr) == (0, "")
    (folder,) = (cache.home / "zoojax" / "programs").iterdir()
    programs = sorted(folder.glob("*-cache"))
    assert programs and folder.stat().st_mode & 0o777 == 0o700
    programs[0].write_bytes(b"not a program")
    programs[0].chmod(0o666)
    os.truncate(programs[1], 100)
    os.truncate(programs[2], 0)
    folder.chmod(0o755)
    done = train(tmp_path_factory, cache, tmp_path / "b")
    assert (done.returncode, done.stderr) == (0, "")
    assert b"not a program" not in {f.read_bytes() for f in folder.glob("*-cache")}
    assert folder.stat().st_mode & 0o777 == 0o700
    zoo_fixtures.assert_same_zoo(open_zoo(tmp_path / "a"), open_zoo(tmp_path / "b"))
