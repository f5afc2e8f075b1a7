"""Fixtures of the storage tests: zoos that a test may damage."""

import gc
import sys
import time

import pytest

from tests.support import zoo_fixtures
from zoojax import Zoo, open_zoo


@pytest.fixture
def zoo(tmp_path_factory, tmp_path) -> Zoo:
    """A copy of a dense zoo with three members and epochs 0 to 2."""
    return open_zoo(zoo_fixtures.copied(zoo_fixtures.dense(tmp_path_factory), tmp_path / "zoo"))


@pytest.fixture(params=zoo_fixtures.KINDS)
def zoo_of_any_kind(request, tmp_path_factory, tmp_path) -> Zoo:
    """A copy of a zoo of each kind, with epochs 0 to 2."""
    original = zoo_fixtures.KINDS[request.param](tmp_path_factory)
    return open_zoo(zoo_fixtures.copied(original, tmp_path / "zoo"))


@pytest.fixture
def no_thread_errors(monkeypatch):
    """Asserts that reader threads which outlive a failed read raise no unhandled errors."""
    errors = []
    monkeypatch.setattr(sys, "unraisablehook", errors.append)
    yield
    time.sleep(0.1)
    gc.collect()
    assert not [str(error.exc_value) for error in errors]
