"""A report with provisioned capacity: what its rows are charged, and what it says of each entry."""

import io
import json
from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from meter.errors import InvalidInput
from meter.ledger.rows import SumRow
from meter.reports.capacity.costs import CapacityCosts
from meter.reports.capacity.entries import Capacity, Entry, Idle
from meter.reports.capacity.reading import currency_of, read_capacity_costs, read_day_shares
from meter.reports.owners import read_owners
from meter.reports.pricing.book import PriceBook
from meter.reports.query import Query
from meter.reports.rows import UsageRow
from meter.reports.usage import read_usage, usage_report
from meter.reports.write.report import Format, write_report
from meter.usage import TokenUsage
from tests.fakes.rows import MemoryRowStore
from tests.support.capacity import by, entry, team, tokens
from tests.support.ledger import views_on
from tests.support.reports import book, price, query, row

NO_PRICES = PriceBook(prices=(), currency="USD")
PAST = datetime(2027, 1, 1, tzinfo=UTC)
NOVEMBER = query(first="2026-11", last="2026-11")


@pytest.fixture
def store() -> MemoryRowStore:
    return MemoryRowStore()


def calls(hour: str, subject: str, usage: TokenUsage | None = None, **names: Any) -> list[SumRow]:
    """Calls on the provisioned backend, in the views of all lengths."""
    names = {"backend": "ptu", "tier": "provisioned", **names}
    windows = (hour, hour[:10], hour[:7])
    return [row(window, subject, usage=usage or tokens(1), **names) for window in windows]


async def costs_of(
    store: MemoryRowStore,
    wanted: Query,
    *entries: Entry,
    prices: PriceBook = NO_PRICES,
    now: datetime = PAST,
) -> CapacityCosts:
    """What these entries cost in the range."""
    return await read_capacity_costs(
        store,
        wanted,
        Capacity(entries=entries),
        book=prices,
        owners=await read_owners(store),
        now=now,
    )


async def charged(
    store: MemoryRowStore,
    wanted: Query,
    *entries: Entry,
    stored: list[SumRow],
    prices: PriceBook = NO_PRICES,
) -> list[UsageRow]:
    """The rows of a report with these entries."""
    await views_on(store).write(stored)
    costs = await costs_of(store, wanted, *entries, prices=prices)
    return [each async for each in read_usage(store, wanted, book=prices, capacity=costs)]


def costs(rows: list[UsageRow]) -> dict[tuple[str, ...], Fraction | None]:
    """The costs by window and names."""
    return {(each.label, *each.names): each.cost for each in rows}


async def written(
    store: MemoryRowStore, form: Format, wanted: Query, *entries: Entry, now: datetime = PAST
) -> str:
    """The report with these entries, as text."""
    found = await costs_of(store, wanted, *entries, now=now)
    out = io.StringIO()
    await write_report(usage_report(store, wanted, book=NO_PRICES, capacity=found), form, out)
    return out.getvalue()


async def test_rows_are_charged_their_share(store: MemoryRowStore) -> None:
    """November's 720 hours at 100 PTUs, of which one was used by two subjects; the rest is idle."""
    stored = [
        *calls("2026-11-10T07", "alice", tokens(3)),
        *calls("2026-11-10T07", "bob", tokens(1)),
    ]

    assert costs(await charged(store, NOVEMBER, entry(), stored=stored)) == {
        ("2026-11", "(idle)"): 71_900,
        ("2026-11", "alice"): 75,
        ("2026-11", "bob"): 25,
    }


