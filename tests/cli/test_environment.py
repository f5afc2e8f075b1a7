"""Environment variables, locales, limits and clusters: commands work, or fail with one line."""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support import ROOT, zoo_fixtures
from zoojax import ZoojaxError, open_zoo
from zoojax.runtime.environment import check_environment


def train_arguments(factory, out: object) -> list[object]:
    """The command that trains the zoo of `zoo_fixtures.dense`."""
    return [
        *("train", "digits-s-seed", "--data", zoo_fixtures.images(factory), "--members", 3),
        *("--learning-rate", 1e-2, "--name", "tiny", "--epochs", zoo_fixtures.EPOCHS),
        *("--chunk", zoo_fixtures.CHUNK, "--quiet", "--out", out),
    ]


def command(
    factory,
    *arguments: object,
    cwd: Path | None = None,
    wrapper: Sequence[str] = (),
    **changes: str | None,
) -> subprocess.CompletedProcess[str]:
    """Runs a command in its own process, with some variables changed or unset (None)."""
    variables = zoo_fixtures.environment(factory) | changes
    return subprocess.run(
        [*wrapper, *zoo_fixtures.COMMAND, *map(str, arguments)],
        env={name: value for name, value in variables.items() if value is not None},
        cwd=cwd or factory.getbasetemp(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


# JAX and XLA.


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("JAX_PLATFORMS", "cuda", "unset it to use what is there"),
        ("JAX_PLATFORMS", "abacus", "unset it to use what is there"),
        ("JAX_NUM_CPU_DEVICES", "x", "give a whole number from 1 to 4096"),
        ("JAX_NUM_CPU_DEVICES", "0", "give a whole number from 1 to 4096"),
        ("JAX_NUM_CPU_DEVICES", "-2", "give a whole number from 1 to 4096"),
        ("JAX_NUM_CPU_DEVICES", "100000", "give a whole number from 1 to 4096"),
        ("JAX_NUM_CPU_DEVICES", "\u00b2", "give a whole number from 1 to 4096"),
        ("JAX_ENABLE_X64", "perhaps", "perhaps"),
        ("JAX_DISABLE_JIT", "1", "unset it"),
        ("XLA_FLAGS", "--xla_no_such_flag=1", "--xla_no_such_flag"),
        ("XLA_FLAGS", "nothing", "nothing"),
        ("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=perhaps", "xla_cpu_multi_thread_eigen"),
    ],
)
def test_invalid_environment_variables(tmp_path_factory, tmp_path, variable, value, message):
    out = tmp_path / "zoo"
    arguments = train_arguments(tmp_path_factory, out)
    started = time.monotonic()
    done = command(tmp_path_factory, *arguments, **{variable: value})
    zoo_fixtures.assert_refused(done, variable, message)
    assert not out.exists() and time.monotonic() - started < 60


def test_invalid_environment_variable_of_a_conversion(tmp_path_factory, tmp_path):
    pytest.importorskip("torch")
    arguments = ("convert", "from-torch", tmp_path, "--out", tmp_path / "zoo")
    done = command(tmp_path_factory, *arguments, JAX_NUM_CPU_DEVICES="x")
    zoo_fixtures.assert_refused(done, "JAX_NUM_CPU_DEVICES")


@pytest.mark.parametrize(
    "changes",
    [
        {"JAX_ENABLE_X64": "1"},
        pytest.param(
            {"JAX_NUMPY_DTYPE_PROMOTION": "strict", "JAX_NUMPY_RANK_PROMOTION": "raise"},
            marks=pytest.mark.slow,
        ),
        {"JAX_RANDOM_SEED_OFFSET": "3", "JAX_THREEFRY_PARTITIONABLE": "0"},
        {"XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false", "JAX_NUM_CPU_DEVICES": "-1"},
    ],
)
def test_environment_variables_that_do_not_change_bits(tmp_path_factory, tmp_path, changes):
    done = command(
        tmp_path_factory, *train_arguments(tmp_path_factory, tmp_path / "zoo"), **changes
    )
    assert (done.returncode, done.stderr) == (0, "")
    trained, expected = open_zoo(tmp_path / "zoo"), zoo_fixtures.dense(tmp_path_factory)
    for epoch in expected.epochs:
        assert zoo_fixtures.same_bits(trained.state(epoch), expected.state(epoch))
    assert zoo_fixtures.same_bits(trained.optimizer_state(), expected.optimizer_state())
    assert zoo_fixtures.same_bits(
        zoo_fixtures.bits(trained.metrics), zoo_fixtures.bits(expected.metrics)
    )


