"""A backend's answer as it begins: buffered whole where it is short, otherwise relayed as a stream.

| answer                        | received before the backend is settled on               | relayed    |
|-------------------------------|---------------------------------------------------------|------------|
| event stream (status 200)     | all before its first output (`opening.py`)              | streamed   |
| audio, image, video           | the first bytes                                         | streamed   |
| event stream, encoded for good| the first bytes                                         | streamed   |
| anything else                 | all of it, up to `max_buffered_bytes`, usage included   | whole      |
| anything else that is longer  | that much                                               | streamed   |

The caller has no byte before that, so a failure until then fails over to the next backend. An event
stream is one by its Content-Type or, where one was asked for, by how its body begins.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from copy import replace

from msgspec import Struct

from meter.errors import UpstreamBroken
from meter.gateway.answer.encoding import (
    decoded,
    decoded_parts,
    is_decodable,
    is_encoded,
    without_encoding,
)
from meter.gateway.answer.error_shapes import error_in_body, error_in_served
from meter.gateway.answer.opening import Chunks, looks_like_events, read_opening
from meter.gateway.answer.stated_error import StatedError
from meter.gateway.answer.usage import (
    NOTHING_READ,
    Reading,
    is_json,
    read_answer,
    read_ordinary,
    read_response_id,
)
from meter.gateway.backend import Backend
from meter.gateway.headers import by_name, header
from meter.gateway.limits.holds import AnswerHolds
from meter.ports import Clock, Headers, UpstreamAnswer
from meter.waiting.bypass import Bypass

MAX_READ_AT_ONCE = 262_144
MAX_ERROR_BYTES = 65_536
ERROR_SECONDS = 0.5

_EVENTS = "text/event-stream"
_MEDIA = ("audio/", "image/", "video/")
_BYTES = "application/octet-stream"


class WholeAnswer(Struct, frozen=True, kw_only=True, gc=False):
    """A complete answer of a backend; `begun_at` is when its head arrived (monotonic seconds).

    `named` are the first headers of each name. `error` is the one that it states; None where it is
    served, or is too long to be one.
    """

    backend: Backend
    status: int
    headers: Headers
    named: Mapping[str, str]
    body: bytes
    begun_at: float
    error: StatedError | None = None

    @property
    def response_id(self) -> str | None:
        """The id of the response that it is, if any."""
        return read_response_id(self.body)

    @property
    def content(self) -> bytes:
        """The body, decoded if it can be."""
        return decoded(self.body, self.named.get("content-encoding"))

    async def read(self, *, may_be_text: bool = False) -> Reading:
        """What the answer reports of its tokens and its model, if it is JSON; a long one that is not
        plain is read in a thread.

        Without a Content-Type it is taken for JSON, but where the operation answers in text, too: a
        transcript is the caller's own words, which must not choose what it is charged with.
        """
        kind = self.named.get("content-type")
        if may_be_text if not kind else not is_json(kind):
            return NOTHING_READ
        if len(self.body) <= MAX_READ_AT_ONCE:
            return self._read()
        if not is_encoded(self.named.get("content-encoding")):
            reading = read_ordinary(self.body)
            if reading is not None:
                return reading
        return await asyncio.to_thread(self._read)

    def _read(self) -> Reading:
        return read_answer(self.content)


class StreamedAnswer(Struct, frozen=True, kw_only=True):
    """A backend's answer that is relayed as a stream. `chunks` starts with `beginning`.

    `bypass` is theirs. `holds` owns the connection and the lease; close it when the stream ends. `is_events`
    is false for long answers that are no event stream. `error` is the one that an event stream begins with.
    `asked_for_usage`: the gateway added the option that asks for usage; `is_usage_refused`: the
    backend refused that option.
    """

    backend: Backend
    status: int
    headers: Headers
    beginning: bytes
    chunks: AsyncIterator[bytes]
    bypass: Bypass
    holds: AnswerHolds
    begun_at: float
    is_events: bool
    error: StatedError | None = None
    asked_for_usage: bool = False
    is_usage_refused: bool = False

    @property
    def response_id(self) -> str | None:
        """The id of the response that it is, if any."""
        return read_response_id(self.beginning)

    def as_refusal(self, error: StatedError, status: int) -> WholeAnswer:
        """The error that the stream begins with, as the answer it would be before the stream."""
        members = {
            "message": error.message,
            "type": error.kind,
            "param": error.param,
            "code": error.code,
        }
        others = tuple(pair for pair in self.headers if pair[0].lower() != "content-type")
        headers = (*others, ("content-type", "application/json"))
        return WholeAnswer(
            backend=self.backend,
            status=status,
            headers=headers,
            named=by_name(headers),
            body=json.dumps({"error": members}).encode(),
            begun_at=self.begun_at,
            error=error,
        )


async def begin_answer(
    backend: Backend,
    answer: UpstreamAnswer,
    *,
    clock: Clock,
    max_buffered_bytes: int,
    expects_events: bool = False,
    may_be_text: bool = False,
) -> WholeAnswer | StreamedAnswer:
    """Wait for what the table says. Raises UpstreamBroken.

    A stream closes its answer itself; all other answers are the caller's of this function to close.
    `expects_events`: an event stream was asked for. `may_be_text`: of the caller's own words.
    """
    begun_at = clock.monotonic()
    named = by_name(answer.headers)
    kind, encoding = named.get("content-type"), named.get("content-encoding")
    is_events, is_bytes, may_be_events = _kind_of(answer.status, kind, encoding)
    is_text = may_be_text and _says_text(kind)
    chunks, headers, first = Chunks.of(answer), answer.headers, b""
    if is_events and is_encoded(encoding):
        chunks = Chunks(decoded_parts(answer.chunks(), encoding))
        headers = without_encoding(headers)
    elif not is_events and may_be_events and expects_events and not is_text:
        first, is_events = await looks_like_events(chunks)
        headers = _as_events(headers) if is_events else headers
    if is_events:
        return await _begin_events(backend, answer, chunks, first, headers, clock)
    body, is_whole = await _first_bytes(chunks, first, most=0 if is_bytes else max_buffered_bytes)
    if not is_whole:
        return _streamed(backend, answer, chunks, body, begun_at)
    whole = WholeAnswer(
        backend=backend,
        status=answer.status,
        headers=headers,
        named=named,
        body=body,
        begun_at=begun_at,
    )
    return _with_error(whole, may_be_text=may_be_text)


async def read_error(answer: UpstreamAnswer) -> StatedError | None:
    """The error in the body of an answer that is not relayed, if it is short and there in time."""
    encoding = header(answer.headers, "content-encoding")
    parts = decoded_parts(answer.chunks(), encoding) if is_decodable(encoding) else answer.chunks()
    try:
        async with asyncio.timeout(ERROR_SECONDS):
            body, is_whole = await _first_bytes(Chunks(parts), b"", most=MAX_ERROR_BYTES)
    except (TimeoutError, UpstreamBroken):
        return None
    return error_in_body(body) if is_whole else None


def _with_error(answer: WholeAnswer, *, may_be_text: bool) -> WholeAnswer:
    """The answer with the error that it states, if any."""
    error = _error_of(answer, may_be_text=may_be_text)
    return answer if error is None else replace(answer, error=error)


def _error_of(answer: WholeAnswer, *, may_be_text: bool) -> StatedError | None:
    content = answer.content if len(answer.body) <= MAX_ERROR_BYTES else b""
    if not content or len(content) > MAX_ERROR_BYTES:
        return None
    if answer.status >= 400:
        return error_in_body(content)
    is_json_alone = not may_be_text or is_json(answer.named.get("content-type"))
    return error_in_served(content) if is_json_alone else None


def _says_text(kind: str | None) -> bool:
    return bool(kind) and not is_json(kind)


def _kind_of(status: int, kind: str | None, encoding: str | None) -> tuple[bool, bool, bool]:
    """Whether it is an event stream; other bytes that are relayed as they come; perhaps a stream.

    An event stream in an unknown encoding is just bytes: nothing can be read of it or put into it.
    """
    kind = (kind or "").lower() if status == 200 else ""
    is_stream, is_media = kind.startswith(_EVENTS), kind.startswith(_MEDIA)
    is_plain = not is_encoded(encoding)
    is_readable = is_plain or is_decodable(encoding)
    may_be_events = status == 200 and not is_media and is_plain
    return (
        is_stream and is_readable,
        is_stream or is_media or kind.startswith(_BYTES),
        may_be_events,
    )


async def _begin_events(
    backend: Backend,
    answer: UpstreamAnswer,
    chunks: Chunks,
    first: bytes,
    headers: Headers,
    clock: Clock,
) -> StreamedAnswer:
    try:
        opening = await read_opening(chunks, first, clock=clock)
    except BaseException:
        await chunks.close()
        raise
    streamed = _streamed(backend, answer, chunks, bytes(opening.data), opening.begun_at)
    return replace(streamed, headers=headers, error=opening.error, is_events=True)


def _streamed(
    backend: Backend, answer: UpstreamAnswer, chunks: Chunks, beginning: bytes, begun_at: float
) -> StreamedAnswer:
    return StreamedAnswer(
        backend=backend,
        status=answer.status,
        headers=answer.headers,
        beginning=beginning,
        chunks=chunks.rest(beginning),
        bypass=chunks.bypass,
        holds=AnswerHolds(answer.close, chunks.close),
        begun_at=begun_at,
        is_events=False,
    )


async def _first_bytes(chunks: Chunks, first: bytes, *, most: int) -> tuple[bytes, bool]:
    """A body, or its beginning when it is longer than `most`; and whether it is complete."""
    parts, size = [first], len(first)
    while size <= most:
        chunk = await chunks.next()
        if chunk is None:
            return b"".join(parts), True
        parts.append(chunk)
        size += len(chunk)
    return b"".join(parts), False


def _as_events(headers: Headers) -> Headers:
    """The headers of a stream that does not say what it is; clients read it there."""
    others = tuple((name, value) for name, value in headers if name != "content-type")
    return (*others, ("content-type", _EVENTS))
