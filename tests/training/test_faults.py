"""Many random faults (kill -9, full disks, flipped bytes): only the current epoch is lost."""

import random
import shutil
import signal
import time
import warnings

import pytest

from tests.support import interruptions, zoo_fixtures
from tests.support.processes import start_together
from zoojax import open_zoo
from zoojax.storage.writer import CorruptionWarning

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("kind", "kills"), [("dense", 20), ("mp", 15), ("vd", 15)])
def test_kills_of_a_single_process(tmp_path_factory, tmp_path, kind, kills):
    interruptions.kill_and_finish(tmp_path_factory, tmp_path, kind, kills, seed=kills)


@pytest.mark.parametrize(("kind", "kills"), [("dense", 20), ("mp", 15), ("vd", 15)])
def test_kills_of_one_of_two_processes(tmp_path_factory, tmp_path, kind, kills):
    """A random process is killed, at a random moment after the first file changes."""
    expected = interruptions.UNINTERRUPTED[kind](tmp_path_factory)
    moments, killed, attempt = random.Random(kills), 0, 0
    while killed < kills:
        out = tmp_path / f"zoo-{attempt}"
        arguments = interruptions.arguments(tmp_path_factory, kind, out)
        started = start_together(tmp_path_factory, 2, 1, *arguments)
        before = interruptions.snapshot(out)
        while interruptions.snapshot(out) == before and all(p.poll() is None for p in started):
            time.sleep(0.002)
        time.sleep(moments.uniform(0, 2))
        victim = moments.choice(started)
        sent = victim.poll() is None
        victim.send_signal(signal.SIGKILL)
        moment = time.monotonic()
        for process in started:
            process.communicate(timeout=120)
        assert time.monotonic() - moment < 60
        if all(process.returncode == 0 for process in started):
            attempt += 1
        elif sent:
            killed += 1
        interruptions.assert_epochs_match(out, expected)
    out = tmp_path / f"zoo-{attempt}"
    if not out.exists() or interruptions.EPOCHS not in open_zoo(out).epochs:
        interruptions.finish(tmp_path_factory, kind, out)
    zoo_fixtures.assert_same_zoo(open_zoo(out), expected)


def test_full_disk_at_twenty_sizes(tmp_path_factory, tmp_path):
    """Random file size limits up to the size of the largest file."""
    expected = interruptions.UNINTERRUPTED["dense"](tmp_path_factory)
    largest = max(f.stat().st_size for f in expected.path.rglob("*") if f.is_file())
    sizes, refused = random.Random(1), 0
    out = tmp_path / "zoo"
    while refused < 20:
        arguments = interruptions.train_arguments(tmp_path_factory, out)
        done = interruptions.run_with_file_limit(
            tmp_path_factory, arguments, sizes.randrange(100, largest)
        )
        interruptions.assert_epochs_match(out, expected)
        if done.returncode == 0:
            zoo_fixtures.assert_same_zoo(open_zoo(out), expected)
            out = tmp_path / f"zoo-{refused}"
            continue
        assert "cannot" in zoo_fixtures.assert_refused(done)
        refused += 1
    interruptions.finish(tmp_path_factory, "dense", out)


@pytest.mark.parametrize("kind", zoo_fixtures.KINDS)
def test_flipped_bytes(tmp_path_factory, tmp_path, kind):
    """A random bit in the newest states or optimizer state is flipped; the result is the same."""
    expected = interruptions.UNINTERRUPTED[kind](tmp_path_factory)
    out, rng = tmp_path / "zoo", random.Random(kind)
    arguments = interruptions.arguments(tmp_path_factory, kind, out)
    interruptions.interrupt(
        tmp_path_factory, arguments, out, signal.SIGKILL, first=f"states/{interruptions.EPOCHS - 2}"
    )
    for i in range(7):
        copy = tmp_path / f"copy-{i}"
        shutil.copytree(out, copy)
        newest = open_zoo(copy).epochs[-1]
        assert newest < interruptions.EPOCHS
        folder = rng.choice(("states", "optimizer"))
        files = [f for f in (copy / folder / str(newest)).rglob("*") if f.is_file()]
        file = rng.choice([f for f in files if f.stat().st_size])
        content = bytearray(file.read_bytes())
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        file.write_bytes(content)
        with warnings.catch_warnings():
            # A flip in the file of checksums may not change its meaning, so no warning is required.
            warnings.simplefilter("ignore", CorruptionWarning)
            interruptions.finish(tmp_path_factory, kind, copy)
        zoo_fixtures.assert_same_zoo(open_zoo(copy), expected)
