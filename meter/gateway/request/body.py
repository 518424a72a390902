"""A caller's JSON body, kept as its bytes, and changed by splicing, so that the rest keeps them.

Two parsers must not read it differently where that decides what is called or counted: the members
in `DECISIVE` may stand once, spelt as they are, and `stream` must be a boolean.
"""

import json
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from itertools import islice

from msgspec import Struct, field

from meter.errors import BadRequest
from meter.gateway.request.members import (
    MAX_FEW_BYTES,
    MAX_REMEMBERED,
    NotJson,
    PlainMember,
    few_at_once,
    is_sparse,
    members_at_once,
)
from meter.gateway.request.scan import check_text, children, long_members

MAX_OUTPUT_TOKENS = 10_000_000
_OUTPUT_LIMITS = ("max_completion_tokens", "max_output_tokens", "max_tokens")
_ANSWERS = ("n", "best_of")
DECISIVE = ("model", "stream", "stream_options", "background", "previous_response_id")
_DECIDING = frozenset(DECISIVE)
_MODEL_ALONE = frozenset({"model"})  # of what decides, as in most bodies for a whole answer
MAX_VALUE_BYTES = 65_536
MAX_PLAIN_DIGITS = 18
SHORT_BYTES = 131_072  # of a body that is read without waiting for a turn, and sent in one piece

_USAGE_ASKED = '{"include_usage": true}'
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_BOOLEANS = {b"true": True, b"false": False, b"null": False}  # SDKs send null for what is not set
# Letters that are an ASCII letter in another case, to parsers that ignore case.
_FOLDED = str.maketrans({"\u017f": "s", "\u212a": "k", "\u0131": "i"})
_NOT_AN_OBJECT = "The request body is not valid JSON; send a JSON object in UTF-8."


class JsonBody(Struct, kw_only=True):
    """A request's JSON object: its bytes, and the members that decide what happens to it.

    `spans` has where the value of each member stands, of repeated ones the last.
    """

    raw: bytes
    size: int
    spans: Mapping[str, tuple[int, int]]
    model: object = None
    is_streaming: bool = False
    stream_options: object = None
    background: object = None
    previous_response_id: str | None = None
    on_drop: Callable[[], None] = field(default=lambda: None)

    @property
    def asks_for_usage(self) -> bool:
        """Whether the caller itself asked for the usage frame."""
        options = self.stream_options
        return isinstance(options, dict) and options.get("include_usage") is True

    @property
    def output_tokens(self) -> int:
        """The most tokens that the answers may have; 0 where the caller does not say."""
        spans = self.spans
        if spans.keys().isdisjoint(_OUTPUT_LIMITS):
            return 0
        limits = [_whole_number(self.member(name)) for name in _OUTPUT_LIMITS if name in spans]
        answers = [_whole_number(self.member(name)) for name in _ANSWERS if name in spans]
        return min(max(limits) * max([1, *answers]), MAX_OUTPUT_TOKENS)

    def member(self, name: str) -> object:
        """The value of a top-level member; None where it is absent, long or dropped."""
        start, end = self.spans.get(name, (0, 0))
        if not self.raw or not 0 < end - start <= MAX_VALUE_BYTES:
            return None
        return _value(self.raw[start:end])

    def items(self, name: str) -> Iterator[bytes]:
        """The JSON text of each item of a top-level array, as it is asked for."""
        raw = self.raw
        start, end = self.spans.get(name, (0, 0))
        if raw[start:end][:1] == b"[":
            yield from (raw[item.start : item.end] for item in children(raw, start))

    def spliced(self, values: Mapping[str, str]) -> list[bytes | memoryview]:
        """The bytes with top-level members, of plain names, set to the given JSON texts, in parts.

        The value of an existing member is replaced in place, new members are put first, and all
        other bytes stay the same.
        """
        raw, at = memoryview(self.raw), 0
        parts: list[bytes | memoryview] = []
        added = [f'"{n}":{v}' for n, v in values.items() if n not in self.spans]
        if added:
            at = self.raw.index(b"{") + 1
            parts = [raw[:at], ",".join(added).encode(), b"," if self.spans else b""]
        for name in sorted(values.keys() & self.spans.keys(), key=lambda name: self.spans[name]):
            start, end = self.spans[name]
            parts += [raw[at:start], values[name].encode()]
            at = end
        return [*parts, raw[at:]]

    def drop(self) -> None:
        """Give up the bytes: no backend will be sent them again."""
        self.raw = b""
        self.on_drop()


def parse_body(raw: bytes) -> JsonBody:
    """Read a JSON object, as a call does. Raises BadRequest for anything else."""
    if (ordinary := json_at_once(raw)) is not None:
        return ordinary
    reading = read_json(raw)
    while True:
        try:
            next(reading)
        except StopIteration as end:
            body: JsonBody = end.value
            return body


