"""Random schedules of the ledger: whatever dies, outlives its lease or loses an answer, all is counted once.

One schedule is a seed. Two hub partitions are delivered in order, each to one owner after the other: an
owner is killed at any await, or goes on as a zombie beside the next one. Storage takes its time, refuses,
and loses answers. The sweep and rebuilds of both months run beside them. In the end, after the hub's
redeliveries and a last sweep, the ledger and the views are what the events add up to.
"""

import asyncio
import logging
from collections.abc import Coroutine, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from meter.adjustment import Adjustment, Countable, beside
from meter.errors import LedgerMissing, StorageUnavailable
from meter.ledger.aggregator import Aggregator
from meter.ledger.fold import Sums, fold
from meter.ledger.keys import DIMENSION_NAMES, ledger_partition
from meter.ledger.marks import ABANDONED_AFTER
from meter.ledger.packing.packed import unpacked
from meter.ledger.rows import read_revision, read_sums
from meter.ledger.views.showing import CADENCE_SECONDS
from meter.ports import Conflict, Written
from meter.upkeep.rebuild import Rebuild
from meter.upkeep.sweep import Sweep
from meter.usage import Context, TokenUsage, ToolUsage
from meter.window import Window
from tests.fakes.rows import Fault, MemoryRowStore
from tests.support.events import adjustment, message, usage_event
from tests.support.ledger import sums_in_ledger

MONTH_END = datetime(2026, 11, 30, 23, 30, tzinfo=UTC)
LEDGERS = ("Ledger202611", "Ledger202612")
VIEWS = ("UsageByHour", "UsageByDay", "UsageByMonth")
FAULTS = (Fault.UNAVAILABLE, Fault.ANSWER_LOST, Fault.CONFLICT, Fault.REFUSED)
SUBJECTS = ("alice", "bob", "b|ö", "x" * 200)


@dataclass
class Clock:
    """Shortly after the last event. Seconds pass between two batches."""

    seconds: float = 0.0

    def now(self) -> datetime:
        """The same moment always."""
        return MONTH_END + timedelta(hours=2)

    def monotonic(self) -> float:
        """The seconds that have passed."""
        return self.seconds


class MoodyStore(MemoryRowStore):
    """Takes its time, now and then very long; fails one write in thirty; some tables take no rows."""

    def __init__(self, dice: Random) -> None:
        super().__init__()
        self.dice = dice
        self.is_calm = False
        self.throttled: set[str] = set()

    async def _begin(self, operation: str, table: str) -> Fault:
        if not self.is_calm:
            turns = self.dice.choice((0, 0, 1, 2, 5)) if self.dice.random() < 0.97 else 60
            for _ in range(turns):
                await asyncio.sleep(0)
            if operation == "write" and self.dice.random() < 0.03:
                self.plan("write", self.dice.choice(FAULTS))
        return await super()._begin(operation, table)

    async def write(self, table: str, partition: str, **rows: Any) -> Written | Conflict:
        """As the real one, unless the table is throttled."""
        if table in self.throttled:
            raise StorageUnavailable(f"{table}: ServerBusy 503")
        return await super().write(table, partition, **rows)


def made_event(number: int, *, is_long: bool) -> Countable:
    """The event of this number, the same on each call: some are adjustments, some use tools.

    A schedule lasts an hour, or is long: a day and two midnights, one of them the month's end.
    """
    subject = SUBJECTS[number % 2 if is_long or number % 3 else 2 + number % 2]
    time = MONTH_END + timedelta(minutes=number % 4 * 17)
    if is_long:
        time = MONTH_END - timedelta(hours=24) + timedelta(minutes=64 * number)
        time -= timedelta(hours=number % 3 * (number % 4))
    if number % 5 == 4:  # a late backlog
        time -= timedelta(days=number % 25)
    if number % 8 == 7 and number >= 6:
        usage = TokenUsage(prompt_tokens=-number, total_tokens=number)
        call = made_event(number - 6, is_long=is_long)
        return adjustment(number, subject=call.subject, time=time, usage=usage, refers_to=call.id)
    tools = ToolUsage(deployment="image", model=None, usage=TokenUsage(image_tokens=number))
    return usage_event(
        number,
        subject=subject,
        time=time,
        deployment="d" if is_long else f"d{number % 2}",
        context=list(Context)[number % 2],
        region=f"r{number % 3}",
        tool_usage=(tools,) if number % 6 == 1 else (),
        usage=TokenUsage(prompt_tokens=2**32 + number, total_tokens=2**33 + number),
    )


