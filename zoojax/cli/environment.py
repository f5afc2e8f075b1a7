"""The encoding of a command's output, and the folder that it writes to."""

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from zoojax.filesystem.paths import output_folder


def use_utf8() -> None:
    """Restarts this command in Python's UTF-8 mode if the encoding of file names is not UTF-8.

    In an ASCII locale, Polars and Orbax cannot encode names with other characters. Output keeps
    the terminal's encoding, with escapes for characters that it lacks.
    """
    if sys.getfilesystemencoding() == "utf-8" or sys.flags.utf8_mode:
        return
    output = f"{sys.stdout.encoding}:backslashreplace"
    changes = {"PYTHONUTF8": "1", "PYTHONIOENCODING": os.environ.get("PYTHONIOENCODING", output)}
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | changes)


def with_named_out(command: Any) -> Any:
    """Returns a command whose --out, if it has one, ends in a name: not in `.` or `..`.

    Raises:
        ZoojaxError: --out is the root folder.
    """
    action, out = getattr(command, "action", None), getattr(command, "out", None)
    if action is not None:
        return replace(command, action=with_named_out(action))
    return replace(command, out=output_folder(out)) if isinstance(out, Path) else command
