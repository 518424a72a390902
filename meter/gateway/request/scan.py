"""Finds the members of a JSON object of any length in its bytes, in steps.

`json.loads` of a hostile body of 31 MiB holds up all calls for seconds and takes thirty times its
memory. A body that is long, or has many members, is scanned instead: expressions skip runs of shallow
values, a stack of brackets the deep ones. A step takes some milliseconds, and all of them are linear in
the body: no expression goes back, and none reads more than a window. `members.py` accepts the same
texts: RFC 8259's, and `NaN` and `Infinity`, as `json.loads` does.
"""

import json
import re
from codecs import getincrementaldecoder
from collections.abc import Callable, Generator, Iterator
from enum import Enum, auto
from functools import cache
from json.decoder import scanstring  # type: ignore[attr-defined]  # in the module, not in typeshed

from msgspec import Struct, field

from meter.gateway.request.members import MAX_REMEMBERED, Member, NotJson
from meter.patterns import lazy_pattern

MAX_DEPTH = 9_950  # what `json.loads` takes, with some room
VIEW_BYTES = 32_768  # what one expression reads; a number has at most half as many digits
_STEP_BYTES = 32_768
_STEP_TOKENS = 400
_STEP_VALUES = 3_000  # of those that expressions skip
_RUN_BYTES = 8_192  # of them, before they are counted
_TEXT_BYTES = 262_144  # of plain text, which is quick
_TRIES_PER_VIEW = 16  # to read whole a container that may be too long for it

_scan_once = json.JSONDecoder().scan_once  # type: ignore[attr-defined]  # as `scanstring`
_WS = rb"[ \t\n\r]*+"
_PLAIN = rb'[^"\\\x00-\x1f]*+'
_ESCAPE = rb'\\(?:["\\/bfnrt]|u[0-9A-Fa-f]{4})'
_STRING = rb'"%b(?:%b%b)*+"' % (_PLAIN, _ESCAPE, _PLAIN)
_ATOM = (  # `json` converts integers of at most 4,300 digits
    rb"-?+(?:0|[1-9][0-9]{0,4299}+)(?:\.[0-9]++)?+(?:[eE][+-]?+[0-9]++)?+"
    rb"|true|false|null|NaN|-?Infinity"
)
_NAME = _STRING + _WS + rb":" + _WS


def _container(opening: bytes, item: bytes, closing: bytes) -> bytes:
    """A whole object or array: after a comma no end, after no comma nothing else."""
    parts = (opening, _WS, item, _WS, _WS, closing, closing, closing)
    return rb"%b%b(?:%b%b(?:,%b(?!%b)|(?=%b)))*+%b" % parts


_SCALAR = rb"(?:%b|%b)" % (_STRING, _ATOM)
# Objects and arrays of scalars; an expression for more levels would take too long to compile.
_FLAT = rb"(?:%b|%b|%b|%b)" % (
    _STRING,
    _container(rb"\{", _NAME + _SCALAR, rb"\}"),
    _container(rb"\[", _SCALAR, rb"\]"),
    _ATOM,
)
# What is between a value and the next one that shows where it ends, in a text read as Latin-1.
_ITEM_NEXT = lazy_pattern((_WS + rb"," + _WS + rb'(?=[\[{"])').decode())
_MEMBER_NEXT = lazy_pattern((_WS + rb"," + _WS + _NAME + rb'(?=[\[{"])').decode())
_SPACES = lazy_pattern(_WS)
_TEXT = lazy_pattern(_PLAIN + rb"(?:" + _ESCAPE + _PLAIN + rb")*+")
_CONTROLS = bytes(range(32))
# Letters of other alphabets that are the same but for their case (Unicode's simple case folding).
_SAME_BUT_FOR_CASE = {"s": "\u017f", "k": "\u212a", "i": "\u0131"}

_QUOTE, _COMMA, _COLON, _OBJECT, _ARRAY = b'",:{['
_SPACE = b" \t\n\r"
_CLOSING = {_OBJECT: ord("}"), _ARRAY: ord("]")}


def long_members(
    raw: bytes,
    watched: tuple[str, ...],
    take: Callable[[Member], None],
    *,
    view_bytes: int = VIEW_BYTES,
    most_taken: int = MAX_REMEMBERED,
) -> Generator[None]:
    """Give `take` the members of an object of any length, in steps. Raises NotJson.

    Of more than `most_taken` only those whose names are `watched`, in any case and spelling.
    """
    yield from check_text(raw)
    scan = _Scan(raw, most_taken, _others(watched), take, view_bytes=view_bytes)
    while not scan.is_over:
        scan.step()
        if scan.kind == _ARRAY:
            raise NotJson
        yield
    while scan.at < len(raw):
        if raw[scan.at] not in _SPACE:
            raise NotJson
        scan.skip_space()
        yield


def children(raw: bytes, start: int) -> Iterator[Member]:
    """The members of the object, or the items of the array, that begins there; items have no name.

    The text must have been found to be JSON.
    """
    found: list[Member] = []
    scan = _Scan(raw, len(raw), _others(()), found.append, at=start)
    while not scan.is_over:
        scan.step()
        yield from found
        found.clear()


