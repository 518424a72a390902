"""Calls that are not counted yet: where they are looked for, and what cannot be read."""

import json
from datetime import datetime, timedelta
from typing import Any

import pytest

from meter.ledger.deadletters import keep
from meter.ledger.decode import DeadLetter, Message, Reason
from meter.publishing.outbox import TableOutbox
from meter.upkeep.closing.backlog import MOST_NAMED, moments_of, read_backlog
from meter.usage import UsageEvent, encode_batch, encode_event
from tests.fakes.gateway import FakeClock
from tests.support.closing import IN_NOVEMBER, IN_OCTOBER, OCTOBER, FakeHub
from tests.support.events import usage_event
from tests.support.rebuilding import Store

BEFORE, AFTER = OCTOBER.start - timedelta(microseconds=1), OCTOBER.end
LAST = OCTOBER.end - timedelta(microseconds=1)


@pytest.fixture
def store() -> Store:
    return Store()


async def reasons(store: Store, hub: Any = None) -> list[str]:
    backlog = await read_backlog(store, hub or FakeHub(), OCTOBER, now=IN_NOVEMBER)
    return list(backlog.reasons)


def event(number: int, time: datetime) -> UsageEvent:
    return usage_event(number, time=time)


def letter(body: bytes, number: int = 1) -> DeadLetter:
    message = Message(
        body=body,
        hub_partition="0",
        sequence_number=number,
        enqueued_at=IN_NOVEMBER,
        hub="ns/usage",
    )
    return DeadLetter(message=message, index=0, reason=Reason.TOO_LATE, detail="", body=body)


async def test_nothing_waits_in_empty_tables(store: Store) -> None:
    """Nor if they do not exist."""
    assert await reasons(store) == []


async def test_the_outbox_is_searched_by_the_time_of_its_calls(store: Store) -> None:
    """First and last moment of the month are of it, and those beside are not."""
    times = [BEFORE, OCTOBER.start, LAST, AFTER]
    await TableOutbox(store, FakeClock()).keep([event(n, time) for n, time in enumerate(times)])
    (reason,) = await reasons(store)

    assert reason.startswith("the outbox: 2 calls of 2026-10: 2026-10-01T00/")
    assert ", 2026-10-31T23/" in reason


async def test_an_outbox_row_without_a_readable_time_may_be_of_the_month(store: Store) -> None:
    """Whatever its partition says; it is named."""
    for number, text in enumerate(("no JSON", "{}", '{"time":"2026-10-20T07:30:00"}', "[]", "1")):
        store.put("Outbox", "2026-11-02T07", f"row-{number}", Subject="alice", Event=text)
    store.put("Outbox", "x", "row-5", Subject="alice")

    assert await reasons(store) == [
        "the outbox: 6 whose time cannot be read, possibly of 2026-10: "
        "2026-11-02T07/row-0, 2026-11-02T07/row-1, 2026-11-02T07/row-2, 2026-11-02T07/row-3, "
        "2026-11-02T07/row-4, x/row-5"
    ]


async def test_dead_letters_are_searched_by_the_time_of_their_calls(store: Store) -> None:
    """An event with a wrong field has a time all the same; a message has several."""
    wrong = {**json.loads(encode_event(event(2, IN_OCTOBER))), "id": "x"}
    bodies = [
        encode_event(event(1, AFTER)),
        json.dumps(wrong).encode(),
        encode_batch([encode_event(event(3, IN_OCTOBER)), encode_event(event(4, AFTER))]),
        b"\xff no JSON",
    ]
    await keep(store, [letter(body, number) for number, body in enumerate(bodies)])
    found, unreadable = await reasons(store)

    assert found.startswith("dead letters: 2 calls of 2026-10: 2026-11-03/0/1/0/")
    assert unreadable.startswith("dead letters: 1 whose time cannot be read")
    assert "2026-11-03/0/3/0/" in unreadable


async def test_an_incomplete_letter_may_be_of_the_month(store: Store) -> None:
    """Some of its rows are not written yet."""
    await keep(store, [letter(bytes(range(256)) * 10_000)])
    key = next(key for _, key in store.tables["DeadLetters"])
    store.tamper("DeadLetters", "2026-11-03", key, BodyGzip0=b"x")

    assert "whose time cannot be read" in (await reasons(store))[0]


