"""What a person does with the page, in a real browser."""

import asyncio
import csv
import io
import json
from collections.abc import Iterator
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path
from typing import Any

import pytest

from meter.reports.write.report import Format
from tests.fakes.rows import MemoryRowStore
from tests.support.browser import ENTER, REPOSITORY, TAB, Browser, Page
from tests.support.pages import PRICES, STRANGE, month_of_usage, page_of
from tests.support.reports import query, text_of

AXE = REPOSITORY / "node_modules" / "axe-core" / "axe.min.js"
CENT = Decimal("0.01")
_CELLS = (
    "[...document.querySelectorAll('#table tbody tr:not(.space)')].map("
    "(row) => [...row.cells].map((cell) => cell.querySelector('bdi')?.textContent ?? cell.textContent))"
)
_TOTAL = (
    "[...document.querySelectorAll('#table tfoot tr.total > *')].map((cell) => cell.textContent)"
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A page in a file, and the JSON of the same report."""
    wanted = query("month", groups="subject,deployment,model,tier")
    text, document = asyncio.run(page_of(month_of_usage(), wanted, budget=Decimal("4.50")))
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(text, encoding="utf-8")
    return path, document


@pytest.fixture
def page(browser: Browser, made: tuple[Path, dict[str, Any]]) -> Iterator[Page]:
    with browser.page() as opened:
        opened.open(made[0])
        yield opened


@pytest.fixture
def document(made: tuple[Path, dict[str, Any]]) -> dict[str, Any]:
    return made[1]


def shown(amount: str) -> str:
    return f"{Decimal(amount).quantize(CENT, ROUND_HALF_EVEN):,}"


def test_the_page_complains_of_nothing_and_asks_nobody(page: Page) -> None:
    """No error on the console, no request but for the file, no script of a subject."""
    assert page.complaints == []
    assert [url.rpartition("/")[2] for url in page.requests] == ["report.html"]
    assert page.run("document.title") == "Azure OpenAI usage and cost, 2026-11-01 to 2026-11-30"


def test_the_table_has_the_rows_of_the_json_report(page: Page, document: dict[str, Any]) -> None:
    """In its order, with its numbers; amounts are rounded as the printed table's."""
    rows = page.run(_CELLS)
    head = page.run(
        "[...document.querySelectorAll('#table thead th')].map((cell) => cell.dataset.name)"
    )
    expected = [
        [
            shown(row[name])
            if name == "cost"
            else f"{row[name]:,}"
            if isinstance(row[name], int)
            else row[name]
            for name in head
        ]
        for row in document["rows"][: len(rows)]
    ]

    assert "cost" in head
    assert len(rows) > 20
    plain = [row for row in rows if row[0].isprintable() and "\\u" not in row[0]]
    assert plain == [row for row in expected if row[0].isprintable()]
    assert page.text("#row-count") == f"{len(document['rows']):,}"


def test_the_total_is_that_of_the_json_report(page: Page, document: dict[str, Any]) -> None:
    totals = document["totals"]
    cells = page.run(_TOTAL)

    assert cells[:3] == ["total", shown(totals["cost"]), f"{totals['calls']:,}"]
    assert page.run("document.querySelector('.figures .value').textContent") == cells[1]


def test_a_click_on_a_heading_sorts(page: Page, document: dict[str, Any]) -> None:
    """Numbers by the largest first, then the smallest, then as they came; the heading says so."""
    heading = "#table th[data-name=cost] button"
    page.click(heading)
    down = page.run(_CELLS)[0][4]
    said = page.run("document.querySelector('#table th[data-name=cost]').ariaSort")
    page.press(ENTER)
    up = page.run(_CELLS)[0][4]

    costs = sorted(Decimal(row["cost"]) for row in document["rows"])
    assert (said, down, up) == ("descending", shown(str(costs[-1])), shown(str(costs[0])))


def test_a_filter_shows_the_exact_total_of_its_rows(page: Page, document: dict[str, Any]) -> None:
    """Words filter by any text; pick lists by one column."""
    page.run("document.querySelector('#search').focus()")
    page.type("APP-1 gpt")
    page.until("document.querySelector('#status').textContent.includes(' of ')")
    page.choose("#picks select[data-name=deployment]", "gpt-4o")
    found = [
        row
        for row in document["rows"]
        if "app-1" in row["subject"] and row["deployment"] == "gpt-4o"
    ]
    cells = page.run(_TOTAL)

    assert found
    assert page.text("#status") == f"{len(found)} of {len(document['rows'])} rows"
    assert len(page.run(_CELLS)) == len(found)
    assert cells[1] == shown(str(sum(Decimal(row["cost"]) for row in found)))
    assert cells[2] == f"{sum(row['calls'] for row in found):,}"
    rounding = page.run("document.querySelector('#table tr.rounding td')?.textContent")
    printed = sum(Decimal(shown(row["cost"])) for row in found) + Decimal(rounding or 0)
    assert printed == Decimal(cells[1])


def test_the_download_is_what_is_shown(page: Page, document: dict[str, Any]) -> None:
    """The report's CSV of those rows and columns, byte for byte, for a spreadsheet."""
    page.click("#table th[data-name=calls] button")
    data = page.downloaded("#download")
    wanted = query("month", groups="subject,deployment,model,tier")
    whole = asyncio.run(
        text_of(MemoryRowStore(), Format.CSV, wanted, *month_of_usage(), prices=PRICES)
    )

    text = data.decode("utf-8")
    head = next(csv.reader(io.StringIO(text.removeprefix("\ufeff"))))
    rows = list(csv.DictReader(io.StringIO(whole, newline="")))
    rows.sort(key=lambda row: -int(row["calls"]))
    numbers = {
        "calls",
        "prompt_tokens",
        "cached_tokens",
        "completion_tokens",
        "total_tokens",
        "cost",
    }
    lines = [
        ",".join(
            row[name] if name in numbers else '"' + row[name].replace('"', '""') + '"'
            for name in head
        )
        for row in rows
    ]
    first = ",".join(f'"{name}"' for name in head)
    assert text == "\ufeff" + "\n".join([first, *lines]) + "\n"
    assert "'=1+1" in text


def test_subjects_are_text_whatever_they_say(page: Page) -> None:
    """Each is one cell, isolated; what cannot be seen is shown as an escape."""
    for subject in STRANGE:
        page.run(
            "(() => { const search = document.querySelector('#search');"
            f"search.value = {json.dumps(subject)};"
            "search.dispatchEvent(new Event('input')); })()"
        )
        page.until("document.querySelector('#status').textContent.includes(' of ')")
        texts = {row[0] for row in page.run(_CELLS)}
        printed = "".join(c if c.isprintable() else repr(c)[1:-1] for c in subject)
        assert texts == {printed}

    assert page.run("document.querySelectorAll('main img, main script').length") == 0


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1280, 380])
def test_axe_finds_nothing(
    browser: Browser, made: tuple[Path, dict[str, Any]], width: int, *, dark: bool
) -> None:
    """WCAG 2.2 AA and best practices, on a screen and a phone, light and dark."""
    with browser.page(width=width, dark=dark) as page:
        page.open(made[0])
        page.run("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
        page.run(f"{AXE.read_text(encoding='utf-8')}; 0")
        found = page.run(
            "axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa',"
            "'best-practice'] }).then((result) => result.violations.map("
            "(each) => [each.id, each.nodes.map((node) => node.target.join(' ')).slice(0, 4)]))"
        )
        overflow = page.run("document.documentElement.scrollWidth - innerWidth")

    assert found == []
    assert overflow <= 0


def test_the_button_changes_the_colours(page: Page) -> None:
    """And back; the page begins with those of the system."""
    colour = "getComputedStyle(document.querySelector('.card')).backgroundColor"
    light = page.run(colour)
    page.click("#scheme")
    dark = page.run(colour)
    page.click("#scheme")

    assert (light, dark, page.run(colour)) == ("rgb(255, 255, 255)", "rgb(23, 28, 35)", light)


def test_everything_is_reached_with_the_keyboard(page: Page) -> None:
    """The first Tab leads to a link that skips to the table; each control has its turn."""
    reached = []
    for _ in range(40):
        page.press(TAB)
        reached.append(page.run("document.activeElement.id || document.activeElement.tagName"))

    assert page.run("document.querySelector('.skip').getAttribute('href')") == "#rows"
    assert reached[0] == "A"
    assert {"scheme", "search", "download", "scroller", "SELECT", "SUMMARY", "BUTTON"} <= set(
        reached
    )


def test_only_what_can_be_seen_is_drawn(page: Page, document: dict[str, Any]) -> None:
    """And what comes into sight is drawn then."""
    before = len(page.run(_CELLS))
    page.run("document.querySelector('#scroller').scrollTop = 1e6")
    last = len(document["rows"]) + 1
    page.until(f"document.querySelector('#table tbody tr:last-child').ariaRowIndex === '{last}'")

    assert before < len(document["rows"])
    assert page.run(_CELLS)[-1][0] == document["rows"][-1]["subject"]


def test_a_print_has_the_rows_and_the_head(page: Page) -> None:
    """All rows that are shown, up to 500, not only those in sight."""
    page.run("window.dispatchEvent(new Event('beforeprint'))")
    printed = len(page.run(_CELLS))
    page.run("window.dispatchEvent(new Event('afterprint'))")
    data = page.printed()

    assert printed == int(page.text("#row-count"))
    assert data.startswith(b"%PDF")
    assert data.count(b"/Type /Page\n") in range(2, 12)


def test_an_empty_month_says_so(browser: Browser, tmp_path: Path) -> None:
    """And shows no empty charts."""
    text, _ = asyncio.run(page_of([], query("month")))
    path = tmp_path / "empty.html"
    path.write_text(text, encoding="utf-8")
    with browser.page() as page:
        page.open(path)

        assert "No calls from 2026-11-01 to 2026-11-30 (UTC)." in page.text("main")
        assert page.complaints == []
