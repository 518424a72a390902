"""`/readyz`: what makes an instance unready, and what is only reported."""

import asyncio
from dataclasses import dataclass, field

import pytest

from meter.errors import PublishFailed, StorageUnavailable
from meter.ports import Backlog
from meter.publishing.readiness import readiness


@dataclass
class Service:
    """The hub, storage or the outbox, as it is today."""

    failure: Exception | None = None
    backlog: Backlog = field(default_factory=lambda: Backlog(events=0, oldest_seconds=0))

    async def ping(self) -> None:
        await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure

    async def recent_backlog(self) -> Backlog:
        await self.ping()
        return self.backlog


@dataclass
class Keys:
    """Key sets of some issuers."""

    loaded: frozenset[str]

    async def load(self, issuer: str) -> bool:
        return issuer in self.loaded


async def reported(
    *,
    hub: Service | None = None,
    storage: Service | None = None,
    outbox: Service | None = None,
    loaded: frozenset[str] = frozenset({"a", "b"}),
) -> dict[str, object]:
    found = await readiness(
        ping_hub=(hub or Service()).ping,
        ping_storage=(storage or Service()).ping,
        load_keys=Keys(loaded).load,
        issuers=["a", "b"],
        backlog=(outbox or Service()).recent_backlog,
    )
    return dict(found)


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
