"""The members of a JSON object that is short and has few, found at once in its bytes."""

import json
import re
from collections.abc import Iterable, Iterator
from json.decoder import scanstring  # type: ignore[attr-defined]  # in the module, not in typeshed
from typing import NamedTuple

MAX_SHORT_BYTES = 131_072
MAX_REMEMBERED = 200  # members; no API has as many

_scan_once = json.JSONDecoder().scan_once  # type: ignore[attr-defined]  # as `scanstring`
_OPENING = re.compile(r"[ \t\n\r]*+\{[ \t\n\r]*+\}?+")
_NAMED = re.compile(r'"((?:[^"\\\x00-\x1f]++|\\.)*+)"[ \t\n\r]*+:[ \t\n\r]*+')
_BEHIND = re.compile(r"[ \t\n\r]*+(?:,[ \t\n\r]*+|(\}))")


class NotJson(Exception):
    """The text is not a JSON object."""


class TooManyMembers(Exception):
    """The object has more members than can be found at once."""


class Member(NamedTuple):
    """A member of an object: its decoded name, and where its value begins and ends."""

    name: str
    start: int
    end: int


def short_members(raw: bytes) -> list[Member]:
    """The members of an object, in order. For up to `MAX_SHORT_BYTES`.

    Raises NotJson, or TooManyMembers for more than `MAX_REMEMBERED`.
    """
    try:
        text = raw.decode()
        found = _members_of(text)
    except (ValueError, IndexError, StopIteration, RecursionError):
        raise NotJson from None
    return found if len(text) == len(raw) else list(_in_bytes(text, found))


def _in_bytes(text: str, members: Iterable[Member]) -> Iterator[Member]:
    at = byte = 0
    for name, start, end in members:
        starts_at = byte + len(text[at:start].encode())
        at, byte = end, starts_at + len(text[start:end].encode())
        yield Member(name, starts_at, byte)


def _members_of(text: str) -> list[Member]:
    found: list[Member] = []
    opening = _OPENING.match(text)
    at = -1 if opening is None else opening.end()
    is_over = at > 0 and text[at - 1] == "}"
    while not is_over:
        named = _NAMED.match(text, at) if at > 0 else None
        if named is None:
            raise NotJson
        name, starts_at = named[1], named.end()
        if "\\" in name:
            name, _ = scanstring(text, at + 1, True)
        _, end = _scan_once(text, starts_at)
        if len(found) == MAX_REMEMBERED:
            raise TooManyMembers
        found.append(Member(name, starts_at, end))
        behind = _BEHIND.match(text, end)
        if behind is None:
            raise NotJson
        at, is_over = behind.end(), behind[1] == "}"
    if text[at:].strip(" \t\n\r"):
        raise NotJson
    return found
