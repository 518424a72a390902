"""Picks a few members out of a JSON object while its text passes, in bounded memory.

Nesting is followed from the first byte, so nothing inside another member is taken for one of these,
whatever stands before or behind them and however long it is.
"""

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import cast

MAX_VALUE_BYTES = 32_768  # as much as an event holds
MAX_NAME_BYTES = 256
MAX_DIGITS = 20
_PART_BYTES = 65_536

# What is kept of the object itself and of the object in its member `response`.
_KEPT = frozenset(
    {
        b"background",
        b"created_at",
        b"duration",
        b"error",
        b"id",
        b"model",
        b"object",
        b"sequence_number",
        b"status",
        b"type",
        b"usage",
    }
)
_CONTAINER = b"response"

# Every alternative begins with a literal: the search then skips all other bytes at C speed. A string
# ends the text where its closing quote is still to come; a name is followed by a colon.
_TOKEN = re.compile(
    rb'"((?:[^"\\]++|\\.)*+)(?:"[ \t\r\n]*+(:)?|(\\?)\Z)|\{|\}|\[|\]',
    re.DOTALL,
)
_REST_OF_STRING = re.compile(rb'(?:[^"\\]++|\\.)*+(?:(")|(\\?)\Z)', re.DOTALL)
_CLOSED = 1  # the last group of a string that no colon follows
_OPENING = b"{["
_SPACE = b" \t\r\n"


@dataclass(slots=True)
class MemberReader:
    """Reads one JSON object from pieces of its text; a text of another kind has no members.

    A value that is longer than `MAX_VALUE_BYTES` is left out. Bytes outside of strings that are no
    JSON, such as the field names of event frames, are ignored.
    """

    members: dict[str, object] = field(default_factory=dict)
    _text: bytes = b""  # what is not read yet, or belongs to the value that is being read
    _at: int = 0  # where in it to go on
    _level: int = 0
    _is_in_container: bool = False
    _is_in_string: bool = False  # a long one, of which nothing is kept
    _is_escaped: bool = False
    _name: bytes | None = None  # of the member whose value is being read
    _value_at: int = 0
    _value_level: int = 0

    @property
    def is_in_object(self) -> bool:
        """Whether the object has not come to its end."""
        return self._level > 0

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the text."""
        if self._is_in_string:
            data = self._after_string(data)
        if not data:
            return
        self._text += data
        for token in _TOKEN.finditer(self._text, self._at):
            self._at = end = token.end()
            if self._name is None and self._level > 2:  # most of a long text: only count levels
                if token.lastindex is None:
                    self._level += 1 if self._text[end - 1] in _OPENING else -1
                    continue
                if token.lastindex == _CLOSED and end < len(self._text):
                    continue
            if token[3] is not None or (token.lastindex == _CLOSED and end == len(self._text)):
                self._wait(token)  # its end, or a colon, may follow
                break
            self._take(token)
        else:
            self._at = len(self._text)
        self._forget()

    def _wait(self, token: re.Match[bytes]) -> None:
        """Stop before an unfinished string, or skip it where it is too long to be a name."""
        is_short = token.end() - token.start() <= MAX_NAME_BYTES
        if is_short or self._name is not None or token[3] is None:
            self._at = token.start()
            return
        self._is_in_string, self._is_escaped = True, token[3] != b""

    def _after_string(self, data: bytes) -> bytes:
        """What follows the long string that the data begins in."""
        if self._is_escaped:
            data, self._is_escaped = data[1:], False
        if b"\\" not in data:  # an image, most likely: found at the speed of memory
            _, quote, after = data.partition(b'"')
            self._is_in_string = not quote
            return after
        rest = _REST_OF_STRING.match(data)
        assert rest is not None  # it matches anything
        self._is_in_string = rest[1] is None
        self._is_escaped = bool(rest[2])
        return data[rest.end() :]

    def _take(self, token: re.Match[bytes]) -> None:
        if self._name is not None and self._value_level == self._level:
            before = self._text[self._value_at : token.start()].strip(_SPACE)
            if before:  # a number, true, false or null
                self._keep(before.rstrip(b"," + _SPACE))
            elif token[1] is not None:
                self._keep(self._text[self._value_at : token.end()])
                return
        match token[0]:
            case b"{" | b"[":
                self._open()
            case b"}" | b"]":
                self._close(token.end())
            case _ if token[2]:
                self._begin(token[1], token.end())

    def _begin(self, name: bytes, value_at: int) -> None:
        is_ours = self._level == 1 or (self._level == 2 and self._is_in_container)
        if is_ours and (name in _KEPT or (self._level == 1 and name == _CONTAINER)):
            self._name, self._value_at, self._value_level = name, value_at, self._level

    def _open(self) -> None:
        if self._name == _CONTAINER and self._level == 1:
            self._name, self._is_in_container = None, True
            self.members[_CONTAINER.decode()] = {}
        self._level += 1

    def _close(self, end: int) -> None:
        self._level -= 1
        if self._level < 2:
            self._is_in_container = False
        if self._name is not None and self._level == self._value_level:
            self._keep(self._text[self._value_at : end])

    def _keep(self, value: bytes) -> None:
        name, self._name = self._name, None
        assert name is not None  # only called for a member
        place = self.members
        if self._is_in_container:
            place = cast(dict[str, object], place[_CONTAINER.decode()])
        place[name.decode()] = decoded_json(value)

    def _forget(self) -> None:
        """Keep only what is still needed of the text."""
        if self._name is not None and len(self._text) - self._value_at > MAX_VALUE_BYTES:
            self._name = None
        start = self._at if self._name is None else min(self._at, self._value_at)
        self._text = self._text[start:]
        self._at -= start
        self._value_at -= start


def read_members(text: bytes) -> Mapping[str, object]:
    """The members of a JSON object too long to parse, whole or cut off."""
    reader = MemberReader()
    for start in range(0, len(text), _PART_BYTES):
        reader.feed(text[start : start + _PART_BYTES])
    return reader.members


def decoded_json(text: bytes) -> object:
    """The JSON value, also where its strings hold bytes that are no UTF-8; None for other text."""
    readable = text.decode(json.detect_encoding(text), "replace")
    for decoder in (_DECODER, _LENIENT_DECODER):
        with suppress(ValueError, RecursionError):
            return cast(object, decoder.decode(readable))
    return None


def _whole_number(text: str) -> int | float:
    """Numbers longer than Python converts become floats, which no count accepts."""
    return int(text) if len(text) <= MAX_DIGITS else float(text)


_DECODER = json.JSONDecoder(strict=False)  # a raw control character in a text spoils no count
_LENIENT_DECODER = json.JSONDecoder(strict=False, parse_int=_whole_number)
