"""Committing: each call is counted once, through repeats, conflicts, faults and competitors."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from meter.errors import RowsRefused, StorageUnavailable
from meter.ledger.commit import MAX_OUTAGES, OUTAGE_SECONDS, Committed, Committer, Trouble
from meter.ledger.keys import SumKey, ledger_partition
from meter.ledger.markers import read_marker
from meter.ledger.marks import Marks
from meter.ledger.rows import SumRow
from meter.ports import Conflict, Row, Written
from meter.usage import (
    NO_USAGE,
    Context,
    CountedCall,
    Tier,
    TokenUsage,
    ToolUsage,
    UsageEvent,
    new_event_id,
)
from meter.window import Window
from tests.fakes.gateway import FakeClock
from tests.fakes.rows import Fault, MemoryRowStore
from tests.support.events import NOW, usage_event
from tests.support.ledger import sums_in_ledger

MONTH = Window("2026-11")
LEDGER = "Ledger202611"
MONTH_ROW = "s|2026-11|alice|app|gpt-4o|gpt-4o-2024-11-20|east|standard|short"
PARTITION = ledger_partition("alice")


@dataclass
class Ledger:
    """A committer with what it gave to be shown, the newest state of each sum."""

    store: MemoryRowStore
    writer: str = "w"
    shown: dict[SumKey, SumRow] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.marks = Marks(self.store, FakeClock(), self.writer)
        self.committer = Committer(self.store, self.marks, self.show)

    def show(self, sums: Sequence[SumRow]) -> None:
        self.shown |= {row.key: row for row in sums}

    @property
    def sums(self) -> list[SumRow]:
        return list(self.shown.values())


@pytest.fixture
def store() -> MemoryRowStore:
    return MemoryRowStore()


@pytest.fixture
def committer(store: MemoryRowStore) -> Ledger:
    return Ledger(store)


def events(*numbers: int) -> list[UsageEvent]:
    return [usage_event(number) for number in numbers]


async def commit(ledger: Ledger, batch: Sequence[UsageEvent], **how: Any) -> Committed:
    return await ledger.committer.commit(PARTITION, MONTH, batch, **how)


def calls(store: MemoryRowStore, row: str = MONTH_ROW) -> object:
    return store.rows(LEDGER)[row]["Calls"]


def markers(store: MemoryRowStore) -> int:
    return sum(key.startswith("c|") for key in store.rows(LEDGER))


async def test_a_call_leaves_its_marker_and_three_sums_in_one_row(
    store: MemoryRowStore, committer: Ledger
) -> None:
    """All of it in one transaction in the bucket's partition of the month's table, with a mark."""
    counted = await commit(committer, events(1))

    assert [(t.table, t.partition, t.rows) for t in store.transactions] == [(LEDGER, PARTITION, 3)]
    assert (len(counted.new), counted.repeated_calls) == (1, 0)
    assert sorted(row.key.window.name for row in committer.sums) == [
        "2026-11",
        "2026-11-23",
        "2026-11-23T07",
    ]


async def test_a_sum_row_has_the_published_columns(
    store: MemoryRowStore, committer: Ledger
) -> None:
    """Whole names and aware times; counts of 0 are left out, which views have."""
    await commit(committer, events(1))

    row = store.rows(LEDGER)[MONTH_ROW]
    text = (
        '"revision":1,"calls":1,'
        '"tokens":{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15},'
        '"first_call_at":"2026-11-23T07:30:00Z","last_call_at":"2026-11-23T07:30:00Z"'
    )
    assert row == {
        "Subject": "alice",
        "ClientApp": "app",
        "Deployment": "gpt-4o",
        "Model": "gpt-4o-2024-11-20",
        "Backend": "east",
        "Tier": "standard",
        "Context": "short",
        "Region": "",
        "DeploymentType": "",
        "WindowStart": MONTH.start,
        "Calls": 1,
        "PromptTokens": 10,
        "CompletionTokens": 5,
        "TotalTokens": 15,
        "FirstCallAt": NOW,
        "LastCallAt": NOW,
        "Revision": 1,
        "OpenDay": f'{{"window":"2026-11-23",{text}}}',
        "OpenHour": f'{{"window":"2026-11-23T07",{text}}}',
    }


@pytest.mark.parametrize("length", [0, 1, 2, 3])
async def test_replaying_any_prefix_of_a_batch_changes_nothing(
    store: MemoryRowStore, committer: Ledger, length: int
) -> None:
    """A redelivery is dropped by its markers, in the same process and in another."""
    batch = events(1, 2, 3)
    await commit(committer, batch)
    before = store.rows(LEDGER)
    again = [await commit(one, batch[:length]) for one in (committer, Ledger(store, "other"))]

    assert store.rows(LEDGER) == before
    assert [(len(c.new), c.repeated_calls) for c in again] == [(0, length)] * 2


async def test_a_repeat_among_new_calls_is_dropped_alone(
    store: MemoryRowStore, committer: Ledger
) -> None:
    """The new ones of the batch are counted."""
    await commit(committer, events(1, 2))
    counted = await commit(committer, events(2, 3, 1, 4))

    assert (len(counted.new), counted.repeated_calls) == (2, 2)
    assert (calls(store), markers(store)) == (4, 4)


async def test_an_id_that_comes_twice_in_a_batch_counts_once(
    store: MemoryRowStore, committer: Ledger
) -> None:
    """The hub may store an event twice in a row."""
    counted = await commit(committer, events(1, 1, 2, 1))

    assert (len(counted.new), counted.repeated_calls) == (2, 2)
    assert (calls(store), markers(store)) == (2, 2)


async def test_an_all_repeated_batch_still_gives_the_sums_it_belongs_to(
    store: MemoryRowStore, committer: Ledger
) -> None:
    """The view of a batch whose copy was lost is repaired from them."""
    await commit(committer, events(1, 2))
    other = Ledger(store, "other")
    await commit(other, events(1))

    assert {row.sums.calls for row in other.sums} == {2}
    assert {row.revision for row in other.sums} == {1}
    assert len(other.sums) == 3


async def test_no_transaction_passes_100_rows(store: MemoryRowStore, committer: Ledger) -> None:
    """The service refuses more; many calls of one sum need many transactions."""
    await commit(committer, events(*range(250)))

    assert [transaction.rows for transaction in store.transactions] == [100, 100, 56]
    assert (calls(store), markers(store)) == (250, 250)


async def test_no_transaction_passes_100_rows_when_every_call_has_sums_of_its_own(
    store: MemoryRowStore, committer: Ledger
) -> None:
    """Hours and deployments that differ make three sums per call in the worst case."""
    batch = [
        usage_event(n, time=NOW - timedelta(hours=n % 160), deployment=f"d{n % 7}")
        for n in range(300)
    ]
    counted = await commit(committer, batch)

    assert max(transaction.rows for transaction in store.transactions) <= 100
    assert len(counted.new) == 300
    assert sum(row.sums.calls for row in committer.sums if len(row.key.window.name) == 7) == 300


async def test_a_sum_in_several_chunks_is_given_once_as_it_is_last(
    store: MemoryRowStore, committer: Ledger
) -> None:
    """Views copy the newest state only."""
    await commit(committer, events(*range(150)))

    assert [(row.sums.calls, row.revision) for row in committer.sums] == [(150, 2)] * 3


async def test_sums_pass_two_to_the_31(store: MemoryRowStore, committer: Ledger) -> None:
    """Counts are 64 bits wide."""
    usage = TokenUsage(prompt_tokens=2_000_000_000, total_tokens=2_000_000_000)
    await commit(committer, [usage_event(n, usage=usage) for n in range(3)])
    await commit(committer, [usage_event(9, usage=NO_USAGE)])

    assert store.rows(LEDGER)[MONTH_ROW]["TotalTokens"] == 6_000_000_000


async def test_an_hour_ends_where_the_next_begins(store: MemoryRowStore, committer: Ledger) -> None:
    """Two calls a microsecond apart can be in two hours and in one day."""
    eight = NOW.replace(hour=8, minute=0)
    batch = [usage_event(1, time=eight - timedelta(microseconds=1)), usage_event(2, time=eight)]
    await commit(committer, batch)

    sums = sums_in_ledger(store, LEDGER)
    assert {key.split("|")[1]: row.columns["Calls"] for (_, key), row in sums.items()} == {
        "2026-11": 2,
        "2026-11-23": 2,
        "2026-11-23T07": 1,
        "2026-11-23T08": 1,
    }


async def test_a_conflict_is_tried_again(store: MemoryRowStore, committer: Ledger) -> None:
    """A competitor's write costs another round, nothing else."""
    store.plan("write", Fault.CONFLICT, Fault.CONFLICT)
    counted = await commit(committer, events(1, 2))

    assert len(counted.new) == 2
    assert (calls(store), markers(store)) == (2, 2)


