"""The generated reference is complete, and the site builds without warnings."""

import importlib.util
import subprocess
import sys
from collections import Counter

import pytest

import zoojax
from tests.cli.test_help import COMMANDS, argument_names
from tests.support import ROOT

pytest.importorskip("sphinx")


@pytest.fixture(scope="module")
def reference():
    path = ROOT / "docs/_extensions/reference_pages.py"
    spec = importlib.util.spec_from_file_location("reference_pages", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_public_name_is_on_one_page(reference):
    counts = Counter(name for *_, names in reference.PAGES for name in names)
    assert set(counts.values()) == {1}
    modules = {name.partition(".")[0] for name in counts if "." in name}
    assert {*counts, *modules} >= set(zoojax.__all__)


def test_every_command_and_option_is_described(reference):
    pages = dict(reference.command_pages())
    for command, kind in COMMANDS.items():
        page = pages[command.split()[0]]
        title = f"zoojax {command}\n"
        assert f"# {title}" in page
        section = page.partition(f"# {title}")[2].partition("\n## ")[0]
        options, positional = argument_names(kind)
        for name in options:
            assert f"`--{name.replace('_', '-')}" in section, (command, name)
        assert section.count("| `") == len(options) + len(positional), command
    rows = [line for page in pages.values() for line in page.splitlines() if line[:3] == "| `"]
    assert all(len(row.split(" | ")[1].strip(" |")) > 5 for row in rows)


def test_written_pages(reference, tmp_path):
    reference.write(tmp_path / "reference")
    text = (tmp_path / "reference/sparsifiers.md").read_text("utf-8")
    assert ".. autoclass:: zoojax.SNIP\n   :members:\n   :inherited-members: object" in text
    written = {path.stem for path in (tmp_path / "reference/commands").iterdir()}
    assert written == {command.split()[0] for command in COMMANDS}


@pytest.mark.slow
def test_site_builds_without_warnings(tmp_path):
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
    done = subprocess.run(
        [*command, ROOT / "docs", tmp_path / "site"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    zoos = (tmp_path / "site/reference/zoos.html").read_text("utf-8")
    # Also methods of base classes that have no description of their own.
    for method in ("state", "filter", "flat", "apply", "save"):
        assert f'id="zoojax.Zoo.{method}"' in zoos
    pages = {
        name: tmp_path / f"site/reference/{name}.html" for name in ("sparsifiers", "extending")
    }
    texts = {name: path.read_text("utf-8") for name, path in pages.items()}
    assert 'id="zoojax.sparsifiers.compared.Compared.at_ratios"' in texts["extending"]
    assert 'id="zoojax.SNIP.at_ratios"' not in texts["sparsifiers"]
