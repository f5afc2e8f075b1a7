"""From zoos, or from nothing, to the report: `zoojax analyse` and `zoojax reproduce`."""

import shutil

import made_up_zoos
import polars as pl
import pytest
import zoos

REPRODUCE = (
    *("reproduce", "digits-s-seed", "--members", 3, "--ratios", 0.5, "--epochs", 2),
    *("--mp-epochs", 1, "--vd-epochs", 1),
)


def test_analyse_writes_tables_figures_and_the_page(tmp_path_factory, tmp_path):
    made = [make(tmp_path_factory).path for make in zoos.KINDS.values()]
    done = zoos.cli(tmp_path_factory, "analyse", *made, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"report: {tmp_path / 'report.html'}"
    assert "too few to predict" in done.stdout
    assert "<html" in (tmp_path / "report.html").read_text()[:200]
    assert {"members.parquet", "correlation.csv", "table1_agreement.tex"} <= {
        file.name for file in (tmp_path / "tables").iterdir()
    }
    figures = {file.name for file in (tmp_path / "figures").iterdir()}
    assert {"trajectories.svg", "correlation.png"} <= figures
    assert not list(tmp_path.rglob(".*"))


def test_analyse_refuses_what_does_not_belong_together(tmp_path_factory, tmp_path):
    other = made_up_zoos.dense(tmp_path / "other", 2)
    twin = zoos.dropped_out(tmp_path_factory).path
    done = zoos.cli(tmp_path_factory, "analyse", other.path, twin, "--out", tmp_path / "out")
    zoos.assert_refused(done, twin, "twin of another zoo")
    assert not (tmp_path / "out").exists()


def test_a_converted_zoo_is_analysed_with_its_twins(
    tmp_path_factory, tmp_path, reference, data_dir
):
    """Of the pruned there are states of two epochs: what is told is told of those."""
    folders = {"dense": "tune_zoo_usps_uniform", "mp": "cnn_small_usps_mp"}
    folders["vd"] = "cnn_small_usps_ard"
    for kind, folder in folders.items():
        options = ["--preset", "usps-s-seed", "--data-dir", data_dir, "--out", tmp_path / kind]
        options += [] if kind == "dense" else ["--parent", tmp_path / "dense"]
        done = zoos.cli(tmp_path_factory, "convert", "from-torch", reference / folder, *options)
        assert done.returncode == 0, done.stderr
    made = [tmp_path / kind for kind in folders]
    options = ("--data-dir", data_dir, "--out", tmp_path / "out")
    done = zoos.cli(tmp_path_factory, "analyse", *made, *options)
    assert done.returncode == 0, done.stderr
    tables = tmp_path / "out/tables"
    pruned = pl.read_parquet(tables / "correlation.parquet").filter(pl.col("method") == "mp")
    assert set(pruned["epoch"]) == {0, 15} and pruned["ratio"].n_unique() == 5
    agreed = pl.read_parquet(tables / "agreement_summary.parquet")
    last = agreed.filter((pl.col("method") == "mp") & (pl.col("ratio") == 0.5))
    assert last["agreement_mean"][0] == pytest.approx(0.9, abs=0.05)
    beside = pl.read_parquet(tables / "paper.parquet")
    assert (beside["members"] == 4).all() and {"Table 5", "Table 6"} <= set(beside["table"])


@pytest.mark.parametrize("missing", ["vd", "analysis"])
def test_reproduce_goes_on_where_it_was(tmp_path_factory, tmp_path, missing):
    """What is finished is left alone, what is missing is made, and both end alike."""
    whole = _reproduced(tmp_path_factory)
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    shutil.rmtree(out / missing)
    kept = zoos.contents(out / "dense") | zoos.contents(out / "mp")
    done = zoos.cli(tmp_path_factory, *REPRODUCE, "--out", out)
    assert done.returncode == 0, done.stderr
    assert zoos.contents(out / "dense") | zoos.contents(out / "mp") == kept
    for name in ("agreement", "trajectories"):
        again = pl.read_parquet(out / f"analysis/tables/{name}.parquet")
        assert again.equals(pl.read_parquet(whole / f"analysis/tables/{name}.parquet"))


@zoos.once
def _reproduced(factory: pytest.TempPathFactory):
    out = factory.mktemp("reproduced") / "run"
    done = zoos.cli(factory, *REPRODUCE, "--out", out)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"report: {out / 'analysis/report.html'}"
    return out


def test_reproduce_with_other_options_is_refused(tmp_path_factory, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(_reproduced(tmp_path_factory), out)
    options = [4 if option == 3 else option for option in REPRODUCE]
    zoos.assert_refused(zoos.cli(tmp_path_factory, *options, "--out", out), "other members")
