"""One writer at a time for a folder, the second one told who is first."""

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
    """Keeps other commands from writing a folder, which need not be there yet.

    The system lets go of the lock when a process ends, however it ends.

    Raises:
        ZoojaxError: another command is writing it; or the disk refused.
    """
    beside = resolved(folder)
    if not beside.name:
        raise ZoojaxError(f"cannot write {folder}; give another folder")
    make_folder(beside.parent, folder)
    path = beside.with_name(f".{beside.name}.lock")
    lock = FileLock(path, blocking=False)
    holder = beside.with_name(f".{beside.name}.writer")
    try:
        # The lock takes any refusal for another command's.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666))
        lock.acquire()
    except Timeout as error:
        raise ZoojaxError(
            f"{folder} is being written by another command{_told(holder)}; wait for it, or stop it"
        ) from error
    except (OSError, NotImplementedError) as error:
        lock.release()
        reason = getattr(error, "strerror", None) or error
        raise ZoojaxError(f"cannot write next to {folder}: {reason}") from error
    with contextlib.suppress(OSError):  # Who it is, is a courtesy.
        holder.write_text(json.dumps(_me()))
    try:
        yield
    finally:
        holder.unlink(missing_ok=True)
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def _me() -> dict[str, str | int]:
    command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
    since = datetime.now().isoformat(" ", "seconds")
    return {"host": socket.gethostname(), "pid": os.getpid(), "since": since, "command": command}


def _told(holder: Path) -> str:
    """Who has the lock, as a clause; nothing where that cannot be read."""
    try:
        who = read_json(holder, 2**16)
        who = {name: printable(who[name], 200) for name in ("pid", "host", "since", "command")}
        return f" (pid {who['pid']} on {who['host']}, since {who['since']}: {who['command']})"
    except (ZoojaxError, KeyError, TypeError):
        return ""
