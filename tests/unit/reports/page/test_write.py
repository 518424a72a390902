"""The page as text: what is there without a script."""

import re
from collections.abc import Mapping
from decimal import Decimal

from meter.usage import TokenUsage
from tests.support.pages import PRICES, page_of
from tests.support.reports import book, price, query, row


def figures(text: str) -> Mapping[str, str]:
    return dict(re.findall(r'<dt>(.*?)</dt><dd class="value">(.*?)</dd>', text))


async def test_key_figures_are_those_of_the_report() -> None:
    """Exact, rounded once."""
    usage = TokenUsage(
        prompt_tokens=1_000_000, completion_tokens=0, total_tokens=1_000_000, cached_tokens=250_000
    )
    text, _ = await page_of([row("2026-11-02", calls=8, usage=usage, estimated_calls=1)], query())

    assert figures(text) == {
        "Cost, USD": "2.19",
        "Tokens": "1,000,000",
        "Calls": "8",
        "Cached share of input": "25.0%",
        "Estimated or missing": "12.5%",
    }


async def test_usage_without_a_price_is_at_the_top() -> None:
    """With how much of it there is."""
    prices = book(price("1", model="gpt-4o"))
    text, _ = await page_of([row("2026-11-02", model="o3")], query(), prices=prices)

    assert "Some usage has no price: the cost does not include it" in text
    assert '<td class="number">1,000</td><td><bdi>o3</bdi></td>' in text


async def test_lines_of_a_panel_add_up() -> None:
    """Three thirds of 0.10 are 0.03 each, and rounding leaves 0.01."""
    rows = [row("2026-11-02", name) for name in ("alice", "bob", "carol")]
    text, _ = await page_of(rows, query(), prices=book(price("0.10", unit=3_000)))
    (panel,) = re.findall(r'data-panel="subject">(.*?)</table>', text, re.DOTALL)

    assert re.findall(r'<td class="number">([\d.]+)</td></tr>', panel) == ["0.03"] * 3 + ["0.01"]


async def test_a_month_over_its_budget_is_loud() -> None:
    usage = TokenUsage(prompt_tokens=4_000_000, total_tokens=4_000_000)
    rows = [row("2026-11-02", usage=usage)]
    text, _ = await page_of(rows, query(), prices=PRICES, budget=Decimal(8))

    assert '<tr class="over"><th scope="row">2026-11</th>' in text
    assert '125.0%</td><td class="number">10.00</td><td class="number">8.00</td>' in text
    assert "over by 2.00" in text


async def test_no_text_of_a_subject_becomes_markup() -> None:
    text, _ = await page_of([row("2026-11-02", "</script><img src=x>")], query())

    assert "<img" not in text
    assert "&lt;/script&gt;&lt;img src=x&gt;" in text


async def test_the_page_without_prices_speaks_of_no_money() -> None:
    text, _ = await page_of([row("2026-11-02")], query(), prices=None)

    assert "<title>Azure OpenAI usage, 2026-11-01 to 2026-11-30</title>" in text
    assert 'cost-chart"' not in text.partition("</main>")[0]