@dataclass(slots=True)
class _Schedule:
    seed: int
    dice: Random
    store: MoodyStore
    clock: Clock
    writers: Iterator[int]
    aggregators: list[Aggregator] = field(default_factory=list)
    zombies: list[asyncio.Task[None]] = field(default_factory=list)

    def new_owner(self) -> Aggregator:
        owner = Aggregator(
            store=self.store,
            clock=self.clock,
            retention=timedelta(days=100),
            writer=f"w{next(self.writers)}",
        )
        self.aggregators.append(owner)
        return owner

    async def run_partition(self, events: list[Countable]) -> None:
        """Deliver all; whatever an owner did not finish comes again."""
        owner, done = self.new_owner(), 0
        while done < len(events):
            last = done + self.dice.randint(1, 6)
            first = max(0, done - self.dice.choice((0, 0, 0, 4)))
            task = asyncio.create_task(_handled(owner, events[first:last]))
            fate = self.dice.random()
            if fate > 0.4:
                if await _is_done(task):
                    done = last
            else:
                for _ in range(self.dice.randint(0, 60)):
                    await asyncio.sleep(0)
                if fate > 0.2:
                    self.zombies.append(task)
                else:
                    task.cancel()
                    _kill(owner)
                    await asyncio.gather(task, return_exceptions=True)
                owner = self.new_owner()
            places = [*VIEWS, "Subjects", "DeadLetters"]
            self.store.throttled = set(self.dice.sample(places, self.dice.choice((0, 0, 1, 3))))
            self.clock.seconds += self.dice.choice((0, 1, CADENCE_SECONDS, 100))
            self.store.time += timedelta(minutes=self.dice.choice((0, 0, 1, 11)))

    async def run_upkeep(self) -> None:
        """Sweeps and rebuilds beside the owners, at any moment."""
        for _ in range(self.dice.randint(0, 2)):
            for _ in range(self.dice.randint(0, 100)):
                await asyncio.sleep(0)
            sweep = Sweep(store=self.store, tables=self.store, clock=self.clock)
            month = Window(self.dice.choice(("2026-11", "2026-12")))
            repairs = Rebuild(
                store=self.store,
                tables=self.store,
                clock=self.clock,
                month=month,
                partitions=sorted({ledger_partition(subject) for subject in SUBJECTS}),
                repairs_ledger=self.dice.random() < 0.5,
            )
            work: list[Coroutine[Any, Any, object]] = [
                sweep.run(),
                repairs.run(lambda _: None),
            ]
            chosen = work.pop(self.dice.choice((0, 0, 1)))
            work[0].close()
            try:
                await chosen
            except (StorageUnavailable, LedgerMissing):
                continue


async def run_schedule(seed: int) -> None:
    """Run one schedule to its end. Raises AssertionError, with the seed, if a count is wrong."""
    dice = Random(seed)
    store, clock = MoodyStore(dice), Clock()
    is_long = dice.random() < 0.6
    schedule = _Schedule(seed, dice, store, clock, iter(range(10_000)))
    numbers = range(dice.randint(6, 24))
    events = [made_event(n, is_long=is_long) for n in numbers]
    halves = [events[half::2] for half in (0, 1)]
    logging.disable(logging.CRITICAL)
    try:
        await asyncio.gather(
            *(schedule.run_partition(half) for half in halves if half),
            schedule.run_upkeep(),
        )
        await asyncio.gather(*schedule.zombies, return_exceptions=True)
        for owner in schedule.aggregators:
            _kill(owner)
        store.throttled, store.is_calm = set(), True
        store.forget_plans()
        store.time += 2 * ABANDONED_AFTER
        await Sweep(store=store, tables=store, clock=Clock(seconds=10_000)).run()
    finally:
        logging.disable(logging.NOTSET)
    expected = expected_sums(made_event(n, is_long=is_long) for n in numbers)
    assert stored_sums(store, LEDGERS) == expected, f"the ledger, seed {seed}"
    assert stored_sums(store, VIEWS) == expected, f"the views, seed {seed}"
    assert not _marks(store), f"marks are left, seed {seed}"
    assert not store.rows("DeadLetters"), f"dead letters, seed {seed}"
    _check_revisions(store, seed)


def expected_sums(events: Iterable[Countable]) -> dict[tuple[object, ...], Sums]:
    """The sums from folding all events of each subject; an adjustment is in its call's place."""
    by_subject: dict[str, list[Countable]] = {}
    calls = {}
    for event in events:
        calls[event.id] = event
        if isinstance(event, Adjustment):
            call = calls[event.refers_to]
            event = beside(event, call)
        by_subject.setdefault(event.subject, []).append(event)
    return {
        (key.window.start, len(key.window.name), *key.dimensions): sums
        for subject, own in by_subject.items()
        for key, sums in fold(subject, own).items()
    }


def stored_sums(store: MemoryRowStore, tables: Iterable[str]) -> dict[tuple[object, ...], Sums]:
    """The stored sums of these tables."""
    found = {}
    columns = ["".join(part.capitalize() for part in name.split("_")) for name in DIMENSION_NAMES]
    for table in tables:
        is_view = table in VIEWS
        rows = store.tables.get(table, {}) if is_view else sums_in_ledger(store, table)
        for (partition, key), row in rows.items():
            window = partition.partition("~")[0] if is_view else key.split("|")[1]
            names = (row.columns[name] for name in columns)
            place = (row.columns["WindowStart"], len(window), *names)
            assert place not in found, f"{place} is in two places"
            found[place] = read_sums(row.columns)
    return found


def _marks(store: MemoryRowStore) -> list[str]:
    return [key for table in LEDGERS for key in store.rows(table) if key.startswith("v|")]


def _check_revisions(store: MemoryRowStore, seed: int) -> None:
    """No sum and no view row ever goes back, wherever it is stored."""
    known: dict[tuple[str, str, str], int] = {}
    for table, partition, row in store.history:
        is_sum = table in LEDGERS and row.key.startswith("s|")
        for each in unpacked(partition, row).rows if is_sum else [row]:
            if "Revision" in each.columns:
                revision = read_revision(each.columns)
                place = (table, partition, each.key)
                assert revision >= known.get(place, 0), f"{place} went back, seed {seed}"
                known[place] = revision


async def _handled(owner: Aggregator, batch: list[Countable]) -> None:
    await owner.handle([message(*batch)])


async def _is_done(task: asyncio.Task[None]) -> bool:
    try:
        await task
    except StorageUnavailable:
        return False
    return True


def _kill(owner: Aggregator) -> None:
    """What the process would have shown later is gone."""
    for task in owner.showing.tasks():
        task.cancel()
