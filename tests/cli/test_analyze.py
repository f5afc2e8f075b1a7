"""`zoojax analyze`: its files, its folder, kills, full disks, and hostile names."""

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
from zoojax import Zoo, ZoojaxError, analysis, figures, report
from zoojax.analysis import Analysis
from zoojax.analysis.folder import MARKER
from zoojax.cli.analyze import print_findings


def zoo_paths(factory: pytest.TempPathFactory) -> list[Path]:
    """Paths of a zoo and both its twins."""
    return [make(factory).path for make in zoo_fixtures.KINDS.values()]


@zoo_fixtures.once
def dense_analysis(factory: pytest.TempPathFactory) -> Analysis:
    """The analysis of a zoo without twins."""
    return analysis.analyze(zoo_fixtures.dense(factory), [])


@zoo_fixtures.once
def analysis_folder(factory: pytest.TempPathFactory) -> Path:
    """The folder of an uninterrupted analysis."""
    out = factory.mktemp("analysis_folder") / "out"
    done = zoo_fixtures.cli(factory, "analyze", *zoo_paths(factory), "--out", out)
    assert done.returncode == 0, done.stderr
    return out


def test_tables_figures_and_report_are_written(tmp_path_factory, tmp_path):
    paths = zoo_paths(tmp_path_factory)
    done = zoo_fixtures.cli(tmp_path_factory, "analyze", *paths, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"report: {tmp_path / 'report.html'}"
    printed = " ".join(done.stdout.split())
    assert "rows of correlation have no value: too few members (fewer than 20)" in printed
    assert "rows of predictability have no value: too few members (fewer than 100)" in printed
    assert "<html" in (tmp_path / "report.html").read_text()[:200]
    assert {"members.parquet", "correlation.csv", "table1_agreement.tex"} <= {
        file.name for file in (tmp_path / "tables").iterdir()
    }
    figures = {file.name for file in (tmp_path / "figures").iterdir()}
    assert {"trajectories.svg", "correlation.png"} <= figures
    assert not list(tmp_path.rglob(".*"))
    again = zoo_fixtures.cli(tmp_path_factory, "analyze", *paths, "--out", tmp_path)
    assert again.returncode == 0, again.stderr


def test_old_spelling_is_an_unlisted_alias(tmp_path_factory, tmp_path):
    zoo = zoo_fixtures.dense(tmp_path_factory).path
    done = zoo_fixtures.cli(tmp_path_factory, "analyse", zoo, "--out", tmp_path, "--quiet")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "report.html").exists()
    top = zoo_fixtures.cli(tmp_path_factory, "--help").stdout
    own = zoo_fixtures.cli(tmp_path_factory, "analyse", "--help").stdout
    assert "analyse" not in top and "analyze" in top
    assert "zoojax analyze" in own and "analyse" not in own


def test_twin_of_another_zoo_is_refused(tmp_path_factory, tmp_path):
    other = synthetic_zoos.dense(tmp_path / "other", 2)
    twin = zoo_fixtures.variational_dropout(tmp_path_factory).path
    done = zoo_fixtures.cli(
        tmp_path_factory, "analyze", other.path, twin, "--out", tmp_path / "out"
    )
    zoo_fixtures.assert_refused(done, twin, "twin of another zoo")
    assert not (tmp_path / "out").exists()


def test_converted_zoo_with_both_twins(tmp_path_factory, tmp_path, reference, data_dir):
    """The magnitude-pruned twin has states of two epochs, and metrics of sixteen."""
    folders = {"dense": "tune_zoo_usps_uniform", "mp": "cnn_small_usps_mp"}
    folders["vd"] = "cnn_small_usps_ard"
    for kind, folder in folders.items():
        options = ["--preset", "usps-s-seed", "--data-dir", data_dir, "--out", tmp_path / kind]
        options += [] if kind == "dense" else ["--parent", tmp_path / "dense"]
        done = zoo_fixtures.cli(
            tmp_path_factory, "convert", "from-torch", reference / folder, *options
        )
        assert done.returncode == 0, done.stderr
    paths = [tmp_path / kind for kind in folders]
    options = ("--data-dir", data_dir, "--out", tmp_path / "out")
    done = zoo_fixtures.cli(tmp_path_factory, "analyze", *paths, *options)
    assert done.returncode == 0, done.stderr
    tables = tmp_path / "out/tables"
    pruned = pl.read_parquet(tables / "correlation.parquet").filter(pl.col("method") == "mp")
    assert set(pruned["epoch"]) == set(range(16)) and pruned["ratio"].n_unique() == 5
    agreement = pl.read_parquet(tables / "agreement_summary.parquet")
    last = agreement.filter((pl.col("method") == "mp") & (pl.col("ratio") == 0.5))
    assert last["agreement_mean"][0] == pytest.approx(0.9, abs=0.05)
    paper = pl.read_parquet(tables / "paper.parquet")
    assert (paper["members"] == 4).all() and {"Table 5", "Table 6"} <= set(paper["table"])
    assert {0.5, 0.6, 0.7, 0.8, 0.9} <= set(paper.filter(table="Table 5")["ratio"])


