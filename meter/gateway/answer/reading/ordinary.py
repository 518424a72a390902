"""Reads the members that matter of an ordinary answer in one step, and checks all its text meanwhile.

msgspec reads JSON in C and skips what is not named here: most of an answer is text that nothing is read
of. It gives the same values as `decoded_json`, or none: what it does not take (NaN, lone surrogates, raw
control characters, bytes that are no UTF-8, lists of another kind) is read as before.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import DecodeError, Raw, Struct
from msgspec.json import Decoder
from msgspec.structs import asdict

from meter.gateway.answer.reading.items import Items
from meter.gateway.answer.reading.members import decoded_json

MAX_DIGITS = 4_300  # of an integer that Python converts
_STRIDE = 2_048  # so many digits follow some multiple of it in each number that is longer
_SAMPLE = 512  # likewise: 8 of its digits are at multiples of it
_DIGITS_AS_0 = bytes.maketrans(b"123456789", b"0" * 9)


class _Item(Struct, gc=False):
    """What is read of an object in a list."""

    type: Any = None
    action: Any = None
    container_id: Any = None
    model: Any = None


class Members(Struct, gc=False):
    """The members that are read of an answer: of `data` only its length, and `tools` where they were used."""

    usage: Any = None
    duration: Any = None
    output: Any = None
    tool_usage: Any = None
    service_tier: Any = None
    tools: Any = None
    data: Any = None
    model: Any = None
    id: Any = None
    created_at: Any = None
    background: Any = None
    object: Any = None
    status: Any = None

    @classmethod
    def of(cls, document: Mapping[str, object]) -> "Members":
        """Those of a JSON object, or of what `MemberReader` keeps of it."""
        return cls(*map(document.get, _NAMES))


_NAMES = Members.__struct_fields__


class _Ordinary(Members, gc=False):
    """Members of the kinds that they nearly always are of."""

    output: list[_Item | list[Raw] | str | int | float | bool | None] | None = None
    tools: Raw = Raw(b"null")
    data: list[Raw] | None = None


_ORDINARY = Decoder(_Ordinary)


def ordinary_members(text: bytes) -> Members | None:
    """The members of an answer; None where it is not plain."""
    if has_long_number(text):
        return None
    try:
        members: Members = _ORDINARY.decode(text)
    except (DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if members.output is not None:
        members.output = _items(members.output)
    is_used = isinstance(members.tool_usage, dict)
    members.tools = decoded_json(bytes(members.tools)) if is_used else None
    return members


def has_long_number(text: bytes) -> bool:
    """Whether an integer may have more digits than Python converts; a string of digits looks alike.

    Of a megabyte of ordinary text two kilobytes are looked at: 10 us in place of 140.
    """
    if len(text) <= MAX_DIGITS or b"0" * 8 not in text[::_SAMPLE].translate(_DIGITS_AS_0):
        return False
    return any(
        text[at : at + 16].isdigit() and text[at : at + _STRIDE].isdigit()
        for at in range(0, len(text), _STRIDE)
    )


def _items(listed: Sequence[object]) -> Items:
    """The items of a list, as `Items.of` reads them."""
    items = Items(is_whole=True)
    for item in listed:
        if isinstance(item, _Item):
            items.count += 1
            items.add(asdict(item))
    return items
