"""Committing: each call is counted once, through repeats, conflicts, faults and competitors."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

import pytest

from meter.errors import StorageUnavailable
from meter.ledger.commit import Committed, Committer
from meter.usage import NO_USAGE, TokenUsage, UsageEvent, new_event_id
from meter.window import Window
from tests.fakes.rows import Fault, MemoryRowStore
from tests.support.events import NOW, usage_event

MONTH = Window("2026-11")
LEDGER = "Ledger202611"
MONTH_ROW = "s|2026-11|gpt-4o|gpt-4o-2024-11-20|standard"


@pytest.fixture
def store() -> MemoryRowStore:
    return MemoryRowStore()


@pytest.fixture
def committer(store: MemoryRowStore) -> Committer:
    return Committer(store)


def events(*numbers: int) -> list[UsageEvent]:
    return [usage_event(number) for number in numbers]


async def commit(committer: Committer, batch: Sequence[UsageEvent]) -> Committed:
    return await committer.commit("alice", MONTH, batch)


def calls(store: MemoryRowStore, row: str = MONTH_ROW) -> object:
    return store.rows(LEDGER)[row]["Calls"]


def markers(store: MemoryRowStore) -> int:
    return sum(key.startswith("c|") for key in store.rows(LEDGER))


async def test_a_call_leaves_its_marker_and_three_sums(
    store: MemoryRowStore, committer: Committer
) -> None:
    """All of it in one transaction in the subject's partition of the month's table."""
    counted = await commit(committer, events(1))

    assert [(t.table, t.partition, t.rows) for t in store.transactions] == [(LEDGER, "alice", 4)]
    assert (counted.new_calls, counted.repeated_calls) == (1, 0)
    assert sorted(row.key.window.name for row in counted.sums) == [
        "2026-11",
        "2026-11-23",
        "2026-11-23T07",
    ]


async def test_a_sum_row_has_the_published_columns(
    store: MemoryRowStore, committer: Committer
) -> None:
    """The schema analysts read, with whole names and aware times."""
    await commit(committer, events(1))

    row = store.rows(LEDGER)[MONTH_ROW]
    assert row == {
        "Subject": "alice",
        "Deployment": "gpt-4o",
        "Model": "gpt-4o-2024-11-20",
        "Tier": "standard",
        "WindowStart": MONTH.start,
        "Calls": 1,
        "FailedCalls": 0,
        "EstimatedCalls": 0,
        "MissingCalls": 0,
        "PromptTokens": 10,
        "CompletionTokens": 5,
        "TotalTokens": 15,
        "CachedTokens": 0,
        "ReasoningTokens": 0,
        "AudioTokens": 0,
        "ImageTokens": 0,
        "Seconds": 0,
        "FirstCallAt": NOW,
        "LastCallAt": NOW,
        "Revision": 1,
    }


@pytest.mark.parametrize("length", [0, 1, 2, 3])
async def test_replaying_any_prefix_of_a_batch_changes_nothing(
    store: MemoryRowStore, committer: Committer, length: int
) -> None:
    """A redelivery is dropped by its markers, in the same process and in another."""
    batch = events(1, 2, 3)
    await commit(committer, batch)
    before = store.rows(LEDGER)
    again = [await commit(one, batch[:length]) for one in (committer, Committer(store))]

    assert store.rows(LEDGER) == before
    assert [(c.new_calls, c.repeated_calls) for c in again] == [(0, length)] * 2


async def test_a_repeat_among_new_calls_is_dropped_alone(
    store: MemoryRowStore, committer: Committer
) -> None:
    """The new ones of the batch are counted."""
    await commit(committer, events(1, 2))
    counted = await commit(committer, events(2, 3, 1, 4))

    assert (counted.new_calls, counted.repeated_calls) == (2, 2)
    assert (calls(store), markers(store)) == (4, 4)


async def test_an_id_that_comes_twice_in_a_batch_counts_once(
    store: MemoryRowStore, committer: Committer
) -> None:
    """The hub may store an event twice in a row."""
    counted = await commit(committer, events(1, 1, 2, 1))

    assert (counted.new_calls, counted.repeated_calls) == (2, 2)
    assert (calls(store), markers(store)) == (2, 2)


async def test_an_all_repeated_batch_still_gives_the_sums_it_belongs_to(
    store: MemoryRowStore, committer: Committer
) -> None:
    """The view of a batch whose copy was lost is repaired from them."""
    await commit(committer, events(1, 2))
    counted = await commit(Committer(store), events(1))

    assert {row.sums.calls for row in counted.sums} == {2}
    assert {row.revision for row in counted.sums} == {1}
    assert len(counted.sums) == 3


async def test_no_transaction_passes_100_rows(store: MemoryRowStore, committer: Committer) -> None:
    """The service refuses more; many calls of one sum need many transactions."""
    await commit(committer, events(*range(250)))

    assert [transaction.rows for transaction in store.transactions] == [100, 100, 59]
    assert (calls(store), markers(store)) == (250, 250)


async def test_no_transaction_passes_100_rows_when_every_call_has_sums_of_its_own(
    store: MemoryRowStore, committer: Committer
) -> None:
    """Hours and deployments that differ make three sums per call in the worst case."""
    batch = [
        usage_event(n, time=NOW - timedelta(hours=n % 160), deployment=f"d{n % 7}")
        for n in range(300)
    ]
    counted = await commit(committer, batch)

    assert max(transaction.rows for transaction in store.transactions) <= 100
    assert counted.new_calls == 300
    assert sum(row.sums.calls for row in counted.sums if len(row.key.window.name) == 7) == 300


async def test_a_sum_in_several_chunks_is_given_once_as_it_is_last(
    store: MemoryRowStore, committer: Committer
) -> None:
    """Views copy the newest state only."""
    counted = await commit(committer, events(*range(150)))

    assert [(row.sums.calls, row.revision) for row in counted.sums] == [(150, 2)] * 3


async def test_sums_pass_two_to_the_31(store: MemoryRowStore, committer: Committer) -> None:
    """Counts are 64 bits wide."""
    usage = TokenUsage(prompt_tokens=2_000_000_000, total_tokens=2_000_000_000)
    await commit(committer, [usage_event(n, usage=usage) for n in range(3)])
    await commit(committer, [usage_event(9, usage=NO_USAGE)])

    assert store.rows(LEDGER)[MONTH_ROW]["TotalTokens"] == 6_000_000_000


async def test_an_hour_ends_where_the_next_begins(
    store: MemoryRowStore, committer: Committer
) -> None:
    """Two calls a microsecond apart can be in two hours and in one day."""
    eight = NOW.replace(hour=8, minute=0)
    batch = [usage_event(1, time=eight - timedelta(microseconds=1)), usage_event(2, time=eight)]
    await commit(committer, batch)

    assert {
        key.split("|")[1]: row["Calls"] for key, row in store.rows(LEDGER).items() if key[0] == "s"
    } == {
        "2026-11": 2,
        "2026-11-23": 2,
        "2026-11-23T07": 1,
        "2026-11-23T08": 1,
    }


async def test_a_conflict_is_tried_again(store: MemoryRowStore, committer: Committer) -> None:
    """A competitor's write costs another round, nothing else."""
    store.plan("write", Fault.CONFLICT, Fault.CONFLICT)
    counted = await commit(committer, events(1, 2))

    assert counted.new_calls == 2
    assert (calls(store), markers(store)) == (2, 2)


