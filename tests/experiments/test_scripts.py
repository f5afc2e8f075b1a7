"""The scripts that reproduce the paper's tables and figures, on tiny zoos of bundled digits."""

import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import polars as pl
import pytest

from tests.support import ROOT, representations, zoo_fixtures
from zoojax import ZoojaxError, open_zoo
from zoojax.analysis import paper_results, rank_correlation, summary
from zoojax.analysis.paper import published_representations
from zoojax.experiments import common
from zoojax.hyper_representation import settings

TABLES = [f"table{number}" for number in range(1, 9)]
FIGURES = [f"figure{number}" for number in range(2, 6)]
SCRIPTS = [*TABLES, *FIGURES]
PRESET = "digits-s-seed"
# Seven members are the fewest that a hyper-representation can split.
TINY = ("--members", "7", "--epochs", "1", "--mp-epochs", "1", "--vd-epochs", "2")


def script(name: str) -> ModuleType:
    return importlib.import_module(f"zoojax.experiments.{name}")


@zoo_fixtures.once
def folder(factory: pytest.TempPathFactory) -> Path:
    """The --out of all scripts: they share one dense zoo and its twins."""
    return factory.mktemp("experiments")


@pytest.fixture
def out(tmp_path_factory) -> Path:
    return folder(tmp_path_factory)


@pytest.fixture
def reproduce(out, capsys):
    """Runs a script with tiny settings and returns what it printed."""

    def run(name: str, *options: str) -> str:
        script(name).main(["--presets", PRESET, *TINY, "--out", str(out), *options])
        return capsys.readouterr().out

    return run


def table_of(out: Path, name: str) -> pl.DataFrame:
    return pl.read_csv(out / f"{name}.csv", infer_schema_length=None)


def test_one_script_per_table_and_figure():
    files = {path.stem for path in (ROOT / "experiments").glob("*.py")}
    assert files == {"__init__", "common", "geometry", *SCRIPTS}


@pytest.mark.parametrize("name", SCRIPTS)
def test_help(name, capsys):
    with pytest.raises(SystemExit) as exit_status:
        script(name).main(["--help"])
    text = capsys.readouterr().out
    assert exit_status.value.code == 0
    assert f"python -m zoojax.experiments.{name} " in text
    for option in ("--members", "--epochs", "--out", "--presets", "--data-dir"):
        assert option in text


@pytest.mark.parametrize("name", SCRIPTS)
def test_documented_command(name, monkeypatch):
    """The command in the docstring names the script, and its arguments are valid."""
    module = script(name)
    (command,) = (
        line.split() for line in (module.__doc__ or "").splitlines() if " -m zoojax" in line
    )
    parsed = []

    def reproduce(*rest):
        parsed.append(rest)
        return {"zoo": "x"} if name == "table4" else pl.DataFrame({"zoo": ["x"]})

    monkeypatch.setattr(module, "reproduce", reproduce)
    monkeypatch.setattr(common, "save_table", lambda *rest: None)
    module.main(command[3:])
    assert parsed and command[:3] == ["python", "-m", f"zoojax.experiments.{name}"]


@pytest.mark.parametrize(
    ("name", "table", "zoos"),
    [
        ("table1", "Tables 1, 9", ("mnist-s-seed", "usps-s-seed", "svhn-s-seed", "stl10-s-seed")),
        ("table1", "Tables 1, 9", ("fmnist-s-seed", "cifar10-s-seed")),
        ("table2", "Table 2", ("mnist-s-seed", "usps-s-seed", "svhn-s-seed", "fmnist-s-seed")),
        ("table2", "Table 2", ("cifar10-s-seed", "cifar10-l-seed", "stl10-s-seed")),
        ("table2", "Table 2", ("stl10-l-seed",)),
        ("table5", "Table 5", ("usps-s-seed",)),
        ("table6", "Table 6", ("usps-s-seed",)),
        ("table7", "Table 7", ("usps-s-seed",)),
        ("table8", "Table 8", ("usps-s-seed",)),
    ],
)
def test_expected_results_are_the_papers(name, table, zoos):
    """Every value that the paper has is in the docstring as it is printed."""
    doc = script(name).__doc__ or ""
    for zoo in zoos:
        rows = paper_results(zoo).filter(pl.col("table") == table)
        lines = [line for line in doc.splitlines() if zoo in line and len(zoos) > 1] or [doc]
        assert len(rows)
        for mean, std in rows.select("mean", "std").iter_rows():
            value = f"{100 * mean:.1f}" + ("" if std is None else f" ({100 * std:.1f})")
            assert any(value in line for line in lines), (zoo, value)


