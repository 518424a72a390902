"""Closing a month: what is against it, what is stored, and that it happens once."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from meter.errors import HubUnavailable, LedgerDamaged, StorageUnavailable
from meter.ledger.keys import ledger_partition
from meter.upkeep.closing.close import Closing, Refused
from meter.upkeep.closing.corrections import closed_total
from meter.upkeep.closing.header import Header
from meter.upkeep.closing.reading import MAX_LOOKS
from meter.upkeep.closing.snapshot import CLOSED_TABLE, digest_rows, read_closed
from meter.usage import TokenUsage
from meter.window import Window
from tests.fakes.gateway import FakeClock
from tests.fakes.rows import Fault
from tests.support.closing import (
    IN_DECEMBER,
    IN_NOVEMBER,
    IN_OCTOBER,
    LATER_IN_NOVEMBER,
    NOVEMBER,
    OCTOBER,
    FakeHub,
    close,
    closed_header,
    count,
    ledger_of,
    marker_place,
    october,
    october_call,
    prove,
)
from tests.support.events import adjustment, usage_event
from tests.support.rebuilding import Store, state

TABLE = "Closed202610xa1"
SEPTEMBER = Window("2026-09")
WRONG_SUM_OF_BOB = (
    f"the ledger, bucket {ledger_partition('bob')}: 1 wrong-sum: `rebuild --month 2026-10 --dry-run` "
    "names them"
)


@pytest.fixture
async def store() -> Store:
    return await october()


async def test_a_closed_month_has_the_ledgers_sums(store: Store) -> None:
    """Of its hours, its days and the month, as views have them."""
    await count(store, adjustment(1, time=IN_OCTOBER))
    header = await closed_header(store)

    assert await closed_total(store, OCTOBER) == await ledger_of(store, OCTOBER)
    for table, window, period in (
        ("UsageByHour", "2026-10-20T07", "hour"),
        ("UsageByDay", "2026-10-20", "day"),
        ("UsageByMonth", "2026-10", "month"),
    ):
        shown = store.rows(table, window)
        stored = store.rows(TABLE, f"{period}|{window}")
        assert stored == {key: {**columns, "Revision": 1} for key, columns in shown.items()}
    assert header.totals == {
        "calls": 3,
        "prompt_tokens": 30,
        "completion_tokens": 15,
        "total_tokens": 45,
        "adjustments": 1,
        "adjusted_prompt_tokens": -4,
        "adjusted_completion_tokens": -1,
        "adjusted_total_tokens": -5,
    }


async def test_the_header_says_who_when_and_what(store: Store) -> None:
    """All of it is bound by the root."""
    hub = FakeHub(messages={"0": [(IN_NOVEMBER, b"{}")]})
    store.put("HubPositions", "hub", "ns=2Fusage|0", SequenceNumber=0, EnqueuedAt=IN_NOVEMBER)
    prices = [{"file": "book.csv", "sha256": "ab" * 32}]
    header = await closed_header(store, by="finance@contoso", prices=prices, hub=hub)
    document = dict(header.document)
    for name in ("tree", "totals", "rows"):
        del document[name]

    assert document == {
        "format": "aoai-meter closed month 1",
        "month": "2026-10",
        "closed_at": "2026-11-03T09:00:00.000000Z",
        "closed_by": "finance@contoso",
        "forced": [],
        "prices": prices,
        "watermark": {
            "time": "2026-11-03T09:00:00.000000Z",
            "hub": "ns/usage",
            "partitions": {"0": {"number": 0, "enqueued_at": "2026-11-03T09:00:00.000000Z"}},
        },
        "leaves": 3,
        "corrected": [],
        "settled": [],
        "previous": "",
    }
    assert (await read_closed(store)).by_month[OCTOBER].header == header


async def test_a_running_month_cannot_be_closed(store: Store) -> None:
    """Not even by force, nor by a clock that is ahead of the service's."""
    await count(store, usage_event(50, time=IN_NOVEMBER))
    before = state(store)
    forced = await close(store, NOVEMBER, at=LATER_IN_NOVEMBER, is_forced=True)
    store.time = LATER_IN_NOVEMBER
    ahead = await close(store, NOVEMBER, at=LATER_IN_NOVEMBER + timedelta(days=30))

    text = "2026-11 is running: it ends 2026-12-01T00:00:00.000000Z"
    assert isinstance(forced, Refused)
    assert forced.final == (text,)
    assert isinstance(ahead, Header), "both clocks have moved"
    assert state(store).keys() - before.keys() == {"Closed202611xa1", CLOSED_TABLE}


