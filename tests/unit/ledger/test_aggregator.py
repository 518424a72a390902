"""The aggregator: a batch from bytes to tables, also when a step fails."""

import logging
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest

from meter.errors import StorageUnavailable
from meter.ledger.aggregator import Aggregator, BatchReport
from meter.ledger.decode import Message
from tests.fakes.rows import Fault, MemoryRowStore
from tests.support.events import (
    NOW,
    RETENTION,
    document,
    json_message,
    message,
    raw_message,
    usage_event,
)


@dataclass
class Clock:
    """A clock that the test sets."""

    moment: datetime = field(default=NOW)

    def now(self) -> datetime:
        return self.moment

    def monotonic(self) -> float:
        return 0.0


@pytest.fixture
def store() -> MemoryRowStore:
    return MemoryRowStore()


@pytest.fixture
def aggregator(store: MemoryRowStore) -> Aggregator:
    return aggregator_on(store)


def aggregator_on(store: MemoryRowStore, clock: Clock | None = None) -> Aggregator:
    return Aggregator(
        store=store,
        clock=clock or Clock(),
        retention=RETENTION,
    )


async def failed(aggregator: Aggregator, messages: list[Message]) -> bool:
    """Whether the batch failed because storage was unavailable."""
    has_failed = False
    try:
        await aggregator.handle(messages)
    except* StorageUnavailable:
        has_failed = True
    return has_failed


def month_calls(store: MemoryRowStore) -> dict[Any, Any]:
    return {row["Subject"]: row["Calls"] for row in store.rows("UsageByMonth").values()}


async def test_a_batch_ends_in_all_tables(store: MemoryRowStore, aggregator: Aggregator) -> None:
    """Ledger, three views and the subjects."""
    report = await aggregator.handle([message(usage_event(1)), message(usage_event(2))])

    assert report == BatchReport(new_calls=2, repeated_calls=0, dead_letters=0)
    assert sorted(store.tables) == [
        "Ledger202611",
        "Subjects",
        "UsageByDay",
        "UsageByHour",
        "UsageByMonth",
    ]
    assert month_calls(store) == {"alice": 2}


async def test_an_empty_batch_touches_nothing(
    store: MemoryRowStore, aggregator: Aggregator
) -> None:
    """The host may call with none."""
    report = await aggregator.handle([])

    assert report == BatchReport(new_calls=0, repeated_calls=0, dead_letters=0)
    assert dict(store.calls) == {}


async def test_poison_in_a_batch_stops_nobody(
    store: MemoryRowStore, aggregator: Aggregator, caplog: pytest.LogCaptureFixture
) -> None:
    """What cannot be counted is kept and logged as a number, the rest is counted."""
    caplog.set_level(logging.ERROR)
    poison = json_message([document(id=None), document(usage_event(2))], sequence_number=2)
    report = await aggregator.handle(
        [raw_message(b"\xff"), poison, message(usage_event(3), sequence_number=3)]
    )

    assert report == BatchReport(new_calls=2, repeated_calls=0, dead_letters=2)
    assert len(store.tables["DeadLetters"]) == 2
    assert month_calls(store) == {"alice": 2}
    assert caplog.messages == ["events_dead_lettered count=2"]


async def test_a_batch_of_repeats_changes_no_row(
    store: MemoryRowStore, aggregator: Aggregator
) -> None:
    """Neither in the process that counted it nor in another."""
    batch = [message(usage_event(1), usage_event(2, subject="bob")), raw_message(b"x")]
    await aggregator.handle(batch)
    writes = len(store.transactions)
    reports = [await one.handle(batch) for one in (aggregator, aggregator_on(store))]

    assert reports == [BatchReport(new_calls=0, repeated_calls=2, dead_letters=1)] * 2
    assert len(store.transactions) == writes


@pytest.mark.parametrize("fault", [Fault.UNAVAILABLE, Fault.ANSWER_LOST])
@pytest.mark.parametrize("writes_before", range(8))
async def test_an_outage_at_any_write_fails_the_batch_and_the_retry_counts_once(
    store: MemoryRowStore, fault: Fault, writes_before: int
) -> None:
    """Eight writes: a dead letter, two ledger partitions, four windows in three views, the subjects."""
    batch = [
        raw_message(b"poison"),
        message(
            usage_event(1),
            usage_event(2, time=NOW - timedelta(hours=1)),
            usage_event(3, subject="bob"),
            sequence_number=2,
        ),
    ]
    store.plan("write", *[Fault.NOTHING] * writes_before, fault)
    first = await failed(aggregator_on(store), batch)
    second = await failed(aggregator_on(store), batch)

    assert (first, second) == (True, False)
    assert month_calls(store) == {"alice": 2, "bob": 1}
    assert len(store.tables["DeadLetters"]) == 1
    assert len(store.tables["Subjects"]) == 2


