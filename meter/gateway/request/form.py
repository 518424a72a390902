"""A multipart form: relayed while it arrives, and spooled so that it can be sent again.

RFC 7578 describes forms, RFC 2046 their parts. Where the form names the deployment, its `model`
part is read first and replaced by the backend's own name. A call metered under one name must not be
served under another: a form with a second `model` part is refused before its end is relayed, and so
is every form that another parser might read differently.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from meter.errors import BadRequest, CallerError
from meter.gateway.http import RequestBody
from meter.gateway.limits.turns import Turns
from meter.patterns import lazy_pattern
from meter.ports import Spool

PART_BYTES = 65_536
_STEP_BYTES = 8_192  # of parsing, which takes some milliseconds
MAX_MODEL_BYTES = 256

_NOT_A_FORM = "The request body is not a valid multipart form (RFC 7578)."
_UNPLAIN_NAME = (
    "Each part of a form must have one plain name of letters, digits, `_`, `.`, `-` and brackets."
)
_ENCODED_PART = "The parts of a form must be sent as they are, without Content-Transfer-Encoding."
# RFC 2046 section 5.1.1, without what joins lists.
_BOUNDARY = lazy_pattern(rb"[0-9A-Za-z'()+_./:=?-]{1,70}")
_BOUNDARY_NAME = lazy_pattern(r"boundary[*0-9]*[ \t]*=", re.IGNORECASE)
_PLAIN_NAME = lazy_pattern(rb"[0-9A-Za-z_.\[\]-]{1,128}")
# RFC 7578 section 4.2 and RFC 2183 section 2, without spaces around `=`.
_TOKEN = rb"[0-9A-Za-z!#$%&'*+.^_`|~-]++"
_PAIR = rb"[ \t]*+;[ \t]*+(" + _TOKEN + rb')=("(?:[^"\\]++|\\.)*+"|[^ \t;"\\]++)'
_PARAMETER = lazy_pattern(_PAIR, re.DOTALL)
_DISPOSITION = lazy_pattern(rb"form-data(?:" + _PAIR + rb")*+[ \t]*+", re.IGNORECASE | re.DOTALL)
_MODEL_NAME = lazy_pattern(
    rb"""(?<![a-z])name[*0-9]*\s*=[\s"'\\]*model(?![a-z0-9_.\[\]-])""", re.IGNORECASE
)
# A hint of what the answer may be: nothing is refused for it. Bounded, so that no form is slow to
# look through.
_STREAM = lazy_pattern(
    rb"""name=["']?stream["']?(?=[; \t\r\n])[^\r\n]{0,200}\r?\n(?:[^\r\n]{1,200}\r?\n){0,3}"""
    rb"""\r?\n[ \t]{0,9}(?:[Tt]rue|TRUE|1)\b"""
)
_STREAM_PART_BYTES = 1_024
_PLAIN_ENCODINGS = frozenset({b"7bit", b"8bit", b"binary"})
_CONTROL = lazy_pattern(rb"[\x00-\x08\x0a-\x1f\x7f]")


def is_form(content_type: str | None) -> bool:
    """Whether a Content-Type says that the body is a form."""
    return (content_type or "").strip().lower().startswith("multipart/form-data")


