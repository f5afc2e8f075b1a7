"""Fixtures shared by the tests of the command line."""

import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from tests.support import cli_zoos, zoo_fixtures
from zoojax import Zoo


@pytest.fixture
def run_cli(tmp_path_factory) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a command."""
    return lambda *arguments: zoo_fixtures.cli(tmp_path_factory, *arguments)


@pytest.fixture
def run_json(tmp_path_factory) -> Callable[..., Any]:
    """Runs a command with --json and returns what it printed."""
    return lambda *arguments: zoo_fixtures.cli_json(tmp_path_factory, *arguments)


@pytest.fixture
def refused(run_cli) -> Callable[..., str]:
    """Runs a command that must be refused and returns its error message."""
    return lambda *arguments: zoo_fixtures.assert_refused(run_cli(*arguments))


@pytest.fixture
def dense(tmp_path_factory) -> Zoo:
    """A dense zoo trained with the command line."""
    return cli_zoos.trained(tmp_path_factory)[0]
