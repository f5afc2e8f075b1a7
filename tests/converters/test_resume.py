"""Interrupted, repeated and completed conversions."""

import copy

import pytest

from tests.support.conversions import converted, same_zoo, write_report
from tests.support.torch_zoos import checkpoint, trials, write_zoo
from tests.support.zoo_fixtures import bits, same_bits
from zoojax import open_zoo
from zoojax.converters.sources import from_trials
from zoojax.converters.torch_to_zoo import convert
from zoojax.errors import ZoojaxError
from zoojax.storage.writer import ZooWriter


def inventory(folder) -> dict[str, tuple[int, int]]:
    """Modification time and inode of each file."""
    files = (f for f in folder.rglob("*") if f.is_file())
    return {str(f): (f.stat().st_mtime_ns, f.stat().st_ino) for f in files}


def test_resumed_conversion_matches_uninterrupted_one(tmp_path):
    root = write_zoo(tmp_path / "root", members=3, epochs=[0, 1, 2, 5])
    checkpoint(trials(root)[0], 1).write_bytes(b"")
    uninterrupted = converted(root, tmp_path / "uninterrupted")

    def stop(done, total):
        if done >= 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        converted(root, tmp_path / "zoo", report=stop)
    assert open_zoo(tmp_path / "zoo").epochs == [0, 1]
    reports = []
    resumed = converted(root, tmp_path / "zoo", report=lambda *progress: reports.append(progress))
    assert reports == [(3, 12), (6, 12), (9, 12), (12, 12)]
    assert same_zoo(open_zoo(tmp_path / "zoo"), open_zoo(tmp_path / "uninterrupted"))
    assert (resumed.states, resumed.rejected) == (uninterrupted.states, uninterrupted.rejected)
    # Repeated when complete, the call returns the same and writes nothing.
    before = inventory(tmp_path / "zoo")
    again = converted(root, tmp_path / "zoo")
    assert (again.states, again.rejected) == (uninterrupted.states, uninterrupted.rejected)
    assert inventory(tmp_path / "zoo") == before
    with pytest.raises(ZoojaxError, match="was created with"):
        converted(root, tmp_path / "zoo", select={"epochs": (0,)})


def test_rows_without_states_are_added_on_resume(tmp_path, monkeypatch):
    """They are written last, when the zoo is already complete."""
    root = write_zoo(tmp_path / "root", epochs=[0])
    for folder in trials(root):
        write_report(folder, *({"training_iteration": e, "test_acc": e / 10} for e in range(4)))

    def stop(self, metrics):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(ZooWriter, "record_metrics", stop)
        converted(root, tmp_path / "zoo")
    assert len(open_zoo(tmp_path / "zoo").metrics_history) == 2
    assert len(converted(root, tmp_path / "zoo").zoo.metrics_history) == 8
    uninterrupted = converted(root, tmp_path / "uninterrupted").zoo.metrics_history
    assert same_bits(bits(open_zoo(tmp_path / "zoo").metrics_history), bits(uninterrupted))


def test_conversion_does_not_change_its_sources(three_trials, tmp_path):
    sources = from_trials(three_trials)
    before = [copy.deepcopy(s.states[0]()) for s in sources]
    convert(sources, tmp_path / "a", name="a")
    convert(sources, tmp_path / "b", name="a")
    assert same_bits([dict(s.states[0]()) for s in sources], [dict(b) for b in before])
    assert same_zoo(open_zoo(tmp_path / "a"), open_zoo(tmp_path / "b"))
