"""Table Storage that fails at every request in turn, for a while, or slowly: sums equal the truth."""

import asyncio
import json
import logging
from collections.abc import Iterator, Sequence
from copy import replace
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count
from random import Random
from typing import Any

import pytest
from azure.data.tables import TableServiceClient as BlockingTableServiceClient

from local.faults import Flow, RequestFault, Rules
from meter.ledger.decode import Message
from meter.usage import TokenUsage, UsageEvent
from tests.faults.books import VIEWS, Books, assert_counted_once, read_books
from tests.faults.delivery import deliver, path_to
from tests.support.events import NOW, message, raw_message, usage_event

OUTAGE_SECONDS = 2.0
AT_ONCE = 3
BUSY = json.dumps({"odata.error": {"code": "ServerBusy", "message": {"value": "busy"}}})
LEAST_REQUESTS = 20  # a sweep that ends sooner has not failed every request
RUNS = count(1)  # each run has subjects of its own, since all share one Azurite


def call(number: int, subject: str, minute: int, tokens: int) -> UsageEvent:
    """A call `minute` minutes after 07:30."""
    return usage_event(
        number,
        subject=subject,
        time=NOW + timedelta(minutes=minute),
        usage=TokenUsage(prompt_tokens=tokens, total_tokens=tokens),
    )


@dataclass(frozen=True)
class Story:
    """Two batches: two subjects, two hours, a repeat in each batch, a dead letter."""

    run: int

    @property
    def alice(self) -> str:
        return f"alice|{self.run}"

    @property
    def bob(self) -> str:
        return f"böb {self.run}"

    @property
    def first(self) -> list[Message]:
        early, late = call(1, self.alice, 0, 1), call(2, self.alice, 40, 10)
        return [
            message(early, call(3, self.bob, 50, 100), sequence_number=10 * self.run),
            raw_message(f"not json {self.run}".encode(), sequence_number=10 * self.run + 1),
            message(late, early, sequence_number=10 * self.run + 2),
        ]

    @property
    def second(self) -> list[Message]:
        repeat, more = call(2, self.alice, 40, 10), call(4, self.alice, 70, 1_000)
        return [message(repeat, more, sequence_number=10 * self.run + 3)]

    def assert_told(self, books: Books) -> None:
        """The expected values, written by hand: calls and tokens of each window."""
        alice = {
            "2026-11-23T07": (1, 1),
            "2026-11-23T08": (2, 1_010),
            "2026-11-23": (3, 1_011),
            "2026-11": (3, 1_011),
        }
        bob = {
            "2026-11-23T08": (1, 100),
            "2026-11-23": (1, 100),
            "2026-11": (1, 100),
        }
        for subject, totals, tokens in (
            (self.alice, alice, [1, 10, 1_000]),
            (self.bob, bob, [100]),
        ):
            account = books.of(subject)
            assert dict(account.sums) == totals, f"run {self.run}, ledger"
            assert dict(account.views) == totals, f"run {self.run}, views"
            assert sorted(account.calls.values()) == tokens, f"run {self.run}, markers"
        seen = [
            (row["FirstSeen"], row["LastSeen"])
            for row in (books.subjects[self.alice], books.subjects[self.bob])
        ]
        assert seen == [(at(0), at(70)), (at(50), at(50))], f"run {self.run}, subjects"
        letters = [row for row in books.dead_letters if row["Body"] == f"not json {self.run}"]
        assert [row["Reason"] for row in letters] == ["not-json"], f"run {self.run}, dead letters"


def at(minute: int) -> datetime:
    return NOW + timedelta(minutes=minute)


BUSY_BEFORE = RequestFault(status=503, answer=BUSY, repeats=True)
RESET_AFTER = RequestFault(applied=True, repeats=True)
WITHIN_RETRIES = RequestFault(status=503, answer=BUSY), RequestFault(applied=True, status=500)
ERROR_AFTER_ONCE = RequestFault(applied=True, status=500)


@pytest.fixture(scope="module", autouse=True)
def _quiet() -> Iterator[None]:
    """Hundreds of dead letters are logged as errors; other tests cover that."""
    logger = logging.getLogger("meter.ledger.aggregator")
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(logging.NOTSET)


async def tell(
    azurite: str, story: Story, *faults: RequestFault, redelivers_to_new: bool = False
) -> tuple[int, bool]:
    """Count the story under faults; return how often a batch failed, and whether any fault struck.

    What could not be shown yet is shown when the processes end.
    """
    failures = 0
    async with path_to(azurite) as path, path.aggregator() as first, path.aggregator() as second:
        aggregator = first
        await path.proxy.put(Rules(requests=faults))
        for batch in (story.first, story.second):
            _, failed = await deliver(aggregator, batch, then=second if redelivers_to_new else None)
            aggregator = second if failed and redelivers_to_new else aggregator
            failures += failed
        is_struck = path.proxy.stats()["struck"] > 0
        await path.proxy.clear()
        for each in (first, second):
            await each.close(10)
        return failures, is_struck