def check_text(raw: bytes) -> Generator[None]:
    """Raise NotJson where the text is no UTF-8; a long text is read in steps."""
    decoder = getincrementaldecoder("utf-8")()
    try:
        for at in range(0, len(raw), _TEXT_BYTES):
            if at:
                yield
            decoder.decode(raw[at : at + _TEXT_BYTES])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        raise NotJson from None


def _run(item: bytes) -> re.Pattern[bytes]:
    """Items in a row, each with the comma behind it, or before the end of what holds them."""
    return lazy_pattern(rb"(?:" + _WS + item + _WS + rb"(?:,|(?=[\]}])))*+")


_ITEMS_RUN = _run(_FLAT)
_MEMBERS_RUN = _run(_NAME + _FLAT)


class _Others(Struct, frozen=True):
    """Expressions for members with other names than those watched, in any case and spelling."""

    run: re.Pattern[bytes]
    next: re.Pattern[str]  # as `_MEMBER_NEXT`
    name: re.Pattern[bytes]


@cache
def _others(watched: tuple[str, ...]) -> _Others:
    names = b"|".join(b"".join(map(_any_case, name)) for name in watched)
    other = rb'(?!"(?:' + names + rb')")' if watched else b""
    following = _WS + rb"," + _WS + other + _NAME + rb'(?=[\[{"])'
    return _Others(
        run=_run(other + _NAME + _FLAT),
        next=re.compile(following.decode("latin-1")),
        name=re.compile(other + rb'"'),
    )


def _any_case(letter: str) -> bytes:
    """An expression for a letter as JSON may spell it."""
    variants = {letter.lower(), letter.upper(), _SAME_BUT_FOR_CASE.get(letter, letter)}
    spelt = [
        text
        for each in sorted(variants)
        for text in (re.escape(each.encode()), rb"\\u" + _hexadecimal(each))
    ]
    return rb"(?:" + rb"|".join(spelt) + rb")"


def _hexadecimal(letter: str) -> bytes:
    digits = f"{ord(letter):04x}"
    return "".join(f"[{d}{d.upper()}]" if d.isalpha() else d for d in digits).encode()


class _Due(Enum):
    """What may follow in the innermost bracket."""

    ITEM_OR_END = auto()
    ITEM = auto()
    COLON = auto()
    VALUE = auto()
    COMMA_OR_END = auto()


