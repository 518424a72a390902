"""One aggregator in a process of its own: `python -m bench.counting SPEC`, SPEC and answer in JSON.

It connects, meets every subject for the first time, warms up, prints `ready`, and goes on when it is
told to.
"""

import asyncio
import gc
import json
import math
import resource
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bench.stores import Asked, CountingTables, MemoryStore
from bench.traffic import Traffic, traffic
from meter.adapters.functions.memory import collect_rarely
from meter.adjustment import Countable
from meter.errors import StorageUnavailable
from meter.ledger.aggregator import Aggregator
from meter.ledger.decode import Message, decode
from meter.ledger.fold import fold
from meter.wiring.counting import build_aggregator

RETENTION = timedelta(days=100)
FLUSH_SECONDS = 60.0
MOST_DELIVERIES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """What to count: at most so many batches, for at most so many seconds, after some to warm up.

    Without a connection string rows are kept in memory; without `keeps_markers` only sums. With
    `knows_all` the warm-up is a call of each subject to each deployment on each backend instead.
    """

    subjects: int
    batch: int
    batches: int
    warm_up: int = 1
    seconds: float
    partition: int = 0
    run: str = "a"
    connection: str = ""
    keeps_markers: bool = True
    knows_all: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """Events counted and what they took; CPU seconds are those of this process."""

    events: int
    seconds: float
    cpu_seconds: float
    transactions: int
    reads: int
    ledger_rows: int
    other_rows: int
    memory_grown_mb: float

    @property
    def rows(self) -> int:
        """Entities written."""
        return self.ledger_rows + self.other_rows


async def main(spec: Spec) -> None:
    """Count in two phases; print both results in one line."""
    asked = Asked()
    store = (
        CountingTables(spec.connection, asked)
        if spec.connection
        else MemoryStore(asked=asked, keeps_markers=spec.keeps_markers)
    )
    aggregator = build_aggregator(store, RETENTION)
    collect_rarely()
    calls = traffic(subjects=spec.subjects, partition=spec.partition, run=spec.run)
    try:
        stranger = traffic(subjects=1, partition=spec.partition, run=f"{spec.run}-stranger")
        await aggregator.handle(stranger.at_random(20))  # connect, create tables
        calls.sent = stranger.sent  # the hub numbers the messages of a partition
        first = await _phase(aggregator, calls.each_once(spec.batch), asked, spec.seconds)
        if spec.knows_all:
            await _phase(aggregator, calls.each_kind(spec.batch), asked, math.inf)
        else:
            warm_up = (calls.at_random(spec.batch) for _ in range(spec.warm_up))
            await _phase(aggregator, warm_up, asked, spec.seconds)
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        batches = (calls.at_random(spec.batch) for _ in range(spec.batches))
        steady = await _phase(aggregator, batches, asked, spec.seconds)
    finally:
        await store.close()
    print(json.dumps([asdict(first), asdict(steady), _fold_alone(calls)]), flush=True)


async def _phase(
    aggregator: Aggregator, batches: Iterable[list[Message]], asked: Asked, seconds: float
) -> Counted:
    """Count the batches; the events are made meanwhile, which is not part of the result."""
    events, wall, cpu = 0, 0.0, 0.0
    gc.collect()
    memory, before = _memory_mb(), asdict(asked)
    for batch in batches:
        begun, begun_cpu = time.perf_counter(), time.process_time()
        await _deliver(aggregator, batch)
        wall += time.perf_counter() - begun
        cpu += time.process_time() - begun_cpu
        events += sum(len(json.loads(message.body)) for message in batch)
        if wall > seconds:
            break
    begun, begun_cpu = time.perf_counter(), time.process_time()
    await aggregator.close(FLUSH_SECONDS)
    wall += time.perf_counter() - begun
    cpu += time.process_time() - begun_cpu
    return Counted(
        events=events,
        seconds=wall,
        cpu_seconds=cpu,
        memory_grown_mb=_memory_mb() - memory,
        **{name: count - before[name] for name, count in asdict(asked).items()},
    )


async def _deliver(aggregator: Aggregator, batch: Sequence[Message]) -> None:
    """Deliver the batch until it is counted, as the trigger does."""
    for _ in range(MOST_DELIVERIES):
        try:
            report = await aggregator.handle(batch)
        except StorageUnavailable as exc:
            print("delivered again:", exc, file=sys.stderr)
        else:
            assert report.dead_letters == 0, report
            return
    raise StorageUnavailable(f"not counted in {MOST_DELIVERIES} deliveries")


def _fold_alone(calls: Traffic) -> dict[str, float]:
    """CPU microseconds per event of decoding, and of adding up by subject."""
    messages = calls.at_random(10_000)
    begun = time.process_time()
    events = decode(messages, now=datetime.now(UTC), retention=RETENTION).events
    decoded = time.process_time()
    by_subject: dict[str, list[Countable]] = {}
    for event in events:
        by_subject.setdefault(event.subject, []).append(event)
    for subject, some in by_subject.items():
        fold(subject, some)
    folded = time.process_time()
    return {
        "decode_us": (decoded - begun) / len(events) * 1e6,
        "fold_us": (folded - decoded) / len(events) * 1e6,
    }


def _memory_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


if __name__ == "__main__":
    asyncio.run(main(Spec(**json.loads(sys.argv[1]))))
