"""Links between README, docs and other files of the repository lead somewhere."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import PAGES
from tests.support import ROOT

NOTEBOOKS = sorted((ROOT / "docs/tutorials").glob("*.ipynb"))
FILES = [*PAGES, ROOT / "CHANGELOG.md", *NOTEBOOKS]
_CODE = re.compile(r"^```.*?^```$|`[^`\n]*`", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"!?\[[^\]]*\]\(<?([^)\s>]+)>?(?: \"[^\"]*\")?\)")
_FOREIGN = re.compile(r"[a-z][a-z+.-]*:")
# Paths of pages that are named without a link.
_NAMED = re.compile(r"(?<![\w./-])docs/[\w/-]+\.(?:md|ipynb|png)")


def text_of(file: Path) -> str:
    """The Markdown of a page, with the file that it includes; of a notebook, that of all cells."""
    content = file.read_text("utf-8")
    if file.suffix == ".ipynb":
        cells = (cell for cell in json.loads(content)["cells"] if cell["cell_type"] == "markdown")
        return "\n\n".join("".join(cell["source"]) for cell in cells)
    included = re.search(r"^```\{include\} (\S+)", content, re.MULTILINE)
    return content if included is None else text_of((file.parent / included[1]).resolve())


def anchors(file: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and MyST name them."""
    seen, found = Counter[str](), set()
    without_code = re.sub(r"^```.*?^```$", "", text_of(file), flags=re.DOTALL | re.MULTILINE)
    for heading in re.findall(r"^#+ +(.+?) *$", without_code, re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        found.add(slug if not seen[slug] else f"{slug}-{seen[slug]}")
        seen[slug] += 1
    return found


def links(text: str) -> Iterator[str]:
    """The targets of a text's links to files and headings of the repository."""
    for target in _LINK.findall(_CODE.sub("", text)):
        if not _FOREIGN.match(target):
            yield target


def problem(file: Path, target: str) -> str | None:
    """Describes why a link leads nowhere; None if it does not."""
    path, _, anchor = target.partition("#")
    linked = (file.parent / path).resolve() if path else file
    if not linked.exists():
        return f"{target}: no such file"
    if not linked.is_relative_to(ROOT):
        return f"{target}: outside of the repository"
    if anchor and (linked.suffix not in (".md", ".ipynb") or anchor not in anchors(linked)):
        return f"{target}: no such heading"
    return None


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_links_lead_somewhere(file):
    text = text_of(file) if file in NOTEBOOKS else file.read_text("utf-8")
    found = [problem(file, target) for target in links(text)]
    assert [each for each in found if each] == []
    named = _NAMED.findall(text_of(file))
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_links_are_found():
    assert sum(len([*links(text_of(file))]) for file in FILES) >= 60


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("see [Start](start.md)", None),
        ("[a](architectures.md#your-own-module)", None),
        ("[a](contributing.md#add-) and [b](https://example.org/x)", None),
        ("`[code](nothing.md)`", None),
        ("[a](nothing.md)", "nothing.md: no such file"),
        ("![picture](nothing.png)", "nothing.png: no such file"),
        ("[a](start.md#nothing)", "start.md#nothing: no such heading"),
        ("[a](#nothing)", "#nothing: no such heading"),
        ("[a](../../..)", "../../..: outside of the repository"),
    ],
)
def test_broken_links_are_noticed(text, expected):
    found = [problem(ROOT / "docs/start.md", target) for target in links(text)]
    assert [each for each in found if each] == ([] if expected is None else [expected])
