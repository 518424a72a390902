"""Images and the characters of speech are counted from the request where the answer reports no tokens."""

import asyncio
import json
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from meter.errors import AnswerCut, UpstreamBroken
from meter.gateway.answer.relay import DrainLimits, Drains
from meter.gateway.http import StreamingAnswer
from meter.gateway.request.asked import MOST_AT_ONCE, characters
from meter.usage import NO_USAGE, Outcome, TokenUsage, UsageEvent, UsageSource
from tests.fakes.gateway import FakeAnswer, FakeCaller, Part, json_answer, stream_answer
from tests.support.gateway import (
    SPEECH_PATH,
    Door,
    door,
    form,
    form_headers,
)

IMAGES_PATH = "/openai/deployments/gpt/images/generations"
EDITS_PATH = "/openai/deployments/gpt/images/edits"
DALL_E = b'{"created":1,"data":[{"url":"https://x","revised_prompt":"a"},{"url":"https://y"}]}'
MISSING = (NO_USAGE, UsageSource.MISSING)


def audio(*parts: Part) -> FakeAnswer:
    return FakeAnswer(200, (("content-type", "audio/mpeg"),), parts)


def images(count: int) -> tuple[TokenUsage, UsageSource]:
    return TokenUsage(images=count), UsageSource.REPORTED


def spoken(count: int) -> tuple[TokenUsage, UsageSource]:
    return TokenUsage(characters=count), UsageSource.REPORTED


async def counted(
    made: Door, body: bytes, path: str, caller: FakeCaller | None = None
) -> tuple[TokenUsage, UsageSource]:
    """What the one event says of the usage, once the answer has been relayed."""
    event = await heard(made, body, path, caller)
    return event.usage, event.usage_source


async def heard(made: Door, body: bytes, path: str, caller: FakeCaller | None = None) -> UsageEvent:
    answer = await made.call(body, path=path)
    if isinstance(answer, StreamingAnswer):
        await answer.relay.run(caller or FakeCaller())
    assert made.is_idle
    return made.sink.events[0]


@pytest.mark.parametrize(
    ("asked", "answer", "expected"),
    [
        (b'{"n":5}', DALL_E, images(2)),
        (b'{"n":5}', b'{"created":1,"data":[]}', images(0)),
        (b'{"n":5}', b'{"created":1}', images(5)),
        (b"{}", b'{"created":1,"data":null}', images(1)),
        (b'{"n":null}', b'{"created":1}', images(1)),
        (b'{"n":"5"}', b'{"created":1}', MISSING),
        (b'{"n":true}', b'{"created":1}', MISSING),
        (b'{"n":-1}', b'{"created":1}', MISSING),
        (b'{"n":0}', b'{"created":1}', MISSING),
        (b'{"n":1e300}', b'{"created":1}', MISSING),
        (b'{"n":5}', b'{"created":1,"data":[{}],"usage":{"total_tokens":-1}}', MISSING),
        (b'{"n":5}', b'{"created":1,"data":[{}],"usage":{"total_tokens":0}}', images(1)),
        (b'{"n":5}', b'{"created":1,"data":[{}],"usage":{}}', images(1)),
    ],
    ids=str,
)
async def test_images_without_tokens_are_counted(
    asked: bytes, answer: bytes, expected: tuple[TokenUsage, UsageSource]
) -> None:
    """Those in the answer, else those asked for; where it reports tokens in vain it is missing."""
    assert await counted(door(json_answer(200, answer)), asked, IMAGES_PATH) == expected


async def test_images_with_tokens_are_counted_by_these() -> None:
    """Output without details is images; their number says nothing more."""
    answer = (
        b'{"data":[{}],"usage":{"input_tokens":50,"output_tokens":60,"total_tokens":110,'
        b'"input_tokens_details":{"text_tokens":10,"image_tokens":40}}}'
    )

    usage, source = await counted(door(json_answer(200, answer)), b"{}", IMAGES_PATH)

    assert source is UsageSource.REPORTED
    assert usage == TokenUsage(
        prompt_tokens=50,
        completion_tokens=60,
        total_tokens=110,
        image_tokens=100,
        image_prompt_tokens=40,
        image_completion_tokens=60,
    )