@pytest.mark.parametrize("groups", ["", "subject", "tier", "team,model", "subject,backend"])
@pytest.mark.parametrize("idle", Idle)
async def test_costs_add_up_whatever_they_are_grouped_by(
    store: MemoryRowStore, groups: str, idle: Idle
) -> None:
    """Also where no group names a subject."""
    stored = [
        *calls("2026-11-10T07", "alice", tokens(3)),
        *calls("2026-11-10T08", "bob", tokens(1)),
        *calls("2026-11-11T08", "carol", tokens(1, 7, cached=1)),
    ]
    wanted = query(first="2026-11", last="2026-11", groups=groups)
    of = entry(
        idle=idle, shares={team("a"): Fraction(1), team("b"): Fraction(2)},
        tokens_per_minute={"gpt-4o": Fraction(1, 7_000)},
    )  # fmt: skip
    rows = await charged(store, wanted, of, stored=stored)

    assert sum(each.cost or 0 for each in rows) == 72_000


async def test_a_window_without_calls_has_its_idle_line(store: MemoryRowStore) -> None:
    """Days in order; on the first and the last nobody called."""
    wanted = query("day", "2026-11-09", "2026-11-11")
    rows = await charged(store, wanted, entry(), stored=[*calls("2026-11-10T07", "alice")])

    assert costs(rows) == {
        ("2026-11-09", "(idle)"): 2_400,
        ("2026-11-10", "(idle)"): 2_300,
        ("2026-11-10", "alice"): 100,
        ("2026-11-11", "(idle)"): 2_400,
    }
    assert [each.label for each in rows] == sorted(each.label for each in rows)


async def test_by_use_the_idle_days_are_on_lines_of_those_who_used_the_month(
    store: MemoryRowStore,
) -> None:
    """Lines without calls, in windows without any."""
    wanted = query("day", "2026-11-09", "2026-11-10")
    rows = await charged(
        store, wanted, entry(idle=Idle.BY_USE), stored=[*calls("2026-11-10T07", "alice")]
    )

    assert costs(rows) == {("2026-11-09", "alice"): 2_400, ("2026-11-10", "alice"): 2_400}
    assert [each.sums.calls for each in rows] == [0, 1]


async def test_tokens_are_charged_once(store: MemoryRowStore) -> None:
    """A price of provisioned tokens does not apply where capacity pays; it does on other days.

    Calls that spilled over are standard: they have their own price, and no share.
    """
    prices = book(price("1", unit=1), price("2", unit=1, tier="provisioned"))
    stored = [
        *calls("2026-11-09T07", "before", tokens(10)),
        *calls("2026-11-10T07", "alice", tokens(10)),
        *calls("2026-11-10T07", "alice", tokens(5), tier="standard"),
        *calls("2026-11-10T07", "elsewhere", tokens(10), backend="other"),
    ]
    of = entry(first=date(2026, 11, 10), end=date(2026, 11, 11))
    rows = await charged(store, NOVEMBER, of, stored=stored, prices=prices)

    assert costs(rows) == {
        ("2026-11", "(idle)"): 2_300,
        ("2026-11", "alice"): 105,
        ("2026-11", "before"): 20,
        ("2026-11", "elsewhere"): 20,
    }


async def test_what_capacity_pays_is_not_unpriced(store: MemoryRowStore) -> None:
    """Calls of hosted tools are bought one by one: they still need a price."""
    used = TokenUsage(prompt_tokens=5, total_tokens=5, web_search_calls=2)
    only_cached = TokenUsage(prompt_tokens=5, cached_tokens=5, total_tokens=5)
    stored = [
        *calls("2026-11-10T07", "alice", used),
        *calls("2026-11-10T07", "bob", only_cached),
    ]
    rows = await charged(store, NOVEMBER, entry(), stored=stored)

    assert costs(rows[1:]) == {("2026-11", "alice"): 100, ("2026-11", "bob"): 0}
    assert [(each.kind, quantity) for row in rows for each, quantity in row.unpriced] == [
        ("web_search", 2)
    ]


