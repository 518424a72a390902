"""`python -m tests.faults.soak --seconds 600`: real calls through a stack while everything breaks.

Faults of every kind follow each other in an order that the seed decides, with a recovery between
two. Once in the middle the storage is gone for long. At the end, when all has drained, every call
is judged. The exit code is 1 if a call whose caller saw its end is lost or counted with tokens
other than billed, or if anything is counted twice.
"""

import argparse
import asyncio
import sys
import tempfile
from collections import Counter
from collections.abc import Awaitable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from secrets import randbelow

from azure.core.exceptions import ResourceNotFoundError
from azure.data.tables import TableClient

from local.faults import Rules
from meter.publishing.outbox import OUTBOX_TABLE
from tests.faults.books import Books
from tests.faults.breaking import BREAKINGS
from tests.faults.calling import Call, Callers, Judgement, judge_in_the_end
from tests.faults.stage import Stage, staged

AT_ONCE = 16
UNPUBLISHED = "usage_event_unpublished"
CALM = "no fault"
HUB_OUTAGE, STORAGE_OUTAGE = "hub_is_gone_for_long", "storage_is_gone_for_long"
OUTAGE_SECONDS = {HUB_OUTAGE: 60.0, STORAGE_OUTAGE: 120.0}
RECOVERY_SECONDS = 60.0
SHORT_CALL_SECONDS = 0.8  # a call that does not wait for a missing hub


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """The time for which one fault was in force, until it was repaired."""

    kind: str
    began: float
    ended: float


async def main(seconds: float, seed: int, subjects: int, folder: Path) -> int:
    """Run the soak and print the report; return 0 when nothing is lost or doubled."""
    print(f"soak: {seconds:.0f} s, {subjects} subjects, seed {seed}", flush=True)
    async with staged(folder) as stage:
        callers = Callers(stage, [f"soak-{number:03d}" for number in range(subjects)])
        async with callers.calling(AT_ONCE):
            await callers.until_seen(50)
            periods = await _break_things(stage, callers, Random(seed), seconds)
        await stage.clear()
        judgement = await judge_in_the_end(stage, callers.calls)
        books, recorded = await stage.books(), await stage.recorded()
        log = (folder / "stack" / "logs" / "gateway.log").read_text(errors="replace")
    _report(callers.calls, periods, _Evidence(books, recorded.keys()), judgement)
    print(f"events that nobody took (usage_event_unpublished): {log.count(UNPUBLISHED)}")
    print("soak: " + ("FAILED" if judgement.problems else "nothing lost, nothing doubled"))
    return 1 if judgement.problems else 0


async def _break_things(
    stage: Stage, callers: Callers, dice: Random, seconds: float
) -> list[Period]:
    loop = asyncio.get_running_loop()
    begun = loop.time()
    outages = [STORAGE_OUTAGE, HUB_OUTAGE]
    periods: list[Period] = []
    waiting = dice.sample(BREAKINGS, len(BREAKINGS))
    while loop.time() < begun + seconds:
        if outages and loop.time() > begun + seconds / (1 + len(outages)):
            kind = outages.pop()
            breaking: Awaitable[None] = _long_outage(stage, kind, seconds)
        else:
            waiting = waiting or dice.sample(BREAKINGS, len(BREAKINGS))
            chosen = waiting.pop()
            kind, breaking = chosen.__name__, chosen(stage, dice)
        began = loop.time()
        await breaking
        periods.append(Period(kind=kind, began=began, ended=loop.time()))
        await _recover(stage, callers)
    return periods


async def _long_outage(stage: Stage, kind: str, seconds: float) -> None:
    proxy = stage.hub_proxy if kind == HUB_OUTAGE else stage.storage_proxy
    await proxy.put(Rules(refuse=True))
    await asyncio.sleep(min(OUTAGE_SECONDS[kind], seconds / 5))
    await proxy.clear()


async def _recover(stage: Stage, callers: Callers) -> None:
    """Two concurrent faults that leave an event no destination are outside of this promise."""
    loop = asyncio.get_running_loop()
    with suppress(TimeoutError):
        async with asyncio.timeout(RECOVERY_SECONDS):
            while True:
                since = loop.time()
                await callers.until_seen(AT_ONCE)
                fresh = [call for call in callers.calls if call.started > since and call.is_seen]
                is_quick = all(call.ended - call.started < SHORT_CALL_SECONDS for call in fresh)
                if fresh and is_quick and not await asyncio.to_thread(_waits_in_outbox, stage):
                    return


def _waits_in_outbox(stage: Stage) -> bool:
    storage = stage.storage.connection_string()
    with TableClient.from_connection_string(storage, OUTBOX_TABLE) as table:
        try:
            return any(True for _ in table.list_entities(results_per_page=1))
        except ResourceNotFoundError:
            return False


@dataclass(frozen=True, slots=True)
class _Evidence:
    books: Books
    recorded: Collection[str]

    def is_counted(self, call: Call) -> bool:
        return call.event_id in self.books.calls.get(call.subject, {})

    def row(self, calls: Sequence[Call]) -> str:
        """The counts made, seen, counted, recorded and lost; counted and recorded only of answered calls."""
        seen = [call for call in calls if call.is_seen]
        counted = sum(self.is_counted(call) for call in calls)
        recorded = sum(call.request_id in self.recorded for call in calls)
        lost = sum(not self.is_counted(call) for call in seen)
        return f"{len(calls):7}{len(seen):7}{counted:9}{recorded:10}{lost:6}"


def _report(
    calls: Sequence[Call], periods: Sequence[Period], evidence: _Evidence, judgement: Judgement
) -> None:
    times = Counter(period.kind for period in periods)
    by_kind: dict[str, list[Call]] = {kind: [] for kind in [*sorted(times), CALM]}
    for call in calls:
        by_kind[_kind(call, periods)].append(call)
    width = max(map(len, by_kind))
    print(f"\n{'fault':{width}} times   made   seen  counted  recorded  lost")
    for kind, struck in by_kind.items():
        print(f"{kind:{width}} {times[kind]:5}{evidence.row(struck)}")
    print(
        f"\nmade {judgement.made}, seen to their end {judgement.seen}, counted {judgement.counted},"
        f" recorded by the backends {judgement.recorded}, lost {len(judgement.lost)},"
        f" with other tokens {len(judgement.differing)}, missing in sums {len(judgement.missing)},"
        f" doubled {len(judgement.doubled)}"
    )
    for problem in judgement.problems[:20]:
        print(f"  {problem}")


def _kind(call: Call, periods: Sequence[Period]) -> str:
    """The last fault that was in force during the call."""
    for period in reversed(periods):
        if call.started <= period.ended and call.ended >= period.began:
            return period.kind
    return CALM


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument(
        "--seed", type=int, default=randbelow(1_000_000), help="order of the faults"
    )
    parser.add_argument("--subjects", type=int, default=50)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(asyncio.run(main(options.seconds, options.seed, options.subjects, Path(folder))))
