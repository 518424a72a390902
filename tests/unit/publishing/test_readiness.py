"""`/readyz`: what makes an instance unready, and what is only reported."""

import asyncio
from dataclasses import dataclass, field

import pytest

from meter.errors import PublishFailed, StorageUnavailable
from meter.ports import Backlog
from meter.publishing.readiness import Readiness
from tests.fakes.gateway import FakeClock


@dataclass
class Service:
    """The hub, storage or the outbox, as it is today."""

    failure: Exception | None = None
    backlog: Backlog = field(default_factory=lambda: Backlog(events=0, oldest_seconds=0))
    pings: int = 0

    async def ping(self) -> None:
        self.pings += 1
        await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure

    async def count(self) -> Backlog:
        await self.ping()
        return self.backlog


@dataclass
class Keys:
    """Key sets of some issuers."""

    loaded: frozenset[str]

    async def load(self, issuer: str) -> bool:
        return issuer in self.loaded


@dataclass
class Book:
    """The price book's state."""

    found: str | None

    async def state(self) -> str | None:
        return self.found


def readiness(
    *,
    hub: Service | None = None,
    storage: Service | None = None,
    outbox: Service | None = None,
    loaded: frozenset[str] = frozenset({"a", "b"}),
    prices: str | None = None,
    clock: FakeClock | None = None,
) -> Readiness:
    return Readiness(
        ping_hub=(hub or Service()).ping,
        ping_storage=(storage or Service()).ping,
        load_keys=Keys(loaded).load,
        issuers=["a", "b"],
        backlog=(outbox or Service()).count,
        prices=Book(prices).state,
        clock=clock or FakeClock(),
    )


async def reported(
    *,
    hub: Service | None = None,
    storage: Service | None = None,
    outbox: Service | None = None,
    loaded: frozenset[str] = frozenset({"a", "b"}),
) -> dict[str, object]:
    made = readiness(hub=hub, storage=storage, outbox=outbox, loaded=loaded)
    return dict(await made.report())


async def test_all_is_well() -> None:
    """Hub, storage and keys are there, and nothing waits."""
    assert await reported() == {"status": "ready", "outbox": {"events": 0, "oldest_seconds": 0}}


async def test_events_that_wait_are_reported_and_make_nothing_unready() -> None:
    """Calls are still answered, and counted later."""
    waiting = Service(backlog=Backlog(events=12, oldest_seconds=340.4))

    assert await reported(outbox=waiting) == {
        "status": "ready",
        "outbox": {"events": 12, "oldest_seconds": 340},
    }


async def test_a_price_book_that_cannot_be_read_makes_nothing_unready() -> None:
    """Calls need no prices; who deployed it sees it all the same."""
    assert await readiness(prices="invalid").report() == {
        "status": "ready",
        "outbox": {"events": 0, "oldest_seconds": 0},
        "prices": "invalid",
    }


@pytest.mark.parametrize("failure", [PublishFailed("no"), TimeoutError()])
async def test_a_hub_that_does_not_answer_is_named(failure: Exception) -> None:
    """By category: the endpoint is public."""
    found = await reported(hub=Service(failure))

    assert (found["status"], found["reasons"]) == ("unready", ["the event hub cannot be reached"])


async def test_storage_that_does_not_answer_is_named_and_hides_what_waits() -> None:
    """Null where a number would be a guess."""
    down = Service(StorageUnavailable("no"))

    assert await reported(storage=down, outbox=down) == {
        "status": "unready",
        "reasons": ["table storage cannot be reached"],
        "outbox": None,
    }


async def test_one_issuer_without_keys_is_enough() -> None:
    """Its callers would get 503."""
    found = await reported(loaded=frozenset({"a"}))

    assert (found["status"], found["reasons"]) == ("unready", ["an issuer's keys are not loaded"])


async def test_a_flood_of_requests_costs_one_check() -> None:
    """The endpoint needs no token."""
    hub, storage = Service(), Service()
    made = readiness(hub=hub, storage=storage)

    reports = await asyncio.gather(*(made.report() for _ in range(1_000)))

    assert {report["status"] for report in reports} == {"ready"}
    assert (hub.pings, storage.pings) == (1, 1)


@pytest.mark.parametrize(
    ("failure", "seconds", "pings"),
    [
        (None, 4.9, 1),
        (None, 5, 2),
        (PublishFailed("no"), 0.9, 1),
        (PublishFailed("no"), 1, 2),
    ],
)
async def test_a_report_is_remembered_for_some_seconds(
    failure: Exception | None, seconds: float, pings: int
) -> None:
    """Five; one where the instance is not ready, so that its recovery is seen soon."""
    clock, hub = FakeClock(), Service(failure)
    made = readiness(hub=hub, clock=clock)
    await made.report()
    clock.advance(seconds)

    await made.report()

    assert hub.pings == pings
