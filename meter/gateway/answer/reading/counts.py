"""Reads the counts in the usage object of any API.

Sources: Azure OpenAI REST reference and OpenAI API reference (chat, completions, embeddings,
Responses, images, audio, realtime). Answers are hostile input: nothing here raises.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, cast

from meter.usage import TokenUsage

MAX_COUNT = 10**11  # a tenth of the aggregator's limit, since some counts are sums

_SECONDS_TEXT = re.compile(r"[0-9]{1,11}(?:\.[0-9]{1,20})?", re.ASCII)
_PROMPT_DETAILS = ("prompt_tokens_details", "input_tokens_details", "input_token_details")
_COMPLETION_DETAILS = (
    "completion_tokens_details",
    "output_tokens_details",
    "output_token_details",
)

type Members = Mapping[str, object]


class Output(Enum):
    """What the completion of an operation consists of where its usage object does not say."""

    TEXT = "text"
    AUDIO = "audio"
    IMAGE = "image"


def read_usage(raw: Members, *, output: Output = Output.TEXT) -> TokenUsage | None:
    """Translate a usage object of any API. An explicit 0 is a count, an absent one is 0.

    None when it has neither tokens nor seconds, or one of these is negative, absurd or no number. A
    share that makes no sense, or is larger than what it is a share of, is dropped alone. Disjoint
    shares that are larger together are cut to what is left, in this order: cached, audio, image
    and cache write tokens.
    """
    try:
        prompt = _first(raw, "prompt_tokens", "input_tokens")
        completion = _first(raw, "completion_tokens", "output_tokens")
        total = _tokens(raw.get("total_tokens"))
        seconds = _seconds(raw)
    except ValueError:
        return None
    if all(count is None for count in (prompt, completion, seconds, total)):
        return None
    used = _Tokens(prompt or 0, completion or 0)
    if total is None:
        total = used.prompt + used.completion
    inside = _details(raw, _PROMPT_DETAILS)
    outside = _details(raw, _COMPLETION_DETAILS)
    if not inside and not outside and output is Output.TEXT and "cached_tokens" not in raw:
        return TokenUsage(
            prompt_tokens=used.prompt,
            completion_tokens=used.completion,
            total_tokens=total,
            seconds=seconds or 0,
        )
    return _with_shares(raw, used, total, seconds or 0, inside, outside, output)


def count_of(value: object) -> int | None:
    """A whole number that makes sense as a count; None for anything else."""
    try:
        return _tokens(value)
    except ValueError:
        return None


class _Tokens(NamedTuple):
    prompt: int
    completion: int


@dataclass(slots=True)
class _Rest:
    """What is left of a count, of which disjoint shares are taken."""

    tokens: int

    def take(self, count: int) -> int:
        """As much of the count as is left."""
        taken = min(count, self.tokens)
        self.tokens -= taken
        return taken


def _with_shares(
    raw: Members,
    used: _Tokens,
    total: int,
    seconds: int,
    inside: Members,
    outside: Members,
    output: Output,
) -> TokenUsage:
    cached = _share(inside if "cached_tokens" in inside else raw, "cached_tokens", of=used.prompt)
    audio = _share(inside, "audio_tokens", of=used.prompt)
    image = _share(inside, "image_tokens", of=used.prompt)
    audio_cached, image_cached = _cached_kinds(raw, inside, cached, audio, image)
    rest = _Rest(used.prompt - cached)
    audio = audio_cached + rest.take(audio - audio_cached)
    image = image_cached + rest.take(image - image_cached)
    cache_write = rest.take(_share(inside, "cache_write_tokens", of=used.prompt))
    audio_out, image_out = _completion_kinds(used.completion, outside, output)
    return TokenUsage(
        prompt_tokens=used.prompt,
        completion_tokens=used.completion,
        total_tokens=total,
        cached_tokens=cached,
        cache_write_tokens=cache_write,
        reasoning_tokens=_share(outside, "reasoning_tokens", of=used.completion),
        audio_tokens=audio + audio_out,
        audio_prompt_tokens=audio,
        audio_cached_tokens=audio_cached,
        audio_completion_tokens=audio_out,
        image_tokens=image + image_out,
        image_prompt_tokens=image,
        image_cached_tokens=image_cached,
        image_completion_tokens=image_out,
        seconds=seconds,
    )


def _cached_kinds(
    raw: Members, inside: Members, cached: int, audio: int, image: int
) -> tuple[int, int]:
    """The audio and the image tokens among those cached."""
    kinds = _details(inside, ("cached_tokens_details",)) or _details(
        raw, ("cached_tokens_details",)
    )
    if not kinds:
        return 0, 0
    rest = _Rest(cached)
    found = []
    for name, prompt in (("audio_tokens", audio), ("image_tokens", image)):
        # The image tool of Responses spells them `cached_image_tokens`.
        spelt = name if name in kinds else f"cached_{name}"
        found.append(rest.take(_share(kinds, spelt, of=min(prompt, cached))))
    return found[0], found[1]


def _completion_kinds(completion: int, outside: Members, output: Output) -> tuple[int, int]:
    """The audio and the image tokens of a completion, which is all `output` but for its text."""
    rest = _Rest(completion)
    audio = rest.take(_share(outside, "audio_tokens", of=completion))
    image = rest.take(_share(outside, "image_tokens", of=completion))
    named = outside.get("audio_tokens" if output is Output.AUDIO else "image_tokens")
    if output is Output.TEXT or named is not None:
        return audio, image
    rest.take(_share(outside, "text_tokens", of=completion))
    if output is Output.AUDIO:
        return audio + rest.tokens, image
    return audio, image + rest.tokens


def _first(raw: Members, *names: str) -> int | None:
    for name in names:
        if (count := _tokens(raw.get(name))) is not None:
            return count
    return None


def _tokens(value: object) -> int | None:
    """A count of whole tokens. Raises ValueError."""
    count = _count(value)
    if count is not None and count != value:
        raise ValueError(value)
    return count


def _seconds(raw: Members) -> int | None:
    """Seconds of audio, begun ones as whole ones; some versions write `duration` as text."""
    seconds = _count(raw.get("seconds"))
    duration = raw.get("duration")
    if isinstance(duration, str) and _SECONDS_TEXT.fullmatch(duration):
        duration = float(duration)
    return _count(duration) if seconds is None else seconds


def _count(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(value)
    if not 0 <= value <= MAX_COUNT:  # also refuses NaN
        raise ValueError(value)
    return math.ceil(value)


def _details(raw: Members, names: tuple[str, ...]) -> Members:
    for name in names:
        if isinstance(details := raw.get(name), dict):
            return cast(Members, details)
    return {}


def _share(details: Members, name: str, *, of: int) -> int:
    value = details.get(name)
    count = 0 if value is None else count_of(value) or 0
    return count if count <= of else 0
