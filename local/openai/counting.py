"""The stand-in's rule for counting tokens, by which tests can predict every number.

A word is an item of `str.split()`; in content given as parts, only the `text` of parts counts.

| operation | prompt tokens |
|---|---|
| chat | words of all message contents, plus 3 per message |
| responses | the same; a text `input` is one message, `instructions` are another |
| completions, embeddings | words of all prompts or inputs; a token id counts as a word |

Completion tokens of one choice: `max_completion_tokens`, `max_tokens` or `max_output_tokens` when
given, else `5 + prompt_tokens % 11`. Half of them (rounded down) are reasoning tokens if the body
has a `reasoning_effort` or `reasoning.effort`, else none. Every other completion token is one word
of the answer. Each of `n` choices (of each prompt, for completions) costs the same. Cached tokens
are `prompt_tokens // 4`; embeddings have neither cached nor completion tokens.

Images: input text tokens are the words of `prompt`; each uploaded `image` (not the mask) is 200
input image tokens. Each of `n` images (at most 10) costs 272 output tokens in quality `low`, 4,160 in
`high` and 1,056 in any other or none. A stream carries one image after `partial_images` partial ones
(default 1, at most 3) of 100 output tokens each. An image file has 32 bytes per token. DALL-E models
bill no tokens.

Transcriptions and translations: the audio lasts `bytes // 32000 + 1` seconds. Input tokens are the
words of `prompt` as text and 10 per second as audio; output tokens are `5 + input_tokens % 11`, each
a word of the answer. Whisper's answers are the same, but it bills the seconds.

Speech: input tokens are the words of `input` and `instructions`. The audio has 2 chunks plus one per
word of `input`, each of 2,048 bytes and 10 output tokens. `tts` models bill characters instead, and
tell nothing.

A text can ask for other counts, a tier and hosted tools: see `asked.py`.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import assert_never

from local.openai.billing import (
    CHAT,
    EMBEDDINGS,
    RESPONSES,
    Bill,
    Shape,
    make_bill,
    served_tier,
    told_tier,
)
from local.openai.call import RESPONSE_OPERATIONS, Call, Operation

_TOKENS_PER_MESSAGE = 3
_CACHED_SHARE = 4
_LIMITS = ("max_completion_tokens", "max_tokens", "max_output_tokens")
# Words outside ASCII let a split stream break inside a character.
_WORDS = ("Every", "token", "größer", "日本", "counts", "once", "naïve", "🙂")


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """The tokens of one call, whose answer has `choices` of `words_per_choice` words each."""

    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    choices: int
    words_per_choice: int
    is_limited: bool


def count_tokens(call: Call) -> Count:
    """Counts one call by the rule of this module."""
    operation, body = call.operation, call.body
    texts = list(texts_of(operation, body))
    prompt_tokens = word_count(texts)
    if operation is Operation.CHAT or operation in RESPONSE_OPERATIONS:
        prompt_tokens += _TOKENS_PER_MESSAGE * len(texts)
    prompt_tokens = call.asked.number("prompt_tokens", prompt_tokens)
    is_generating = operation is not Operation.EMBEDDINGS
    limit = next((value for name in _LIMITS if (value := positive(body.get(name)))), None)
    per_choice = (limit or 5 + prompt_tokens % 11) if is_generating else 0
    reasoning = per_choice // 2 if _has_effort(body) else 0
    choices = positive(body.get("n")) or 1
    if operation is Operation.COMPLETIONS:
        choices *= len(texts)
    return Count(
        prompt_tokens=prompt_tokens,
        cached_tokens=prompt_tokens // _CACHED_SHARE if is_generating else 0,
        completion_tokens=per_choice * choices,
        reasoning_tokens=reasoning * choices,
        choices=choices,
        words_per_choice=per_choice - reasoning,
        is_limited=limit is not None,
    )


def prompt_words(operation: Operation, body: Mapping[str, object]) -> int:
    """The words of all the caller's input to the model."""
    return word_count(texts_of(operation, body))


