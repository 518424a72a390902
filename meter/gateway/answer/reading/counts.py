"""Reads the counts in the usage object of any API.

Sources: Azure OpenAI REST reference and OpenAI API reference (chat, completions, embeddings,
Responses, images, audio, realtime). Answers are hostile input: nothing here raises.
"""

import math
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Literal, cast

from msgspec import Meta, Struct, ValidationError, convert

from meter.patterns import lazy_pattern
from meter.usage import NO_USAGE, TokenUsage

MAX_COUNT = 10**11  # a tenth of the aggregator's limit, since some counts are sums

_SECONDS_TEXT = lazy_pattern(r"[0-9]{1,11}(?:\.[0-9]{1,20})?", re.ASCII)
_PROMPT_DETAILS = ("prompt_tokens_details", "input_tokens_details", "input_token_details")
_COMPLETION_DETAILS = (
    "completion_tokens_details",
    "output_tokens_details",
    "output_token_details",
)

_CACHED_DETAILS = ("cached_tokens_details",)

type Members = Mapping[str, object]
type _Count = Annotated[int, Meta(ge=0, le=MAX_COUNT)] | None
type _Zero = Literal[0] | None


class _OfPrompt(Struct, gc=False):
    """Shares of a prompt that is text."""

    cached_tokens: _Count = None
    cache_write_tokens: _Zero = None
    audio_tokens: _Zero = None
    image_tokens: _Zero = None


class _OfCompletion(Struct, gc=False):
    """Shares of a completion that is text."""

    reasoning_tokens: _Count = None
    audio_tokens: _Zero = None
    image_tokens: _Zero = None


class _Plain(Struct, gc=False):
    """The usage object of a text made from text, under either of its names. What is None has no value."""

    prompt_tokens: _Count = None
    input_tokens: _Count = None
    completion_tokens: _Count = None
    output_tokens: _Count = None
    total_tokens: _Count = None
    prompt_tokens_details: _OfPrompt | None = None
    input_tokens_details: _OfPrompt | None = None
    input_token_details: None = None
    completion_tokens_details: _OfCompletion | None = None
    output_tokens_details: _OfCompletion | None = None
    output_token_details: None = None
    cached_tokens: None = None
    seconds: None = None
    duration: None = None


class Output(StrEnum):
    """What the completion of an operation consists of where its usage object does not say."""

    TEXT = "text"
    AUDIO = "audio"
    IMAGE = "image"


def read_usage(raw: Members, *, output: Output = Output.TEXT) -> TokenUsage | None:
    """Translate a usage object of any API. An explicit 0 is a count, an absent one is 0.

    A count that is negative, absurd or no number is dropped alone, and so is a share that is larger
    than what it is a share of. None when neither tokens nor seconds are left. Disjoint shares that are
    larger together are cut to what is left, in this order: cached, audio, image and cache write tokens.
    """
    if output is Output.TEXT and (usage := _plain_usage(raw)) is not None:
        return usage  # nearly every answer
    prompt = _first(raw, "prompt_tokens", "input_tokens")
    completion = _first(raw, "completion_tokens", "output_tokens")
    total, seconds = count_of(raw.get("total_tokens")), _seconds(raw)
    if prompt is None and completion is None and seconds is None and total is None:
        return None
    prompt, completion = prompt or 0, completion or 0
    shares = _Shares()
    inside = _details(raw, _PROMPT_DETAILS)
    if inside or "cached_tokens" in raw:
        shares.take_prompt(raw, inside, prompt)
    outside = _details(raw, _COMPLETION_DETAILS)
    if outside or output is not Output.TEXT:
        shares.take_completion(outside, completion, output)
    total = prompt + completion if total is None else total
    return shares.usage(prompt, completion, total, seconds or 0)


def _plain_usage(raw: Members) -> TokenUsage | None:
    """The usage where it is that of text, and makes sense: what msgspec checks in one step is a third of the
    instructions of reading count by count. None for any other.
    """
    try:
        plain = convert(raw, _Plain)
    except (ValidationError, UnicodeEncodeError):  # the latter for a name with a lone surrogate
        return None
    prompt, completion = plain.prompt_tokens, plain.completion_tokens
    prompt = plain.input_tokens if prompt is None else prompt
    completion = plain.output_tokens if completion is None else completion
    if prompt is None or completion is None:
        return None
    inside = plain.prompt_tokens_details or plain.input_tokens_details
    outside = plain.completion_tokens_details or plain.output_tokens_details
    cached = inside.cached_tokens or 0 if inside else 0
    reasoning = outside.reasoning_tokens or 0 if outside else 0
    if cached > prompt or reasoning > completion:
        return None
    total = prompt + completion if plain.total_tokens is None else plain.total_tokens
    # As `TokenUsage(...)`, which gives each of the others its default by itself.
    return tuple.__new__(TokenUsage, (prompt, completion, total, cached, 0, reasoning, *_OTHERS))


