"""Zoos at hf:// addresses, from a local server that answers like the Hub."""

import hashlib
import os
import subprocess
import sys
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.support import ROOT, zoo_fixtures
from tests.support.damage import refuses
from zoojax import open_zoo
from zoojax.publishing.publish import publish
from zoojax.storage import hub

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """Serves the dataset me/digits from a folder."""

    def __init__(self, folder: Path, asked: list[str], *arguments):
        self.folder, self.asked = folder, asked
        super().__init__(*arguments)

    def log_message(self, format: str, *arguments: object) -> None:
        """Prints nothing."""

    def do_HEAD(self) -> None:
        self.answer(with_content=False)

    def do_GET(self) -> None:
        self.answer(with_content=True)

    def answer(self, with_content: bool) -> None:
        parts = self.path.partition("/datasets/me/digits/resolve/")[2].split("/", 1)
        file = self.folder / parts[-1]
        if len(parts) < 2 or not file.is_file():
            found = "/datasets/me/digits/" in self.path
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound" if found else "RepoNotFound")
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        content = file.read_bytes()
        if with_content:
            self.asked.append(parts[1])
        self.send_response(200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if with_content:
            self.wfile.write(content)


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Path:
    zoos = [make(tmp_path_factory) for make in zoo_fixtures.KINDS.values()]
    return publish(*zoos, out=tmp_path_factory.mktemp("published") / "digits")


def run(tmp_path: Path, published: Path, code: str) -> tuple[str, list[str]]:
    """Runs Python with a local Hub; returns its output and the downloaded files."""
    asked: list[str] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Hub, published, asked))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    environment = os.environ | {
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "HF_HOME": str(tmp_path / "cache"),
        "PYTHONPATH": str(ROOT),
        "JAX_PLATFORMS": "cpu",
    }
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
        )
    finally:
        server.shutdown()
        server.server_close()
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