def test_expected_representations_are_the_papers():
    doc = script("table3").__doc__ or ""
    for zoo, *values in published_representations().iter_rows():
        (line,) = (line for line in doc.splitlines() if line.strip().startswith(zoo))
        assert line.split()[1:] == [f"{100 * value:.1f}" for value in values]


def test_agreement(reproduce, out):
    printed = reproduce("table1")
    table = table_of(out, "table1")
    assert table["method"].to_list() == ["mp"] * 3 + ["vd"] * 3
    assert table["quantity"].to_list() == ["test_acc", "sparsity", "agreement"] * 2
    assert table["members"].to_list() == [7] * 6
    assert table["mean"].is_between(0, 1).all()
    # A mean of 0.8 of the weights: digits-s-seed is not in the paper.
    assert table["mean"][1] == pytest.approx(0.8, abs=1e-3)
    assert table["paper_mean"].null_count() == 6
    assert PRESET in printed and "80.0 (0.0)" in printed and "table1.csv" in printed


@pytest.mark.parametrize("needed", [7, 20])
def test_correlation(reproduce, out, monkeypatch, needed):
    monkeypatch.setattr(rank_correlation, "MIN_MEMBERS", needed)
    printed = reproduce("table2")
    table = table_of(out, "table2")
    assert table["quantity"].to_list() == ["pearson", "kendall"] * 2
    assert table["members"].to_list() == [7] * 4
    assert table["mean"].null_count() == (4 if needed > 7 else 0)
    assert ("too few members" in printed) == (needed > 7)
    assert (" [" in printed) == (needed <= 7)


def test_representation(reproduce, out, monkeypatch):
    """With an autoencoder that keeps its initial weights: compiling its training takes long."""
    target = "zoojax.hyper_representation.api.train_autoencoder"
    monkeypatch.setattr(target, representations.train_stub)
    monkeypatch.setitem(settings.PRESETS, "small", representations.SETTINGS)
    reproduce("table3", "--representation-epochs", "1")
    table = table_of(out, "table3")
    assert table.columns == ["zoo", "weights", "alphas", "accuracy", "sparsity", "epoch", "ggap"]
    assert len(table) == 1 and table["weights"].is_finite().all()


def test_configuration(tmp_path, capsys):
    script("table4").main(["--out", str(tmp_path)])
    table = table_of(tmp_path, "table4")
    assert len(table) == 14 and "usps-s-seed" in capsys.readouterr().out
    weights = dict(table.select("zoo", "weights").iter_rows())
    assert (weights["mnist-s-seed"], weights["cifar10-s-seed"]) == (2416, 2816)
    assert weights["stl10-l-seed"] == 10760
    (row,) = table.filter(zoo="cifar10-l-random").to_dicts()
    assert row["activation"] == "tanh, relu, sigmoid, gelu"
    assert (row["learning_rate_vd"], row["weight_decay"]) == ("5e-06", "0.01, 0.001")


