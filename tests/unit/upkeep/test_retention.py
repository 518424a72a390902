"""Retention: which ledgers go and when; nothing that is still accepted is ever without its ledger."""

import logging
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from meter.errors import StorageUnavailable
from meter.ledger.decode import decode
from meter.ports import Row
from meter.upkeep.retention import Retention, is_over
from meter.window import Period, Window, window_of
from tests.fakes.gateway import FakeClock
from tests.fakes.rows import Fault, MemoryRowStore
from tests.support.events import RETENTION, message, usage_event

JULY_ENDS = datetime(2026, 8, 1, tzinfo=UTC)
TICK = timedelta(microseconds=1)
LAST_ACCEPTED = JULY_ENDS - TICK + RETENTION
TABLES = ["Ledger202606", "Ledger202607", "Ledger202608", "UsageByMonth", "Ledger2026", "Ledgers"]


async def store_with(*tables: str) -> MemoryRowStore:
    store = MemoryRowStore()
    for table in tables:
        await store.write(table, "p", insert=[Row(key="a", columns={})], update=[])
    return store


async def dropped(store: MemoryRowStore, now: datetime) -> list[str]:
    clock = FakeClock(moment=now)
    return await Retention(tables=store, clock=clock, retention=RETENTION).run()


async def test_only_ledgers_past_their_retention_are_dropped(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Views, younger ledgers and tables of other names stay, with all their rows."""
    caplog.set_level(logging.INFO)
    store = await store_with(*TABLES)
    gone = await dropped(store, JULY_ENDS + RETENTION + timedelta(days=2))

    assert gone == ["Ledger202606", "Ledger202607"]
    assert sorted(store.tables) == ["Ledger2026", "Ledger202608", "Ledgers", "UsageByMonth"]
    assert caplog.messages == [
        "ledger_dropped table=Ledger202606",
        "ledger_dropped table=Ledger202607",
    ]


@pytest.mark.parametrize(
    ("after_the_month", "gone"),
    [
        (RETENTION, []),
        (RETENTION + timedelta(days=1), []),
        (RETENTION + timedelta(days=1) + TICK, ["Ledger202607"]),
    ],
)
async def test_a_ledger_goes_a_day_after_its_last_event_could_be_accepted(
    after_the_month: timedelta, gone: list[str]
) -> None:
    """The day is for batches under way and for clocks that differ."""
    store = await store_with("Ledger202607")

    assert await dropped(store, JULY_ENDS + after_the_month) == gone


def test_the_last_event_of_a_month_is_accepted_until_the_retention_is_over() -> None:
    """At the very end of July and of its retention: counted, and its ledger is there."""
    last = usage_event(time=JULY_ENDS - TICK)
    in_time = decode([message(last)], now=LAST_ACCEPTED, retention=RETENTION)
    too_late = decode([message(last)], now=LAST_ACCEPTED + TICK, retention=RETENTION)

    assert (len(in_time.events), len(too_late.events)) == (1, 0)
    assert not is_over(Window("2026-07"), now=LAST_ACCEPTED, retention=RETENTION)


@given(
    now=st.datetimes(datetime(2020, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001  # hypothesis wants naive bounds
    retention=st.integers(1, 3660).map(lambda days: timedelta(days=days)),
    share=st.floats(0, 1),
    clock_behind=st.timedeltas(timedelta(0), timedelta(days=1)),
)
@example(
    now=LAST_ACCEPTED + timedelta(days=1),
    retention=RETENTION,
    share=1,
    clock_behind=timedelta(days=1),
)
def test_no_event_that_is_accepted_anywhere_belongs_to_a_ledger_that_is_over(
    now: datetime, retention: timedelta, share: float, clock_behind: timedelta
) -> None:
    """Whatever the retention, also for an aggregator whose clock is a day behind."""
    theirs = now - clock_behind
    event = usage_event(time=theirs - retention * share)
    accepted = decode([message(event)], now=theirs, retention=retention).events

    assert accepted
    month = window_of(event.time, Period.MONTH)
    assert not is_over(month, now=now, retention=retention)


async def test_an_outage_is_tried_again_the_next_day() -> None:
    """What was dropped before it stays dropped."""
    store = await store_with("Ledger202605", "Ledger202606")
    store.plan("drop", Fault.NOTHING, Fault.UNAVAILABLE)
    now = JULY_ENDS + RETENTION
    with pytest.raises(StorageUnavailable):
        await dropped(store, now)

    assert await dropped(store, now) == ["Ledger202606"]
