"""The aggregator on Azurite: events per second, table requests, entities and CPU by component.

Each case is a process of its own on one core (`bench/counting.py`), with a fresh Azurite on the
other. The same events on an in-memory store show the share of the ledger's own code; the rest of the
process's CPU time is the adapter's, the SDK's and HTTP's.
"""

import asyncio
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from bench.counting import Counted, Spec
from bench.servers import SERVER_CORE, azurite, cpu_seconds, start

CASES = (
    Spec(subjects=1, batch=1_000, batches=20, seconds=8),
    Spec(subjects=50, batch=1_000, batches=20, seconds=8),
    Spec(subjects=1_000, batch=1_000, batches=10, warm_up=10, seconds=8),
    Spec(subjects=1_000, batch=10_000, batches=2, seconds=8),
    Spec(subjects=10_000, batch=10_000, batches=2, seconds=8),
)
SETTLED = tuple(
    Spec(subjects=s, batch=batch, batches=n, seconds=60, knows_all=True)
    for s, batch, n in ((1_000, 1_000, 60), (1_000, 10_000, 10), (10_000, 10_000, 10))
)
MANY = Spec(subjects=1_000, batch=10_000, batches=10, seconds=30, keeps_markers=False)
PROCESSES = (1, 2, 4)
SHARED = Spec(subjects=1_000, batch=1_000, batches=10, warm_up=10, seconds=8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """One phase of one process, and Azurite's CPU seconds meanwhile."""

    counted: Counted
    azurite_cpu_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """One process: first contact with every subject, then the steady state; microseconds alone."""

    first: Phase
    steady: Phase
    alone: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """All that is measured; `memory` and `settled` are on an in-memory store."""

    azurite: Mapping[Spec, Ran]
    memory: Mapping[Spec, Ran]
    settled: Mapping[Spec, Ran]
    many: Ran
    shared: Mapping[int, Sequence[Ran]]


async def measure(tree: str | None = None) -> Results:
    """Run all cases, in turn. With `tree`, the aggregator is that of another work tree."""
    found, memory, settled, shared = {}, {}, {}, {}
    for spec in CASES:
        async with azurite() as (connection, pid):
            [found[spec]] = await _run([replace(spec, connection=connection)], pid, tree)
        [memory[spec]] = await _run([spec], os.getpid(), tree)
    for spec in SETTLED:
        [settled[spec]] = await _run([spec], os.getpid(), tree)
    for number in PROCESSES:
        async with azurite() as (connection, pid):
            specs = [replace(SHARED, connection=connection, partition=p) for p in range(number)]
            shared[number] = await _run(specs, pid, tree)
    [many] = await _run([MANY], os.getpid(), tree)
    return Results(azurite=found, memory=memory, settled=settled, many=many, shared=shared)


def report(results: Results) -> list[str]:
    """The results as Markdown."""
    alone = [ran.alone for ran in results.memory.values()]
    return [
        "## Aggregator",
        "",
        "A batch holds events of one hub partition in messages of 20; each subject is one client "
        "application that calls three deployments on two backends at random. One process on one "
        "core, a fresh Azurite on the other. First contact: the process and the tables meet every "
        "subject, once each; then subjects are drawn at random, after a batch or more to warm up: "
        "of 10,000 subjects 70% of the sums are still new then, and views are written after each "
        "batch, since Azurite is slow. The last flush of the views is included. The ledger's share "
        "is the CPU time of the same events on an in-memory store.",
        "",
        *_table(results, "first contact", lambda ran: ran.first),
        *_table(results, "steady state", lambda ran: ran.steady),
        *_settled(results.settled),
        f"Decoding alone takes {min(a['decode_us'] for a in alone):.0f} us per event, the fold "
        f"{min(a['fold_us'] for a in alone):.0f} to {max(a['fold_us'] for a in alone):.0f} us.",
        "",
        *_shared(results.shared),
        f"Over {results.many.steady.counted.events:,} events on a store that keeps sums only the "
        f"process grew by {results.many.steady.counted.memory_grown_mb:.1f} MB.",
        "",
    ]


def _table(results: Results, title: str, phase_of: Callable[[Ran], Phase]) -> list[str]:
    rows = []
    for spec, ran in results.azurite.items():
        phase, own = phase_of(ran), phase_of(results.memory[spec]).counted
        at = phase.counted
        ours, ledger = at.cpu_seconds / at.events * 1000, own.cpu_seconds / own.events * 1000
        cells = [
            f"{spec.subjects:,}",
            f"{spec.batch:,}",
            f"{at.events / at.seconds:,.0f}",
            f"{at.events / at.cpu_seconds:,.0f}",
            f"{at.transactions / at.events:.3f}",
            f"{at.reads / at.events:.3f}",
            f"{at.ledger_rows / at.events:.2f} + {at.other_rows / at.events:.2f}",
            f"{ledger:.3f}",
            f"{ours - ledger:.3f}",
            f"{phase.azurite_cpu_seconds / at.events * 1000:.3f}",
            f"{at.memory_grown_mb:.1f}",
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return [
        f"Table: {title}.",
        "",
        "| subjects | events per batch | events/s | events/s per core of ours | transactions per event "
        "| reads per event | rows per event: ledger + other | ledger ms | adapter, SDK, HTTP ms "
        "| Azurite ms | MB grown |",
        f"|{'---|' * 11}",
        *rows,
        "",
    ]


def _settled(settled: Mapping[Spec, Ran]) -> list[str]:
    rows = []
    for spec, ran in settled.items():
        at = ran.steady.counted
        rows.append(
            f"| {spec.subjects:,} | {spec.batch:,} | {at.transactions / at.events:.3f} "
            f"| {at.reads / at.events:.3f} "
            f"| {at.ledger_rows / at.events:.2f} + {at.other_rows / at.events:.2f} "
            f"| {at.cpu_seconds / at.events * 1000:.3f} |"
        )
    return [
        "Table: every sum is known, on an in-memory store. Each subject has called "
        "every deployment on every backend before. The batches come as fast as they are counted, "
        "so a view row is written once for several of them, as in a busy process on Azure.",
        "",
        "| subjects | events per batch | transactions per event | reads per event "
        "| rows per event: ledger + other | ledger ms |",
        f"|{'---|' * 6}",
        *rows,
        "",
    ]


def _shared(shared: Mapping[int, Sequence[Ran]]) -> list[str]:
    rows = []
    for number, runs in shared.items():
        counted = [ran.steady.counted for ran in runs]
        events, seconds = sum(c.events for c in counted), max(c.seconds for c in counted)
        stores = max(ran.steady.azurite_cpu_seconds for ran in runs)
        ours = sum(c.cpu_seconds for c in counted)
        rows.append(
            f"| {number} | {events / seconds:,.0f} | {ours / seconds:.0%} | {stores / seconds:.0%} |"
        )
    return [
        f"Several aggregators on one Azurite, each with {SHARED.subjects:,} subjects of its own hub "
        f"partition, {SHARED.batch:,} events per batch, all on one core. Azurite is a single thread of "
        "Node: near 100% of its core, it is the limit.",
        "",
        "| processes | events/s together | our core busy | Azurite's core busy |",
        "|---|---|---|---|",
        *rows,
        "",
    ]


async def _run(specs: Sequence[Spec], store_pid: int, tree: str | None) -> list[Ran]:
    """Run the processes at once; each begins its second phase when all have ended the first."""
    settings = {"PYTHONPATH": tree} if tree else {}
    begun, processes = cpu_seconds(store_pid), []
    for spec in specs:
        arguments = [sys.executable, "-m", "bench.counting", json.dumps(asdict(spec))]
        processes.append(await start(arguments, settings, cpu=SERVER_CORE))
    for process in processes:
        assert process.stdout is not None
        assert (await process.stdout.readline()).strip() == b"ready"
    between = cpu_seconds(store_pid)
    answers = await asyncio.gather(*(process.communicate(b"go\n") for process in processes))
    ended = cpu_seconds(store_pid)
    ran = []
    for out, _ in answers:
        first, steady, alone = json.loads(out)
        ran.append(
            Ran(
                first=Phase(counted=Counted(**first), azurite_cpu_seconds=between - begun),
                steady=Phase(counted=Counted(**steady), azurite_cpu_seconds=ended - between),
                alone=alone,
            )
        )
    return ran