async def fail_each_request(
    azurite: str, *faults: RequestFault, redelivers_to_new: bool = False
) -> list[tuple[Story, int]]:
    """Run the story once per request that it needs, with faults from that one on; return the failures."""
    await tell(azurite, Story(next(RUNS)))  # makes the tables
    told: list[tuple[Story, int]] = []
    for first in count(1, AT_ONCE):
        stories = [Story(next(RUNS)) for _ in range(AT_ONCE)]
        tellings = []
        for number, story in enumerate(stories, first):
            placed = [replace(fault, number=number + n) for n, fault in enumerate(faults)]
            tellings.append(tell(azurite, story, *placed, redelivers_to_new=redelivers_to_new))
        results = await asyncio.gather(*tellings)
        told += [
            (story, failures)
            for story, (failures, is_struck) in zip(stories, results, strict=True)
            if is_struck
        ]
        if not all(is_struck for _, is_struck in results):
            return told
    raise AssertionError


@pytest.mark.parametrize(
    ("fault", "redelivers_to_new"),
    [
        pytest.param(BUSY_BEFORE, False, id="busy-before-same"),
        pytest.param(RESET_AFTER, False, id="reset-after-same"),
        # A new process has no memory: to it, a fault before request k is one after request k - 1.
        pytest.param(RESET_AFTER, True, id="reset-after-new"),
    ],
)
async def test_whichever_request_fails_the_redelivered_batch_adds_up(
    azurite: str, fault: RequestFault, redelivers_to_new: bool
) -> None:
    """Request k and all its retries by the SDK fail, for every k.

    For the ledger and the dead letters the batch fails and is redelivered, for the views and the
    subjects it goes on without them. To the same process, whose memory must not be stale, or to a
    new one, as after a crash.
    """
    told = await fail_each_request(azurite, fault, redelivers_to_new=redelivers_to_new)
    books = read_books(azurite)

    assert len(told) >= LEAST_REQUESTS
    assert {failures for _, failures in told} == {0, 1}
    for story, _ in told:
        story.assert_told(books)


async def test_whichever_request_the_sdk_repeats_the_batch_adds_up(azurite: str) -> None:
    """Request k fails once, and the next one (mostly its retry) after it was applied, for every k.

    The SDK's own retry then finds what the first attempt has done.
    """
    told = await fail_each_request(azurite, *WITHIN_RETRIES)
    books = read_books(azurite)

    assert len(told) >= LEAST_REQUESTS
    assert {failures for _, failures in told} == {0}
    for story, _ in told:
        story.assert_told(books)


@pytest.mark.parametrize(
    "fault",
    [BUSY_BEFORE, RESET_AFTER, ERROR_AFTER_ONCE],
    ids=["busy-before", "reset-after", "error-after-once"],
)
async def test_whichever_table_cannot_be_made_the_redelivered_batch_adds_up(
    azurite: str, fault: RequestFault
) -> None:
    """The first batch of a month finds no table; creating it fails, or succeeds without an answer."""
    for table in ("Ledger202611", *VIEWS, "Subjects", "DeadLetters"):
        delete_tables(azurite)
        story = Story(next(RUNS))
        making = replace(fault, method="POST", path="/Tables", body=f'"{table}"')
        _, is_struck = await tell(azurite, story, making, redelivers_to_new=True)

        assert is_struck, table
        story.assert_told(read_books(azurite))


def delete_tables(azurite: str) -> None:
    with BlockingTableServiceClient.from_connection_string(azurite) as service:
        for table in list(service.list_tables()):
            service.delete_table(table.name)


def events_of(subjects: Sequence[str], each: int) -> list[UsageEvent]:
    """Calls of some subjects over two hours, each with tokens of its own."""
    numbers = range(len(subjects) * each)
    return [call(n, subjects[n % len(subjects)], n % 2 * 40, 1 + n) for n in numbers]


def batches_of(events: Sequence[UsageEvent], size: int) -> list[list[Message]]:
    """One message per two events."""
    pairs = [message(*events[at : at + 2], sequence_number=at) for at in range(0, len(events), 2)]
    return [pairs[at : at + size] for at in range(0, len(pairs), size)]


