"""Usage is read as each API writes it, and what makes no sense is missing, never invented."""

from collections.abc import Sequence
from typing import cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from meter.gateway.answer.reading.counts import MAX_COUNT, Output, count_of, read_usage
from meter.usage import TokenUsage

USAGE_FIELDS = [
    (
        "chat",
        {
            "prompt_tokens": 100,
            "completion_tokens": 50,
            "total_tokens": 150,
            "prompt_tokens_details": {"cached_tokens": 40, "audio_tokens": 3},
            "completion_tokens_details": {
                "reasoning_tokens": 20,
                "audio_tokens": 4,
                "accepted_prediction_tokens": 1,
                "rejected_prediction_tokens": 2,
            },
        },
        TokenUsage(
            prompt_tokens=100,
            completion_tokens=50,
            total_tokens=150,
            cached_tokens=40,
            reasoning_tokens=20,
            audio_tokens=7,
            audio_prompt_tokens=3,
            audio_completion_tokens=4,
        ),
    ),
    (
        "chat with cache writes and images",
        {
            "prompt_tokens": 2_000,
            "completion_tokens": 10,
            "total_tokens": 2_010,
            "prompt_tokens_details": {
                "audio_tokens": 0,
                "cache_write_tokens": 600,
                "cached_tokens": 1_024,
                "image_tokens": 85,
                "text_tokens": 1_915,
            },
        },
        TokenUsage(
            prompt_tokens=2_000,
            completion_tokens=10,
            total_tokens=2_010,
            cached_tokens=1_024,
            cache_write_tokens=600,
            image_tokens=85,
            image_prompt_tokens=85,
        ),
    ),
    (
        "embeddings",
        {"prompt_tokens": 8, "total_tokens": 8},
        TokenUsage(prompt_tokens=8, total_tokens=8),
    ),
    (
        "responses",
        {
            "input_tokens": 10,
            "output_tokens": 20,
            "total_tokens": 30,
            "input_tokens_details": {
                "cached_tokens": 4,
                "cache_write_tokens": 5,
                "cache_write_tokens_details": {"ttl_12h_tokens": 0, "ttl_30m_tokens": 5},
            },
            "output_tokens_details": {"reasoning_tokens": 16},
        },
        TokenUsage(
            prompt_tokens=10,
            completion_tokens=20,
            total_tokens=30,
            cached_tokens=4,
            cache_write_tokens=5,
            reasoning_tokens=16,
        ),
    ),
    (
        "realtime",
        {
            "total_tokens": 300,
            "input_tokens": 200,
            "output_tokens": 100,
            "input_token_details": {
                "text_tokens": 60,
                "audio_tokens": 90,
                "image_tokens": 50,
                "cached_tokens": 96,
                "cached_tokens_details": {
                    "text_tokens": 16,
                    "audio_tokens": 48,
                    "image_tokens": 32,
                },
            },
            "output_token_details": {"text_tokens": 30, "audio_tokens": 70},
        },
        TokenUsage(
            prompt_tokens=200,
            completion_tokens=100,
            total_tokens=300,
            cached_tokens=96,
            audio_tokens=160,
            audio_prompt_tokens=90,
            audio_cached_tokens=48,
            audio_completion_tokens=70,
            image_tokens=50,
            image_prompt_tokens=50,
            image_cached_tokens=32,
        ),
    ),
    (
        "images",
        {
            "input_tokens": 50,
            "output_tokens": 4160,
            "total_tokens": 4210,
            "input_tokens_details": {"text_tokens": 10, "image_tokens": 40},
            "output_tokens_details": {"text_tokens": 60, "image_tokens": 4_100},
        },
        TokenUsage(
            prompt_tokens=50,
            completion_tokens=4160,
            total_tokens=4210,
            image_tokens=4_140,
            image_prompt_tokens=40,
            image_completion_tokens=4_100,
        ),
    ),
    (
        "transcription in tokens",
        {
            "type": "tokens",
            "input_tokens": 14,
            "output_tokens": 45,
            "total_tokens": 59,
            "input_token_details": {"text_tokens": 4, "audio_tokens": 10},
        },
        TokenUsage(
            prompt_tokens=14,
            completion_tokens=45,
            total_tokens=59,
            audio_tokens=10,
            audio_prompt_tokens=10,
        ),
    ),
    ("transcription by length", {"type": "duration", "seconds": 3.2}, TokenUsage(seconds=4)),
]