@dataclass(slots=True)
class FormBody:
    """One form. `error` is why the caller's side of it failed, if it did.

    `asks_for_stream` says that a `stream` part of it that has arrived is true.
    """

    source: RequestBody
    spool: Spool
    declared_bytes: int | None
    turns: Turns = field(default_factory=Turns)
    fields: "_ModelField | None" = None
    error: CallerError | None = None
    asks_for_stream: bool = False
    _recent: bytes = b""
    _size: int = 0
    _is_ended: bool = False
    _is_closed: bool = False
    _arrived: bytes = b""  # not spooled yet
    _parsed: int = 0  # bytes of `_arrived`
    _reading: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def model(self) -> str | None:
        """The value of the form's `model` part, once `read_model` has read it."""
        return None if self.fields is None else self.fields.value

    @property
    def is_whole(self) -> bool:
        """Whether all of it has arrived."""
        return self._is_ended

    async def read_model(self, content_type: str) -> None:
        """Read on until the form has named its model. Raises BadRequest when it does not."""
        self.fields = _ModelField(_boundary(content_type))
        while not self.fields.is_read and not self._is_ended:
            await self._more()
        if not self.fields.is_read:
            raise BadRequest("The form must name a deployment in its `model` part.")

    async def begin(self) -> None:
        """Wait for the first bytes: a body refused at once must not cost a backend a connection."""
        await self._more()

    def parts(self, model: str | None = None) -> AsyncIterator[bytes]:
        """The form from its beginning, with another name in its `model` part where one is given.

        Raises CallerError when the caller does not send all of it, or it is closed before that.
        """
        return self._parts(model)

    def length(self, model: str | None = None) -> int | None:
        """The number of bytes that `parts` yields; None where the caller did not declare it."""
        if self.declared_bytes is None or model is None or self.fields is None:
            return self.declared_bytes
        start, end = self.fields.span
        return self.declared_bytes + len(model.encode()) - (end - start)

    def close(self) -> None:
        """Drop the spool. A request that is still sending the form fails."""
        self._is_closed = True
        self.spool.close()

    async def _parts(self, model: str | None) -> AsyncIterator[bytes]:
        at = 0
        if model is not None and self.fields is not None:
            start, end = self.fields.span
            while at < start:
                part = self._spooled(at, min(PART_BYTES, start - at))
                at += len(part)
                yield part
            yield model.encode()
            at = end
        while at < self._size or not self._is_ended:
            if at < self._size:
                part = self._spooled(at, PART_BYTES)
                at += len(part)
                yield part
            else:
                await self._more()

    def _spooled(self, start: int, size: int) -> bytes:
        if self._is_closed:
            # An end here would make a half form look like a whole one.
            raise BadRequest("The call ended before its form was sent.")
        return self.spool.read(start, size)

    async def _more(self) -> None:
        size = self._size
        async with self._reading:
            if self.error is not None:
                raise self.error
            if self._is_ended or self._size > size:
                return
            try:
                self._arrived = self._arrived or await self.source.next_part()
                if self.fields is not None:
                    await self._parse(self.fields)
                self._look_for_stream()
                if not self._is_closed:
                    self.spool.append(self._arrived)
            except CallerError as exc:
                self.error = exc
                raise
            self._size += len(self._arrived)
            self._is_ended = not self._arrived
            self._arrived, self._parsed = b"", 0

    def _look_for_stream(self) -> None:
        recent = self._recent + self._arrived
        if b"stream" in recent:
            self.asks_for_stream = self.asks_for_stream or _STREAM.search(recent) is not None
        self._recent = recent[-_STREAM_PART_BYTES:]

    async def _parse(self, fields: "_ModelField") -> None:
        # Cancelled between two steps, it goes on from there.
        while self._parsed < len(self._arrived):
            if self._parsed:
                await self.turns.next()
            start, self._parsed = self._parsed, self._parsed + _STEP_BYTES
            fields.feed(self._arrived[start : self._parsed])