@pytest.mark.parametrize("kind", ["mp", "vd"])
def test_twins_with_64_bit_types_have_the_same_bits(tmp_path_factory, tmp_path, kind):
    parent = zoo_fixtures.dense(tmp_path_factory)
    expected = zoo_fixtures.KINDS[kind](tmp_path_factory)
    method = ("magnitude-pruning", parent.path, "--ratios", 0, 0.5, 0.9)
    if kind == "vd":
        method = ("variational-dropout", parent.path)
    rate = expected.members["learning_rate"][0]
    options = (
        "--epochs",
        zoo_fixtures.EPOCHS,
        "--chunk",
        zoo_fixtures.CHUNK,
        "--learning-rate",
        rate,
    )
    options += ("--quiet", "--out", tmp_path / "twin")
    done = command(tmp_path_factory, "sparsify", *method, *options, JAX_ENABLE_X64="1")
    assert (done.returncode, done.stderr) == (0, "")
    twin = open_zoo(tmp_path / "twin")
    for epoch in expected.epochs:
        assert zoo_fixtures.same_bits(twin.state(epoch), expected.state(epoch))
    assert zoo_fixtures.same_bits(
        zoo_fixtures.bits(twin.metrics), zoo_fixtures.bits(expected.metrics)
    )


LIBRARY = """
import sys
from pathlib import Path
import jax
from tests.support import zoo_fixtures
from zoojax import DataSpec, train_zoo
assert jax.config.jax_enable_x64
out, spec = Path(sys.argv[1]), DataSpec(sys.argv[2])
options = {"epochs": zoo_fixtures.EPOCHS, "chunk": zoo_fixtures.CHUNK}
dense = train_zoo(
    None, out / "dense", name="tiny", grid=zoo_fixtures.GRID, data=spec, quiet=True, **options
)
zoo_fixtures.prune(out / "mp", dense, [0.0, 0.5, 0.9], **options)
zoo_fixtures.train_variational(out / "vd", dense, **options)
"""


@pytest.mark.parametrize(
    "engine", ["on", pytest.param("off", marks=pytest.mark.slow)], ids=["kernel", "xla"]
)
def test_library_with_64_bit_types_has_the_same_bits(tmp_path_factory, tmp_path, engine):
    """In its own process, with the C++ kernel and with XLA."""
    data = zoo_fixtures.images(tmp_path_factory)
    for x64 in ("0", "1") if engine == "off" else ("1",):
        (tmp_path / x64).mkdir()
        changes = {"JAX_ENABLE_X64": x64, "ZOOJAX_KERNEL": engine, "PYTHONPATH": str(ROOT)}
        code = LIBRARY if x64 == "1" else LIBRARY.replace("assert", "assert not")
        subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / x64), str(data)],
            env=zoo_fixtures.environment(tmp_path_factory) | changes,
            check=True,
        )
    for kind, made in zoo_fixtures.KINDS.items():
        expected = open_zoo(tmp_path / "0" / kind) if engine == "off" else made(tmp_path_factory)
        zoo_fixtures.assert_same_zoo(open_zoo(tmp_path / "1" / kind), expected)


# Names.


def test_ascii_locale(tmp_path_factory, tmp_path):
    """Names with other characters are written unchanged and printed escaped."""
    out = tmp_path / "z\u00fcge"
    ascii = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": None}
    done = command(tmp_path_factory, *train_arguments(tmp_path_factory, out), **ascii)
    assert (done.returncode, done.stderr) == (0, "")
    # The title may be folded to the width of the table.
    assert r"z\xfcge" in "".join(done.stdout.split()) and done.stdout.isascii()
    assert zoo_fixtures.same_bits(
        open_zoo(out).state(1), zoo_fixtures.dense(tmp_path_factory).state(1)
    )
    done = command(tmp_path_factory, "info", out / "missing", **ascii)
    assert r"z\xfcge" in zoo_fixtures.assert_refused(done)