async def test_many_keys_are_cut(store: Store) -> None:
    """A line for people ends."""
    for number in range(MOST_NAMED + 5):
        store.put("Outbox", "2026-11-02T07", f"row-{number:02}", Event="")

    assert (await reasons(store))[0].endswith("row-19 and 5 more")


def hub(*times: datetime, first: int = 0, enqueued_at: datetime = IN_NOVEMBER) -> FakeHub:
    """A hub partition with an event of each time."""
    messages = [
        (enqueued_at, encode_batch([encode_event(event(n, t))])) for n, t in enumerate(times)
    ]
    return FakeHub(messages={"0": messages}, first=first)


def stand(store: Store, number: int, at: datetime = IN_NOVEMBER, name: str = "ns=2Fusage") -> None:
    store.put("HubPositions", "hub", f"{name}|0", SequenceNumber=number, EnqueuedAt=at)


async def test_an_unread_event_of_the_month_is_a_reason(store: Store) -> None:
    """Whenever the hub took it, once the aggregator has stored how far it is."""
    stand(store, 0)

    assert await reasons(store, hub(IN_OCTOBER, LAST, AFTER)) == [
        "hub partition 0, unread: 1 call of 2026-10: 1"
    ]


async def test_unread_events_of_other_months_are_none(store: Store) -> None:
    """Calls go on: the hub is never empty."""
    stand(store, 0)

    assert await reasons(store, hub(IN_OCTOBER, AFTER, BEFORE)) == []


async def test_an_unread_event_that_cannot_be_read_is_a_reason(store: Store) -> None:
    """It becomes a dead letter, and may be of the month."""
    unread = FakeHub(messages={"0": [(IN_NOVEMBER, b"no JSON")]})

    assert await reasons(store, unread) == [
        "hub partition 0, unread: 1 whose time cannot be read, possibly of 2026-10: 0"
    ]


async def test_a_partition_that_was_never_read_is_read_from_its_beginning(store: Store) -> None:
    """There may be no aggregator at all; the position of another hub is none."""
    stand(store, 9, name="other=2Fusage")

    assert await reasons(store, hub(IN_OCTOBER, first=5)) == [
        "hub partition 0, unread: 1 call of 2026-10: 5"
    ]


async def test_the_case_of_names_is_ignored(store: Store) -> None:
    """As Azure does."""
    stand(store, 0, name="NS=2FUsage")

    assert await reasons(store, hub(IN_OCTOBER)) == []


async def test_a_hub_that_was_made_anew_is_read_from_its_beginning(store: Store) -> None:
    """Its numbers begin again, later than what the aggregator has seen."""
    stand(store, 5_000, IN_NOVEMBER - timedelta(days=9))

    assert await reasons(store, hub(IN_OCTOBER)) == [
        "hub partition 0, unread: 1 call of 2026-10: 0"
    ]


async def test_events_that_the_hub_dropped_unread_are_a_reason(store: Store) -> None:
    """They were never counted, and may be of any month."""
    stand(store, 3, IN_OCTOBER)
    gone = hub(AFTER, first=8)

    assert await reasons(store, gone) == [
        "hub partition 0: events 4 to 7 were dropped unread: recover them from Capture"
    ]


async def test_an_empty_partition_that_was_read_is_none(store: Store) -> None:
    """Its events were counted, then they aged."""
    stand(store, 7, IN_OCTOBER)

    assert await reasons(store, FakeHub(first=8)) == []


async def test_too_many_unread_events_are_not_read(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The aggregator must catch up first."""
    monkeypatch.setattr("meter.upkeep.closing.backlog.MOST_READ", 2)

    assert await reasons(store, hub(AFTER, AFTER, AFTER)) == [
        "hub partition 0: 3 unread events: wait until the aggregator has caught up"
    ]


@pytest.mark.parametrize(
    "body", [b"[" * 100_000, b'{"time":' + b"9" * 9_000 + b"}", b"\xff", b"", b'{"time":null}']
)
def test_no_body_breaks_the_search(body: bytes) -> None:
    """It says that it cannot be read."""
    assert list(moments_of(body)) == [None]
