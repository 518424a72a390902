"""Reads a chat's event stream that has arrived to its end, in one look and all of its frames together.

A short stream may be there as soon as its head is. Then nothing of it is still to be waited for, and it is
answered as a whole answer is: `StreamReader` would cut it into frames, look at each, and keep their texts
for an estimate, which takes 40 % of the call's instructions. It is only read here where it is an ordinary
one: chunks of chat without an error, the last of them with usage, and `[DONE]`. Then both say the same.
"""

from collections.abc import Callable, Sequence
from operator import methodcaller
from typing import Any

from msgspec import DecodeError, Raw, Struct
from msgspec.json import Decoder

from meter.gateway.answer.reading.counts import read_usage
from meter.gateway.answer.reading.ordinary import has_long_number
from meter.gateway.answer.usage import Reading, model_name
from meter.patterns import lazy_pattern
from meter.usage import TokenUsage

MAX_BYTES = 65_536  # as much as may be written to the caller in one part

_DONE = b"data: [DONE]\n\n"
_END = b"}\n\n" + _DONE
_USAGE, _NO_USAGE = b'"usage"', b'"usage":null'
_TIER_KEY = b'"service_tier"'
_TIER = lazy_pattern(rb'"service_tier":"[^"\\]{0,128}"')
_begins: Callable[[bytes], bool] = methodcaller("startswith", b"data: {")
_choices_at: Callable[[bytes], int] = methodcaller("find", b'"choices"')


class ArrivedChat(Struct, frozen=True, gc=False):
    """A stream of chat that has arrived to its end: the bytes for the caller, and what they report."""

    relayed: bytes
    reading: Reading
    usage: TokenUsage


class _Chunk(Struct, gc=False):
    """What is read of a chunk. Where a member stands that only other answers have, it is not ordinary."""

    model: str
    choices: list[Raw]
    usage: dict[str, Any] | None = None
    service_tier: str | None = None
    type: None = None
    response: None = None
    output: None = None
    tool_usage: None = None
    data: None = None
    duration: None = None
    background: None = None
    status: None = None


_CHUNK = Decoder(_Chunk)


def read_arrived(data: bytes, *, hides_usage: bool) -> ArrivedChat | None:
    """Read a stream's bytes as `StreamReader` does that `hides_usage`; None for one that is not ordinary."""
    if len(data) > MAX_BYTES or not data.endswith(_END):
        return None
    lines = data.split(b"\n")
    frames = lines[:-3:2]
    are_chunks = (
        not any(lines[1::2])
        and all(map(_begins, frames))
        and min(map(_choices_at, frames)) > 0
        and data.find(b"\r") < 0
        and data.find(b'rror"') < 0
    )
    end = len(data) - len(_DONE)
    last = end - len(frames[-1]) - 2
    if not are_chunks or data.count(_USAGE, 0, last) != data.count(_NO_USAGE, 0, last):
        return None
    chunk = _chunk(frames[-1])
    if chunk is None or chunk.usage is None or not _is_one_tier(data, frames, chunk):
        return None
    usage, model = read_usage(chunk.usage), model_name(chunk.model)
    if usage is None or model is None:
        return None
    is_hidden = hides_usage and not chunk.choices
    return ArrivedChat(
        data[:last] + data[end:] if is_hidden else data,
        Reading(reported=chunk.usage, tier=chunk.service_tier, model=model),
        usage,
    )


def _chunk(frame: bytes) -> _Chunk | None:
    text = frame[6:]
    if has_long_number(text):
        return None
    try:
        return _CHUNK.decode(text)
    except (DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _is_one_tier(data: bytes, frames: Sequence[bytes], last: _Chunk) -> bool:
    """Whether all frames that name a service tier name that of the last, and the first of them says nothing
    else that is read.
    """
    named = data.count(_TIER_KEY)
    if not named:
        return True
    found = _TIER.search(data)
    if found is None or data.count(found[0]) != named:
        return False
    first = _chunk(next(frame for frame in frames if frame.find(_TIER_KEY) > 0))
    return first is not None and last.service_tier == first.service_tier is not None
