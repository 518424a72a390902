"""The aggregator on Azurite: events per second, table transactions per event, CPU by component.

Batches of 1,000 events of 50 subjects, one deployment each, in messages of 20 as the front door
sends them. The same batches on an in-memory store show the share of this project's own code; the
rest of the process's CPU time on Azurite is the SDK's.
"""

import os
import resource
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

from azure.core.pipeline.transport import AioHttpTransport
from azure.data.tables.aio import TableServiceClient

from bench.load import cpu_seconds
from bench.servers import SERVER_CORE, Ground
from meter.adapters.tables import CLIENT_OPTIONS, TablesRowStore
from meter.ledger.aggregator import Aggregator
from meter.ledger.decode import Message
from meter.ledger.keys import CALL_PREFIX
from meter.ports import Conflict, Row, Written
from meter.usage import (
    Outcome,
    Principal,
    Tier,
    TokenUsage,
    UsageEvent,
    UsageSource,
    encode_batch,
    encode_event,
    new_event_id,
)
from meter.wiring.metering import build_aggregator

SUBJECTS = 50
BATCH = 1_000
EVENTS_A_MESSAGE = 20
EVENTS = 30_000
MANY_EVENTS = 1_000_000
RETENTION = timedelta(days=100)
_AZURITE, _MEMORY, _MANY = "Azurite", "memory", "many"


@dataclass(frozen=True, slots=True, kw_only=True)
class Folded:
    """One run: events counted, seconds, table requests, CPU seconds of the process and the store."""

    events: int
    seconds: float
    requests: int
    our_cpu_seconds: float
    store_cpu_seconds: float
    memory_grown_mb: float

    @property
    def events_a_second(self) -> float:
        """Events per wall-clock second."""
        return self.events / self.seconds


async def measure(ground: Ground) -> dict[str, Folded]:
    """Run on Azurite, then in memory, in this process on its own core."""
    os.sched_setaffinity(0, {SERVER_CORE})
    counter = _Counter()
    service = TableServiceClient.from_connection_string(
        ground.settings["MeterStorage"], **CLIENT_OPTIONS, transport=counter
    )
    store = TablesRowStore(service)
    try:
        aggregator = build_aggregator(store, RETENTION)
        on_azurite = await _run(aggregator, EVENTS, counter=counter, pid=ground.azurite_pid)
    finally:
        await store.close()
    aggregator = build_aggregator(_MemoryStore(), RETENTION)  # type: ignore[arg-type]  # a RowStore
    in_memory = await _run(aggregator, EVENTS, counter=_Counter(), pid=os.getpid())
    # Azurite keeps all rows in memory and slows down; only this process's growth is measured.
    aggregator = build_aggregator(_MemoryStore(keeps_markers=False), RETENTION)  # type: ignore[arg-type]  # a RowStore
    many = await _run(aggregator, MANY_EVENTS, counter=_Counter(), pid=os.getpid())
    return {_AZURITE: on_azurite, _MEMORY: in_memory, _MANY: many}


def report(results: Mapping[str, Folded]) -> list[str]:
    """The results as Markdown."""
    azurite, memory, many = results[_AZURITE], results[_MEMORY], results[_MANY]
    ours = memory.our_cpu_seconds / memory.events
    shares = {
        "this project's code": ours,
        "SDK and HTTP": azurite.our_cpu_seconds / azurite.events - ours,
        "Azurite": azurite.store_cpu_seconds / azurite.events,
    }
    return [
        "## Aggregator",
        "",
        f"{azurite.events:,} events of {SUBJECTS} subjects in batches of {BATCH:,} on Azurite, the "
        "aggregator in one process on one core, Azurite on the other. This project's share is the "
        "CPU time of the same events on an in-memory store.",
        "",
        "| events/s | table transactions per event | memory growth |",
        "|---|---|---|",
        f"| {azurite.events_a_second:,.0f} | {azurite.requests / azurite.events:.3f} "
        f"| {azurite.memory_grown_mb:.1f} MB |",
        "",
        "| CPU time | ms per event |",
        "|---|---|",
        *(f"| {name} | {seconds * 1000:.3f} |" for name, seconds in shares.items()),
        "",
        f"Over {many.events:,} events on a store that keeps sums only the process grew by "
        f"{many.memory_grown_mb:.1f} MB.",
        "",
    ]


