"""Answers that a backend compressed although it was asked not to."""

import asyncio
import gzip
import json
import zlib
from collections.abc import AsyncIterator, Iterator

import pytest

from meter.errors import AnswerCut, UpstreamBroken
from meter.gateway.answer import encoding
from meter.gateway.answer.encoding import decoded, decoded_parts
from meter.gateway.http import Answer, StreamingAnswer
from meter.usage import Outcome, UsageSource
from tests.fakes.gateway import (
    FakeAnswer,
    FakeCaller,
    FakeUpstream,
    Part,
    json_answer,
    stream_answer,
)
from tests.support.gateway import (
    DONE_FRAME,
    SERVED,
    STREAM_BODY,
    TEXT_FRAME,
    USAGE_FRAME,
    Door,
    backend,
    door,
    headers_of,
)

GZIP = (("content-encoding", "gzip"),)
STREAM = TEXT_FRAME + USAGE_FRAME + DONE_FRAME


def packed(*frames: bytes) -> list[bytes]:
    """The frames as a compressing server flushes them, one part each."""
    packer = zlib.compressobj(wbits=31)
    parts = [packer.compress(frame) + packer.flush(zlib.Z_SYNC_FLUSH) for frame in frames]
    return [*parts, packer.flush()]


async def begun(made: Door) -> StreamingAnswer:
    answer = await made.call(STREAM_BODY)
    assert isinstance(answer, StreamingAnswer)
    return answer


@pytest.mark.parametrize("name", ["gzip", "GZIP", " x-gzip "])
async def test_a_whole_answer_is_relayed_as_it_is_and_counted(name: str) -> None:
    """The caller gets the backend's bytes and its header; only the count looks inside."""
    body = gzip.compress(SERVED)
    made = door(json_answer(200, body, ("content-encoding", name)))

    answer = await made.call()

    assert isinstance(answer, Answer)
    assert (answer.body, headers_of(answer)["content-encoding"]) == (body, name)
    assert headers_of(answer)["total-tokens"] == "46"
    assert made.sink.events[0].usage.total_tokens == 46


async def test_deflate_is_counted_too() -> None:
    """RFC 9110 section 8.4.1.2: zlib's form."""
    made = door(json_answer(200, zlib.compress(SERVED), ("content-encoding", "deflate")))
    await made.call()

    assert made.sink.events[0].usage.total_tokens == 46


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (gzip.compress(SERVED)[:-20], "gzip"),
        (b"no gzip", "gzip"),
        (b"", "gzip"),
        (SERVED, "br"),
        (SERVED[:-1], "gzip"),
        (gzip.compress(bytes(1_000_000)), "gzip"),
    ],
    ids=["cut", "none", "empty", "brotli", "plain", "zeros"],
)
async def test_what_cannot_be_decoded_is_relayed_all_the_same(body: bytes, name: str) -> None:
    """Its usage is missing; the bytes are the caller's to judge."""
    made = door(json_answer(200, body, ("content-encoding", name)))

    answer = await made.call()

    assert isinstance(answer, Answer)
    assert answer.body == body
    event = made.sink.events[0]
    expected = UsageSource.REPORTED if name == "br" else UsageSource.MISSING
    assert (event.outcome, event.usage_source) == (Outcome.SERVED, expected)


def test_a_bomb_is_decoded_so_far_and_no_further() -> None:
    """A kilobyte can hold a gigabyte."""
    bomb = gzip.compress(bytes(encoding.MAX_DECODED_BYTES + 1_000_000))

    assert len(decoded(bomb, "gzip")) == encoding.MAX_DECODED_BYTES


async def test_a_stream_is_decoded_on_its_way() -> None:
    """Frames are read and held as in any stream, so the header that would be a lie is dropped."""
    made, caller = (
        door(stream_answer(*packed(TEXT_FRAME, USAGE_FRAME, DONE_FRAME), headers=GZIP)),
        FakeCaller(),
    )

    answer = await begun(made)
    await answer.relay.run(caller)

    assert "content-encoding" not in headers_of(answer)
    assert caller.received == TEXT_FRAME + DONE_FRAME
    event = made.sink.events[0]
    assert (event.usage.total_tokens, event.outcome, made.is_idle) == (7, Outcome.SERVED, True)


async def test_each_flushed_frame_comes_at_once() -> None:
    """A compressed stream streams."""
    first, *rest = packed(TEXT_FRAME, DONE_FRAME)

    async def parts() -> AsyncIterator[bytes]:
        yield first
        raise AssertionError("the second part was waited for")

    assert await anext(decoded_parts(parts(), "gzip")) == TEXT_FRAME
    assert rest


@pytest.mark.parametrize("size", [1, 2, 7, 10_000])
async def test_any_split_of_a_compressed_stream_is_the_same(size: int) -> None:
    """A part may end inside the header, a block or the checksum."""
    body = gzip.compress(STREAM)
    made = door(stream_answer(*_split(body, size), headers=GZIP))
    caller = FakeCaller()

    await (await begun(made)).relay.run(caller)

    assert caller.received == TEXT_FRAME + DONE_FRAME


async def test_a_stream_of_several_members_is_decoded_whole() -> None:
    """RFC 1952 section 2.2: members follow each other; leaving out the second would lose text."""
    body = gzip.compress(TEXT_FRAME) + gzip.compress(USAGE_FRAME) + gzip.compress(DONE_FRAME)
    for size in (1, 50, 10_000):
        made, caller = door(stream_answer(*_split(body, size), headers=GZIP)), FakeCaller()

        await (await begun(made)).relay.run(caller)

        assert caller.received == TEXT_FRAME + DONE_FRAME
        assert made.sink.events[0].usage.total_tokens == 7