@pytest.mark.parametrize("name", ["report.html", "tables", "figures"])
def test_folder_with_foreign_files_of_these_names_is_refused(tmp_path_factory, tmp_path, name):
    """Even before anything is computed."""
    foreign = tmp_path / name
    foreign.mkdir() if name != "report.html" else foreign.write_text("foreign")
    if name == "tables":
        (foreign / "members.csv").write_text("foreign")
    before = zoo_fixtures.contents(tmp_path)
    done = zoo_fixtures.cli(
        tmp_path_factory, "analyze", *zoo_paths(tmp_path_factory), "--out", tmp_path
    )
    zoo_fixtures.assert_refused(done, tmp_path, name, "--out another folder")
    assert zoo_fixtures.contents(tmp_path) == before


def test_folder_with_other_files_is_accepted(tmp_path_factory, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / ".notes.txt.tmp-1").write_text("mine")
    done = zoo_fixtures.cli(
        tmp_path_factory, "analyze", zoo_fixtures.dense(tmp_path_factory).path, "--out", tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "notes.txt").exists() and (tmp_path / ".notes.txt.tmp-1").exists()


def test_folder_of_another_analysis_is_refused(tmp_path_factory, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(analysis_folder(tmp_path_factory), out)
    before = zoo_fixtures.contents(out)
    other = synthetic_zoos.dense(tmp_path / "other", 2).path
    done = zoo_fixtures.cli(tmp_path_factory, "analyze", other, "--out", out)
    zoo_fixtures.assert_refused(done, out, "another zoo", other)
    dense, mp, _ = zoo_paths(tmp_path_factory)
    done = zoo_fixtures.cli(tmp_path_factory, "analyze", dense, mp, "--out", out)
    zoo_fixtures.assert_refused(done, out, "other twins")
    assert zoo_fixtures.contents(out) == before


def test_twins_may_be_added(tmp_path_factory, tmp_path):
    dense, mp, _ = zoo_paths(tmp_path_factory)
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
def test_damaged_marker_is_refused(tmp_path_factory, tmp_path, text):
    zoo = zoo_fixtures.dense(tmp_path_factory)
    (tmp_path / MARKER).write_text(text.replace("HASH", zoo.fingerprint))
    done = zoo_fixtures.cli(tmp_path_factory, "analyze", zoo.path, "--out", tmp_path)
    zoo_fixtures.assert_refused(done, tmp_path / MARKER, "damaged")
    assert [file.name for file in tmp_path.iterdir()] == [MARKER]


# Kills the process after a file is written, before it is renamed.
KILL = """
import os, signal, sys
from pathlib import Path
replace, left = Path.replace, [int(sys.argv[1])]

def kill_then_replace(*arguments):
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    return replace(*arguments)

Path.replace = kill_then_replace
from zoojax.cli.main import main
main(sys.argv[2:])
"""


@pytest.mark.parametrize(
    "files", [7, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2, 30, 45))]
)
def test_rerun_after_kill_matches_uninterrupted_run(tmp_path_factory, tmp_path, files):
    """All files have the same bytes, and there are no others."""
    words = ["analyze", *zoo_paths(tmp_path_factory), "--out", tmp_path / "out"]
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
    rerun, expected = (
        {name: content for name, (content, _) in zoo_fixtures.contents(folder).items()}
        for folder in (tmp_path / "out", analysis_folder(tmp_path_factory))
    )
    assert rerun.keys() == expected.keys()
    assert [name for name in expected if rerun[name] != expected[name]] == []