async def test_contention_without_end_fails_and_counts_nothing(
    store: MemoryRowStore, committer: Ledger
) -> None:
    """Ten conflicts in a row are given back to the caller, whose retry waits."""
    store.plan("write", *[Fault.CONFLICT] * 10)

    counted = await commit(committer, events(1))

    (failure,) = counted.failed.values()
    assert "10 conflicts in a row" in str(failure)
    assert store.tables == {}


@pytest.mark.parametrize("operation", ["keys_between", "write"])
async def test_an_outage_counts_nothing_and_the_retry_counts_once(
    store: MemoryRowStore, committer: Ledger, operation: str
) -> None:
    """A write that was not applied leaves no marker."""
    store.plan(operation, Fault.UNAVAILABLE)
    failed = await commit(committer, events(1, 2), may_be_repeats=True)
    assert len(failed.failed) == 2
    counted = await commit(committer, events(1, 2))

    assert len(counted.new) == 2
    assert calls(store) == 2


async def test_an_answer_that_was_lost_is_not_counted_again(
    store: MemoryRowStore, committer: Ledger
) -> None:
    """A write that was applied has written its markers, and these decide."""
    store.plan("write", Fault.ANSWER_LOST)
    failed = await commit(committer, events(1, 2))
    assert len(failed.failed) == 2
    counted = await commit(committer, events(1, 2, 3))

    assert (len(counted.new), counted.repeated_calls) == (1, 2)
    assert (calls(store), markers(store)) == (3, 3)


