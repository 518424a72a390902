"""What `/readyz` reports: whether calls can be answered and counted, and the outbox's backlog.

Reasons are categories; they name no issuer, host or backend, since the endpoint is public.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Protocol

from meter.errors import PublishFailed, StorageUnavailable
from meter.ports import Backlog

TIMEOUT_SECONDS = 5.0


class Reachable(Protocol):
    """A service whose reachability can be checked."""

    async def ping(self) -> None:
        """Raises PublishFailed or StorageUnavailable."""
        ...


class Waiting(Protocol):
    """The outbox."""

    async def recent_backlog(self) -> Backlog:
        """What waits. Raises StorageUnavailable."""
        ...


class Keys(Protocol):
    """The issuers' key sets."""

    async def load(self, issuer: str) -> bool:
        """Whether the issuer's keys are loaded."""
        ...


async def readiness(
    *, hub: Reachable, storage: Reachable, outbox: Waiting, keys: Keys, issuers: Iterable[str]
) -> Mapping[str, object]:
    """`status` is `ready`, or `unready` with `reasons`; `outbox` does not affect it."""
    reasons = [reason async for reason in _reasons(hub, storage, keys, issuers)]
    status = {"status": "unready", "reasons": reasons} if reasons else {"status": "ready"}
    return {**status, "outbox": await _outbox(outbox)}


async def _reasons(
    hub: Reachable, storage: Reachable, keys: Keys, issuers: Iterable[str]
) -> AsyncIterator[str]:
    if not await _is_reachable(hub):
        yield "the event hub cannot be reached"
    if not await _is_reachable(storage):
        yield "table storage cannot be reached"
    loaded = [await keys.load(issuer) for issuer in issuers]
    if not all(loaded):
        yield "an issuer's keys are not loaded"


async def _is_reachable(service: Reachable) -> bool:
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await service.ping()
    except (PublishFailed, StorageUnavailable, TimeoutError):
        return False
    return True


async def _outbox(outbox: Waiting) -> Mapping[str, int] | None:
    """None if it is unknown."""
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            backlog = await outbox.recent_backlog()
    except (StorageUnavailable, TimeoutError):
        return None
    return {"events": backlog.events, "oldest_seconds": round(backlog.oldest_seconds)}
