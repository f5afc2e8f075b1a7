"""Callbacks, event files and log files of trainings; also of killed and resumed ones."""

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.support import zoo_fixtures
from tests.support.damage import refuses
from zoojax import RunLog, TensorBoard, Zoo, open_zoo
from zoojax.progress import training_progress
from zoojax.training.callbacks import EpochMetrics
from zoojax.training.trainer import Progress


def read(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "histograms": 0})
    return events.Reload()


def curve(folder: Path, tag: str) -> list[tuple[int, float]]:
    return [(each.step, each.value) for each in read(folder).Scalars(tag)]


def stop_at(epoch: int):
    """A callback that stops the training after an epoch, like a signal."""

    def stop(done: EpochMetrics) -> None:
        if done.is_new and done.epoch == epoch:
            raise KeyboardInterrupt

    return stop


@pytest.fixture(scope="module")
def stopped(tmp_path_factory) -> Zoo:
    """A zoo whose training was stopped after epoch 1 and resumed, with all logs."""
    out = tmp_path_factory.mktemp("logged") / "zoo"
    with pytest.raises(KeyboardInterrupt):
        zoo_fixtures.train(
            tmp_path_factory, out, callbacks=[TensorBoard(), RunLog(["zoojax", "x"]), stop_at(1)]
        )
    assert open_zoo(out).epochs == [0, 1]
    return zoo_fixtures.train(tmp_path_factory, out, callbacks=[TensorBoard(), RunLog()])


def test_callbacks_do_not_change_the_zoo(tmp_path_factory, stopped):
    zoo_fixtures.assert_same_zoo(stopped, zoo_fixtures.dense(tmp_path_factory))


def test_resumed_run_gives_one_clean_curve(stopped):
    folder, metrics = stopped.path / "logs" / "tensorboard", stopped.metrics
    assert len(list(folder.iterdir())) == 1
    for name in ("test_acc", "train_loss", "sparsity_conv1"):
        means = [metrics.filter(epoch=e)[name].mean() for e in stopped.epochs]
        steps, values = zip(*curve(folder, f"{name}/mean"), strict=True)
        assert list(steps) == stopped.epochs
        assert np.allclose(values, np.array(means, np.float32))
        last = metrics.filter(epoch=2)[name].quantile(0.25, "linear")
        assert last is not None
        assert np.isclose(curve(folder, f"{name}/q25")[-1][1], last)


def test_histograms_are_over_members(stopped):
    events = read(stopped.path / "logs" / "tensorboard").Histograms("test_acc/members")
    values = stopped.metrics.filter(epoch=2)["test_acc"]
    assert [each.step for each in events] == stopped.epochs
    found = events[-1].histogram_value
    assert found.num == len(values)
    assert np.isclose([found.min, found.max], [values.min(), values.max()]).all()


def test_log_file_per_run(stopped):
    files = sorted((stopped.path / "logs").glob("*.log"))
    first, second = (file.read_text().splitlines() for file in files)
    assert first[0].endswith("command: zoojax x")
    assert [re.findall(r"epoch \d/\d", line) for line in first[2:]] == [
        ["epoch 0/2"],
        ["epoch 1/2"],
    ]
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d epoch 2/2: mean .*test_acc 0\.\d+.*; \d+:\d\d since the "
        "start",
        second[-1],
    )


def test_complete_zoo_is_reported_but_writes_no_log_file(tmp_path_factory, stopped, tmp_path):
    path, calls = zoo_fixtures.copied(stopped, tmp_path / "zoo"), []
    before = sorted((path / "logs").glob("*.log"))
    zoo_fixtures.train(tmp_path_factory, path, callbacks=[calls.append, RunLog()])
    assert [(each.epoch, each.is_new) for each in calls] == [(0, False), (1, False), (2, False)]
    assert all(len(each.metrics) == len(stopped) for each in calls)
    assert sorted((path / "logs").glob("*.log")) == before


