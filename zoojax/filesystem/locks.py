"""Exclusive folder lock that reports its holder."""

import contextlib
import json
import os
import socket
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from zoojax.errors import ZoojaxError
from zoojax.filesystem.atomic import make_folder
from zoojax.filesystem.reading import read_json, resolved
from zoojax.text import printable


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Prevents other commands from writing to a folder while the context is active.

    The operating system releases the lock when the process ends, even if it is killed.

    Args:
        folder: The folder; it does not have to exist.

    Raises:
        ZoojaxError: If another command is writing to the folder, or the lock file cannot be
            written.
    """
    target = resolved(folder)
    if not target.name:
        raise ZoojaxError(f"cannot write {folder}; give another folder")
    make_folder(target.parent, folder)
    path = target.with_name(f".{target.name}.lock")
    lock = FileLock(path, blocking=False)
    holder = target.with_name(f".{target.name}.writer")
    try:
        # FileLock reports every permission error as a lock held by another process, so the
        # file is opened here first.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666))
        lock.acquire()
    except Timeout as error:
        raise ZoojaxError(
            f"{folder} is being written by another command{_describe_holder(holder)}; wait until "
            "it has finished, or stop it"
        ) from error
    except (OSError, NotImplementedError) as error:
        lock.release()
        reason = getattr(error, "strerror", None) or error
        raise ZoojaxError(f"cannot write next to {folder}: {reason}") from error
    # The holder file only serves the error message of other commands.
    with contextlib.suppress(OSError):
        holder.write_text(json.dumps(_current_holder()))
    try:
        yield
    finally:
        holder.unlink(missing_ok=True)
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def _current_holder() -> dict[str, str | int]:
    command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
    since = datetime.now().isoformat(" ", "seconds")
    return {"host": socket.gethostname(), "pid": os.getpid(), "since": since, "command": command}


def _describe_holder(path: Path) -> str:
    """Returns the lock's holder as a clause in parentheses; empty if it cannot be read."""
    try:
        holder = read_json(path, 2**16)
        fields = ("pid", "host", "since", "command")
        pid, host, since, command = (printable(holder[name], 200) for name in fields)
        return f" (pid {pid} on {host}, since {since}: {command})"
    except (ZoojaxError, KeyError, TypeError):
        return ""
