"""The views as reports read them: closed numbers for closed months, whatever the range."""

from datetime import date
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter.errors import LedgerDamaged
from meter.ledger.views.view import VIEW_TABLES
from meter.reports.pricing.kinds import Kind
from meter.reports.query import Grouping, Query
from meter.reports.usage import usage_report
from meter.reports.write.report import Format, write_report
from meter.upkeep.closing.header import Header
from meter.upkeep.closing.snapshot import ClosedMonth, ClosedMonths
from meter.upkeep.closing.views import ClosedViews, closed_views
from meter.usage import TokenUsage
from meter.window import Period, Window
from tests.support.closing import (
    IN_DECEMBER,
    IN_NOVEMBER,
    IN_OCTOBER,
    LATER_IN_NOVEMBER,
    NOVEMBER,
    OCTOBER,
    closed_header,
    count,
    october,
    october_call,
)
from tests.support.events import usage_event
from tests.support.prices import book, price
from tests.support.rebuilding import Store
from tests.support.running import REPOSITORY


@pytest.fixture
async def store() -> Store:
    """October closed; a call of it and one of November arrived since."""
    store = await october()
    await closed_header(store)
    await count(store, october_call(9), usage_event(50, time=IN_NOVEMBER), at=LATER_IN_NOVEMBER)
    return store


async def report(store: Store, first: Window, last: Window, form: Format, **options: Any) -> str:
    views = await closed_views(store)
    query = Query(first=first, last=last, groups=(Grouping.SUBJECT,))
    is_by_month = query.period is Period.MONTH
    found = await views.corrections(query.windows() if is_by_month else ())
    out = StringIO()
    await write_report(usage_report(views, query, corrections=found, **options), form, out)
    return out.getvalue()


