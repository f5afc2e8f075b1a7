"""Zoos at hf:// addresses, from a local server that answers like the Hub."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT, zoo_fixtures
from tests.support.damage import refuses
from tests.support.local_hub import serving
from zoojax import open_zoo
from zoojax.publishing.publish import publish
from zoojax.storage import hub


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Path:
    zoos = [make(tmp_path_factory) for make in zoo_fixtures.KINDS.values()]
    return publish(*zoos, out=tmp_path_factory.mktemp("published") / "digits")


def run(tmp_path: Path, published: Path, code: str) -> tuple[str, list[str]]:
    """Runs Python with a local Hub; returns its output and the downloaded files."""
    with serving("me/digits", published, tmp_path / "cache") as (variables, asked):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, **variables, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
        )
    assert done.returncode == 0, done.stderr
    return done.stdout, asked


CODE = """
import sys
import zoojax.analysis
original = zoojax.open_zoo({folder!r})
original.state(1)
# A folder needs no extra of zoojax.
assert not sys.modules.keys() & {{"huggingface_hub", "datasets", "mlcroissant", "pandas", "torch"}}
from tests.support.zoo_fixtures import same_bits
zoo = zoojax.open_zoo("hf://me/digits")
assert zoo.fingerprint == original.fingerprint
assert same_bits(zoo.state(1), original.state(1))
assert zoo.metrics.equals(original.metrics)
twin = zoojax.open_zoo("hf://me/digits@main/twins/pruned")
assert len(zoojax.analysis.paired_metrics(zoo, twin))
print(zoo)
for address in ("hf://me/missing", "hf://me/digits/twins/missing"):
    try:
        zoojax.open_zoo(address)
    except zoojax.ZoojaxError as error:
        print(error)
from zoojax.cli.main import main
assert main(["info", "hf://me/digits/twins/pruned"]) == 0
"""


def test_zoo_on_the_hub(tmp_path, published):
    """Only files that are needed are downloaded, once, and their bits are kept."""
    shown, asked = run(tmp_path, published, CODE.format(folder=str(published)))
    lines = shown.splitlines()
    assert lines[0] == "Zoo('hf:/me/digits': dense, small, 3 members, epochs 0 to 2)"
    assert lines[1].startswith("hf://me/missing: there is no such dataset on the Hub")
    assert lines[2] == "hf://me/digits/twins/missing has no checksums.json"
    own = ["zoo.json", "members.parquet", "metrics.parquet"]
    expected = ["checksums.json", *own, "weights/epoch-1.safetensors"]
    expected += [f"twins/pruned/{name}" for name in ("checksums.json", *own)]
    assert sorted(asked) == sorted(expected)


@pytest.mark.parametrize(
    "address",
    [
        "hf://",
        "hf://me",
        "hf://me/..",
        "hf://me/x/../y",
        "hf://me/x@",
        "hf://me/x y",
        "hf://m\0e/x",
    ],
)
def test_invalid_addresses(address):
    with refuses(""):
        open_zoo(address)


def test_addresses():
    assert hub.parse("hf://datasets/me/x") == hub.parse(Path("hf://me/x")) == ("me/x", "main", "")
    assert not hub.is_address("hf.co/me/x")
