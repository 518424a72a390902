"""Reads an answer's token usage, model and id.

Sources: Azure OpenAI REST reference (chat, completions, embeddings, images, audio) and Responses
API reference. Answers are hostile input: an invalid count makes the usage `missing`, never
an error.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from meter.usage import TokenUsage, is_writable

MAX_COUNT = 10**11  # a tenth of the aggregator's limit, since some counts are sums
MAX_MODEL_CHARS = 128
MAX_PARSED_BYTES = 1_048_576  # parsing more would delay every other call
TAIL_BYTES = 65_536

_MEMBER = re.compile(rb'"(?:usage|model)"[ \t\r\n]*:')
# An unclosed string matches too, or each of its escaped quotes would be tried as a beginning.
_TOKEN = re.compile(
    rb'"(usage|model)"[ \t\r\n]*:[ \t\r\n]*|"(?:[^"\\]++|\\.)*+"?|[{}\[\]]', re.DOTALL
)
_ID = re.compile(rb'"id"[ \t\r\n]*:[ \t\r\n]*"([A-Za-z0-9._-]{1,128})"')
_HEAD_BYTES = 4_096
_DECODER = json.JSONDecoder()
_STEPS = {b"{": 1, b"[": 1, b"}": -1, b"]": -1}
_TOP_MODEL = (b"model", 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """An answer's raw usage object and model, where it has them."""

    usage_raw: Mapping[str, object] | None = None
    model: str | None = None

    @property
    def usage(self) -> TokenUsage | None:
        """The counts; None when there is no usage, or its counts are invalid."""
        return None if self.usage_raw is None else read_usage(self.usage_raw)


NOTHING_READ = Reading()


def read_usage(raw: Mapping[str, object]) -> TokenUsage | None:
    """Translate a usage object of any AOAI API. An explicit 0 is a count, an absent one is 0.

    None when it has neither tokens nor seconds, or a count is negative, absurd or not a number.
    """
    try:
        prompt = _first(raw, "prompt_tokens", "input_tokens")
        completion = _first(raw, "completion_tokens", "output_tokens")
        seconds = _count(raw.get("seconds"))
        total = _count(raw.get("total_tokens"))
        if all(count is None for count in (prompt, completion, seconds, total)):
            return None
        inside_prompt = _details(
            raw, "prompt_tokens_details", "input_tokens_details", "input_token_details"
        )
        inside_completion = _details(
            raw, "completion_tokens_details", "output_tokens_details", "output_token_details"
        )
        return TokenUsage(
            prompt_tokens=prompt or 0,
            completion_tokens=completion or 0,
            total_tokens=(prompt or 0) + (completion or 0) if total is None else total,
            cached_tokens=_count(inside_prompt.get("cached_tokens")) or 0,
            reasoning_tokens=_count(inside_completion.get("reasoning_tokens")) or 0,
            audio_tokens=_sum_of("audio_tokens", inside_prompt, inside_completion),
            image_tokens=_sum_of("image_tokens", inside_prompt, inside_completion),
            seconds=seconds or 0,
        )
    except ValueError:
        return None


def read_answer(body: bytes) -> Reading:
    """Read a whole JSON answer; of a long one, its ends first: usage follows the data."""
    if len(body) > MAX_PARSED_BYTES:
        reading = read_ends(body[:TAIL_BYTES], body[-TAIL_BYTES:])
        if reading.usage is not None:
            return reading
    document = json_object(body)
    if document is None:
        return Reading()
    usage, model = document.get("usage"), document.get("model")
    return Reading(
        usage_raw=usage if isinstance(usage, dict) else None,
        model=model_name(model),
    )


def read_ends(beginning: bytes, end: bytes) -> Reading:
    """Read a JSON text too long to parse: its usage is near its end, its model there or at its beginning."""
    reading = read_tail(end)
    if reading.model is not None:
        return reading
    found = [
        place for name, level, place in _members(beginning, 0)[0] if (name, level) == _TOP_MODEL
    ]
    model = model_name(_value_at(beginning, found[-1])) if found else None
    return Reading(usage_raw=reading.usage_raw, model=model)


def read_tail(tail: bytes, *, level: int = 1) -> Reading:
    """Read the usage and model of the object at that level from the end of a JSON text.

    Members of other objects do not count: they may repeat the caller's own words.
    """
    # Quotation marks inside JSON strings are escaped, so every match is a member.
    first = _MEMBER.search(tail)
    if first is None:
        return Reading()
    members, end_level = _members(tail, first.start())
    places = {name: place for name, at, place in members if at - end_level == level}
    usage = _value_at(tail, places[b"usage"]) if b"usage" in places else None
    return Reading(
        usage_raw=usage if isinstance(usage, dict) else None,
        model=model_name(_value_at(tail, places[b"model"])) if b"model" in places else None,
    )


def read_response_id(beginning: bytes) -> str | None:
    """The id of a stored response, from the beginning of the answer that made it.

    Ids of messages and tools may precede it; a response's own begins with `resp`.
    """
    found = [each.decode() for each in _ID.findall(beginning[:_HEAD_BYTES])]
    return next((each for each in found if each.startswith("resp")), found[0] if found else None)


def json_object(text: bytes) -> dict[str, object] | None:
    """The JSON object; None when the text is anything else."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def model_name(name: object) -> str | None:
    """The name, where it can be a model's name."""
    is_name = isinstance(name, str) and 0 < len(name) <= MAX_MODEL_CHARS and is_writable(name)
    return str(name) if is_name else None


def _members(text: bytes, start: int) -> tuple[list[tuple[bytes, int, int]], int]:
    """The members `usage` and `model` from `start` on, each with its level and its value's place,
    and the level of the end. Levels count from 0 at `start`.
    """
    level = 0
    found: list[tuple[bytes, int, int]] = []
    for token in _TOKEN.finditer(text, start):
        if token[1]:
            found.append((token[1], level, token.end()))
        else:
            level += _STEPS.get(token[0], 0)
    return found, level


def _value_at(text: bytes, start: int) -> object:
    try:
        return cast(object, _DECODER.raw_decode(text[start:].decode(errors="replace"))[0])
    except (ValueError, RecursionError):
        return None


def _first(raw: Mapping[str, object], *names: str) -> int | None:
    for name in names:
        if (count := _count(raw.get(name))) is not None:
            return count
    return None


def _count(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(value)
    if not 0 <= value <= MAX_COUNT:  # also refuses NaN
        raise ValueError(value)
    return math.ceil(value)  # audio seconds may be fractions


def _details(raw: Mapping[str, object], *names: str) -> Mapping[str, object]:
    for name in names:
        if isinstance(details := raw.get(name), dict):
            return cast(Mapping[str, object], details)
    return {}


def _sum_of(name: str, *details: Mapping[str, object]) -> int:
    return sum(_count(part.get(name)) or 0 for part in details)