@pytest.mark.parametrize("size", [100, 1_000_000])
async def test_images_in_an_answer_too_long_to_hold_are_counted(size: int) -> None:
    """As it passes."""
    answer = json.dumps({"created": 1, "data": [{"b64_json": "A" * 50_000}] * 3}).encode()
    made = door(json_answer(200, answer), max_buffered_bytes=size)

    assert await counted(made, b'{"n":9}', IMAGES_PATH) == images(3)


async def test_images_of_an_answer_that_was_left_are_those_asked_for() -> None:
    """Nobody reads on to count them."""
    answer = json.dumps({"created": 1, "data": [{"b64_json": "A" * 500}] * 3}).encode()
    source = FakeAnswer(200, (("content-type", "application/json"),), [answer[:600], answer[600:]])
    nobody_drains = Drains(DrainLimits(most=0, seconds=5))
    made = door(source, max_buffered_bytes=100, drains=nobody_drains)

    event = await heard(made, b'{"n":9}', IMAGES_PATH, FakeCaller(leaves_after=0))

    assert event.outcome is Outcome.DISCONNECTED
    assert (event.usage, event.usage_source) == images(9)


async def test_streamed_images_without_usage_are_counted() -> None:
    """Each by the frame that completes it."""
    image = b'data: {"type":"image_generation.completed","b64_json":"A"}\n\n'
    made = door(stream_answer(image, image))

    assert await counted(made, b'{"stream":true,"n":2}', IMAGES_PATH) == images(2)


async def test_edited_images_are_counted_in_the_answer() -> None:
    """The form is not read for them."""
    made = door(json_answer(200, DALL_E), json_answer(200, b"{}"))
    for _ in range(2):
        await made.call(form(("image", b"x")), path=EDITS_PATH, headers=form_headers())

    first, second = made.sink.events
    assert (first.usage, first.usage_source) == images(2)
    assert (second.usage, second.usage_source) == MISSING


@pytest.mark.parametrize(
    ("text", "count"),
    [
        (b'"hello"', 5),
        (b'""', 0),
        (b'"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"', 3),
        (b'"\\u00e9\\n\\"\\\\"', 4),
        (b'"\\ud83d\\ude00"', 1),
        (b'"\\ud83d \\ude00"', 3),
    ],
    ids=repr,
)
async def test_speech_is_counted_by_its_characters(text: bytes, count: int) -> None:
    """As the text is read, not as it is written."""
    body = b'{"model":"gpt","voice":"alloy","input":%b}' % text

    assert await counted(door(audio(b"ab", b"c")), body, SPEECH_PATH) == spoken(count)


@pytest.mark.parametrize("text", [b"7", b"null", b"[]", b'{"a":"b"}'], ids=repr)
async def test_speech_of_what_is_no_text_is_missing(text: bytes) -> None:
    """Nothing is invented."""
    assert await counted(door(audio(b"ab")), b'{"input":%b}' % text, SPEECH_PATH) == MISSING


async def test_speech_that_nobody_listens_to_is_charged() -> None:
    """It is billed by what was sent."""
    made = door(audio(b"ab", b"cd", b"ef", b"gh"))

    event = await heard(made, b'{"input":"hello"}', SPEECH_PATH, FakeCaller(leaves_after=1))

    assert event.outcome is Outcome.DISCONNECTED
    assert (event.usage, event.usage_source) == spoken(5)


async def test_speech_that_is_cut_is_missing() -> None:
    """A fault of the backend; whether it charges is not known."""
    made = door(audio(b"ab", UpstreamBroken("a")))
    answer = await made.call(b'{"input":"hello"}', path=SPEECH_PATH)
    assert isinstance(answer, StreamingAnswer)
    with pytest.raises(AnswerCut):
        await answer.relay.run(FakeCaller())

    event = made.sink.events[0]
    assert (event.usage, event.usage_source) == MISSING


