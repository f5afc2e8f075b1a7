"""Analyzing and describing zoos in Python; the commands' tests hold what they write and print."""

from pathlib import Path

import pytest

from tests.support import zoo_fixtures
from zoojax import ZoojaxError, analysis
from zoojax.analysis import Analysis
from zoojax.workflows.analyze import analyze
from zoojax.workflows.info import info, system_info
from zoojax.workflows.reproduce import reproduce


@zoo_fixtures.once
def unwritten(factory: pytest.TempPathFactory) -> Analysis:
    """An analysis of a dense zoo, given opened."""
    return analyze(zoo_fixtures.dense(factory), out=None)


def test_analysis_without_a_folder(tmp_path_factory, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = unwritten(tmp_path_factory)
    assert (result.path, result.page) == (None, None)
    assert not list(tmp_path.iterdir())
    expected = analysis.analyze(zoo_fixtures.dense(tmp_path_factory), [])
    assert result.tables.keys() == expected.tables.keys()
    assert result.tables["trajectories"].equals(expected.tables["trajectories"])


@pytest.mark.parametrize("kind", [str, Path])
def test_zoo_by_its_folder(tmp_path_factory, tmp_path, monkeypatch, kind):
    """Also below `~`; the default folder is `analysis` in the working directory."""
    zoo = zoo_fixtures.dense(tmp_path_factory)
    stub = Analysis(zoo, [])
    monkeypatch.setenv("HOME", str(zoo.path.parent))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("zoojax.workflows.analyze.compute_tables", lambda *_, **__: stub)
    for name in ("write_tables", "report.write"):
        monkeypatch.setattr(f"zoojax.workflows.analyze.{name}", lambda *_: None)
    monkeypatch.setattr("zoojax.workflows.analyze.figures.draw", lambda *_: [])
    result = analyze(kind(f"~/{zoo.path.name}"))
    assert result.path == Path("analysis") and result.page == Path("analysis/report.html")
    assert (tmp_path / "analysis/analysis.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((5,), "^zoo is 5; give a zoo or the folder of one$"),
        (("none",), "^none is not a folder"),
        (("{zoo}", None), "^a twin is None; give a zoo"),
    ],
)
def test_what_is_not_a_zoo(tmp_path_factory, arguments, message):
    path = str(zoo_fixtures.dense(tmp_path_factory).path)
    arguments = [path if each == "{zoo}" else each for each in arguments]
    with pytest.raises(ZoojaxError, match=message):
        analyze(*arguments)


def test_other_invalid_arguments_of_analyze(tmp_path_factory):
    zoo = zoo_fixtures.dense(tmp_path_factory)
    with pytest.raises(ZoojaxError, match=r"^representation is 3; give a hyper-representation"):
        analyze(zoo, representation=3)  # pyright: ignore
    with pytest.raises(ZoojaxError, match=r"^out is 3; give the path"):
        analyze(zoo, out=3)  # pyright: ignore
    with pytest.raises(ZoojaxError, match=r"^data is 3; give the path"):
        analyze(zoo, data=3)  # pyright: ignore
    with pytest.raises(ZoojaxError, match="root folder"):
        analyze(zoo, out="/")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("usps", "out"), "no preset named 'usps'; did you mean 'usps-siren'"),
        ((None, "out"), "preset is None; give the name of a preset"),
        (("digits-s-seed", None), "out is None; give the path"),
    ],
)
def test_invalid_arguments_of_reproduce(tmp_path, monkeypatch, arguments, message):
    """Nothing is written."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ZoojaxError, match=message):
        reproduce(*arguments)
    assert not list(tmp_path.iterdir())


def test_invalid_ratios_are_refused_before_training(tmp_path):
    for ratios, message in (
        ((1.5,), r"1\.5 is not in"),
        (("x",), "pruning ratio is x; give a number"),
        (0.5, r"ratios is 0\.5; give a tuple of numbers"),
    ):
        with pytest.raises(ZoojaxError, match=message):
            reproduce("digits-s-seed", tmp_path / "out", members=1, ratios=ratios)  # pyright: ignore
    assert not list(tmp_path.iterdir())


def test_info_of_a_zoo(tmp_path_factory):
    zoo = zoo_fixtures.dense(tmp_path_factory)
    facts = info(zoo)
    assert facts == info(str(zoo.path))
    assert (facts["name"], facts["members"], facts["newest_epoch"]) == ("tiny", 3, 2)
    assert facts["rows"][0]["epoch"] == 2 and facts["config"]["batch_size"] == 10
    checked = info(zoo, check=True)
    assert checked == {"zoo": zoo.path, "epochs": 3, "missing": [], "damaged": []}


def test_info_of_the_system():
    facts = info(system=True)
    assert facts == system_info()
    engines = facts["networks"]
    assert engines["resnet18"].startswith("XLA (")
    for name in ("small", "medium", "lenet5", "siren"):
        assert engines[name].startswith(facts["engine"])
    for ask in (info, lambda: info("zoo", system=True), lambda: info(check=True)):
        with pytest.raises(ZoojaxError, match="give the folder of a zoo"):
            ask()
