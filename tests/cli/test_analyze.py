"""From zoos, or from nothing, to the report: `zoojax analyse` and `zoojax reproduce`."""

import json
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from tests.support import disks, synthetic_zoos, zoo_fixtures
from zoojax import Zoo, ZoojaxError, analysis, figures, open_zoo, report
from zoojax.analysis import Analysis
from zoojax.analysis.folder import MARKER

REPRODUCE = (
    *("reproduce", "digits-s-seed", "--members", 3, "--ratios", 0.5, "--epochs", 2),
    *("--mp-epochs", 1, "--vd-epochs", 1),
)


def test_analyse_writes_tables_figures_and_the_page(tmp_path_factory, tmp_path):
    made = [make(tmp_path_factory).path for make in zoo_fixtures.KINDS.values()]
    done = zoo_fixtures.cli(tmp_path_factory, "analyze", *made, "--out", tmp_path)
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
    again = zoo_fixtures.cli(tmp_path_factory, "analyze", *made, "--out", tmp_path)
    assert again.returncode == 0, again.stderr


def made(factory: pytest.TempPathFactory) -> list[Path]:
    return [make(factory).path for make in zoo_fixtures.KINDS.values()]


@zoo_fixtures.once
def analysed(factory: pytest.TempPathFactory) -> Path:
    """The folder of an undisturbed analysis."""
    out = factory.mktemp("analysed") / "out"
    done = zoo_fixtures.cli(factory, "analyze", *made(factory), "--out", out)
    assert done.returncode == 0, done.stderr
    return out


# ---- Whose folder it is --------------------------------------------------------------------


@pytest.mark.parametrize("name", ["report.html", "tables", "figures"])
def test_a_folder_of_something_else_is_left_alone(tmp_path_factory, tmp_path, name):
    """Before anything is computed."""
    foreign = tmp_path / name
    foreign.mkdir() if name != "report.html" else foreign.write_text("another's")
    if name == "tables":
        (foreign / "members.csv").write_text("another's")
    before = zoo_fixtures.contents(tmp_path)
    done = zoo_fixtures.cli(tmp_path_factory, "analyze", *made(tmp_path_factory), "--out", tmp_path)
    zoo_fixtures.assert_refused(done, tmp_path, name, "--out another folder")
    assert zoo_fixtures.contents(tmp_path) == before


def test_a_folder_with_other_files_takes_an_analysis(tmp_path_factory, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / ".notes.txt.tmp-1").write_text("mine")
    done = zoo_fixtures.cli(
        tmp_path_factory, "analyze", zoo_fixtures.dense(tmp_path_factory).path, "--out", tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "notes.txt").exists() and (tmp_path / ".notes.txt.tmp-1").exists()


def test_the_analysis_of_another_zoo_is_left_alone(tmp_path_factory, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(analysed(tmp_path_factory), out)
    before = zoo_fixtures.contents(out)
    other = synthetic_zoos.dense(tmp_path / "other", 2).path
    done = zoo_fixtures.cli(tmp_path_factory, "analyze", other, "--out", out)
    zoo_fixtures.assert_refused(done, out, "another zoo", other)
    dense, mp, _ = made(tmp_path_factory)
    done = zoo_fixtures.cli(tmp_path_factory, "analyze", dense, mp, "--out", out)
    zoo_fixtures.assert_refused(done, out, "other twins")
    assert zoo_fixtures.contents(out) == before


def test_twins_may_be_added(tmp_path_factory, tmp_path):
    dense, mp, _ = made(tmp_path_factory)
    for twins in ((), (mp,), (mp,)):
        done = zoo_fixtures.cli(
            tmp_path_factory, "analyze", dense, *twins, "--out", tmp_path / "out"
        )
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "out/tables/correlation.csv").exists()


