"""Every command of README and docs is one that zoojax accepts."""

import shlex

import pytest

from tests.docs.pages import PAGES, commands
from zoojax.cli import main
from zoojax.cli.config_files import split_config
from zoojax.cli.parsing import parse, subcommands
from zoojax.cli.plugins import split_plugins
from zoojax.cli.sparsify import sparsify_command

COMMANDS = [
    pytest.param(words, id=f"{page.stem}: {shlex.join(words)}")
    for page in PAGES
    for words in commands(page)
]


@pytest.fixture(scope="module")
def known():
    return main._commands(sparsify_command())


def test_commands_are_found():
    assert len(COMMANDS) >= 40


@pytest.mark.parametrize("words", COMMANDS)
def test_documented_command_is_valid(known, words):
    others, file, _ = split_config(split_plugins(words)[0])
    if file is not None:  # It has the other arguments.
        assert subcommands(known)[others[0]]
        return
    command = parse(known, others, "zoojax", "")
    assert callable(command.run)