def count_of(value: object) -> int | None:
    """A whole number that makes sense as a count; None for anything else."""
    if type(value) is int and 0 <= value <= MAX_COUNT:
        return value  # nearly always
    count = None if value is None else _count(value)
    return count if count == value else None


_OTHERS = NO_USAGE[6:]


class _Shares(Struct):
    """The shares of a prompt and of a completion; `audio` and `image` are the prompt's."""

    cached: int = 0
    cache_write: int = 0
    audio: int = 0
    audio_cached: int = 0
    image: int = 0
    image_cached: int = 0
    reasoning: int = 0
    audio_out: int = 0
    image_out: int = 0

    def take_prompt(self, raw: Members, inside: Members, prompt: int) -> None:
        """Those of the prompt. The image tool of Responses writes the cached ones beside the details."""
        cached = _share(inside if "cached_tokens" in inside else raw, "cached_tokens", of=prompt)
        audio = _share(inside, "audio_tokens", of=prompt)
        image = _share(inside, "image_tokens", of=prompt)
        if cached and (audio or image):
            self._take_cached(raw, inside, cached, audio, image)
        rest = prompt - cached
        audio_rest = min(audio - self.audio_cached, rest)
        image_rest = min(image - self.image_cached, rest - audio_rest)
        write = _share(inside, "cache_write_tokens", of=prompt)
        self.cached = cached
        self.audio = self.audio_cached + audio_rest
        self.image = self.image_cached + image_rest
        self.cache_write = min(write, rest - audio_rest - image_rest)

    def _take_cached(
        self, raw: Members, inside: Members, cached: int, audio: int, image: int
    ) -> None:
        kinds = _details(inside, _CACHED_DETAILS) or _details(raw, _CACHED_DETAILS)
        self.audio_cached = _cached_share(kinds, "audio_tokens", of=min(audio, cached))
        found = _cached_share(kinds, "image_tokens", of=min(image, cached))
        self.image_cached = min(found, cached - self.audio_cached)

    def take_completion(self, outside: Members, completion: int, output: Output) -> None:
        """Those of the completion: what is not named is `output`, but for the text."""
        self.reasoning = _share(outside, "reasoning_tokens", of=completion)
        self.audio_out = _share(outside, "audio_tokens", of=completion)
        image = _share(outside, "image_tokens", of=completion)
        self.image_out = min(image, completion - self.audio_out)
        if output is Output.TEXT or outside.get(f"{output}_tokens") is not None:
            return
        rest = completion - self.audio_out - self.image_out
        rest -= min(_share(outside, "text_tokens", of=completion), rest)
        if output is Output.AUDIO:
            self.audio_out += rest
        else:
            self.image_out += rest

    def usage(self, prompt: int, completion: int, total: int, seconds: int) -> TokenUsage:
        """The usage whose shares they are."""
        return TokenUsage(
            prompt_tokens=prompt,
            completion_tokens=completion,
            total_tokens=total,
            cached_tokens=self.cached,
            cache_write_tokens=self.cache_write,
            reasoning_tokens=self.reasoning,
            audio_tokens=self.audio + self.audio_out,
            audio_prompt_tokens=self.audio,
            audio_cached_tokens=self.audio_cached,
            audio_completion_tokens=self.audio_out,
            image_tokens=self.image + self.image_out,
            image_prompt_tokens=self.image,
            image_cached_tokens=self.image_cached,
            image_completion_tokens=self.image_out,
            seconds=seconds,
        )


def _first(raw: Members, *names: str) -> int | None:
    for name in names:
        if (count := count_of(raw.get(name))) is not None:
            return count
    return None


def _seconds(raw: Members) -> int | None:
    """Seconds of audio, begun ones as whole ones; some versions write `duration` as text."""
    seconds = _count(raw.get("seconds"))
    duration = raw.get("duration")
    if isinstance(duration, str) and _SECONDS_TEXT.fullmatch(duration):
        duration = float(duration)
    return _count(duration) if seconds is None else seconds


def _count(value: object) -> int | None:
    """The number, rounded up, that makes sense as a count; None for anything else."""
    if value is None or isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return math.ceil(value) if 0 <= value <= MAX_COUNT else None  # not for NaN either


def _details(raw: Members, names: tuple[str, ...]) -> Members:
    if raw.keys().isdisjoint(names):
        return {}
    for name in names:
        if isinstance(details := raw.get(name), dict):
            return cast(Members, details)
    return {}


def _share(details: Members, name: str, *, of: int) -> int:
    value = details.get(name)
    count = count_of(value) if value else 0
    return count if count and count <= of else 0


def _cached_share(kinds: Members, name: str, *, of: int) -> int:
    """The image tool of Responses names them `cached_image_tokens`."""
    return _share(kinds, name if name in kinds else f"cached_{name}", of=of)