@pytest.mark.parametrize(
    "text",
    [
        *("", "{}", "[]", "null", '{"format": "zoojax-analysis"}', "\x00", "[" * 10**5),
        '{"format": "zoojax-analysis", "schema": 1, "zoo": "../x", "twins": []}',
        '{"format": "zoojax-analysis", "schema": 1, "zoo": 1, "twins": [null]}',
        '{"format": "zoojax-analysis", "schema": true, "zoo": "HASH", "twins": []}',
        '{"format": "zoojax-analysis", "schema": 2, "zoo": "HASH", "twins": []}',
        '{"format": "zoojax-analysis", "schema": 1, "zoo": "HASH", "twins": [], "more": 1}',
        '{"format": "zoojax-analysis", "schema": 1, "zoo": "HASH", "twins": "HASH"}',
    ],
)
def test_a_marker_of_something_else_is_refused(tmp_path_factory, tmp_path, text):
    zoo = zoo_fixtures.dense(tmp_path_factory)
    (tmp_path / MARKER).write_text(text.replace("HASH", zoo.fingerprint))
    done = zoo_fixtures.cli(tmp_path_factory, "analyze", zoo.path, "--out", tmp_path)
    zoo_fixtures.assert_refused(done, tmp_path / MARKER, "damaged")
    assert [file.name for file in tmp_path.iterdir()] == [MARKER]


def test_reproduce_asks_before_it_trains(tmp_path_factory, tmp_path):
    (tmp_path / "run/analysis").mkdir(parents=True)
    (tmp_path / "run/analysis/report.html").write_text("another's")
    done = zoo_fixtures.cli(tmp_path_factory, *REPRODUCE, "--out", tmp_path / "run")
    zoo_fixtures.assert_refused(done, "report.html")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["analysis"]


# ---- Killed --------------------------------------------------------------------------------

# Kills the process when a file has been written, but has not its name yet.
KILL = """
import os, signal, sys
from pathlib import Path
replace, left = Path.replace, [int(sys.argv[1])]

def killed(*arguments):
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    return replace(*arguments)

Path.replace = killed
from zoojax.cli.main import main
main(sys.argv[2:])
"""