@pytest.mark.parametrize("where", ["/proc/none", "file/out"])
def test_unwritable_folder(tmp_path_factory, tmp_path, where):
    (tmp_path / "file").write_text("")
    zoo, out = zoo_fixtures.dense(tmp_path_factory).path, tmp_path / where
    zoo_fixtures.assert_refused(
        zoo_fixtures.cli(tmp_path_factory, "analyze", zoo, "--out", out), out
    )


@pytest.mark.parametrize("what", ["tables", "figures", "page"])
def test_full_disk(tmp_path_factory, tmp_path, monkeypatch, what):
    """No partial file is left."""
    result = dense_analysis(tmp_path_factory)
    monkeypatch.setattr(figures, "FIGURES", {"trajectories": figures.FIGURES["trajectories"]})
    write = {
        "tables": lambda: analysis.write_tables(result, tmp_path),
        "figures": lambda: figures.draw(result, tmp_path),
        "page": lambda: report.write(result, tmp_path / "report.html"),
    }[what]
    with disks.full(), pytest.raises(ZoojaxError, match="cannot write") as refused:
        write()
    assert str(tmp_path) in str(refused.value)
    assert list(tmp_path.iterdir()) == []


NASTY = (
    r"=cmd()|' $\foo$ $x_1$ [/b][red] <script>alert(1)</script> a|b ^~#%&_{}\ `c` "
    "[l](javascript:1)"
)


def test_hostile_name_is_escaped_in_all_files(tmp_path_factory, tmp_path):
    """A name in zoo.json."""
    folders = [shutil.copytree(path, tmp_path / path.name) for path in zoo_paths(tmp_path_factory)]
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


def renamed(result: Analysis, name: str) -> Analysis:
    zoo = Zoo(result.zoo.path, replace(result.zoo.config, name=name))
    return replace(result, zoo=zoo)


@pytest.mark.parametrize(
    "name",
    [NASTY, "\x1b[2J\n\r\t\u2028\u202e\ud800", "$" * 10_000, "x" * 10_000, "漢字 🙂", "\\$a$"],
)
def test_any_name_can_be_drawn_and_written(tmp_path_factory, tmp_path, name):
    """Also names that `open_zoo` refuses."""
    result = renamed(dense_analysis(tmp_path_factory), name)
    figure = figures.FIGURES["trajectories"](result)
    assert figure is not None
    figures.save(figure, tmp_path, "figure")
    analysis.write_tables(result, tmp_path)
    report.write(result, tmp_path / "report.html")
    shown = figure.get_supxlabel()
    assert len(shown) < 1000
    # Unescaped dollar signs would start math mode.
    assert shown.replace(r"\$", "").count("$") == 0
    page = (tmp_path / "report.html").read_text("utf-8")
    title = page[page.index("<title>") : page.index("</title>")]
    assert title.removeprefix("<title>").isprintable() and len(title) < 2000


def test_crossover_of_each_pair_is_printed(tmp_path_factory, capsys):
    dense, mp, vd = (make(tmp_path_factory) for make in zoo_fixtures.KINDS.values())
    second = Zoo(mp.path.with_name("second"), replace(mp.config, name="second"))
    crossing = pl.DataFrame(
        {
            "method": ["mp", "mp-2"],
            "other_method": ["vd", "vd"],
            "above": [0.85, None],
            "below": [0.9, None],
            "sparsity": [None, None],
            "members": [12, None],
        },
        schema_overrides={"sparsity": pl.Float64},
    )
    analysis = Analysis(dense, [mp, second, vd], {"crossing": crossing}, notes=["a note"])
    print_findings(analysis)
    printed = " ".join(capsys.readouterr().out.split())
    assert printed.startswith("note: a note variational dropout becomes more accurate than ")
    assert printed.count("more accurate") == 1
    assert f"magnitude pruning ({mp.config.name}) between" in printed
    between = "the measured sparsities 85 % and 90 %"
    assert f"{between} (means of 12 members)" in printed
    analysis.tables["crossing"] = crossing.with_columns(
        sparsity=pl.when(pl.col("method") == "mp").then(0.868)
    )
    print_findings(analysis)
    printed = " ".join(capsys.readouterr().out.split())
    assert f"{between}, at about 87 % by interpolation (means of 12 members)" in printed
