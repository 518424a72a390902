"""A stream is read as far as its first output: an error until then can fail over."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter.errors import UpstreamBroken
from meter.gateway.answer.opening import Chunks, Opening, looks_like_events, read_opening
from tests.fakes.gateway import FakeClock, Part

ERROR = b'data: {"error":{"code":"429","message":"slow down"}}\n\n'
OUTPUT = b'data: {"choices":[{"delta":{"content":"hi"}}]}\n\n'
FILTER = b'data: {"choices":[],"id":"","model":"","prompt_filter_results":[{}],"usage":null}\n\n'
ROLE = b'data: {"choices":[{"delta":{"role":"assistant","content":""},"index":0}]}\n\n'
FAILED = b'data: {"type":"response.failed","response":{"error":null}}\n\n'


def lifecycle(kind: str) -> bytes:
    event = {"type": f"response.{kind}", "response": {"id": "resp_1", "error": None}}
    return f"event: response.{kind}\ndata: {json.dumps(event)}\n\n".encode()


CREATED, IN_PROGRESS = lifecycle("created"), lifecycle("in_progress")


async def source(parts: Sequence[Part]) -> AsyncIterator[bytes]:
    for part in parts:
        if isinstance(part, Exception):
            raise part
        if isinstance(part, bytes):
            yield part
        else:
            await part.wait()


async def opened(*parts: Part, clock: FakeClock | None = None) -> tuple[Opening, Chunks]:
    chunks = Chunks(source(parts))
    return await read_opening(chunks, b"", clock=clock or FakeClock()), chunks


@pytest.mark.parametrize(
    "before",
    [
        [],
        [b": keep-alive\n\n"],
        [b"\n\n", b":\r\n\r\n", b"id: 7\n\n", b"retry: 100\n\n"],
        [FILTER],
        [FILTER, ROLE],
        [CREATED, IN_PROGRESS],
        [lifecycle("queued")],
        [b": a\n\n" + CREATED],
        [FAILED],
    ],
    ids=range(9),
)
async def test_an_error_before_any_output_is_found(before: list[bytes]) -> None:
    """Comments are no events, and Azure sends a preamble before some errors."""
    opening, _ = await opened(*before, ERROR, OUTPUT)

    assert opening.error is not None
    assert (opening.error.status, bytes(opening.data)) == (429, b"".join(before) + ERROR)


@pytest.mark.parametrize(
    "output",
    [
        OUTPUT,
        b'data: {"choices":[{"delta":{"role":"assistant"},"finish_reason":"stop"}]}\n\n',
        b'data: {"choices":[{"delta":{"role":"assistant","tool_calls":[{}]}}]}\n\n',
        b'data: {"choices":[],"usage":{"total_tokens":1}}\n\n',
        b'data: {"type":"response.output_item.added","item":{}}\n\n',
        b'data: {"type":"response.failed","response":{"error":{"code":"x"},"usage":{"a":1}}}\n\n',
        b"data: [DONE]\n\n",
        b"data: no json\n\n",
        b"event: ping\n\n",
        b'data: {"choices":[{"delta":{"content":"x"},"error":{"code":429}}]}\n\n',
        b'data: {"error":{"code":429},"usage":{"prompt_tokens":1}}\n\n',
    ],
    ids=range(11),
)
async def test_an_error_after_output_is_the_streams(output: bytes) -> None:
    """The caller may have got it already."""
    opening, chunks = await opened(output, ERROR)
    rest = [chunk async for chunk in chunks.rest(bytes(opening.data))]

    assert opening.error is None
    assert rest == [output, ERROR]


async def test_an_error_that_says_nothing_is_one_all_the_same() -> None:
    """When no other follows."""
    opening, _ = await opened(FAILED)

    assert opening.error is not None
    assert opening.error.is_empty


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [b": keep-alive\n\n"],
        [b"\n\n"],
        [b": keep"],
        [b"<html>busy</html>"],
        [b"<p>\n\n</p>\n\n"],
    ],
)
async def test_a_stream_without_an_event_is_broken(parts: list[bytes]) -> None:
    """The next backend may do better."""
    with pytest.raises(UpstreamBroken):
        await opened(*parts)


async def test_a_stream_that_breaks_after_a_preamble_has_begun() -> None:
    """The response may be made all the same; its relay meets the break."""
    opening, chunks = await opened(CREATED, UpstreamBroken("a"))

    assert bytes(opening.data) == CREATED
    with pytest.raises(UpstreamBroken):
        await chunks.next()


async def test_a_preamble_is_held_for_a_moment_only() -> None:
    """What comes later is not lost, and the time of the first event is kept."""
    go_on, clock = asyncio.Event(), FakeClock()
    opening, chunks = await opened(CREATED, go_on, OUTPUT, clock=clock)
    go_on.set()
    rest = [chunk async for chunk in chunks.rest(bytes(opening.data))]

    assert (rest, opening.error, opening.begun_at) == ([CREATED, OUTPUT], None, clock.seconds)


async def test_a_preamble_that_trickles_is_held_no_longer() -> None:
    """The moment is one for all of it: each part of it could come just in time."""
    clock = FakeClock()

    async def trickle() -> AsyncIterator[bytes]:
        yield CREATED
        for _ in range(50):
            clock.advance(0.3)
            yield IN_PROGRESS

    opening = await read_opening(Chunks(trickle()), b"", clock=clock)

    assert bytes(opening.data) == CREATED + 4 * IN_PROGRESS


async def test_a_read_that_goes_on_ends_with_the_stream() -> None:
    """Nobody waits for it any more."""
    _, chunks = await opened(CREATED, asyncio.Event(), OUTPUT)
    await chunks.close()

    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_backend_that_sends_only_comments_is_settled_on_after_a_while() -> None:
    """It is alive, and its comments keep the caller's connection so."""
    clock = FakeClock()

    async def comments() -> AsyncIterator[bytes]:
        while True:
            yield b": keep-alive\n\n"
            clock.advance(15)

    opening = await read_opening(Chunks(comments()), b"", clock=clock)

    assert bytes(opening.data) == 3 * b": keep-alive\n\n"


@given(st.lists(st.integers(1, 40), max_size=30))
def test_how_a_stream_is_cut_changes_nothing(sizes: list[int]) -> None:
    """The same bytes give the same opening."""
    stream, at, parts = b": a\n\n" + CREATED + ERROR, 0, []
    for size in sizes:
        parts.append(stream[at : at + size])
        at += size
    opening, _ = asyncio.run(opened(*filter(None, [*parts, stream[at:]])))

    assert opening.error is not None
    assert (opening.error.status, bytes(opening.data)) == (429, stream)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([OUTPUT], True),
        ([b"\xef\xbb\xbfda", b"ta: x"], True),
        ([b"\r\n\r\n", b": comment"], True),
        ([b"event:error"], True),
        ([b"d", b"a"], False),
        ([b'{"id":"data: 1"}'], False),
        ([b" ", b'{"a":1}'], False),
        ([b"<html>"], False),
        ([b"data"], False),
        ([], False),
    ],
    ids=range(10),
)
async def test_a_stream_is_known_by_its_beginning(parts: list[bytes], *, expected: bool) -> None:
    """A field name and a colon, as the format demands; no byte is lost."""
    chunks = Chunks(source(parts))
    data, is_stream = await looks_like_events(chunks)
    rest = [chunk async for chunk in chunks.rest(data)]

    assert (is_stream, b"".join(rest)) == (expected, b"".join(parts))