def test_pruning(reproduce, out):
    reproduce("table5")
    table = table_of(out, "table5")
    assert len(table) == 2 * 2 * len(common.RATIOS)
    assert table["epoch"].unique().sort().to_list() == [0, 1]
    expected = summary(open_zoo(out / PRESET / "mp")).filter(ratio=0.5, epoch=1)
    (mean,) = table.filter(ratio=0.5, epoch=1, quantity="test_acc")["mean"]
    assert mean == pytest.approx(expected["test_acc_mean"][0])


def test_variational_dropout(reproduce, out):
    reproduce("table6")
    table = table_of(out, "table6")
    assert table["quantity"].unique(maintain_order=True).to_list() == [
        *("test_acc", "sparsity", "ggap")
    ]
    assert table["epoch"].to_list() == [0, 2] * 3


@pytest.mark.parametrize(
    ("name", "key", "values"), [("table7", "epoch", 1), ("table8", "ratio", 3)]
)
def test_layer_sparsity(reproduce, out, name, key, values):
    reproduce(name)
    table = table_of(out, name)
    assert table[key].n_unique() == values
    quantities = table["quantity"].unique(maintain_order=True).to_list()
    layers = [f"sparsity_{layer}" for layer in ("conv1", "conv2", "conv3", "fc1", "fc2")]
    assert quantities == [*layers, "test_acc", "ggap"]


@pytest.mark.parametrize("name", FIGURES)
def test_figure(reproduce, out, name):
    printed = reproduce(name)
    for kind in ("png", "svg"):
        file = out / f"{name}-{PRESET}.{kind}"
        assert file.stat().st_size > 1000
    assert f"{name}-{PRESET}.png" in printed


def test_complete_zoos_are_not_trained_again(reproduce, out, capsys):
    reproduce("table6")
    before = (out / PRESET / "vd" / "metrics.parquet").stat().st_mtime_ns
    script("table6").main(["--presets", PRESET, *TINY, "--out", str(out)])
    assert "variational dropout: already complete (epoch 2)" in capsys.readouterr().err
    assert (out / PRESET / "vd" / "metrics.parquet").stat().st_mtime_ns == before


def test_other_options_for_a_folder_are_refused(reproduce, out):
    reproduce("table6")
    with pytest.raises(ZoojaxError):
        script("table6").main(["--presets", PRESET, *TINY, "--out", str(out), "--members", "2"])


def test_unknown_preset(tmp_path, capsys):
    main = script("table6").main
    arguments = ["--presets", "usps-s-sed", "--out", str(tmp_path)]
    assert common.run(lambda: main(arguments)) == 2
    assert "did you mean 'usps-s-seed'?" in capsys.readouterr().err


def test_interruption(capsys):
    def interrupted():
        raise KeyboardInterrupt

    assert common.run(interrupted) == 130
    assert "rerun the command to resume from the last complete epoch" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
def test_module_command(name, tmp_path):
    """As a user starts it, without training: --help."""
    command = [sys.executable, "-m", f"zoojax.experiments.{name}", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert f"python -m zoojax.experiments.{name}" in done.stdout


@pytest.mark.slow
def test_trained_representation(reproduce, out, monkeypatch):
    monkeypatch.setitem(settings.PRESETS, "paper", representations.SETTINGS)
    reproduce("table3", "--settings", "paper", "--representation-epochs", "2")
    assert table_of(out, "table3")["weights"].is_finite().all()


@pytest.mark.slow
def test_usps_next_to_the_paper(data_dir, tmp_path):
    """Zoos trained as the preset says have the paper's values in their table."""
    options = ["--members", "3", "--data-dir", str(data_dir), "--out", str(tmp_path)]
    script("table5").main(options)
    table = table_of(tmp_path, "table5")
    assert table["paper_mean"].null_count() == 0
    (row,) = table.filter(ratio=0.8, epoch=15, quantity="test_acc").to_dicts()
    assert (row["paper_mean"], row["paper_std"]) == (0.885, 0.009)
    assert row["mean"] == pytest.approx(row["paper_mean"], abs=0.05)
