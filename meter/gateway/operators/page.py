"""`GET /doctor`: tells operators what the app finds when it asks everything that it needs.

Callers need the operators' app role, and no other. One run is under way at a time, whoever asks, and its
findings are repeated for `FRESH_SECONDS`: the page is no way to have the app flood its backends.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from uuid import UUID

from msgspec import Struct, field

from meter.errors import BadRequest, Forbidden, MethodNotAllowed, Unauthenticated
from meter.gateway.caller.auth import TokenVerifier, log_refusal, token_in
from meter.gateway.http import Answer, Request
from meter.ports import Clock

PATH = "/doctor"
FRESH_SECONDS = 30.0
_METHODS = ("GET", "HEAD", "OPTIONS")


class OperatorPage(Struct, kw_only=True):
    """Answers operators. One event loop owns it.

    `verifier` lets in who has their role; `examine` gives all findings as a JSON document.
    """

    verifier: TokenVerifier
    examine: Callable[[], Awaitable[Mapping[str, object]]]
    clock: Clock
    _known: Mapping[str, object] | None = None
    _known_until: float = 0.0
    _running: asyncio.Task[Mapping[str, object]] | None = field(default=None)

    async def answer(self, request: Request, event_id: UUID) -> Answer:
        """The answer. Raises Unauthenticated, Forbidden, KeysUnavailable, MethodNotAllowed, BadRequest."""
        try:
            await self.verifier.verify(token_in(request.headers))
        except (Unauthenticated, Forbidden) as exc:
            log_refusal(exc, event_id)
            raise
        if request.method == "OPTIONS":
            return Answer(status=204, headers=(("allow", ", ".join(_METHODS)),), body=b"")
        if request.method not in _METHODS:
            raise MethodNotAllowed(_METHODS)
        if request.query:
            raise BadRequest("This address takes no query: it shows all findings.")
        body = json.dumps(await self._findings()).encode()
        return Answer(status=200, headers=(("content-type", "application/json"),), body=body)

    async def close(self) -> None:
        """End a run under way."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)

    async def _findings(self) -> Mapping[str, object]:
        if self._known is not None and self.clock.monotonic() < self._known_until:
            return self._known
        if self._running is None:
            self._running = asyncio.create_task(self._examine())
            self._running.add_done_callback(self._ended)
        # A caller that leaves must not end the run of the others that wait.
        return await asyncio.shield(self._running)

    async def _examine(self) -> Mapping[str, object]:
        at = self.clock.now().isoformat(timespec="seconds")
        self._known = {"at": at, **await self.examine()}
        self._known_until = self.clock.monotonic() + FRESH_SECONDS
        return self._known

    def _ended(self, task: asyncio.Task[Mapping[str, object]]) -> None:
        self._running = None
        if not task.cancelled():
            task.exception()  # told to those who wait; there may be none any more