async def _run(aggregator: Aggregator, events: int, *, counter: "_Counter", pid: int) -> Folded:
    await _fold(aggregator, events=5 * BATCH, seed=1)  # connect, create tables, warm up
    memory, counter.requests = _memory_mb(), 0
    ours, stores, begun = cpu_seconds(os.getpid()), cpu_seconds(pid), time.perf_counter()
    spent = await _fold(aggregator, events=events, seed=2)
    making = spent.making_cpu_seconds
    return Folded(
        events=events,
        seconds=time.perf_counter() - begun - spent.making_seconds,
        requests=counter.requests,
        our_cpu_seconds=cpu_seconds(os.getpid()) - ours - making,
        store_cpu_seconds=cpu_seconds(pid) - stores,
        memory_grown_mb=_memory_mb() - memory,
    )


@dataclass(slots=True)
class _Spent:
    making_seconds: float = 0.0
    making_cpu_seconds: float = 0.0


async def _fold(aggregator: Aggregator, *, events: int, seed: int) -> _Spent:
    spent, dice = _Spent(), Random(seed)
    for _ in range(events // BATCH):
        begun, cpu = time.perf_counter(), time.process_time()
        batch = list(_batch(dice))
        spent.making_seconds += time.perf_counter() - begun
        spent.making_cpu_seconds += time.process_time() - cpu
        report = await aggregator.handle(batch)
        assert report.new_calls == BATCH, report
    return spent


def _batch(dice: Random) -> Iterator[Message]:
    now = datetime.now(UTC)
    for number in range(BATCH // EVENTS_A_MESSAGE):
        subject = f"subject-{number % SUBJECTS}"
        events = [_event(subject, now, dice) for _ in range(EVENTS_A_MESSAGE)]
        body = encode_batch(encode_event(event) for event in events)
        yield Message(body=body, hub_partition="0", sequence_number=number, enqueued_at=now)


def _event(subject: str, now: datetime, dice: Random) -> UsageEvent:
    prompt, completion = dice.randrange(2_000), dice.randrange(500)
    return replace(
        _EVENT,
        id=new_event_id(now, dice.randbytes(10)),
        time=now,
        started_at=now,
        principal=Principal(subject=subject, issuer="https://login.example/t/v2.0"),
        usage=TokenUsage(
            prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion
        ),
    )


_EVENT = UsageEvent(
    id=new_event_id(datetime(2026, 1, 1, tzinfo=UTC), bytes(10)),
    source="/aoai-meter/bench",
    time=datetime(2026, 1, 1, tzinfo=UTC),
    principal=Principal(subject="s", issuer="i"),
    operation="chat/completions",
    deployment="gpt-4o",
    model="gpt-4o-2024-11-20",
    api_version="2024-10-21",
    backend="a",
    tier=Tier.STANDARD,
    outcome=Outcome.SERVED,
    status=200,
    streaming=False,
    usage=TokenUsage(),
    usage_source=UsageSource.REPORTED,
    started_at=datetime(2026, 1, 1, tzinfo=UTC),
    duration_ms=900,
    time_to_first_byte_ms=300,
)


class _Counter(AioHttpTransport):  # type: ignore[misc]  # a lazy export, untyped
    """Counts the requests that go to Table Storage, retries included."""

    def __init__(self) -> None:
        super().__init__()
        self.requests = 0

    async def send(self, request: Any, **options: Any) -> Any:
        self.requests += 1
        return await super().send(request, **options)


@dataclass(slots=True)
class _MemoryStore:
    """Keeps rows in dictionaries, so that only this project's own work is measured."""

    keeps_markers: bool = True
    rows: dict[tuple[str, str, str], Row] = field(default_factory=dict)
    _etag: int = 0

    async def read(self, table: str, partition: str, keys: Sequence[str]) -> Mapping[str, Row]:
        found = ((key, self.rows.get((table, partition, key))) for key in keys)
        return {key: row for key, row in found if row is not None}

    async def keys_between(self, table: str, partition: str, first: str, last: str) -> set[str]:
        return {
            key
            for at_table, at_partition, key in self.rows
            if (at_table, at_partition) == (table, partition) and first <= key <= last
        }

    async def write(
        self, table: str, partition: str, *, insert: Sequence[Row], update: Sequence[Row]
    ) -> Written | Conflict:
        self._etag += 1
        for row in (*insert, *update):
            if row.key.startswith(CALL_PREFIX) and not self.keeps_markers:
                continue
            self.rows[table, partition, row.key] = replace(row, etag=str(self._etag))
        return Written({row.key: str(self._etag) for row in (*insert, *update)})

    async def scan(
        self, table: str, *, first_partition: str, last_partition: str
    ) -> AsyncIterator[tuple[str, Row]]:
        for (at_table, partition, _), row in sorted(self.rows.items()):
            if at_table == table and first_partition <= partition <= last_partition:
                yield partition, row


def _memory_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6
