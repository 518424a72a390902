"""The floor: no adjustment takes its call below zero, whoever sends it and however often."""

from collections.abc import Mapping
from contextlib import suppress
from copy import replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from meter.adjustment import Adjustment
from meter.errors import StorageUnavailable
from meter.ledger.adjusting.notes import BelowZero, read_notes
from meter.ledger.keys import adjusted_row_key, ledger_partition
from meter.upkeep.adjust import Adjuster, Wanted
from meter.upkeep.replay import Replay, read_letters
from meter.usage import Context, Tier, TokenUsage
from tests.fakes.rows import Fault, MemoryRowStore
from tests.support.events import NOW, adjustment, event_id, message, usage_event
from tests.support.ledger import aggregator_on, subjects_of_one_bucket

CALL = usage_event(1, usage=TokenUsage(prompt_tokens=10, total_tokens=10))


@pytest.fixture
def store() -> MemoryRowStore:
    return MemoryRowStore()


def lowered(number: int, by: int, **changes: Any) -> Adjustment:
    """One of several adjustments of the call, each with an id and a reason of its own."""
    usage = TokenUsage(prompt_tokens=-by, total_tokens=-by)
    made = adjustment(1, usage=usage, reason=f"reason {number}", id=event_id(500 + number))
    return replace(made, **changes)


def adjusted(store: MemoryRowStore) -> int:
    """By how much all sums of months say that calls were adjusted."""
    rows = [
        row
        for name in store.tables
        if name.startswith("Ledger")
        for key, row in store.rows(name).items()
        if key.startswith("s|") and key.count("T") == 0 and len(key.split("|")[1]) == 7
    ]
    return sum(int(str(row.get("AdjustedPromptTokens", 0))) for row in rows)


def letters(store: MemoryRowStore) -> list[Mapping[str, object]]:
    return list(store.rows("DeadLetters").values())


async def test_the_hub_takes_no_call_below_zero(store: MemoryRowStore) -> None:
    """What still fits is counted; the other is a dead letter that says why."""
    aggregator = aggregator_on(store)
    batch = [message(CALL, lowered(1, 6), lowered(2, 6), lowered(3, 4))]
    report = await aggregator.handle(batch)
    await aggregator.handle(batch)

    assert (report.new_calls, report.dead_letters, adjusted(store)) == (3, 1, -10)
    (letter,) = letters(store)
    assert letter["Reason"] == "below-zero"
    assert letter["Detail"] == (
        "prompt_tokens of the call is 10, adjusted by -6 so far: -6 would make it negative"
    )


@pytest.mark.parametrize("days", [0, 40])
async def test_the_call_may_have_counted_in_an_earlier_month(
    store: MemoryRowStore, days: int
) -> None:
    """No transaction reaches both ledgers; the note beside the call decides."""
    time = NOW - timedelta(days=days)
    call = usage_event(1, id=CALL.id, time=time, usage=CALL.usage)
    aggregator = aggregator_on(store)
    await aggregator.handle([message(call)])
    await aggregator.handle([message(lowered(1, 10), lowered(2, 1), sequence_number=2)])

    assert adjusted(store) == -10
    assert len(letters(store)) == 1


@pytest.mark.parametrize(
    "refers_to", [event_id(9), uuid4(), UUID(int=2**128 - 1), UUID(int=0x7 << 76), event_id(501)]
)
async def test_an_adjustment_of_no_counted_call_is_a_dead_letter(
    store: MemoryRowStore, refers_to: UUID
) -> None:
    """Nothing can be taken from it; once the call is counted, a replay counts the adjustment."""
    aggregator = aggregator_on(store)
    await aggregator.handle([message(CALL, lowered(1, 2), lowered(2, 3, refers_to=refers_to))])

    assert adjusted(store) == -2
    assert [letter["Reason"] for letter in letters(store)] == ["no-call"]


async def test_a_replay_takes_no_call_below_zero(store: MemoryRowStore) -> None:
    """It counts what fits by now, and keeps the letters of the others."""
    aggregator = aggregator_on(store)
    await aggregator.handle([message(lowered(1, 6), lowered(2, 6))])
    await aggregator.handle([message(CALL, sequence_number=2)])
    replay = Replay(aggregator=aggregator, tables=store)
    summaries = [await replay.run(read_letters(store), lambda _: None) for _ in range(2)]

    assert [(each.replayed, each.refused) for each in summaries] == [(1, 1), (0, 1)]
    assert adjusted(store) == -6


