"""--help of all commands, --version, and the options that --help lists."""

import dataclasses
import re
from importlib import metadata

import pytest

import zoojax
from tests.support import zoo_fixtures
from zoojax.cli import main
from zoojax.cli.analyze import Analyse
from zoojax.cli.bench import Bench
from zoojax.cli.convert import ConvertOptions, FromDataset, FromTorch, ToTorch, Verify
from zoojax.cli.evaluate import Evaluate
from zoojax.cli.info import Info
from zoojax.cli.list_presets import Presets
from zoojax.cli.options import Processes, RunOptions
from zoojax.cli.parsing import _options, _subcommands
from zoojax.cli.reproduce import Reproduce
from zoojax.cli.sparsify import Magnitude, VariationalDropout
from zoojax.cli.train import Train

COMMANDS = {
    "presets": Presets,
    "train": Train,
    "sparsify magnitude": Magnitude,
    "sparsify variational-dropout": VariationalDropout,
    "analyse": Analyse,
    "reproduce": Reproduce,
    "evaluate": Evaluate,
    "info": Info,
    "bench": Bench,
    "convert from-torch": FromTorch,
    "convert from-dataset": FromDataset,
    "convert to-torch": ToTorch,
    "convert verify": Verify,
}
SHARED = {"running": RunOptions, "reading": ConvertOptions, "processes": Processes}
POSITIONAL = {"preset", "zoo", "twins", "root", "file", "source"}


@pytest.mark.parametrize("command", COMMANDS)
def test_help_mentions_every_option(run_cli, command):
    done = run_cli(*command.split(), "--help")
    assert done.returncode == 0
    assert done.stderr == ""
    fields = {field.name for field in dataclasses.fields(COMMANDS[command])}
    for shared in fields & SHARED.keys():
        fields |= {field.name for field in dataclasses.fields(SHARED[shared])}
    positional = fields & POSITIONAL
    for name in fields - positional - SHARED.keys():
        assert re.search(rf"--{name.replace('_', '-')}\b", done.stdout), name
    assert ("positional arguments" in done.stdout) == bool(positional)


def test_help_lists_commands(tmp_path_factory):
    for command in COMMANDS:
        *group, last = command.split()
        done = zoo_fixtures.cli_process(tmp_path_factory, *group, "--help")
        assert (done.returncode, done.stderr) == (0, "")
        assert re.search(rf"│[ •]+{last}\b", done.stdout)


def command_types(group) -> list:
    """The types of all commands of a group or a union."""
    types = _subcommands(group)
    return [c for sub in types.values() for c in command_types(sub)] if types else [group]


def every_help(factory) -> list[str]:
    done = [
        zoo_fixtures.cli(factory, *words.split(), "--help")
        for words in (
            *("", "presets", "train", "sparsify magnitude", "sparsify variational-dropout"),
            *("analyse", "reproduce", "evaluate", "info", "bench", "convert from-torch"),
            *("convert from-dataset", "convert to-torch", "convert verify", "represent train"),
            *("represent evaluate", "represent sparsify", "represent sample"),
        )
    ]
    assert all(help.returncode == 0 for help in done)
    return [help.stdout for help in done]


def test_help_without_clutter(tmp_path_factory):
    for text in every_help(tmp_path_factory):
        for clutter in ("None", "{None}|", " INT", " STR", " PATH", " FLOAT", "--no-"):
            assert clutter not in text.replace("--no-such", "")
    train = zoo_fixtures.cli(tmp_path_factory, "train", "--help").stdout
    assert "--members N" in train and "--out ZOO" in train and "PRESET-custom" in train
    assert "--version" in zoo_fixtures.cli(tmp_path_factory, "--help").stdout


def test_options_of_all_commands():
    """Those that --help lists; suggestions are chosen among them."""
    everything = command_types(main._Command)
    assert len(everything) == 17
    by_name = {command.__name__: {name for name, _ in _options(command)} for command in everything}
    assert {"--out", "--members", "--chunk", "--json", "--process-id"} <= by_name["Train"]
    assert {"--where", "--parent", "--coordinator"} <= by_name["FromTorch"]
    assert "--zoo" not in by_name["Info"] and "--zoo" in by_name["EvaluateRepresentation"]


def test_commands_with_tables_have_json():
    without = {
        c.__name__ for c in command_types(main._Command) if "--json" not in dict(_options(c))
    }
    # These print only one or two lines.
    assert without == {"ToTorch", "TrainRepresentation"}


def test_version(tmp_path_factory):
    done = zoo_fixtures.cli(tmp_path_factory, "--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"zoojax {metadata.version('zoojax')}\n"
    assert zoojax.__version__ == metadata.version("zoojax")