async def test_a_crash_between_ledger_and_view_is_repaired_by_the_redelivery(
    store: MemoryRowStore, aggregator: Aggregator
) -> None:
    """The repeat counts nothing and copies the sums it belongs to."""
    await aggregator.handle([message(usage_event(1))])
    store.plan("write", Fault.NOTHING, Fault.UNAVAILABLE)
    assert await failed(aggregator, [message(usage_event(2))])
    report = await aggregator_on(store).handle([message(usage_event(2))])

    assert report == BatchReport(new_calls=0, repeated_calls=1, dead_letters=0)
    assert month_calls(store) == {"alice": 2}


async def test_calls_of_two_months_go_to_two_ledgers(store: MemoryRowStore) -> None:
    """A batch may lie across the end of a month."""
    midnight = datetime.fromisoformat("2026-12-01T00:00:00+00:00")
    events = [
        usage_event(1, time=midnight - timedelta(microseconds=1)),
        usage_event(2, time=midnight),
    ]
    await aggregator_on(store, Clock(midnight)).handle([message(*events)])

    assert {"Ledger202611", "Ledger202612"} < set(store.tables)
    assert sorted(partition for partition, _ in store.tables["UsageByMonth"]) == [
        "2026-11",
        "2026-12",
    ]


async def test_subjects_that_differ_in_case_or_form_are_billed_apart(
    store: MemoryRowStore, aggregator: Aggregator
) -> None:
    """A subject is its exact text; look-alikes and long ones are others."""
    subjects = ["alice", "Alice", "ALICE ", "ａlice", "e\u0301", "\u00e9", "x" * 254, "x" * 255]
    await aggregator.handle(
        [message(*(usage_event(n, subject=text) for n, text in enumerate(subjects)))]
    )

    assert month_calls(store) == dict.fromkeys(subjects, 1)


async def test_an_event_that_grew_too_old_since_it_was_counted_is_a_dead_letter(
    store: MemoryRowStore,
) -> None:
    """Its marker may be gone, so a repeat could not be detected; it is kept and not counted."""
    clock = Clock()
    aggregator = aggregator_on(store, clock)
    await aggregator.handle([message(usage_event(1))])
    clock.moment = NOW + RETENTION + timedelta(seconds=1)
    report = await aggregator.handle([message(usage_event(1))])

    assert report == BatchReport(new_calls=0, repeated_calls=0, dead_letters=1)
    assert month_calls(store) == {"alice": 1}


MICROSECOND = timedelta(microseconds=1)
DECEMBER = datetime.fromisoformat("2026-12-01T00:00:00+00:00")


@pytest.mark.parametrize(
    ("now", "time", "counted_in"),
    [
        (DECEMBER - timedelta(minutes=5), DECEMBER, "Ledger202612"),
        (DECEMBER - timedelta(minutes=5), DECEMBER + MICROSECOND, "DeadLetters"),
        (DECEMBER - timedelta(minutes=5) - MICROSECOND, DECEMBER, "DeadLetters"),
        (DECEMBER, DECEMBER - MICROSECOND, "Ledger202611"),
        (DECEMBER + RETENTION, DECEMBER, "Ledger202612"),
        (DECEMBER + RETENTION, DECEMBER - MICROSECOND, "DeadLetters"),
        (DECEMBER + RETENTION - MICROSECOND, DECEMBER - MICROSECOND, "Ledger202611"),
        (DECEMBER + RETENTION + MICROSECOND, DECEMBER, "DeadLetters"),
    ],
)
async def test_an_event_counts_in_the_month_it_ended_in_or_not_at_all(
    store: MemoryRowStore, now: datetime, time: datetime, counted_in: str
) -> None:
    """From exactly the retention ago to exactly five minutes ahead, at the turn of a month too."""
    await aggregator_on(store, Clock(now)).handle([message(usage_event(1, time=time))])

    written = {name for name in store.tables if name.startswith(("Ledger", "Dead"))}
    assert written == {counted_in}
