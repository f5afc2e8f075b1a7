"""--help of all commands, --version, and the options that --help lists."""

import dataclasses
import re
from importlib import metadata
from typing import get_args

import pytest
import tyro

import zoojax
from tests.support import zoo_fixtures
from zoojax.cli import main
from zoojax.cli.parsing import _join_lines, command_options, subcommands
from zoojax.cli.sparsify import sparsify_command
from zoojax.hyperparameters.grid import HYPERPARAMETERS
from zoojax.sparsifiers.registry import sparsifiers


def command_types(group: object, prefix: str = "") -> dict[str, type]:
    """The types of all commands of a group or a union, by their names."""
    commands = {}
    for name, kind in subcommands(group).items():
        commands |= command_types(kind, f"{prefix}{name} ") or {f"{prefix}{name}": kind}
    return commands


COMMANDS = command_types(main._commands(sparsify_command()))


def argument_names(command: type) -> tuple[set[str], set[str]]:
    """The fields of a command that are options, and those that are positional arguments."""
    options, positional = set(), set()
    for field in dataclasses.fields(command):
        kind, *notes = get_args(field.type) or (field.type,)
        if dataclasses.is_dataclass(kind):
            assert isinstance(kind, type)
            shared_options, shared_positional = argument_names(kind)
            options |= shared_options
            positional |= shared_positional
        elif tyro.conf.Positional in notes:
            positional.add(field.name)
        else:
            names = [note.name for note in notes if getattr(note, "name", None)]
            options.add(names[0] if names else field.name)
    return options, positional


def test_command_names():
    assert COMMANDS.keys() == {
        *("presets", "train", "sparsify list"),
        *(f"sparsify {name.replace('_', '-')}" for name in sparsifiers() if name != "dense"),
        *("analyze", "reproduce", "evaluate", "info", "bench", "publish", "convert from"),
        *("convert from-torch", "convert to"),
        *("convert from-dataset", "convert to-torch", "convert verify", "represent train"),
        *("represent evaluate", "represent sparsify", "represent sample"),
        *("geometry align", "geometry align-twin", "geometry lines", "geometry curves"),
        *("geometry soup", "geometry average"),
        "geometry curvature",
        *("geometry similarity", "geometry basins", "geometry transfer"),
    }


@pytest.mark.parametrize("command", COMMANDS)
def test_help_mentions_every_option(run_cli, command):
    done = run_cli(*command.split(), "--help")
    assert (done.returncode, done.stderr) == (0, "")
    options, positional = argument_names(COMMANDS[command])
    for name in options:
        assert re.search(rf"--{name.replace('_', '-')}\b", done.stdout), name
    assert ("positional arguments" in done.stdout) == bool(positional)


def test_help_lists_the_names_of_hyperparameters():
    named = [each for each in HYPERPARAMETERS if each.known]
    assert {"optimizer", "schedule"} < {each.name for each in named}
    for each in named:
        assert set(each.help.partition(": ")[2].split(", ")) == set(each.choices)


def test_help_lists_commands(tmp_path_factory):
    for group in {command.rpartition(" ")[0] for command in COMMANDS}:
        done = zoo_fixtures.cli_process(tmp_path_factory, *group.split(), "--help")
        assert (done.returncode, done.stderr) == (0, "")
        for command in COMMANDS:
            of, _, last = command.rpartition(" ")
            assert of != group or re.search(rf"│[ •]+{last}\b", done.stdout)


def test_help_without_clutter(tmp_path_factory):
    for command in ("", *COMMANDS):
        done = zoo_fixtures.cli(tmp_path_factory, *command.split(), "--help")
        assert done.returncode == 0
        for clutter in ("None", "{None}|", " INT", " STR", " PATH", " FLOAT", "--no-"):
            assert clutter not in done.stdout.replace("--no-such", "")
    train = zoo_fixtures.cli(tmp_path_factory, "train", "--help").stdout
    assert "--members N" in train and "--out ZOO" in train and "PRESET-custom" in train
    top = zoo_fixtures.cli(tmp_path_factory, "--help").stdout
    assert "--version" in top and "--plugin" in top


def test_lines_of_docstrings_are_joined(run_cli):
    text = "Summary.\n\n    First\n    (second) line.\n    Example: zoojax info"
    assert _join_lines(text) == "Summary.\n\nFirst (second) line.\n\nExample: zoojax info"
    assert "change the preset). Only --members" in run_cli("train", "--help").stdout


def test_options_of_all_commands():
    """Those that --help lists; suggestions are chosen among them."""
    options = {name: set(dict(command_options(kind))) for name, kind in COMMANDS.items()}
    assert len(options) == 28 + len(sparsifiers())
    assert {"--out", "--members", "--chunk", "--json", "--process-id"} <= options["train"]
    assert {"--where", "--parent", "--coordinator"} <= options["convert from-torch"]
    assert "--zoo" not in options["info"] and "--zoo" in options["represent evaluate"]


def test_commands_with_tables_have_json():
    options = {name: dict(command_options(kind)) for name, kind in COMMANDS.items()}
    without = {name for name, known in options.items() if "--json" not in known}
    # These print only one or two lines.
    assert without == {"convert to", "convert to-torch", "represent train", "publish"}


def test_version(tmp_path_factory):
    done = zoo_fixtures.cli(tmp_path_factory, "--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"zoojax {metadata.version('zoojax')}\n"
    assert zoojax.__version__ == metadata.version("zoojax")
