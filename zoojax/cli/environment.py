"""The encoding of a command's output, and the folder it writes to."""

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from zoojax.errors import ZoojaxError
from zoojax.filesystem.reading import resolved


def use_utf8() -> None:
    """Starts this command again in Python's UTF-8 mode where file names are not UTF-8.

    Under an ASCII locale, names that are not ASCII would be strings that Polars and Orbax
    cannot encode. What is printed keeps the encoding of the terminal, and what that lacks is
    escaped.
    """
    if sys.getfilesystemencoding() == "utf-8" or sys.flags.utf8_mode:
        return
    shown = f"{sys.stdout.encoding}:backslashreplace"
    changed = {"PYTHONUTF8": "1", "PYTHONIOENCODING": os.environ.get("PYTHONIOENCODING", shown)}
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | changed)


def with_named_out(command: Any) -> Any:
    """A command whose --out, if it has one, has a name: not `.`, `..` or nothing.

    Raises:
        ZoojaxError: it is the root folder.
    """
    action, out = getattr(command, "action", None), getattr(command, "out", None)
    if action is not None:
        return replace(command, action=with_named_out(action))
    if not isinstance(out, Path) or out.name not in ("", ".."):
        return command
    named = resolved(out)
    if not named.name:
        raise ZoojaxError(f"--out {out} is the root folder; name a new one")
    return replace(command, out=named)
