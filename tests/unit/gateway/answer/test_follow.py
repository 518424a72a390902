"""Usage is read as each API writes it, and what makes no sense is missing, never invented."""

import json

import pytest

from meter.gateway.answer.follow import StreamReader
from meter.gateway.answer.usage import MAX_COUNT, read_answer, read_usage
from meter.usage import TokenUsage

TEXT = b'data: {"choices":[{"delta":{"content":"hi"}}]}\n\n'

USAGE_FIELDS: list[tuple[str, dict[str, object], TokenUsage]] = [
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
            "input_tokens_details": {"cached_tokens": 4},
            "output_tokens_details": {"reasoning_tokens": 16},
        },
        TokenUsage(
            prompt_tokens=10,
            completion_tokens=20,
            total_tokens=30,
            cached_tokens=4,
            reasoning_tokens=16,
        ),
    ),
    (
        "images",
        {
            "input_tokens": 50,
            "output_tokens": 4160,
            "total_tokens": 4210,
            "input_tokens_details": {"text_tokens": 10, "image_tokens": 40},
        },
        TokenUsage(prompt_tokens=50, completion_tokens=4160, total_tokens=4210, image_tokens=40),
    ),
    (
        "transcription in tokens",
        {"type": "tokens", "input_tokens": 14, "output_tokens": 45, "total_tokens": 59},
        TokenUsage(prompt_tokens=14, completion_tokens=45, total_tokens=59),
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
def test_a_count_that_makes_no_sense_makes_the_usage_missing(name: str, count: object) -> None:
    """A backend's answer is hostile input; one bad count discredits the others."""
    assert read_usage({"input_tokens": 1, name: count}) is None


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
        prompt_tokens=50, completion_tokens=9, total_tokens=59, reasoning_tokens=3, audio_tokens=7
    )


def test_a_number_too_long_to_read_spoils_no_other() -> None:
    """Python refuses to convert it, and with it the whole text."""
    huge = b"9" * 5_000
    body = b'{"usage":{"total_tokens":7,"prompt_tokens_details":{"cached_tokens":' + huge + b"}}}"

    assert read_answer(body).usage == TokenUsage(total_tokens=7)


@pytest.mark.parametrize("tokens", [12.5, 0.1])
def test_a_part_of_a_token_is_no_count(tokens: float) -> None:
    """Seconds have fractions, tokens have none."""
    assert read_usage({"prompt_tokens": 1, "total_tokens": tokens}) is None


