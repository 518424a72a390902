"""Bodies as they are read: from the caller within the host's bounds, from the worker to their end."""

import asyncio
from collections.abc import AsyncIterator, Awaitable

from local.functions.proxy.head import AnswerHead, RequestHead, first
from local.functions.proxy.stream import PART_BYTES, Ended, LineTooLong, Stream

MAX_BODY_BYTES = 104_857_600  # with the framing of chunks
MIN_BYTES_PER_SECOND = 240.0  # on average, after the grace time
RATE_GRACE_SECONDS = 5.0
_MAX_CHUNK_LINE_BYTES = 8_192


class Broken(Exception):
    """A body ended before its end, or was not well-formed."""


class CallerBody:
    """A request's body, which can be read once.

    It fails when it is malformed, over `MAX_BODY_BYTES`, or comes too slowly: only the time counts in
    which the proxy waits for the caller.
    """

    def __init__(self, stream: Stream, head: RequestHead) -> None:
        self._stream = stream
        self._head = head
        self._expects = first(head.headers, "expect").lower() == "100-continue"
        self._read = 0
        self._waited = 0.0
        self.is_begun = False
        self.is_ended = not head.has_body or head.length == 0

    async def parts(self) -> AsyncIterator[bytes]:
        """The body. Raises Broken."""
        self.is_begun = not self.is_ended  # an empty one can be sent again
        if self._expects and not self.is_ended and self._stream.is_empty:
            await self._stream.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if (self._head.length or 0) > MAX_BODY_BYTES:
            raise Broken("the body is too large")
        if self._head.is_chunked:
            async for part in self._chunks():
                yield part
        else:
            left = self._head.length or 0
            while left:
                part = await self._part(left)
                left -= len(part)
                yield part
        self.is_ended = True

    async def drop(self, seconds: float) -> bool:
        """Read what nobody wants, for some seconds. Whether the body has ended."""
        if self.is_ended:
            return True
        if self.is_begun or (self._expects and self._stream.is_empty):
            return False
        try:
            async with asyncio.timeout(seconds):
                async for _ in self.parts():
                    pass
        except (Broken, TimeoutError, ConnectionError):
            return False
        return True

    async def _chunks(self) -> AsyncIterator[bytes]:
        while size := _chunk_size(await self._line()):
            while size:
                part = await self._part(size)
                size -= len(part)
                yield part
            if (await self._line()).strip():
                raise Broken("a chunk has no end")
        while (await self._line()).strip():
            pass  # trailers

    async def _part(self, most: int) -> bytes:
        return await self._timed(self._stream.part(min(most, PART_BYTES)))

    async def _line(self) -> bytes:
        return await self._timed(self._stream.line(_MAX_CHUNK_LINE_BYTES))

    async def _timed(self, read: Awaitable[bytes]) -> bytes:
        """Count bytes and waiting."""
        loop = asyncio.get_running_loop()
        allowed = max(RATE_GRACE_SECONDS, self._read / MIN_BYTES_PER_SECOND)
        begun = loop.time()
        try:
            async with asyncio.timeout(allowed - self._waited):
                data = await read
        except (TimeoutError, Ended, LineTooLong) as exc:
            raise Broken(f"the body was not sent: {type(exc).__name__}") from exc
        self._waited += loop.time() - begun
        self._read += len(data)
        if self._read > MAX_BODY_BYTES:
            raise Broken("the body is too large")
        return data


async def answer_parts(stream: Stream, head: AnswerHead, *, method: str) -> AsyncIterator[bytes]:
    """The body of the worker's answer. Raises Broken."""
    if has_no_body(head, method=method):
        return
    try:
        if first(head.headers, "transfer-encoding").lower() == "chunked":
            while size := _chunk_size(await stream.line(_MAX_CHUNK_LINE_BYTES)):
                while size:
                    part = await stream.part(min(size, PART_BYTES))
                    size -= len(part)
                    yield part
                await stream.line(2)
            while (await stream.line(_MAX_CHUNK_LINE_BYTES)).strip():
                pass  # trailers
        elif length := first(head.headers, "content-length"):
            left = int(length)
            while left:
                part = await stream.part(min(left, PART_BYTES))
                left -= len(part)
                yield part
        else:
            while part := await _rest(stream):
                yield part
    except (Ended, LineTooLong) as exc:
        raise Broken("the worker broke its answer off") from exc


def has_no_body(head: AnswerHead, *, method: str) -> bool:
    """Whether an answer ends with its head."""
    return method == "HEAD" or head.status in {204, 304}


async def _rest(stream: Stream) -> bytes:
    try:
        return await stream.part()
    except Ended:
        return b""


def _chunk_size(line: bytes) -> int:
    try:
        return int(line.partition(b";")[0].strip(), 16)
    except ValueError:
        raise Broken("a chunk has no size") from None
