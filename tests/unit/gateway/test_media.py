"""Audio, images and over-long JSON: relayed as they come, and never taken for whole when they are not."""

import asyncio
import json
import time

import pytest

from meter.errors import AnswerCut, UpstreamBroken
from meter.gateway.answer.usage import MAX_PARSED_BYTES, read_answer
from meter.gateway.http import Answer, StreamingAnswer
from meter.usage import Outcome, TokenUsage, UsageEvent, UsageSource
from tests.fakes.gateway import (
    FakeAnswer,
    FakeCaller,
    FakeClock,
    FakeSink,
    FakeUpstream,
    Part,
    WordCounter,
    json_answer,
    stream_answer,
)
from tests.support.gateway import (
    CHAT_PATH,
    SERVED,
    SPEECH_PATH,
    TRANSCRIPTION_PATH,
    Door,
    backend,
    door,
    form,
    form_headers,
    headers_of,
)

IMAGES_PATH = "/openai/deployments/gpt/images/generations"

MP3 = (("content-type", "audio/mpeg"),)
JSON = (("content-type", "application/json; charset=utf-8"),)
SPEAK = b'{"model":"gpt","input":"hello","voice":"alloy"}'
USAGE = b'"usage":{"input_tokens":3,"output_tokens":4,"total_tokens":7}'
# Longer than what is buffered in these tests.
IMAGES = b'{"created":1,"data":[{"b64_json":"' + b"A" * 3_000 + b'"}],' + USAGE + b"}"


def audio(*parts: Part, length: int | None = None) -> FakeAnswer:
    declared = () if length is None else (("content-length", str(length)),)
    return FakeAnswer(200, (*MP3, *declared), parts)


def long(*parts: Part, status: int = 200) -> FakeAnswer:
    return FakeAnswer(status, JSON, parts)


async def begun(made: Door, *, path: str = SPEECH_PATH) -> StreamingAnswer:
    answer = await made.call(SPEAK, path=path)
    assert isinstance(answer, StreamingAnswer)
    return answer


async def heard(made: Door, caller: FakeCaller) -> UsageEvent:
    """What one call's event says once its answer has been relayed."""
    answer = await begun(made)
    await answer.relay.run(caller)
    return made.sink.events[0]


@pytest.mark.parametrize(
    "kind", ["audio/mpeg", "Audio/WAV", "image/png", "video/mp4", "application/octet-stream"]
)
async def test_media_are_relayed_as_they_come(kind: str) -> None:
    """Byte for byte, with the type and the length that the backend gave."""
    answer = FakeAnswer(
        200, (("content-type", kind), ("content-length", "6")), [b"ab", b"cd", b"ef"]
    )
    made, caller = door(answer), FakeCaller()

    begun_answer = await begun(made)
    await begun_answer.relay.run(caller)

    assert (begun_answer.status, caller.received) == (200, b"abcdef")
    headers = headers_of(begun_answer)
    assert (headers["content-type"], headers["content-length"]) == (kind, "6")
    assert "total-tokens" not in headers
    assert made.is_idle


async def test_audio_is_here_before_it_has_ended() -> None:
    """The caller can play its beginning while the backend still speaks."""
    go_on = asyncio.Event()
    source = audio(b"abcd", go_on, b"ef")
    made, caller = door(source), FakeCaller()
    answer = await begun(made)
    relaying = asyncio.create_task(answer.relay.run(caller))

    await source.is_waiting.wait()

    assert caller.received == b"abc"
    go_on.set()
    await relaying
    assert caller.received == b"abcdef"


async def test_audio_without_a_length_has_none() -> None:
    """It then ends with its last chunk."""
    assert "content-length" not in headers_of(await begun(door(audio(b"ab"))))


async def test_audio_is_counted_by_the_characters_that_it_says() -> None:
    """Speech has no usage: what was sent is what is billed."""
    event = await heard(door(audio(b"ab", b"c")), FakeCaller())

    assert (event.outcome, event.usage, event.usage_source) == (
        Outcome.SERVED,
        TokenUsage(characters=5),
        UsageSource.REPORTED,
    )
    assert (event.operation, event.streaming) == ("audio/speech", False)


