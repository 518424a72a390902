"""Event streams of chat that are read in one look: as they come, and what makes one of them odd."""

import pytest

from meter.gateway.answer.reading.arrived import MAX_BYTES, read_arrived
from meter.usage import TokenUsage
from tests.support.gateway import DONE_FRAME, TEXT_FRAME, USAGE_FRAME

FILTERS = (
    b'data: {"choices":[],"id":"","model":"","prompt_filter_results":[{"prompt_index":0}]}\n\n'
)
PADDED = (
    b'data: {"id":"c","model":"gpt-4o","choices":[{"index":0,"delta":{"content":"an \\"error\\""}}],'
    b'"obfuscation":"aB3"}\n\n'
)
TIER = b'"service_tier":"default"'


def tiered(*frames: bytes) -> bytes:
    """The frames, each with its service tier."""
    return b"".join(frame.replace(b'{"model"', b"{" + TIER + b',"model"') for frame in frames)


@pytest.mark.parametrize(
    "before",
    [
        pytest.param(TEXT_FRAME, id="OpenAI: usage null in each chunk"),
        pytest.param(
            FILTERS + TEXT_FRAME.replace(b',"usage":null', b""), id="Azure: prompt filters"
        ),
        pytest.param(PADDED + PADDED, id="padded, with words that matter elsewhere"),
    ],
)
def test_an_ordinary_stream_is_read_in_one_look(before: bytes) -> None:
    """All of it is for the caller, but for the frame that only the gateway asked for."""
    stream = before + USAGE_FRAME + DONE_FRAME
    shown, hidden = (read_arrived(stream, hides_usage=hides) for hides in (False, True))

    assert shown is not None
    assert hidden is not None
    assert (shown.relayed, hidden.relayed) == (stream, before + DONE_FRAME)
    assert hidden.usage == TokenUsage(prompt_tokens=3, completion_tokens=4, total_tokens=7)
    assert hidden.reading.model == "gpt-4o"


def test_the_service_tier_of_all_chunks_is_read() -> None:
    """It decides the price."""
    stream = tiered(TEXT_FRAME, TEXT_FRAME, USAGE_FRAME) + DONE_FRAME
    found = read_arrived(stream, hides_usage=True)

    assert found is not None
    assert found.reading.service_tier == "default"


def test_usage_beside_the_last_text_is_not_hidden() -> None:
    """The frame has something for the caller."""
    last = TEXT_FRAME.replace(b"null", b'{"prompt_tokens":3,"completion_tokens":4}')
    found = read_arrived(TEXT_FRAME + last + DONE_FRAME, hides_usage=True)

    assert found is not None
    assert found.relayed == TEXT_FRAME + last + DONE_FRAME


@pytest.mark.parametrize(
    "stream",
    [
        pytest.param(TEXT_FRAME + USAGE_FRAME, id="no closing frame"),
        pytest.param(DONE_FRAME, id="nothing but the closing frame"),
        pytest.param(TEXT_FRAME + DONE_FRAME, id="no usage: estimated"),
        pytest.param(USAGE_FRAME + TEXT_FRAME + DONE_FRAME, id="usage before the last text"),
        pytest.param(USAGE_FRAME + USAGE_FRAME + DONE_FRAME, id="usage twice"),
        pytest.param(TEXT_FRAME + USAGE_FRAME + DONE_FRAME * 2, id="two closing frames"),
        pytest.param(b": ping\n\n" + TEXT_FRAME + USAGE_FRAME + DONE_FRAME, id="a comment"),
        pytest.param(TEXT_FRAME + b"id: 1\n" + USAGE_FRAME + DONE_FRAME, id="another field"),
        pytest.param(
            TEXT_FRAME.replace(b"\n", b"\r\n") + USAGE_FRAME + DONE_FRAME, id="other line ends"
        ),
        pytest.param(
            TEXT_FRAME + b'data: {"error":{"code":"429"}}\n\n' + USAGE_FRAME + DONE_FRAME,
            id="an error",
        ),
        pytest.param(
            TEXT_FRAME + TEXT_FRAME.replace(b"null", b"{}") + DONE_FRAME, id="usage without counts"
        ),
        pytest.param(
            TEXT_FRAME + USAGE_FRAME.replace(b'"model":"gpt-4o",', b"") + DONE_FRAME, id="no model"
        ),
        pytest.param(
            tiered(TEXT_FRAME).replace(b"default", b"flex")
            + tiered(TEXT_FRAME, USAGE_FRAME)
            + DONE_FRAME,
            id="two tiers",
        ),
        pytest.param(TEXT_FRAME * 1_000 + USAGE_FRAME + DONE_FRAME, id="a long one"),
    ],
)
def test_any_other_stream_is_read_frame_by_frame(stream: bytes) -> None:
    """By `StreamReader`, which knows what all of this means."""
    assert read_arrived(stream, hides_usage=True) is None


def test_the_longest_is_as_much_as_is_written_at_once() -> None:
    """The caller's connection takes it in one part."""
    tail = USAGE_FRAME + DONE_FRAME
    room = MAX_BYTES - len(tail) - len(TEXT_FRAME)
    longest = TEXT_FRAME.replace(b"hi", b"hi" + b"x" * room) + tail

    assert len(longest) == MAX_BYTES
    assert read_arrived(longest, hides_usage=True) is not None
    assert read_arrived(longest.replace(b"hi", b"hix"), hides_usage=True) is None