async def test_storage_that_refuses_everything_for_a_while_loses_nothing(azurite: str) -> None:
    """Batches keep arriving and are retried; after the outage the backlog drains."""
    subjects = [f"outage-{n}" for n in range(5)]
    events = events_of(subjects, 16)
    async with path_to(azurite) as path, path.aggregator() as aggregator:
        batches = batches_of(events, 5)
        await deliver(aggregator, batches[0])
        await path.proxy.put(Rules(refuse=True))
        delivering = asyncio.gather(*(deliver(aggregator, batch) for batch in batches[1:]))
        await asyncio.sleep(OUTAGE_SECONDS)
        counted_meanwhile = read_books(azurite)
        await path.proxy.clear()
        results = await delivering
    books = read_books(azurite)

    assert sum(len(counted_meanwhile.of(subject).calls) for subject in subjects) == 10
    assert all(failures > 0 for _, failures in results)
    assert_counted_once(books, events)


async def test_an_event_delivered_a_thousand_times_is_counted_once(azurite: str) -> None:
    """In one message, in many messages of a batch, in successive and in concurrent batches."""
    event = call(1, "thousandfold", 0, 7)
    copies = [message(*[event] * 5, sequence_number=n) for n in range(10)]
    async with path_to(azurite) as path, path.aggregator() as one, path.aggregator() as other:
        reports = [await deliver(one, copies) for _ in range(10)]
        reports += await asyncio.gather(
            *(deliver(aggregator, copies) for aggregator in [one, other] * 5)
        )
    books = read_books(azurite)

    assert sum(report.new_calls + report.repeated_calls for report, _ in reports) == 1_000
    assert sum(report.new_calls for report, _ in reports) == 1
    assert_counted_once(books, [event])


async def test_a_replay_from_the_start_changes_no_row(azurite: str) -> None:
    """After lost checkpoints the whole hub is redelivered, to a process without memory."""
    events = events_of([f"replay-{n}" for n in range(4)], 15)
    batches = batches_of(events, 6)
    async with path_to(azurite) as path:
        async with path.aggregator() as aggregator:
            for batch in batches:
                await deliver(aggregator, batch)
        before = all_rows(azurite)
        async with path.aggregator() as aggregator:
            reports = [await deliver(aggregator, batch) for batch in batches]

    assert sum(report.repeated_calls for report, _ in reports) == len(events)
    assert all_rows(azurite) == before
    assert_counted_once(read_books(azurite), events)


def all_rows(azurite: str) -> dict[tuple[str | None, str, str], Any]:
    """Every row of every table with its etag, which each write changes."""
    with BlockingTableServiceClient.from_connection_string(azurite) as service:
        return {
            (table.name, row["PartitionKey"], row["RowKey"]): (row.metadata["etag"], dict(row))
            for table in service.list_tables()
            for row in service.get_table_client(table.name).list_entities()
        }


@pytest.mark.parametrize("seed", range(4))
async def test_batches_in_any_order_give_the_same_sums(azurite: str, seed: int) -> None:
    """Partitions are replayed independently: newer calls may be counted before older ones."""
    dice = Random(seed)
    events = events_of([f"order-{seed}-{n}" for n in range(3)], 12)
    batches = batches_of(events, 3)
    again = dice.sample(batches, 3)
    order = dice.sample([*batches, *again], len(batches) + len(again))
    async with path_to(azurite) as path, path.aggregator() as aggregator:
        for batch in order:
            await deliver(aggregator, batch)

    assert_counted_once(read_books(azurite), events)


@pytest.mark.parametrize("size", [3, 4], ids=["same-batches", "cut-otherwise"])
async def test_two_aggregators_on_the_same_events_count_each_call_once(
    azurite: str, size: int
) -> None:
    """When a partition changes owner, two processes work on it at once and write the same sums."""
    events = events_of([f"both-{size}-{n}" for n in range(2)], 30)
    batches, others = batches_of(events, 3), batches_of(events, size)

    async def run(latency_ms: int, batches: Sequence[list[Message]]) -> tuple[int, int]:
        async with path_to(azurite) as path, path.aggregator() as aggregator:
            await path.proxy.put(Rules(up=Flow(latency_ms=latency_ms)))
            reports = [(await deliver(aggregator, batch))[0] for batch in batches]
        new_calls = sum(report.new_calls for report in reports)
        return new_calls, sum(report.repeated_calls for report in reports)

    # The second begins in the middle: both find new calls and duplicates, whichever is faster.
    results = await asyncio.gather(run(3, batches), run(4, others[5:] + others[:5]))

    assert sum(new_calls for new_calls, _ in results) == len(events)
    assert all(new_calls and repeated_calls for new_calls, repeated_calls in results)
    assert_counted_once(read_books(azurite), events)