@pytest.mark.parametrize(
    "later",
    [
        {},
        {"total_tokens": 0},
        {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
        {"prompt_tokens": 0, "prompt_tokens_details": {"cached_tokens": 0}},
        {"total_tokens": -1},
        {"x": 7},
    ],
    ids=str,
)
def test_a_later_usage_that_counts_nothing_replaces_none(later: dict[str, object]) -> None:
    """Some servers repeat an empty usage after the real one; what is real stays."""
    reader = StreamReader()
    for usage in ({"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}, later):
        frame = json.dumps({"choices": [], "usage": usage}).encode()
        reader.feed(b"data: " + frame + b"\n\n")

    assert reader.reading.usage == TokenUsage(prompt_tokens=3, completion_tokens=4, total_tokens=7)


def test_a_later_usage_that_counts_something_replaces_an_earlier_one() -> None:
    """Cumulative usage: the last one is the whole."""
    reader = StreamReader()
    for total in (0, 3, 9):
        reader.feed(b'data: {"choices":[],"usage":{"total_tokens":%d}}\n\n' % total)

    assert reader.reading.usage == TokenUsage(total_tokens=9)


BAD_BYTES = [b"\xff", b"\xc3", b"\xe2\x82", b"\xed\xa0\x80", b"\x80", b"\x00", b"\x1f", b"\\ud800"]


@pytest.mark.parametrize("bad", BAD_BYTES, ids=repr)
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "marked"])
def test_usage_survives_bytes_that_are_no_utf_8(bad: bytes, mark: bytes) -> None:
    """In any text of the answer, whole or streamed, before or behind the usage."""
    usage = b'"usage":{"total_tokens":7,"note":"%b"}' % bad
    for document in (
        b'{"id":"%b",%b}' % (bad, usage),
        b'{%b,"choices":[{"x":"a%bb"}]}' % (usage, bad),
    ):
        reader = StreamReader()
        reader.feed(mark + b"data: " + mark + document + b"\n\n")

        for reading in (read_answer(mark + document), reader.reading):
            assert reading.usage == TokenUsage(total_tokens=7)


@pytest.mark.parametrize(
    ("duration", "seconds"),
    [(8.47, 9), ("8.47", 9), (8, 8), ("8", 8), (8.0, 8), (0, 0), ("0.01", 1), (3599.0001, 3600)],
    ids=repr,
)
def test_whispers_duration_is_seconds(duration: object, seconds: int) -> None:
    """`verbose_json` has no usage; its audio's length is what is billed."""
    document = {"task": "transcribe", "duration": duration, "text": "hi", "segments": []}

    assert read_answer(json.dumps(document).encode()).usage == TokenUsage(seconds=seconds)


@pytest.mark.parametrize(
    "duration",
    [-1, "-1", "", "soon", "8,47", "1e3", "1_0", True, None, [], {}, float("nan"), 10**12],
    ids=repr,
)
def test_a_duration_that_makes_no_sense_is_missing(duration: object) -> None:
    """Nothing is invented."""
    document = {"task": "transcribe", "duration": duration, "text": "hi"}

    assert read_answer(json.dumps(document).encode()).usage is None


def test_a_usage_wins_over_a_duration_unless_it_counts_nothing() -> None:
    """Newer versions report both."""
    both = {"usage": {"type": "duration", "seconds": 9}, "duration": 8.2}
    empty = {"usage": {}, "duration": 8.2}

    assert read_answer(json.dumps(both).encode()).usage_raw == both["usage"]
    assert read_answer(json.dumps(empty).encode()).usage == TokenUsage(seconds=9)


IMAGE_USAGE = {
    "input_tokens": 10,
    "output_tokens": 20,
    "total_tokens": 30,
    "input_tokens_details": {"image_tokens": 4, "text_tokens": 6},
}


@pytest.mark.parametrize("kind", ["image_generation.completed", "image_edit.completed"])
def test_several_images_of_one_stream_add_up(kind: str) -> None:
    """Each reports its own usage; the last frame alone is held, for it may be the end."""
    frame = (
        b"data: " + json.dumps({"type": kind, "b64_json": "A", "usage": IMAGE_USAGE}).encode()
    ) + b"\n\n"
    partial = b'data: {"type":"image_generation.partial_image"}\n\n'
    comment = b": keep-alive\n\n"
    reader = StreamReader()

    relayed = [reader.feed(piece) for piece in (frame, comment, partial, frame, comment)]

    assert relayed == [b"", b"", frame + comment + partial, b"", b""]
    assert reader.take_held() == frame + comment
    assert (reader.is_complete, reader.is_over) == (True, False)
    assert reader.reading.usage == TokenUsage(
        prompt_tokens=20, completion_tokens=40, total_tokens=60, image_tokens=8
    )


@pytest.mark.parametrize("kind", ["image_generation", "image_edit"])
def test_the_usage_of_a_partial_image_counts_until_the_image_is_whole(kind: str) -> None:
    """Its closing frame repeats it; where that never comes, the partial one's holds."""

    def image(state: str) -> bytes:
        document = {"type": f"{kind}.{state}", "b64_json": "A", "usage": IMAGE_USAGE}
        return b"data: " + json.dumps(document).encode() + b"\n\n"

    totals = []
    reader = StreamReader()
    for state in ("partial_image", "partial_image", "completed", "partial_image"):
        reader.feed(image(state))
        assert reader.reading.usage is not None
        totals.append(reader.reading.usage.total_tokens)

    assert totals == [30, 30, 30, 60]


@pytest.mark.parametrize(("seconds", "expected"), [(0, 0), (0.01, 1), (2.0, 2), (2.5, 3)])
def test_seconds_are_rounded_up(seconds: float, expected: int) -> None:
    """Begun seconds count as whole ones."""
    assert read_usage({"seconds": seconds}) == TokenUsage(seconds=expected)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"[]",
        b'"usage"',
        b"{" * 50_000,
        b"[" * 200_000,
        b"\xff\xfe",
        b'{"usage": [1], "model": 7}',
        b'{"usage": null, "model": ""}',
    ],
    ids=lambda body: repr(body[:20]),
)
def test_an_answer_that_cannot_be_read_says_nothing(body: bytes) -> None:
    """It is relayed all the same; reading it never raises."""
    reading = read_answer(body)

    assert (reading.usage, reading.model) == (None, None)


