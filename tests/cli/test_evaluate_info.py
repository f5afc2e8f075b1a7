"""`zoojax evaluate` and `zoojax info`."""

import dataclasses
import json

import numpy as np
import polars as pl
import pytest

from tests.support import cli_zoos, zoo_fixtures
from tests.support.kernel import SMALL_SPEC
from zoojax.ops import kernel

LAYERS = {f"sparsity_{layer}" for layer in ("conv1", "conv2", "conv3", "fc1", "fc2")}


@pytest.mark.parametrize("kind", zoo_fixtures.KINDS)
def test_evaluate_equals_the_metrics_of_the_zoo(tmp_path_factory, run_json, dense, kind):
    """Of each member; except for train accuracy, which is a running one during training."""
    zoo = dense if kind == "dense" else cli_zoos.sparsified(tmp_path_factory)[kind][0]
    printed = run_json("evaluate", zoo.path, "--members")
    assert printed["zoo"] == str(zoo.path)
    rows, last = pl.DataFrame(printed["rows"]), zoo.metrics.filter(epoch=2)
    assert rows["id"].to_list() == last["member"].to_list()
    assert rows["seed"].to_list() == zoo.members_table["seed"].to_list()
    for name in ("test_acc", "val_acc", "sparsity", *LAYERS):
        assert rows[name].to_list() == pytest.approx(last[name].to_list(), abs=1e-6)
    for name in ("test_loss", "val_loss"):
        assert rows[name].to_list() == pytest.approx(last[name].to_list(), rel=1e-4)


def test_evaluate_means_of_an_epoch(run_json, dense):
    (row,) = run_json("evaluate", dense.path, "--epoch", 0)["rows"]
    first = dense.metrics.filter(epoch=0)
    assert (row["epoch"], row["members"]) == (0, 3)
    for name in ("train_acc", "val_acc", "test_acc"):
        assert row[f"{name}_mean"] == pytest.approx(first[name].mean(), abs=1e-6)


def test_evaluate_on_other_images(run_cli, run_json, tmp_path_factory, dense):
    other = zoo_fixtures.other_images(tmp_path_factory)
    (row,) = run_json("evaluate", dense.path, "--data", other)["rows"]
    (own,) = run_json("evaluate", dense.path)["rows"]
    assert row["sparsity_mean"] == own["sparsity_mean"]
    rows = run_json("evaluate", dense.path, "--data", other, "--members")["rows"]
    own_rows = run_json("evaluate", dense.path, "--members")["rows"]
    assert [r["test_loss"] for r in rows] != [r["test_loss"] for r in own_rows]
    text = run_cli("evaluate", dense.path, "--data", other, "--members")
    assert (text.returncode, text.stderr) == (0, "")


def test_evaluate_refuses_more_classes(run_cli, dense, tmp_path):
    data = tmp_path / "eleven.npz"
    np.savez(data, images=np.zeros((22, 8, 8), np.uint8), labels=np.arange(22) % 11)
    zoo_fixtures.assert_refused(run_cli("evaluate", dense.path, "--data", data), "11 classes", "10")


@pytest.mark.parametrize("kind", zoo_fixtures.KINDS)
def test_info(tmp_path_factory, run_cli, run_json, dense, kind):
    zoo = dense if kind == "dense" else cli_zoos.sparsified(tmp_path_factory)[kind][0]
    facts = run_json("info", zoo.path)
    assert facts["kind"] == kind
    assert facts["members"] == len(zoo)
    assert (facts["newest_epoch"], facts["epochs"], facts["epochs_saved"]) == (2, 2, 3)
    assert facts["diverged_members"] == 0
    assert facts["batch_size"] == facts["config"]["batch_size"] == 10
    assert facts["preset"] is None
    for name, values in (
        ("optimizer", ["adam"]),
        ("learning_rate", [1e-2]),
        ("activation", ["tanh"]),
        ("init", ["kaiming_uniform"]),
    ):
        assert facts[name] == values
    assert facts.get("ratio") == ([0.0, 0.5, 0.9] if kind == "mp" else None)
    assert zoo.fingerprint.startswith(facts["fingerprint"])
    assert ("parent_path" in facts) == (kind != "dense")
    if kind != "dense":
        assert facts["parent_path"] == str(dense.path.resolve())
    text = run_cli("info", zoo.path)
    assert (text.returncode, text.stderr) == (0, "")
    assert str(zoo.path) in text.stdout
    assert "test_acc" in text.stdout
    lines = [line.strip() for line in text.stdout.splitlines()]
    for line in ("optimizer  adam", "learning rate  0.01", "batch size  10", "preset  none"):
        assert line in lines