async def test_the_last_byte_is_held_until_the_event_is_safe() -> None:
    """Nobody has a whole answer that is not counted."""
    gate = asyncio.Event()
    made, caller = door(audio(b"ab", b"cd"), sink=FakeSink(gate=gate)), FakeCaller()
    answer = await begun(made)
    relaying = asyncio.create_task(answer.relay.run(caller))
    for _ in range(20):
        await asyncio.sleep(0)
    before = caller.received
    gate.set()
    await relaying

    assert (before, caller.received) == (b"abc", b"abcd")
    assert len(made.sink.events) == 1


@pytest.mark.parametrize("parts", [[b"a"], [b"ab"], [b"", b"a", b"", b"b", b""]], ids=str)
async def test_short_audio_is_whole(parts: list[Part]) -> None:
    """However few bytes it has, and however they come."""
    caller = FakeCaller()

    await heard(door(audio(*parts)), caller)

    assert caller.received == b"".join(part for part in parts if isinstance(part, bytes))


async def test_audio_of_nothing_is_a_whole_answer() -> None:
    """An empty body with its length."""
    answer = await door(audio()).call(SPEAK, path=SPEECH_PATH)

    assert isinstance(answer, Answer)
    assert (answer.status, answer.body) == (200, b"")


async def test_audio_that_is_cut_is_cut() -> None:
    """Short of its length, without a word inside the audio."""
    made, caller = door(audio(b"ab", UpstreamBroken("a"), length=4)), FakeCaller()
    answer = await begun(made)

    with pytest.raises(AnswerCut):
        await answer.relay.run(caller)

    assert caller.received == b"a"
    event = made.sink.events[0]
    assert (event.outcome, event.usage_source) == (Outcome.FAILED, UsageSource.MISSING)
    assert made.is_idle


async def test_audio_is_not_kept_alive_by_comments() -> None:
    """There is no place for them in it."""
    go_on = asyncio.Event()
    source = audio(b"ab", go_on, b"cd")
    made, caller = door(source, keepalive_seconds=0.001), FakeCaller()
    answer = await begun(made)
    relaying = asyncio.create_task(answer.relay.run(caller))
    await source.is_waiting.wait()
    await asyncio.sleep(0.02)
    go_on.set()
    await relaying

    assert caller.received == b"abcd"


@pytest.mark.parametrize(
    "fault", [audio(UpstreamBroken("a")), json_answer(500, b"{}")], ids=["cut", "500"]
)
async def test_before_its_first_byte_the_next_backend_speaks(fault: FakeAnswer) -> None:
    """The caller has heard nothing yet."""
    upstream = FakeUpstream({"a": [fault], "b": [audio(b"ab")]})
    made, caller = Door(upstream, [backend("a"), backend("b", priority=2)]), FakeCaller()

    event = await heard(made, caller)

    assert (caller.received, event.backend, upstream.order) == (b"ab", "b", ["a", "b"])
    assert made.is_idle


async def test_a_listener_that_leaves_is_not_waited_for() -> None:
    """The rest of audio tells nothing of tokens, so nobody reads it."""
    source = audio(b"ab", b"cd", b"ef", b"gh")
    made = door(source)

    event = await heard(made, FakeCaller(leaves_after=1))

    assert (event.outcome, source.parts_read, source.times_closed) == (Outcome.DISCONNECTED, 2, 1)
    assert made.is_idle


async def test_an_error_about_audio_is_a_whole_answer() -> None:
    """A refusal in JSON is passed on as such."""
    answer = await door(json_answer(400, b'{"error":{}}')).call(SPEAK, path=SPEECH_PATH)

    assert isinstance(answer, Answer)
    assert (answer.status, answer.body) == (400, b'{"error":{}}')


async def test_speech_as_events_is_a_stream() -> None:
    """`stream_format: sse` makes events of it, with usage at the end."""
    done = b'data: {"type":"speech.audio.done",' + USAGE + b"}\n\n"
    made, caller = (
        door(stream_answer(b'data: {"type":"speech.audio.delta","audio":"AA"}\n\n', done)),
        FakeCaller(),
    )

    event = await heard(made, caller)

    assert caller.received.endswith(done)
    assert (event.streaming, event.usage.total_tokens) == (True, 7)


