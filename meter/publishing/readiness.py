"""What `/readyz` reports: whether calls can be answered and counted, and the outbox's backlog.

Reasons are categories; they name no issuer, host or backend, since the endpoint is public.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping

from meter.errors import PublishFailed, StorageUnavailable
from meter.ports import Backlog

TIMEOUT_SECONDS = 5.0

type Ping = Callable[[], Awaitable[None]]


async def readiness(
    *,
    ping_hub: Ping,
    ping_storage: Ping,
    load_keys: Callable[[str], Awaitable[bool]],
    issuers: Iterable[str],
    backlog: Callable[[], Awaitable[Backlog]],
) -> Mapping[str, object]:
    """`status` is `ready`, or `unready` with `reasons`; `outbox` does not affect it."""
    reasons: list[str] = []
    if not await _is_reachable(ping_hub):
        reasons.append("the event hub cannot be reached")
    if not await _is_reachable(ping_storage):
        reasons.append("table storage cannot be reached")
    loaded = [await load_keys(issuer) for issuer in issuers]
    if not all(loaded):
        reasons.append("an issuer's keys are not loaded")
    status = {"status": "unready", "reasons": reasons} if reasons else {"status": "ready"}
    return {**status, "outbox": await _outbox(backlog)}


async def _is_reachable(ping: Ping) -> bool:
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await ping()
    except (PublishFailed, StorageUnavailable, TimeoutError):
        return False
    return True


async def _outbox(recent: Callable[[], Awaitable[Backlog]]) -> Mapping[str, int] | None:
    """None if it is unknown."""
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            backlog = await recent()
    except (StorageUnavailable, TimeoutError):
        return None
    return {"events": backlog.events, "oldest_seconds": round(backlog.oldest_seconds)}
