"""Kills at any await, owners that go on after their lease is lost, and throttled views, by seed."""

import asyncio
import random
from datetime import datetime, timedelta

import pytest

from meter.ledger.aggregator import Aggregator
from meter.upkeep.sweep import Sweep
from tests.fakes.rows import Fault
from tests.properties.test_ledger_properties_commit import (
    VIEWS,
    StillClock,
    ThrottledStore,
    expected_sums,
    handled,
    made_event,
    stored_sums,
)

NUMBERS = range(60)
FAULTS = [Fault.UNAVAILABLE, Fault.ANSWER_LOST, Fault.CONFLICT]


class MoodyStore(ThrottledStore):
    """A store that takes its time, now and then very long, and fails one write in fifty."""

    def __init__(self, dice: random.Random) -> None:
        super().__init__()
        self.dice = dice
        self.is_calm = False

    async def _begin(self, operation: str, table: str) -> Fault:
        if not self.is_calm:
            for _ in range(self.dice.choice([0, 0, 1, 2, 5]) if self.dice.random() < 0.97 else 60):
                await asyncio.sleep(0)
            if operation == "write" and self.dice.random() < 0.02:
                self.plan("write", self.dice.choice(FAULTS))
        return await super()._begin(operation, table)


class DaysLater(StillClock):
    """When nobody's calls are recent any more."""

    def now(self) -> datetime:
        return super().now() + timedelta(days=2)


class HubPartition:
    """One partition's events in order, and its owners, one after the other."""

    def __init__(self, store: MoodyStore, clock: StillClock, numbers: list[int]) -> None:
        self.store, self.clock, self.dice = store, clock, store.dice
        self.events = [made_event(number) for number in numbers]
        self.zombies: list[tuple[Aggregator, asyncio.Task[BaseException | None]]] = []
        self.owner = self.new_owner()

    def new_owner(self) -> Aggregator:
        return Aggregator(store=self.store, clock=self.clock, retention=timedelta(days=100))

    async def run(self) -> None:
        """Deliver all; whatever an owner did not finish comes again."""
        done = 0
        while done < len(self.events):
            size = self.dice.randint(1, 6)
            back = self.dice.choice([0, 0, 0, 4])
            if await self.deliver(max(0, done - back), done + size):
                done += size
            places = [*VIEWS, "Subjects", "DeadLetters"]
            self.store.throttled = set(self.dice.sample(places, self.dice.choice([0, 0, 1, 3])))
            self.clock.seconds += self.dice.choice([0, 1, 100])
        await asyncio.gather(*(task for _, task in self.zombies))
        for owner in (self.owner, *(owner for owner, _ in self.zombies)):
            kill(owner)

    async def deliver(self, first: int, last: int) -> bool:
        """Whether the batch is finished."""
        batch = self.events[first:last]
        task = asyncio.create_task(handled(self.owner, batch))
        fate = self.dice.random()
        if fate > 0.45:
            return await task is None
        for _ in range(self.dice.randint(0, 80)):
            await asyncio.sleep(0)
        if fate > 0.25:
            self.zombies.append((self.owner, task))
        else:
            task.cancel()
            kill(self.owner)
            await asyncio.gather(task, return_exceptions=True)
        self.owner = self.new_owner()
        return False


def kill(owner: Aggregator) -> None:
    """What the process would have shown later is gone."""
    tasks = [owner.showing._trying, *(each.task for each in owner.showing._partitions())]
    for task in tasks:
        if task is not None:
            task.cancel()


@pytest.mark.parametrize("seed", range(8))
async def test_all_is_counted_once_and_shown_whatever_dies_or_outlives_its_lease(seed: int) -> None:
    """Views too, days after the last call: by the hub's redeliveries and the sweep alone."""
    store, clock = MoodyStore(random.Random(seed)), StillClock()
    hub = [
        HubPartition(store, clock, [n for n in NUMBERS if n % 3]),
        HubPartition(store, clock, [n for n in NUMBERS if not n % 3]),
    ]
    await asyncio.gather(*(partition.run() for partition in hub))
    store.throttled, store.is_calm = set(), True
    store.forget_plans()
    await Sweep(store=store, tables=store, clock=DaysLater()).run()

    expected = expected_sums(map(made_event, NUMBERS))
    assert stored_sums(store, ["Ledger202611", "Ledger202612"]) == expected
    assert stored_sums(store, VIEWS) == expected
