"""Kinds of usage: how the counts of a call divide among them."""

import pytest

from meter.reports.pricing.kinds import PARENTS, TOKEN_KINDS, Kind, quantities_of
from meter.usage import TokenUsage


def test_shares_are_disjoint() -> None:
    """A realtime call with cached text, audio and an image: each token is of one kind."""
    usage = TokenUsage(
        prompt_tokens=1_000,
        completion_tokens=500,
        total_tokens=1_500,
        cached_tokens=300,
        cache_write_tokens=50,
        reasoning_tokens=40,
        audio_tokens=380,
        audio_prompt_tokens=200,
        audio_cached_tokens=100,
        audio_completion_tokens=180,
        image_tokens=120,
        image_prompt_tokens=90,
        image_cached_tokens=60,
        image_completion_tokens=30,
    )

    assert quantities_of(usage) == {
        Kind.INPUT: 520,
        Kind.CACHED_INPUT: 140,
        Kind.CACHE_WRITE: 50,
        Kind.OUTPUT: 290,
        Kind.AUDIO_INPUT: 100,
        Kind.AUDIO_CACHED_INPUT: 100,
        Kind.AUDIO_OUTPUT: 180,
        Kind.IMAGE_INPUT: 30,
        Kind.IMAGE_CACHED_INPUT: 60,
        Kind.IMAGE_OUTPUT: 30,
    }


def test_reasoning_is_output() -> None:
    """It has no price of its own."""
    usage = TokenUsage(completion_tokens=10, reasoning_tokens=8, total_tokens=10)

    assert quantities_of(usage) == {Kind.OUTPUT: 10}


def test_what_is_no_token_is_charged_as_counted() -> None:
    """Seconds, images, characters and calls of tools."""
    usage = TokenUsage(
        seconds=61,
        images=2,
        characters=300,
        web_search_calls=4,
        file_search_calls=5,
        code_interpreter_calls=6,
    )

    assert quantities_of(usage) == {
        Kind.SECOND: 61,
        Kind.IMAGE: 2,
        Kind.CHARACTER: 300,
        Kind.WEB_SEARCH: 4,
        Kind.FILE_SEARCH: 5,
        Kind.CODE_INTERPRETER: 6,
    }


def test_what_was_not_used_has_no_quantity() -> None:
    """Also an audio prompt that was read from the cache altogether."""
    usage = TokenUsage(
        prompt_tokens=10, cached_tokens=10, audio_prompt_tokens=10, audio_cached_tokens=10
    )

    assert quantities_of(TokenUsage()) == {}
    assert quantities_of(usage) == {Kind.AUDIO_CACHED_INPUT: 10}


def test_an_adjustment_has_negative_quantities() -> None:
    """Its signs are kept."""
    usage = TokenUsage(prompt_tokens=-10, cached_tokens=-4, completion_tokens=3, total_tokens=-7)

    assert quantities_of(usage) == {Kind.INPUT: -6, Kind.CACHED_INPUT: -4, Kind.OUTPUT: 3}


@pytest.mark.parametrize("kind", Kind)
def test_parents_of_tokens_end_at_input_and_output(kind: Kind) -> None:
    """Nothing but tokens has a parent, and no chain goes round."""
    chain = [kind]
    while chain[-1] in PARENTS:
        chain.append(PARENTS[chain[-1]])

    assert (chain[-1] in {Kind.INPUT, Kind.OUTPUT}) is (kind in TOKEN_KINDS)
    assert len(chain) <= 3
