"""Replaying dead letters: what is valid now is counted once and its row is deleted; the rest stays."""

import gzip
import json
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from meter.errors import StorageUnavailable
from meter.ledger.decode import Message
from meter.ledger.keys import parse_letter_key
from meter.ports import Row
from meter.upkeep.replay import (
    Judgement,
    Replay,
    ReplaySummary,
    StoredLetter,
    find_letter,
    read_letters,
)
from meter.upkeep.sweep import Sweep
from meter.usage import encode_event
from tests.fakes.gateway import FakeClock
from tests.fakes.rows import Fault, MemoryRowStore
from tests.support.events import (
    NOW,
    RETENTION,
    document,
    document_with_data,
    event_id,
    json_message,
    message,
    raw_message,
    usage_event,
)
from tests.support.ledger import aggregator_on

FUTURE = NOW + timedelta(minutes=6)
DAY = "2026-11-23"


@pytest.fixture
def store() -> MemoryRowStore:
    return MemoryRowStore()


async def receive(store: MemoryRowStore, *messages: Message, now: datetime = NOW) -> None:
    """What the aggregator does with them."""
    await aggregator_on(store, now).handle(messages)


async def letters(store: MemoryRowStore, **days: str) -> list[StoredLetter]:
    return [letter async for letter in read_letters(store, **days)]


async def keys(store: MemoryRowStore, **days: str) -> list[str]:
    """The letters' keys without their digests."""
    return [letter.key.rpartition("/")[0] for letter in await letters(store, **days)]


async def replay(
    store: MemoryRowStore,
    *,
    now: datetime = NOW,
    chosen: Sequence[StoredLetter] | None = None,
    is_dry_run: bool = False,
) -> tuple[ReplaySummary, list[Judgement]]:
    async def some() -> AsyncIterator[StoredLetter]:
        for letter in chosen or ():
            yield letter

    reported: list[Judgement] = []
    aggregator = aggregator_on(store, now)
    replaying = Replay(aggregator=aggregator, tables=store, is_dry_run=is_dry_run)
    source = read_letters(store) if chosen is None else some()
    return await replaying.run(source, reported.append), reported


def calls(store: MemoryRowStore) -> dict[object, object]:
    rows = store.tables.get("UsageByHour", {}).items()
    return {hour: row.columns["Calls"] for (hour, _), row in rows}


async def test_an_event_that_is_fine_now_counts_in_the_window_of_its_own_time(
    store: MemoryRowStore,
) -> None:
    """Not in that of the replay; its row goes."""
    await receive(store, message(usage_event(1, time=FUTURE)))
    summary, _ = await replay(store, now=FUTURE + timedelta(days=3))

    assert summary == ReplaySummary(replayed=1, new_calls=1)
    assert calls(store) == {"2026-11-23T07": 1}
    assert await keys(store) == []
    assert store.tables["DeadLetters"] == {}


async def test_an_event_that_is_refused_still_stays_with_its_reason(store: MemoryRowStore) -> None:
    """As it is, to the byte; nothing is counted."""
    await receive(
        store, message(usage_event(1, time=FUTURE)), raw_message(b"\xff", sequence_number=2)
    )
    before = dict(store.tables["DeadLetters"])
    summary, reported = await replay(store)

    assert summary == ReplaySummary(refused=2)
    assert [judgement.refusals[0].split(":")[0] for judgement in reported] == [
        "in-the-future",
        "not-json",
    ]
    assert store.tables["DeadLetters"] == before
    assert calls(store) == {}


async def test_an_event_that_was_counted_before_is_not_counted_again(store: MemoryRowStore) -> None:
    """It may have been sent again by other means; its letter is still deleted."""
    event = usage_event(1, time=FUTURE)
    await receive(store, message(event))
    await receive(store, message(event, sequence_number=2), now=FUTURE)
    summary, _ = await replay(store, now=FUTURE)

    assert summary == ReplaySummary(replayed=1, repeated_calls=1)
    assert calls(store) == {"2026-11-23T07": 1}
    assert await keys(store) == []


async def test_of_a_batch_only_the_dead_event_is_in_the_letter(store: MemoryRowStore) -> None:
    """Its neighbours were counted when they were received."""
    good, late = usage_event(1), usage_event(2, time=FUTURE)
    await receive(store, message(good, late))
    (letter,) = await letters(store)
    summary, _ = await replay(store, now=FUTURE)

    assert letter.key.rpartition("/")[0] == f"{DAY}/0/1/1"
    assert summary == ReplaySummary(replayed=1, new_calls=1)
    assert calls(store) == {"2026-11-23T07": 2}


