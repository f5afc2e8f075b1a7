"""Damaged and hostile zoos: ways to change their files, and checks of the errors that result."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from zoojax import Zoo, ZoojaxError
from zoojax.storage import checkpoints
from zoojax.text import is_printable

# C++ that would run if a config value were compiled into the kernel.
CODE = '10];std::ofstream("{}");int x[10'
HOSTILE_VALUES = [
    *(None, True, -1, 0, 1.5, 2**31, 2**70, 1e300, "", "x", "10", [], [1], {}, {"a": 1}),
    *("\x1b[2J", "a\nb", "\u202e", "[/b]", "../../x", "/etc/passwd", "x" * 10**6, "\ud800", "\x00"),
    *("${HOME}", "$(touch x)", CODE),
]
FILE_REPLACEMENTS = ("pipe", "folder", "loop", "device", "gone")


def refuses(named: object):
    """Expects a ZoojaxError with a one-line message that contains `named`."""
    return pytest.raises(ZoojaxError, match=rf"\A.*{re.escape(str(named))}.*\Z")


def assert_read_fails(read: Callable[[], object], *named: object) -> str:
    """Asserts that `read` raises a short, printable ZoojaxError that contains `named`.

    Returns:
        The message.
    """
    with pytest.raises(ZoojaxError) as caught:
        read()
    message = str(caught.value)
    assert is_printable(message), message
    assert len(message) < 1500
    for name in named:
        assert str(name) in message
    return message


def edit_config(zoo: Zoo, change: Callable[[dict], object]) -> Path:
    """Changes zoo.json in place and returns its path."""
    file = zoo.path / "zoo.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    return file


def nested_keys(content: dict, prefix: tuple = ()) -> list[tuple]:
    """The key paths of all values in nested dicts."""
    paths = []
    for key, value in content.items():
        paths.append((*prefix, key))
        if isinstance(value, dict):
            paths += nested_keys(value, (*prefix, key))
    return paths


def set_nested(content: dict, path: tuple, value: object) -> None:
    """Sets the value at a key path."""
    for key in path[:-1]:
        content = content[key]
    content[path[-1]] = value


def replace_file(file: Path, kind: str) -> None:
    """Replaces a file with something else (one of FILE_REPLACEMENTS, or "unreadable")."""
    file.unlink()
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "folder":
        file.mkdir()
    elif kind == "loop":
        file.symlink_to(file)
    elif kind == "device":
        file.symlink_to("/dev/zero")
    elif kind == "unreadable":
        file.write_bytes(b"")
        file.chmod(0)


def forge_checksums(step: Path) -> None:
    """Writes checksums that match the current files of a step, as an attacker would."""
    files = [f for f in step.rglob("*") if f.is_file() and f.name != checkpoints.CHECKSUMS]
    digests = {f.relative_to(step).as_posix(): checkpoints.file_digest(f) for f in files}
    (step / checkpoints.CHECKSUMS).write_text(json.dumps(digests))


def truncate(file: Path) -> None:
    """Cuts a file in half."""
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def empty(file: Path) -> None:
    """Removes the content of a file."""
    file.write_bytes(b"")


def flip_byte(file: Path) -> None:
    """Inverts the byte in the middle of a file, as a failing disk does."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)


DAMAGES = [truncate, empty, flip_byte, Path.unlink]


def largest_file(folder: Path) -> Path:
    """The largest file under a folder: of a step, the array data."""
    return max((f for f in folder.rglob("*") if f.is_file()), key=lambda f: f.stat().st_size)