async def test_contention_without_end_fails_and_counts_nothing(
    store: MemoryRowStore, committer: Committer
) -> None:
    """Ten conflicts in a row are given back to the caller, whose retry waits."""
    store.plan("write", *[Fault.CONFLICT] * 10)

    with pytest.raises(StorageUnavailable, match="10 conflicts in a row"):
        await commit(committer, events(1))
    assert store.tables == {}


@pytest.mark.parametrize("operation", ["read", "write"])
async def test_an_outage_counts_nothing_and_the_retry_counts_once(
    store: MemoryRowStore, committer: Committer, operation: str
) -> None:
    """A write that was not applied leaves no marker."""
    store.plan(operation, Fault.UNAVAILABLE)
    with pytest.raises(StorageUnavailable):
        await commit(committer, events(1, 2))
    counted = await commit(committer, events(1, 2))

    assert counted.new_calls == 2
    assert calls(store) == 2


async def test_an_answer_that_was_lost_is_not_counted_again(
    store: MemoryRowStore, committer: Committer
) -> None:
    """A write that was applied has written its markers, and these decide."""
    store.plan("write", Fault.ANSWER_LOST)
    with pytest.raises(StorageUnavailable):
        await commit(committer, events(1, 2))
    counted = await commit(committer, events(1, 2, 3))

    assert (counted.new_calls, counted.repeated_calls) == (1, 2)
    assert (calls(store), markers(store)) == (3, 3)