async def test_json_that_is_too_long_to_hold_is_relayed_as_it_comes() -> None:
    """Its usage is read from its end, and its last byte waits for the event."""
    parts = [IMAGES[at : at + 500] for at in range(0, len(IMAGES), 500)]
    made, caller = door(long(*parts), max_buffered_bytes=1_000), FakeCaller()
    answer = await begun(made, path="/openai/deployments/gpt/images/generations")

    await answer.relay.run(caller)

    assert caller.received == IMAGES
    event = made.sink.events[0]
    assert (event.usage.total_tokens, event.usage_source) == (7, UsageSource.REPORTED)
    assert (event.outcome, event.streaming) == (Outcome.SERVED, False)
    assert made.is_idle


async def test_json_up_to_the_limit_is_held() -> None:
    """And one byte more is not."""
    held = await door(json_answer(200, SERVED), max_buffered_bytes=len(SERVED)).call()
    relayed = await door(json_answer(200, SERVED), max_buffered_bytes=len(SERVED) - 1).call()

    assert isinstance(held, Answer)
    assert isinstance(relayed, StreamingAnswer)


async def test_long_json_names_its_model_at_its_beginning() -> None:
    """Most answers do, before their data."""
    body = b'{"id":"1","model":"gpt-image-1",' + IMAGES[1:]
    made = door(long(body[:900], body[900:]), max_buffered_bytes=1_000)

    event = await heard(made, FakeCaller())

    assert event.model == "gpt-image-1"


@pytest.mark.parametrize("counts", [True, False], ids=["tokenizer", "none"])
async def test_long_json_without_usage_is_missing(counts: bool) -> None:
    """It came whole and said nothing: no estimate, like any whole answer."""
    body = IMAGES.replace(b'"usage"', b'"used"')
    counter = WordCounter() if counts else None
    made = door(long(body), max_buffered_bytes=1_000, counter=counter)
    answer = await begun(made, path=CHAT_PATH)

    await answer.relay.run(FakeCaller())

    event = made.sink.events[0]
    assert (event.outcome, event.usage_source) == (Outcome.SERVED, UsageSource.MISSING)


async def test_long_json_that_is_cut_is_cut() -> None:
    """Half a document, no more, and a broken connection."""
    made, caller = (
        door(long(IMAGES[:2_000], UpstreamBroken("a")), max_buffered_bytes=1_000),
        FakeCaller(),
    )
    answer = await begun(made)

    with pytest.raises(AnswerCut):
        await answer.relay.run(caller)

    assert caller.received == IMAGES[:1_999]
    assert made.sink.events[0].outcome is Outcome.FAILED


async def test_long_json_whose_caller_leaves_is_read_to_its_usage() -> None:
    """As a stream's would be."""
    parts = [IMAGES[at : at + 500] for at in range(0, len(IMAGES), 500)]
    made = door(long(*parts), max_buffered_bytes=1_000)

    event = await heard(made, FakeCaller(leaves_after=0))

    assert (event.outcome, event.usage.total_tokens) == (Outcome.DISCONNECTED, 7)
    assert made.is_idle


async def test_a_long_refusal_is_refused() -> None:
    """An error is nothing that was served, however long it is."""
    made = door(long(IMAGES, status=400), max_buffered_bytes=1_000)

    event = await heard(made, FakeCaller())

    assert (event.outcome, event.status) == (Outcome.REFUSED, 400)


async def test_a_whole_answers_first_byte_is_its_head() -> None:
    """How long its body takes is part of the duration, not of the time to the first byte."""
    clock = FakeClock()

    class Slow(FakeAnswer):
        """A body that takes nine seconds."""

        async def close(self) -> None:
            clock.advance(9)
            await super().close()

    answer = Slow(200, JSON, [SERVED])
    made = Door(FakeUpstream({"a": [answer]}, clock, seconds_per_send=2), clock=clock)
    await made.call()

    event = made.sink.events[0]
    assert (event.time_to_first_byte_ms, event.duration_ms) == (2_000, 11_000)


LOOK_ALIKES = [
    {"usage": {"total_tokens": 9}},
    [{"usage": {"total_tokens": 9}}],
    '"usage":{"total_tokens":9}',
    '\\"usage\\":{"total_tokens":9}',
    ["usage", {"total_tokens": 9}],
]


