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


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps other commands from writing a folder, which need not be there yet.

    The system lets go of the lock when a process ends, however it ends.

    Raises:
        ZoojaxError: another command is writing it; or the disk refused.
    """
    beside = folder.resolve()
    lock = FileLock(beside.with_name(f".{beside.name}.lock"), blocking=False)
    holder = beside.with_name(f".{beside.name}.writer")
    try:
        beside.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise ZoojaxError(
            f"{folder} is being written by another command{_told(holder)}; wait for it, or stop it"
        ) from error
    except (OSError, NotImplementedError) as error:
        lock.release()
        reason = getattr(error, "strerror", None) or error
        raise ZoojaxError(f"cannot write beside {folder}: {reason}") from error
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
        who = json.loads(holder.read_text())
        return f" (pid {who['pid']} on {who['host']}, since {who['since']}: {who['command']})"
    except (OSError, ValueError, KeyError, TypeError):
        return ""
