"""This machine: its kind of processor, and where what was compiled for it is kept."""

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
# Folders of zoojax that end the path of a cache folder: zoojax, what is kept, the processor.
_OWN_FOLDERS = 3
_warned: set[Path] = set()


class CacheWarning(UserWarning):
    """Compiled code that was kept is not used, or compiled code cannot be kept."""


@functools.cache
def cpu_fingerprint() -> str:
    """What decides which machine code runs here; differs between unlike processors."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    wanted = ("model name", "flags", "Features", "CPU part")
    return "\n".join(dict.fromkeys(line for line in lines if line.startswith(wanted)))


def cpu_count() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cache_dir(what: str) -> Path:
    """Folder in the user's cache for machine code; home folders are shared between machines.

    Args:
        what: its name there.
    """
    kind = hashlib.sha256(cpu_fingerprint().encode()).hexdigest()[:16]
    return Path(platformdirs.user_cache_dir("zoojax")) / what / kind


def private_cache_dir(what: str) -> Path | None:
    """The folder of `cache`, made if needed, if nobody else can change what is in it.

    Machine code is read from it and executed. Root and whoever owns the folders above
    zoojax's are trusted; Windows keeps user folders private by itself.

    Args:
        what: its name there.

    Returns:
        The folder without symbolic links; None, after a `CacheWarning`, if it cannot be made
        or others can write in it.
    """
    folder = cache_dir(what)
    try:
        # Without links, nobody can redirect the path after the check.
        folder = folder.absolute().resolve()
        for part in reversed([folder, *folder.parents]):
            part.mkdir(0o700, exist_ok=True)
        reason = _open_to_others(folder)
        if reason is None:
            _shut(folder)
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle.
        reason = f"{folder}: {getattr(error, 'strerror', None) or error}"
    if reason is None:
        return folder
    warn_of_cache(what, f"compiled code is not kept: {reason}")
    return None


def warn_of_cache(what: str, message: str) -> None:
    """Warns that the user's cache of compiled code is not used: once in a process."""
    root = cache_dir(what).parents[1]
    if root not in _warned:
        _warned.add(root)
        warnings.warn(message, CacheWarning, stacklevel=2)


def is_private(file: Path) -> bool:
    """Whether a regular file belongs to this user or root, and only they can write to it."""
    status = file.lstat()
    return stat.S_ISREG(status.st_mode) and (
        not hasattr(os, "geteuid")
        or (_is_ours(status) and not status.st_mode & _WRITABLE_BY_OTHERS)
    )


def _is_ours(status: os.stat_result) -> bool:
    return status.st_uid in (0, os.geteuid())


def _open_to_others(folder: Path) -> str | None:
    """Who else can change what is in a folder without links in its path; None if nobody."""
    if not hasattr(os, "geteuid"):
        return None
    for depth, part in enumerate([folder, *folder.parents]):
        status = part.lstat()
        if depth < _OWN_FOLDERS:
            if not _is_ours(status):
                return f"{part} belongs to another user; remove it"
            if status.st_mode & _WRITABLE_BY_OTHERS:
                return f"others can write in {part}; remove it"
        elif not status.st_mode & stat.S_ISVTX and (
            status.st_mode & stat.S_IWOTH
            # A group with the user's number is the user's alone.
            or (status.st_mode & stat.S_IWGRP and status.st_gid not in (0, os.geteuid()))
        ):
            return f"others can write in {part}; set XDG_CACHE_HOME to a private folder"
    return None


def _shut(folder: Path) -> None:
    """Makes a folder of this user's private, without files that others could write to."""
    if not hasattr(os, "geteuid"):
        return
    status = folder.lstat()
    if status.st_mode & 0o077 and status.st_uid == os.geteuid():
        for file in folder.iterdir():
            with contextlib.suppress(FileNotFoundError):  # Another process has removed it.
                if not stat.S_ISDIR(file.lstat().st_mode) and not is_private(file):
                    file.unlink()
        folder.chmod(0o700)
