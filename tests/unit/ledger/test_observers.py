"""What an aggregator tells its observers: each call once, in the delivery that counted it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from meter.errors import StorageUnavailable
from meter.ledger.aggregator import Aggregator
from meter.ledger.keys import ledger_partition
from meter.ports import Conflict, RowStore, Written
from meter.usage import UsageEvent
from tests.fakes.gateway import FakeClock
from tests.fakes.rows import MemoryRowStore
from tests.support.events import RETENTION, adjustment, message, raw_message, usage_event
from tests.support.ledger import new_writer, subjects_of_own_buckets


@dataclass
class Seen:
    """An observer that remembers."""

    calls: list[UsageEvent] = field(default_factory=list)
    repeats: list[int] = field(default_factory=list)
    letters: list[int] = field(default_factory=list)

    def counted(self, calls: Sequence[UsageEvent], repeats: int) -> None:
        self.calls += calls
        self.repeats.append(repeats)

    def dead_lettered(self, count: int) -> None:
        self.letters.append(count)


@dataclass(slots=True)
class FailingFor(MemoryRowStore):
    """A store that fails for these tables and partitions, perhaps after it has applied the write."""

    gone: set[str] = field(default_factory=set)
    partitions: set[str] = field(default_factory=set)
    applies: bool = False

    async def write(self, table: str, partition: str, **rows: Any) -> Written | Conflict:
        fails = table in self.gone or partition in self.partitions
        if fails and self.applies:
            await MemoryRowStore.write(self, table, partition, **rows)
        if fails:
            raise StorageUnavailable(f"{table}: no answer")
        return await MemoryRowStore.write(self, table, partition, **rows)


def watched(store: RowStore) -> tuple[Aggregator, Seen]:
    seen = Seen()
    aggregator = Aggregator(
        store=store, clock=FakeClock(), retention=RETENTION, writer=new_writer(), observers=[seen]
    )
    return aggregator, seen


async def test_each_call_that_is_counted_is_told_and_no_repeat() -> None:
    """A repeat may come in the same message, in the same batch or in a later one."""
    aggregator, seen = watched(MemoryRowStore())
    one, two, three = usage_event(1), usage_event(2), usage_event(3)

    await aggregator.handle([message(one, one), message(two)])
    await aggregator.handle([message(two, three)])

    assert seen.calls == [one, two, three]
    assert seen.repeats == [1, 1]


async def test_adjustments_are_no_calls() -> None:
    """They are counted, and told by nobody."""
    aggregator, seen = watched(MemoryRowStore())

    report = await aggregator.handle([message(usage_event(1), adjustment(1))])

    assert report.new_calls == 2
    assert seen.calls == [usage_event(1)]


async def test_what_a_failing_delivery_counted_is_told_by_that_delivery() -> None:
    """In the next one it is a repeat."""
    alice, bob = subjects_of_own_buckets(2)
    store = FailingFor(partitions={ledger_partition(bob)})
    aggregator, seen = watched(store)
    batch = [message(usage_event(1, subject=alice)), message(usage_event(2, subject=bob))]

    with pytest.raises(StorageUnavailable):
        await aggregator.handle(batch)
    first = [call.subject for call in seen.calls]
    store.partitions.clear()
    await aggregator.handle(batch)

    assert first == [alice]
    assert [call.subject for call in seen.calls] == [alice, bob]


async def test_a_call_is_told_although_its_batch_fails_later() -> None:
    """Dead letters that cannot be kept fail the batch; its calls are in the ledger."""
    store = FailingFor(gone={"DeadLetters"})
    aggregator, seen = watched(store)
    batch = [message(usage_event(1)), raw_message(b"{")]

    with pytest.raises(StorageUnavailable):
        await aggregator.handle(batch)
    assert (seen.calls, seen.letters) == ([usage_event(1)], [])
    store.gone.clear()
    await aggregator.handle(batch)

    assert (seen.calls, seen.letters) == ([usage_event(1)], [1])


async def test_a_call_whose_transaction_had_no_answer_is_not_told() -> None:
    """It is counted, and was so when the next delivery looked: nobody knows by which of them."""
    store = FailingFor(applies=True)
    aggregator, seen = watched(store)
    await aggregator.handle([message(usage_event(1))])
    store.partitions.add(ledger_partition("alice"))

    with pytest.raises(StorageUnavailable):
        await aggregator.handle([message(usage_event(2))])
    store.partitions.clear()
    report = await aggregator.handle([message(usage_event(2))])

    assert report.repeated_calls == 1
    assert seen.calls == [usage_event(1)]