def test_out_without_a_name(tmp_path_factory, tmp_path):
    here = tmp_path / "here"
    here.mkdir()
    cases = [(".", "inside it"), ("", "working directory"), ("/", "root folder")]
    for out, message in cases:
        arguments = train_arguments(tmp_path_factory, out)
        zoo_fixtures.assert_refused(command(tmp_path_factory, *arguments, cwd=here), message)
    arguments = train_arguments(tmp_path_factory, "..")
    line = zoo_fixtures.assert_refused(command(tmp_path_factory, *arguments, cwd=here), tmp_path)
    assert "not empty" in line
    assert [*tmp_path.iterdir()] == [here] and not [*here.iterdir()]
    # In the folder of a zoo, "." is that zoo, which is extended.
    arguments = train_arguments(tmp_path_factory, "zoo")
    done = command(tmp_path_factory, *arguments, "--epochs", "0", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = command(tmp_path_factory, *arguments[:-1], ".", cwd=tmp_path / "zoo")
    assert done.returncode == 0, done.stderr
    assert open_zoo(tmp_path / "zoo").epochs == [0, 1, 2]


# Threads.


LIMITED = """
import os, resource, sys
size = int(sys.argv[1]) * 2**20
resource.setrlimit(resource.RLIMIT_AS, (size, size))
os.execv(sys.argv[2], sys.argv[2:])
"""


@pytest.mark.parametrize("mebibytes", [300, 800, 1200, 1500])
def test_too_little_memory_for_threads(tmp_path_factory, tmp_path, mebibytes):
    """XLA would abort, or wait forever for a thread that cannot start."""
    pytest.importorskip("resource")
    arguments = train_arguments(tmp_path_factory, tmp_path / "zoo")
    limited = (sys.executable, "-c", LIMITED, str(mebibytes))
    started = time.monotonic()
    done = command(tmp_path_factory, *arguments, wrapper=limited)
    assert "ulimit" in zoo_fixtures.assert_refused(done)
    assert not (tmp_path / "zoo").exists() and time.monotonic() - started < 60


def test_threads_that_cannot_be_started(monkeypatch):
    """As with a limit on the number of processes."""
    started = []

    def start(function, arguments):
        if len(started) == 7:
            raise RuntimeError("can't start new thread")
        started.append(function)

    monkeypatch.setattr("_thread.start_new_thread", start)
    with pytest.raises(ZoojaxError, match=r"only 7 can be started.*ulimit -u"):
        check_environment()


# Other processes.


def test_single_process_in_a_slurm_allocation(tmp_path_factory, tmp_path):
    """It soon reports what it waits for, can be interrupted, and runs with --num-processes 1."""
    slurm: dict[str, Any] = {
        **{"SLURM_JOB_ID": "7", "SLURM_NTASKS": "8", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"},
        **{"SLURM_STEP_NODELIST": "localhost", "SLURM_STEP_NUM_NODES": "1"},
    }
    arguments = train_arguments(tmp_path_factory, tmp_path / "zoo")
    with subprocess.Popen(
        [*zoo_fixtures.COMMAND, *map(str, arguments)],
        env=zoo_fixtures.environment(tmp_path_factory) | slurm,
        stderr=subprocess.PIPE,
        text=True,
    ) as waiting:
        started = time.monotonic()
        assert waiting.stderr is not None
        line = waiting.stderr.readline()
        # About two seconds on an idle machine.
        assert time.monotonic() - started < 30
        assert line.startswith("zoojax: waiting for the other processes of 8 (SLURM_NTASKS=8)")
        assert "--num-processes 1" in line
        waiting.send_signal(signal.SIGTERM)
        (last,) = waiting.stderr.read().splitlines()
        assert last.startswith("zoojax: interrupted")
    assert waiting.returncode == 128 + signal.SIGTERM
    done = command(tmp_path_factory, *arguments, "--num-processes", 1, **slurm)
    assert (done.returncode, done.stderr) == (0, "")


SHORT_TIMEOUT = """
import sys
from zoojax.cli.main import main
from zoojax.runtime import distributed
distributed._START = 3
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("index", [0, 1])
def test_peers_that_never_start(tmp_path_factory, tmp_path, index):
    out = tmp_path / "zoo"
    arguments = [*train_arguments(tmp_path_factory, out), "--coordinator", "localhost:59871"]
    arguments += ["--num-processes", 2, "--process-id", index]
    done = subprocess.run(
        [sys.executable, "-c", SHORT_TIMEOUT, *map(str, arguments)],
        env=zoo_fixtures.environment(tmp_path_factory),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    first, last = done.stderr.splitlines()
    assert re.match("zoojax: waiting for .* of 2 .* at localhost:59871; start all of them", first)
    assert re.match("zoojax: .* of 2 .* did not start within 3 seconds; start all", last)
    assert not out.exists()
