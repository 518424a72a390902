"""Estimates the tokens of a call whose answer never reported them.

The texts of the prompt and of the answer are counted as o200k_base does. Where the tokenizer fails,
or too many estimates wait for it, four bytes of UTF-8 count as a token. Either way the event's
usage source is `estimated`.
"""

import asyncio
import json
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from msgspec import Struct, field

from meter.gateway.answer.seen import SeenContent
from meter.ports import TokenCounter
from meter.usage import TokenUsage

MAX_DEPTH = 8  # messages of parts of texts are 4
MAX_COUNTED_CHARS = 100_000  # of more, evenly spread samples are counted: counting is slow
SAMPLES = 50
TOKENS_PER_MESSAGE = 3
MAX_WAIT_SECONDS = 5.0  # for the tokenizer, which counts for one call at a time
BYTES_PER_TOKEN = 4

# OpenAI, "Images and vision": a base, and a charge for each of the 512-pixel tiles of a square image
# of usual size. Its size is not looked at.
IMAGE_TOKENS, SMALL_IMAGE_TOKENS = 765, 85

PROMPT_MEMBERS = ("messages", "prompt", "input", "instructions")
DEFINITIONS = ("tools", "functions", "response_format")
TEXT_MEMBERS = (
    *("content", "text", "refusal", "name", "arguments", "output", "input", "summary"),
    *("tool_calls", "function", "function_call"),
)
_IMAGES = frozenset({"image_url", "input_image"})

log = logging.getLogger(__name__)

type PromptPart = str | int  # a text, or tokens that need no counting
type PromptTexts = Callable[[], Sequence[PromptPart]]


class _Counter(Protocol):
    def count(self, text: str) -> int: ...


class _Bytes:
    """Counts without a tokenizer."""

    def count(self, text: str) -> int:
        return -(-len(text.encode(errors="replace")) // BYTES_PER_TOKEN)


class Estimator(Struct, frozen=True):
    """Estimates usage, with the tokenizer where it can."""

    counter: TokenCounter | None = None
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _hurried: asyncio.Event = field(default_factory=asyncio.Event)

    def hurry(self) -> None:
        """From now on, count bytes: the process ends, and a tokenizer that loads takes seconds."""
        self._hurried.set()

    async def usage(self, prompt: PromptTexts, seen: SeenContent) -> TokenUsage | None:
        """The estimate; None where there is nothing to estimate from."""
        if self.counter is None or self._hurried.is_set():
            return _by_bytes(prompt, seen)
        counting = asyncio.create_task(self._by_tokenizer(self.counter, prompt, seen))
        hurried = asyncio.create_task(self._hurried.wait())
        try:
            await asyncio.wait({counting, hurried}, return_when=asyncio.FIRST_COMPLETED)
            return counting.result() if counting.done() else _by_bytes(prompt, seen)
        finally:
            counting.cancel()
            hurried.cancel()

    async def _by_tokenizer(
        self, counter: TokenCounter, prompt: PromptTexts, seen: SeenContent
    ) -> TokenUsage | None:
        if await self._has_turn():
            try:
                # In a thread: a tokenizer written in Python is slow on a long prompt.
                return await asyncio.to_thread(_counted, counter, prompt, seen)
            except Exception as exc:
                # A tokenizer that fails on hostile text must not cost the call its event. Its
                # message may repeat the text.
                log.warning("estimate_failed reason=%s", type(exc).__name__)
            finally:
                self._turn.release()
        return await asyncio.to_thread(_by_bytes, prompt, seen)

    async def _has_turn(self) -> bool:
        try:
            async with asyncio.timeout(MAX_WAIT_SECONDS):
                return await self._turn.acquire()
        except TimeoutError:
            return False


def prompt_texts(document: object) -> list[PromptPart]:
    """What a request's prompt consists of: its texts, token arrays, images and definitions of tools.

    A message without any, such as a file, is an empty text: it is not nothing.
    """
    if not isinstance(document, dict):
        return []
    found: list[PromptPart] = []
    for name in PROMPT_MEMBERS:
        _gather(document.get(name), found)
    for name in DEFINITIONS:
        if document.get(name):
            found.append(json.dumps(document[name], ensure_ascii=False, separators=(",", ":")))
    return found


def _gather(value: object, found: list[PromptPart], depth: int = 0) -> None:
    if isinstance(value, str):
        found.append(value)
    elif depth == MAX_DEPTH:
        return
    elif isinstance(value, list):
        tokens = sum(type(item) is int for item in value)
        if tokens:
            found.append(tokens)
        for item in value:
            _gather(item, found, depth + 1)
    elif isinstance(value, dict):
        before = len(found)
        if value.get("type") in _IMAGES:
            found.append(_image_tokens(value))
        for name in TEXT_MEMBERS:
            _gather(value.get(name), found, depth + 1)
        if value and len(found) == before:
            found.append("")


def _image_tokens(part: dict[str, object]) -> int:
    image = part.get("image_url")
    detail = image.get("detail") if isinstance(image, dict) else part.get("detail")
    return SMALL_IMAGE_TOKENS if detail == "low" else IMAGE_TOKENS


def _by_bytes(prompt: PromptTexts, seen: SeenContent) -> TokenUsage | None:
    """The estimate without a tokenizer; of the answer alone where the prompt cannot be read."""
    try:
        return _counted(_Bytes(), prompt, seen)
    except Exception as exc:
        log.warning("estimate_failed reason=%s", type(exc).__name__)
    return _counted(_Bytes(), tuple, seen)


def _counted(counter: _Counter, prompt: PromptTexts, seen: SeenContent) -> TokenUsage | None:
    parts = prompt()
    texts = [part for part in parts if isinstance(part, str)]
    known = sum(part for part in parts if isinstance(part, int))
    prompt_tokens = _count(counter, texts) + TOKENS_PER_MESSAGE * len(texts) + known
    # A frame holds at least one token, also where its text was too long to keep.
    completion_tokens = max(_count(counter, [seen.text()]), seen.frames) + seen.sounds
    total_tokens = prompt_tokens + completion_tokens
    if not total_tokens:
        return None
    return TokenUsage(
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        total_tokens=total_tokens,
    )


def _count(counter: _Counter, texts: Sequence[str]) -> int:
    chars = sum(map(len, texts))
    if chars <= MAX_COUNTED_CHARS:
        return sum(map(counter.count, filter(None, texts)))
    counted = sum(map(counter.count, _samples("".join(texts))))
    return counted * chars // MAX_COUNTED_CHARS


def _samples(text: str) -> Iterable[str]:
    """Pieces from all over the text: its beginning may be unlike the rest, by accident or design."""
    size = MAX_COUNTED_CHARS // SAMPLES
    return (text[at : at + size] for at in (i * len(text) // SAMPLES for i in range(SAMPLES)))