def json_at_once(raw: bytes) -> JsonBody | None:
    """Read an ordinary object, in one step: short or sparse, in ASCII, its names in lower case and all
    different. None for any other body, which `read_json` reads or refuses. Raises BadRequest as it does.

    Without taking turns, and a careful look at each name, that saves half of 400 instructions.
    """
    if len(raw) > MAX_FEW_BYTES and not is_sparse(raw):
        return None
    if not raw.isascii() or (spans := few_at_once(raw)) is None:
        return None
    names = "".join(spans)
    if not (names.islower() and names.isascii()):
        return None
    if spans.keys() & _DECIDING != _MODEL_ALONE:
        return _body(raw, spans)
    start, end = spans["model"]
    if end - start > MAX_VALUE_BYTES:
        return _body(raw, spans)  # which refuses it
    return JsonBody(raw=raw, size=len(raw), spans=spans, model=_value(raw[start:end]))


def read_json(raw: bytes) -> Generator[None, None, JsonBody]:
    """Read a JSON object, a long one in steps. Raises BadRequest for anything else."""
    raw = raw.removeprefix(_BYTE_ORDER_MARK)
    spans = _Spans(DECISIVE)
    try:
        if len(raw) > SHORT_BYTES:
            yield  # many such bodies at once take their turns
        if (members := members_at_once(raw)) is None:
            yield
            yield from long_members(raw, DECISIVE, spans.add)
        else:
            if not raw.isascii():
                yield from check_text(raw)
            spans.add_all(members)
    except NotJson:
        raise BadRequest(_NOT_AN_OBJECT) from None
    return _body(raw, spans.found)


def with_usage_asked(body: JsonBody) -> dict[str, str]:
    """The member that makes the backend report usage at the end of a stream, as JSON text."""
    options = body.stream_options
    if not (options and isinstance(options, dict)):
        return {"stream_options": _USAGE_ASKED}
    return {"stream_options": json.dumps({**options, "include_usage": True})}


def _body(raw: bytes, spans: Mapping[str, tuple[int, int]]) -> JsonBody:
    values = {name: raw[slice(*spans[name])] for name in spans.keys() & _DECIDING}
    if len(raw) > MAX_VALUE_BYTES:
        for name in DECISIVE:
            if len(values.get(name, b"")) > MAX_VALUE_BYTES:
                raise BadRequest(f"The request body's `{name}` is too long.")
    stream = values.get("stream", b"null")
    if stream not in _BOOLEANS:
        raise BadRequest("The request body's `stream` must be true or false.")
    options = values.get("stream_options")
    if options is not None and options[:1] == b"{":
        members = members_at_once(options) or list(islice(children(options, 0), MAX_REMEMBERED + 1))
        if len(members) > MAX_REMEMBERED:
            raise BadRequest("The request body's `stream_options` has too many members.")
        _Spans(("include_usage",)).add_all(members)
    previous = _value(values["previous_response_id"]) if "previous_response_id" in values else None
    return JsonBody(
        raw=raw,
        size=len(raw),
        spans=spans,
        model=_value(values.get("model")),
        is_streaming=_BOOLEANS[stream],
        stream_options=None if options is None else _value(options),
        background=_value(values["background"]) if "background" in values else None,
        previous_response_id=previous if isinstance(previous, str) else None,
    )


class _Spans(Struct):
    """Where each member's value stands."""

    decisive: tuple[str, ...]
    found: dict[str, tuple[int, int]] = field(default_factory=dict)

    def add(self, member: PlainMember) -> None:
        """Raises BadRequest for a second decisive one, or one in disguise."""
        name, start, end = member
        if name in self.decisive or not (name.islower() and name.isascii()):
            self._check(name)
        self.found[name] = start, end

    def _check(self, name: str) -> None:
        if name in self.found and name in self.decisive:
            raise BadRequest(f"The request body names `{name}` more than once; send it once.")
        if name not in self.decisive and _folded(name) in self.decisive:
            raise BadRequest(
                f"The request body names `{_folded(name)}` in other letters; send it once, in lower "
                "case."
            )

    def add_all(self, members: Iterable[PlainMember]) -> None:
        """Add one after the other."""
        for member in members:
            self.add(member)


def _folded(name: str) -> str:
    return name.translate(_FOLDED).lower()


def _whole_number(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def _value(text: bytes | None) -> object:
    if text is None or text == b"null":
        return None
    if text[:1] == b'"' and b"\\" not in text:  # as nearly all: the text is known to be JSON
        return text[1:-1].decode()
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if text.isdigit() and len(text) <= MAX_PLAIN_DIGITS:
        return int(text)
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise BadRequest(_NOT_AN_OBJECT) from None
