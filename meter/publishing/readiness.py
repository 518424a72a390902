"""What `/readyz` reports: whether calls can be answered and counted, and the outbox's backlog.

The endpoint is public. Reasons are categories; they name no issuer, host or backend. A report is
remembered for some seconds, and made once at a time, so that requests for it cost the hub and storage
nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping

from msgspec import Struct, field

from meter.errors import PublishFailed, StorageUnavailable
from meter.ports import Backlog, Clock

TIMEOUT_SECONDS = 5.0
# How long a report is repeated. A recovery should be seen soon.
READY_SECONDS, UNREADY_SECONDS = 5.0, 1.0

type Ping = Callable[[], Awaitable[None]]


class Readiness(Struct, kw_only=True):
    """Reports whether an instance is ready. One event loop owns it.

    `load_keys` takes an issuer, `backlog` counts the outbox, `prices` says what became of the price
    book, if there is to be one.
    """

    ping_hub: Ping
    ping_storage: Ping
    load_keys: Callable[[str], Awaitable[bool]]
    issuers: Collection[str]
    backlog: Callable[[], Awaitable[Backlog]]
    prices: Callable[[], Awaitable[str | None]]
    clock: Clock
    _making: asyncio.Lock = field(default_factory=asyncio.Lock)
    _known: Mapping[str, object] | None = None
    _known_until: float = 0.0

    async def report(self) -> Mapping[str, object]:
        """`status` is `ready`, or `unready` with `reasons`; `outbox` and `prices` do not affect it."""
        async with self._making:
            if self._known is None or self.clock.monotonic() >= self._known_until:
                self._known = await self._make()
                is_ready = self._known["status"] == "ready"
                seconds = READY_SECONDS if is_ready else UNREADY_SECONDS
                self._known_until = self.clock.monotonic() + seconds
            return self._known

    async def _make(self) -> Mapping[str, object]:
        reasons: list[str] = []
        if not await _is_reachable(self.ping_hub):
            reasons.append("the event hub cannot be reached")
        if not await _is_reachable(self.ping_storage):
            reasons.append("table storage cannot be reached")
        loaded = [await self.load_keys(issuer) for issuer in self.issuers]
        if not all(loaded):
            reasons.append("an issuer's keys are not loaded")
        status = {"status": "unready", "reasons": reasons} if reasons else {"status": "ready"}
        found = {**status, "outbox": await _outbox(self.backlog)}
        prices = await self.prices()
        return found if prices is None else {**found, "prices": prices}


async def _is_reachable(ping: Ping) -> bool:
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await ping()
    except (PublishFailed, StorageUnavailable, TimeoutError):
        return False
    return True


async def _outbox(count: Callable[[], Awaitable[Backlog]]) -> Mapping[str, int] | None:
    """None if it is unknown."""
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            backlog = await count()
    except (StorageUnavailable, TimeoutError):
        return None
    return {"events": backlog.events, "oldest_seconds": round(backlog.oldest_seconds)}
