"""A caller's connection: one request after the other, each forwarded beside its invocation.

The invocation is waited for, then the forward. How they end is what the caller sees:

| invocation | forward | before the head | after it               |
|------------|---------|-----------------|------------------------|
| succeeds   | ends    | the answer      | the answer             |
| any        | fails   | 500             | a reset, at once       |
| fails      | ends    | 500             | FIN without the end    |

A caller that leaves, be it by a FIN behind its request, ends the forward; the invocation goes on.
"""

import asyncio
import logging
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from local.functions.admin import KEY_HEADER, Admin, AdminRequest, is_own
from local.functions.invocations import HttpInvocations, Matched
from local.functions.proxy.answer import CallerAnswer
from local.functions.proxy.body import Broken, CallerBody
from local.functions.proxy.forward import Forwarder, ForwardFailed, Outgoing
from local.functions.proxy.head import Refused, RequestHead, first, read_request
from local.functions.proxy.rewrite import (
    Address,
    address,
    for_worker,
    public_host,
    scheme,
)
from local.functions.proxy.stream import Ended, Stream

HEAD_SECONDS = 30.0
IDLE_SECONDS = 130.0
DROP_SECONDS = 5.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ways:
    """Where requests go."""

    forwarder: Forwarder
    invocations: HttpInvocations
    admin: Admin
    authority: str


class Caller:
    """Serves one connection. `stop` ends it once its call has ended."""

    def __init__(self, stream: Stream, ways: Ways) -> None:
        self._stream = stream
        self._ways = ways
        self._is_stopping = False
        self.is_idle = True

    async def serve(self) -> None:
        """Serve until one side closes."""
        try:
            while not self._is_stopping and await self._serve_one():
                self.is_idle = True
        except (Ended, ConnectionError, TimeoutError):
            pass
        finally:
            self._stream.close()

    def stop(self) -> None:
        """Take no further request."""
        self._is_stopping = True
        if self.is_idle:
            self._stream.close()

    async def _serve_one(self) -> bool:
        async with asyncio.timeout(IDLE_SECONDS):
            await self._stream.first_byte()
        self.is_idle = False
        try:
            async with asyncio.timeout(HEAD_SECONDS):
                head = await read_request(self._stream)
            where = address(head)
        except TimeoutError:
            return await self._refuse(408)
        except Refused as exc:
            return await self._refuse(exc.status)
        body = CallerBody(self._stream, head)
        answer = CallerAnswer(self._stream, head)
        await self._answer(head, where, body, answer)
        if answer.keeps_alive and await body.drop(DROP_SECONDS):
            return True
        await self._linger()
        return False

    async def _refuse(self, status: int) -> bool:
        await CallerAnswer(self._stream, None).fail(status)
        await self._linger()
        return False

    async def _linger(self) -> None:
        """Drop what still comes for a while: closing at once would reset the connection."""
        self._stream.finish()
        with suppress(TimeoutError, Ended):
            async with asyncio.timeout(DROP_SECONDS):
                while True:
                    await self._stream.part()

    async def _answer(
        self, head: RequestHead, where: Address, body: CallerBody, answer: CallerAnswer
    ) -> None:
        if not public_host(head):
            await answer.fail(500)
        elif _is_preflight(head):
            await answer.fail(204)
        elif is_own(where.path):
            await answer.fail(await self._own(head, where, body))
        elif matched := self._ways.invocations.match(head.method, where.path):
            await self._call(head, where, matched, body, answer)
        else:
            await answer.fail(404)

    async def _own(self, head: RequestHead, where: Address, body: CallerBody) -> int:
        async def read() -> bytes:
            return b"".join([part async for part in body.parts()])

        asked = AdminRequest(
            method=head.method,
            path=where.path,
            query=where.query.removeprefix("?"),
            key=first(head.headers, KEY_HEADER),
        )
        try:
            return await self._ways.admin.status(asked, read)
        except Broken:
            return 400

    async def _call(
        self,
        head: RequestHead,
        where: Address,
        matched: Matched,
        body: CallerBody,
        answer: CallerAnswer,
    ) -> None:
        invocation_id = str(uuid.uuid4())
        forward = asyncio.create_task(
            self._ways.forwarder.run(self._outgoing(head, where, body, invocation_id), answer)
        )
        url = f"{scheme(head)}://{public_host(head)}{where.encoded}"
        run = self._ways.invocations.start(matched, head.method, url, invocation_id)
        forward.add_done_callback(self._broken_off(answer))
        both = asyncio.create_task(_both(run, forward))
        left = asyncio.create_task(self._stream.gone.wait())
        try:
            await asyncio.wait(
                {both, left},
                timeout=self._ways.invocations.limit_seconds,
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            left.cancel()
            both.cancel()
            forward.cancel()
        await asyncio.wait({both, forward})
        if forward.cancelled():
            # A task keeps its cancellation, whose frames refer to the task, until somebody asks for it.
            with suppress(asyncio.CancelledError):
                forward.result()
        await self._end(answer, is_good=not both.cancelled() and both.result())

    def _outgoing(
        self, head: RequestHead, where: Address, body: CallerBody, invocation_id: str
    ) -> Outgoing:
        return Outgoing(
            method=head.method,
            target=where.encoded,
            headers=for_worker(
                head,
                authority=self._ways.authority,
                peer=self._stream.peer,
                invocation_id=invocation_id,
            ),
            body=body,
            has_body=head.has_body,
            is_chunked=head.is_chunked,
            length=head.length,
        )

    def _broken_off(self, answer: CallerAnswer) -> Callable[["asyncio.Task[None]"], None]:
        """A forward that fails within an answer resets the caller's connection at once."""

        def look(forward: "asyncio.Task[None]") -> None:
            if forward.cancelled():
                return
            exc = forward.exception()
            if exc is not None and answer.is_begun:
                self._stream.reset()

        return look

    async def _end(self, answer: CallerAnswer, *, is_good: bool) -> None:
        if self._stream.gone.is_set():
            answer.keeps_alive = False
        elif is_good:
            await answer.finish()
        elif not answer.is_begun:
            await answer.fail(500)
        else:
            answer.keeps_alive = False
            self._stream.finish()


async def _both(run: "asyncio.Task[bool]", forward: "asyncio.Task[None]") -> bool:
    """Whether the invocation and then the forward have ended well."""
    is_good = await asyncio.shield(run)
    try:
        await forward
    except ForwardFailed as exc:
        log.error("forward failed: %s", exc)
        return False
    return is_good


def _is_preflight(head: RequestHead) -> bool:
    """CORS preflights are the host's; without CORS settings they get no header for it."""
    names = {name.lower() for name, _ in head.headers}
    return head.method == "OPTIONS" and {"origin", "access-control-request-method"} <= names
