"""Fixtures of several files."""

import pytest

from tests.support.torch_zoos import write_zoo


@pytest.fixture(scope="module")
def three_trials(tmp_path_factory):
    """Trial folders of three members with two epochs; not to be changed."""
    return write_zoo(tmp_path_factory.mktemp("three") / "root", members=3)


@pytest.fixture
def one_trial(tmp_path):
    """A zoo of one trial folder with epochs 0 and 1."""
    return write_zoo(tmp_path / "root", members=1)
