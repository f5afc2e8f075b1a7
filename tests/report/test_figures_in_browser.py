"""Interactive figures of the report page in a browser."""

import re

import numpy as np
import polars as pl
import pytest


def test_filter_applies_to_all_figures(reader):
    assert reader.drawn("a")[3:] == [72, 24]
    assert reader.drawn("b")[0] == 24 * 51
    assert reader.drawn("c")[1] == 24
    assert sum(reader.drawn("p")) == 24 * 3
    assert "Showing 24 of 24" in reader.text("#shown")
    means = reader.drawn("b", "each.name.startsWith('mean') ? each.y.at(-1) : 0")
    reader.page.select_option("select[name=activation]", label="relu")
    assert reader.drawn("a")[3:] == [36, 12]
    assert reader.drawn("b")[0] == 12 * 51
    assert reader.drawn("c")[1] == 12
    assert "Showing 12 of 24" in reader.text("#shown")
    assert "12 members shown" in reader.text("#m-title")
    texts = reader.drawn("c", "each.text ?? []")[1]
    assert all("activation relu" in text for text in texts)
    reader.page.select_option("select[name=activation]", label="all")
    assert reader.drawn("c")[1] == 24
    assert reader.drawn("b", "each.name.startsWith('mean') ? each.y.at(-1) : 0") == means


def test_one_slider_per_axis_and_dots_above_lines(reader, result):
    members = result.tables["members"]

    def accuracies(method: str, epoch: int) -> list[float]:
        rows = members.filter(
            (pl.col("method") == method) & (pl.col("epoch") == epoch) & pl.col("finite")
        )
        return rows["test_acc"].sort().to_list()

    # The page opens on the last epochs: all of Figure 5 of the paper.
    assert reader.text("#a-ratio-label").endswith("epoch 15 of 15")
    assert reader.text("#a-epoch-label").endswith("epoch 25 of 25")
    for mp, vd in ((0, 4), (15, 4), (4, 20)):
        reader.set("a-ratio", mp)
        reader.set("a-epoch", vd)
        drawn = reader.drawn("a", "each.y.filter(Number.isFinite)")[3:]
        assert sorted(drawn[0]) == pytest.approx(accuracies("mp", mp), abs=1e-4)
        assert sorted(drawn[1]) == pytest.approx(accuracies("vd", vd), abs=1e-4)
        assert reader.drawn("a")[:2] == [3, vd + 1]
    modes = reader.drawn("a", "each.mode")
    assert modes == ["lines+markers", "lines", "lines", "markers", "markers"]
    # The keyboard moves them too.
    slider = reader.page.locator("#a-epoch")
    slider.focus()
    slider.press("ArrowLeft")
    assert reader.text("#a-epoch-label").endswith("epoch 19 of 25")
    assert reader.text("#a-ratio-label").endswith("epoch 4 of 15")


def test_means_match_the_tables(reader, result):
    table = result.tables["trajectories"].filter(pl.col("method") == "dense").sort("epoch")
    [drawn] = [y for y in reader.drawn("b", "each.name === 'mean of 24' ? each.y : null") if y]
    assert drawn == pytest.approx(table["test_acc_mean"].to_list(), abs=1e-4)


def test_choice_of_populations_and_metrics(reader, result):
    reader.page.select_option("#b-method", label="VD")
    reader.page.select_option("#b-metric", "sparsity")
    rows = result.tables["members"].filter((pl.col("method") == "vd") & pl.col("finite"))
    drawn = reader.drawn("b", "each.y.filter(Number.isFinite)")[0]
    assert sorted(drawn) == pytest.approx(rows["sparsity"].sort().to_list(), abs=1e-4)
    reader.page.select_option("#b-method", label="MP")
    reader.set("b-ratio", 2)
    assert reader.text("#b-title").startswith("MP 90%: 24 members.")
    reader.page.select_option("#d-method", "mp")
    assert reader.drawn("d", "each.x") == [[0.5, 0.8, 0.9]] * 5


def test_correlation_of_the_members_shown(reader, result):
    reader.drawn("c")
    assert reader.text("#c-title").startswith("MP 80%, epoch 15: ")
    reader.page.select_option("#c-method", label="VD")
    reader.set("c-epoch", 20)
    reader.drawn("c")
    text = reader.text("#c-title")
    cell = result.tables["correlation"].filter(method="vd", epoch=20)
    assert f"Pearson's r {cell['pearson'][0]:.2f} [" in text
    assert f"tau {cell['kendall'][0]:.2f} [" in text
    assert "over 24 finite members (95% intervals)" in text
    reader.set("c-epoch", 25)
    reader.drawn("c")
    assert "over 23 finite members" in reader.text("#c-title")
    # Twelve members are too few.
    reader.page.select_option("select[name=activation]", label="relu")
    reader.drawn("c")
    assert "too few members (12, not at least 20)" in reader.text("#c-title")
    assert set(reader.card("Accuracy before and after").values()) == {"too few members"}


