"""Recognises reasoning items by a digest of their encrypted content, which only its maker can read.

With `store: false` a client keeps what the model thought itself, as `encrypted_content` of items
that it sends back with its next call. Another account refuses them with 400. Items are found in the
JSON text as it is: quotation marks inside strings are escaped, so every match is a member. The
content is never kept.
"""

import json
from collections.abc import Iterator
from hashlib import blake2b

from msgspec import Struct

from meter.patterns import lazy_pattern

MOST_ITEMS = 16
MOST_TRIED = 256  # matches that are looked at, of members without such a value too
MOST_HELD_BYTES = 262_144

_KEY = b'"encrypted_content"'
_VALUE = lazy_pattern(rb'[ \t\r\n]*+:[ \t\r\n]*+"')
_UNFINISHED = lazy_pattern(rb"[ \t\r\n]*+(?::[ \t\r\n]*+)?")
_MIN_CONTENT_BYTES = 16
_DIGESTED_BYTES = 4_096  # its end is as random as all of it


def reasoning_items(text: bytes) -> tuple[str, ...]:
    """The digests of the latest reasoning items of a JSON text, the last one first.

    Linear in the text's length, and no more than `MOST_ITEMS` are read: they tell the maker.
    """
    found: list[str] = []
    end = len(text)
    for _ in range(MOST_TRIED):
        at = text.rfind(_KEY, 0, end)
        if at < 0 or len(found) == MOST_ITEMS:
            break
        if (value := _VALUE.match(text, at + len(_KEY))) and (
            item := _digest_at(text, value.end(), end)
        ):
            found.append(item)
        end = at
    return tuple(found)


def refuses_reasoning(refusal: bytes) -> bool:
    """Whether a 400 says that the backend cannot read a reasoning item.

    Its code is `invalid_encrypted_content`, or null beside a message of the same meaning.
    """
    is_named = b"ncrypted content" in refusal
    return b"invalid_encrypted_content" in refusal or (
        is_named and (b"verified" in refusal or b"decrypted" in refusal)
    )


class ReasoningFinder(Struct):
    """Finds the reasoning items of a text that arrives in parts, such as an event stream."""

    _held: bytes = b""

    def feed(self, part: bytes) -> Iterator[str]:
        """The digests of the items that are whole with this part."""
        text, at = self._held + part, 0
        while (found := text.find(_KEY, at)) >= 0:
            at = found + len(_KEY)
            value = _VALUE.match(text, at)
            is_cut = (
                _UNFINISHED.fullmatch(text, at) is not None
                if value is None
                else text.find(b'"', value.end()) < 0
            )
            if is_cut:
                self._held = text[found:] if len(text) - found <= MOST_HELD_BYTES else b""
                return
            if value is not None and (item := _digest_at(text, value.end(), len(text))):
                yield item
        self._held = text[at:][1 - len(_KEY) :]


def _digest_at(text: bytes, start: int, end: int) -> str | None:
    close = text.find(b'"', start, end)
    if close - start < _MIN_CONTENT_BYTES:
        return None
    content = text[start:close]
    if b"\\" in content:
        try:
            content = json.loads(b'"%b"' % content).encode()
        except ValueError:
            return None  # a backslash before the quotation mark: this is no encrypted content
    size = len(content).to_bytes(8)
    return blake2b(content[-_DIGESTED_BYTES:], digest_size=16, salt=size).hexdigest()