def test_diverged_members(tmp_path_factory, run_cli, run_json):
    """They are counted, and their metrics are null, since NaN is not JSON."""
    out = tmp_path_factory.mktemp("cli") / "diverged"
    grid = dataclasses.replace(zoo_fixtures.GRID, learning_rates=(1e-2, 3e38))
    zoo = zoo_fixtures.train(tmp_path_factory, out, grid)
    assert run_json("info", zoo.path)["diverged_members"] == 3
    (row,) = run_json("evaluate", zoo.path)["rows"]
    assert (row["members"], row["diverged"]) == (6, 3)
    mean = zoo.metrics.filter(epoch=2).filter("finite")["test_acc"].mean()
    assert row["test_acc_mean"] == pytest.approx(mean, abs=1e-6)
    assert "3 member states diverged" in run_cli("evaluate", zoo.path).stdout
    rows = run_json("evaluate", zoo.path, "--members")["rows"]
    assert [r["test_loss"] is None for r in rows] == [False] * 3 + [True] * 3


def test_missing_zoo_and_epoch(run_cli, tmp_path, dense):
    for command in ("info", "evaluate"):
        zoo_fixtures.assert_refused(run_cli(command, tmp_path / "none"), tmp_path / "none")
        zoo_fixtures.assert_refused(run_cli(command, tmp_path), f"{tmp_path} is not a zoo")
    zoo_fixtures.assert_refused(
        run_cli("evaluate", dense.path, "--epoch", 9), "no epoch 9; it has epochs 0 to 2"
    )


def test_damaged_zoo(run_cli, tmp_path, dense):
    """One line, whatever Orbax and its threads print."""
    path = zoo_fixtures.copied(dense, tmp_path / "zoo")
    files = (f for f in (path / "states" / "2").rglob("*") if f.is_file())
    largest = max(files, key=lambda f: f.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:1000])
    zoo_fixtures.assert_refused(run_cli("evaluate", path), path / "states" / "2")
    content = json.loads((path / "zoo.json").read_text())
    (path / "zoo.json").write_text(json.dumps({**content, "schema": 99}))
    zoo_fixtures.assert_refused(run_cli("info", path), "schema 99")


def test_system_information(run_cli, run_json):
    facts = run_json("info", "--system")
    assert facts["devices"]["count"] >= 1 and set(facts["versions"]) >= {"zoojax", "jax"}
    reason = kernel.unavailable_reason(SMALL_SPEC)
    assert facts["engine"] == (f"XLA (no C++ kernel: {reason})" if reason else "C++ kernel")
    assert {"devices", "data", "kernels", "programs", "versions"} < set(facts)
    lines = run_cli("info", "--system").stdout.splitlines()
    assert f"  engine  {facts['engine']}" in lines
    if reason is None:
        few = "steps of Adam on XLA: it has at most 4096 weights in fully connected layers"
        assert f"  small: C++ kernel ({few})" in lines and "  lenet5: C++ kernel" in lines


@pytest.mark.parametrize("arguments", [(), ("zoo", "--system")])
def test_info_needs_a_zoo_or_system(run_cli, arguments):
    zoo_fixtures.assert_refused(run_cli("info", *arguments), "--system")
