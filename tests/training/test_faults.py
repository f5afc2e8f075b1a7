"""Faults by the dozen: kill -9, full disks, flipped bytes; lost is the epoch in flight alone."""

import random
import signal
import time
import warnings

import pytest

from tests.support import zoo_fixtures
from tests.support.processes import start_together
from tests.training import test_resume
from zoojax import open_zoo
from zoojax.storage.writer import CorruptionWarning

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("kind", "kills"), [("dense", 20), ("mp", 15), ("vd", 15)])
def test_a_process_killed(tmp_path_factory, tmp_path, kind, kills):
    test_resume.kill_and_finish(tmp_path_factory, tmp_path, kind, kills, seed=kills)


@pytest.mark.parametrize(("kind", "kills"), [("dense", 20), ("mp", 15), ("vd", 15)])
def test_one_of_two_processes_killed(tmp_path_factory, tmp_path, kind, kills):
    """A random one, at a random moment after they have begun to save, or before."""
    whole = test_resume.UNDISTURBED[kind](tmp_path_factory)
    moments, killed, attempt = random.Random(kills), 0, 0
    while killed < kills:
        out = tmp_path / f"zoo-{attempt}"
        arguments = test_resume.arguments(tmp_path_factory, kind, out)
        started = start_together(tmp_path_factory, 2, 1, *arguments)
        before = test_resume.progress(out)
        while test_resume.progress(out) == before and all(p.poll() is None for p in started):
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
        test_resume.assert_sound(out, whole)
    out = tmp_path / f"zoo-{attempt}"
    if not out.exists() or test_resume.EPOCHS not in open_zoo(out).epochs:
        test_resume.finish(tmp_path_factory, kind, out)
    zoo_fixtures.assert_same_zoo(open_zoo(out), whole)


def test_the_disk_is_full_at_twenty_sizes(tmp_path_factory, tmp_path):
    """A file-size limit, from nothing to what the largest file takes."""
    whole = test_resume.UNDISTURBED["dense"](tmp_path_factory)
    largest = max(f.stat().st_size for f in whole.path.rglob("*") if f.is_file())
    sizes, refused = random.Random(1), 0
    out = tmp_path / "zoo"
    while refused < 20:
        arguments = test_resume.train_arguments(tmp_path_factory, out)
        done = test_resume.limited(tmp_path_factory, arguments, sizes.randrange(100, largest))
        test_resume.assert_sound(out, whole)
        if done.returncode == 0:
            zoo_fixtures.assert_same_zoo(open_zoo(out), whole)
            out = tmp_path / f"zoo-{refused}"
            continue
        assert "cannot" in zoo_fixtures.assert_refused(done)
        refused += 1
    test_resume.finish(tmp_path_factory, "dense", out)


@pytest.mark.parametrize("kind", zoo_fixtures.KINDS)
def test_flipped_bytes(tmp_path_factory, tmp_path, kind):
    """Anywhere in the states or moments of the epoch to go on from: the end is the same."""
    whole = test_resume.UNDISTURBED[kind](tmp_path_factory)
    out, fates = tmp_path / "zoo", random.Random(kind)
    arguments = test_resume.arguments(tmp_path_factory, kind, out)
    test_resume.interrupt(
        tmp_path_factory, arguments, out, signal.SIGKILL, first=f"states/{test_resume.EPOCHS - 2}"
    )
    for i in range(7):
        copy = tmp_path / f"copy-{i}"
        zoo_fixtures.shutil.copytree(out, copy)
        newest = open_zoo(copy).epochs[-1]
        assert newest < test_resume.EPOCHS
        folder = fates.choice(("states", "optimizer"))
        files = [f for f in (copy / folder / str(newest)).rglob("*") if f.is_file()]
        file = fates.choice([f for f in files if f.stat().st_size])
        content = bytearray(file.read_bytes())
        content[fates.randrange(len(content))] ^= 1 << fates.randrange(8)
        file.write_bytes(content)
        with warnings.catch_warnings():
            # Of a checksum's own file a flip may leave the meaning as it is.
            warnings.simplefilter("ignore", CorruptionWarning)
            test_resume.finish(tmp_path_factory, kind, copy)
        zoo_fixtures.assert_same_zoo(open_zoo(copy), whole)