def lines(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


async def test_a_report_shows_closed_numbers_and_what_arrived_since_where_it_arrived(
    store: Store,
) -> None:
    """A line of corrections in the month of arrival; all lines add up to the ledger."""
    shown = lines(await report(store, OCTOBER, NOVEMBER, Format.TABLE))

    assert shown[3:7] == [
        ["2026-10", "alice", "2", "20", "10", "30"],
        ["2026-10", "bob", "1", "10", "5", "15"],
        ["2026-11", "alice", "1", "10", "5", "15"],
        ["2026-11", "alice", "corrections", "of", "2026-10", "1", "10", "5", "15"],
    ]
    assert shown[-1] == ["total", "5", "50", "25", "75"]


async def test_files_name_the_month_that_is_corrected(store: Store) -> None:
    """In a column of its own, beside the month of arrival."""
    head, *rows = (await report(store, OCTOBER, NOVEMBER, Format.CSV)).splitlines()

    assert head.startswith('"month","subject","corrections_of","calls",')
    assert [row.replace('"', "").split(",")[:4] for row in rows] == [
        ["2026-10", "alice", "", "2"],
        ["2026-10", "bob", "", "1"],
        ["2026-11", "alice", "", "1"],
        ["2026-11", "alice", "2026-10", "1"],
    ]


async def test_corrections_are_charged_by_the_prices_of_their_days(store: Store) -> None:
    """Those of the call, not those of its arrival."""
    one_dollar = {"price": Decimal(1), "unit": 1}
    prices = book(
        price(**one_dollar, effective_to=date(2026, 11, 1)),
        price(**one_dollar, effective_to=date(2026, 11, 1), kind=Kind.OUTPUT),
        price(price=Decimal(100), unit=1, effective_from=date(2026, 11, 1)),
        price(price=Decimal(100), unit=1, effective_from=date(2026, 11, 1), kind=Kind.OUTPUT),
    )
    shown = lines(await report(store, NOVEMBER, NOVEMBER, Format.TABLE, book=prices))
    costs = {" ".join(line[:2]): line for line in shown}

    assert "15.00" in " ".join(costs["alice corrections"])
    assert "1,500.00" in " ".join(costs["alice 1"])


async def test_a_closed_october_and_a_call_that_arrives_in_november() -> None:
    """The example of docs/chargeback.md: October stays, and its late call is charged in November."""
    million = TokenUsage(prompt_tokens=10**6, completion_tokens=10**5, total_tokens=1_100_000)
    store = Store()
    await count(store, *(october_call(n, usage=million) for n in (1, 2)), at=IN_OCTOBER)
    await count(store, october_call(3, subject="bob", usage=million), at=IN_OCTOBER)
    await closed_header(store)
    late = october_call(4, usage=million)
    await count(store, late, usage_event(5, time=IN_NOVEMBER, usage=million), at=LATER_IN_NOVEMBER)
    november = date(2026, 11, 1)
    prices = book(
        price(price=Decimal("2.50"), effective_to=november),
        price(price=Decimal("2.20"), effective_from=november),
        price(price=Decimal(10), kind=Kind.OUTPUT),
    )
    shown = await report(store, OCTOBER, NOVEMBER, Format.TABLE, book=prices)

    page = (REPOSITORY / "docs" / "chargeback.md").read_text(encoding="utf-8")
    assert shown.partition("\n")[2] in page
    assert shown.splitlines()[1:] == [
        "month    subject  corrections             calls      total  cost USD   share",
        "-------  -------  ----------------------  -----  ---------  --------  ------",
        "2026-10  alice                                2  2,200,000      7.00   66.7%",
        "2026-10  bob                                  1  1,100,000      3.50   33.3%",
        "2026-11  alice                                1  1,100,000      3.20  100.0%",
        "2026-11  alice    corrections of 2026-10      1  1,100,000      3.50       -",
        "-------  -------  ----------------------  -----  ---------  --------  ------",
        "total                                         5  5,500,000     17.20",
    ]


async def test_a_report_without_closed_months_has_no_column_of_corrections() -> None:
    """Nothing changes for who never closes a month."""
    text = await report(await october(), OCTOBER, NOVEMBER, Format.CSV)

    assert "corrections_of" not in text


async def test_days_and_hours_of_a_closed_month_are_closed_too(store: Store) -> None:
    """They add up to it."""
    for first, last in (("2026-10-19", "2026-11-23"), ("2026-10-20T06", "2026-10-20T08")):
        text = await report(store, Window(first), Window(last), Format.CSV)
        shown = [row.replace('"', "").split(",")[:3] for row in text.splitlines()[1:]]
        assert [row[1:] for row in shown[:2]] == [["alice", "2"], ["bob", "1"]]


async def test_a_closed_month_whose_view_was_split_is_read_once(store: Store) -> None:
    """The snapshot is not split: the first shard stands for all."""
    store.put("ViewShards", "month", "2026-10", Count=4)
    text = await report(store, OCTOBER, OCTOBER, Format.CSV)

    assert [row.replace('"', "").split(",")[:3] for row in text.splitlines()[1:]] == [
        ["2026-10", "alice", "2"],
        ["2026-10", "bob", "1"],
    ]


MONTHS = [Window(f"2026-{number:02}") for number in range(1, 13)]
PARTS = [f"2026-{m:02}{d}" for m in range(1, 13) for d in ("", "-01", "-28", "~00", "~07", "~~")]


@given(st.sets(st.sampled_from(MONTHS)), st.sampled_from(PARTS), st.sampled_from(PARTS))
def test_each_partition_of_a_range_is_read_from_one_table(
    closed: set[Window], first: str, last: str
) -> None:
    """Closed months from their snapshots, all others from the views, in order, none twice."""
    months = {
        m: ClosedMonth(header=Header({"month": m.name}), table=f"Closed{m.name}") for m in closed
    }
    views = ClosedViews(Store(), ClosedMonths(by_month=months))
    parts = views._parts("UsageByDay", first, last)
    read = [
        (partition, [table for table, begin, end in parts if begin <= partition <= end])
        for partition in PARTS
        if first <= partition <= last and partition[-1] != "~" and (first != last)
    ]

    assert [begin for _, begin, _ in parts] == sorted(begin for _, begin, _ in parts)
    for partition, tables in read:
        month = Window(partition[:7])
        assert tables == [f"Closed{month.name}" if month in closed else "UsageByDay"]


async def test_other_tables_are_read_as_they_are(store: Store) -> None:
    """Subjects, splits, ledgers."""
    views = await closed_views(store)
    scan = views.scan("Ledger202610", first_partition="00", last_partition="63")

    assert len([row async for row in scan]) == len(store.tables["Ledger202610"])
    assert await views.keys_between("Subjects", "subject", "", "~") == {"alice", "bob"}
    assert set(await views.read("Subjects", "subject", ["alice"])) == {"alice"}
    assert set(VIEW_TABLES.values()) == {"UsageByHour", "UsageByDay", "UsageByMonth"}


async def test_a_month_closed_later_keeps_the_corrections_it_had(store: Store) -> None:
    """And the numbers of the closed ones, in one report."""
    before = await report(store, OCTOBER, NOVEMBER, Format.CSV)
    await closed_header(store, NOVEMBER, at=IN_DECEMBER)
    await count(store, october_call(77), usage_event(78, time=IN_OCTOBER), at=IN_DECEMBER)

    assert await report(store, OCTOBER, NOVEMBER, Format.CSV) == before


async def test_a_snapshot_that_is_gone_is_named(store: Store) -> None:
    """A closed month without numbers would look like one without calls."""
    await store.drop("Closed202610xa1")

    with pytest.raises(LedgerDamaged, match="row 2026-10, column Table: there is no table Closed"):
        await report(store, OCTOBER, OCTOBER, Format.CSV)
