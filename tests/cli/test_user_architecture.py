"""An architecture of a user, with batch statistics and a residual connection."""

import json
import signal

import polars as pl
import pytest

from tests.support import ROOT, interruptions, zoo_fixtures

PLUGINS = "tests.support.plugins.residual_cnn", "tests.support.plugins.moving_mask"
EPOCHS = 20


@pytest.fixture
def words(tmp_path_factory):
    """The command that trains a zoo, without its output folder."""
    return [
        *("--plugin", PLUGINS[0], "train", "digits-s-seed", "--architecture", "residual_cnn"),
        *("--data", zoo_fixtures.images(tmp_path_factory), "--members", 2, "--epochs", EPOCHS),
        *("--chunk", 2, "--quiet"),
    ]


def run(factory, *command: object) -> str:
    done = zoo_fixtures.cli_process(factory, *command)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_file_of_a_user_is_short():
    for name in ("residual_cnn", "mlp"):
        file = ROOT / f"tests/support/plugins/{name}.py"
        assert len(file.read_text().splitlines()) <= 60


def test_train_kill_resume_sparsify_and_analyze(tmp_path_factory, tmp_path, words):
    dense, twin = tmp_path / "dense", tmp_path / "twin"
    ended = interruptions.interrupt(
        tmp_path_factory, [*words, "--out", dense], dense, signal.SIGKILL, first="states/2"
    )
    assert ended.sent
    run(tmp_path_factory, *words, "--out", dense)
    run(tmp_path_factory, *words, "--out", tmp_path / "whole")
    for name in ("members", "metrics"):
        tables = (pl.read_parquet(tmp_path / zoo / f"{name}.parquet") for zoo in ("dense", "whole"))
        assert next(tables).equals(next(tables))

    # Nothing that a zoo names is imported.
    done = zoo_fixtures.cli_process(tmp_path_factory, "info", dense)
    zoo_fixtures.assert_refused(done, "residual_cnn", "--plugin")
    plugins = [word for name in PLUGINS for word in ("--plugin", name)]
    command = (*plugins, "sparsify", "moving-mask", dense, "--epochs", 2, "--quiet")
    run(tmp_path_factory, *command, "--out", twin)
    facts = json.loads(run(tmp_path_factory, *plugins, "info", twin, "--json"))
    assert "residual_cnn" in json.dumps(facts) and "moving" in json.dumps(facts)
    analysis = tmp_path / "analysis"
    run(tmp_path_factory, *plugins, "analyze", dense, twin, "--quiet", "--out", analysis)
    page = (analysis / "report.html").read_text()
    assert "moving mask" in page and "residual_cnn" in page
    layers = pl.read_parquet(analysis / "tables/layer_sparsity.parquet")["layer"].unique()
    assert set(layers) == {"stem", "block", "head"}
