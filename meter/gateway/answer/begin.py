"""A backend's answer as it begins: buffered whole where it is short, otherwise relayed as a stream.

| answer                        | received before the backend is settled on               | relayed    |
|-------------------------------|---------------------------------------------------------|------------|
| event stream (status 200)     | the first frame                                         | streamed   |
| audio, image, video           | the first bytes                                         | streamed   |
| event stream, encoded for good| the first bytes                                         | streamed   |
| anything else                 | all of it, up to `max_buffered_bytes`, usage included   | whole      |
| anything else that is longer  | that much                                               | streamed   |

The caller has no byte before that, so a failure until then fails over to the next backend.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

from meter.errors import UpstreamBroken
from meter.gateway.answer.encoding import (
    decoded,
    decoded_parts,
    is_decodable,
    is_encoded,
    without_encoding,
)
from meter.gateway.answer.sse import has_whole_frame
from meter.gateway.answer.usage import (
    NOTHING_READ,
    Reading,
    is_json,
    read_answer,
    read_response_id,
)
from meter.gateway.backend import Backend
from meter.gateway.headers import header
from meter.ports import Clock, Headers, UpstreamAnswer

MAX_FIRST_FRAME_BYTES = 65_536
MAX_READ_AT_ONCE = 262_144

_MEDIA = ("audio/", "image/", "video/", "application/octet-stream")


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeAnswer:
    """A complete answer of a backend; `begun_at` is when its head arrived (monotonic seconds)."""

    backend: Backend
    status: int
    headers: Headers
    body: bytes
    begun_at: float

    @property
    def response_id(self) -> str | None:
        """The id of the response that it is, if any."""
        return read_response_id(self.body)

    async def read(self, *, may_be_text: bool = False) -> Reading:
        """What the answer reports of its tokens and its model, if it is JSON; a long one is read in
        a thread.

        Without a Content-Type it is taken for JSON, but where the operation answers in text, too: a
        transcript is the caller's own words, which must not choose what it is charged with.
        """
        kind = header(self.headers, "content-type")
        if may_be_text if not kind else not is_json(kind):
            return NOTHING_READ
        if len(self.body) <= MAX_READ_AT_ONCE:
            return self._read()
        return await asyncio.to_thread(self._read)

    def _read(self) -> Reading:
        return read_answer(decoded(self.body, header(self.headers, "content-encoding")))


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamedAnswer:
    """A backend's answer that is relayed as a stream. `chunks` starts with `beginning`.

    `holds` owns the connection and the lease; close it when the stream ends. `is_events` is false
    for long answers that are no event stream. `asked_for_usage`: the gateway added the option that
    asks for usage; `is_usage_refused`: the backend refused that option.
    """

    backend: Backend
    status: int
    headers: Headers
    beginning: bytes
    chunks: AsyncIterator[bytes]
    holds: AsyncExitStack
    begun_at: float
    is_events: bool
    asked_for_usage: bool = False
    is_usage_refused: bool = False

    @property
    def response_id(self) -> str | None:
        """The id of the response that it is, if any."""
        return read_response_id(self.beginning)


async def begin_answer(
    backend: Backend, answer: UpstreamAnswer, *, clock: Clock, max_buffered_bytes: int
) -> WholeAnswer | StreamedAnswer:
    """Wait for what the table says. Raises UpstreamBroken.

    A stream closes its answer itself; all other answers are the caller's of this function to close.
    """
    begun_at = clock.monotonic()
    is_events, is_media = _kind_of(answer)
    chunks, headers = answer.chunks(), answer.headers
    if is_events and is_encoded(encoding := header(headers, "content-encoding")):
        chunks, headers = decoded_parts(chunks, encoding), without_encoding(headers)
    if is_events:
        beginning, is_whole = await _first_frame(chunks), False
        if not beginning:
            raise UpstreamBroken(backend.name)  # an empty stream; the next backend may do better
        begun_at = clock.monotonic()
    else:
        beginning, is_whole = await _first_bytes(chunks, most=0 if is_media else max_buffered_bytes)
    if is_whole:
        return WholeAnswer(
            backend=backend,
            status=answer.status,
            headers=headers,
            body=beginning,
            begun_at=begun_at,
        )
    holds = AsyncExitStack()
    holds.push_async_callback(answer.close)
    return StreamedAnswer(
        backend=backend,
        status=answer.status,
        headers=headers,
        beginning=beginning,
        chunks=_chain(beginning, chunks),
        holds=holds,
        begun_at=begun_at,
        is_events=is_events,
    )


def _kind_of(answer: UpstreamAnswer) -> tuple[bool, bool]:
    """Whether it is an event stream; and whether it is other bytes that are relayed as they come.

    An event stream in an unknown encoding is just bytes: nothing can be read of it or put into it.
    """
    kind = (header(answer.headers, "content-type") or "").lower() if answer.status == 200 else ""
    encoding = header(answer.headers, "content-encoding")
    is_stream = kind.startswith("text/event-stream")
    is_readable = is_decodable(encoding) or not is_encoded(encoding)
    return is_stream and is_readable, is_stream or kind.startswith(_MEDIA)


async def _first_frame(chunks: AsyncIterator[bytes]) -> bytes:
    beginning = b""
    async for chunk in chunks:
        beginning += chunk
        if has_whole_frame(beginning) or len(beginning) > MAX_FIRST_FRAME_BYTES:
            break
    return beginning


async def _first_bytes(chunks: AsyncIterator[bytes], *, most: int) -> tuple[bytes, bool]:
    """A body, or its beginning when it is longer than `most`; and whether it is complete."""
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
