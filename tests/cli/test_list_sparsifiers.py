"""`zoojax sparsify list`."""

import sys

import pytest

from tests.support import ROOT, zoo_fixtures
from zoojax.cli import main
from zoojax.cli import sparsify as sparsify_module
from zoojax.cli.parsing import parse
from zoojax.errors import ZoojaxError
from zoojax.sparsifiers import registry
from zoojax.sparsifiers.magnitude import MagnitudePruning
from zoojax.sparsifiers.registry import sparsifiers


def test_list_names_every_sparsifier(run_cli):
    done = run_cli("sparsify", "list")
    assert (done.returncode, done.stderr) == (0, "")
    for each in sparsifiers().values():
        command = each.name.replace("_", "-")
        assert (f"\n{command} " in done.stdout) == (each.name != "dense")
        assert each.name == "dense" or each.label in done.stdout


def test_list_as_json(tmp_path_factory):
    rows = zoo_fixtures.cli_json(tmp_path_factory, "sparsify", "list")
    kinds = [each for each in sparsifiers().values() if each.name != "dense"]
    assert [row["name"] for row in rows] == [each.name.replace("_", "-") for each in kinds]
    by_name = {row["name"]: row for row in rows}
    assert by_name["magnitude-pruning"] == {
        "name": "magnitude-pruning",
        "label": "magnitude pruning",
        "short": "MP",
        "varies": "ratio",
        "options": ["--ratios"],
        "epochs": 15,
        "source": MagnitudePruning.source,
    }
    assert by_name["variational-dropout"]["varies"] == "epoch"
    assert by_name["variational-dropout"]["options"] == []


def test_sparsifier_of_a_user_is_listed(run_cli, monkeypatch):
    monkeypatch.setattr(registry, "_registered", dict(sparsifiers()))
    monkeypatch.setattr(sys, "path", list(sys.path))
    done = run_cli("sparsify", "list", "--plugin", "tests.support.plugins.moving_mask:MovingMask")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\nmoving-mask " in done.stdout


def test_help_has_one_sentence_for_each_sparsifier(run_cli):
    together = " ".join(run_cli("sparsify", "--help").stdout.replace("│", " ").split())
    assert "• n-m Keeps the N largest of every M consecutive weights of a unit" in together
    assert "Example:" not in together
    assert "Example: zoojax sparsify n-m zoos/usps" in run_cli("sparsify", "n-m", "--help").stdout


def test_documented_commands_are_valid():
    """The table of the page has every sparsifier, with a command that is parsed."""
    page = (ROOT / "docs/sparsifiers.md").read_text("utf-8")
    rows = [line for line in page.splitlines() if line.startswith("|") and "`zoojax" in line]
    commands = [row.rpartition("`zoojax ")[2].partition("`")[0].split() for row in rows]
    names = [each.name.replace("_", "-") for each in sparsifiers().values()]
    assert sorted(words[1] for words in commands) == sorted(set(names) - {"dense"})
    known = main._commands(sparsify_module.sparsify_command())
    for words in commands:
        parsed = parse(known, words, "zoojax", "")
        assert parsed.action.sparsifier.name == words[1].replace("-", "_")


def test_name_of_the_command_is_refused(monkeypatch):
    class Listed(MagnitudePruning):
        name = "list"

    monkeypatch.setattr(registry, "_registered", {**sparsifiers(), "list": Listed})
    with pytest.raises(ZoojaxError, match="'list' names another command"):
        sparsify_module.sparsify_command()
