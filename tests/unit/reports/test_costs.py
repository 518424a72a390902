"""What a report's rows cost: which prices apply, what has none, and what is added up."""

from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meter.errors import AmbiguousPrice
from meter.ledger.rows import SumRow
from meter.ports import Row
from meter.reports.pricing.book import PriceBook, Use
from meter.reports.pricing.cost import Bill
from meter.reports.pricing.kinds import Kind, quantities_of
from meter.reports.rows import UsageRow, total_of
from meter.usage import TokenUsage
from meter.window import Period
from tests.fakes.rows import MemoryRowStore
from tests.support.reports import book, price, query, row, usage_of

INPUT_ALONE = book(price("0.01"))


@pytest.fixture
def store() -> MemoryRowStore:
    return MemoryRowStore()


def costs(rows: Sequence[UsageRow]) -> dict[tuple[str, ...], Fraction | None]:
    return {each.names: each.cost for each in rows}


async def test_a_month_is_priced_day_by_day(store: MemoryRowStore) -> None:
    """A price that changes on the 15th applies from the 15th on; the month's own sums are not read."""
    changing = book(price("0.01", end="2026-11-15"), price("0.02", start="2026-11-15"))
    rows = [row("2026-11", calls=3), *(row(f"2026-11-{day}") for day in ("14", "15", "16"))]
    (found,) = await usage_of(store, query(), *rows, prices=changing)

    assert (found.label, found.sums.calls) == ("2026-11", 3)
    assert found.cost == Fraction("0.05")


async def test_a_tie_is_told_with_a_day_of_the_report(store: MemoryRowStore) -> None:
    """Not with the day on which the prices began, which nobody asked about."""
    tied = book(price("1", deployment_type="global"), price("2", region="eastus"))
    stored = row("2026-11-02", place=("eastus", "global"))

    with pytest.raises(AmbiguousPrice, match="2026-11-02"):
        await usage_of(store, query(), stored, prices=tied)


async def test_hours_are_priced_by_their_day(store: MemoryRowStore) -> None:
    """An hour belongs to one day."""
    changing = book(price("0.01", end="2026-11-15"), price("0.02", start="2026-11-15"))
    rows = [row("2026-11-14T23"), row("2026-11-15T00")]
    found = await usage_of(store, query("hour", "2026-11-14", "2026-11-15"), *rows, prices=changing)

    assert [each.cost for each in found] == [Fraction("0.01"), Fraction("0.02")]


async def test_a_group_costs_what_its_parts_cost_by_their_own_prices(store: MemoryRowStore) -> None:
    """Each row has the price of its model, tier, context, deployment type and region."""
    prices = book(
        price("1", model="gpt-4o"),
        price("2", model="gpt-4o", tier="priority"),
        price("4", model="gpt-4o", context="long"),
        price("8", model="gpt-4o", region="swedencentral"),
        price("16", model="gpt-4o", deployment_type="data-zone"),
        price("32", model="deployment:special"),
    )
    rows = [
        row("2026-11-02"),
        row("2026-11-02", tier="priority"),
        row("2026-11-02", context="long"),
        row("2026-11-02", backend="sweden", place=("swedencentral", "")),
        row("2026-11-02", backend="zone", place=("", "data-zone")),
        row("2026-11-02", deployment="special"),
    ]
    found = await usage_of(store, query(), *rows, prices=prices)

    assert costs(found) == {("alice",): 63}


async def test_usage_without_a_price_has_no_cost_and_is_told(store: MemoryRowStore) -> None:
    """It is never 0; what has a price is the cost of the rest."""
    rows = [
        row("2026-11-02", usage=TokenUsage(completion_tokens=7, total_tokens=7)),
        row(
            "2026-11-02",
            "bob",
            usage=TokenUsage(prompt_tokens=1_000, completion_tokens=5, total_tokens=1_005),
            place=("eastus", "global"),
        ),
    ]
    found = await usage_of(store, query(), *rows, prices=INPUT_ALONE)
    total = total_of(found)

    assert costs(found) == {("alice",): None, ("bob",): Fraction("0.01")}
    assert [(*key, quantity) for key, quantity in total.unpriced] == [
        ("gpt-4o-2024-11-20", "output", "standard", "short", "", "", 7),
        ("gpt-4o-2024-11-20", "output", "standard", "short", "global", "eastus", 5),
    ]
    assert total.cost == Fraction("0.01")


async def test_provisioned_tokens_have_no_price_of_any_tier(store: MemoryRowStore) -> None:
    """Their capacity is paid by the hour."""
    found = await usage_of(
        store, query(), row("2026-11-02", tier="provisioned"), prices=INPUT_ALONE
    )

    assert costs(found) == {("alice",): None}
    assert [quantity for _, quantity in found[0].unpriced] == [1_000]


