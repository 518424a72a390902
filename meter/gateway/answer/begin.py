"""Backends' answers as they begin: whole where that can be waited for, else relayed as they come.

| answer                        | what must be here before its backend is settled on     | relayed    |
|-------------------------------|---------------------------------------------------------|------------|
| event stream (status 200)     | the first frame                                         | as it comes|
| audio, image, video           | the first bytes                                         | as it comes|
| anything else                 | all of it, up to `max_buffered_bytes`; the usage too    | whole      |
| anything else that is longer  | that much                                               | as it comes|

What breaks before that has cost the caller nothing, and the next backend is tried.
"""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from meter.errors import UpstreamBroken
from meter.gateway.answer.encoding import decoded_parts, is_decodable, without_encoding
from meter.gateway.answer.sse import has_whole_frame
from meter.gateway.backend import Backend
from meter.gateway.headers import header
from meter.ports import Clock, Headers, UpstreamAnswer

MAX_FIRST_FRAME_BYTES = 65_536

_MEDIA = ("audio/", "image/", "video/", "application/octet-stream")


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeAnswer:
    """A backend's answer that is here in full; `begun_at` is when its head came (monotonic)."""

    backend: Backend
    status: int
    headers: Headers
    body: bytes
    begun_at: float

    @property
    def beginning(self) -> bytes:
        """The body: it is all here."""
        return self.body


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamedAnswer:
    """A backend's answer that is relayed as it comes. `chunks` starts with `beginning`.

    `is_events` tells an event stream from other long answers. `is_usage_refused` says that the
    backend would not report the usage that it was asked for.
    """

    backend: Backend
    status: int
    headers: Headers
    beginning: bytes
    chunks: AsyncIterator[bytes]
    answer: UpstreamAnswer
    begun_at: float
    is_events: bool
    asked_for_usage: bool = False
    is_usage_refused: bool = False


@dataclass(slots=True)
class Leased:
    """An answer that hands its backend back when it is closed."""

    answer: UpstreamAnswer
    hand_back: Callable[[], None]

    @property
    def status(self) -> int:
        """As the answer's."""
        return self.answer.status

    @property
    def headers(self) -> Headers:
        """As the answer's."""
        return self.answer.headers

    def chunks(self) -> AsyncIterator[bytes]:
        """As the answer's."""
        return self.answer.chunks()

    async def close(self) -> None:
        """Close the answer; its backend is free again."""
        self.hand_back()
        await self.answer.close()


async def begin_answer(
    backend: Backend, leased: Leased, *, clock: Clock, max_buffered_bytes: int
) -> WholeAnswer | StreamedAnswer:
    """Wait for what the table says. Raises UpstreamBroken. A whole answer is not closed here."""
    begun_at = clock.monotonic()
    kind = (header(leased.headers, "content-type") or "").lower()
    is_events = leased.status == 200 and kind.startswith("text/event-stream")
    is_media = leased.status == 200 and kind.startswith(_MEDIA)
    chunks, headers = leased.chunks(), leased.headers
    if is_events and is_decodable(encoding := header(headers, "content-encoding")):
        chunks, headers = decoded_parts(chunks, encoding), without_encoding(headers)
    if is_events:
        beginning, is_whole = await _first_frame(chunks), False
        if not beginning:
            raise UpstreamBroken(backend.name)  # a stream of nothing; the next may say more
        begun_at = clock.monotonic()
    else:
        beginning, is_whole = await _first_bytes(chunks, most=0 if is_media else max_buffered_bytes)
    if is_whole:
        return WholeAnswer(
            backend=backend,
            status=leased.status,
            headers=headers,
            body=beginning,
            begun_at=begun_at,
        )
    return StreamedAnswer(
        backend=backend,
        status=leased.status,
        headers=headers,
        beginning=beginning,
        chunks=_chain(beginning, chunks),
        answer=leased,
        begun_at=begun_at,
        is_events=is_events,
    )


async def _first_frame(chunks: AsyncIterator[bytes]) -> bytes:
    beginning = b""
    async for chunk in chunks:
        beginning += chunk
        if has_whole_frame(beginning) or len(beginning) > MAX_FIRST_FRAME_BYTES:
            break
    return beginning


async def _first_bytes(chunks: AsyncIterator[bytes], *, most: int) -> tuple[bytes, bool]:
    """A body, or its beginning when it is longer than `most`; and whether it is all of it."""
    parts: list[bytes] = []
    size = 0
    async for chunk in chunks:
        parts.append(chunk)
        size += len(chunk)
        if size > most:
            return b"".join(parts), False
    return b"".join(parts), True


async def _chain(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for chunk in rest:
        yield chunk