async def test_a_fault_in_the_second_chunk_keeps_the_first(
    store: MemoryRowStore, committer: Committer
) -> None:
    """What is committed stays; the retry adds the rest."""
    store.plan("write", Fault.NOTHING, Fault.UNAVAILABLE)
    with pytest.raises(StorageUnavailable):
        await commit(committer, events(*range(150)))
    counted = await commit(committer, events(*range(150)))

    assert (counted.new_calls, counted.repeated_calls) == (53, 97)
    assert calls(store) == 150


@pytest.mark.parametrize("theirs", [[1], [9], [1, 2, 9], [9, 1]])
async def test_a_competitor_who_writes_first_is_not_overwritten(
    store: MemoryRowStore, committer: Committer, theirs: list[int]
) -> None:
    """Between our read and our write another may count other calls, or ours: the sums hold all, once."""
    await commit(committer, events(7))
    rival = Committer(store)
    store.intrude(lambda: commit(rival, events(*theirs)))
    counted = await commit(committer, events(1, 2))

    expected = {1, 2, 7, *theirs}
    assert (calls(store), markers(store)) == (len(expected), len(expected))
    assert counted.new_calls == len({1, 2} - set(theirs))


async def test_a_memory_that_became_wrong_costs_a_conflict_only(
    store: MemoryRowStore, committer: Committer
) -> None:
    """Another process wrote the same partition since."""
    await commit(committer, events(1))
    await commit(Committer(store), events(2))
    counted = await commit(committer, events(3))

    assert {row.sums.calls for row in counted.sums} == {3}
    assert {row.revision for row in counted.sums} == {3}


async def test_the_sums_of_a_batch_need_no_read_after_the_first(
    store: MemoryRowStore, committer: Committer
) -> None:
    """In the steady state a batch of a subject costs one transaction."""
    await commit(committer, events(1))
    store.calls.clear()
    await commit(committer, events(2, 3))

    assert dict(store.calls) == {"write": 1}


@pytest.mark.parametrize(
    ("ages_ms", "ranges"),
    [
        ([0, 60_000], 1),
        ([0, 60_001], 2),
        ([0, 50_000, 100_000], 1),
        ([0, 1_000, 90 * 86_400_000], 2),
    ],
)
async def test_an_old_id_among_new_ones_does_not_scan_what_lies_between(
    store: MemoryRowStore, committer: Committer, ages_ms: list[int], ranges: int
) -> None:
    """Ids a minute apart at most share a range, so a batch of a steady caller costs one query."""
    batch = [
        usage_event(id=new_event_id(NOW - timedelta(milliseconds=age), bytes(10)))
        for age in ages_ms
    ]
    await commit(committer, batch)
    store.calls.clear()
    counted = await commit(Committer(store), batch)

    assert counted.repeated_calls == len(ages_ms)
    assert store.calls["keys_between"] == ranges


async def test_repeats_with_ids_of_another_kind_are_detected(
    store: MemoryRowStore, committer: Committer
) -> None:
    """An id need not hold a time; all that is promised is that it is unique."""
    ids = [UUID(int=n << 90) for n in (1, 7, 5)]
    await commit(committer, [usage_event(id=i) for i in ids[:2]])
    counted = await commit(committer, [usage_event(id=i) for i in ids])

    assert (counted.new_calls, counted.repeated_calls) == (1, 2)
    assert calls(store) == 3


async def test_the_marker_says_what_the_call_was_and_nothing_of_its_content(
    store: MemoryRowStore, committer: Committer
) -> None:
    """Enough to rebuild the sums; never the caller's or the backend's own words."""
    await commit(committer, events(1))

    (marker,) = (row for key, row in store.rows(LEDGER).items() if key.startswith("c|"))
    assert marker == {
        "At": NOW,
        "Call": '{"deployment":"gpt-4o","model":"gpt-4o-2024-11-20","tier":"standard",'
        '"backend":"east","operation":"chat","outcome":"served","status":200,'
        '"source":"reported","usage":{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15}}',
    }
