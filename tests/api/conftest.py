"""Fixtures shared by the tests of the Python functions."""

import pytest

from tests.support import zoo_fixtures
from zoojax import Zoo


@pytest.fixture
def dense(tmp_path_factory) -> Zoo:
    """The shared dense zoo; a test that changes it copies it."""
    return zoo_fixtures.dense(tmp_path_factory)
