"""Opens report pages in a browser, and reads the data embedded in them."""

import json
import re
from dataclasses import replace
from pathlib import Path

from zoojax.analysis import Analysis

# A name that would break out of markup.
NASTY = '<img src=x onerror="alert(1)"></script><b>&amp;'


def renamed(analysis: Analysis, name: str) -> Analysis:
    """The same analysis of a zoo with another name."""
    zoo = type(analysis.zoo)(analysis.zoo.path, replace(analysis.zoo.config, name=name))
    return replace(analysis, zoo=zoo)


def content(file: Path) -> dict:
    """The data embedded in a page, as a browser reads it."""
    pattern = '<script type="application/json" id="data">(.*?)</script>'
    match = re.search(pattern, file.read_text(), re.DOTALL | re.IGNORECASE)
    assert match is not None
    return json.loads(match[1])


class Reader:
    """A browser tab with a report page, which records complaints.

    Attributes:
        page: playwright's page.
        complaints: console messages, errors, and addresses requested.
    """

    def __init__(
        self,
        browser,
        file: Path,
        width: int = 1000,
        theme: str = "light",
        script: str = "",
        address: str = "",
    ):
        self.page = browser.new_page(
            viewport={"width": width, "height": 800}, color_scheme=theme, device_scale_factor=1
        )
        self.complaints: list[str] = []
        self.page.add_init_script(script or "0")
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", self._record_request)
        self.page.goto(f"{file.as_uri()}#{address}" if address else file.as_uri())
        self.page.wait_for_function("document.getElementById('b').data !== undefined")

    def _record_request(self, request) -> None:
        if not request.url.startswith(("file:", "data:", "blob:")):
            self.complaints.append(request.url)

    def drawn(self, plot: str, what: str = "each.x.filter((v) => v !== null).length") -> list:
        """A JavaScript expression of each trace of a plot, after all drawing has finished."""
        self.page.evaluate(
            "() => new Promise(done => requestAnimationFrame(() => setTimeout(done)))"
        )
        return self.page.evaluate(f"document.getElementById('{plot}').data.map((each) => {what})")

    def reset(self) -> None:
        """Resets all inputs and closes all tables, as after opening the page."""
        self.page.evaluate(
            """() => {
                document.getElementById("reset").click();
                document.querySelectorAll("main details").forEach((each) => { each.open = false; });
            }"""
        )
        self.drawn("a")

    def text(self, selector: str) -> str:
        """The text of an element, after all drawing has finished."""
        self.drawn("b")
        return self.page.text_content(selector) or ""

    def set(self, control: str, value: object) -> None:
        """Moves a slider or enters a text."""
        self.page.locator(f"#{control}").evaluate(
            "(e, to) => { e.value = to; e.dispatchEvent(new Event('input', {bubbles: true})); }",
            str(value),
        )

    def card(self, title: str) -> dict[str, str]:
        """The values of the card whose title begins with a text, by label."""
        self.drawn("b")
        lines = self.page.evaluate(
            """(title) => {
                const cards = [...document.querySelectorAll("#cards article")];
                const card = cards.find((c) => c.querySelector("h3").textContent.startsWith(title));
                return [...card.querySelectorAll("dl div")].map((line) =>
                  [line.querySelector("dt").textContent, line.querySelector("dd").textContent]);
            }""",
            title,
        )
        return dict(lines)

    def cards(self) -> list[str]:
        """The titles of all cards."""
        self.drawn("b")
        return self.page.locator("#cards h3").all_text_contents()

    def headers(self, table: str) -> list[str]:
        """Column headers of a table; their rows are created by opening it."""
        self.page.evaluate(f"document.getElementById('table-{table}').open = true")
        self.page.locator(f"#table-{table} th button").first.wait_for()
        names = self.page.locator(f"#table-{table} th button").all_text_contents()
        self.page.evaluate(f"document.getElementById('table-{table}').open = false")
        return names

    def cells(self, table: str, column: int) -> list[str]:
        """Texts of one column of a table."""
        return self.page.locator(
            f"#table-{table} tbody td:nth-child({column + 1})"
        ).all_text_contents()

    def close(self) -> None:
        self.page.close()
