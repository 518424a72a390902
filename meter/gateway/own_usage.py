"""`GET /usage/me`: tells a caller its own usage, and nobody else's.

The subject is that of the verified token: nothing in the request can name another. What was read is
repeated for `FRESH_SECONDS`, failures for a few; one subject is read once at a time, and few subjects are
read at once, so that calls never wait for storage.
"""

import asyncio
import json
import logging
from collections import OrderedDict
from collections.abc import Mapping
from typing import Protocol

from msgspec import Struct, field

from meter.errors import BadRequest, MethodNotAllowed, StorageUnavailable, UsageUnavailable
from meter.gateway.http import Answer, Request
from meter.ports import Clock
from meter.usage import Principal

PATH = "/usage/me"
FRESH_SECONDS = 30
MOST_KNOWN = 1_000
MOST_READS, MOST_WAITING = 4, 64
READ_SECONDS = 10.0
_METHODS = ("GET", "HEAD", "OPTIONS")

log = logging.getLogger(__name__)


class UsageReader(Protocol):
    """Reads what a subject used."""

    async def read(self, subject: str) -> Mapping[str, object]:
        """Its usage as a JSON document, of which `name` may be None. Raises StorageUnavailable."""


class _Known(Struct, frozen=True):
    """What was read of a subject, None where that failed, and until when it is repeated."""

    document: Mapping[str, object] | None
    until: float


class OwnUsage(Struct, kw_only=True):
    """Answers callers about their own usage. One event loop owns it."""

    reader: UsageReader
    clock: Clock
    _known: OrderedDict[str, _Known] = field(default_factory=OrderedDict)
    _reading: dict[str, asyncio.Task[_Known]] = field(default_factory=dict)
    _turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MOST_READS))

    async def answer(self, request: Request, principal: Principal) -> Answer:
        """The answer. Raises MethodNotAllowed, BadRequest for a query, UsageUnavailable."""
        if request.method == "OPTIONS":
            return Answer(status=204, headers=(("allow", ", ".join(_METHODS)),), body=b"")
        if request.method not in _METHODS:
            raise MethodNotAllowed(_METHODS)
        if request.query:
            raise BadRequest(
                "This address takes no query: it shows the usage of the token's own subject alone."
            )
        document = await self._document(principal.subject)
        named = {**document, "name": document["name"] or principal.name}
        headers = (
            ("content-type", "application/json"),
            ("cache-control", f"private, max-age={FRESH_SECONDS}"),
            ("vary", "authorization, api-key"),
        )
        return Answer(status=200, headers=headers, body=json.dumps(named).encode())

    async def _document(self, subject: str) -> Mapping[str, object]:
        known = self._known.get(subject)
        if known is None or self.clock.monotonic() >= known.until:
            # A task of its own: a caller that leaves must not fail the others that wait.
            known = await asyncio.shield(self._reading.get(subject) or self._start(subject))
        else:
            self._known.move_to_end(subject)
        if known.document is None:
            raise UsageUnavailable
        return known.document

    def _start(self, subject: str) -> asyncio.Task[_Known]:
        if len(self._reading) >= MOST_WAITING:
            raise UsageUnavailable
        task = asyncio.create_task(self._read(subject))
        self._reading[subject] = task

        def end(task: asyncio.Task[_Known]) -> None:
            self._reading.pop(subject, None)
            if not task.cancelled():
                task.exception()  # told to those who wait; there may be none any more

        task.add_done_callback(end)
        return task

    async def _read(self, subject: str) -> _Known:
        document, seconds = None, UsageUnavailable.retry_after_seconds
        try:
            async with asyncio.timeout(READ_SECONDS), self._turns:
                document, seconds = await self.reader.read(subject), FRESH_SECONDS
        except (StorageUnavailable, TimeoutError) as exc:
            log.warning("own_usage_unread reason=%s", exc or "it took too long")
        known = _Known(document, self.clock.monotonic() + seconds)
        self._known[subject] = known
        self._known.move_to_end(subject)
        while len(self._known) > MOST_KNOWN:
            self._known.popitem(last=False)
        return known