async def test_operators_and_producers_share_the_floor(store: MemoryRowStore) -> None:
    """Either order; equal counts and reason are one adjustment, whoever made it."""
    aggregator = aggregator_on(store)
    adjuster = Adjuster(aggregator=aggregator, tables=store)
    await aggregator.handle([message(CALL, lowered(1, 6))])
    too_much = Wanted(subject="alice", call_id=CALL.id, reason="mine", usage=lowered(1, 5).usage)
    same = Wanted(subject="alice", call_id=CALL.id, reason="reason 1", usage=lowered(1, 6).usage)
    fits = Wanted(subject="alice", call_id=CALL.id, reason="mine", usage=lowered(1, 4).usage)
    with pytest.raises(BelowZero, match="adjusted by -6 so far"):
        await adjuster.plan(too_much)
    repeated = await adjuster.count(await adjuster.plan(same))
    counted = await adjuster.count(await adjuster.plan(fits))
    await aggregator.handle([message(lowered(2, 1), sequence_number=2)])

    assert (repeated[1], counted[1], adjusted(store)) == (False, True, -10)
    assert len(letters(store)) == 1


@pytest.mark.parametrize("fault", [Fault.UNAVAILABLE, Fault.ANSWER_LOST])
@pytest.mark.parametrize("operation", ["read", "write", "keys_between"])
@pytest.mark.parametrize("before", range(9))
async def test_a_fault_at_any_request_counts_each_once_in_the_end(
    store: MemoryRowStore, fault: Fault, operation: str, before: int
) -> None:
    """A call that could not be counted yet makes no dead letter of its adjustment."""
    batch = [message(CALL, lowered(1, 6), lowered(2, 4))]
    store.plan(operation, *[Fault.NOTHING] * before, fault)
    for _ in range(3):
        with suppress(StorageUnavailable):
            await aggregator_on(store).handle(batch)
    store.forget_plans()
    await aggregator_on(store).handle(batch)

    assert (adjusted(store), letters(store)) == (-10, [])
    place = ledger_partition("alice"), adjusted_row_key(CALL.id, "alice")
    notes = read_notes(store.tables["Ledger202611"][place])
    assert [note.is_counted for note in notes] == [True, True]
    assert (await aggregator_on(store).handle(batch)).new_calls == 0


async def test_a_repeat_whose_call_was_dropped_is_a_repeat(store: MemoryRowStore) -> None:
    """Not a dead letter: it is counted."""
    october = usage_event(1, id=CALL.id, time=NOW - timedelta(days=40), usage=CALL.usage)
    aggregator = aggregator_on(store)
    await aggregator.handle([message(october)])
    await aggregator.handle([message(lowered(1, 6), sequence_number=2)])
    del store.tables["Ledger202610"]
    report = await aggregator.handle([message(lowered(1, 6), sequence_number=2)])

    assert (report.new_calls, report.repeated_calls, report.dead_letters) == (0, 1, 0)
    assert letters(store) == []


async def test_an_adjustment_counts_where_its_call_does(store: MemoryRowStore) -> None:
    """Under all dimensions of the call, whatever its producer knows of them."""
    call = usage_event(
        1, usage=CALL.usage, tier=Tier.PRIORITY, context=Context.LONG, deployment="d1", backend="w"
    )
    vague = lowered(1, 4, client_app=None, deployment="?", model=None, backend=None)
    await aggregator_on(store).handle([message(call, vague)])

    (row,) = store.rows("UsageByMonth").values()
    names = ("ClientApp", "Deployment", "Model", "Backend", "Tier", "Context")
    assert tuple(row[name] for name in names) == (
        *("app", "d1", "gpt-4o-2024-11-20", "w"),
        *("priority", "long"),
    )
    assert (row["PromptTokens"], row["AdjustedPromptTokens"]) == (10, -4)


async def test_the_floor_is_each_subjects_own(store: MemoryRowStore) -> None:
    """An id names a call of one subject; others of its bucket may have the same."""
    names = subjects_of_one_bucket(2)
    calls = [usage_event(1, subject=name, usage=CALL.usage) for name in names]
    first, second = names
    await aggregator_on(store).handle(
        [message(*calls, lowered(1, 10, subject=first), lowered(2, 10, subject=second))]
    )

    assert (adjusted(store), letters(store)) == (-20, [])
