"""Every command of README and docs is one that zoojax accepts."""

import argparse
import importlib
import shlex

import pytest

from tests.docs.pages import PAGES, blocks, commands, scripts
from zoojax.cli import main
from zoojax.cli.config_files import read_config, split_config
from zoojax.cli.parsing import parse, subcommands
from zoojax.cli.plugins import split_plugins
from zoojax.cli.sparsify import sparsify_command

COMMANDS = [
    pytest.param(words, id=f"{page.stem}: {shlex.join(words)}")
    for page in PAGES
    for words in commands(page)
]
SCRIPTS = [words for page in PAGES for words in scripts(page)]
CONFIGS = [text for page in PAGES for text in blocks(page, "yaml")]


@pytest.fixture(scope="module")
def known():
    return main._commands(sparsify_command())


def test_commands_are_found():
    assert len(COMMANDS) >= 40 and len(SCRIPTS) >= 3 and len(CONFIGS) >= 1


@pytest.mark.parametrize("words", COMMANDS)
def test_documented_command_is_valid(known, words):
    others, file, _ = split_config(split_plugins(words)[0])
    if file is not None:  # It has the other arguments.
        assert subcommands(known)[others[0]]
        return
    command = parse(known, others, "zoojax", "")
    assert callable(command.run)


@pytest.mark.parametrize("words", SCRIPTS, ids=shlex.join)
def test_documented_script_is_valid(monkeypatch, words):
    parse_args, parsed = argparse.ArgumentParser.parse_args, []

    class Parsed(Exception):
        """The options are valid."""

    def stop(self, arguments=None):
        parsed.append(parse_args(self, arguments))
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stop)
    with pytest.raises(Parsed):
        importlib.import_module(words[0]).main(words[1:])
    assert vars(parsed[0])


@pytest.mark.parametrize("text", CONFIGS)
def test_documented_config_is_valid(tmp_path, text):
    file = tmp_path / "run.yaml"
    file.write_text(text, "utf-8")
    config = read_config(file)
    command, names = main._parse([], [], config)
    assert names == list(config.command) and command.preset == "usps-s-seed"
