"""Hashes of a small zoo and both its twins, recorded per processor, compiler and jaxlib version.

Refactoring must not change a single bit of a zoo. This module makes digits-s-seed zoos with the
command line and hashes what is on disk:

    python -m tests.support.recorded_bits make runs/bits     # makes dense, mp and vd, prints hashes
    python -m tests.support.recorded_bits hash runs/bits     # hashes zoos that another version made
    python -m tests.support.recorded_bits record             # adds this machine to the JSON file

Record only with code that is known to be right: check out the version to compare with, make its
zoos, hash them with today's code, and compare.
"""

import contextlib
import hashlib
import importlib.metadata
import io
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import numpy as np

from tests.support import ROOT
from zoojax import Zoo, open_zoo
from zoojax.cli.main import main
from zoojax.runtime.host import cpu_fingerprint

RECORDED = ROOT / "tests" / "support" / "recorded_bits.json"
KINDS = ("dense", "mp", "vd")
# Bits depend on the members trained together, so the chunk is fixed.
_RUN = ("--chunk", "4", "--quiet")


def machine() -> str:
    """Everything outside the repository that bits depend on, as one short key."""
    compiler = subprocess.run(
        ["g++", "-dumpfullversion"], capture_output=True, text=True, check=False
    ).stdout.strip()
    versions = [importlib.metadata.version("jaxlib"), compiler or "no g++"]
    processor = hashlib.sha256(cpu_fingerprint().encode()).hexdigest()[:16]
    return f"{processor}, jaxlib {versions[0]}, g++ {versions[1]}"


def make(out: Path) -> None:
    """Makes `out`/dense, `out`/mp and `out`/vd."""
    dense = str(out / "dense")
    commands = {
        "dense": "train digits-s-seed --members 6 --epochs 3",
        "mp": "sparsify magnitude-pruning DENSE --ratios 0.5 0.9 --epochs 2",
        "vd": "sparsify variational-dropout DENSE --learning-rate 3e-3 --epochs 2",
    }
    for kind, command in commands.items():
        words = [dense if word == "DENSE" else word for word in command.split()]
        with contextlib.redirect_stdout(io.StringIO()):
            status = main([*words, "--out", str(out / kind), *_RUN])
        if status:
            raise SystemExit(status)


def zoo_hash(zoo: Zoo) -> str:
    """A hash of all states, the optimizer's state, masks, members and metrics of a zoo."""
    digest = hashlib.sha256()

    def add(name: str, values: np.ndarray) -> None:
        digest.update(f"{name} {values.dtype} {values.shape}".encode())
        digest.update(np.ascontiguousarray(values).tobytes())

    trees = {f"epoch {epoch}": zoo.state(epoch) for epoch in zoo.epochs}
    for label, tree in {**trees, "optimizer": zoo.optimizer_state()}.items():
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            add(f"{label} {jax.tree_util.keystr(path)}", np.asarray(leaf))
    for frame in (zoo.members, zoo.metrics):
        digest.update(repr(frame.schema).encode())
        digest.update(frame.write_csv(float_precision=17).encode())
    return digest.hexdigest()


def hashes(out: Path) -> dict[str, str]:
    """The hash of each zoo under `out`."""
    return {kind: zoo_hash(open_zoo(out / kind)) for kind in KINDS}


def recorded() -> dict[str, dict[str, str]]:
    """Recorded hashes by machine."""
    return json.loads(RECORDED.read_text())


def _main(action: str, *folder: str) -> None:
    if action == "record":
        with tempfile.TemporaryDirectory() as temporary:
            make(Path(temporary))
            known = {**recorded(), machine(): hashes(Path(temporary))}
        RECORDED.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n")
        return
    out = Path(*folder)
    if action == "make":
        make(out)
    print(json.dumps({machine(): hashes(out)}, indent=2))


if __name__ == "__main__":
    _main(*sys.argv[1:])