async def test_a_fixed_body_is_counted_in_place_of_the_stored_one(store: MemoryRowStore) -> None:
    """The letter goes when the fixed one is counted."""
    await receive(store, json_message(document_with_data(deployment="")))
    (letter,) = await letters(store)
    refused, _ = await replay(store, chosen=[replace(letter, body=b'{"type":"other"}')])
    fixed, _ = await replay(store, chosen=[replace(letter, body=encode_event(usage_event(1)))])

    assert (refused.refused, fixed.replayed) == (1, 1)
    assert calls(store) == {"2026-11-23T07": 1}
    assert store.tables["DeadLetters"] == {}


async def test_of_a_body_with_several_events_the_good_ones_count_and_the_letter_stays(
    store: MemoryRowStore,
) -> None:
    """Until all of it is counted; what was counted is then a repeat."""
    await receive(store, raw_message(b"{"))
    (letter,) = await letters(store)
    halves = [document(usage_event(1)), document(usage_event(2), id="x")]
    whole = [document(usage_event(1)), document(usage_event(2))]
    first, reported = await replay(
        store, chosen=[replace(letter, body=json.dumps(halves).encode())]
    )
    second, _ = await replay(store, chosen=[replace(letter, body=json.dumps(whole).encode())])

    assert (first, second) == (
        ReplaySummary(refused=1, new_calls=1),
        ReplaySummary(replayed=1, new_calls=1, repeated_calls=1),
    )
    assert (len(reported[0].events), len(reported[0].refusals)) == (1, 1)
    assert calls(store) == {"2026-11-23T07": 2}


async def test_a_dry_run_reports_and_changes_nothing(store: MemoryRowStore) -> None:
    """Its words are those of the replay that would follow."""
    await receive(store, message(usage_event(1, time=FUTURE)), raw_message(b"x", sequence_number=2))
    before = {name: dict(rows) for name, rows in store.tables.items()}
    summary, reported = await replay(store, now=FUTURE, is_dry_run=True)

    assert summary == ReplaySummary(replayed=1, refused=1)
    assert [len(judgement.events) for judgement in reported] == [1, 0]
    assert store.tables == before


async def test_a_letter_past_the_retention_stays(store: MemoryRowStore) -> None:
    """Its ledger may be gone, and with it the marker that would detect a repeat."""
    await receive(store, message(usage_event(1, time=NOW - RETENTION - timedelta(hours=1))))
    summary, reported = await replay(store)

    assert summary == ReplaySummary(refused=1)
    assert reported[0].refusals[0].startswith("too-late: the call ended 2026-08-15")


@pytest.mark.parametrize("is_dry_run", [True, False])
async def test_a_letter_of_a_dropped_month_stays(store: MemoryRowStore, is_dry_run: bool) -> None:
    """Its views are there, its ledger is not: the app's retention is shorter than the operator's."""
    september = datetime(2026, 9, 20, tzinfo=UTC)
    counted, late = usage_event(1, time=september), usage_event(2, time=september)
    await receive(store, message(counted))
    early = september - timedelta(days=1)
    await receive(store, replace(message(counted, late), enqueued_at=early), now=early)
    await receive(store, message(usage_event(3, time=FUTURE)))
    await store.drop("Ledger202609")
    summary, reported = await replay(store, now=FUTURE, is_dry_run=is_dry_run)

    assert summary.replayed == 1
    assert summary.refused == 2
    assert reported[0].refusals[0].startswith("too-late: Ledger202609 was dropped after")
    assert reported[0].events == ()
    assert "Ledger202609" not in store.tables
    assert calls(store)["2026-09-20T00"] == 1


async def test_a_letter_of_a_month_that_never_had_a_ledger_is_counted(
    store: MemoryRowStore,
) -> None:
    """All its events were letters, as when the wrong version ran: no view says otherwise."""
    october = datetime(2026, 10, 20, tzinfo=UTC)
    early = october - timedelta(days=1)
    await receive(
        store, replace(message(usage_event(1, time=october)), enqueued_at=early), now=early
    )
    summary, _ = await replay(store)

    assert summary == ReplaySummary(replayed=1, new_calls=1)
    assert calls(store) == {"2026-10-20T00": 1}