async def test_the_services_clock_decides_if_ours_is_ahead(store: Store) -> None:
    """A month that runs for storage is not over."""
    await count(store, usage_event(50, time=IN_NOVEMBER))

    class Behind(Store):
        async def service_time(self) -> Any:
            return LATER_IN_NOVEMBER

    behind = Behind(tables=store.tables)
    result = await close(behind, NOVEMBER, at=LATER_IN_NOVEMBER + timedelta(days=30))

    assert isinstance(result, Refused)
    assert "2026-11 is running" in result.final[0]


async def test_every_reason_is_given_at_once_and_nothing_is_left(store: Store) -> None:
    """Outbox, hub, dead letters and ledger; no table of the attempt stays."""
    store.put("Outbox", "2026-10-20T07", "id-1", Subject="alice", Event="no JSON")
    store.put("DeadLetters", "2026-11-01", f"0|{7:020}|000000|{'a' * 16}", Body="no JSON")
    store.tamper(marker_place(1)[0], ledger_partition("bob"), month_sum(store, "bob"), Calls=9)
    result = await close(store, hub="no address")

    assert isinstance(result, Refused)
    assert not result.final
    assert [reason.split(":")[0] for reason in result.reasons] == [
        "the outbox",
        "the hub cannot be asked for unread events",
        "dead letters",
        f"the ledger, bucket {ledger_partition('bob')}",
    ]
    assert result.reasons[-1] == WRONG_SUM_OF_BOB
    assert CLOSED_TABLE not in store.tables
    assert not [name for name in store.tables if name.startswith("Closed")]


def month_sum(store: Store, subject: str) -> str:
    return next(
        key for _, key in store.tables["Ledger202610"] if key.startswith(f"s|2026-10|{subject}|")
    )


async def test_a_forced_month_says_what_was_against_it(store: Store) -> None:
    """In its header, so in its root; the markers decide what its totals are."""
    store.tamper(marker_place(1)[0], ledger_partition("bob"), month_sum(store, "bob"), Calls=9)
    header = await closed_header(store, hub="no address", is_forced=True)

    assert header.document["forced"] == [
        "the hub cannot be asked for unread events: no address",
        WRONG_SUM_OF_BOB,
    ]
    assert header.totals["calls"] == 3


async def test_a_marker_that_cannot_be_read_is_a_reason(store: Store) -> None:
    """It may be any call."""
    store.tamper(*marker_place(1), Call="{")
    result = await close(store)

    assert isinstance(result, Refused)
    assert any("unreadable" in reason for reason in result.reasons)


@pytest.mark.parametrize("key", ["c|not-an-id|alice", "c|{upper}|alice", "c|{id}|a%b"])
async def test_a_marker_whose_key_the_app_does_not_write_is_a_reason(
    store: Store, key: str
) -> None:
    """It would have no place in the tree, or two."""
    table, partition, written = marker_place(1)
    text = written.split("|")[1]
    columns = store.tables[table][partition, written].columns
    store.put(table, partition, key.format(id=text, upper=text.upper()), **columns)
    result = await close(store)

    assert isinstance(result, Refused)
    assert "1 unreadable" in result.reasons[0]


async def test_what_is_left_of_a_broken_attempt_keeps_no_month_open(store: Store) -> None:
    """If it cannot be removed, it stays."""
    store.put("Closed202610xold", "month|2026-10", "row")
    store.plan("drop", Fault.UNAVAILABLE)
    header = await closed_header(store)

    assert (await read_closed(store)).by_month[OCTOBER].header == header
    assert "Closed202610xold" in store.tables


async def test_a_damaged_ledger_is_found_after_much_was_written(store: Store) -> None:
    """What was written of the attempt goes."""
    last = next(f"s{n}" for n in range(10_000) if ledger_partition(f"s{n}") == "63")
    await count(store, october_call(40, subject=last))
    store.tamper("Ledger202610", "63", month_sum(store, last), TotalTokens=1)
    result = await close(store)

    assert isinstance(result, Refused)
    assert result.reasons == (WRONG_SUM_OF_BOB.replace(ledger_partition("bob"), "63"),)
    assert TABLE not in store.tables


async def test_a_month_without_a_ledger_cannot_be_closed(store: Store) -> None:
    """It had no calls, or nothing is left to prove them by."""
    await store.drop("Ledger202610")
    result = await close(store, is_forced=True)

    assert isinstance(result, Refused)
    assert "there is no table Ledger202610" in result.final[0]


