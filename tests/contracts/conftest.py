"""The architectures and sparsifiers of a user are registered in all contract tests."""

import pytest

from tests.support import contracts


@pytest.fixture(autouse=True)
def plugins(monkeypatch):
    """Registers them for one test."""
    contracts.register_plugins(monkeypatch)
