"""Only frames that say nothing but text are told apart; all others are read."""

import pytest

from meter.gateway.answer.reading.plain import plain_chunk, plain_delta

CHUNK = (
    b'{"choices":[{"content_filter_results":{},"delta":{"content":"a\\n"},"finish_reason":null,'
    b'"index":0,"logprobs":null}],"id":"c","model":"m","usage":null,"obfuscation":"aB"}'
)
DELTA = b'{"type":"response.output_text.delta","sequence_number":5,"delta":"a"}'
NAMED = b"event: response.output_text.delta\ndata: %b\n\n"


def test_the_frames_of_a_stream_are_recognised() -> None:
    """As Azure writes them: without spaces, with LF, the kind first."""
    assert plain_chunk(b"data: %b\n\n" % CHUNK) == CHUNK
    assert plain_delta(b"data: %b\n\n" % DELTA) == DELTA
    assert plain_delta(NAMED % DELTA) == DELTA


@pytest.mark.parametrize(
    "frame",
    [
        b"data: %b\r\n\r\n" % CHUNK,
        b"data: %b\n\r" % CHUNK,
        b"data: %b\nx" % CHUNK,
        b"data: %b\n" % CHUNK,
        b"data: %b" % CHUNK,
        b"data: %b\n\n\n" % CHUNK,
        b"data: %b\n\n" % CHUNK.replace(b",", b",\ndata: ", 1),
        b"data: %b\n\n" % CHUNK.replace(b",", b",\rdata: ", 1),
        b"data: %b\n\ndata: %b\n\n" % (CHUNK, CHUNK),
        b"\xef\xbb\xbfdata: %b\n\n" % CHUNK,
        b"event: error\ndata: %b\n\n" % CHUNK,
        b"data: [DONE]\n\n",
        b": comment\n\n",
        b"data: %b\n\n" % CHUNK.replace(b'"choices"', b'"c"'),
        b"data: %b\n\n" % CHUNK.replace(b'"id"', b'"error"'),
        b"data: %b\n\n" % CHUNK.replace(b'"finish_reason":null', b'"finish_reason":"stop"'),
        b"data: %b\n\n" % CHUNK.replace(b'"finish_reason":null', b'"finish_reason": "stop"'),
        b"data: %b\n\n" % CHUNK.replace(b'"index":0', b'"index":1'),
        b"data: %b\n\n" % CHUNK.replace(b'"usage":null', b'"usage":{"total_tokens":1}'),
        b"data: %b\n\n" % CHUNK.replace(b'"id"', b'"usage":{"total_tokens":1},"id"'),
        b"",
    ],
)
def test_a_chunk_with_anything_else_is_read(frame: bytes) -> None:
    """Other line ends, several lines, an end, an error, a later choice, usage."""
    assert plain_chunk(frame) is None


@pytest.mark.parametrize(
    "data",
    [
        DELTA.replace(b".delta", b".done"),
        DELTA.replace(b"output_text.delta", b"error.delta"),
        DELTA.replace(b'"delta":', b'"usage":{"input_tokens":1},"delta":'),
        DELTA.replace(b'"delta":', b'"background":true,"delta":'),
        DELTA.replace(b"a", b"response.completed"),
        DELTA.replace(b'"type"', b'"type":"x","type"'),
        DELTA.replace(b":5", b": 5\n"),
        DELTA.replace(b":5", b": 5\r"),
        *(
            DELTA.replace(b'"delta":', b'"type":"response.%b","delta":' % end)
            for end in (b"completed", b"incomplete", b"failed", b"cancelled", b"done")
        ),
    ],
)
def test_an_event_with_anything_else_is_read(data: bytes) -> None:
    """Ends, errors, usage, a response in the background; also where a name stands twice."""
    assert plain_delta(NAMED % data) is None
    assert plain_delta(b"data: %b\n\n" % data) is None


@pytest.mark.parametrize("name", [b"error", b"response.failed", b"response.completed", b"ping"])
def test_an_event_is_read_for_its_name(name: bytes) -> None:
    """Whatever its data says that it is."""
    assert plain_delta(b"event: %b\ndata: %b\n\n" % (name, DELTA)) is None
