"""The aggregator: a batch from bytes to tables, also when a step fails."""

import asyncio
import logging
from copy import replace
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest

from meter.errors import RowsRefused, StorageUnavailable, TableMissing
from meter.ledger.aggregator import Aggregator, BatchReport
from meter.ledger.commit import Committer
from meter.ledger.decode import Message
from meter.ledger.keys import LEDGER_PARTITIONS, ledger_partition, subject_key
from meter.ledger.marks import ABANDONED_AFTER, Marks
from meter.ledger.views.showing import CADENCE_SECONDS, MANY_ROWS
from meter.ports import Conflict, RowStore, Written
from meter.upkeep.sweep import Sweep
from meter.usage import encode_event
from meter.window import Window
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
from tests.support.ledger import new_writer, subjects_of_one_bucket, subjects_of_own_buckets

NAMES = "alice|app|gpt-4o|gpt-4o-2024-11-20|east|standard|short"
ALICES = ledger_partition("alice")


@dataclass
class Clock:
    """A clock that the test sets."""

    moment: datetime = field(default=NOW)
    seconds: float = 0.0

    def now(self) -> datetime:
        return self.moment

    def monotonic(self) -> float:
        return self.seconds


@dataclass(slots=True)
class LedgerFailing(MemoryRowStore):
    """A store that fails at one of its writes to a ledger."""

    at: int = 1
    ledger_writes: int = 0

    async def write(self, table: str, partition: str, **rows: Any) -> Written | Conflict:
        if table.startswith("Ledger"):
            self.ledger_writes += 1
            if self.ledger_writes == self.at:
                raise StorageUnavailable(f"{table}: no answer")
        return await MemoryRowStore.write(self, table, partition, **rows)


@dataclass(slots=True)
class SilentViews(MemoryRowStore):
    """A store that refuses to write views, and then does not answer at all."""

    is_silent: bool = False

    async def write(self, table: str, partition: str, **rows: Any) -> Written | Conflict:
        if not table.startswith("UsageBy"):
            return await MemoryRowStore.write(self, table, partition, **rows)
        if self.is_silent:
            await asyncio.Event().wait()
        raise StorageUnavailable(f"{table}: no answer")


@dataclass(slots=True, kw_only=True)
class BegunByAnother(MemoryRowStore):
    """A store in which another aggregator counts right after the first refused write."""

    other: Aggregator
    begun: bool = False

    async def write(self, table: str, partition: str, **rows: Any) -> Written | Conflict:
        try:
            return await MemoryRowStore.write(self, table, partition, **rows)
        except TableMissing:
            if not self.begun:
                self.begun = True
                await self.other.count([usage_event(2, subject="bob")])
            raise


@pytest.fixture
def store() -> MemoryRowStore:
    return MemoryRowStore()


@pytest.fixture
def aggregator(store: MemoryRowStore) -> Aggregator:
    return aggregator_on(store)