def test_a_model_name_that_is_absurdly_long_is_none() -> None:
    """A name goes into a table key, so its length is bounded."""
    body = json.dumps({"model": "m" * 129, "usage": {"total_tokens": 1}}).encode()

    assert read_answer(body).model is None


def test_a_model_name_that_cannot_be_written_is_none() -> None:
    """JSON can hold lone surrogates, UTF-8 cannot."""
    assert read_answer(b'{"model": "\\ud800", "usage": {"total_tokens": 1}}').model is None


def test_the_model_of_azures_first_chunk_is_never_taken() -> None:
    """The first chunk's `model` is empty; the first one that names a model does."""
    reader = StreamReader()
    reader.feed(b'data: {"choices":[],"id":"","model":"","prompt_filter_results":[]}\n\n')
    reader.feed(b'data: {"choices":[{"delta":{}}],"model":"gpt-4o-2024-08-06"}\n\n')

    assert reader.reading.model == "gpt-4o-2024-08-06"


@pytest.mark.parametrize(
    ("kind", "has_error"),
    [("response.completed", False), ("response.incomplete", False), ("response.failed", True)],
)
def test_a_responses_stream_reports_in_its_terminal_event(kind: str, has_error: bool) -> None:
    """The usage is at `response.usage`, and the terminal event closes the stream."""
    response = {"model": "o3", "usage": {"input_tokens": 2, "output_tokens": 3, "total_tokens": 5}}
    event = json.dumps({"type": kind, "response": response}).encode()
    reader = StreamReader()

    relayed = reader.feed(b"event: " + kind.encode() + b"\ndata: " + event + b"\n\n")

    usage = reader.reading.usage
    assert (relayed, reader.is_complete, reader.has_error) == (b"", True, has_error)
    assert (reader.model, usage and usage.total_tokens) == ("o3", 5)


def test_a_responses_stream_may_end_without_usage() -> None:
    """`response.usage` may be null."""
    reader = StreamReader()
    reader.feed(b'data: {"type":"response.failed","response":{"usage":null,"error":{}}}\n\n')

    assert (reader.is_complete, reader.has_error, reader.reading.usage) == (True, True, None)


@pytest.mark.parametrize(
    "frame",
    [
        b'data: {"error":{"message":"x","code":"500"}}\n\n',
        b'data: {"type":"error","message":"x"}\n\n',
        b'data: {"error":"the backend is busy"}\n\n',
        b'data: {"statusCode":429,"message":"Rate limit is exceeded."}\n\n',
        b"event: error\ndata: the backend is busy\n\n",
    ],
)
def test_an_error_frame_is_noticed(frame: bytes) -> None:
    """A failure in the middle of a stream comes as a frame of its own, and ends it."""
    reader = StreamReader()
    reader.feed(TEXT + frame)

    assert (reader.has_error, reader.is_complete) == (True, False)


def test_text_that_speaks_of_errors_is_no_error() -> None:
    """Only the frame's own `error` member counts, not what the model writes."""
    reader = StreamReader()
    content = json.dumps({"choices": [{"delta": {"content": '{"error": {}}'}}], "error": None})
    reader.feed(b"data: " + content.encode() + b"\n\n")

    assert reader.has_error is False
