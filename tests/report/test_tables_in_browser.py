"""Tables of the report page in a browser: formats and sorting."""

import pytest


def test_click_sorts_and_second_click_reverses(reader, result):
    columns = reader.headers("correlation")
    column = columns.index("Pearson's r [95%]")
    reader.page.locator("#table-correlation summary").click()
    button = reader.page.locator("#table-correlation th button").nth(column)
    header = reader.page.locator("#table-correlation th").nth(column)

    def values() -> list[float]:
        return [float(text.split()[0]) for text in reader.cells("correlation", column)]

    before = values()
    expected = sorted(result.tables["correlation"]["pearson"].round(4).to_list())
    assert before != sorted(before)
    button.click()
    assert header.get_attribute("aria-sort") == "ascending"
    assert values() == pytest.approx(expected, abs=6e-4)
    button.press("Enter")
    assert header.get_attribute("aria-sort") == "descending"
    assert values() == pytest.approx(expected[::-1], abs=6e-4)
    assert reader.page.locator("#table-correlation th[aria-sort]").count() == 1


def test_numeric_order_with_nulls_last(reader, result):
    columns = reader.headers("paper")
    reader.page.evaluate("document.getElementById('table-paper').open = true")
    buttons = reader.page.locator("#table-paper th button")
    epochs = columns.index("epoch")
    buttons.nth(epochs).click()
    numbers = [int(text) for text in reader.cells("paper", epochs)]
    assert numbers == sorted(numbers)
    assert max(numbers) > 9 > min(numbers)
    ratios = columns.index("ratio")
    for _ in range(2):
        buttons.nth(ratios).click()
        texts = reader.cells("paper", ratios)
        missing = result.tables["paper"]["ratio"].null_count()
        assert 0 < missing < len(texts)
        assert texts[-missing:] == ["–"] * missing
        assert "–" not in texts[:-missing]


def test_percent_and_standard_deviations(reader, result):
    columns = reader.headers("trajectories")
    reader.page.evaluate("document.getElementById('table-trajectories').open = true")
    row = result.tables["trajectories"].row(0, named=True)
    shown = reader.cells("trajectories", columns.index("test accuracy (std)"))[0]
    assert shown == f"{100 * row['test_acc_mean']:.1f}% ({100 * row['test_acc_std']:.1f})"


def test_coefficients_of_the_paper_are_not_percent(reader, result):
    columns = reader.headers("paper")
    reader.page.evaluate("document.getElementById('table-paper').open = true")
    shown = {n: reader.cells("paper", columns.index(n)) for n in ("quantity", "difference")}
    shown["paper"] = reader.cells("paper", columns.index("paper (std)"))
    rows = list(zip(*shown.values(), strict=True))
    correlations = [row for row in rows if row[0] == "Pearson's r"]
    assert len(correlations) == result.tables["paper"].filter(quantity="pearson").height > 0
    for quantity, difference, paper in rows:
        is_share = quantity not in ("Pearson's r", "Kendall's tau")
        assert paper.partition(" ")[0].endswith("%") == is_share
        assert difference.endswith(" pp") == (is_share and difference != "–")