@pytest.mark.parametrize(
    ("raw", "expected"),
    [row[1:] for row in USAGE_FIELDS],
    ids=[row[0] for row in USAGE_FIELDS],
)
def test_each_api_is_read_in_its_own_words(raw: dict[str, object], expected: TokenUsage) -> None:
    """Shares of the prompt and the completion are noted, and added to nothing."""
    assert read_usage(raw) == expected


def test_the_image_tool_spells_cached_tokens_in_its_own_way() -> None:
    """Beside the details of the input, by names of their own."""
    raw = {
        "input_tokens": 100,
        "output_tokens": 200,
        "total_tokens": 300,
        "input_tokens_details": {"image_tokens": 60, "text_tokens": 40},
        "cached_tokens": 50,
        "cached_tokens_details": {"cached_image_tokens": 30, "cached_text_tokens": 20},
    }

    assert read_usage(raw, output=Output.IMAGE) == TokenUsage(
        prompt_tokens=100,
        completion_tokens=200,
        total_tokens=300,
        cached_tokens=50,
        image_tokens=260,
        image_prompt_tokens=60,
        image_cached_tokens=30,
        image_completion_tokens=200,
    )


@pytest.mark.parametrize(
    ("details", "images"),
    [
        (None, 90),
        ({}, 90),
        ({"text_tokens": 20}, 70),
        ({"text_tokens": 91}, 90),
        ({"image_tokens": 0}, 0),
        ({"image_tokens": 30, "text_tokens": 60}, 30),
        ({"image_tokens": -1}, 0),
        ({"image_tokens": 91}, 0),
    ],
    ids=str,
)
def test_an_image_without_details_is_an_image(details: object, images: int) -> None:
    """Completions of an image model are images, as far as it does not say otherwise."""
    raw = {"input_tokens": 5, "output_tokens": 90, "output_tokens_details": details}

    usage = read_usage(raw, output=Output.IMAGE)

    assert usage is not None
    assert (usage.image_completion_tokens, usage.image_tokens, usage.audio_tokens) == (
        images,
        images,
        0,
    )


def test_speech_without_details_is_audio() -> None:
    """Models that speak bill what they say as audio."""
    usage = read_usage({"input_tokens": 5, "output_tokens": 90}, output=Output.AUDIO)

    assert usage == TokenUsage(
        prompt_tokens=5,
        completion_tokens=90,
        total_tokens=95,
        audio_tokens=90,
        audio_completion_tokens=90,
    )


@pytest.mark.parametrize(
    ("details", "shares"),
    [
        ({"cached_tokens": 101}, {}),
        ({"cache_write_tokens": 101, "cached_tokens": 7}, {"cached": 7}),
        ({"cached_tokens": 60, "cache_write_tokens": 50}, {"cached": 60, "cache_write": 40}),
        ({"cached_tokens": 60, "audio_tokens": 50}, {"cached": 60, "audio": 40}),
        (
            {
                "cached_tokens": 60,
                "audio_tokens": 50,
                "cached_tokens_details": {"audio_tokens": 20},
            },
            {"cached": 60, "audio": 50, "audio_cached": 20},
        ),
        (
            {"cached_tokens": 60, "cached_tokens_details": {"audio_tokens": 20}},
            {"cached": 60},
        ),
        (
            {
                "cached_tokens": 30,
                "audio_tokens": 50,
                "image_tokens": 50,
                "cached_tokens_details": {"audio_tokens": 20, "image_tokens": 20},
            },
            {"cached": 30, "audio": 50, "audio_cached": 20, "image": 50, "image_cached": 10},
        ),
    ],
    ids=str,
)
def test_shares_of_a_prompt_never_exceed_it(
    details: dict[str, object], shares: dict[str, int]
) -> None:
    """One that is larger is dropped; those that are larger together are cut in their order."""
    usage = read_usage({"prompt_tokens": 100, "prompt_tokens_details": details})

    assert usage is not None
    found = {
        "cached": usage.cached_tokens,
        "cache_write": usage.cache_write_tokens,
        "audio": usage.audio_prompt_tokens,
        "audio_cached": usage.audio_cached_tokens,
        "image": usage.image_prompt_tokens,
        "image_cached": usage.image_cached_tokens,
    }
    assert {name: count for name, count in found.items() if count} == shares


COUNTS: st.SearchStrategy[object] = st.one_of(
    st.integers(min_value=0, max_value=120),
    st.sampled_from([None, -1, 0.5, "5", True, MAX_COUNT, MAX_COUNT + 1, [], {}]),
)
KINDS = ["audio_tokens", "image_tokens", "text_tokens", "cached_audio_tokens"]
DETAILS = st.dictionaries(
    st.sampled_from([*KINDS, "cached_tokens", "cache_write_tokens", "reasoning_tokens"]), COUNTS
)
CACHED_DETAILS = st.dictionaries(st.sampled_from([*KINDS, "cached_image_tokens"]), COUNTS)


