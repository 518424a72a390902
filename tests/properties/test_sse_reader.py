"""Any split of any answer's stream is relayed and metered in the same way."""

import json
from dataclasses import dataclass
from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from meter.gateway.answer.follow import StreamReader

ENDS = st.sampled_from([b"\n\n", b"\r\n\r\n", b"\r\r", b"\r\n\n"])
COUNTS = st.integers(min_value=0, max_value=10**9)
TEXTS = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ['"usage":{"total_tokens":9}', '{"model":"evil"}', "data: [DONE]", '\\"usage"']
    ),
)


@dataclass(frozen=True)
class Frame:
    """A frame, with its expected usage and visibility."""

    data: bytes
    total: int | None = None
    is_hidden_when_asked: bool = False


def _frame(document: object) -> bytes:
    return b"data: " + json.dumps(document, ensure_ascii=False).encode("utf-8", "replace")


def _text(content: str) -> Frame:
    chunk = {"model": "gpt-4o", "choices": [{"delta": {"content": content}}], "usage": None}
    return Frame(_frame(chunk))


def _usage(total: int, *, beside_choices: bool) -> Frame:
    choices: list[object] = [{"delta": {}}] if beside_choices else []
    chunk = {"model": "gpt-4o", "choices": choices, "usage": {"total_tokens": total}}
    return Frame(_frame(chunk), total, not beside_choices)


FILTERS = Frame(_frame({"id": "", "model": "", "choices": [], "prompt_filter_results": [{}]}))
FRAMES = st.one_of(
    TEXTS.map(_text),
    COUNTS.map(lambda total: _usage(total, beside_choices=True)),
    COUNTS.map(lambda total: _usage(total, beside_choices=False)),
    st.just(FILTERS),
    st.just(Frame(b": keep-alive")),
    st.just(Frame(b"event: ping")),
)
STREAMS = st.lists(st.tuples(FRAMES, ENDS), max_size=8)
CUTS = st.lists(st.integers(min_value=0, max_value=600), max_size=10)


def _chunks(stream: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    return [stream[a:b] for a, b in pairwise(places)]


def _relayed(reader: StreamReader, chunks: list[bytes]) -> bytes:
    relayed = b"".join([reader.feed(chunk) for chunk in chunks])
    return relayed + reader.take_rest()


@given(STREAMS, CUTS, st.booleans())
@example([(_usage(5, beside_choices=False), b"\r\n\r\n")], [5], True)
def test_only_the_requested_usage_frame_is_omitted(
    stream: list[tuple[Frame, bytes]], cuts: list[int], hides: bool
) -> None:
    """All bytes are relayed unchanged, except usage frames without choices that the gateway requested."""
    sent = b"".join(frame.data + end for frame, end in stream)
    kept = [(f, end) for f, end in stream if not (hides and f.is_hidden_when_asked)]

    relayed = _relayed(StreamReader(hides_usage=hides), _chunks(sent, cuts))

    assert relayed == b"".join(frame.data + end for frame, end in kept)


@given(STREAMS, CUTS, st.booleans())
def test_the_last_usage_wins_for_any_split(
    stream: list[tuple[Frame, bytes]], cuts: list[int], hides: bool
) -> None:
    """Cumulative usage is never summed, and zeros never replace a count.

    Text that looks like usage is not counted.
    """
    totals = [frame.total for frame, _ in stream if frame.total is not None]
    totals = [total for total in totals if total] or totals
    sent = b"".join(frame.data + end for frame, end in stream)
    reader = StreamReader(hides_usage=hides)

    _relayed(reader, _chunks(sent, cuts))

    usage = reader.reading.usage
    assert (usage.total_tokens if usage else None) == (totals[-1] if totals else None)


@given(STREAMS, CUTS, st.sampled_from([b"", b"\n", b"\n\n", b"\r\n\r\n", b"\r\r"]))
def test_a_stream_is_complete_when_its_closing_frame_came(
    stream: list[tuple[Frame, bytes]], cuts: list[int], end: bytes
) -> None:
    """`[DONE]` closes a stream, even without the blank line that should follow it."""
    sent = b"".join(frame.data + end for frame, end in stream)
    reader = StreamReader()
    _relayed(reader, _chunks(sent, cuts))
    was_complete = reader.is_complete

    _relayed(reader, [b"data: [DONE]" + end])

    assert (was_complete, reader.is_complete) == (False, True)


@given(st.lists(st.binary(max_size=60), max_size=12))
def test_an_answer_that_is_no_event_stream_at_all_is_relayed(chunks: list[bytes]) -> None:
    """A backend's bytes are hostile input: they are relayed and never raise."""
    assert _relayed(StreamReader(), chunks) == b"".join(chunks)


@given(CUTS, st.booleans())
def test_the_closing_frame_is_held_and_nothing_before_it(cuts: list[int], hides: bool) -> None:
    """`feed` never returns the closing frame; `take_held` does, with all that follows it."""
    text = b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n'
    reader = StreamReader(hides_usage=hides)

    relayed = b"".join([reader.feed(c) for c in _chunks(text + b"data: [DONE]\n\n: end\n\n", cuts)])

    assert (relayed, reader.take_held()) == (text, b"data: [DONE]\n\n: end\n\n")