@dataclass(slots=True)
class _ModelField:
    """Finds the `model` part in a form's bytes, and makes sure that other parsers find the same one.

    Bytes that look like a delimiter to a parser with other line ends, or to one that reads on after
    the closing delimiter, must be a delimiter to this parser too.
    """

    boundary: bytes
    value: str | None = None
    span: tuple[int, int] = (0, 0)
    is_read: bool = False
    _parser: MultipartParser = field(init=False)
    _fed: int = 0
    _header: bytes = b""
    _header_name: bytes = b""
    _is_named: bool = False
    _is_in_model: bool = False
    _gathered: bytes = b""
    _starts_at: int = 0
    _delimiter: re.Pattern[bytes] = field(init=False)
    _closing: re.Pattern[bytes] = field(init=False)
    _is_closed: bool = False  # the closing delimiter is here
    _is_ended: bool = False  # and what follows it is looked at
    _delimiters: int = 0
    _looks_like_delimiters: int = 0
    _recent: bytes = b"\n"  # a form may begin with its first delimiter

    def __post_init__(self) -> None:
        self._parser = MultipartParser(
            self.boundary,
            {
                "on_part_begin": self._begin_part,
                "on_header_field": self._add_to(self._add_name),
                "on_header_value": self._add_to(self._add_value),
                "on_header_end": self._end_header,
                "on_headers_finished": self._end_headers,
                "on_part_data": self._add_data,
                "on_part_end": self._end_part,
                "on_end": self._end,
            },
        )
        self._closing = re.compile(rb"[\r\n]--" + re.escape(self.boundary) + rb"--")
        self._delimiter = re.compile(rb"[\r\n]--" + re.escape(self.boundary) + rb"(?s:(?=..))")

    def feed(self, data: bytes) -> None:
        """Take the form's next bytes. Raises BadRequest."""
        try:
            self._parser.write(data)
        except FormParserError:
            raise BadRequest(_NOT_A_FORM) from None
        self._fed += len(data)
        recent = self._recent + data
        self._check_end(recent)
        self._looks_like_delimiters += len(self._delimiter.findall(recent))
        # Too short for a whole delimiter, so that none is counted twice.
        self._recent = recent[-len(self.boundary) - 4 :]
        if self._looks_like_delimiters != self._delimiters:
            raise BadRequest(_NOT_A_FORM)

    def _check_end(self, recent: bytes) -> None:
        """Only line ends may follow the closing delimiter: some parsers take it for none otherwise."""
        if self._is_ended:
            after = recent[len(self._recent) :]
        elif self._is_closed and (closing := self._closing.search(recent)) is not None:
            after, self._is_ended = recent[closing.end() :], True
        else:
            return
        if after.strip(b" \t\r\n"):
            raise BadRequest(_NOT_A_FORM)

    def _add_to(self, add: Callable[[bytes], None]) -> Callable[[bytes, int, int], None]:
        return lambda data, start, end: add(data[start:end])

    def _begin_part(self) -> None:
        self._delimiters += 1
        self._is_named = self._is_in_model = False
        self._header = self._header_name = b""

    def _add_name(self, part: bytes) -> None:
        self._header_name += part

    def _add_value(self, part: bytes) -> None:
        self._header += part

    def _end_header(self) -> None:
        if _CONTROL.search(self._header):
            raise BadRequest(_NOT_A_FORM)  # a line feed begins another header for some parsers
        name = self._header_name.lower()
        is_encoded = self._header.strip().lower() not in _PLAIN_ENCODINGS
        if name == b"content-transfer-encoding" and is_encoded:
            raise BadRequest(_ENCODED_PART)  # RFC 7578 section 4.7
        if name == b"content-disposition":
            if self._is_named:
                raise BadRequest(_UNPLAIN_NAME)
            self._is_named = True
            # Some servers compare field names without regard to case.
            if _part_name(self._header.strip(b" \t")).lower() == b"model":
                self._begin_model()
        self._header = self._header_name = b""

    def _end_headers(self) -> None:
        if not self._is_named:
            # Some parsers skip a blank line at a part's beginning, and read headers behind it.
            raise BadRequest("Each part of a form must have one Content-Disposition.")

    def _begin_model(self) -> None:
        if self.is_read:
            raise BadRequest("The form names `model` more than once.")
        self._is_in_model = True
        self._gathered = b""

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        if not self._is_in_model:
            return
        if not self._gathered:
            # A name has no line break, so no part of it is held back as a possible boundary.
            self._starts_at = self._fed + start
        self._gathered += data[start:end]
        if len(self._gathered) > MAX_MODEL_BYTES:
            raise BadRequest("The form's `model` part is too long for a deployment's name.")

    def _end_part(self) -> None:
        if self._is_in_model:
            self._is_in_model = False
            self.value = self._gathered.decode(errors="replace")
            self.span = (self._starts_at, self._starts_at + len(self._gathered))
            self.is_read = True

    def _end(self) -> None:
        self._delimiters += 1
        self._is_closed = True


def _part_name(disposition: bytes) -> bytes:
    """A part's name. Raises BadRequest where parsers may disagree about it (RFC 7578 section 4.2)."""
    if _DISPOSITION.fullmatch(disposition) is None:
        raise BadRequest(_UNPLAIN_NAME)
    given = [(match[1].lower(), match[2]) for match in _PARAMETER.finditer(disposition)]
    names = [value for parameter, value in given if parameter.partition(b"*")[0] == b"name"]
    is_extended = any(parameter.startswith(b"name*") for parameter, _ in given)
    is_repeated = len({parameter for parameter, _ in given}) < len(given)
    name = names[0].strip(b'"') if len(names) == 1 else b""
    # Some parsers take a quotation mark for the end of a text although it is escaped.
    is_odd = b"\\" in disposition and len(_MODEL_NAME.findall(disposition)) != (name == b"model")
    if is_extended or is_repeated or is_odd or _PLAIN_NAME.fullmatch(name) is None:
        raise BadRequest(_UNPLAIN_NAME)
    return name


def _boundary(content_type: str) -> bytes:
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    is_one = len(_BOUNDARY_NAME.findall(content_type)) == 1
    if not is_one or not _BOUNDARY.fullmatch(boundary):
        raise BadRequest("The Content-Type of a multipart form must name its boundary (RFC 2046).")
    return boundary
