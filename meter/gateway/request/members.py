"""The members of a JSON object, found with one look at its top level.

msgspec checks the text in C and decodes the names alone: 0.3 to 0.8 ms per MiB of an ordinary body, a
tenth of what `scan.py` takes, and 8 ms of one built to be slow. Apart from names, it accepts a part of what
Python's `json` accepts, but for two things that are looked for here or by the caller: numbers of too many
digits, and bytes that are no UTF-8. `scan.py` alone refuses a body.
"""

import re
from typing import NamedTuple

from msgspec import DecodeError, Raw, Struct
from msgspec.json import Decoder

from meter.gateway.answer.reading.ordinary import has_long_number

MAX_AT_ONCE_BYTES = 2_097_152
MAX_REMEMBERED = 200  # members; no API has as many

_NAMED = re.compile(rb'[{, \t\n\r]*+"(?:[^"\\]++|\\.)*+"[ \t\n\r]*+:[ \t\n\r]*+')


class NotJson(Exception):
    """The text is not a JSON object."""


class Member(NamedTuple):
    """A member of an object: its decoded name, and where its value begins and ends."""

    name: str
    start: int
    end: int


type PlainMember = tuple[str, int, int]
"""A `Member`, of which some are made for every call: a tuple without names takes a fifth of the time."""


def members_at_once(raw: bytes) -> list[PlainMember] | None:
    """The members of an object, in order; None where `long_members` must look at the text.

    Whether strings are UTF-8 is not checked.
    """
    if len(raw) > MAX_AT_ONCE_BYTES or has_long_number(raw):
        return None
    _names.left = MAX_REMEMBERED
    try:
        values = _TOP_LEVEL.decode(raw)
    except (DecodeError, UnicodeDecodeError, RecursionError, _TooManyMembers):
        return None
    found: list[PlainMember] = []
    at = 0
    for name, value in values.items():
        named = _NAMED.match(raw, at)
        assert named is not None  # the text is JSON
        start = named.end()
        at = start + len(value)
        found.append((name.text, start, at))
    return found


class _TooManyMembers(Exception):
    """The object has more members than are remembered."""


class _Name:  # no dataclass: msgspec would read one from an object
    """A key of an object; no two are equal, so that repeated ones are all found."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


class _Names(Struct):
    """Makes the keys of one object after the other, until there are too many: each takes a while."""

    left: int = 0

    def __call__(self, _kind: type, text: str) -> _Name:
        if not self.left:
            raise _TooManyMembers
        self.left -= 1
        return _Name(text)


_names = _Names()
_TOP_LEVEL = Decoder(dict[_Name, Raw], dec_hook=_names)