def word_count(texts: Iterable[str]) -> int:
    """The words of several texts."""
    return sum(len(text.split()) for text in texts)


def answer_words(number: int) -> list[str]:
    """The first `number` words of an answer; each but the first has a leading space."""
    words = (_WORDS[index % len(_WORDS)] for index in range(number))
    return [word if index == 0 else f" {word}" for index, word in enumerate(words)]


def inputs_of(value: object) -> list[str]:
    """A `prompt` or `input` as separate texts; each token id becomes a word."""
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list):
        return []
    if value and all(isinstance(item, int) for item in value):
        return [" ".join(str(item) for item in value)]
    return [text for item in value for text in inputs_of(item)]


def bill_of(call: Call, count: Count) -> Bill:
    """The bill of a chat, a completion, embeddings or a response."""
    match call.operation:
        case Operation.CHAT | Operation.COMPLETIONS:
            extra = {"audio_prompt_tokens": 0, "audio_completion_tokens": 0}
            return _bill(call, CHAT, count, extra, told_tier(call).get("service_tier"))
        case Operation.RESPONSES | Operation.COMPACT:
            return _bill(call, RESPONSES, count, {"cache_write_tokens": 0}, served_tier(call))
        case Operation.EMBEDDINGS:
            return make_bill(EMBEDDINGS, {"prompt_tokens": count.prompt_tokens}, call.asked)
        case _:
            raise ValueError(f"{call.operation} has a bill of its own, or none")


def texts_of(operation: Operation, body: Mapping[str, object]) -> Iterator[str]:
    """The texts of all the caller's input to the model."""
    match operation:
        case Operation.CHAT:
            yield from message_texts(body.get("messages"))
        case Operation.RESPONSES | Operation.COMPACT | Operation.INPUT_TOKENS:
            yield from message_texts(body.get("instructions"))
            yield from message_texts(body.get("input"))
        case (
            Operation.COMPLETIONS
            | Operation.IMAGE_GENERATIONS
            | Operation.IMAGE_EDITS
            | Operation.TRANSCRIPTIONS
            | Operation.TRANSLATIONS
        ):
            yield from inputs_of(body.get("prompt"))
        case Operation.EMBEDDINGS:
            yield from inputs_of(body.get("input"))
        case Operation.SPEECH:
            yield from inputs_of(body.get("input"))
            yield from inputs_of(body.get("instructions"))
        case Operation.MODELS:
            return
        case _:
            assert_never(operation)


def message_texts(messages: object) -> Iterator[str]:
    """The text of each message; a text alone is one message."""
    if isinstance(messages, str):
        yield messages
    elif isinstance(messages, list):
        for message in messages:
            yield _content_text(message.get("content") if isinstance(message, dict) else None)


def positive(value: object) -> int | None:
    """The value if it is an integer above 0."""
    is_count = isinstance(value, int) and not isinstance(value, bool) and value > 0
    return value if is_count and isinstance(value, int) else None


def _content_text(content: object) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = (part.get("text") for part in parts if isinstance(part, dict))
    return " ".join(text for text in texts if isinstance(text, str))


def _has_effort(body: Mapping[str, object]) -> bool:
    reasoning = body.get("reasoning")
    effort = reasoning.get("effort") if isinstance(reasoning, dict) else None
    return bool(body.get("reasoning_effort") or effort)


def _bill(
    call: Call, shape: Shape, count: Count, extra: Mapping[str, int], service_tier: object
) -> Bill:
    rule = {
        "prompt_tokens": count.prompt_tokens,
        "completion_tokens": count.completion_tokens,
        "cached_tokens": count.cached_tokens,
        "reasoning_tokens": count.reasoning_tokens,
        **extra,
    }
    return make_bill(shape, rule, call.asked, service_tier=service_tier)
