"""How a report with prices is written: amounts, shares, and what has no price."""

import csv
import io
import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from meter.reports.write.report import Format
from meter.usage import TokenUsage
from tests.fakes.rows import MemoryRowStore
from tests.support.reports import book, price, query, row, text_of

THIRDS = book(price("0.10", unit=3_000))
OUTPUT = TokenUsage(completion_tokens=1_200, total_tokens=1_200)


@pytest.fixture
def store() -> MemoryRowStore:
    return MemoryRowStore()


async def test_printed_amounts_add_up_to_the_printed_total(store: MemoryRowStore) -> None:
    """Each is rounded once; what they lack of the rounded total is a line of its own."""
    rows = [row("2026-11-02", name) for name in ("alice", "bob", "carol")]
    text = await text_of(store, Format.TABLE, query(), *rows, prices=THIRDS)

    assert text == (
        "2026-11-01 to 2026-11-30 UTC\n"
        "subject   calls  total  cost USD  share\n"
        "--------  -----  -----  --------  -----\n"
        "alice         1  1,000      0.03  33.3%\n"
        "bob           1  1,000      0.03  33.3%\n"
        "carol         1  1,000      0.03  33.3%\n"
        "rounding                    0.01\n"
        "--------  -----  -----  --------  -----\n"
        "total         3  3,000      0.10\n"
    )


async def test_amounts_that_add_up_need_no_closing_line(store: MemoryRowStore) -> None:
    """So a line `rounding` is always worth a look."""
    rows = [row("2026-11-02", name, calls=3) for name in ("alice", "bob")]
    text = await text_of(store, Format.TABLE, query(), *rows, prices=THIRDS)

    assert "rounding" not in text
    assert text.splitlines()[-1].split() == ["total", "6", "6,000", "0.20"]


@settings(max_examples=40, deadline=None)
@example([7], "USD", True)
@given(
    st.lists(st.integers(1, 5_000), min_size=1, max_size=8),
    st.sampled_from(["USD", "JPY", "KWD"]),
    st.booleans(),
)
async def test_any_lines_add_up_in_any_currency(
    amounts: list[int], currency: str, is_adjusted: bool
) -> None:
    """To the last digit of the currency's minor unit. Usage that is taken back whole shows no amount."""
    back = TokenUsage(prompt_tokens=-7, total_tokens=-7) if is_adjusted else None
    rows = [
        row("2026-11-02", f"s{n}", usage=TokenUsage(prompt_tokens=amount), adjusted=back)
        for n, amount in enumerate(amounts)
    ]
    prices = book(price("1.6161", unit=7, currency=currency))
    text = await text_of(MemoryRowStore(), Format.TABLE, query(), *rows, prices=prices)

    _, head, rule, *lines, _, total = text.splitlines()
    digits = {"USD": 2, "JPY": 0, "KWD": 3}[currency]
    for heading in {f"cost {currency}", *(["adj. cost"] if is_adjusted else [])}:
        end = head.index(heading) + len(heading)
        start = rule.rindex(" ", 0, end)
        *cells, last = (line[start:end].strip() for line in (*lines, total))
        shown = {cell for cell in (*cells, last) if cell not in {"", "-"}}
        assert {len(cell.partition(".")[2]) for cell in shown} <= {digits}
        assert sum(map(_minor_units, cells)) == _minor_units(last)


def _minor_units(cell: str) -> int:
    return 0 if cell in {"", "-"} else int(cell.replace(",", "").replace(".", ""))


async def test_the_table_tells_what_has_no_price(store: MemoryRowStore) -> None:
    """In the line whose cost it is not in; a line without any price shows no amount."""
    both = TokenUsage(prompt_tokens=30_000, completion_tokens=5, total_tokens=30_005)
    rows = [
        row("2026-11-02", "alice", usage=OUTPUT),
        row("2026-11-02", "bob", usage=both),
        row("2026-11-02", "carol"),
    ]
    text = await text_of(store, Format.TABLE, query(), *rows, prices=THIRDS)

    _, head, _, alice, bob, carol, *_, total = text.splitlines()
    assert head.endswith("cost USD  share  no price for")
    assert alice.split()[-3:] == ["-", "-", "output"]
    assert bob.split()[-3:] == ["1.00", "96.8%", "output"]
    assert carol.split()[-2:] == ["0.03", "3.2%"]
    assert total.split()[-2:] == ["1.03", "output"]


async def test_a_table_with_money_tells_adjustments_and_uncertain_calls(
    store: MemoryRowStore,
) -> None:
    """Only where there are any; the kinds of tokens are left to the files."""
    usage = TokenUsage(prompt_tokens=60_000, cached_tokens=50, total_tokens=60_000)
    back = TokenUsage(prompt_tokens=-30_000, total_tokens=-30_000)
    stored = row("2026-11-02", calls=8, usage=usage, adjusted=back, estimated_calls=1)
    text = await text_of(store, Format.TABLE, query(), stored, prices=THIRDS)

    _, head, _, alice, *_ = text.splitlines()
    assert head.endswith("   total  adj. total  estimated  adj. cost  cost USD   share")
    assert alice.split()[-6:] == ["60,000", "-30,000", "12.5%", "-1.00", "1.00", "100.0%"]


async def test_json_has_amounts_as_text_and_lists_what_has_no_price(store: MemoryRowStore) -> None:
    """Amounts are exact; a cost that is not known is null."""
    rows = [row("2026-11-02", "alice", usage=OUTPUT, place=("eastus", "global"))]
    rows.append(row("2026-11-02", "bob", calls=2))
    prices = book(price("0.000125", unit=1_000_000))
    text = await text_of(store, Format.JSON, query(), *rows, prices=prices)

    found = json.loads(text, parse_float=pytest.fail)
    alice, bob = found["rows"]
    names = ("cost", "currency", "unpriced", "share_percent")
    assert [alice[name] for name in names] == [None, "USD", ["output"], None]
    assert [bob[name] for name in names] == ["0.00000025", "USD", [], "100"]
    assert found["totals"]["cost"] == "0.00000025"
    assert found["totals"]["currency"] == "USD"
    assert found["totals"]["prompt_tokens"] == 2_000
    assert found["unpriced"] == [
        {
            "model": "gpt-4o-2024-11-20",
            "kind": "output",
            "tier": "standard",
            "context": "short",
            "deployment_type": "global",
            "region": "eastus",
            "quantity": 1_200,
        }
    ]


async def test_json_without_usage_costs_nothing_known(store: MemoryRowStore) -> None:
    """No rows have no price."""
    found = json.loads(await text_of(store, Format.JSON, query(), prices=THIRDS))

    assert (found["rows"], found["unpriced"]) == ([], [])
    assert (found["totals"]["cost"], found["totals"]["currency"]) == (None, "USD")


async def test_csv_has_exact_amounts_and_empty_cells(store: MemoryRowStore) -> None:
    """Numbers are not quoted; a cost that is not known is an empty cell, not 0."""
    both = TokenUsage(seconds=1, characters=2)
    rows = [row("2026-11-02", "alice", usage=both), row("2026-11-02", "bob")]
    text = await text_of(store, Format.CSV, query(), *rows, prices=THIRDS)

    alice, bob = csv.DictReader(io.StringIO(text, newline=""))
    names = ("adjusted_cost", "cost", "currency", "share_percent", "unpriced")
    assert [alice[name] for name in names] == ["", "", "USD", "", "second character"]
    assert [bob[name] for name in names] == ["", "0.03333333333333333333", "USD", "100", ""]
    assert text.splitlines()[2].endswith(',0.03333333333333333333,"USD",100,""')