async def test_a_share_of_a_team_is_a_line_of_that_team(store: MemoryRowStore) -> None:
    """Grouped by team it is part of the team's line."""
    of = entry(idle=Idle.BY_SHARE, shares={team("(no team)"): Fraction(1), team("b"): Fraction(1)})
    wanted = query("hour", "2026-11-10T07", "2026-11-10T08", groups="team")
    rows = await charged(store, wanted, of, stored=[*calls("2026-11-10T07", "alice")])

    assert costs(rows) == {
        ("2026-11-10T07", "(no team)"): 100,
        ("2026-11-10T07", "b"): 0,
        ("2026-11-10T08", "(no team)"): 50,
        ("2026-11-10T08", "b"): 50,
    }


async def test_entries_outside_of_the_range_cost_nothing(store: MemoryRowStore) -> None:
    """Not even their currency matters."""
    stored = [*calls("2026-11-10T07", "alice")]
    past = entry(first=date(2026, 1, 1), end=date(2026, 11, 1), currency="EUR")
    later = entry(first=date(2026, 12, 1), currency="EUR")

    assert costs(await charged(store, NOVEMBER, past, later, stored=stored)) == {
        ("2026-11", "alice"): None
    }


async def test_another_currency_is_refused(store: MemoryRowStore) -> None:
    """Amounts in several currencies are never added up."""
    with pytest.raises(InvalidInput) as caught:
        await costs_of(store, NOVEMBER, entry(), entry(backend="b", currency="EUR", place="second"))
    assert caught.value.problems == (
        "second.currency is EUR, but the report's is USD: amounts in several currencies are not added "
        "up",
    )


def test_without_prices_the_currency_is_that_of_the_entries() -> None:
    """If they have one; those that are not valid in the range have no say."""
    euros = entry(currency="EUR", place="first")
    past = entry(end=date(2026, 11, 1), first=date(2026, 1, 1))
    dollars = entry(backend="b", place="second")

    assert currency_of(Capacity(entries=[past, euros]), NOVEMBER) == "EUR"
    assert currency_of(Capacity(entries=[past]), NOVEMBER) == "USD"
    with pytest.raises(InvalidInput) as caught:
        currency_of(Capacity(entries=[euros, dollars]), NOVEMBER)
    assert caught.value.problems == (
        "amounts in several currencies are not added up: first has EUR, second has USD",
    )


async def test_a_price_is_found_by_where_the_calls_went(store: MemoryRowStore) -> None:
    """The views say region and deployment type of the calls; the entry needs not."""
    prices = book(
        price("1.00", "ptu_hour", unit=1, deployment_type="global", region="swedencentral"),
        price("2.20", "ptu_hour", unit=1, deployment_type="regional", region="swedencentral"),
    )
    stored = [*calls("2026-11-10T07", "alice", place=("swedencentral", "regional"))]
    wanted = query("hour", "2026-11-10T07", "2026-11-10T07")
    rows = await charged(store, wanted, entry(price=None), stored=stored, prices=prices)

    assert costs(rows) == {("2026-11-10T07", "alice"): 220}


async def test_calls_of_two_places_do_not_choose_a_price(store: MemoryRowStore) -> None:
    """The message says how to."""
    prices = book(price("1.00", "ptu_hour", unit=1, region="swedencentral"))
    stored = [
        *calls("2026-11-10T07", "alice", place=("swedencentral", "global")),
        *calls("2026-11-10T07", "alice", place=("eastus", "global"), backend="ptu-2"),
    ]

    with pytest.raises(InvalidInput, match="no ptu_hour of region unknown and deployment type unk"):
        await charged(
            store,
            NOVEMBER,
            entry(backend="", deployment="gpt-4o", price=None),
            stored=stored,
            prices=prices,
        )


async def test_the_table_says_what_each_entry_cost_and_how_far_it_was_used(
    store: MemoryRowStore,
) -> None:
    """Below the rows, whose total is the cost."""
    await views_on(store).write(calls("2026-11-10T07", "alice", tokens(60_000)))
    of = entry(tokens_per_minute={"gpt-4o": Fraction(20)})
    text = await written(store, Format.TABLE, query("hour", "2026-11-10T07", "2026-11-10T08"), of)

    assert text.splitlines()[-3:] == [
        "capacity     from        PTUs  hours  with use  utilisation        cost   used    idle",
        "-----------  ----------  ----  -----  --------  -----------  ----------  -----  ------",
        "backend ptu  2026-11-01   100      2         1        25.0%  200.00 USD  50.00  150.00",
    ]
    assert "2026-11-10T08  (idle)" in text


