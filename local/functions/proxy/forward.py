"""Sends a request to the worker and its answer back, trying again as the host and .NET do.

| before the first byte of an answer                         | tries                     |
|------------------------------------------------------------|---------------------------|
| the worker cannot be reached, or its head cannot be read   | 10, with pauses of 1.85 s |
| it sends FIN, and the request frames no body               | each of them 4 times      |
| anything, once the body was begun: it cannot be sent twice | 10, of which 9 send nothing |
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass

from local.functions.proxy.answer import CallerAnswer
from local.functions.proxy.body import Broken, CallerBody, answer_parts, has_no_body
from local.functions.proxy.head import (
    AnswerHead,
    Headers,
    Unreadable,
    every,
    first,
    read_answer,
)
from local.functions.proxy.rewrite import for_caller, is_sendable
from local.functions.proxy.stream import Ended, Stream

TRIES = 10
TRIES_OF_DOTNET = 4
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.05, 0.25
ACTIVITY_SECONDS = 240.0
IDLE_SECONDS = 75.0  # 60 to 75 s in the real host
CONTINUE_SECONDS = 1.0
# An answer that comes before a body of more than this, asked for by Expect, spares the body.
SPARED_BODY_BYTES = 1_024
# What the worker has sent is lost when it breaks off within this time.
CUT_SECONDS = 0.0005


class ForwardFailed(Exception):
    """The request did not reach the worker, or its answer not the caller."""


class _NotSent(Exception):
    """A try failed before any answer; another may follow."""


class _Closed(_NotSent):
    """The worker closed the connection without a word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A request as the worker sees it."""

    method: str
    target: str
    headers: Headers
    body: CallerBody
    has_body: bool
    is_chunked: bool
    length: int | None

    @property
    def expects(self) -> bool:
        """Whether the worker is asked before the body is sent."""
        return self.has_body and first(self.headers, "expect").lower() == "100-continue"


class Forwarder:
    """Forwards to one worker, over connections that are kept."""

    def __init__(self, host: str, port: int, *, activity_seconds: float = ACTIVITY_SECONDS) -> None:
        self._host, self._port = host, port
        self._activity_seconds = activity_seconds
        self._idle: dict[Stream, asyncio.TimerHandle] = {}

    async def run(self, request: Outgoing, answer: CallerAnswer) -> None:
        """Forward a request. Raises ForwardFailed; cancelled, it drops the worker's connection."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._activity_seconds) as silence:

                def moved() -> None:
                    silence.reschedule(loop.time() + self._activity_seconds)

                await self._run(request, answer, moved)
        except TimeoutError as exc:
            raise ForwardFailed("no byte moved for too long") from exc

    def close(self) -> None:
        """Drop the idle connections."""
        for stream in list(self._idle):
            self._drop_idle(stream)

    async def _run(
        self, request: Outgoing, answer: CallerAnswer, moved: Callable[[], None]
    ) -> None:
        pause = FIRST_PAUSE_SECONDS
        for tried in range(1, TRIES + 1):
            try:
                return await self._try(request, answer, moved)
            except _NotSent as exc:
                if tried == TRIES:
                    raise ForwardFailed(str(exc)) from exc
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        return None

    async def _try(
        self, request: Outgoing, answer: CallerAnswer, moved: Callable[[], None]
    ) -> None:
        if not is_sendable(request.headers):
            raise _NotSent("a header value is not ASCII")
        for _ in range(1 if request.has_body else TRIES_OF_DOTNET):
            stream = await self._connection()
            is_reusable = False
            try:
                head = await _exchange(stream, request, moved)
                is_reusable = await _relay(stream, request, head, answer, moved)
                return
            except _Closed:
                continue
            finally:
                self._keep(stream) if is_reusable else stream.drop()
        raise _NotSent("the worker closed the connection without a word")

    async def _connection(self) -> Stream:
        while self._idle:
            stream, timer = self._idle.popitem()
            timer.cancel()
            if not stream.gone.is_set() and stream.is_empty:
                return stream
            stream.drop()
        loop = asyncio.get_running_loop()
        try:
            _, stream = await loop.create_connection(Stream, self._host, self._port)
        except OSError as exc:
            raise _NotSent("the worker does not listen") from exc
        return stream

    def _keep(self, stream: Stream) -> None:
        timer = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._drop_idle, stream)
        self._idle[stream] = timer

    def _drop_idle(self, stream: Stream) -> None:
        timer = self._idle.pop(stream, None)
        if timer is not None:
            timer.cancel()
        stream.drop()


