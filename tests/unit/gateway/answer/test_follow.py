"""What whole answers and streams report is read; what makes no sense is missing, never invented."""

import json

import pytest

from meter.gateway.answer.follow import StreamReader
from meter.gateway.answer.usage import read_answer
from meter.usage import TokenUsage

TEXT = b'data: {"choices":[{"delta":{"content":"hi"}}]}\n\n'


def test_a_number_too_long_to_read_spoils_no_other() -> None:
    """Python refuses to convert it, and with it the whole text."""
    huge = b"9" * 5_000
    body = b'{"usage":{"total_tokens":7,"prompt_tokens_details":{"cached_tokens":' + huge + b"}}}"

    assert read_answer(body).usage == TokenUsage(total_tokens=7)


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

    assert read_answer(json.dumps(both).encode()).reported == both["usage"]
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
        prompt_tokens=20,
        completion_tokens=40,
        total_tokens=60,
        image_tokens=8,
        image_prompt_tokens=8,
    )


@pytest.mark.parametrize("count", [-5, True, "5", 10**30, float("nan")], ids=repr)
@pytest.mark.parametrize("is_first", [True, False])
def test_nonsense_of_one_image_takes_nothing_from_the_others(count: object, is_first: bool) -> None:
    """A negative count would lower the sum, an absurd one discredit it."""
    documents = [
        {"type": "image_generation.completed", "usage": usage}
        for usage in (IMAGE_USAGE, {**IMAGE_USAGE, "input_tokens": count})
    ]
    reader = StreamReader()

    for document in reversed(documents) if is_first else documents:
        reader.feed(b"data: " + json.dumps(document).encode() + b"\n\n")

    usage = reader.reading.usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (10, 40, 60)


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