@pytest.mark.parametrize("value", LOOK_ALIKES, ids=json.dumps)
@pytest.mark.parametrize("is_last", [True, False])
def test_only_the_answers_own_usage_is_read(value: object, is_last: bool) -> None:
    """Its data may repeat the caller's words; a caller must not choose what it is charged with."""
    usage = {"total_tokens": 7}
    data = {"data": "A" * MAX_PARSED_BYTES}
    document = (
        {**data, "usage": usage, "x": value} if is_last else {**data, "x": value, "usage": usage}
    )

    reading = read_answer(json.dumps(document).encode())

    assert reading.reported == usage


def test_a_long_text_full_of_escapes_takes_no_time() -> None:
    """A search that goes back would hold up every call for seconds."""
    text = b'{"id":"1","choices":"' + b'\\"' * 1_000_000 + b'","usage":{"total_tokens":7}}'
    started = time.process_time()

    reading = read_answer(text)

    assert reading.reported == {"total_tokens": 7}
    assert time.process_time() - started < 2


def test_a_look_alike_alone_is_no_usage() -> None:
    """An answer without usage of its own says nothing."""
    document = {"data": "A" * MAX_PARSED_BYTES, "x": {"usage": {"total_tokens": 9}}}

    assert read_answer(json.dumps(document).encode()).usage is None


USAGE_TEXT = b'{"text":"hi","usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}'


@pytest.mark.parametrize(
    ("kind", "total"),
    [
        ("application/json", 3),
        ("application/json; charset=utf-8", 3),
        ("Application/JSON ;charset=utf-8", 3),
        ("application/problem+json", 3),
        ("application/vnd.openai.v1+json", 3),
        ("text/json", 3),
        ("text/plain", 0),
        ("text/plain; charset=utf-8; x=application/json", 0),
        ("text/vtt", 0),
        ("application/x-subrip", 0),
        ("application/jsonl", 0),
        ("", 0),
        (None, 0),
    ],
)
async def test_a_transcript_is_no_usage(kind: str | None, total: int) -> None:
    """As text it is the caller's own words; only JSON is the backend's."""
    headers = () if kind is None else (("content-type", kind),)
    made = door(FakeAnswer(200, headers, [USAGE_TEXT]))

    await made.call(form(("file", b"RIFF")), path=TRANSCRIPTION_PATH, headers=form_headers())

    event = made.sink.events[0]
    assert event.usage.total_tokens == total
    assert event.usage_source is (UsageSource.REPORTED if total else UsageSource.MISSING)


async def test_an_answer_without_a_content_type_is_json_where_it_can_be_nothing_else() -> None:
    """Some proxies drop the header."""
    made = door(FakeAnswer(200, (), [SERVED]))

    await made.call()

    assert made.sink.events[0].usage.total_tokens == 46


async def test_whispers_audio_is_counted_by_its_length() -> None:
    """`verbose_json` without usage: begun seconds count."""
    body = b'{"task":"transcribe","language":"english","duration":8.47,"text":"hi"}'
    made = door(json_answer(200, body))

    await made.call(form(("file", b"RIFF")), path=TRANSCRIPTION_PATH, headers=form_headers())

    event = made.sink.events[0]
    assert (event.usage.seconds, event.usage.total_tokens) == (9, 0)
    assert (event.usage_source, event.usage_raw) == (
        UsageSource.REPORTED,
        {"usage": {"duration": 8.47}},
    )


async def test_images_of_one_stream_add_up_and_the_last_is_held() -> None:
    """Also where the backend cuts the stream behind the last one, which closes it."""
    usage = b'"usage":{"input_tokens":1,"output_tokens":2,"total_tokens":3}'
    image = b'data: {"type":"image_generation.completed",%b}\n\n' % usage
    made, caller = door(stream_answer(image, image, UpstreamBroken("a"))), FakeCaller()
    answer = await made.call(b'{"model":"gpt","stream":true,"n":2}', path=IMAGES_PATH)
    assert isinstance(answer, StreamingAnswer)

    await answer.relay.run(caller)

    event = made.sink.events[0]
    assert (caller.received, len(made.sink.events)) == (image * 2, 1)
    assert (event.usage.total_tokens, event.outcome) == (6, Outcome.SERVED)
    assert event.usage_source is UsageSource.REPORTED
