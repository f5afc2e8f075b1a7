"""Conversion of many members: in parts, interrupted, in bounded memory, and of hostile matrices."""

import errno
import resource
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

from tests.support import ROOT, zoo_fixtures
from tests.support.large_matrix import STEPS, write_matrix
from tests.support.zoo_fixtures import bits, same_bits
from zoojax import Zoo, evaluate, open_zoo
from zoojax.converters.api import convert_from, convert_to
from zoojax.converters.batches import StateBatch
from zoojax.converters.formats.flat_matrix import FlatMatrix
from zoojax.converters.matrix_file import MatrixFile
from zoojax.errors import ZoojaxError
from zoojax.storage import checkpoints, parts
from zoojax.storage.integrity import find_corrupt_files

ROW = 4 * 4970


@pytest.fixture
def small_parts(monkeypatch):
    """Parts of three members of a matrix."""
    monkeypatch.setattr(parts, "_PART_BYTES", 3 * ROW + 1)


@pytest.fixture(scope="module")
def matrix(tmp_path_factory):
    """Ten runs with two states, of which two have a NaN; not to be changed."""
    folder = tmp_path_factory.mktemp("matrix") / "matrix"
    return write_matrix(folder, runs=10, steps=(0, 20), nan_rows=(4, 13))


@pytest.fixture(scope="module")
def whole(matrix, tmp_path_factory) -> Zoo:
    """The zoo of the matrix, not in parts."""
    return convert_from(matrix, tmp_path_factory.mktemp("whole") / "zoo", quiet=True).zoo


def assert_same(a: Zoo, b: Zoo) -> None:
    assert a.epochs == b.epochs and a.fingerprint == b.fingerprint
    assert all(same_bits(a.state(epoch), b.state(epoch)) for epoch in a.epochs)
    assert same_bits(bits(a.metrics_history), bits(b.metrics_history))
    files = [(zoo.path / "rejects.csv").read_bytes() for zoo in (a, b)]
    assert files[0] == files[1]


def test_rows_read_together_are_those_read_one_by_one(matrix, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(StateBatch, "layout", None)
    assert_same(convert_from(matrix, tmp_path / "zoo", quiet=True).zoo, whole)


def test_parts_are_the_same_zoo(matrix, whole, tmp_path, small_parts):
    zoo = convert_from(matrix, tmp_path / "zoo", quiet=True).zoo
    assert zoo.row_blocks(20) == [slice(0, 3), slice(3, 6), slice(6, 9), slice(9, 10)]
    assert len(whole.row_blocks(20)) == 1
    assert_same(zoo, whole)
    for members in ([9, 0, 4], [2], [], list(range(10))):
        assert same_bits(zoo.params(20, members), whole.params(20, members))
    assert same_bits(zoo.state(20, rows=slice(2, 7)), whole.state(20, rows=slice(2, 7)))
    assert same_bits(zoo.state(20, rows=slice(4, 4)), whole.state(20, rows=slice(4, 4)))
    images = np.random.default_rng(0).normal(size=(3, 28, 28, 1)).astype(np.float32)
    np.testing.assert_array_equal(
        zoo.apply(images, members=[9, 1]), whole.apply(images, members=[9, 1])
    )
    assert find_corrupt_files(zoo) == []
    copy = zoo.save(tmp_path / "copy")
    assert same_bits(copy.params(20), whole.params(20))


@pytest.mark.parametrize("fails_at", [0, 1, 3, 4, 7])
def test_interrupted_parts_resume(matrix, whole, tmp_path, small_parts, monkeypatch, fails_at):
    saved, original = [], checkpoints.save

    def save(path, tree):
        if len(saved) == fails_at:
            raise KeyboardInterrupt
        saved.append(path)
        original(path, tree)

    monkeypatch.setattr(checkpoints, "save", save)
    with pytest.raises(KeyboardInterrupt):
        convert_from(matrix, tmp_path / "zoo", quiet=True)
    assert open_zoo(tmp_path / "zoo").epochs == [0] * (fails_at >= 4)
    # What Orbax leaves of a killed process, and half a file.
    steps = sorted((tmp_path / "zoo" / "states").iterdir())
    if steps:
        (steps[-1] / "part_000003.orbax-checkpoint-tmp-0").mkdir()
        (steps[-1] / ".parts.json.tmp-1").write_text("{")
    count = []
    monkeypatch.setattr(checkpoints, "save", lambda *a: (count.append(a), original(*a)))
    zoo = convert_from(matrix, tmp_path / "zoo", quiet=True).zoo
    assert len(count) == 8 - fails_at
    assert_same(zoo, whole)
    if steps:
        left = {path.name for path in steps[-1].iterdir()}
        assert left == {"parts.json", *(f"part_{i:06d}" for i in range(4))}


def test_damaged_part_is_named_and_converted_again(matrix, whole, tmp_path, small_parts):
    zoo = convert_from(matrix, tmp_path / "zoo", quiet=True).zoo
    part = zoo.path / "states" / "20" / "part_000001"
    file = next(p for p in part.rglob("*") if p.is_file() and p.parent.name == "d")
    file.write_bytes(file.read_bytes()[:-1])
    (damage,) = find_corrupt_files(zoo)
    assert "part_000001" in damage
    assert same_bits(zoo.params(20, [9]), whole.params(20, [9]))
    with pytest.raises(ZoojaxError, match="part_000001"):
        zoo.params(20)
    with pytest.warns(UserWarning, match="resuming from epoch 0"):
        assert_same(convert_from(matrix, tmp_path / "zoo", quiet=True).zoo, whole)


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"members": 10}', '{"members": 10, "rows": 0}',
                '{"members": 11, "rows": 3}', '{"members": 10, "rows": 1e400}',
                '{"members": true, "rows": 3}', '{"members": 2000000000, "rows": 1}'],
)  # fmt: skip
def test_forged_split_is_refused(matrix, tmp_path, small_parts, content):
    zoo = convert_from(matrix, tmp_path / "zoo", quiet=True).zoo
    (zoo.path / "states" / "20" / "parts.json").write_text(content)
    with pytest.raises(ZoojaxError, match="is damaged") as caught:
        zoo.params(20)
    assert "\n" not in str(caught.value)
    assert len(find_corrupt_files(zoo)) == 1


