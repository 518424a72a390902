"""The kinds of usage that have prices of their own, and how the counts of a call divide among them.

The counts of `TokenUsage` overlap: cached tokens are part of the prompt. Kinds do not: each token is
of one kind, so that nothing is charged twice. Reasoning is output.
"""

from collections.abc import Mapping
from enum import StrEnum

from meter.usage import TokenUsage


class Kind(StrEnum):
    """What a price is for one unit of."""

    INPUT = "input"
    CACHED_INPUT = "cached_input"
    CACHE_WRITE = "cache_write"
    OUTPUT = "output"
    AUDIO_INPUT = "audio_input"
    AUDIO_CACHED_INPUT = "audio_cached_input"
    AUDIO_OUTPUT = "audio_output"
    IMAGE_INPUT = "image_input"
    IMAGE_CACHED_INPUT = "image_cached_input"
    IMAGE_OUTPUT = "image_output"
    SECOND = "second"
    IMAGE = "image"
    CHARACTER = "character"
    WEB_SEARCH = "web_search"
    FILE_SEARCH = "file_search"
    CODE_INTERPRETER = "code_interpreter"
    PTU_HOUR = "ptu_hour"


TOKEN_KINDS = frozenset(
    {
        Kind.INPUT,
        Kind.CACHED_INPUT,
        Kind.CACHE_WRITE,
        Kind.OUTPUT,
        Kind.AUDIO_INPUT,
        Kind.AUDIO_CACHED_INPUT,
        Kind.AUDIO_OUTPUT,
        Kind.IMAGE_INPUT,
        Kind.IMAGE_CACHED_INPUT,
        Kind.IMAGE_OUTPUT,
    }
)
"""The kinds of tokens, which provisioned capacity pays for."""

# A kind without a price of its own is charged as its parent, or as the parent's parent.
PARENTS: Mapping[Kind, Kind] = {
    Kind.AUDIO_CACHED_INPUT: Kind.AUDIO_INPUT,
    Kind.AUDIO_INPUT: Kind.INPUT,
    Kind.IMAGE_CACHED_INPUT: Kind.IMAGE_INPUT,
    Kind.IMAGE_INPUT: Kind.INPUT,
    Kind.CACHED_INPUT: Kind.INPUT,
    Kind.CACHE_WRITE: Kind.INPUT,
    Kind.AUDIO_OUTPUT: Kind.OUTPUT,
    Kind.IMAGE_OUTPUT: Kind.OUTPUT,
}


def quantities_of(usage: TokenUsage) -> dict[Kind, int]:
    """The counts by kind, without those that are 0; tokens add up to those of prompt and completion.

    Counts of an adjustment may be negative, and so may what is left of a prompt whose shares are
    more than it has: the sum stays right.
    """
    audio_input = usage.audio_prompt_tokens - usage.audio_cached_tokens
    image_input = usage.image_prompt_tokens - usage.image_cached_tokens
    found = {
        Kind.INPUT: usage.prompt_tokens
        - usage.cached_tokens
        - usage.cache_write_tokens
        - audio_input
        - image_input,
        Kind.CACHED_INPUT: usage.cached_tokens
        - usage.audio_cached_tokens
        - usage.image_cached_tokens,
        Kind.CACHE_WRITE: usage.cache_write_tokens,
        Kind.OUTPUT: usage.completion_tokens
        - usage.audio_completion_tokens
        - usage.image_completion_tokens,
        Kind.AUDIO_INPUT: audio_input,
        Kind.AUDIO_CACHED_INPUT: usage.audio_cached_tokens,
        Kind.AUDIO_OUTPUT: usage.audio_completion_tokens,
        Kind.IMAGE_INPUT: image_input,
        Kind.IMAGE_CACHED_INPUT: usage.image_cached_tokens,
        Kind.IMAGE_OUTPUT: usage.image_completion_tokens,
        Kind.SECOND: usage.seconds,
        Kind.IMAGE: usage.images,
        Kind.CHARACTER: usage.characters,
        Kind.WEB_SEARCH: usage.web_search_calls,
        Kind.FILE_SEARCH: usage.file_search_calls,
        Kind.CODE_INTERPRETER: usage.code_interpreter_calls,
    }
    return {kind: quantity for kind, quantity in found.items() if quantity}