@pytest.mark.parametrize("status", [400, 429, 500])
@pytest.mark.parametrize("path", [SPEECH_PATH, IMAGES_PATH])
async def test_an_error_charges_nothing(status: int, path: str) -> None:
    """Whatever was asked for."""
    made = door(json_answer(status, b'{"error":{"code":"x"},"data":[{}]}'))

    assert await counted(made, b'{"input":"hello","n":2}', path) == MISSING


async def test_an_error_in_an_answer_of_200_charges_nothing() -> None:
    """It is none that was served."""
    made = door(json_answer(200, b'{"error":{"code":"content_filter","message":"x"}}'))

    assert await counted(made, b'{"input":"hello"}', SPEECH_PATH) == MISSING


async def test_streamed_speech_reports_audio() -> None:
    """Its usage has no details: what was said is audio."""
    done = (
        b'data: {"type":"speech.audio.done","usage":{"input_tokens":3,"output_tokens":4,'
        b'"total_tokens":7}}\n\n'
    )
    made = door(stream_answer(b'data: {"type":"speech.audio.delta","audio":"AA"}\n\n', done))

    usage, _ = await counted(made, b'{"input":"hello","stream_format":"sse"}', SPEECH_PATH)

    assert usage == TokenUsage(
        prompt_tokens=3,
        completion_tokens=4,
        total_tokens=7,
        audio_tokens=4,
        audio_completion_tokens=4,
    )


async def test_streamed_speech_without_usage_is_counted_by_its_characters() -> None:
    """As audio bytes are."""
    made = door(stream_answer(b'data: {"type":"speech.audio.done"}\n\n'))

    assert await counted(made, b'{"input":"hello"}', SPEECH_PATH) == spoken(5)


async def test_other_answers_without_tokens_stay_missing() -> None:
    """A chat is billed by its tokens alone."""
    made = door(json_answer(200, b'{"data":[{}],"input":"x"}'))

    assert (
        await counted(
            made, b'{"input":"hello","n":3}', SPEECH_PATH.replace("audio/speech", "embeddings")
        )
        == MISSING
    )


@given(st.text(max_size=200), st.booleans(), st.integers(min_value=0, max_value=5))
@example("\ud83d\ude00\ud83d", True, 1)
@example("\\u00e9\\", False, 0)
def test_a_texts_length_is_what_a_parser_sees(text: str, escapes: bool, before: int) -> None:
    """For any characters, escaped or not, wherever it stands."""
    written = json.dumps(text, ensure_ascii=escapes).encode(errors="surrogatepass")
    raw = b" " * before + written + b"}"

    # A parser joins the halves of a pair that stand side by side.
    assert characters(raw, before, before + len(written)) == len(json.loads(json.dumps(text)))


@pytest.mark.parametrize("piece", ["a", "\u20ac", '"', "\U0001f600"])
def test_a_long_text_is_counted_in_pieces(piece: str) -> None:
    """Without a copy of it, and soon."""
    raw = json.dumps(piece * (3 * MOST_AT_ONCE), ensure_ascii=piece == '"').encode()
    started = time.process_time()

    assert characters(raw, 0, len(raw)) == 3 * MOST_AT_ONCE
    assert time.process_time() - started < 2


async def test_a_long_text_does_not_hold_up_the_loop() -> None:
    """It is counted in a thread, while other calls go on."""
    body = b'{"input":"%b"}' % (b"\\n" * 1_000_000)
    made, turns = door(audio(b"ab")), 0

    async def others() -> None:
        nonlocal turns
        while not made.sink.events:
            turns += 1
            await asyncio.sleep(0.001)

    others_turn = asyncio.create_task(others())
    usage, _ = await counted(made, body, SPEECH_PATH)
    await others_turn

    assert usage.characters == 1_000_000
    assert turns > 5
