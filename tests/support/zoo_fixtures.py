"""Small image sets, zoos and the command line, shared by many tests.

Zoos are created once per session (`once`): a test that changes one must copy it (`copied`).
"""

import contextlib
import functools
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar
from unittest.mock import patch

import jax
import numpy as np
import pytest
from sklearn.datasets import load_digits

from tests.support import ROOT
from zoojax import DataSpec, Grid, MagnitudePruning, VariationalDropout, Zoo, sparsify, train_zoo
from zoojax.api import untrained
from zoojax.cli.main import main
from zoojax.training import task_programs

T = TypeVar("T")
CHUNK = 4
EPOCHS = 2
# Same as the preset digits-s-seed, except for the learning rate.
LEARNING_RATE = 1e-2
GRID = Grid(inits=("kaiming_uniform",), learning_rates=(LEARNING_RATE,), seeds=3)
TINY_SIZES = (65, 20, 20)


def once(make: Callable[[pytest.TempPathFactory], T]) -> Callable[[pytest.TempPathFactory], T]:
    """Caches a function by its `tmp_path_factory`, which is not hashable."""
    results: dict[Path, T] = {}

    def cached(factory: pytest.TempPathFactory) -> T:
        key = factory.getbasetemp()
        if key not in results:
            results[key] = make(factory)
        return results[key]

    return cached


# Compile each program once per session instead of once per zoo.
for _name in ("epoch", "evaluation"):
    setattr(task_programs, _name, functools.cache(getattr(task_programs, _name)))


def _cached_initial_variables(initial_variables: Callable) -> Callable:
    """Caches initial weights: compiling their program takes seconds, and most tests share them."""
    results: dict[tuple, dict] = {}

    def cached(shape: object, inits: list[str], seeds: list[int]) -> dict:
        key = (shape, tuple(inits), tuple(seeds))
        if key not in results:
            results[key] = initial_variables(shape, inits, seeds)
        return results[key]

    return cached


untrained.initial_variables = _cached_initial_variables(untrained.initial_variables)


def write_images(path: Path, first: int = 0) -> Path:
    """Saves TINY_SIZES real digits. The last batch of ten training images is half full."""
    digits, labels = map(np.asarray, load_digits(return_X_y=True))
    pixels, arrays = (digits / 16 * 255).astype(np.uint8).reshape(-1, 8, 8), {}
    for part, size in zip(("train", "val", "test"), TINY_SIZES, strict=True):
        arrays[f"{part}_images"] = pixels[first : first + size]
        arrays[f"{part}_labels"] = labels[first : first + size].astype(np.int64)
        first += size
    np.savez(path, **arrays)
    return path


@once
def images(factory: pytest.TempPathFactory) -> Path:
    """An .npz file with TINY_SIZES images."""
    return write_images(factory.mktemp("images") / "tiny.npz")


@once
def other_images(factory: pytest.TempPathFactory) -> Path:
    """An .npz file with different images."""
    return write_images(factory.mktemp("images") / "other.npz", first=500)


def spec(factory: pytest.TempPathFactory) -> DataSpec:
    """The data spec of `images`."""
    return DataSpec(str(images(factory)))


def train(factory: pytest.TempPathFactory, out: Path, grid: Grid = GRID, **options) -> Zoo:
    """Trains a dense zoo on `images`."""
    options = {"epochs": EPOCHS, "chunk": CHUNK, "quiet": True, **options}
    return train_zoo(out=out, name="tiny", grid=grid, data=spec(factory), **options)


def prune(out: Path | str, parent: Zoo, ratios: Sequence[float], **options) -> Zoo:
    """Prunes a zoo by magnitude; `options` are those of the sparsifier or of `sparsify`."""
    scope = options.pop("scope", "global")
    return sparsify(parent, MagnitudePruning(tuple(ratios), scope), out, quiet=True, **options)


def train_variational(out: Path | str, parent: Zoo, **options) -> Zoo:
    """Trains a zoo with variational dropout; `options` as for `prune`."""
    variant = options.pop("variant", "released")
    return sparsify(parent, VariationalDropout(variant), out, quiet=True, **options)


@once
def dense(factory: pytest.TempPathFactory) -> Zoo:
    """A dense zoo with three members, trained for two epochs."""
    return train(factory, factory.mktemp("zoos") / "dense")