@given(
    counts=st.tuples(*[st.integers(min_value=0, max_value=200)] * 2),
    inside=DETAILS,
    cached=CACHED_DETAILS,
    outside=DETAILS,
    output=st.sampled_from(list(Output)),
)
@example(
    counts=(10, 0),
    inside={"cached_tokens": 5, "audio_tokens": 10, "image_tokens": 10, "cache_write_tokens": 10},
    cached={"audio_tokens": 5, "image_tokens": 5},
    outside={},
    output=Output.TEXT,
)
def test_disjoint_shares_are_never_negative_and_never_exceed_their_parent(
    counts: tuple[int, int],
    inside: dict[str, object],
    cached: dict[str, object],
    outside: dict[str, object],
    output: Output,
) -> None:
    """Each is priced on its own: a negative one would be a refund, a larger one charged twice."""
    prompt, completion = counts
    raw = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "prompt_tokens_details": {**inside, "cached_tokens_details": cached},
        "completion_tokens_details": outside,
    }

    usage = read_usage(raw, output=output)

    assert usage is not None
    audio_input = usage.audio_prompt_tokens - usage.audio_cached_tokens
    image_input = usage.image_prompt_tokens - usage.image_cached_tokens
    of_cached = [usage.audio_cached_tokens, usage.image_cached_tokens]
    of_prompt = [usage.cached_tokens, usage.cache_write_tokens, audio_input, image_input]
    of_completion = [usage.audio_completion_tokens, usage.image_completion_tokens]
    shares = [*of_cached, *of_prompt, *of_completion, usage.reasoning_tokens]
    assert min(shares) >= 0
    assert sum(of_cached) <= usage.cached_tokens
    assert sum(of_prompt) <= prompt
    assert sum(of_completion) <= completion
    assert usage.reasoning_tokens <= completion
    assert usage.audio_tokens == usage.audio_prompt_tokens + usage.audio_completion_tokens
    assert usage.image_tokens == usage.image_prompt_tokens + usage.image_completion_tokens


@pytest.mark.parametrize(
    ("value", "count"),
    [(0, 0), (7, 7), (7.0, 7), (7.5, None), (-1, None), (True, None), ("7", None), (None, None)],
    ids=repr,
)
def test_a_count_is_a_whole_number_that_makes_sense(value: object, count: int | None) -> None:
    """Anything else is none."""
    assert count_of(value) == count


def test_an_explicit_zero_is_a_count() -> None:
    """0 tokens is what the backend says, not a missing usage."""
    assert read_usage({"total_tokens": 0}) == TokenUsage(total_tokens=0)


