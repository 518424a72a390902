"""An answer as it arrives: llhttp's callbacks fill it, its reader empties it.

| it is over when                                | its end                        | connection  |
|------------------------------------------------|--------------------------------|-------------|
| its framing says so (length, last chunk)       | clean                          | used again  |
| the other side closes, and nothing frames it   | clean                          | dropped     |
| the connection ends before that                | broken                         | dropped     |
| it is not HTTP, or its head is too long        | broken                         | dropped     |
| nothing arrives for the idle time              | broken                         | dropped     |
| it is closed                                   | broken                         | dropped     |

Parts that arrived before are read first, whatever the end. What follows the end on the same
connection is nobody's: the connection is dropped (RFC 9112 section 9.2).
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import lru_cache
from operator import methodcaller
from typing import Protocol

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser
from msgspec import Struct, field

from meter.errors import UpstreamBroken
from meter.ports import Headers
from meter.waiting.bypass import Bypass
from meter.waiting.waking import Waker

# Bytes in one go that are not body: heads, chunk sizes, trailers.
MAX_FRAMING_BYTES = 262_144
MAX_HEADERS = 128
# As much as is held for a slow reader before the connection is no longer read.
MAX_HELD_BYTES = 131_072

_NO_BODY = frozenset({204, 304})
_SWITCHING_PROTOCOLS = 101
_CODING, _CHUNKED = "transfer-encoding", ["chunked"]
_FRAMING = frozenset({"content-length", _CODING})
MAX_CACHED_LISTS = 128  # of headers' names: a backend sends the same in each answer
_trimmed: Callable[[str], str] = methodcaller("rstrip", " \t")


class Malformed(ValueError):
    """What arrived is no answer to the request."""


class Line(Protocol):
    """What an answer needs of its connection."""

    def pause_reading(self) -> None:
        """Receive nothing for now."""

    def resume_reading(self) -> None:
        """Receive again."""

    def drop(self) -> None:
        """End the connection at once."""


class Answer(Struct, eq=False):
    """`meter.ports.UpstreamAnswer` of one request.

    `begun` returns when its head is here, or never will be: then `error` says why, as for any other
    answer that is broken off. `is_over` says that it needs its connection no more, `may_reuse` that
    another request may have it. `is_paused`: it has had its connection receive nothing.
    """

    _backend: str
    _line: Line
    is_for_head: bool
    idle_timeout_seconds: float
    status: int = 0
    headers: Headers = ()
    is_over: bool = False
    may_reuse: bool = False
    is_paused: bool = False
    error: Exception | None = None
    sending: asyncio.Task[None] | None = None
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    _news: Waker = field(default_factory=Waker)
    _bypass: Bypass | None = None
    _fields: list[bytes] = field(default_factory=list)  # a name, its value, and so on
    _is_until_end: bool = False
    _parts: list[bytes] = field(default_factory=list)
    _held_bytes: int = 0
    _framing_bytes: int = 0
    _idle_timer: asyncio.TimerHandle | None = None
    _heard_at: float = 0.0
    _parser: HttpResponseParser | None = None

    def __post_init__(self) -> None:
        self._parser = parser = HttpResponseParser(self)
        # As lenient as aiohttp's client is by default: bare LF, folded lines, `5 \r\n` as a size.
        parser.set_dangerous_leniencies(
            lenient_headers=True,
            lenient_optional_cr_before_lf=True,
            lenient_spaces_after_chunk_size=True,
        )

    async def begun(self) -> None:
        """Wait for the head. One task at a time may wait, for the head or for a chunk."""
        while not (self.status or self.is_over):
            await self._news

    async def chunks(self, bypass: Bypass | None = None) -> AsyncIterator[bytes]:
        """The body as it arrives, undecoded, but for what the bypass takes. Raises UpstreamBroken when it
        is cut.
        """
        self._bypass = bypass
        while True:
            if self._parts:
                yield self._take()
            elif self.is_over:
                break
            else:
                await self._news
        if self.error is not None:
            raise UpstreamBroken(self._backend) from self.error

    def arrived(self) -> bytes | None:
        """All of the body, if it has arrived to a clean end."""
        return self._take() if self.is_over and self.error is None else None

    async def close(self) -> None:
        """Drop the connection, unless the answer was received to its end; nothing is sent on."""
        if not self.is_over:
            self.fail(ConnectionAbortedError("the answer was closed"))
        if self.sending is None:
            return
        sending, self.sending = self.sending, None
        if not sending.done():
            sending.cancel()
            await asyncio.wait({sending})

    def feed(self, data: bytes | memoryview) -> None:
        """Take what arrived, of which nothing is kept, and run on with who waits for it."""
        parser = self._parser
        if parser is None:
            return
        self._framing_bytes += len(data)
        try:
            parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as exc:
            self.may_reuse = False
            self.fail(exc)
        if self.is_over:
            return
        self._heard_at = self._loop.time()
        if self._framing_bytes > MAX_FRAMING_BYTES:
            self.fail(Malformed(f"more than {MAX_FRAMING_BYTES} bytes of headers"))
        elif self._idle_timer is None and self.status:
            self._idle_timer = self._loop.call_later(self.idle_timeout_seconds, self._check_idle)
        if not self._is_taken_at_once():
            self._news.wake()  # last: it may close the answer

    def end_of_input(self, error: Exception | None = None) -> None:
        """The other side has closed the connection, or broken it."""
        if error is None and self._is_until_end:
            self._end()
        else:
            self.fail(error or ConnectionResetError("closed before the answer's end"))

    def run_out(self) -> None:
        """Its head is not here in time."""
        self.fail(TimeoutError("no head in time"))

    def fail(self, error: Exception) -> None:
        """Break the answer off, unless it is over."""
        if self.is_over:
            return
        self.error, self.may_reuse = error, False
        self._end()
        self._line.drop()

    # The parser's callbacks. An exception in one makes `feed_data` raise.

    def on_message_begin(self) -> None:
        """A head begins: an interim one, or the answer's."""
        if self.is_over:
            raise Malformed("bytes after the answer")

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; trailers are ignored."""
        if self.status:
            return
        fields = self._fields
        if len(fields) == 2 * MAX_HEADERS:
            raise Malformed("too many headers")
        fields.extend((name, value))

    def on_headers_complete(self) -> None:
        """The head is here. Twenty values are read together in a quarter of the time of each alone."""
        parser = self._parser
        assert parser is not None
        status = parser.get_status_code()
        fields, self._fields = self._fields, []
        names, is_framed, is_coded = _read_names(tuple(fields[::2]))
        # Bytes that are not UTF-8 become surrogates, which are the same bytes when written again.
        values = b"\0".join(fields[1::2]).decode("utf-8", "surrogateescape").split("\0")
        if names and len(values) != len(names):
            raise Malformed("NUL in a header")
        headers = tuple(zip(names, map(_trimmed, values), strict=False))
        if status < 200:
            if status < 100 or status == _SWITCHING_PROTOCOLS:
                raise Malformed(f"status {status}")
            return  # RFC 9110 section 15.2: the answer is still to come
        if is_coded and [value.lower() for name, value in headers if name == _CODING] != _CHUNKED:
            raise Malformed("a transfer coding that was not asked for")  # RFC 9112 section 6.1
        has_body = not (self.is_for_head or status in _NO_BODY)
        if not is_framed:
            self._is_until_end = has_body
        self.status, self.headers = status, headers
        self.may_reuse = parser.should_keep_alive()
        if not has_body:
            self._end()

    def on_body(self, part: bytes) -> None:
        """A part of the body."""
        if self.is_over:
            raise Malformed("a body after an answer without one")
        self._framing_bytes = 0
        self._parts.append(part)
        self._held_bytes = held = self._held_bytes + len(part)
        if held > MAX_HELD_BYTES and not self.is_paused:
            self.is_paused = True
            self._line.pause_reading()

    def on_message_complete(self) -> None:
        """The end of a message: of an interim head, or of the answer."""
        if self.status:
            self._end()

    def _is_taken_at_once(self) -> bool:
        """Whether the bypass has taken what arrived."""
        bypass, parts = self._bypass, self._parts
        if bypass is None or not parts or self._news.step is None:
            return False
        if not bypass.take(parts[0] if len(parts) == 1 else b"".join(parts)):
            return False
        parts.clear()
        self._held_bytes = 0
        return True

    def _take(self) -> bytes:
        parts, self._parts, self._held_bytes = self._parts, [], 0
        if self.is_paused:
            self.is_paused = False
            self._heard_at = self._loop.time()  # the silence was ours
            if not self.is_over:
                self._line.resume_reading()
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _end(self) -> None:
        self.is_over = True
        self._parser = None  # they refer to each other
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        # A turn later: the connection is another request's to have, and its other end may be closing it.
        self._news.wake_soon()

    def _check_idle(self) -> None:
        """One timer per answer: it looks how long ago something arrived, and waits for the rest."""
        now = self._loop.time()
        if self.is_paused:
            self._heard_at = now
        left = self._heard_at + self.idle_timeout_seconds - now
        if left <= 0:
            self.fail(TimeoutError("the answer stands still"))
        else:
            self._idle_timer = self._loop.call_later(left, self._check_idle)


@lru_cache(MAX_CACHED_LISTS)
def _read_names(names: tuple[bytes, ...]) -> tuple[tuple[str, ...], bool, bool]:
    """In lower case; whether a length or chunks tell where the body ends; whether a coding is named."""
    read = tuple(name.lower().decode("latin-1") for name in names)
    return read, not _FRAMING.isdisjoint(read), _CODING in read
