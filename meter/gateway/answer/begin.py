"""A backend's answer as it begins: buffered whole where it is short, otherwise relayed as a stream.

| answer                        | received before the backend is settled on               | relayed    |
|-------------------------------|---------------------------------------------------------|------------|
| event stream (status 200)     | all before its first output (`opening.py`)              | streamed   |
| event stream of chat that was | all of it (`reading/arrived.py`)                        | whole      |
| asked for, there with its head|                                                         |            |
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
from functools import lru_cache

from msgspec import Struct
from msgspec.structs import replace

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
from meter.gateway.answer.reading.arrived import ArrivedChat, read_arrived
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
MAX_CACHED_KINDS = 128

_EVENTS = "text/event-stream"
_MEDIA = ("audio/", "image/", "video/")
_BYTES = "application/octet-stream"


class Kind(Struct, frozen=True, kw_only=True, gc=False):
    """What an answer is by its status, Content-Type and Content-Encoding.

    `is_events`: an event stream that can be read; one in an unknown encoding is just bytes: nothing can be
    read of it or put into it. `may_be_events`: it may be one without saying so. `is_bytes`: it is relayed as
    it comes. `is_text`: it says that it is something else than JSON.
    """

    encoding: str | None
    is_encoded: bool
    is_decodable: bool
    is_events: bool
    may_be_events: bool
    is_bytes: bool
    is_json: bool
    is_text: bool

    @classmethod
    def of(cls, status: int, named: Mapping[str, str]) -> "Kind":
        """The kind of an answer with these headers."""
        return _kind_of(status == 200, named.get("content-type"), named.get("content-encoding"))

    def content(self, body: bytes) -> bytes:
        """A body of this kind, decoded if it can be."""
        return decoded(body, self.encoding) if self.is_decodable else body

    def may_be_json(self, *, may_be_text: bool) -> bool:
        """Whether it is JSON, or does not say what it is, where it cannot be the caller's own words."""
        return self.is_json or not (may_be_text or self.is_text)


class WholeAnswer(Struct, frozen=True, kw_only=True, gc=False):
    """A complete answer of a backend; `begun_at` is when its head arrived (monotonic seconds).

    `named` are the first headers of each name, and `kind` is what they say. `error` is the one that it
    states; None where it is served, or is too long to be one. `stream` is what it reports where it is an
    event stream that has arrived to its end.
    """

    backend: Backend
    status: int
    headers: Headers
    named: Mapping[str, str]
    kind: Kind
    body: bytes
    begun_at: float
    error: StatedError | None = None
    stream: ArrivedChat | None = None

    @property
    def response_id(self) -> str | None:
        """The id of the response that it is, if any."""
        return read_response_id(self.body)

    @property
    def content(self) -> bytes:
        """The body, decoded if it can be."""
        return self.kind.content(self.body)

    def read_at_once(self, *, may_be_text: bool = False) -> Reading | None:
        """What the answer reports of its tokens and its model, if it is JSON; None for a long one that is
        not plain, which `read_in_thread` takes.

        Without a Content-Type it is taken for JSON, but where the operation answers in text, too: a
        transcript is the caller's own words, which must not choose what it is charged with.
        """
        if not self.kind.may_be_json(may_be_text=may_be_text):
            return NOTHING_READ
        if len(self.body) <= MAX_READ_AT_ONCE:
            return read_answer(self.content)
        return None if self.kind.is_encoded else read_ordinary(self.body)

    async def read_in_thread(self) -> Reading:
        """What it reports, where reading that takes a while."""
        return await asyncio.to_thread(lambda: read_answer(self.content))


class StreamedAnswer(Struct, frozen=True, kw_only=True):
    """A backend's answer that is relayed as a stream. `chunks` starts with `beginning`.

    `bypass` is theirs. `named` are the first headers of each name, as they came. `holds` owns the
    connection and the lease; close it when the stream ends. `is_events` is false for long answers that
    are no event stream. `error` is the one that an event stream begins with.
    `asked_for_usage`: the gateway added the option that asks for usage; `is_usage_refused`: the
    backend refused that option.
    """

    backend: Backend
    status: int
    headers: Headers
    named: Mapping[str, str]
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
        named = by_name(headers)
        return WholeAnswer(
            backend=self.backend,
            status=status,
            headers=headers,
            named=named,
            kind=Kind.of(status, named),
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
    asked_for_usage: bool = False,
) -> WholeAnswer | StreamedAnswer:
    """Wait for what the table says. Raises UpstreamBroken.

    A stream closes its answer itself; all other answers are the caller's of this function to close.
    `expects_events`: an event stream was asked for. `may_be_text`: of the caller's own words.
    `asked_for_usage`: the gateway added the option that asks for usage.
    """
    begun_at, named = clock.monotonic(), by_name(answer.headers)
    kind = Kind.of(answer.status, named)
    arrived = None if kind.is_encoded else answer.arrived()
    chunks, first = None, arrived or b""
    if kind.is_events:
        stream = read_arrived(first, hides_usage=asked_for_usage) if expects_events else None
        if stream is None:
            return await _begin_events(backend, answer, named, first, clock)
        return _whole(backend, answer, named, kind, stream.relayed, begun_at, stream=stream)
    if expects_events and kind.may_be_events and not (may_be_text and kind.is_text):
        chunks = Chunks.of(answer)
        first, is_events = await looks_like_events(chunks, first)
        if is_events:
            headers = _as_events(answer.headers)
            return await _opened(backend, answer, named, chunks, first, headers, clock)
    parts = answer.chunks() if chunks is None else chunks.source
    body, most = arrived, 0 if kind.is_bytes else max_buffered_bytes
    if body is None:
        body = await _first_bytes(parts, first, most=most)
    if len(body) > most:
        return _streamed(backend, answer, named, chunks or Chunks(parts), body, begun_at)
    error = _error_in(answer.status, kind, body, may_be_text=may_be_text)
    return _whole(backend, answer, named, kind, body, begun_at, error=error)