async def test_a_month_is_closed_once(store: Store) -> None:
    """A second time says when it was closed, and changes nothing."""
    header = await closed_header(store)
    before = state(store)
    again = await close(store, attempt="a2", is_forced=True, at=LATER_IN_NOVEMBER)

    assert again == Refused(
        final=(f"2026-10 is closed: 2026-11-03T09:00:00.000000Z, by finance, root {header.root}",)
    )
    assert state(store) == before


@dataclass(slots=True)
class Interrupted(Store):
    """A store in which something happens just before a snapshot is made valid."""

    intruder: Callable[[], Awaitable[object]] | None = None

    async def write(self, table: str, partition: str, **rows: Any) -> Any:
        if table == CLOSED_TABLE and self.intruder is not None:
            intruder, self.intruder = self.intruder, None
            await intruder()
        return await Store.write(self, table, partition, **rows)


async def test_of_two_processes_that_close_a_month_one_does(store: Store) -> None:
    """The other's table goes, and it says who was first."""
    both = Interrupted(tables=store.tables, _last_etag=10_000)
    both.intruder = partial(closed_header, both, attempt="a2", by="another")
    loser = await close(both)

    assert isinstance(loser, Refused)
    assert "by another" in loser.final[0]
    assert [n for n in store.tables if n.startswith("Closed202610x")] == ["Closed202610xa2"]
    assert await closed_total(store, OCTOBER) == await ledger_of(store, OCTOBER)


@pytest.mark.parametrize("fault", [Fault.UNAVAILABLE, Fault.ANSWER_LOST])
@pytest.mark.parametrize("place", range(12))
async def test_a_close_that_breaks_off_closes_nothing_or_all(
    store: Store, place: int, fault: Fault
) -> None:
    """Wherever it is: a half-written snapshot is none, and the next attempt succeeds."""
    store.plan("write", *[Fault.NOTHING] * place, fault)
    try:
        first = await close(store)
    except StorageUnavailable:
        first = None
    store.forget_plans()
    is_closed = OCTOBER in (await read_closed(store)).by_month
    again = await close(store, attempt="a2")

    assert isinstance(again, Refused) == is_closed
    if isinstance(first, Header):
        assert is_closed
    assert (await prove(store)).header.totals["calls"] == 3
    assert await closed_total(store, OCTOBER) == await ledger_of(store, OCTOBER)
    if not is_closed:
        assert TABLE not in store.tables, "what the broken attempt had written goes"


async def test_a_conflict_of_the_last_write_is_looked_into(store: Store) -> None:
    """A retry of a write that was applied finds its own row: the month is closed."""

    class Repeating(Store):
        async def write(self, table: str, partition: str, **rows: Any) -> Any:
            result = await Store.write(self, table, partition, **rows)
            if table == CLOSED_TABLE:
                return await Store.write(self, table, partition, **rows)
            return result

    repeating = Repeating(tables=store.tables, _last_etag=10_000)
    header = await closed_header(repeating)

    assert (await read_closed(store)).by_month[OCTOBER].header == header


async def test_another_month_closed_meanwhile_makes_it_run_again(store: Store) -> None:
    """Two at once would store the same corrections."""
    await count(store, usage_event(60, time=IN_OCTOBER - timedelta(days=30)))

    both = Interrupted(tables=store.tables, _last_etag=10_000)
    both.intruder = partial(closed_header, both, SEPTEMBER, attempt="a2")
    result = await close(both)
    again = await closed_header(store, attempt="a3")

    assert result == Refused(final=("another month was closed meanwhile: run it again",))
    closed = await read_closed(store)
    assert again.document["previous"] == closed.by_month[SEPTEMBER].header.root


async def test_calls_that_are_counted_meanwhile_are_in_sums_and_tree_alike(store: Store) -> None:
    """A bucket is read again: both are of one moment."""
    counting = Store(tables=store.tables, _last_etag=10_000, page_rows=1)
    counting.pauses.extend([1] * 60)
    header, _ = await asyncio.gather(
        closed_header(counting), count(counting, *(october_call(n) for n in range(70, 90)))
    )

    total = await closed_total(counting, OCTOBER)
    assert total is not None
    assert sum(sums.calls for sums in total.values()) == header.totals["calls"]


async def test_a_bucket_without_rest_stops_it(store: Store) -> None:
    """Sums and tree of no moment would fit each other."""
    number = 100

    class Busy(Store):
        async def scan(self, table: str, **options: Any) -> Any:
            nonlocal number
            async for each in Store.scan(self, table, **options):
                yield each
            if options.get("first_key") == "s|":
                number += 1
                await count(self, october_call(number))

    busy = Busy(tables=store.tables, _last_etag=10_000)
    result = await close(busy, is_forced=True)

    assert isinstance(result, Refused)
    assert result.final[0].endswith("calls of 2026-10 are being counted: run it again")
    assert number > 100 + MAX_LOOKS