def test_full_disk_is_one_line(matrix, tmp_path, small_parts, monkeypatch):
    original = checkpoints.save

    def full(path, tree):
        if path.name == "part_000002":
            with monkeypatch.context() as patch:
                patch.setattr(
                    checkpoints, "ensure_free_space", lambda *_: (_ for _ in ()).throw(
                        OSError(errno.ENOSPC, "No space left on device")
                    )
                )  # fmt: skip
                original(path, tree)
        original(path, tree)

    monkeypatch.setattr(checkpoints, "save", full)
    with pytest.raises(ZoojaxError, match="No space left on device") as caught:
        convert_from(matrix, tmp_path / "zoo", quiet=True)
    assert "\n" not in str(caught.value) and "resume" in str(caught.value)
    assert open_zoo(tmp_path / "zoo").epochs == []


def test_export_to_a_full_disk_leaves_nothing(tmp_path_factory, tmp_path):
    zoo = zoo_fixtures.dense(tmp_path_factory)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
        for name in ("matrix", "dataset"):
            with pytest.raises(ZoojaxError, match="cannot write") as caught:
                convert_to(zoo, tmp_path / name, format=name, quiet=True)
            assert "\n" not in str(caught.value)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    for name in ("matrix", "dataset"):
        assert not {"weights.npy", "dataset.pt"} & {p.name for p in (tmp_path / name).iterdir()}
        assert not any(".tmp-" in p.name for p in (tmp_path / name).iterdir())
        convert_to(zoo, tmp_path / name, format=name, quiet=True)


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", "<f2"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_matrix_of_any_type_and_order(tmp_path, dtype, order):
    values = np.arange(60, dtype=dtype).reshape(12, 5)
    np.save(tmp_path / "m.npy", np.asarray(values, order=order))
    matrix = MatrixFile(tmp_path / "m.npy")
    assert len(matrix) == 12
    for rows in ([3], [0, 1, 2], [11, 0, 5, 6, 7], list(range(12))):
        read = matrix.rows(np.array(rows))
        assert read.dtype.isnative and np.array_equal(read, values[rows])


def test_matrix_that_shrinks_is_refused(matrix, tmp_path):
    shutil.copytree(matrix, tmp_path / "copy")
    listing = FlatMatrix().members(tmp_path / "copy", None)  # type: ignore[arg-type]
    with (tmp_path / "copy" / "weights.npy").open("r+b") as file:
        file.truncate(5 * ROW)
    with pytest.raises(ZoojaxError, match="it is truncated"):
        listing.sources[9].states[20]()