def aggregator_on(store: RowStore, clock: Clock | None = None) -> Aggregator:
    return Aggregator(
        store=store,
        clock=clock or Clock(),
        retention=RETENTION,
        writer=new_writer(),
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
async def test_an_outage_at_any_write_loses_nothing_and_the_redelivery_counts_once(
    store: MemoryRowStore, fault: Fault, writes_before: int
) -> None:
    """Only one of the ledger or of the dead letters fails the batch; views and subjects can wait."""
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

    assert (first, second) == (writes_before in {0, 1, 7}, False)
    assert month_calls(store) == {"alice": 2, "bob": 1}
    assert len(store.tables["DeadLetters"]) == 1
    assert len(store.tables["Subjects"]) == 2


async def test_a_crash_between_ledger_and_view_is_repaired_by_the_redelivery(
    store: MemoryRowStore, aggregator: Aggregator
) -> None:
    """The repeat counts nothing and copies the sums it belongs to."""
    await aggregator.handle([message(usage_event(1))])
    await aggregator.committer.commit(
        ledger_partition("alice"), Window("2026-11"), [usage_event(2)]
    )
    before = month_calls(store)
    report = await aggregator_on(store).handle([message(usage_event(2))])

    assert before == {"alice": 1}
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


async def test_dead_letters_do_not_delay_good_events(store: MemoryRowStore) -> None:
    """While DeadLetters cannot be written the batch comes again, and its good events are counted."""
    aggregator = aggregator_on(Failing(store, {"DeadLetters"}))
    batch = [raw_message(b"poison"), message(usage_event(1), sequence_number=2)]

    assert await failed(aggregator, batch)
    assert month_calls(store) == {"alice": 1}


async def test_one_throttled_bucket_does_not_keep_the_others_from_being_counted(
    store: MemoryRowStore,
) -> None:
    """A ledger partition is a bucket of subjects; the batch comes again for the one that failed."""
    failing = Failing(store, partitions={ALICES})
    events = [usage_event(n, subject=name) for n, name in enumerate(["alice", "bob", "carol"])]
    aggregator = aggregator_on(failing)
    has_failed = await failed(aggregator, [message(*events)])
    before = month_calls(store)
    failing.partitions = set()
    report = await aggregator.handle([message(*events)])
    await aggregator.showing.settle()

    assert (has_failed, before) == (True, {"bob": 1, "carol": 1})
    assert report == BatchReport(new_calls=1, repeated_calls=2)
    assert month_calls(store) == {"alice": 1, "bob": 1, "carol": 1}


async def test_one_failing_subject_keeps_its_bucket_from_being_counted_for_one_delivery_only(
    store: MemoryRowStore,
) -> None:
    """A bucket fails as one; at the next delivery it is split until the culprit stands alone."""
    names = subjects_of_one_bucket(30)
    failing = Failing(store, subjects={names[17]})
    batch = [message(*(usage_event(n, subject=name) for n, name in enumerate(names)))]
    aggregator = aggregator_on(failing)
    outcomes = [await failed(aggregator, batch)]
    at_first = failing.refused
    outcomes.append(await failed(aggregator, batch))
    await aggregator.showing.settle()

    assert (outcomes, at_first) == ([True, True], 1)
    assert failing.refused - at_first <= 6  # of 30, 15, 8, 4, 2 and 1 events
    assert month_calls(store) == {name: 1 for name in names if name != names[17]}


async def test_an_outage_is_not_asked_about_once_per_bucket(store: MemoryRowStore) -> None:
    """A few failures tell it; as many requests as buckets would only feed a throttled service."""
    clock = Clock()
    failing = Failing(store, {"Ledger202611"}, clock=clock)
    events = [usage_event(n, subject=f"s{n}") for n in range(200)]

    assert await failed(aggregator_on(failing, clock), [message(*events)])
    assert failing.store.calls["write"] == 0
    assert failing.refused <= 18


@pytest.mark.parametrize("buckets", [1, 2, 20])
async def test_an_outage_is_not_asked_about_once_per_event_of_a_redelivery(
    store: MemoryRowStore, buckets: int
) -> None:
    """Splitting finds a culprit among others that are answered; in an outage there are none."""
    clock = Clock()
    failing = Failing(store, {"Ledger202611"}, clock=clock)
    names = subjects_of_own_buckets(buckets)
    events = [usage_event(n, subject=names[n % buckets]) for n in range(500)]
    aggregator = aggregator_on(failing, clock)
    await failed(aggregator, [message(*events)])
    failing.refused = 0

    assert await failed(aggregator, [message(*events)])
    assert failing.refused <= 18


@pytest.mark.parametrize("failing_buckets", [8, 9, len(LEDGER_PARTITIONS) - 1])
async def test_no_number_of_throttled_buckets_keeps_the_others_from_being_counted(
    store: MemoryRowStore, failing_buckets: int
) -> None:
    """Each is tried once per delivery, wherever it is in the batch."""
    *names, other = subjects_of_own_buckets(failing_buckets + 1)
    failing = Failing(store, subjects=set(names))
    events = [usage_event(n, subject=name) for n, name in enumerate([*names, other])]

    assert await failed(aggregator_on(failing), [message(*events)])
    assert failing.refused == failing_buckets
    assert month_calls(store) == {other: 1}


async def test_buckets_that_take_long_to_fail_come_last_in_the_next_delivery(
    store: MemoryRowStore,
) -> None:
    """A batch of which none was counted for ten seconds ends; then the others are first."""
    clock = Clock()
    names = subjects_of_own_buckets(40)
    failing = Failing(store, subjects=set(names[:20]), clock=clock)
    batch = [message(*(usage_event(n, subject=name) for n, name in enumerate(names)))]
    aggregator = aggregator_on(failing, clock)

    assert await failed(aggregator, batch)
    assert month_calls(store) == {}
    assert await failed(aggregator, batch)
    assert set(month_calls(store)) == set(names[20:])


async def test_a_late_event_of_a_dropped_month_is_a_dead_letter(
    store: MemoryRowStore, caplog: pytest.LogCaptureFixture
) -> None:
    """Its ledger would begin at 0, know no repeat, and be believed by the next rebuild."""
    october = usage_event(1, time=NOW - timedelta(days=40))
    await aggregator_on(store, Clock(NOW - timedelta(days=40))).handle([message(october)])
    del store.tables["Ledger202610"]
    late = usage_event(2, time=NOW - timedelta(days=40))
    report = await aggregator_on(store).handle([message(late, usage_event(3))])

    assert (report.new_calls, report.dead_letters) == (1, 1)
    assert "Ledger202610" not in store.tables
    (letter,) = store.rows("DeadLetters").values()
    assert letter["Reason"] == "month-closed"
    assert letter["Body"] == encode_event(late).decode()
    assert (
        "events_parked reason=Ledger202610 was dropped, and what it had counted is not known"
        in caplog.messages
    )


async def test_a_process_that_remembers_a_dropped_month_does_not_begin_it_again(
    store: MemoryRowStore,
) -> None:
    """Its rows are in memory with their etags, so its write is an update."""
    aggregator = aggregator_on(store)
    await aggregator.handle([message(usage_event(1, time=NOW - timedelta(days=40)))])
    del store.tables["Ledger202610"]
    report = await aggregator.handle([message(usage_event(2, time=NOW - timedelta(days=40)))])

    assert report.dead_letters == 1
    assert "Ledger202610" not in store.tables


async def test_the_first_late_event_of_an_ended_month_begins_its_ledger(
    store: MemoryRowStore,
) -> None:
    """No view row of that month says that there ever was one."""
    report = await aggregator_on(store).handle(
        [message(usage_event(1, time=NOW - timedelta(days=40)))]
    )

    assert report == BatchReport(new_calls=1, repeated_calls=0)


async def test_a_clock_that_is_behind_does_not_begin_a_dropped_month(
    store: MemoryRowStore,
) -> None:
    """Whether a month has ended is judged by the hub's time of the batch as well."""
    october = NOW - timedelta(days=40)
    await aggregator_on(store, Clock(october)).handle([message(usage_event(1, time=october))])
    del store.tables["Ledger202610"]
    report = await aggregator_on(store, Clock(october)).handle(
        [message(usage_event(2, time=october))]
    )

    assert report.dead_letters == 1


async def test_a_damaged_sum_parks_its_own_events_only(
    store: MemoryRowStore, caplog: pytest.LogCaptureFixture
) -> None:
    """The cell is named; the subject's other deployment and other subjects are counted and shown."""
    aggregator = aggregator_on(store)
    await aggregator.handle([message(usage_event(1), usage_event(2, subject="bob"))])
    damage(store, f"s|2026-11|{NAMES}", TotalTokens="15")
    events = [
        usage_event(1),
        usage_event(3),
        usage_event(4, deployment="other"),
        usage_event(5, subject="bob"),
    ]
    report = await aggregator_on(store).handle([message(*events)])

    assert (report.new_calls, report.repeated_calls, report.dead_letters) == (2, 1, 1)
    assert month_calls(store) == {"alice": 1, "bob": 2}
    (letter,) = store.rows("DeadLetters").values()
    assert letter["Reason"] == "cannot-be-stored"
    assert str(letter["Detail"]).startswith(
        f"Ledger202611, partition {ALICES}, row s|2026-11|{NAMES}, "
        "column TotalTokens: a whole number is expected, got '15'"
    )
    assert caplog.messages[-1] == "events_dead_lettered count=1"


async def test_a_repaired_sum_takes_events_again(store: MemoryRowStore) -> None:
    """Also in the process that met the damage: it is not remembered."""
    aggregator = aggregator_on(store)
    await aggregator.handle([message(usage_event(1))])
    place = (ALICES, f"s|2026-11|{NAMES}")
    sound = store.tables["Ledger202611"][place]
    damage(store, place[1], Calls="x")
    parked = await aggregator_on(store).handle([message(usage_event(2))])
    damage(store, place[1], Calls=sound.columns["Calls"])
    replayed = await aggregator_on(store).handle([message(usage_event(2))])

    assert (parked.dead_letters, replayed.new_calls) == (1, 1)
    assert month_calls(store) == {"alice": 2}


async def test_a_sum_that_would_overflow_parks_the_event(store: MemoryRowStore) -> None:
    """2^63 tokens do not fit into a column; the sum stays as it is."""
    aggregator = aggregator_on(store)
    await aggregator.handle([message(usage_event(1))])
    row = f"s|2026-11|{NAMES}"
    damage(store, row, TotalTokens=2**63 - 16)
    one = await aggregator_on(store).handle([message(usage_event(2))])
    two = await aggregator_on(store).handle([message(usage_event(3), sequence_number=2)])

    assert (one.new_calls, two.dead_letters) == (1, 1)
    assert store.rows("Ledger202611")[row]["TotalTokens"] == 2**63 - 1


async def test_what_storage_refuses_for_good_is_parked_after_five_deliveries(
    store: MemoryRowStore,
) -> None:
    """Only the event that is refused; a refusal may pass, so not at the first one.

    The other one of its transaction is counted at once: refused rows are split in the first delivery.
    """
    failing = Failing(store, refuses="poison")
    aggregator = aggregator_on(failing)
    batch = [message(usage_event(1), usage_event(2, deployment="poison"))]
    outcomes = [await failed(aggregator, batch) for _ in range(4)]
    report = await aggregator.handle(batch)

    assert outcomes == [True] * 4
    assert (report.repeated_calls, report.dead_letters) == (1, 1)
    assert month_calls(store) == {"alice": 1}


def requests(store: MemoryRowStore) -> int:
    return sum(store.calls.values())


@pytest.mark.parametrize("is_new_process", [False, True])
@pytest.mark.parametrize("per_subject", [1, 10])
async def test_a_redelivery_costs_a_few_requests_a_bucket(
    store: MemoryRowStore, is_new_process: bool, per_subject: int
) -> None:
    """It asks for the markers of a bucket and for its sums, by window; and no more the next time."""
    aggregator = aggregator_on(store)
    await aggregator.handle([message(usage_event(999))])
    events = [usage_event(n, subject=f"s{n // per_subject}") for n in range(200)]
    batch = [message(*events, sequence_number=2)]
    buckets = len({ledger_partition(event.subject) for event in events})
    store.calls.clear()
    await aggregator.handle(batch)
    normal = requests(store)
    costs = []
    for _ in range(3):
        store.calls.clear()
        again = aggregator_on(store) if is_new_process else aggregator
        report = await again.handle(batch)
        costs.append(requests(store))
        assert report.repeated_calls == 200

    assert normal <= 2 * buckets + 20  # a process asks once for the marks of a bucket
    assert max(costs) <= 7 * buckets + 20  # a new process asks for marks, and takes over


async def test_a_throttled_view_costs_a_few_requests_and_holds_up_nothing(
    store: MemoryRowStore,
) -> None:
    """Its partition is asked less and less often, whatever the number of batches; then all is shown."""
    clock = Clock()
    failing = Failing(store, {"UsageByMonth"})
    aggregator = aggregator_on(failing, clock)
    for number in range(100):
        await aggregator.handle([message(usage_event(number), sequence_number=number)])
        clock.seconds += 0.1
    throttled = failing.refused
    failing.tables = set()
    clock.seconds += 60
    await aggregator.handle([message(usage_event(100), sequence_number=100)])

    assert throttled <= 5
    assert month_calls(store) == {"alice": 101}


async def test_neither_views_nor_subjects_fails_the_batch(store: MemoryRowStore) -> None:
    """The mark in the ledger says from which hour on sums may not be shown, if the process dies now."""
    failing = Failing(store, {"UsageByHour", "UsageByDay", "UsageByMonth", "Subjects"})
    report = await aggregator_on(failing).handle([message(usage_event(1))])

    assert report == BatchReport(new_calls=1, repeated_calls=0)
    assert [row["From"] for row in marks(store)] == ["2026-11-23T07"]


async def test_a_repeat_shows_what_a_process_that_died_did_not(store: MemoryRowStore) -> None:
    """Whoever gets it reads the sums that it belongs to, and copies them."""
    await aggregator_on(Failing(store, {"UsageByHour"})).handle([message(usage_event(1))])
    report = await aggregator_on(store).handle([message(usage_event(1))])

    assert report.repeated_calls == 1
    assert len(store.tables["UsageByHour"]) == 1


async def test_what_follows_within_the_cadence_is_copied_once(store: MemoryRowStore) -> None:
    """Where sums are many, the first batch is shown at once, later ones when the seconds have passed."""
    clock = Clock()
    aggregator = aggregator_on(store, clock)
    for number in range(1, 7):
        events = [usage_event(1000 * number + n, subject=f"s{n}") for n in range(MANY_ROWS // 3)]
        await aggregator.handle([message(*events, sequence_number=number)])
        if number == 5:
            assert set(month_calls(store).values()) == {1}
            clock.seconds += CADENCE_SECONDS

    assert set(month_calls(store).values()) == {6}
    copies = [each.rows for each in store.transactions if each.table == "UsageByMonth"]
    assert sum(copies) == 2 * (MANY_ROWS // 3)


async def test_a_command_shows_what_it_counts_before_it_returns(store: MemoryRowStore) -> None:
    """Its process ends then, and leaves no mark."""
    await aggregator_on(store).count([usage_event(1)])

    assert month_calls(store) == {"alice": 1}
    assert marks(store) == []


async def test_a_command_that_cannot_show_what_it_counts_leaves_it_to_the_sweep(
    store: MemoryRowStore,
) -> None:
    """Its events are counted: it must not say that they are not."""
    report = await aggregator_on(Failing(store, {"UsageByDay"})).count([usage_event(1)])

    assert report == BatchReport(new_calls=1, repeated_calls=0)
    assert len(marks(store)) == 1


async def test_closing_shows_what_waits(store: MemoryRowStore) -> None:
    """Without regard to the wait after a failure: there will be no later."""
    failing = Failing(store, {"UsageByMonth"})
    aggregator = aggregator_on(failing)
    await aggregator.handle([message(usage_event(1))])
    failing.tables = set()
    await aggregator.close(1.0)

    assert month_calls(store) == {"alice": 1}


async def test_nothing_goes_on_after_closing(store: MemoryRowStore) -> None:
    """The store is closed next: what still wrote to it would open connections that nobody closes."""
    failing = Failing(store, {"UsageByMonth"})
    aggregator = aggregator_on(failing)
    await aggregator.handle([message(usage_event(1))])
    assert aggregator.showing.tasks() != []
    await aggregator.close(1.0)

    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_views_that_do_not_answer_are_left_when_the_time_to_close_is_over() -> None:
    """The sweep shows what they should have had."""
    store = SilentViews()
    aggregator = aggregator_on(store)
    await aggregator.handle([message(usage_event(1))])
    store.is_silent = True
    await aggregator.close(0.01)

    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert len(marks(store)) == 1


def marks(store: MemoryRowStore) -> list[Any]:
    """The ledger's marks."""
    return [row for key, row in store.rows("Ledger202611").items() if key.startswith("v|")]


def damage(store: MemoryRowStore, row_key: str, **columns: object) -> None:
    """Change a sum of alice by hand."""
    row = store.tables["Ledger202611"][ALICES, row_key]
    store.tables["Ledger202611"][ALICES, row_key] = replace(row, columns={**row.columns, **columns})


@pytest.mark.parametrize("late", [timedelta(hours=4), timedelta(days=30)])
async def test_a_late_backlog_that_was_never_shown_is_swept_however_late(
    store: MemoryRowStore, late: timedelta
) -> None:
    """Its views were throttled and the process died; no batch comes again, and nobody calls."""
    views = {"UsageByHour", "UsageByDay", "UsageByMonth"}
    backlog = [usage_event(n, subject=f"s{n}", time=NOW - late) for n in range(3)]
    report = await aggregator_on(Failing(store, views)).handle([message(*backlog)])
    week = NOW + timedelta(days=7)
    store.time += ABANDONED_AFTER + timedelta(seconds=1)
    await Sweep(store=store, tables=store, clock=Clock(week)).run()

    assert report.new_calls == 3
    assert month_calls(store) == {"s0": 1, "s1": 1, "s2": 1}
    assert sorted(store.rows("Subjects")) == ["s0", "s1", "s2"]
    assert marks(store) == []


@dataclass
class Failing:
    """A store of which some tables, partitions or ledger rows of subjects answer a write with 503."""

    store: MemoryRowStore
    tables: set[str] = field(default_factory=set)
    partitions: set[str] = field(default_factory=set)
    subjects: set[str] = field(default_factory=set)
    refuses: str = ""
    refused: int = 0
    clock: Clock | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    async def write(self, table: str, partition: str, **rows: Any) -> Written | Conflict:
        is_hit = table.startswith("Ledger") and any(
            subject_key(row.key) in self.subjects for row in rows.get("insert", ())
        )
        if table in self.tables or partition in self.partitions or is_hit:
            self.refused += 1
            if self.clock is not None:
                self.clock.seconds += 1
            raise StorageUnavailable(f"{table}: ServerBusy 503")
        if self.refuses and any(self.refuses in row.key for row in rows.get("insert", ())):
            raise RowsRefused(f"{table}: InvalidInput 400")
        return await self.store.write(table, partition, **rows)


async def test_a_subject_half_counted_is_shown_whole_after_the_redelivery() -> None:
    """The sums of the first transaction are not forgotten when the second one fails.

    It has 66 calls: their markers, 33 rows of sums and the mark are 100 rows.
    """
    store = LedgerFailing(at=2)
    aggregator = aggregator_on(store)
    batch = [message(*(usage_event(n, deployment=f"d{n // 2}") for n in range(120)))]
    with pytest.raises(StorageUnavailable):
        await aggregator.handle(batch)
    assert await aggregator.handle(batch) == BatchReport(new_calls=54, repeated_calls=66)
    await aggregator.showing.settle()
    for view in ("UsageByHour", "UsageByDay", "UsageByMonth"):
        assert sum(int(str(row["Calls"])) for row in store.rows(view).values()) == 120


@pytest.mark.parametrize("late", [3, 1], ids=["beside a sound event", "beside a damaged one"])
async def test_a_damaged_sum_of_a_repeat_keeps_no_other_sum_from_being_shown(
    store: MemoryRowStore, caplog: pytest.LogCaptureFixture, late: int
) -> None:
    """The repeats were counted by a process that died before it showed them."""
    batch = [usage_event(n, deployment=f"d{n}") for n in (1, 2)]
    dead = Committer(store, Marks(store, Clock(), new_writer()), lambda _: None)
    await dead.commit(ALICES, Window("2026-11"), batch)
    place = ALICES, "s|2026-11|alice|app|d1|gpt-4o-2024-11-20|east|standard|short"
    damaged = store.tables["Ledger202611"][place]
    store.tables["Ledger202611"][place] = replace(
        damaged, columns={**damaged.columns, "Calls": "1"}
    )
    batch.append(usage_event(3, deployment=f"d{late}"))
    aggregator = aggregator_on(store)
    report = await aggregator.handle([message(*batch)])
    is_sound = late == 3
    assert (report.new_calls, report.dead_letters) == (int(is_sound), int(not is_sound))
    assert report.repeated_calls == 2
    shown = {str(row["Deployment"]) for row in store.rows("UsageByMonth").values()}
    assert shown == ({"d2", "d3"} if is_sound else {"d2"})
    assert "column Calls" in caplog.text


@pytest.mark.parametrize("revision", ["5", 5.0, True, None])
async def test_a_damaged_revision_leaves_no_view_behind(
    store: MemoryRowStore, revision: object
) -> None:
    """A sum that began anew at 1 would be behind its view for as many writes as it had."""
    row_key = f"s|2026-11|{NAMES}"
    for number in range(1, 6):
        await aggregator_on(store).count([usage_event(number)])
    for number in range(6, 9):
        before = store.tables["Ledger202611"][ALICES, row_key]
        columns = {**before.columns, "Revision": revision}
        store.tables["Ledger202611"][ALICES, row_key] = replace(before, columns=columns)
        await aggregator_on(store).count([usage_event(number)])
        assert [row["Calls"] for row in store.rows("UsageByMonth").values()] == [number]


async def test_a_ledger_that_another_began_just_now_was_not_dropped(store: MemoryRowStore) -> None:
    """Its view row appears between the refused write and the look at the views."""
    late = datetime(2026, 12, 1, 0, 1, tzinfo=NOW.tzinfo)
    other = aggregator_on(store, Clock(late))
    mine = BegunByAnother(tables=store.tables, other=other)
    aggregator = aggregator_on(mine, Clock(late))
    report = await aggregator.handle([message(usage_event(1))])
    assert (report.new_calls, report.dead_letters) == (1, 0)


@pytest.mark.parametrize("most_known_bytes", [0, 20_000])
async def test_what_is_forgotten_is_read_and_counted_all_the_same(
    store: MemoryRowStore, most_known_bytes: int
) -> None:
    """Memory saves requests. It never decides a total, however little of it there is."""
    aggregator = replace(aggregator_on(store), most_known_bytes=most_known_bytes)
    subjects = subjects_of_one_bucket(30)
    for batch in range(4):
        calls = [usage_event(batch * 100 + n, subject=s) for n, s in enumerate(subjects)]
        await aggregator.count(calls)

    for table in ("UsageByHour", "UsageByDay", "UsageByMonth"):
        assert {
            row["Subject"]: row["Calls"] for row in store.rows(table).values()
        } == dict.fromkeys(subjects, 4)
