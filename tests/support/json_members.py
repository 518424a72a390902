"""Where the members of a JSON object stand, found slowly by the scanner of Python's own `json`."""

import json
import re
from json.decoder import scanstring  # type: ignore[attr-defined]  # in the module, not in typeshed

from meter.gateway.request.members import Member, NotJson

_scan_once = json.JSONDecoder().scan_once  # type: ignore[attr-defined]  # as `scanstring`
_OPENING = re.compile(r"[ \t\n\r]*\{[ \t\n\r]*(?=([}\"]))")
_NAME = re.compile(r'[ \t\n\r]*"')
_COLON = re.compile(r"[ \t\n\r]*:[ \t\n\r]*")
_BEHIND = re.compile(r"[ \t\n\r]*([,}])")


def members_of(raw: bytes) -> list[Member]:
    """The members of an object, in order. Raises NotJson."""
    try:
        text = raw.decode()
        json.loads(text)
        found = list(_members_of(text))
    except (ValueError, RecursionError):
        raise NotJson from None
    return [
        Member(name, *(len(text[:place].encode()) for place in places)) for name, *places in found
    ]


def _members_of(text: str) -> list[tuple[str, int, int]]:
    found: list[tuple[str, int, int]] = []
    opening = _OPENING.match(text)
    if opening is None:
        raise NotJson
    at, is_over = opening.end(), opening[1] == "}"
    while not is_over:
        quote = _NAME.match(text, at)
        assert quote is not None
        name, at = scanstring(text, quote.end(), True)
        colon = _COLON.match(text, at)
        assert colon is not None
        _, end = _scan_once(text, colon.end())
        found.append((name, colon.end(), end))
        behind = _BEHIND.match(text, end)
        assert behind is not None
        at, is_over = behind.end(), behind[1] == "}"
    return found
