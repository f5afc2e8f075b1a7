"""The host: its CPU and processes, and the user's cache folders for compiled code."""

import contextlib
import functools
import hashlib
import os
import platform
import stat
import warnings
from pathlib import Path

import platformdirs

_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH
# Trailing folders of a cache path that zoojax creates: zoojax, the kind of content, the CPU.
_OWN_FOLDERS = 3
_warned: set[Path] = set()


class CacheWarning(UserWarning):
    """Cached compiled code is ignored, or compiled code cannot be cached."""


@functools.cache
def cpu_fingerprint() -> str:
    """Describes the CPU; the text differs between CPUs that run different machine code."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    fields = ("model name", "flags", "Features", "CPU part")
    return "\n".join(dict.fromkeys(line for line in lines if line.startswith(fields)))


def cpu_count() -> int:
    """Returns the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def is_process_alive(pid: int) -> bool:
    """Whether a process of this host is running (not a zombie)."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state != "Z"


def cache_dir(name: str) -> Path:
    """Returns the folder for machine code in the user's cache.

    The path depends on the CPU, as home folders may be shared between machines.

    Args:
        name: Name of the folder's content, for example "kernels".
    """
    cpu = hashlib.sha256(cpu_fingerprint().encode()).hexdigest()[:16]
    return Path(platformdirs.user_cache_dir("zoojax")) / name / cpu


def private_cache_dir(name: str) -> Path | None:
    """Creates the folder of `cache_dir` and checks that only this user can change its content.

    Machine code is loaded from this folder and executed. Root and the owners of the folders
    above zoojax's are trusted. On Windows, user folders are private by default.

    Args:
        name: Name of the folder's content, for example "kernels".

    Returns:
        The folder without symbolic links. None, after a `CacheWarning`, if it cannot be created
        or other users can write to it.
    """
    folder = cache_dir(name)
    try:
        # In a path without links, the folder cannot be redirected after the check.
        folder = folder.absolute().resolve()
        for part in reversed([folder, *folder.parents]):
            part.mkdir(0o700, exist_ok=True)
        reason = _why_not_private(folder)
        if reason is None:
            _make_private(folder)
    except (OSError, RuntimeError) as error:  # RuntimeError: circular links
        reason = f"{folder}: {getattr(error, 'strerror', None) or error}"
    if reason is None:
        return folder
    warn_cache_unused(name, f"compiled code is not cached: {reason}")
    return None


def warn_cache_unused(name: str, message: str) -> None:
    """Issues a `CacheWarning`, at most once per process.

    Args:
        name: Name of the cache folder's content.
        message: The warning.
    """
    root = cache_dir(name).parents[1]
    if root not in _warned:
        _warned.add(root)
        warnings.warn(message, CacheWarning, stacklevel=2)


def is_private(file: Path) -> bool:
    """Whether a regular file belongs to this user or root, and nobody else can write to it."""
    status = file.lstat()
    return stat.S_ISREG(status.st_mode) and (
        not hasattr(os, "geteuid")
        or (_is_trusted_owner(status) and not status.st_mode & _WRITABLE_BY_OTHERS)
    )


def _is_trusted_owner(status: os.stat_result) -> bool:
    return status.st_uid in (0, os.geteuid())


def _why_not_private(folder: Path) -> str | None:
    """Explains why other users can change a folder's content; None if they cannot.

    Args:
        folder: A path without links.
    """
    if not hasattr(os, "geteuid"):
        return None
    for depth, part in enumerate([folder, *folder.parents]):
        status = part.lstat()
        if depth < _OWN_FOLDERS:
            if not _is_trusted_owner(status):
                return f"{part} belongs to another user; remove it"
            if status.st_mode & _WRITABLE_BY_OTHERS:
                return f"others can write to {part}; remove it"
        elif not status.st_mode & stat.S_ISVTX and (
            status.st_mode & stat.S_IWOTH
            # A group with the same number as the user is the user's private group.
            or (status.st_mode & stat.S_IWGRP and status.st_gid not in (0, os.geteuid()))
        ):
            return f"others can write to {part}; set XDG_CACHE_HOME to a private folder"
    return None


def _make_private(folder: Path) -> None:
    """Makes this user's folder private and removes files that others could have written."""
    if not hasattr(os, "geteuid"):
        return
    status = folder.lstat()
    if status.st_mode & 0o077 and status.st_uid == os.geteuid():
        for file in folder.iterdir():
            with contextlib.suppress(FileNotFoundError):  # removed by another process
                if not stat.S_ISDIR(file.lstat().st_mode) and not is_private(file):
                    file.unlink()
        folder.chmod(0o700)
