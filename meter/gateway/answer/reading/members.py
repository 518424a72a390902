"""Picks a few members out of a JSON object, and counts its items, while its text passes.

Memory is bounded. Nesting is followed from the first byte, so nothing inside another member is taken
for one of these, whatever stands before or behind them and however long it is.
"""

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import cast

from msgspec import Struct

from meter.gateway.answer.reading.items import Items
from meter.patterns import lazy_pattern

MAX_VALUE_BYTES = 32_768  # as much as an event holds
MAX_NAME_BYTES = 256
MAX_DIGITS = 20
_PART_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class _Watch:
    """What is read of an object's members: values to keep, objects to look into, lists to count.

    A list's watch is that of the objects in it.
    """

    kept: frozenset[bytes] = frozenset()
    objects: Mapping[bytes, "_Watch"] = field(default_factory=dict)
    lists: Mapping[bytes, "_Watch"] = field(default_factory=dict)
    names: frozenset[bytes] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", self.kept | self.objects.keys() | self.lists.keys())


_COUNTED = _Watch()
_ITEM = _Watch(
    frozenset({b"type", b"container_id", b"model"}),
    objects={b"action": _Watch(frozenset({b"type"}))},
)
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
        b"service_tier",
        b"status",
        b"tool_usage",
        b"type",
        b"usage",
    }
)
_LISTS = {b"data": _COUNTED, b"output": _ITEM, b"tools": _ITEM}
_RESPONSE = _Watch(_KEPT, lists=_LISTS)
_ROOT = _Watch(_KEPT, objects={b"response": _RESPONSE}, lists=_LISTS)


class _Place(Struct):
    """An open object or list that is looked into. `level` is that of its members or items."""

    level: int
    watch: _Watch
    into: dict[str, object]
    items: Items | None = None  # of a list; of an object in a list, those that it is one of
    is_list: bool = False


# Every alternative begins with a literal: the search then skips all other bytes at C speed. A string
# ends the text where its closing quote is still to come; a name is followed by a colon.
_TOKEN = lazy_pattern(
    rb'"((?:[^"\\]++|\\.)*+)(?:"[ \t\r\n]*+(:)?|(\\?)\Z)|\{|\}|\[|\]',
    re.DOTALL,
)
_REST_OF_STRING = lazy_pattern(rb'(?:[^"\\]++|\\.)*+(?:(")|(\\?)\Z)', re.DOTALL)
_CLOSED, _NAMED = 1, 2  # the last group of a string that no colon follows, and of one before it
_OPENING = b"{["
_SPACE = b" \t\r\n"


class MemberReader(Struct):
    """Reads one JSON object from pieces of its text; a text of another kind has no members.

    `members` are the values that are kept, `lists` the items of the object's lists and, under
    `response`, of those in its response. A value that is longer than `MAX_VALUE_BYTES` is left out.
    Bytes outside of strings that are no JSON, such as the field names of event frames, are ignored.
    """

    members: dict[str, object] = {}
    lists: dict[str, object] = {}
    _text: bytes = b""  # what is not read yet, or belongs to the value that is being read
    _at: int = 0  # where in it to go on
    _level: int = 0
    _places: list[_Place] = []
    _is_in_string: bool = False  # a long one, of which nothing is kept
    _is_escaped: bool = False
    _name: bytes | None = None  # of the member whose value is being read
    _value_at: int = 0
    _value_level: int = 0

    def __post_init__(self) -> None:
        self._places.append(_Place(1, _ROOT, self.members))

    @property
    def document(self) -> dict[str, object]:
        """The members, and each list's `Items` in its place."""
        response, lists = self.members.get("response"), dict(self.lists)
        inside = lists.pop("response", {})
        document = {**self.members, **lists}
        if isinstance(response, dict):
            document["response"] = {**response, **cast(dict[str, object], inside)}
        return document

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
            if self._name is None and self._level > self._places[-1].level:  # most of a long text
                if token.lastindex is None:
                    self._level += 1 if self._text[end - 1] in _OPENING else -1
                    continue
                if token.lastindex == _NAMED or (
                    token.lastindex == _CLOSED and end < len(self._text)
                ):
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
                self._open(token[0])
            case b"}" | b"]":
                self._close(token.end())
            case _ if token[2]:
                self._begin(token[1], token.end())

    def _begin(self, name: bytes, value_at: int) -> None:
        place = self._places[-1]
        if self._level == place.level and name in place.watch.names and not place.is_list:
            self._name, self._value_at, self._value_level = name, value_at, self._level

    def _open(self, bracket: bytes) -> None:
        place = self._places[-1]
        if self._level == place.level and self._name is None:
            self._open_item(place, bracket)
        elif self._level == place.level and self._name is not None:
            self._open_member(place, self._name, bracket)
        self._level += 1

    def _open_item(self, place: _Place, bracket: bytes) -> None:
        if place.is_list and place.items is not None and bracket == b"{":
            place.items.count += 1
            if place.watch.names:
                item = _Place(self._level + 1, place.watch, {}, place.items)
                self._places.append(item)

    def _open_member(self, place: _Place, name: bytes, bracket: bytes) -> None:
        if bracket == b"{" and (watch := place.watch.objects.get(name)):
            into: dict[str, object] = {}
            place.into[name.decode()] = into
            if len(self._places) == 1:
                self.lists.pop(name.decode(), None)
            self._places.append(_Place(self._level + 1, watch, into))
            self._name = None
        elif bracket == b"[" and (watch := place.watch.lists.get(name)) is not None:
            items = Items()
            self._lists()[name.decode()] = items
            self._places.append(_Place(self._level + 1, watch, {}, items, is_list=True))
            self._name = None

    def _lists(self) -> dict[str, object]:
        """Where to put the items of the innermost object's lists."""
        if len(self._places) == 1:
            return self.lists
        return cast(dict[str, object], self.lists.setdefault("response", {}))

    def _close(self, end: int) -> None:
        self._level -= 1
        place = self._places[-1]
        if place.level > self._level and len(self._places) > 1:
            self._places.pop()
            if place.is_list and place.items is not None:
                place.items.is_whole = True
            elif place.items is not None:
                place.items.add(place.into)
        if self._name is not None and self._level == self._value_level:
            self._keep(self._text[self._value_at : end])

    def _keep(self, value: bytes) -> None:
        name, self._name = self._name, None
        assert name is not None  # only called for a member
        place = self._places[-1]
        if name in place.watch.kept:
            place.into[name.decode()] = decoded_json(value)

    def _forget(self) -> None:
        """Keep only what is still needed of the text."""
        if self._name is not None and len(self._text) - self._value_at > MAX_VALUE_BYTES:
            self._name = None
        start = self._at if self._name is None else min(self._at, self._value_at)
        self._text = self._text[start:]
        self._at -= start
        self._value_at -= start


def read_members(text: bytes) -> Mapping[str, object]:
    """The members and lists of a JSON object too long to parse, whole or cut off."""
    reader = MemberReader()
    for start in range(0, len(text), _PART_BYTES):
        reader.feed(text[start : start + _PART_BYTES])
    return reader.document


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
