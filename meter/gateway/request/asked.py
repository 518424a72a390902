"""Counts what a request asks for where Azure bills by that: images, and the characters of speech.

Answers of DALL-E and of `tts` report no tokens. What is counted instead is known for certain, so the
call is `reported`.
"""

import asyncio
import re
from collections.abc import Iterator

from msgspec import Struct

from meter.gateway.answer.reading.counts import Output, count_of
from meter.gateway.request.body import JsonBody
from meter.gateway.request.operations import Served
from meter.gateway.request.prepare import Payload
from meter.patterns import lazy_pattern

MOST_AT_ONCE = 65_536

# A piece of a JSON string without escapes, or one character that is escaped: also one beyond U+FFFF,
# which is a pair of them.
_PIECE = lazy_pattern(rb"[^\\]{1,65536}+|\\u[dD][89abAB]..\\u[dD][c-fC-F]..|\\u....|\\.", re.DOTALL)
_CONTINUING = bytes(range(0x80, 0xC0))  # all bytes of a character but the first (RFC 3629)


class Asked(Struct, frozen=True, kw_only=True):
    """The images and the characters that a request asks for; None where it does not say."""

    images: int | None = None
    characters: int | None = None


NOTHING_ASKED = Asked()


async def asked_of(served: Served, body: Payload) -> Asked:
    """What a request asks for. The length of a long text is counted in a thread."""
    output = served.output
    if output is Output.TEXT or not isinstance(body, JsonBody):
        return NOTHING_ASKED
    if output is Output.IMAGE:
        return Asked(images=_images(body))
    start, end = body.spans.get("input", (0, 0))
    raw = body.raw
    if raw[start : start + 1] != b'"':
        return NOTHING_ASKED
    if end - start <= MOST_AT_ONCE:
        return Asked(characters=characters(raw, start, end))
    return Asked(characters=await asyncio.to_thread(characters, raw, start, end))


def characters(raw: bytes, start: int, end: int) -> int:
    """The length of the JSON string between the two places, as its parser would see it."""
    return sum(_lengths(raw, start + 1, end - 1))


def _images(body: JsonBody) -> int | None:
    """`n`, which is 1 where it is absent; None where it is no number of images."""
    asked = body.member("n")
    if asked is None and "n" in body.spans:
        start, end = body.spans["n"]
        return 1 if body.raw[start:end] == b"null" else None
    return 1 if asked is None else count_of(asked) or None


def _lengths(raw: bytes, start: int, end: int) -> Iterator[int]:
    for piece in _PIECE.finditer(raw, start, end):
        text = piece[0]
        yield 1 if text[:1] == b"\\" else len(text.translate(None, _CONTINUING))