def test_a_stated_total_wins_over_the_sum() -> None:
    """The number that is billed is the backend's own."""
    usage = read_usage({"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 9})

    assert usage == TokenUsage(prompt_tokens=1, completion_tokens=2, total_tokens=9)


def test_an_absent_total_is_the_sum_of_what_is_there() -> None:
    """Prompt plus completion, without their shares."""
    raw = {
        "prompt_tokens": 5,
        "completion_tokens": 6,
        "prompt_tokens_details": {"cached_tokens": 5},
    }

    usage = read_usage(raw)

    assert usage == TokenUsage(
        prompt_tokens=5, completion_tokens=6, total_tokens=11, cached_tokens=5
    )


def test_null_counts_and_details_are_absent_ones() -> None:
    """Some APIs write null for what they do not count."""
    raw = {"prompt_tokens": 5, "completion_tokens": None, "prompt_tokens_details": None}

    assert read_usage(raw) == TokenUsage(prompt_tokens=5, total_tokens=5)


@pytest.mark.parametrize("raw", [{}, {"type": "tokens"}, {"prompt_tokens": None}, {"tokens": 5}])
def test_a_usage_that_counts_nothing_is_missing(raw: dict[str, object]) -> None:
    """Nothing is invented."""
    assert read_usage(raw) is None


@pytest.mark.parametrize(
    "count",
    [-1, True, False, float("nan"), float("inf"), MAX_COUNT + 1, 10**400, "12", [1], {}, 1e300],
    ids=repr,
)
@pytest.mark.parametrize("name", ["prompt_tokens", "output_tokens", "total_tokens", "seconds"])
def test_a_count_that_makes_no_sense_is_dropped_alone(name: str, count: object) -> None:
    """A backend's answer is hostile input; what it says besides still holds."""
    raw = {"prompt_tokens": 1, "output_tokens": 2, "total_tokens": 3, "seconds": 4}
    left = {n: 0 if n == name else c for n, c in raw.items()}
    left["completion_tokens"] = left.pop("output_tokens")

    expected = TokenUsage(**{**left, "total_tokens": 3})
    assert read_usage({**raw, name: count}) == expected


@pytest.mark.parametrize("raw", [{"total_tokens": -1}, {"input_tokens": "3", "seconds": True}])
def test_a_usage_without_a_count_that_makes_sense_is_missing(raw: dict[str, object]) -> None:
    """As one that counts nothing."""
    assert read_usage(raw) is None


@pytest.mark.parametrize(
    "count",
    [-5, "5", 5.5, True, float("nan"), float("inf"), MAX_COUNT + 1, 10**5_000, [5], {}],
    ids=lambda count: f"{type(count).__name__}-{str(count)[:9] if count != 10**5_000 else 'huge'}",
)
def test_a_share_that_makes_no_sense_is_dropped_alone(count: object) -> None:
    """The counts and the other shares hold without it."""
    raw = {
        "prompt_tokens": 50,
        "completion_tokens": 9,
        "total_tokens": 59,
        "prompt_tokens_details": {"cached_tokens": count, "audio_tokens": 7},
        "completion_tokens_details": {"reasoning_tokens": 3, "audio_tokens": count},
    }

    assert read_usage(raw) == TokenUsage(
        prompt_tokens=50,
        completion_tokens=9,
        total_tokens=59,
        reasoning_tokens=3,
        audio_tokens=7,
        audio_prompt_tokens=7,
    )


@pytest.mark.parametrize("tokens", [12.5, 0.1])
def test_a_part_of_a_token_is_no_count(tokens: float) -> None:
    """Seconds have fractions, tokens have none."""
    assert read_usage({"prompt_tokens": tokens, "total_tokens": 1}) == TokenUsage(total_tokens=1)


@pytest.mark.parametrize(("seconds", "expected"), [(0, 0), (0.01, 1), (2.0, 2), (2.5, 3)])
def test_seconds_are_rounded_up(seconds: float, expected: int) -> None:
    """Begun seconds count as whole ones."""
    assert read_usage({"seconds": seconds}) == TokenUsage(seconds=expected)


_SIDES = ("prompt_tokens", "input_tokens", "input_token", "completion_tokens", "output_tokens")
_SHARES = (
    "cached_tokens",
    "audio_tokens",
    "image_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
)
_ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 12),
    st.sampled_from([5.0, 5.5, float("nan"), MAX_COUNT, MAX_COUNT + 1, 2**70, "7", [], {}]),
)


def _members(names: Sequence[str], values: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.dictionaries(st.sampled_from(names), values)


@st.composite
def _usages(draw: st.DrawFn) -> dict[str, object]:
    """Usage objects, most of them plain."""
    small = st.integers(0, 12)
    sides = draw(st.sampled_from([("prompt_tokens", "completion_tokens"), _SIDES[1::3]]))
    raw: dict[str, object] = {side: draw(small) for side in sides}
    for side in sides:
        names = draw(st.sampled_from([("cached_tokens", "reasoning_tokens"), _SHARES]))
        raw[f"{side}_details"] = draw(_members(names, st.one_of(st.none(), small)))
    others = [*_SIDES, *(f"{side}_details" for side in _SIDES), "total_tokens", "cached_tokens"]
    more = draw(st.one_of(st.just({}), _members(others, st.one_of(_ODD, _members(_SHARES, _ODD)))))
    return raw | cast(dict[str, object], more)


@given(_usages())
@example({"prompt_tokens": 5, "completion_tokens": 7})
@example(
    {"prompt_tokens": 5, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 6}}
)
@example({"prompt_tokens": None, "input_tokens": 5, "completion_tokens": True, "output_tokens": 7})
@example({"input_tokens": 5, "output_tokens": 7, "input_tokens_details": {"cached_tokens": None}})
@example({"prompt_tokens": 5, "completion_tokens": 7, "input_token_details": {"audio_tokens": 2}})
def test_plain_usage_is_read_as_any_other(raw: dict[str, object]) -> None:
    """In one step, to the same counts: seconds that are none say nothing, but are not plain."""
    assert read_usage(raw) == read_usage({**raw, "seconds": "?"})
