"""Tiny image sets and zoos that several test files share, and the command line.

What takes a while is made once a session (`once`); zoos from here are shared, so a
test that changes one copies it.
"""

import contextlib
import functools
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from unittest.mock import patch

import jax
import numpy as np
import pytest
from sklearn.datasets import load_digits

import zoojax.api.dense
from tests.support import ROOT
from zoojax import DataSpec, Grid, Zoo, prune_zoo, train_variational_dropout, train_zoo
from zoojax.cli.main import main
from zoojax.training import programs

T = TypeVar("T")
CHUNK = 4
EPOCHS = 2
# As the preset digits-s-seed, but for the learning rate.
GRID = Grid(inits=("kaiming_uniform",), learning_rates=(1e-2,), seeds=3)
TINY_SIZES = (65, 20, 20)


def once(make: Callable[[pytest.TempPathFactory], T]) -> Callable[[pytest.TempPathFactory], T]:
    """Makes the function's result once for each `tmp_path_factory`, which has no hash."""
    made: dict[Path, T] = {}

    def remembered(factory: pytest.TempPathFactory) -> T:
        key = factory.getbasetemp()
        if key not in made:
            made[key] = make(factory)
        return made[key]

    return remembered


# Programs of one recipe are compiled once a session, not once a zoo.
for _name in ("epoch", "evaluation"):
    setattr(programs, _name, functools.cache(getattr(programs, _name)))


def _remembered(draw: Callable) -> Callable:
    """Drawing initial weights takes seconds, all of them XLA's, and is often the same."""
    drawn: dict[tuple, dict] = {}

    def remembered(shape: object, inits: list[str], seeds: list[int]) -> dict:
        key = (shape, tuple(inits), tuple(seeds))
        if key not in drawn:
            drawn[key] = draw(shape, inits, seeds)
        return drawn[key]

    return remembered


for _name in ("initial_params",):
    setattr(zoojax.api.dense, _name, _remembered(getattr(zoojax.api.dense, _name)))


def write_images(path: Path, first: int = 0) -> Path:
    """Saves TINY_SIZES real digits; the last batch of ten training images is half full."""
    digits, labels = load_digits(return_X_y=True)
    pixels, arrays = (digits / 16 * 255).astype(np.uint8).reshape(-1, 8, 8), {}
    for part, size in zip(("train", "val", "test"), TINY_SIZES, strict=True):
        arrays[f"{part}_images"] = pixels[first : first + size]
        arrays[f"{part}_labels"] = labels[first : first + size].astype(np.int64)
        first += size
    np.savez(path, **arrays)
    return path


@once
def images(factory: pytest.TempPathFactory) -> Path:
    """An .npz with TINY_SIZES images."""
    return write_images(factory.mktemp("images") / "tiny.npz")


@once
def other_images(factory: pytest.TempPathFactory) -> Path:
    """Another."""
    return write_images(factory.mktemp("images") / "other.npz", first=500)


def spec(factory: pytest.TempPathFactory) -> DataSpec:
    """Of `images`."""
    return DataSpec(str(images(factory)))


def train(factory: pytest.TempPathFactory, out: Path, grid: Grid = GRID, **options) -> Zoo:
    """A dense zoo of the tiny images."""
    return train_zoo(
        out, "tiny", grid, "small", spec(factory), **{"epochs": EPOCHS, "chunk": CHUNK, **options}
    )


@once
def dense(factory: pytest.TempPathFactory) -> Zoo:
    """Three members, two epochs."""
    return train(factory, factory.mktemp("zoos") / "dense")


@once
def pruned(factory: pytest.TempPathFactory) -> Zoo:
    """The pruned twin of `dense`: ratios 0, 0.5, 0.9."""
    out = dense(factory).path.with_name("pruned")
    return prune_zoo(out, dense(factory), [0.0, 0.5, 0.9], epochs=EPOCHS, chunk=CHUNK)


@once
def dropped_out(factory: pytest.TempPathFactory) -> Zoo:
    """The variational-dropout twin of `dense`."""
    out = dense(factory).path.with_name("dropped-out")
    return train_variational_dropout(out, dense(factory), epochs=EPOCHS, chunk=CHUNK)


KINDS = {"dense": dense, "mp": pruned, "vd": dropped_out}


def copied(zoo: Zoo, to: Path) -> Path:
    """A copy of a zoo's folder that a test may spoil."""
    return Path(shutil.copytree(zoo.path, to))


def same_bits(a, b) -> bool:
    """Whether two pytrees have the same structure, shapes, types and bits (NaNs too)."""

    def equal(x, y) -> bool:
        x, y = np.asarray(x), np.asarray(y)
        return x.dtype == y.dtype and x.shape == y.shape and x.tobytes() == y.tobytes()

    return jax.tree.structure(a) == jax.tree.structure(b) and all(
        map(equal, jax.tree.leaves(a), jax.tree.leaves(b))
    )


def bits(frame) -> dict:
    """A polars frame as a pytree of arrays."""
    return {name: frame[name].to_numpy() for name in frame.columns}


def assert_same_zoo(a: Zoo, b: Zoo) -> None:
    """All states, the optimiser, metrics and members are the same to the bit."""
    assert a.epochs == b.epochs
    for epoch in a.epochs:
        assert same_bits(a.state(epoch), b.state(epoch)), f"states of epoch {epoch} differ"
    assert same_bits(a.optimizer_state(), b.optimizer_state())
    assert same_bits(bits(a.metrics), bits(b.metrics))
    assert a.members.equals(b.members)
    assert a.fingerprint == b.fingerprint


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Bytes and modification time of every file under a folder."""
    return {
        str(f.relative_to(folder)): (f.read_bytes(), f.stat().st_mtime_ns)
        for f in sorted(folder.rglob("*"))
        if f.is_file()
    }


@once
def environment(_: pytest.TempPathFactory) -> dict[str, str]:
    """For the command line: every compiled program kept (see conftest), wide, plain output."""
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
    """Runs `zoojax ARGUMENTS` as `cli_process` does, in this process: it has imported JAX."""
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
        except SystemExit as ended:
            status = int(ended.code or 0)
    return subprocess.CompletedProcess(words, status, out.getvalue(), error.getvalue())


def cli_process(
    factory: pytest.TempPathFactory, *arguments: object
) -> subprocess.CompletedProcess[str]:
    """Runs `zoojax ARGUMENTS` in a process of its own, in a folder that is not the checkout."""
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
    """What a command that must succeed prints with --json, read strictly."""
    done = cli(factory, *arguments, "--json")
    assert done.returncode == 0, done.stderr

    def refuse(constant: str):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(done.stdout, parse_constant=refuse)


def assert_refused(done: subprocess.CompletedProcess[str], *named: object) -> str:
    """Exit status 2, nothing printed but one line of error that names things; the line."""
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("zoojax: ")
    for name in named:
        assert str(name) in line
    return line
