"""Only frames that say nothing but text are told apart; all others are read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter.gateway.answer.reading.plain import (
    Likeness,
    plain_chunk,
    plain_chunks,
    plain_delta,
    plain_run,
)

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


def like(text: bytes, padding: bytes = b"aB") -> bytes:
    return b"data: %b\n\n" % CHUNK.replace(b"a\\n", text).replace(b'"aB"', b'"%b"' % padding)


def event(text: bytes, *, number: int = 5, padding: bytes = b"aB") -> bytes:
    data = DELTA.replace(b":5", b":%d" % number).replace(b'"a"', b'"%b"' % text)
    return NAMED % data.replace(b"}", b',"logprobs":[],"obfuscation":"%b"}' % padding)


def learned(frame: bytes) -> Likeness:
    likeness = Likeness()
    data = plain_chunk(frame) or plain_delta(frame) or b"{}"
    likeness.learn(frame, data)
    return likeness


TEXTS = [
    b"a",
    b" word",
    "日本 é".encode(),
    b"data: {",
    b"usage: 1",
    b"[DONE]",
    rb"a\n",
    rb"\\\"a",
    rb"\u0022",
]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("padding", [b"", b"a", b"Za09+/=_-"])
def test_a_chunk_like_the_last_is_known_by_what_is_around_its_text(
    text: bytes, padding: bytes
) -> None:
    """Whatever that was, and however it is padded."""
    frame = like(text, padding)

    assert learned(like(b"b")).data_of(frame) == plain_chunk(frame)


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("number", [0, 6, 12_345])
def test_an_event_like_the_last_is_known_by_what_is_around_its_text(
    text: bytes, number: int
) -> None:
    """Its number varies, too."""
    frame = event(text, number=number, padding=b"c0")

    assert learned(event(b"b")).data_of(frame) == plain_delta(frame)


@pytest.mark.parametrize(
    "frame",
    [
        *(like(text) for text in (b"", b'"', b"\\", b"a\nb", b"a\rb", b"a\x00", b"a\\\n")),
        *(like(text) for text in (b"usage", b"index", b"finish_reason", b"an error", b"model")),
        *(like(text) for text in (rb"\"usage", rb"{\"index", rb"\"response")),
        *(like(b"a", padding) for padding in (b"usage", b"error", b'"', b"a b", rb"\n", b"{}")),
        like(b'a","role":"assistant'),
        like(b"a") + like(b"a"),
        like(b"a")[:-1],
        like(b"a") + b"\n",
        like(b"a").replace(b"null", b'"stop"', 1),
        like(b"a").replace(b'"id":"c"', b'"id":"d"'),
        like(b"a").replace(b'"aB"}', b'"}'),
        like(b"a").replace(b',"obfuscation":"aB"', b""),
        event(b"a"),
        b"",
    ],
)
def test_any_other_chunk_is_looked_at(frame: bytes) -> None:
    """Words that frames are read for, also behind an escape; another end, several frames."""
    assert learned(like(b"b")).data_of(frame) is None


@pytest.mark.parametrize(
    "frame",
    [
        event(b"a").replace(b":5", b":"),
        event(b"a").replace(b":5", b":-5"),
        event(b"a").replace(b":5", b':"5"'),
        event(b"a").replace(b":5", b':5,"usage":{}'),
        event(b"a").replace(b"output_text", b"refusal"),
        event(b"a").partition(b"\n")[2],
        event(b"usage"),
        event(rb"\"background"),
        event(rb"\"encrypted_content"),
    ],
)
def test_any_other_event_is_looked_at(frame: bytes) -> None:
    """Other kinds, no number, another member."""
    assert learned(event(b"b")).data_of(frame) is None


def test_nothing_is_like_no_chunk() -> None:
    """Before one was seen, or where it has no text."""
    assert Likeness().data_of(like(b"a")) is None
    assert learned(b"data: {}\n\n").data_of(b"data: {}\n\n") is None


@given(
    st.text(st.sampled_from('a"\\\n\r\0{},:é'), max_size=8)
    | st.sampled_from(
        ["usage", "index", "finish_reason", "error", "model", '\\"usage', '\\"index']
    ),
    st.text(st.sampled_from('a"\\{},:'), max_size=4),
    st.booleans(),
)
def test_what_is_like_a_plain_chunk_is_one(text: str, first: str, is_whole: bool) -> None:
    """By the same words: the bytes around the text are those of one."""
    known, other = (
        b"data: %b\n\n" % CHUNK.replace(b"a\\n", each.encode()) for each in (first, text)
    )
    other = other if is_whole else other[:-3]
    data = None if plain_chunk(known) is None else learned(known).data_of(other)

    assert data is None or data == plain_chunk(other)


PLAIN = b"data: %b\n\n" % CHUNK
LAST = b"data: %b\n\n" % CHUNK.replace(b'"finish_reason":null', b'"finish_reason":"stop"')
USAGE = b"data: %b\n\n" % CHUNK.replace(b'"usage":null', b'"usage":{"total_tokens":1}')
DONE = b"data: [DONE]\n\n"


@pytest.mark.parametrize("count", [1, 2, 40])
@pytest.mark.parametrize("others", [b"", DONE, USAGE + DONE, LAST + USAGE + DONE, b"data: {"])
def test_frames_that_come_together_are_recognised_together(count: int, others: bytes) -> None:
    """As far as they say nothing but text; behind them a few may end the stream, or one be begun."""
    assert plain_run(PLAIN * count + others) == ([CHUNK] * count, len(PLAIN) * count)
    assert plain_chunks(PLAIN * count + others) == ([CHUNK] * count if not others else [])


@given(
    st.lists(
        st.sampled_from(
            [
                *([PLAIN] * 8 + [LAST, USAGE, DONE, b"\n", b"\n\n", b"\r\n", b": comment\n\n"]),
                *(b"event: error\n" + PLAIN, PLAIN.replace(b'"choices"', b'"c"'), PLAIN[:-1]),
                PLAIN.replace(b'"id"', b'"choices":[],"id"'),
                PLAIN.replace(b'"id"', b'"error":1,"id"'),
                PLAIN.replace(b"a", b"data: {"),
            ]
        ),
        max_size=12,
    ).map(b"".join)
)
def test_each_frame_of_a_run_would_be_recognised_alone(chunk: bytes) -> None:
    """No frame is taken for a plain one because of its neighbours."""
    datas, size = plain_run(chunk)
    frames = [frame + b"\n\n" for frame in chunk[:size].split(b"\n\n")[:-1]]

    assert [plain_chunk(frame) for frame in frames] == datas
    assert plain_chunks(chunk) in ([], datas)


@pytest.mark.parametrize(
    "chunk", [b"", b"\n\n", b"\n\n\n\n", DONE * 9, b"data: {", PLAIN[:-1], PLAIN[:-2]]
)
def test_a_chunk_without_whole_plain_frames_has_no_run(chunk: bytes) -> None:
    """Nothing of it, whatever its length."""
    assert plain_run(chunk) == ([], 0)
    assert plain_chunks(chunk) == []
