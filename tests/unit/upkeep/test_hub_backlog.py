"""How much the hub holds uncounted and how old it is, from what the hub and the ledger say of it."""

from datetime import timedelta

import pytest

from meter.ledger.keys import escape
from meter.ports import HubPartition
from meter.upkeep.hub_backlog import MOST_REMEMBERED, HubBacklog, Uncounted
from tests.fakes.gateway import START, FakeClock
from tests.support.rebuilding import Store

HUB = "ns.example/usage"


class Hub:
    """A hub whose partitions take messages as a test says."""

    def __init__(self, count: int = 1) -> None:
        self.clock = FakeClock()
        self.store = Store()
        self.partitions = {str(number): empty(str(number)) for number in range(count)}
        self.backlog = HubBacklog(store=self.store, clock=self.clock, hub=HUB, partitions=self.read)

    async def read(self) -> list[HubPartition]:
        return list(self.partitions.values())

    def take(self, messages: int, partition: str = "0") -> None:
        last = self.partitions[partition].last_number + messages
        self.partitions[partition] = HubPartition(
            id=partition, first_number=0, last_number=last, last_enqueued_at=self.clock.now()
        )

    def count(self, number: int, partition: str = "0") -> None:
        """The aggregator has counted up to that message, which the hub took just now."""
        self.store.put(
            "HubPositions",
            "hub",
            f"{escape(HUB)}|{partition}",
            SequenceNumber=number,
            EnqueuedAt=self.clock.now(),
        )


def empty(partition: str) -> HubPartition:
    return HubPartition(
        id=partition, first_number=0, last_number=-1, last_enqueued_at=START, is_empty=True
    )


async def test_an_empty_hub_has_no_backlog() -> None:
    """Nor one that was never asked before."""
    found = await Hub(4).backlog.measure()

    assert found == Uncounted(messages=0, oldest_seconds=0, taken=0, counted=0)


async def test_what_is_counted_does_not_wait() -> None:
    """However long ago it came."""
    hub = Hub()
    hub.take(10)
    hub.count(9)
    hub.clock.advance(3_600)

    assert await hub.backlog.measure() == Uncounted(
        messages=0, oldest_seconds=0, taken=10, counted=10
    )


async def test_partitions_add_up_and_the_oldest_decides() -> None:
    """One is counted, one is behind, and one was never read."""
    hub = Hub(3)
    hub.take(5, "0")
    hub.count(4, "0")
    hub.take(7, "1")
    hub.count(3, "1")
    hub.clock.advance(60)
    hub.take(2, "2")
    hub.clock.advance(30)

    assert await hub.backlog.measure() == Uncounted(
        messages=5, oldest_seconds=90, taken=14, counted=9
    )


async def test_a_message_waits_since_it_was_the_last_one() -> None:
    """Messages go on to come, and none is counted: the age is that of the first one."""
    hub = Hub()
    ages = []
    for _ in range(15):
        hub.take(100)
        ages.append((await hub.backlog.measure()).oldest_seconds)
        hub.clock.advance(60)

    assert ages == [60 * minute for minute in range(15)]


async def test_the_age_falls_with_what_is_counted() -> None:
    """A ledger that keeps two minutes behind has a backlog of that age, for ever."""
    hub = Hub()
    for minute in range(30):
        hub.take(10)
        if minute >= 2:
            hub.count(10 * (minute - 1) - 1)
        found = await hub.backlog.measure()
        hub.clock.advance(60)

    assert found == Uncounted(messages=20, oldest_seconds=60, taken=300, counted=280)


async def test_memory_is_bounded() -> None:
    """An outage of days keeps the age of the first message, and a fixed number of others."""
    hub = Hub()
    for _ in range(3 * MOST_REMEMBERED):
        hub.take(1)
        found = await hub.backlog.measure()
        hub.clock.advance(60)

    assert found.oldest_seconds == (3 * MOST_REMEMBERED - 1) * 60
    assert len(hub.backlog._remembered["0"]) == MOST_REMEMBERED


async def test_a_hub_made_anew_is_wholly_uncounted() -> None:
    """Its numbers begin again, below what the ledger knows."""
    hub = Hub()
    hub.count(1_000)
    hub.clock.advance(3_600)
    hub.take(3)

    assert await hub.backlog.measure() == Uncounted(
        messages=3, oldest_seconds=0, taken=3, counted=0
    )


@pytest.mark.parametrize("name", ["NS.EXAMPLE/usage", "ns.example/USAGE"])
async def test_azure_ignores_the_case_of_names(name: str) -> None:
    """The trigger may spell the hub otherwise than the settings do."""
    hub = Hub()
    hub.take(2)
    hub.store.put(
        "HubPositions", "hub", f"{escape(name)}|0", SequenceNumber=1, EnqueuedAt=hub.clock.now()
    )

    assert (await hub.backlog.measure()).messages == 0


async def test_a_clock_that_is_behind_makes_no_negative_age() -> None:
    """The hub's clock and this machine's differ."""
    hub = Hub()
    hub.clock.advance(30)
    hub.take(1)
    hub.clock.moment -= timedelta(seconds=20)

    assert (await hub.backlog.measure()).oldest_seconds == 0