@once
def pruned(factory: pytest.TempPathFactory) -> Zoo:
    """The magnitude-pruned twin of `dense`, with ratios 0, 0.5 and 0.9."""
    out = dense(factory).path.with_name("pruned")
    return prune(out, dense(factory), [0.0, 0.5, 0.9], epochs=EPOCHS, chunk=CHUNK)


@once
def variational_dropout(factory: pytest.TempPathFactory) -> Zoo:
    """The variational-dropout twin of `dense`."""
    out = dense(factory).path.with_name("variational-dropout")
    return train_variational(out, dense(factory), epochs=EPOCHS, chunk=CHUNK)


KINDS = {"dense": dense, "mp": pruned, "vd": variational_dropout}


def copied(zoo: Zoo, to: Path) -> Path:
    """Copies a zoo's folder, so that a test may change it."""
    return Path(shutil.copytree(zoo.path, to))


def same_bits(a, b) -> bool:
    """Whether two pytrees have the same structure, shapes, dtypes and bits (including NaN)."""

    def equal(x, y) -> bool:
        x, y = np.asarray(x), np.asarray(y)
        return x.dtype == y.dtype and x.shape == y.shape and x.tobytes() == y.tobytes()

    return jax.tree.structure(a) == jax.tree.structure(b) and all(
        map(equal, jax.tree.leaves(a), jax.tree.leaves(b))
    )


def bits(frame) -> dict:
    """Converts a polars frame to a pytree of arrays."""
    return {name: frame[name].to_numpy() for name in frame.columns}


def assert_same_zoo(a: Zoo, b: Zoo) -> None:
    """Asserts that states, optimizer state, metrics and members are bit-identical."""
    assert a.epochs == b.epochs
    for epoch in a.epochs:
        assert same_bits(a.state(epoch), b.state(epoch)), f"states of epoch {epoch} differ"
    assert same_bits(a.optimizer_state(), b.optimizer_state())
    assert same_bits(bits(a.metrics), bits(b.metrics))
    assert a.members.equals(b.members)
    assert a.fingerprint == b.fingerprint


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Content and modification time of every file under a folder."""
    return {
        str(f.relative_to(folder)): (f.read_bytes(), f.stat().st_mtime_ns)
        for f in sorted(folder.rglob("*"))
        if f.is_file()
    }


@once
def environment(_: pytest.TempPathFactory) -> dict[str, str]:
    """Environment of commands: shared compilation cache (see conftest), wide plain output."""
    return {
        **os.environ,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PLATFORMS": "cpu",
        "COLUMNS": "160",
        "NO_COLOR": "1",
        "PYTHONPATH": str(ROOT),
    }


COMMAND = (sys.executable, "-m", "zoojax")


def cli(factory: pytest.TempPathFactory, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs `zoojax ARGUMENTS` in this process, which has already imported JAX."""
    out, error = io.StringIO(), io.StringIO()
    words = list(map(str, arguments))
    with (
        contextlib.chdir(factory.getbasetemp()),
        patch.dict(os.environ, environment(factory)),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(error),
    ):
        try:
            status = main(words)
        except SystemExit as stop:
            status = int(stop.code or 0)
    return subprocess.CompletedProcess(words, status, out.getvalue(), error.getvalue())


def cli_process(
    factory: pytest.TempPathFactory, *arguments: object
) -> subprocess.CompletedProcess[str]:
    """Runs `zoojax ARGUMENTS` in a new process, outside of the repository."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        env=environment(factory),
        cwd=factory.getbasetemp(),
        capture_output=True,
        text=True,
        timeout=1500,
        check=False,
    )


def cli_json(factory: pytest.TempPathFactory, *arguments: object):
    """Runs a command with --json; returns its output, parsed strictly."""
    done = cli(factory, *arguments, "--json")
    assert done.returncode == 0, done.stderr

    def refuse(constant: str):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(done.stdout, parse_constant=refuse)


def assert_refused(done: subprocess.CompletedProcess[str], *named: object) -> str:
    """Asserts exit status 2 and one error line that contains `named`; returns the line."""
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("zoojax: ")
    for name in named:
        assert str(name) in line
    return line