async def test_counts_and_adjustments_are_charged(store: MemoryRowStore) -> None:
    """What adjustments add to the cost, or take from it, is told beside it."""
    back = TokenUsage(prompt_tokens=-400, total_tokens=-400)
    (found,) = await usage_of(store, query(), row("2026-11-02", adjusted=back), prices=INPUT_ALONE)

    assert found.cost == Fraction("0.006")
    assert found.charge is not None
    assert found.charge.adjusted.cost == Fraction("-0.004")


async def test_shares_are_those_of_their_window(store: MemoryRowStore) -> None:
    """The shares of a month add up to 1, however many months a report has."""
    rows = [
        row("2026-10-02", "alice"),
        row("2026-11-02", "alice"),
        row("2026-11-02", "bob", calls=3),
        row("2026-11-02", "carol", usage=TokenUsage(completion_tokens=7)),
    ]
    found = await usage_of(store, query(first="2026-10"), *rows, prices=INPUT_ALONE)

    shares = [each.charge.share for each in found if each.charge]
    assert shares == [1, Fraction(1, 4), Fraction(3, 4), None]


async def test_a_whole_that_costs_nothing_has_no_shares(store: MemoryRowStore) -> None:
    """A price may be 0."""
    (found,) = await usage_of(store, query(), row("2026-11-02"), prices=book(price("0")))

    assert found.charge is not None
    assert found.cost == 0
    assert found.charge.share is None


PRICES = book(
    price("0.0025", end="2026-11-03"),
    price("0.0030", start="2026-11-03"),
    price("0.00125", "cached_input", start="2026-11-02"),
    price("0.01", "output", model="gpt-4o"),
    price("0.36", "second", unit=3_600),
)
COUNTS = {
    "prompt_tokens": st.integers(0, 9_999),
    "cached_tokens": st.integers(0, 99),
    "completion_tokens": st.integers(0, 999),
    "audio_completion_tokens": st.integers(0, 9),
    "seconds": st.integers(0, 50),
}
USAGE = st.fixed_dictionaries(COUNTS).map(lambda counts: TokenUsage(**counts))
ROWS = st.lists(
    st.builds(
        row,
        st.sampled_from(["2026-11-01", "2026-11-02", "2026-11-03", "2026-11-04"]),
        st.sampled_from(["alice", "bob"]),
        usage=USAGE,
        adjusted=st.none() | USAGE,
        model=st.sampled_from(["gpt-4o-2024-11-20", "other"]),
        backend=st.sampled_from(["east", "west"]),
    ),
    unique_by=lambda each: each.key,
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(ROWS, st.sampled_from(["", "subject", "model,backend"]))
async def test_costs_are_those_of_each_row_added_up(rows: list[SumRow], groups: str) -> None:
    """However rows are grouped, every count of every row is charged once, at its day's price."""
    found = await usage_of(MemoryRowStore(), query(groups=groups), *rows, prices=PRICES)
    total = total_of(found)
    whole = Bill()
    for each in rows:
        for usage in (each.sums.tokens, each.sums.adjusted):
            _charge(whole, each, usage)

    assert total.cost == whole.cost
    assert dict(total.unpriced) == {key: n for key, n in whole.unpriced.items() if n}
    assert sum((each.cost or 0 for each in found), Fraction(0)) == (whole.cost or 0)


def _charge(bill: Bill, stored: SumRow, usage: TokenUsage) -> None:
    names = stored.key.dimensions
    use = Use(names.model, names.deployment, "", "", names.tier, names.context)
    bill.add(PRICES, date.fromisoformat(stored.key.window.name), use, quantities_of(usage))


@pytest.mark.parametrize("by", ["day", "month"])
async def test_windows_in_several_partitions_are_added_up_alike(
    store: MemoryRowStore, by: str
) -> None:
    """Some days of a month may be split and others not."""
    await store.write("ViewShards", "day", insert=[Row(key="2026-11-02", columns={"Count": 4})])
    await store.write("ViewShards", "day", insert=[Row(key="2026-11-04", columns={"Count": 8})])
    rows = [row(f"2026-11-{day:02}", name) for day in range(1, 6) for name in "abcdef"]
    found = await usage_of(
        store, query(by, "2026-11", "2026-11", groups=""), *rows, prices=INPUT_ALONE
    )

    costs = [each.cost for each in found]
    assert costs == {"day": [Fraction("0.06")] * 5, "month": [Fraction("0.3")]}[by]
    assert query(by).period is Period(by)


def test_amounts_are_never_binary() -> None:
    """A rate of a third, times three, is one."""
    thirds = book(price("1", unit=3))
    bill = Bill()
    bill.add(thirds, date(2026, 11, 1), Use("m", "", "", "", "standard", ""), {Kind.INPUT: 3})

    assert bill.cost == 1
    assert isinstance(price("0.1").price, Decimal)
    assert isinstance(thirds, PriceBook)
