"""The page's comparison of methods: two made-up twins, and twenty."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from tests.report.conftest import random_weights_and_predictions
from tests.support import synthetic_zoos
from tests.support.masked_twins import random_twin
from tests.support.report_page import Reader
from zoojax import MagnitudePruning, RandomPruning, report
from zoojax.analysis import Analysis, analyze

RATIOS = (0.5, 0.9)
SECONDS = 3.0


def accuracy(slope: float):
    """Test accuracies of members that fall with the ratio."""
    return lambda table: (
        synthetic_zoos.quality(table["seed"].to_numpy()) - slope * table["ratio"].to_numpy()
    )


@pytest.fixture(scope="module")
def compared(tmp_path_factory) -> Iterator[Analysis]:
    folder = tmp_path_factory.mktemp("compared")
    with random_weights_and_predictions():
        zoo = synthetic_zoos.dense(folder / "dense", 8)
        mp = random_twin(folder / "mp", zoo, MagnitudePruning(RATIOS), accuracy(0.1), 1)
        rp = random_twin(folder / "rp", zoo, RandomPruning(RATIOS), accuracy(0.3), 2)
        yield analyze(zoo, [mp, rp])


def rows(reader: Reader) -> list[str]:
    reader.drawn("k")
    return reader.page.locator("#k-table tbody tr").all_text_contents()


def test_comparison_of_two(browser, compared, tmp_path):
    report.write(compared, tmp_path / "page.html")
    reader = Reader(browser, tmp_path / "page.html")
    assert reader.page.locator("#k-sparsity option").all_text_contents() == ["50%", "90%"]
    assert reader.page.eval_on_selector("#k-sparsity", "(e) => e.value") == "90%"
    # The better method is filled, the other one is not.
    assert reader.drawn("k", "each.y") == [["MP"], ["RP"]]
    (row,) = rows(reader)
    assert row.startswith("RP−18.0 [−18.0, −18.0]0%")
    reader.page.select_option("#k-reference", label="RP")
    (row,) = rows(reader)
    assert row.startswith("MP+18.0") and "100%" in row
    reader.page.select_option("#k-sparsity", label="50%")
    assert rows(reader)[0].startswith("MP+10.0")
    reader.page.click("#show-none")
    assert rows(reader) == [] and reader.drawn("k", "each.y") == [[], []]
    reader.page.click("#show-all")
    assert len(rows(reader)) == 1
    reader.page.uncheck("input[name=show-mp]")
    assert reader.drawn("k", "each.y") == [[], ["RP"]]
    reader.close()
    assert reader.complaints == []


def twenty(analysis: Analysis) -> Analysis:
    """Twenty twins with the members of one, and made-up comparisons."""
    (method, *_) = analysis.whole_methods
    twins = [method.zoo[:] for _ in range(20)]
    result = replace(analysis, twins=twins, tables=dict(analysis.tables), matrices={})
    keys = [each.key for each in result.twin_methods()]
    for name, table in analysis.tables.items():
        if "other_method" in table.columns or "method" not in table.columns:
            continue
        own, dense = table.filter(method=method.key), table.filter(method="dense")
        copies = [own.with_columns(pl.lit(key).alias("method")) for key in keys]
        result.tables[name] = pl.concat([dense, *copies])
    pairs = [(one, other) for i, one in enumerate(keys) for other in keys[i + 1 :]]
    for name in ("added_method_differences", "added_mask_overlap"):
        row = analysis.tables[name].filter(sparsity=0.9)
        copies = [
            row.with_columns(pl.lit(a).alias("method"), pl.lit(b).alias("other_method"))
            for a, b in pairs
        ]
        result.tables[name] = pl.concat(copies)
    return result


def test_twenty_methods_open_fast(browser, compared, tmp_path):
    """In CPU seconds of the page, which do not depend on what else the machine computes."""
    file = tmp_path / "page.html"
    report.write(twenty(compared), file)
    page = browser.new_page(viewport={"width": 1400, "height": 800})
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    page.goto(file.as_uri())
    page.wait_for_function("document.getElementById('k').data !== undefined")
    metrics = session.send("Performance.getMetrics")["metrics"]
    (seconds,) = (each["value"] for each in metrics if each["name"] == "TaskDuration")
    page.close()
    assert 0 < seconds < SECONDS


def test_twenty_methods_fit(browser, compared, tmp_path):
    """Nothing is wider than the window, and every name has a line of its own."""
    report.write(twenty(compared), tmp_path / "page.html")
    for width in (400, 1400):
        reader = Reader(browser, tmp_path / "page.html", width)
        assert sum(map(len, reader.drawn("k", "each.y"))) == 20
        assert len(rows(reader)) == 19
        overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert reader.page.evaluate(overflow) <= 0
        labels = reader.page.locator("#k .ytick text").all_text_contents()
        assert len(set(labels)) == 20
        tops = reader.page.evaluate(
            "[...document.querySelectorAll('#k .ytick text')].map((t) =>"
            " t.getBoundingClientRect().top)"
        )
        assert np.diff(sorted(tops)).min() > 12
        reader.close()
        assert reader.complaints == []