def test_twins_have_a_curve_per_ratio(tmp_path_factory, tmp_path):
    parent = zoo_fixtures.dense(tmp_path_factory)
    board = TensorBoard(tmp_path / "board")
    twin = zoo_fixtures.prune(
        tmp_path / "twin", parent, [0.5, 0.9], epochs=0, chunk=4, callbacks=[board]
    )
    for ratio in (0.5, 0.9):
        ids = twin.members_table.filter(ratio=ratio)["id"].implode()
        mean = twin.metrics.filter(pl.col("member").is_in(ids))["test_acc"].to_numpy().mean()
        ((step, value),) = curve(tmp_path / "board", f"test_acc_at_ratio_{ratio}/mean")
        assert step == 0
        assert np.isclose(value, mean)


def test_members_without_finite_values_are_left_out(tmp_path, tmp_path_factory):
    zoo = zoo_fixtures.dense(tmp_path_factory)
    metrics = zoo.metrics.filter(epoch=1)
    broken = metrics.with_columns(
        test_loss=pl.Series([float("nan"), float("inf"), 2.0], dtype=metrics["test_loss"].dtype),
        val_loss=pl.lit(float("nan"), metrics["val_loss"].dtype),
    )
    TensorBoard(tmp_path)(EpochMetrics(zoo, 1, broken, True))
    assert curve(tmp_path, "test_loss/mean") == [(1, 2.0)]
    assert "val_loss/mean" not in read(tmp_path).Tags()["scalars"]


def test_extension_reports_the_extended_zoo(tmp_path_factory, tmp_path):
    calls: list[EpochMetrics] = []
    options: dict[str, Any] = {"callbacks": [calls.append]}
    zoo_fixtures.train(tmp_path_factory, tmp_path / "zoo", epochs=0, members=1, **options)
    zoo_fixtures.train(tmp_path_factory, tmp_path / "zoo", epochs=1, members=2, **options)
    assert [(each.epoch, len(each.metrics)) for each in calls] == [(0, 1), (0, 2), (1, 2)]


def test_zoo_in_memory(tmp_path_factory, tmp_path):
    calls: list[EpochMetrics] = []
    options: dict[str, Any] = {"out": None, "epochs": 1, "members": 1}
    zoo_fixtures.train(tmp_path_factory, callbacks=[calls.append], **options)
    assert [each.epoch for each in calls] == [0, 1]
    with refuses("give TensorBoard a folder"):
        zoo_fixtures.train(tmp_path_factory, callbacks=[TensorBoard()], **options)


@pytest.mark.parametrize("callbacks", [print, 3, [3], None], ids=str)
def test_invalid_callbacks(tmp_path_factory, tmp_path, callbacks):
    with refuses("callback"):
        zoo_fixtures.train(tmp_path_factory, tmp_path / "zoo", callbacks=callbacks)
    assert not (tmp_path / "zoo").exists()


def test_missing_library_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with refuses("pip install 'zoojax[tensorboard]'"):
        TensorBoard()


def test_command_line(tmp_path_factory, tmp_path):
    words = ["train", "digits-s-seed", "--data", zoo_fixtures.images(tmp_path_factory)]
    words += ["--members", 1, "--epochs", 1, "--quiet", "--out", tmp_path / "zoo"]
    done = zoo_fixtures.cli(tmp_path_factory, *words, "--log", "tensorboard")
    assert done.returncode == 0, done.stderr
    assert [step for step, _ in curve(tmp_path / "zoo/logs/tensorboard", "test_acc/mean")] == [0, 1]
    assert len(list((tmp_path / "zoo" / "logs").glob("*.log"))) == 1
    refused = zoo_fixtures.cli(tmp_path_factory, *words, "--log", "wandb")
    zoo_fixtures.assert_refused(refused, "--log", "wandb", "tensorboard")


def test_times_off_a_terminal_are_in_hours_and_minutes(capsys, monkeypatch):
    clock = iter([0.0, 100.0, 100.0])
    monkeypatch.setattr("zoojax.progress.time.monotonic", lambda: next(clock))
    with training_progress("train", quiet=False) as report:
        assert report is not None
        report(Progress(0, 100, 0, 1000))
        report(Progress(1, 100, 10, 1000))
    assert capsys.readouterr().err.endswith(", 2:45 left\n")
