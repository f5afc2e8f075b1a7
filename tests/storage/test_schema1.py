"""Zoos written with schema 1 still open, with the same fingerprint, states and metrics."""

import json
import tarfile
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.recorded_bits import zoo_hash
from zoojax import open_zoo

DATA = ROOT / "tests" / "data"
EXPECTED = json.loads((DATA / "schema1_zoos.json").read_text())


@pytest.fixture(scope="module")
def schema1(tmp_path_factory) -> Path:
    """A dense zoo of two members and both its twins, made when the schema was 1."""
    folder = tmp_path_factory.mktemp("schema1")
    with tarfile.open(DATA / "schema1_zoos.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.mark.parametrize("kind", sorted(EXPECTED))
def test_fingerprint_states_and_metrics(schema1, kind):
    zoo = open_zoo(schema1 / kind)
    assert json.loads((zoo.path / "zoo.json").read_text())["schema"] == 1
    assert zoo.fingerprint == EXPECTED[kind]["fingerprint"]
    assert zoo_hash(zoo) == EXPECTED[kind]["hash"]


def test_twins_know_their_parent(schema1):
    dense = open_zoo(schema1 / "dense")
    for kind in ("mp", "vd"):
        parent = open_zoo(schema1 / kind).config.parent
        assert parent is not None
        assert parent.fingerprint == dense.fingerprint