@pytest.mark.parametrize("fault", [Fault.UNAVAILABLE, Fault.ANSWER_LOST])
@pytest.mark.parametrize("writes_before", range(7))
async def test_a_replay_that_dies_anywhere_can_be_run_again(
    store: MemoryRowStore, fault: Fault, writes_before: int
) -> None:
    """Seven writes: ledger, three views, subject, the mark, the letter. The sweep shows the rest."""
    await receive(store, message(usage_event(1, time=FUTURE)))
    store.plan("write", *[Fault.NOTHING] * writes_before, fault)
    with suppress(StorageUnavailable):
        await replay(store, now=FUTURE)
    assert not store.planned("write")
    await replay(store, now=FUTURE)
    store.time = FUTURE + timedelta(hours=1)
    clock = FakeClock(moment=store.time)
    await Sweep(store=store, tables=store, clock=clock).run()

    assert calls(store) == {"2026-11-23T07": 1}
    assert await keys(store) == []


async def test_a_letter_that_another_replay_deleted_is_no_failure(store: MemoryRowStore) -> None:
    """Two operators at once count it once."""
    await receive(store, message(usage_event(1, time=FUTURE)))
    stale = await letters(store)
    await replay(store, now=FUTURE)
    summary, _ = await replay(store, now=FUTURE, chosen=stale)

    assert summary == ReplaySummary(replayed=1, repeated_calls=1)
    assert calls(store) == {"2026-11-23T07": 1}


async def test_many_letters_are_counted_in_few_transactions(store: MemoryRowStore) -> None:
    """After a faulty deployment there may be very many. A mark is removed after each."""
    batch = [message(usage_event(n, time=FUTURE), sequence_number=n) for n in range(120)]
    await receive(store, *batch)
    store.transactions.clear()
    summary, _ = await replay(store, now=FUTURE)

    assert summary == ReplaySummary(replayed=120, new_calls=120)
    assert sum(t.table.startswith("Ledger") for t in store.transactions) == 6
    assert calls(store) == {"2026-11-23T07": 120}


@pytest.mark.parametrize(
    "body",
    [b"", b"\xff\x00", "zoë 😀".encode(), b"x" * 40_000, random.Random(1).randbytes(1_048_576)],
    ids=lambda body: f"{len(body)}",
)
async def test_any_body_is_read_back_byte_for_byte(store: MemoryRowStore, body: bytes) -> None:
    """Plain, packed, or over several rows; neighbours are not mixed up with it."""
    await receive(
        store, *(raw_message(each, sequence_number=n) for n, each in enumerate([b"{", body, b"["]))
    )

    assert [letter.body for letter in await letters(store)] == [b"{", body, b"["]
    assert [(await _found(store, f"{DAY}/0/{n}/0")).body for n in range(3)] == [b"{", body, b"["]


async def _found(store: MemoryRowStore, key: str) -> StoredLetter:
    letter = await find_letter(store, key)
    assert letter is not None
    return letter


async def test_all_rows_of_a_long_letter_go_with_it(store: MemoryRowStore) -> None:
    """In one transaction, so that no half of a body remains."""
    long = random.Random(1).randbytes(1_048_576)
    await receive(store, raw_message(long))
    rows = len(store.tables["DeadLetters"])
    (letter,) = await letters(store)
    store.transactions.clear()
    await replay(store, chosen=[replace(letter, body=encode_event(usage_event(1)))])

    assert rows == 2
    assert store.tables["DeadLetters"] == {}
    assert [t.rows for t in store.transactions if t.table == "DeadLetters"] == [2]


async def test_a_letter_whose_rows_are_not_all_written_yet_is_refused(
    store: MemoryRowStore,
) -> None:
    """Its rows need not have been one transaction; the batch is delivered again and completes it."""
    await receive(store, raw_message(random.Random(1).randbytes(1_048_576)))
    (end,) = (place for place in store.tables["DeadLetters"] if place[1].endswith("|1"))
    del store.tables["DeadLetters"][end]
    summary, reported = await replay(store)

    assert summary == ReplaySummary(refused=1)
    assert reported[0].refusals == ("its body is not complete yet",)


