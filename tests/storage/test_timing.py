"""Times of epochs: recorded while training, replaced after an interruption, never required."""

import polars as pl
import pytest

from tests.support import zoo_fixtures
from tests.support.contracts import Interruption, after_one_epoch
from zoojax import ZoojaxError
from zoojax.storage.timing import TIMING, Duration, Stopwatch, read_timing, record


def test_every_epoch_is_recorded_once(tmp_path_factory, tmp_path):
    """Also after an interruption."""
    assert read_timing(zoo_fixtures.dense(tmp_path_factory).path)["epoch"].to_list() == [0, 1, 2]
    out = tmp_path / "zoo"
    with pytest.raises(Interruption):
        zoo_fixtures.train(tmp_path_factory, out, report=after_one_epoch, quiet=False)
    zoo_fixtures.train(tmp_path_factory, out)
    table = read_timing(out)
    assert table["epoch"].to_list() == [0, 1, 2]
    assert (table["seconds"] > 0).all() and (table["cpu_seconds"] > 0).all()


def test_later_epochs_are_replaced(tmp_path):
    for epoch in (0, 1, 2, 1):
        record(tmp_path, epoch, Duration(epoch + 0.5, 1.0))
    assert read_timing(tmp_path)["seconds"].to_list() == [0.5, 1.5]
    assert read_timing(tmp_path / "none").is_empty()


def test_laps_add_up():
    watch = Stopwatch()
    first, second = watch.lap(), watch.lap()
    assert first.seconds >= 0 and second.seconds >= 0 and first.cpu_seconds >= 0


@pytest.mark.parametrize(
    "table",
    [
        pl.DataFrame({"epoch": [0]}),
        pl.DataFrame({"epoch": [0], "seconds": [-1.0], "cpu_seconds": [1.0]}),
        pl.DataFrame({"epoch": [0], "seconds": [float("nan")], "cpu_seconds": [1.0]}),
        pl.DataFrame({"epoch": [None], "seconds": [1.0], "cpu_seconds": [1.0]}),
    ],
)
def test_invalid_times_are_refused_and_replaced(tmp_path, table):
    table.write_parquet(tmp_path / TIMING)
    with pytest.raises(ZoojaxError, match=r"timing\.parquet .*; delete it \(it is not needed\)"):
        read_timing(tmp_path)
    record(tmp_path, 1, Duration(1.0, 2.0))
    assert read_timing(tmp_path).rows() == [(1, 1.0, 2.0)]


def test_damaged_times_are_refused(tmp_path):
    (tmp_path / TIMING).write_bytes(b"PAR1")
    with pytest.raises(ZoojaxError, match=r"timing\.parquet is damaged"):
        read_timing(tmp_path)