async def test_a_frame_that_compresses_well_is_given_out_in_parts() -> None:
    """A bomb in a stream does not grow memory: a part at a time."""
    body = gzip.compress(bytes(20_000_000))

    async def parts() -> AsyncIterator[bytes]:
        yield body

    sizes = [len(part) async for part in decoded_parts(parts(), "gzip")]

    assert (sum(sizes), max(sizes)) == (20_000_000, encoding.PART_BYTES)


BROKEN: dict[str, list[Part]] = {
    "no gzip": [STREAM],
    "cut at once": [gzip.compress(STREAM)[:12]],
    "bad block": [gzip.compress(STREAM)[:10] + b"\xff" * 40],
    "nothing": [],
    "connection": [gzip.compress(STREAM)[:12], UpstreamBroken("a")],
}


@pytest.mark.parametrize("parts", BROKEN.values(), ids=list(BROKEN))
async def test_a_stream_that_cannot_be_decoded_goes_to_the_next_backend(parts: list[Part]) -> None:
    """The caller has no byte yet."""
    broken = stream_answer(*parts, headers=GZIP)
    upstream = FakeUpstream({"a": [broken], "b": [stream_answer(TEXT_FRAME, DONE_FRAME)]})
    made = Door(upstream, [backend("a"), backend("b", priority=2)])
    caller = FakeCaller()

    await (await begun(made)).relay.run(caller)

    assert (caller.received, made.upstream.order) == (TEXT_FRAME + DONE_FRAME, ["a", "b"])
    assert broken.times_closed == 1
    assert made.is_idle


@pytest.mark.parametrize(
    "ending", [[], [b"\xff" * 40], [UpstreamBroken("a")]], ids=["cut", "bad", "connection"]
)
async def test_a_stream_that_breaks_later_is_cut(ending: list[Part]) -> None:
    """With an error frame, like any stream that its backend broke off."""
    first, *_ = packed(TEXT_FRAME)
    made, caller = door(stream_answer(first, *ending, headers=GZIP)), FakeCaller()
    answer = await begun(made)

    with pytest.raises(AnswerCut):
        await answer.relay.run(caller)

    assert caller.received.startswith(TEXT_FRAME + b'data: {"error"')
    assert made.sink.events[0].outcome is Outcome.FAILED
    assert made.is_idle


async def test_an_unknown_encoding_is_left_to_the_caller() -> None:
    """Its header stays, and its bytes are relayed as they are."""
    made, caller = (
        door(stream_answer(b"\x0b\x02\x80data", headers=(("content-encoding", "br"),))),
        FakeCaller(),
    )

    answer = await begun(made)
    await answer.relay.run(caller)

    assert (headers_of(answer)["content-encoding"], caller.received) == ("br", b"\x0b\x02\x80data")


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, br", "compress", "BR"])
async def test_nothing_is_put_into_encoded_bytes(encoding: str) -> None:
    """A comment or an error frame would spoil them: a long silence stays one, a cut is just a cut."""
    silence, caller = asyncio.Event(), FakeCaller()
    headers = (("content-encoding", encoding),)
    source = stream_answer(b"\x0b\x02", silence, b"\x80", UpstreamBroken("a"), headers=headers)
    answer = await begun(door(source, keepalive_seconds=0.001))

    relaying = asyncio.create_task(answer.relay.run(caller))
    await source.is_waiting.wait()
    await asyncio.sleep(0.02)
    silence.set()
    with pytest.raises(AnswerCut):
        await relaying

    assert b"\x0b\x02\x80".startswith(caller.received)
    assert len(caller.received) == 2  # the last byte waits for the event, and then for an end


async def test_an_encoding_that_changes_nothing_is_none() -> None:
    """`identity` is the absence of one: its streams are read."""
    source = stream_answer(USAGE_FRAME, DONE_FRAME, headers=(("content-encoding", "identity"),))
    made = door(source)

    await (await begun(made)).relay.run(FakeCaller())

    assert made.sink.events[0].usage_source is UsageSource.REPORTED


async def test_compressed_audio_is_relayed_as_it_is() -> None:
    """Nothing in it is read, so nothing needs to be undone."""
    body = gzip.compress(b"RIFF" * 100)
    headers = (("content-type", "audio/wav"), *GZIP, ("content-length", str(len(body))))
    made, caller = door(FakeAnswer(200, headers, [body])), FakeCaller()

    answer = await begun(made)
    await answer.relay.run(caller)

    assert caller.received == body
    assert headers_of(answer)["content-encoding"] == "gzip"


async def test_a_stored_response_is_learned_from_compressed_text_too() -> None:
    """A stream's first frame has been decoded when its id is looked for."""
    frame = (
        b"data: %b\n\n"
        % json.dumps({"type": "response.created", "response": {"id": "resp_1"}}).encode()
    )
    made = door(stream_answer(*packed(frame), headers=GZIP))

    await made.call(STREAM_BODY, path="/openai/v1/responses")

    assert made.front_door.instance.background.owners.of("resp_1") is not None


def _split(body: bytes, size: int) -> Iterator[bytes]:
    return (body[at : at + size] for at in range(0, len(body), size))
