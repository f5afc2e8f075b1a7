"""Interactive figures of the report page in a browser."""

import re

import polars as pl
import pytest


def test_filter_applies_to_all_figures(reader):
    assert reader.drawn("a")[:2] == [36, 12]
    assert reader.drawn("b")[0] == 12 * 51
    assert reader.drawn("c")[0] == 12
    assert "Showing 12 of 12" in reader.page.text_content("#shown")
    means = reader.drawn("b", "each.name === 'mean' ? each.y.at(-1) : 0")
    reader.page.select_option("select[name=activation]", label="relu")
    assert reader.drawn("a")[:2] == [18, 6]
    assert reader.drawn("b")[0] == 6 * 51
    assert reader.drawn("c")[0] == 6
    assert "Showing 6 of 12" in reader.page.text_content("#shown")
    texts = reader.drawn("c", "each.text ?? []")[0]
    assert all("activation relu" in text for text in texts)
    reader.page.select_option("select[name=activation]", label="all")
    assert reader.drawn("c")[0] == 12
    assert reader.drawn("b", "each.name === 'mean' ? each.y.at(-1) : 0") == means


def test_epoch_slider(reader, result):
    members = result.tables["members"]

    def accuracies(method: str, epoch: int) -> list[float]:
        rows = members.filter(
            (pl.col("method") == method) & (pl.col("epoch") == epoch) & pl.col("finite")
        )
        return rows["test_acc"].sort().to_list()

    for chosen, mp, vd in ((0, 0, 0), (4, 4, 4), (20, 15, 20)):
        slider = reader.page.locator("#a-epoch")
        slider.evaluate(
            "(e, to) => { e.value = to; e.dispatchEvent(new Event('input')); }", str(chosen)
        )
        drawn = reader.drawn("a", "each.y.filter(Number.isFinite)")
        assert sorted(drawn[0]) == pytest.approx(accuracies("mp", mp), abs=1e-4)
        assert sorted(drawn[1]) == pytest.approx(accuracies("vd", vd), abs=1e-4)
        assert reader.page.text_content("#a-label") == f"MP epoch {mp} · VD epoch {vd}"
    # The keyboard moves it too.
    slider.focus()
    slider.press("ArrowLeft")
    reader.drawn("a")
    assert reader.page.text_content("#a-label") == "MP epoch 15 · VD epoch 19"


def test_means_match_the_tables(reader, result):
    table = result.tables["trajectories"].filter(pl.col("method") == "dense").sort("epoch")
    [drawn] = [y for y in reader.drawn("b", "each.name === 'mean' ? each.y : null") if y]
    assert drawn == pytest.approx(table["test_acc_mean"].to_list(), abs=1e-4)


def test_choice_of_populations_and_metrics(reader, result):
    reader.page.select_option("#b-population", label="VD")
    reader.page.select_option("#b-metric", "sparsity")
    rows = result.tables["members"].filter((pl.col("method") == "vd") & pl.col("finite"))
    drawn = reader.drawn("b", "each.y.filter(Number.isFinite)")[0]
    assert sorted(drawn) == pytest.approx(rows["sparsity"].sort().to_list(), abs=1e-4)
    reader.page.select_option("#c-population", label="VD")
    reader.drawn("c")
    cell = result.tables["correlation"].filter((pl.col("method") == "vd") & (pl.col("epoch") == 25))
    assert f"Pearson's r {cell['pearson'][0]:.2f} [" in reader.page.text_content("#c-title")
    assert f"tau {cell['kendall'][0]:.2f} [" in reader.page.text_content("#c-title")
    reader.page.select_option("#d-population", "mp")
    assert reader.drawn("d", "each.x") == [[0.5, 0.8, 0.9]] * 5


def test_hover_shows_member_seed_and_hyperparameters(reader):
    for plot in "abc":
        plotted = reader.page.locator(f"#{plot}")
        plotted.scroll_into_view_if_needed()
        at = reader.page.evaluate(
            """(id) => {
                const plot = document.getElementById(id), trace = plot.data[0];
                const { xaxis, yaxis } = plot._fullLayout, box = plot.getBoundingClientRect();
                return [box.left + xaxis._offset + xaxis.d2p(trace.x[2]),
                        box.top + yaxis._offset + yaxis.d2p(trace.y[2])];
            }""",
            plot,
        )
        reader.page.mouse.move(at[0] + 1, at[1], steps=4)
        label = plotted.locator(".hoverlayer")
        label.locator("text").first.wait_for()
        text = label.text_content()
        assert re.search(r"member \d+ \((dense|MP \d+%)\)", text)
        assert re.search(r"seed \d", text)
        assert re.search(r"activation (tanh|relu)", text)
        assert re.search(r"\d\.\d%", text)


def test_highlighted_member_and_its_twins(reader):
    reader.page.fill("#highlight", "3")
    for plot, count in (("a", 4), ("b", 51), ("c", 1)):
        names = reader.drawn(plot, "each.name")
        assert names[-1] == "highlighted"
        assert reader.drawn(plot)[-1] == count
    texts = reader.drawn("a", "each.text ?? []")[-1]
    assert all("of dense member 3<" in text for text in texts)