async def test_hours_to_come_are_told(store: MemoryRowStore) -> None:
    """A month's report has the whole month, of which a part has not happened."""
    noon = datetime(2026, 11, 29, 12, 30, tzinfo=UTC)
    text = await written(store, Format.TABLE, NOVEMBER, entry(), now=noon)

    assert text.splitlines()[-1] == (
        "backend ptu: 35 of the hours are still to come; they count as hours without use"
    )


async def test_json_has_the_totals_of_each_entry_and_window(store: MemoryRowStore) -> None:
    """Amounts are text, exact; utilisation is a share of PTU-hours."""
    await views_on(store).write(calls("2026-11-10T07", "alice", tokens(60_000)))
    of = entry(end=date(2026, 12, 1), tokens_per_minute={"gpt-4o": Fraction(20)})
    wanted = query("hour", "2026-11-10T07", "2026-11-10T08")
    document = json.loads(await written(store, Format.JSON, wanted, of))

    assert document["capacity"] == {
        "entries": [
            {
                "backend": "ptu",
                "deployment": None,
                "from": "2026-11-01",
                "to": "2026-12-01",
                "ptus": 100,
                "idle_policy": "separate",
                "currency": "USD",
                "hours": 2,
                "hours_with_use": 1,
                "cost": "200",
                "used": "50",
                "idle": "150",
                "utilisation": "0.25",
                "hours_to_come": 0,
                "windows": [
                    {
                        "hour": "2026-11-10T07",
                        "hours": 1,
                        "hours_with_use": 1,
                        "cost": "100",
                        "used": "50",
                        "idle": "50",
                        "utilisation": "0.5",
                    },
                    {
                        "hour": "2026-11-10T08",
                        "hours": 1,
                        "hours_with_use": 0,
                        "cost": "100",
                        "used": "0",
                        "idle": "100",
                        "utilisation": "0",
                    },
                ],
            }
        ]
    }
    assert sum(Decimal(each["cost"]) for each in document["rows"]) == 200


async def test_csv_has_the_idle_line_as_a_row(store: MemoryRowStore) -> None:
    """Its cost is in the column of costs."""
    await views_on(store).write(calls("2026-11-10T07", "alice"))
    wanted = query("hour", "2026-11-10T07", "2026-11-10T08")
    text = await written(store, Format.CSV, wanted, entry())

    assert [line.split(",")[:3] for line in text.splitlines()] == [
        ['"hour"', '"subject"', '"calls"'],
        ['"2026-11-10T07"', '"alice"', "1"],
        ['"2026-11-10T08"', '"(idle)"', "0"],
    ]


async def test_the_shares_of_a_day_are_1(store: MemoryRowStore) -> None:
    """An invoice is split by them, whatever its units cost."""
    await views_on(store).write(
        [
            *calls("2026-11-10T07", "alice", tokens(3)),
            *calls("2026-11-10T07", "bob", tokens(1)),
        ]
    )
    of = entry(price=None, first=date(2026, 11, 10), end=date(2026, 11, 12), ptus=7)
    (found,) = await read_day_shares(store, NOVEMBER, Capacity(entries=[of]))

    assert found.entry is of
    assert list(found.by_day) == [date(2026, 11, 10), date(2026, 11, 11)]
    assert dict(found.by_day[date(2026, 11, 11)]) == {None: 1}
    assert sum(found.by_day[date(2026, 11, 10)].values()) == 1
    assert found.by_day[date(2026, 11, 10)][by("alice")] == Fraction(3, 96)