async def _exchange(stream: Stream, request: Outgoing, moved: Callable[[], None]) -> AnswerHead:
    """Send the request and read the head of its answer. Raises _NotSent."""
    if request.body.is_begun and not request.expects:
        raise _NotSent("the body cannot be sent again")
    lines = [f"{request.method} {request.target} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in request.headers]
    try:
        await stream.write("\r\n".join([*lines, "", ""]).encode("ascii"))
        if request.expects:
            early = await _asked(stream, request)
            if early is not None:
                return early
        if request.has_body:
            await _send_body(stream, request, moved)
        head = await _final(stream)
    except (Broken, ConnectionError, Unreadable) as exc:
        raise _NotSent(f"{type(exc).__name__}: {exc}") from exc
    moved()
    return head


async def _asked(stream: Stream, request: Outgoing) -> AnswerHead | None:
    """Wait for leave to send the body; an answer in its place if the worker refuses it."""
    with suppress(TimeoutError):
        async with asyncio.timeout(CONTINUE_SECONDS):
            await _first_byte(stream)
            head = await read_answer(stream)
            is_spared = request.length is None or request.length > SPARED_BODY_BYTES
            if head.status >= 300 and is_spared:
                return head
            if head.status >= 200:
                await _send_body(stream, request, lambda: None)
                return head
    if request.body.is_begun:
        raise _NotSent("the body cannot be sent again")
    return None


async def _send_body(stream: Stream, request: Outgoing, moved: Callable[[], None]) -> None:
    async for part in request.body.parts():
        await stream.write(b"%x\r\n%s\r\n" % (len(part), part) if request.is_chunked else part)
        moved()
    if request.is_chunked:
        await stream.write(b"0\r\n\r\n")


async def _final(stream: Stream) -> AnswerHead:
    await _first_byte(stream)
    try:
        while True:
            head = await read_answer(stream)
            if head.status >= 200 or head.status == 101:
                return head
    except Ended as exc:
        raise Unreadable("the head was cut") from exc


async def _first_byte(stream: Stream) -> None:
    try:
        await stream.first_byte()
    except Ended:
        if stream.was_reset:
            raise _NotSent("the worker reset the connection") from None
        raise _Closed("the worker closed the connection without a word") from None


async def _relay(
    stream: Stream,
    request: Outgoing,
    head: AnswerHead,
    answer: CallerAnswer,
    moved: Callable[[], None],
) -> bool:
    """Hand the answer on; whether the connection can be used again. Raises ForwardFailed."""
    length = first(head.headers, "content-length")
    if head.status == 101 or (head.status == 204 and length not in {"", "0"}):
        raise ForwardFailed(f"a {head.status} that is none")
    try:
        answer.take(head.status, head.reason, for_caller(head.headers))
        parts = answer_parts(stream, head, method=request.method)
        async for part in _safe_from_cuts(parts, answer):
            await answer.write(part)
            moved()
    except (Broken, ConnectionError, ValueError) as exc:
        raise ForwardFailed(str(exc)) from exc
    is_framed = (
        has_no_body(head, method=request.method)
        or bool(length)
        or bool(every(head.headers, "transfer-encoding"))
    )
    is_closing = "close" in first(head.headers, "connection").lower()
    return is_framed and not is_closing and (request.body.is_ended or not request.has_body)


async def _safe_from_cuts(
    parts: AsyncIterator[bytes], answer: CallerAnswer
) -> AsyncIterator[bytes]:
    """Each part once it is certain that no cut comes right behind it: the proxy loses what a cut
    overtakes. One that overtakes the first part takes the head along.
    """
    following = asyncio.ensure_future(anext(parts, None))
    try:
        while (part := await following) is not None:
            following = asyncio.ensure_future(anext(parts, None))
            await asyncio.wait({following}, timeout=CUT_SECONDS)
            if following.done() and following.exception() is not None:
                answer.is_begun = True
            else:
                yield part
    finally:
        following.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await following