@pytest.mark.parametrize(
    "header, reason",
    [
        ({"shape": (10**9, 10**9)}, "do not fit its shape"),
        ({"shape": (-4, -4970)}, "do not fit its shape"),
        ({"shape": (20, 4970), "descr": "<f8"}, "do not fit its shape"),
        ({"shape": (20, 4970), "descr": "|O"}, "not rows of numbers"),
        ({"shape": (20, 4970), "descr": [("a", "<f4")]}, "not rows of numbers"),
        ({"shape": (20, 4970, 1)}, "not rows of numbers"),
        ({"shape": (99_400, 1)}, "does not cover"),
    ],
)
def test_lies_in_the_header_are_refused(matrix, tmp_path, header, reason):
    shutil.copytree(matrix, tmp_path / "copy")
    data = (matrix / "weights.npy").read_bytes()
    with (tmp_path / "copy" / "weights.npy").open("wb") as file:
        claimed = {"descr": "<f4", "fortran_order": False, **header}
        np.lib.format.write_array_header_1_0(file, claimed)
        file.write(data[-20 * ROW :])
    with pytest.raises(ZoojaxError) as caught:
        convert_from(tmp_path / "copy", tmp_path / "zoo", quiet=True)
    assert reason in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "zoo").exists()


def test_some_members_are_evaluated(tmp_path_factory):
    zoo = zoo_fixtures.dense(tmp_path_factory)
    every = evaluate(zoo, epoch=2)
    some = evaluate(zoo, epoch=2, members=[2, 0])
    assert same_bits(bits(some), bits(every[[2, 0]]))
    rows = zoo_fixtures.cli_json(
        *(tmp_path_factory, "evaluate", zoo.path, "--select", "1-9,0", "--members", "--json")
    )["rows"]
    assert sorted(row["id"] for row in rows) == [0, 1, 2]
    for text, reason in (("5-9", "has no member 5-9"), ("a", "is invalid"), ("", "is invalid")):
        done = zoo_fixtures.cli(tmp_path_factory, "evaluate", zoo.path, "--select", text)
        assert done.returncode and reason in done.stderr


COMMAND = [sys.executable, "-m", "zoojax", "convert", "from"]


def run_killed(*arguments: str, seconds: float) -> bool:
    """Runs a conversion, killed after some time; returns whether it was still running."""
    with subprocess.Popen([*COMMAND, *arguments, "--quiet"], cwd=ROOT) as process:
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
    return process.returncode == -signal.SIGKILL


# A process counts the memory of the one that started it, so a small one starts the conversion.
MEASURE = """
import os, subprocess, sys, time
start = time.monotonic()
process = subprocess.Popen(sys.argv[1:])
_, status, usage = os.wait4(process.pid, 0)
process.returncode = os.waitstatus_to_exitcode(status)
print(process.returncode, time.monotonic() - start, usage.ru_maxrss / 1024)
"""


def run_measured(*arguments: str) -> tuple[int, float, float]:
    """Runs a conversion; returns its exit status, wall time and peak memory in MiB."""
    command = [sys.executable, "-c", MEASURE, *COMMAND, *arguments, "--quiet"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    status, seconds, memory = done.stdout.split()[-3:]
    return int(status), float(seconds), float(memory)


@pytest.mark.slow
@pytest.mark.parametrize("runs, steps", [(30_000, 9), (270_000, 1)])
def test_full_size_in_bounded_memory_killed_and_resumed(tmp_path, runs, steps):
    """The Small CNN Zoo's size: 270,000 states, 5.4 GB."""
    source = write_matrix(tmp_path / "matrix", runs, STEPS[:steps])
    arguments = (str(source), "--out", str(tmp_path / "zoo"))
    assert all(run_killed(*arguments, seconds=seconds) for seconds in (6.0, 9.5))
    status, seconds, memory = run_measured(*arguments)
    assert status == 0 and memory < 2048 and seconds < 300
    zoo = open_zoo(tmp_path / "zoo")
    assert (len(zoo), len(zoo.metrics), find_corrupt_files(zoo)) == (runs, runs * steps, [])
    values = np.load(source / "weights.npy", mmap_mode="r")
    for epoch in (zoo.epochs[0], zoo.epochs[-1]):
        rows = zoo.epochs.index(epoch) + steps * np.arange(runs)
        for block in zoo.row_blocks(epoch):
            kernel = zoo.state(epoch, rows=block)["params"]["conv2"]["kernel"]
            expected = values[rows[block]][:, 176:2480].reshape(kernel.shape)
            np.testing.assert_array_equal(kernel, expected)
