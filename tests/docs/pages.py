"""Blocks of code in README and docs."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from tests.support import ROOT

PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
_BLOCK = re.compile(r"^```([a-z{}-]*)[^\n]*\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(page: Path, language: str) -> list[str]:
    """The blocks of a page in a language; "" for commands and output."""
    return [text for kind, text in _BLOCK.findall(page.read_text("utf-8")) if kind == language]


def commands(page: Path) -> Iterator[list[str]]:
    """The words of each zoojax command of a page, without "zoojax"."""
    for block in blocks(page, ""):
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith(("zoojax ", "srun zoojax ", "CUDA_VISIBLE_DEVICES")):
                words = shlex.split(line.partition(" > ")[0], comments=True)
                yield words[words.index("zoojax") + 1 :]


def scripts(page: Path) -> Iterator[list[str]]:
    """The words of each command of a page that runs a module of zoojax, with its name first."""
    for block in blocks(page, ""):
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith("python -m zoojax."):
                yield shlex.split(line, comments=True)[2:]
