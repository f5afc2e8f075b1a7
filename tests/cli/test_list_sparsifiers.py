"""`zoojax sparsify list`."""

import sys

import pytest

from tests.support import zoo_fixtures
from zoojax.cli import sparsify as sparsify_module
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


def test_name_of_the_command_is_refused(monkeypatch):
    class Listed(MagnitudePruning):
        name = "list"

    monkeypatch.setattr(registry, "_registered", {**sparsifiers(), "list": Listed})
    with pytest.raises(ZoojaxError, match="'list' names another command"):
        sparsify_module.sparsify_command()