async def test_a_fault_in_the_second_chunk_keeps_the_first(
    store: MemoryRowStore, committer: Ledger
) -> None:
    """What is committed stays; the retry adds the rest."""
    store.plan("write", Fault.NOTHING, Fault.UNAVAILABLE)
    failed = await commit(committer, events(*range(150)))
    assert (len(failed.new), len(failed.failed)) == (98, 52)
    counted = await commit(committer, events(*range(150)))

    assert (len(counted.new), counted.repeated_calls) == (52, 98)
    assert calls(store) == 150


@pytest.mark.parametrize("theirs", [[1], [9], [1, 2, 9], [9, 1]])
async def test_a_competitor_who_writes_first_is_not_overwritten(
    store: MemoryRowStore, committer: Ledger, theirs: list[int]
) -> None:
    """Between our read and our write another may count other calls, or ours: the sums hold all, once."""
    await commit(committer, events(7))
    rival = Ledger(store, "other")
    store.intrude(lambda: commit(rival, events(*theirs)))
    counted = await commit(committer, events(1, 2))

    expected = {1, 2, 7, *theirs}
    assert (calls(store), markers(store)) == (len(expected), len(expected))
    assert len(counted.new) == len({1, 2} - set(theirs))


async def test_a_memory_that_became_wrong_costs_a_conflict_only(
    store: MemoryRowStore, committer: Ledger
) -> None:
    """Another process wrote the same partition since."""
    await commit(committer, events(1))
    await commit(Ledger(store, "other"), events(2))
    counted = await commit(committer, events(3))

    assert len(counted.new) == 1
    assert {row.sums.calls for row in committer.sums} == {3}
    assert {row.revision for row in committer.sums} == {3}


