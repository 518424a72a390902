"""The members of a JSON object, found with one look at its top level.

msgspec checks the text in C and decodes the names alone: 0.3 to 0.8 ms per MiB of an ordinary body, a
tenth of what `scan.py` takes. It takes 8 ms where there is nothing but brackets: long ones of that kind are
left to the steps of `scan.py`. Apart from names, it accepts a part of what Python's `json` accepts, but for
two things that are looked for here or by the caller: numbers of too many digits, and bytes that are no
UTF-8. `scan.py` alone refuses a body.
"""

from typing import NamedTuple

from msgspec import DecodeError, Raw, Struct
from msgspec.json import Decoder

from meter.gateway.answer.reading.ordinary import has_long_number
from meter.patterns import lazy_pattern

MAX_AT_ONCE_BYTES = 2_097_152
MAX_FEW_BYTES = 65_536  # at most 11,000 members, which msgspec decodes in 2 ms
MAX_REMEMBERED = 200  # members; no API has as many
ALWAYS_AT_ONCE_BYTES = 524_288
MOST_BLANKS = 1_250_000  # what msgspec takes 5 ms for, where the machine is slow
MAX_SPARSE_BYTES = 131_072
MOST_COLONS = 7_000  # of a longer text that has no more than 11,000 members either
_STRIDE = 509  # a prime: what repeats is met at each of its places
_COMMA, _BRACKET = 2, 4  # in blanks: what they, and values around them, cost

_END = lazy_pattern(rb"[{ \t\n\r]*+}[ \t\n\r]*+")
_NAMED = lazy_pattern(rb'[{, \t\n\r]*+"(?:[^"\\]++|\\.)*+"[ \t\n\r]*+:[ \t\n\r]*+')


class NotJson(Exception):
    """The text is not a JSON object."""


class Member(NamedTuple):
    """A member of an object: its decoded name, and where its value begins and ends."""

    name: str
    start: int
    end: int


type PlainMember = tuple[str, int, int]
"""A `Member`, of which some are made for every call: a tuple without names takes a fifth of the time."""

type Spans = dict[str, tuple[int, int]]
"""Where the values of members begin and end, by the members' names."""


def members_at_once(raw: bytes) -> list[PlainMember] | None:
    """The members of an object, in order; None where `long_members` must look at the text.

    Whether strings are UTF-8 is not checked.
    """
    if len(raw) <= MAX_FEW_BYTES:
        few = few_at_once(raw)
        return None if few is None else [(name, *span) for name, span in few.items()]
    if len(raw) > MAX_AT_ONCE_BYTES or has_long_number(raw) or _is_dense(raw):
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


def is_sparse(raw: bytes) -> bool:
    """Whether a text longer than `MAX_FEW_BYTES` has no more members than one of that length may have.

    As a coding agent's first request, which is long. Each member has a colon, and these are told from a
    sample: of the 22,000 members that 131,072 bytes may have, which would take 4 ms, it meets some 43.
    """
    return len(raw) <= MAX_SPARSE_BYTES and _sample(raw).count(b":") * _STRIDE <= MOST_COLONS


def few_at_once(raw: bytes) -> Spans | None:
    """The members of an object that is short or sparse; None where a name is repeated, too, of which
    msgspec keeps one.

    Without a call of `_names` for each, which is a third of the work. Whether all members are found shows
    as they are followed through the text: each value stands where it should, and the object's end behind
    the last.
    """
    if has_long_number(raw):
        return None
    try:
        values = _DISTINCT.decode(raw)
    except (DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if len(values) > MAX_REMEMBERED:
        return None
    spans: Spans = {}
    at = 0
    for name, value in values.items():
        named = _NAMED.match(raw, at)
        if named is None or not raw.startswith(value, start := named.end()):
            return None
        at = start + len(value)
        spans[name] = start, at
    return spans if _END.fullmatch(raw, at) is not None else None


def _is_dense(raw: bytes) -> bool:
    """Whether blanks, commas and brackets would take msgspec more than 5 ms."""
    if len(raw) <= ALWAYS_AT_ONCE_BYTES:
        return False
    sample = _sample(raw)
    blanks = len(sample) - len(sample.translate(None, b" \t\r\n"))
    brackets = sample.count(b"[") + sample.count(b"{")
    found = blanks + _COMMA * sample.count(b",") + _BRACKET * brackets
    return found * _STRIDE > MOST_BLANKS


def _sample(raw: bytes) -> bytes:
    """Every 509th byte. Which is the first depends on the process's own secret, `hash`'s, so that no body
    can be laid around them.
    """
    return raw[hash(raw[:_STRIDE]) % _STRIDE :: _STRIDE]


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
_DISTINCT = Decoder(dict[str, Raw])