async def test_a_ledger_that_is_dropped_meanwhile_stops_it(store: Store) -> None:
    """Half a month is none."""

    async def drop() -> None:
        await store.drop("Ledger202610")

    store.intrude(drop)
    result = await close(store, is_forced=True)

    assert isinstance(result, Refused)
    assert "there is no table Ledger202610" in result.final[0]
    assert not [name for name in store.tables if name.startswith("Closed")]


async def test_the_rows_are_bound_by_the_root(store: Store) -> None:
    """Whoever changes one can be found out."""
    header = await closed_header(store)
    before = await digest_rows(store, TABLE)
    (key,) = [key for key in store.rows(TABLE, "month|2026-10") if key.startswith("bob")]
    store.tamper(TABLE, "month|2026-10", key, TotalTokens=16)

    assert header.document["rows"] == before
    assert await digest_rows(store, TABLE) != before


async def test_a_snapshot_can_be_checked_against_its_root(store: Store) -> None:
    """A row that was changed, added or removed is found; a month that is open has none."""
    closing = Closing(
        store=store,
        tables=store,
        clock=FakeClock(moment=IN_NOVEMBER),
        month=OCTOBER,
        by="auditor",
        attempt="a2",
    )
    before = await closing.check()
    header = await closed_header(store)
    sound = await closing.check()
    (key,) = [key for key in store.rows(TABLE, "day|2026-10-20") if key.startswith("bob")]
    store.remove(TABLE, "day|2026-10-20", key)
    changed = await closing.check()

    assert before == Refused(final=("2026-10 is not closed",))
    assert sound == header
    assert isinstance(changed, Refused)
    assert changed.final[0].startswith(f"the rows of {TABLE} are not those that were closed: ")


@pytest.mark.parametrize(
    "columns", [{"Header0": "{}"}, {"Root": "00"}, {"Header0": "{"}, {"Table": 1}]
)
async def test_a_header_that_was_changed_is_named(store: Store, columns: dict[str, Any]) -> None:
    """No report shows its numbers."""
    await closed_header(store)
    store.tamper(CLOSED_TABLE, "closed", "2026-10", **columns)

    with pytest.raises(LedgerDamaged, match="ClosedMonths, partition closed, row 2026-10"):
        await read_closed(store)


async def test_a_long_header_is_stored_in_pieces(store: Store) -> None:
    """A hub of 1,024 partitions has a long watermark."""
    hub = FakeHub(messages={str(n): [(IN_NOVEMBER, b"{}")] for n in range(1024)})
    for n in range(1024):
        key = f"ns=2Fusage|{n}"
        store.put("HubPositions", "hub", key, SequenceNumber=0, EnqueuedAt=IN_NOVEMBER)
    header = await closed_header(store, hub=hub)

    assert "Header1" in store.rows(CLOSED_TABLE, "closed")["2026-10"]
    assert (await read_closed(store)).by_month[OCTOBER].header == header
    assert (await prove(store)).header == header


async def test_a_hub_that_does_not_answer_is_a_reason(store: Store) -> None:
    """Nobody knows what it holds."""
    result = await close(store, hub=FakeHub(failure=HubUnavailable("no answer")))

    assert isinstance(result, Refused)
    assert result.reasons == ("the hub cannot be asked for unread events: no answer",)


async def test_a_month_of_one_call_without_tokens_can_be_closed() -> None:
    """Counts of 0 are left out everywhere."""
    store = Store()
    await count(store, october_call(1, usage=TokenUsage()))

    assert (await closed_header(store)).totals == {"calls": 1}


async def test_a_closed_month_that_was_removed_is_missed_by_the_next(store: Store) -> None:
    """Each root binds the one before it."""
    before = await closed_header(store)
    await count(store, usage_event(50, time=IN_NOVEMBER))
    header = await closed_header(store, NOVEMBER, at=IN_DECEMBER)
    closing = Closing(
        store=store,
        tables=store,
        clock=FakeClock(moment=IN_DECEMBER),
        month=NOVEMBER,
        by="auditor",
        attempt="a2",
    )
    sound = await closing.check()
    store.remove(CLOSED_TABLE, "closed", "2026-10")

    assert sound == header
    assert await closing.check() == Refused(
        final=(f"the month that was closed before 2026-11 is not there: root {before.root}",)
    )