async def test_the_sums_of_a_batch_need_no_read_after_the_first(
    store: MemoryRowStore, committer: Ledger
) -> None:
    """In the steady state a batch of a subject costs one transaction."""
    await commit(committer, events(1))
    store.calls.clear()
    await commit(committer, events(2, 3))

    assert dict(store.calls) == {"write": 1}


@pytest.mark.parametrize(
    ("ages_ms", "ranges"),
    [
        ([0, 5_000], 1),
        ([0, 5_001], 2),
        ([0, 4_000, 8_000], 1),
        ([0, 1_000, 90 * 86_400_000], 2),
    ],
)
async def test_an_old_id_among_new_ones_does_not_scan_what_lies_between(
    store: MemoryRowStore, committer: Ledger, ages_ms: list[int], ranges: int
) -> None:
    """Ids a few seconds apart at most share a range, so a batch of a steady caller costs one query."""
    batch = [
        usage_event(id=new_event_id(NOW - timedelta(milliseconds=age), bytes(10)))
        for age in ages_ms
    ]
    await commit(committer, batch)
    store.calls.clear()
    counted = await commit(Ledger(store, "other"), batch, may_be_repeats=True)

    assert counted.repeated_calls == len(ages_ms)
    assert store.calls["keys_between"] == ranges


async def test_repeats_with_ids_of_another_kind_are_detected(
    store: MemoryRowStore, committer: Ledger
) -> None:
    """An id need not hold a time; all that is promised is that it is unique."""
    ids = [UUID(int=n << 90) for n in (1, 7, 5)]
    await commit(committer, [usage_event(id=i) for i in ids[:2]])
    counted = await commit(committer, [usage_event(id=i) for i in ids])

    assert (len(counted.new), counted.repeated_calls) == (1, 2)
    assert calls(store) == 3


async def test_the_marker_says_what_the_call_was_and_nothing_of_its_content(
    store: MemoryRowStore, committer: Ledger
) -> None:
    """Enough to rebuild the sums; never the caller's or the backend's own words."""
    await commit(committer, events(1))

    (marker,) = (row for key, row in store.rows(LEDGER).items() if key.startswith("c|"))
    assert marker == {
        "At": NOW,
        "Call": '{"app":"app","deployment":"gpt-4o","model":"gpt-4o-2024-11-20",'
        '"backend":"east","tier":"standard","context":"short","region":null,'
        '"deployment_type":null,"operation":"chat","outcome":"served","status":200,'
        '"source":"reported","usage":{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15}}',
    }


class Choosy(MemoryRowStore):
    """Fails a transaction that has a row of one subject, as the service would for such a row."""

    def __init__(self, failure: StorageUnavailable) -> None:
        super().__init__()
        self.failure: StorageUnavailable | None = failure

    async def write(
        self, table: str, partition: str, *, insert: Sequence[Row] = (), **rows: Any
    ) -> Written | Conflict:
        keys = [row.key for row in (*insert, *rows.get("update", ()))]
        if self.failure is not None and any("|ev" in key for key in keys):
            raise self.failure
        return await super().write(table, partition, insert=insert, **rows)


def of_a_bucket(names: Sequence[str]) -> list[UsageEvent]:
    """A call of each, who are all of one bucket, in the order of their names."""
    subjects = []
    for name in names:
        numbers = (f"{name}{n}" for n in range(10_000))
        subjects.append(next(s for s in numbers if ledger_partition(s) == PARTITION))
    return [usage_event(n, subject=subject) for n, subject in enumerate(subjects)]


async def test_a_row_that_is_refused_keeps_no_other_subject_from_being_counted() -> None:
    """The transaction is split until the culprit stands alone, which is tried five times in all."""
    store = Choosy(RowsRefused("InvalidInput 400"))
    ledger, batch = Ledger(store), of_a_bucket(["ann", "bob", "cid", "dan", "eve", "fay"])
    eve = batch[4].subject

    found = [await commit(ledger, batch) for _ in range(5)]

    assert [len(each.new) for each in found] == [5, 0, 0, 0, 0]
    assert [{name for name, _ in each.failed} for each in found] == [{eve}] * 4 + [set()]
    assert [{name for name, _ in each.refused} for each in found] == [set()] * 4 + [{eve}]
    assert markers(store) == 5