async def read_error(answer: UpstreamAnswer) -> StatedError | None:
    """The error in the body of an answer that is not relayed, if it is short and there in time."""
    encoding = header(answer.headers, "content-encoding")
    parts = decoded_parts(answer.chunks(), encoding) if is_decodable(encoding) else answer.chunks()
    try:
        async with asyncio.timeout(ERROR_SECONDS):
            body = await _first_bytes(parts, b"", most=MAX_ERROR_BYTES)
    except (TimeoutError, UpstreamBroken):
        return None
    return error_in_body(body) if len(body) <= MAX_ERROR_BYTES else None


def _error_in(status: int, kind: Kind, body: bytes, *, may_be_text: bool) -> StatedError | None:
    """The error that a whole answer states, if any."""
    if len(body) > MAX_ERROR_BYTES:
        return None
    content = kind.content(body)
    if not content or len(content) > MAX_ERROR_BYTES:
        return None
    if status >= 400:
        return error_in_body(content)
    return error_in_served(content) if kind.is_json or not may_be_text else None


@lru_cache(MAX_CACHED_KINDS)
def _kind_of(is_ok: bool, content_type: str | None, encoding: str | None) -> Kind:
    says = (content_type or "").lower() if is_ok else ""
    is_stream, is_media = says.startswith(_EVENTS), says.startswith(_MEDIA)
    can_decode, is_coded, has_json = (
        is_decodable(encoding),
        is_encoded(encoding),
        is_json(content_type),
    )
    return Kind(
        encoding=encoding,
        is_encoded=is_coded,
        is_decodable=can_decode,
        is_events=is_stream and (can_decode or not is_coded),
        may_be_events=is_ok and not is_media and not is_coded,
        is_bytes=is_stream or is_media or says.startswith(_BYTES),
        is_json=has_json,
        is_text=bool(content_type) and not has_json,
    )


def _whole(
    backend: Backend,
    answer: UpstreamAnswer,
    named: Mapping[str, str],
    kind: Kind,
    body: bytes,
    begun_at: float,
    *,
    error: StatedError | None = None,
    stream: ArrivedChat | None = None,
) -> WholeAnswer:
    return WholeAnswer(
        backend=backend,
        status=answer.status,
        headers=answer.headers,
        named=named,
        kind=kind,
        body=body,
        begun_at=begun_at,
        error=error,
        stream=stream,
    )


async def _begin_events(
    backend: Backend, answer: UpstreamAnswer, named: Mapping[str, str], first: bytes, clock: Clock
) -> StreamedAnswer:
    chunks, headers, encoding = Chunks.of(answer), answer.headers, named.get("content-encoding")
    if is_encoded(encoding):
        chunks = Chunks(decoded_parts(answer.chunks(), encoding))
        headers = without_encoding(headers)
    return await _opened(backend, answer, named, chunks, first, headers, clock)


async def _opened(
    backend: Backend,
    answer: UpstreamAnswer,
    named: Mapping[str, str],
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
    streamed = _streamed(backend, answer, named, chunks, bytes(opening.data), opening.begun_at)
    return replace(streamed, headers=headers, error=opening.error, is_events=True)


def _streamed(
    backend: Backend,
    answer: UpstreamAnswer,
    named: Mapping[str, str],
    chunks: Chunks,
    beginning: bytes,
    begun_at: float,
) -> StreamedAnswer:
    return StreamedAnswer(
        backend=backend,
        status=answer.status,
        headers=answer.headers,
        named=named,
        beginning=beginning,
        chunks=chunks.rest(beginning),
        bypass=chunks.bypass,
        holds=AnswerHolds(answer.close, chunks.close),
        begun_at=begun_at,
        is_events=False,
    )


async def _first_bytes(chunks: AsyncIterator[bytes], first: bytes, *, most: int) -> bytes:
    """A body, or its beginning when it is longer than `most`: then the beginning is, too."""
    parts, size = [first], len(first)
    if size <= most:
        async for chunk in chunks:
            parts.append(chunk)
            size += len(chunk)
            if size > most:
                break
    return b"".join(parts)


def _as_events(headers: Headers) -> Headers:
    """The headers of a stream that does not say what it is; clients read it there."""
    others = tuple((name, value) for name, value in headers if name != "content-type")
    return (*others, ("content-type", _EVENTS))