@pytest.mark.parametrize(
    "files", [7, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2, 30, 45))]
)
def test_killed_and_repeated_it_ends_as_an_undisturbed_one(tmp_path_factory, tmp_path, files):
    """Every file, to the byte, and no other."""
    words = ["analyze", *made(tmp_path_factory), "--out", tmp_path / "out"]
    done = subprocess.run(
        [sys.executable, "-c", KILL, str(files), *map(str, words)],
        env=zoo_fixtures.environment(tmp_path_factory),
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert len(list((tmp_path / "out").rglob(".*.tmp-*"))) == 1
    assert zoo_fixtures.cli(tmp_path_factory, *words).returncode == 0
    again, whole = (
        {name: content for name, (content, _) in zoo_fixtures.contents(folder).items()}
        for folder in (tmp_path / "out", analysed(tmp_path_factory))
    )
    assert again.keys() == whole.keys()
    assert [name for name in whole if again[name] != whole[name]] == []


# ---- What cannot be written ----------------------------------------------------------------


@pytest.mark.parametrize("where", ["/proc/none", "file/out"])
def test_a_place_that_cannot_be_written_is_one_line(tmp_path_factory, tmp_path, where):
    (tmp_path / "file").write_text("")
    zoo, out = zoo_fixtures.dense(tmp_path_factory).path, tmp_path / where
    zoo_fixtures.assert_refused(
        zoo_fixtures.cli(tmp_path_factory, "analyze", zoo, "--out", out), out
    )


@pytest.mark.parametrize("what", ["tables", "figures", "page"])
def test_a_full_disk_is_one_line(tmp_path_factory, tmp_path, monkeypatch, what):
    """What was there stays, and nothing half written."""
    found = analysis.analyze(zoo_fixtures.dense(tmp_path_factory), [])
    monkeypatch.setattr(figures, "FIGURES", {"trajectories": figures.FIGURES["trajectories"]})
    write = {
        "tables": lambda: analysis.write_tables(found, tmp_path),
        "figures": lambda: figures.draw(found, tmp_path),
        "page": lambda: report.write(found, tmp_path / "report.html"),
    }[what]
    with disks.full(), pytest.raises(ZoojaxError, match="cannot write") as refused:
        write()
    assert str(tmp_path) in str(refused.value)
    assert list(tmp_path.iterdir()) == []


# ---- Names -----------------------------------------------------------------------------------

NASTY = (
    r"=cmd()|' $\foo$ $x_1$ [/b][red] <script>alert(1)</script> a|b ^~#%&_{}\ `c` "
    "[l](javascript:1)"
)


def test_a_name_is_shown_as_it_is_wherever_it_goes(tmp_path_factory, tmp_path):
    """From zoo.json through the whole command."""
    folders = [shutil.copytree(path, tmp_path / path.name) for path in made(tmp_path_factory)]
    for folder in folders:
        content = json.loads((folder / "zoo.json").read_text())
        (folder / "zoo.json").write_text(json.dumps(content | {"name": NASTY}))
    out = tmp_path / "out"
    done = zoo_fixtures.cli(tmp_path_factory, "analyze", *folders, "--out", out)
    assert done.returncode == 0, done.stderr
    page = (out / "report.html").read_text()
    assert "<script>alert" not in page and "\\u003cscript>alert(1)" in page
    assert "&lt;script&gt;alert(1)" in page
    markdown = (out / "tables/table1_agreement.md").read_text()
    assert r"a\|b" in markdown and r"\<script\>" in markdown and r"\](javascript" in markdown
    latex = (out / "tables/table1_agreement.tex").read_text()
    assert (
        r"a\textbar{}b \textasciicircum{}\textasciitilde{}\#\%\&\_\{\}\textbackslash{} "
        r"\textasciigrave{}c\textasciigrave{}"
    ) in latex


def renamed(found: Analysis, name: str) -> Analysis:
    zoo = Zoo(found.zoo.path, replace(found.zoo.config, name=name))
    return replace(found, zoo=zoo)


@pytest.mark.parametrize(
    "name",
    [NASTY, "\x1b[2J\n\r\t\u2028\u202e\ud800", "$" * 10_000, "x" * 10_000, "漢字 🙂", "\\$a$"],
)
def test_any_name_is_drawn_and_written(tmp_path_factory, tmp_path, name):
    """Such as no zoo that is opened has, in part."""
    found = renamed(analysis.analyze(zoo_fixtures.dense(tmp_path_factory), []), name)
    figure = figures.FIGURES["trajectories"](found)
    assert figure is not None
    figures.save(figure, tmp_path, "figure")
    analysis.write_tables(found, tmp_path)
    report.write(found, tmp_path / "report.html")
    shown = figure.get_supxlabel()
    assert len(shown) < 1000
    # An odd count of dollars that are not escaped, or an even one, is mathematics.
    assert shown.replace(r"\$", "").count("$") == 0
    page = (tmp_path / "report.html").read_text("utf-8")
    title = page[page.index("<title>") : page.index("</title>")]
    assert title.removeprefix("<title>").isprintable() and len(title) < 2000


def test_analyse_refuses_what_does_not_belong_together(tmp_path_factory, tmp_path):
    other = synthetic_zoos.dense(tmp_path / "other", 2)
    twin = zoo_fixtures.dropped_out(tmp_path_factory).path
    done = zoo_fixtures.cli(
        tmp_path_factory, "analyze", other.path, twin, "--out", tmp_path / "out"
    )
    zoo_fixtures.assert_refused(done, twin, "twin of another zoo")
    assert not (tmp_path / "out").exists()


def test_a_converted_zoo_is_analysed_with_its_twins(
    tmp_path_factory, tmp_path, reference, data_dir
):
    """Of the pruned there are states of two epochs, and measurements of sixteen."""
    folders = {"dense": "tune_zoo_usps_uniform", "mp": "cnn_small_usps_mp"}
    folders["vd"] = "cnn_small_usps_ard"
    for kind, folder in folders.items():
        options = ["--preset", "usps-s-seed", "--data-dir", data_dir, "--out", tmp_path / kind]
        options += [] if kind == "dense" else ["--parent", tmp_path / "dense"]
        done = zoo_fixtures.cli(
            tmp_path_factory, "convert", "from-torch", reference / folder, *options
        )
        assert done.returncode == 0, done.stderr
    made = [tmp_path / kind for kind in folders]
    options = ("--data-dir", data_dir, "--out", tmp_path / "out")
    done = zoo_fixtures.cli(tmp_path_factory, "analyze", *made, *options)
    assert done.returncode == 0, done.stderr
    tables = tmp_path / "out/tables"
    pruned = pl.read_parquet(tables / "correlation.parquet").filter(pl.col("method") == "mp")
    assert set(pruned["epoch"]) == set(range(16)) and pruned["ratio"].n_unique() == 5
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
    kept = zoo_fixtures.contents(out / "dense") | zoo_fixtures.contents(out / "mp")
    done = zoo_fixtures.cli(tmp_path_factory, *REPRODUCE, "--out", out)
    assert done.returncode == 0, done.stderr
    assert zoo_fixtures.contents(out / "dense") | zoo_fixtures.contents(out / "mp") == kept
    for name in ("agreement", "trajectories"):
        again = pl.read_parquet(out / f"analysis/tables/{name}.parquet")
        assert again.equals(pl.read_parquet(whole / f"analysis/tables/{name}.parquet"))


@zoo_fixtures.once
def _reproduced(factory: pytest.TempPathFactory):
    out = factory.mktemp("reproduced") / "run"
    done = zoo_fixtures.cli(factory, *REPRODUCE, "--out", out)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"report: {out / 'analysis/report.html'}"
    return out


def test_reproduce_with_other_options_is_refused(tmp_path_factory, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(_reproduced(tmp_path_factory), out)
    options = [4 if option == 3 else option for option in REPRODUCE]
    zoo_fixtures.assert_refused(
        zoo_fixtures.cli(tmp_path_factory, *options, "--out", out), "other members"
    )


def test_reproduce_and_analyse_as_json(tmp_path_factory, tmp_path):
    """One JSON document with numbers, of all populations; nothing else on standard output."""
    out = tmp_path / "run"
    shutil.copytree(_reproduced(tmp_path_factory), out)
    reproduced = zoo_fixtures.cli_json(tmp_path_factory, *REPRODUCE, "--out", out)
    made = [out / kind for kind in ("dense", "mp", "vd")]
    analysed = zoo_fixtures.cli_json(
        tmp_path_factory, "analyze", *made, "--out", tmp_path / "again"
    )
    assert reproduced["report"] == str(out / "analysis/report.html")
    assert analysed["report"] == str(tmp_path / "again/report.html")
    for printed in (reproduced, analysed):
        rows = printed["rows"]
        assert [(row["kind"], row["epoch"]) for row in rows] == [("dense", 2), ("mp", 1), ("vd", 1)]
        for row, path in zip(rows, made, strict=True):
            last = open_zoo(path).metrics.filter(epoch=row["epoch"])
            assert row["zoo"] == str(path) and row["members"] == 3
            assert row["test_acc_mean"] == pytest.approx(last["test_acc"].mean(), abs=1e-6)
        assert isinstance(printed["agreement_summary"][0]["agreement_mean"], float)
        assert all(isinstance(note, str) for note in printed["notes"])
        assert "paper" not in printed


def test_old_spelling_of_the_command_is_an_unlisted_alias(tmp_path_factory, tmp_path):
    zoo = zoo_fixtures.dense(tmp_path_factory).path
    done = zoo_fixtures.cli(tmp_path_factory, "analyse", zoo, "--out", tmp_path, "--quiet")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "report.html").exists()
    top = zoo_fixtures.cli(tmp_path_factory, "--help").stdout
    own = zoo_fixtures.cli(tmp_path_factory, "analyse", "--help").stdout
    assert "analyse" not in top and "analyze" in top
    assert "zoojax analyze" in own and "analyse" not in own
