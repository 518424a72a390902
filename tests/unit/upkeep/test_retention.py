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
NEWEST = ["Ledger202609", "Ledger202610"]


async def store_with(*tables: str) -> MemoryRowStore:
    store = MemoryRowStore()
    for table in tables:
        await store.write(table, "p", insert=[Row(key="a", columns={})], update=[])
    return store


async def dropped(
    store: MemoryRowStore, now: datetime, service_time: datetime | None = None
) -> str | None:
    clock, store.time = FakeClock(moment=now), service_time or now
    return await Retention(tables=store, clock=clock, retention=RETENTION).run()


async def test_only_a_ledger_past_its_retention_is_dropped(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Views, younger ledgers and tables of other names stay, with all their rows."""
    caplog.set_level(logging.INFO)
    others = ["Ledger2026", "Ledgers", "UsageByMonth"]
    store = await store_with("Ledger202608", "Ledger202607", *NEWEST, *others)
    gone = await dropped(store, JULY_ENDS + RETENTION + timedelta(days=2))

    assert gone == "Ledger202607"
    assert sorted(store.tables) == sorted(["Ledger202608", *NEWEST, *others])
    assert caplog.messages == ["ledger_dropped table=Ledger202607"]


@pytest.mark.parametrize(
    ("after_the_month", "gone"),
    [
        (RETENTION, None),
        (RETENTION + timedelta(days=1), None),
        (RETENTION + timedelta(days=1) + TICK, "Ledger202607"),
    ],
)
async def test_a_ledger_goes_a_day_after_its_last_event_could_be_accepted(
    after_the_month: timedelta, gone: str | None
) -> None:
    """The day is for batches under way and for clocks that differ."""
    store = await store_with("Ledger202607", *NEWEST)

    assert await dropped(store, JULY_ENDS + after_the_month) == gone


async def test_a_run_drops_one_ledger_the_oldest() -> None:
    """What a wrong decision costs is bounded; a backlog goes day by day."""
    store = await store_with("Ledger202605", "Ledger202606", "Ledger202607", *NEWEST)
    runs = [await dropped(store, datetime(2027, 3, 1, tzinfo=UTC)) for _ in range(5)]

    assert runs == ["Ledger202605", "Ledger202606", "Ledger202607", None, None]
    assert sorted(store.tables) == NEWEST


@pytest.mark.parametrize("tables", [[], ["Ledger202607"], ["Ledger202606", "Ledger202607"]])
async def test_the_two_newest_ledgers_are_never_dropped(tables: list[str]) -> None:
    """However old they are, by every clock: the running month and the one before it are among them."""
    store = await store_with(*tables)

    assert await dropped(store, datetime(2030, 1, 1, tzinfo=UTC)) is None
    assert sorted(store.tables) == tables


@pytest.mark.parametrize("is_ours_ahead", [True, False])
async def test_one_clock_that_is_ahead_drops_nothing(is_ours_ahead: bool) -> None:
    """The instance's or the service's: the earlier one decides."""
    store = await store_with("Ledger202608", *NEWEST)
    right, wrong = datetime(2026, 11, 1, tzinfo=UTC), datetime(2027, 4, 1, tzinfo=UTC)
    clocks = (wrong, right) if is_ours_ahead else (right, wrong)

    assert await dropped(store, *clocks) is None
    assert sorted(store.tables) == ["Ledger202608", *NEWEST]


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


@pytest.mark.parametrize("operation", ["names", "service_time", "drop"])
async def test_an_outage_is_tried_again_the_next_day(operation: str) -> None:
    """Without the service's time nothing is dropped."""
    store = await store_with("Ledger202606", *NEWEST)
    store.plan(operation, Fault.UNAVAILABLE)
    now = JULY_ENDS + RETENTION
    with pytest.raises(StorageUnavailable):
        await dropped(store, now)

    assert "Ledger202606" in store.tables
    assert await dropped(store, now) == "Ledger202606"