def test_cards_follow_the_filters(reader, result):
    members = result.tables["members"].filter(pl.col("finite"))

    def expected(*chosen: pl.Expr) -> str:
        values = 100 * members.filter(*chosen)["test_acc"].to_numpy()
        return f"{values.mean():.1f}% ({values.std():.1f})"

    dense = (pl.col("method") == "dense", pl.col("epoch") == 50)
    mp = (pl.col("method") == "mp", pl.col("epoch") == 15, pl.col("ratio") == 0.5)
    assert reader.card("Dense accuracy") == {"dense n = 24": expected(*dense)}
    # At 50 % the accuracy is kept; 80 % and 90 % lose 6 and 12 points.
    assert reader.card("Accuracy at 50% sparsity")["MP 50% n = 24"] == expected(*mp)
    above, below = (result.tables["crossing"][name][0] for name in ("above", "below"))
    crossover = {"VD overtakes MP n = 24": f"{100 * above:g}% to {100 * below:g}%"}
    assert reader.card("Crossover") == crossover
    relu = pl.col("activation") == "relu"
    reader.page.select_option("select[name=activation]", label="relu")
    assert reader.card("Dense accuracy") == {"dense n = 12": expected(relu, *dense)}
    assert reader.card("Accuracy at 50% sparsity")["MP 50% n = 12"] == expected(relu, *mp)
    agreement = result.tables["agreement"].filter(pl.col("ratio") == 0.5)
    rows = agreement.join(members.filter(*dense, relu), left_on="parent_id", right_on="member")
    share = 100 * rows["agreement"].to_numpy()
    text = reader.card("Agreement with the parent")["MP 50% n = 12"]
    assert text == f"{share.mean():.1f}% ({share.std():.1f})"
    # It is of all members, and says so.
    assert reader.card("Crossover") == crossover
    assert "not only of those shown" in reader.text("#cards article:last-child")


def test_colors_by_hyperparameter(reader):
    assert reader.page.locator("#color option").all_text_contents() == [
        "twin",
        "activation",
        "dense accuracy",
    ]
    reader.page.select_option("#color", label="activation")
    assert reader.drawn("a", "each.name")[3:] == ["relu", "tanh"]
    assert reader.drawn("a")[3:] == [48, 48]
    assert reader.drawn("b", "each.name") == [
        "relu",
        "tanh",
        "relu, mean of 12",
        "tanh, mean of 12",
    ]
    assert reader.drawn("c", "each.name") == ["no change", "relu", "tanh"]
    colors = reader.drawn("c", "each.marker?.color")[1:]
    assert len(set(colors)) == 2
    assert reader.drawn("a", "each.marker?.color")[3:] == colors
    assert reader.drawn("p", "each.line.color") == colors
    assert all("activation tanh" in text for text in reader.drawn("c", "each.text")[2])
    reader.page.select_option("#color", label="dense accuracy")
    names = reader.drawn("c", "each.name")[1:]
    assert 2 < len(names) <= 6 and all("%" in name for name in names)


def test_parallel_coordinates(reader, result):
    reader.page.select_option("#color", label="activation")
    ticks = reader.page.evaluate("document.getElementById('p').layout.xaxis.ticktext")
    titles = [tick.replace("<br>", " ") for tick in ticks]
    assert titles == ["activation", "dense accuracy", "MP 80% accuracy"]
    texts = reader.page.evaluate("document.getElementById('p').layout.annotations.map(a => a.text)")
    assert texts[:2] == ["relu", "tanh"]
    rows = result.tables["members"].filter(method="mp", epoch=15, ratio=0.8)["test_acc"]
    assert texts[-2:] == [f"{100 * value:.1f}%" for value in (rows.min(), rows.max())]
    reader.page.select_option("#p-method", label="VD")
    ticks = reader.page.evaluate("document.getElementById('p').layout.xaxis.ticktext")
    reader.drawn("p")
    ticks = reader.page.evaluate("document.getElementById('p').layout.xaxis.ticktext")
    assert [tick.replace("<br>", " ") for tick in ticks[2:]] == ["VD sparsity", "VD accuracy"]
    reader.page.fill("#highlight", "3")
    assert reader.drawn("p", "each.name")[-1] == "highlighted"


def test_agreement_of_every_population(reader, result):
    names = reader.page.locator("#m-matrix option").all_text_contents()
    assert names[:3] == ["dense with dense", "MP 80% with MP 80%", "dense with MP 80%"]
    reader.page.select_option("#m-matrix", label="MP 80% with MP 80%")
    reader.drawn("b")
    pairs = result.matrices["mp 80%"][np.triu_indices(24, 1)]
    text = reader.text("#m-title")
    assert f"{100 * pairs.mean():.1f}% (std {100 * pairs.std():.1f}) over 276 pairs" in text
    size = "(({ width, height }) => [width, height])(document.getElementById('m'))"
    assert reader.page.evaluate(size) == [24, 24]
    reader.page.select_option("select[name=activation]", label="tanh")
    reader.drawn("b")
    assert "12 members shown" in reader.text("#m-title")
    assert reader.page.evaluate(size) == [12, 12]
    reader.page.locator("#m").hover()
    assert "MP 80%" in reader.text("#m-pair")
    assert reader.page.locator("#m-table tbody tr").count() == len(result.matrices)


def test_hover_shows_member_seed_and_hyperparameters(reader):
    for plot in "abc":
        plotted = reader.page.locator(f"#{plot}")
        plotted.scroll_into_view_if_needed()
        at = reader.page.evaluate(
            """(id) => {
                const plot = document.getElementById(id);
                const trace = plot.data.find((each) => each.text?.length);
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
    for plot, count in (("a", 4), ("b", 51), ("c", 1), ("p", 3)):
        names = reader.drawn(plot, "each.name")
        assert names[-1] == "highlighted"
        assert reader.drawn(plot)[-1] == count
    texts = reader.drawn("a", "each.text ?? []")[-1]
    assert all("of dense member 3<" in text for text in texts)