async def test_rows_that_are_no_letters_are_passed_over(store: MemoryRowStore) -> None:
    """Also the end of a letter whose beginning was deleted."""
    for key in ("note", "0|1|2", f"0|{1:020d}|{0:06d}|1"):
        await store.write("DeadLetters", DAY, insert=[Row(key=key, columns={})], update=[])
    await receive(store, raw_message(b"x", sequence_number=7))

    assert await keys(store) == [f"{DAY}/0/7/0"]
    assert await find_letter(store, f"{DAY}/0/1/0") is None


async def test_two_letters_at_one_place_are_found_and_deleted_apart(store: MemoryRowStore) -> None:
    """Two hubs count alike; the digest in the key tells them apart."""
    for hub, body in (("ns/a", b"x"), ("ns/b", b"x"), ("ns/b", b"y")):
        await receive(store, replace(raw_message(body), hub=hub))
    found = await letters(store)
    wanted = [letter for letter in found if letter.hub == "ns/b" and letter.body == b"x"]
    await replay(
        store, chosen=[replace(each, body=encode_event(usage_event(1))) for each in wanted]
    )

    assert sorted((letter.hub, letter.body) for letter in await letters(store)) == [
        ("ns/a", b"x"),
        ("ns/b", b"y"),
    ]


async def test_letters_of_the_older_shape_are_read_beside_new_ones(store: MemoryRowStore) -> None:
    """Without hub and digest; also one whose body continues in a row."""
    place = f"0|{1:020d}|{0:06d}"
    packed = gzip.compress(b"old")
    rows = [
        Row(key=place, columns={"Reason": "not-json", "BodyGzip0": packed[:5]}),
        Row(key=f"{place}|1", columns={"BodyGzip1": packed[5:]}),
    ]
    await store.write("DeadLetters", DAY, insert=rows)
    await receive(store, raw_message(b"new"))
    old, new = await letters(store)

    assert (old.key, old.body, old.hub) == (f"{DAY}/0/1/0", b"old", "")
    assert new.body == b"new"
    assert await _found(store, old.key) == old
    assert await _found(store, new.key) == new


async def test_letters_are_chosen_by_the_day_they_were_enqueued(store: MemoryRowStore) -> None:
    """Undated ones come last."""
    for n, day in enumerate((20, 21, 22)):
        at = datetime(2026, 11, day, tzinfo=UTC)
        await receive(store, replace(raw_message(b"x", sequence_number=n), enqueued_at=at))
    await receive(store, replace(raw_message(b"x", sequence_number=9), enqueued_at=None))

    assert await keys(store) == [
        "2026-11-20/0/0/0",
        "2026-11-21/0/1/0",
        "2026-11-22/0/2/0",
        "undated/0/9/0",
    ]
    assert await keys(store, first_day="2026-11-21", last_day="2026-11-21~") == ["2026-11-21/0/1/0"]


async def test_a_key_names_a_letter_of_any_hub_partition(store: MemoryRowStore) -> None:
    """Whatever the partition is called, the key is one plain word."""
    await receive(store, replace(raw_message(b"x", sequence_number=10**15), hub_partition="a|/ b"))
    (letter,) = await letters(store)
    place = letter.key.rpartition("/")[0]

    assert place == f"{DAY}/a=7C=2F=20b/{10**15}/0"
    assert await _found(store, letter.key) == await _found(store, place) == letter
    assert (letter.hub_partition, letter.sequence_number) == ("a|/ b", 10**15)


@pytest.mark.parametrize(
    "text", ["", "x", f"{DAY}/0/1", f"{DAY}/0/x/0", f"{DAY}/0/1/0/1", "a|b/0/1/0/"]
)
def test_what_is_no_key_is_said_so(text: str) -> None:
    """Before storage is read."""
    with pytest.raises(ValueError, match="a key is DAY/HUB_PARTITION/NUMBER/PLACE"):
        parse_letter_key(text)


async def test_ids_of_replayed_events_are_their_own(store: MemoryRowStore) -> None:
    """The marker is the event's, so a later redelivery of the hub is a repeat."""
    event = usage_event(1, time=FUTURE)
    await receive(store, message(event))
    await replay(store, now=FUTURE)
    report = await aggregator_on(store, FUTURE).handle([message(event)])

    assert f"c|{event_id(1)}|alice" in store.rows("Ledger202611")
    assert report.repeated_calls == 1