class _Scan(Struct):
    """A pass over one object or array, of the given kind, that begins at `at`.

    `take` gets its members or items: beyond `most_taken`, those that are not of the `others`.
    """

    raw: bytes
    most_taken: int
    others: _Others
    take: Callable[[Member], None]
    at: int = 0
    view_bytes: int = VIEW_BYTES
    taken: int = 0
    kind: int | None = None
    is_over: bool = False
    _open: bytearray = field(default_factory=bytearray)  # the brackets around `at`
    _due: _Due = _Due.VALUE
    _is_in_string: bool = False
    _name: str | None = None
    _value_at: int = 0
    _text: str = ""
    _view_at: int = 0
    _skipped_values: int = 0  # in this step
    _retry_at: int = 0  # before it, a container is opened: the last one was too long to read whole

    def step(self) -> None:
        """Read on for some milliseconds. Raises NotJson."""
        most = self.at + _STEP_BYTES
        self._skipped_values = 0
        try:
            if self._is_in_string:
                self._go_on_in_string()
            for _ in range(_STEP_TOKENS):
                if self.is_over or self._is_in_string or self.at > most:
                    return
                if self._skipped_values > _STEP_VALUES:
                    return
                self._token()
        except IndexError:
            raise NotJson from None  # it ends too early

    def _token(self) -> None:
        self.skip_space()
        if self._due in _ITEMS:
            self._skip_run()
            self.skip_space()
        byte, due = self.raw[self.at], self._due
        if byte in _SPACE:
            return  # there is more of it than one step skips
        if due is _Due.COLON or (due is _Due.COMMA_OR_END and byte == _COMMA):
            self._take(byte)
        elif due in _ENDS and byte == _CLOSING[self._open[-1]]:
            self._close()
        elif due is _Due.VALUE or (due in _ITEMS and self._open[-1] == _ARRAY):
            self._take_value(byte)
        elif due in _ITEMS and byte == _QUOTE:
            self._take_name()
        else:
            raise NotJson

    def skip_space(self) -> None:
        """Go on to what is no space, or a part of the way."""
        match = _SPACES.match(self.raw, self.at, self.at + _TEXT_BYTES)
        self.at = self.at if match is None else match.end()

    def _skip_run(self) -> None:
        is_top = len(self._open) == 1
        if is_top and self.taken < self.most_taken:
            return
        run = _MEMBERS_RUN if self._open[-1] == _OBJECT else _ITEMS_RUN
        run = self.others.run if is_top else run
        match = run.match(self.raw, self.at, self.at + min(self.view_bytes, _RUN_BYTES))
        if match is not None and match.end() > self.at:
            self._skipped_values += self.raw.count(b",", self.at, match.end())
            self.at = match.end()
            is_item_due = self.raw[self.at - 1] == _COMMA
            self._due = _Due.ITEM if is_item_due else _Due.COMMA_OR_END

    def _take(self, byte: int) -> None:
        """A comma or a colon."""
        if byte != (_COLON if self._due is _Due.COLON else _COMMA):
            raise NotJson
        self._due = _Due.VALUE if byte == _COLON else _Due.ITEM
        self.at += 1

    def _take_value(self, byte: int) -> None:
        if len(self._open) == 1:
            self._value_at = self.at
        is_container = byte in _CLOSING
        if self._open and not (is_container and self.at < self._retry_at):
            text, starts_at = self._view()
            try:
                _, end = _scan_once(text, self.at - starts_at)
            except (ValueError, StopIteration, RecursionError):
                if is_container:
                    self._retry_at = self.at + self.view_bytes // _TRIES_PER_VIEW
            else:
                self.at = starts_at + (end if self._is_taken else self._run_on(text, end))
                self._end_value()
                return
        if is_container and len(self._open) < MAX_DEPTH:
            self._begin_container(byte)
        elif byte == _QUOTE and self._open:
            self._begin_string(_Due.COMMA_OR_END)
        else:
            raise NotJson

    def _run_on(self, text: str, end: int) -> int:
        """Where the last of the whole values that follow ends: nested ones would be slow singly."""
        between = _MEMBER_NEXT if self._open[-1] == _OBJECT else _ITEM_NEXT
        between = self.others.next if len(self._open) == 1 else between
        most, begun = end + _RUN_BYTES, end
        try:
            while end < most and (behind := between.match(text, end)) is not None:
                _, end = _scan_once(text, behind.end())
        except (ValueError, StopIteration, RecursionError):
            pass  # it is too long to be read whole here, or wrong
        self._skipped_values += text.count(",", begun, end)
        return end

    def _begin_container(self, byte: int) -> None:
        if not self._open:
            self.kind, self._name = byte, "" if byte == _ARRAY else None
        self._open.append(byte)
        self._due = _Due.ITEM_OR_END
        self.at += 1

    def _take_name(self) -> None:
        text, starts_at = self._view()
        is_top = len(self._open) == 1
        is_other = self.taken >= self.most_taken and self.others.name.match(self.raw, self.at)
        try:
            name, end = scanstring(text, self.at - starts_at + 1, True)
        except ValueError:
            if is_top:
                self._name = None if is_other else ""  # too long to matter
            self._begin_string(_Due.COLON)
            return
        end += starts_at
        if is_top and is_other:
            self._name = None
        elif is_top:
            self._name = name if name.isascii() else json.loads(self.raw[self.at : end])
        self.at, self._due = end, _Due.COLON

    @property
    def _is_taken(self) -> bool:
        """Whether `take` gets the value that stands here."""
        return len(self._open) == 1 and self._name is not None

    def _view(self) -> tuple[str, int]:
        """The text around `at`, of which at least half follows it, and where it starts.

        Read as Latin-1, a text has the same syntax, and a character for each byte.
        """
        if self.at >= self._view_at + self.view_bytes // 2 or not self._text:
            self._view_at = self.at
            self._text = self.raw[self.at : self.at + self.view_bytes].decode("latin-1")
        return self._text, self._view_at

    def _begin_string(self, then: _Due) -> None:
        self._is_in_string, self._due = True, then
        self.at += 1

    def _go_on_in_string(self) -> None:
        raw, starts_at = self.raw, self.at
        quote_at = raw.find(_QUOTE, starts_at, starts_at + _TEXT_BYTES)
        part = raw[starts_at : starts_at + _TEXT_BYTES if quote_at < 0 else quote_at]
        if b"\\" not in part:
            if len(part.translate(None, _CONTROLS)) < len(part):
                raise NotJson
            self.at += len(part)
        else:
            match = _TEXT.match(raw, starts_at, starts_at + self.view_bytes)
            self.at = starts_at if match is None else match.end()
        if raw[self.at] == _QUOTE:
            self.at += 1
            self._is_in_string = False
            if self._due is _Due.COMMA_OR_END:
                self._end_value()
        elif self.at == starts_at:
            raise NotJson

    def _close(self) -> None:
        self._open.pop()
        self.at += 1
        self._due = _Due.COMMA_OR_END
        self.is_over = not self._open
        self._end_value()

    def _end_value(self) -> None:
        self._due = _Due.COMMA_OR_END
        if len(self._open) == 1 and self._name is not None:
            self.taken += 1
            self.take(Member(self._name, self._value_at, self.at))


_ITEMS = frozenset({_Due.ITEM_OR_END, _Due.ITEM})
_ENDS = frozenset({_Due.ITEM_OR_END, _Due.COMMA_OR_END})