async def test_a_row_that_storage_does_not_answer_for_holds_up_nobody_twice() -> None:
    """An outage is no subject's fault at first; at the next delivery its bucket is split."""
    store = Choosy(StorageUnavailable("InternalError 500"))
    ledger, batch = Ledger(store), of_a_bucket(["ann", "bob", "cid", "dan", "eve", "fay"])

    first = await commit(ledger, batch)
    second = await commit(ledger, batch, splits=True)
    store.failure = None
    third = await commit(ledger, batch)

    assert [len(each.new) for each in (first, second, third)] == [0, 5, 1]
    assert [len(each.failed) for each in (first, second, third)] == [6, 1, 0]
    assert markers(store) == 6


async def test_splitting_ends_where_storage_answers_nobody() -> None:
    """Else an outage would be asked about once for each event."""
    store = Choosy(StorageUnavailable("InternalError 500"))
    batch = of_a_bucket(["eve", "evf", "evg", "evh"])

    clock = FakeClock()
    trouble = Trouble(clock)
    for _ in range(MAX_OUTAGES):
        trouble.note(StorageUnavailable("ServerBusy 503"))
    clock.seconds += OUTAGE_SECONDS

    found = await commit(Ledger(store), batch, splits=True, trouble=trouble)

    assert len(found.failed) == 4
    assert store.calls["write"] == 0


async def test_a_transaction_of_many_subjects_counts_each_in_its_own_sums(
    store: MemoryRowStore, committer: Ledger
) -> None:
    """A month row each, one mark for all."""
    batch = of_a_bucket(["ann", "bob", "cid"])
    await commit(committer, batch)

    assert [t.rows for t in store.transactions] == [3 + 3 + 1]
    rows = store.rows(LEDGER)
    assert sum(key.startswith("s|2026-11|") for key in rows) == 3
    assert rows["v|w.0"] == {"From": "2026-11-23T07"}


async def test_tokens_of_a_tool_count_under_the_names_of_its_own_deployment(
    store: MemoryRowStore, committer: Ledger
) -> None:
    """Never as a call, at the standard tier, and beside the call in one transaction."""
    tool = ToolUsage(deployment="image", model="gpt-image-1", usage=TokenUsage(image_tokens=9))
    await commit(
        committer, [usage_event(1, tool_usage=(tool,), tier=Tier.PRIORITY, context=Context.LONG)]
    )

    rows = store.rows(LEDGER)
    assert rows["s|2026-11|alice|app|image|gpt-image-1|east|standard|short"]["ImageTokens"] == 9
    assert "Calls" not in rows["s|2026-11|alice|app|image|gpt-image-1|east|standard|short"]
    assert rows["s|2026-11|alice|app|gpt-4o|gpt-4o-2024-11-20|east|priority|long"]["Calls"] == 1
    assert len(store.transactions) == 1


@pytest.mark.parametrize(("own", "expected"), [("data-zone", "data-zone"), (None, "global")])
async def test_tokens_of_a_tool_have_the_type_of_its_own_deployment(
    store: MemoryRowStore, committer: Ledger, own: str | None, expected: str
) -> None:
    """The call's where the event states none; its marker says the same, for a rebuild."""
    tool = ToolUsage(
        deployment="image", model=None, deployment_type=own, usage=TokenUsage(image_tokens=9)
    )
    event = usage_event(1, tool_usage=(tool,), deployment_type="global", region="eastus")
    await commit(committer, [event])

    rows = store.rows(LEDGER)
    key = "s|2026-11|alice|app|image|unknown|east|standard|short"
    assert (rows[key]["Region"], rows[key]["DeploymentType"]) == ("eastus", expected)
    marker = next(Row(key=key, columns=row) for key, row in rows.items() if key.startswith("c|"))
    counted = read_marker(marker)
    assert isinstance(counted, CountedCall)
    assert counted.tool_usage == (tool,)
