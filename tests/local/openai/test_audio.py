"""The stand-in transcribes and speaks in the shapes that the SDK reads, and bills both by a rule."""

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
from openai.types.audio import (
    Transcription,
    TranscriptionTextDeltaEvent,
    TranscriptionTextDoneEvent,
    TranscriptionVerbose,
)
from openai.types.audio.transcription import UsageDuration, UsageTokens

from tests.support.openai_bench import API_VERSION, KEY, Bench, open_bench

# 70,000 bytes last 3 seconds: 30 audio tokens; with the 2 words of the prompt 32 input tokens,
# so the transcription has 5 + 32 % 11 words.
FILE = ("talk.wav", b"\r\n--x\xff\x00" * 10_000)
HINT = "two words"
# 3 words: 5 chunks of 2,048 bytes and 10 tokens.
LINE = "say it aloud"
SPEECH = {"model": "tts", "input": LINE, "voice": "alloy"}
BOTH_SHAPES = pytest.mark.parametrize("shape", ["classic", "v1"])
V1_TRANSCRIPTIONS = "/openai/v1/audio/transcriptions"
# The SDK's translations warn of the vendor's plans for them.
TRANSLATING = pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
BOTH_MODELS = pytest.mark.parametrize("model", ["gpt-4o-transcribe", "whisper"])


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with open_bench(tmp_path / "calls.jsonl") as opened:
        yield opened


def strict(shape: type[Any], answer: Any) -> Any:
    """An answer, revalidated without the SDK's leniency."""
    return shape.model_validate(answer.to_dict(), strict=True)


def form_of(fields: dict[str, str], *, with_file: bool = True) -> aiohttp.FormData:
    form = aiohttp.FormData(fields, default_to_multipart=True)
    if with_file:
        form.add_field("file", FILE[1], filename=FILE[0])
    return form


async def read_into(received: bytearray, answer: aiohttp.ClientResponse) -> None:
    async for piece in answer.content.iter_any():
        received += piece


def frames_of(text: str) -> list[dict[str, Any]]:
    """The events of a stream whose frames have neither names nor a `[DONE]`."""
    *frames, rest = text.split("\n\n")
    assert rest == ""
    return [json.loads(frame.removeprefix("data: ")) for frame in frames]


@BOTH_SHAPES
async def test_a_transcription_is_billed_by_the_token(bench: Bench, shape: str) -> None:
    """Input: 10 tokens per second and the words of the prompt; output: one token per word."""
    heard = await bench.client(shape).audio.transcriptions.create(
        model="gpt-4o-transcribe", file=FILE, prompt=HINT
    )

    usage = strict(Transcription, heard).usage
    assert isinstance(usage, UsageTokens)
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (32, 15, 47)
    assert usage.input_token_details is not None
    details = usage.input_token_details
    assert (details.audio_tokens, details.text_tokens) == (30, 2)
    assert len(heard.text.split()) == 15
    [call] = await bench.calls()
    assert call["usage"] == heard.to_dict()["usage"]
    assert (call["operation"], call["deployment"]) == ("audio/transcriptions", "gpt-4o-transcribe")
    assert "talk.wav" not in json.dumps(call)


@BOTH_SHAPES
async def test_whisper_is_billed_by_the_second(bench: Bench, shape: str) -> None:
    """A file lasts its bytes divided by 32,000, plus one second."""
    create = bench.client(shape).audio.transcriptions.create
    heard = await create(model="whisper", file=FILE)
    told = await create(model="whisper", file=FILE, response_format="verbose_json")

    usage = strict(Transcription, heard).usage
    assert isinstance(usage, UsageDuration)
    assert usage.seconds == 3
    assert strict(TranscriptionVerbose, told).duration == 3
    assert [call["usage"] for call in await bench.calls()] == [
        {"type": "duration", "seconds": 3},
        {"type": "duration", "seconds": 3},
    ]


@pytest.mark.parametrize(
    ("size", "seconds"), [(0, 1), (31_999, 1), (32_000, 2), (64_000, 3), (3_200_000, 101)]
)
async def test_the_duration_follows_from_the_size(bench: Bench, size: int, seconds: int) -> None:
    """An empty file lasts one second; every 32,000 bytes begin another."""
    heard = await bench.v1.audio.transcriptions.create(model="whisper", file=("a.mp3", bytes(size)))

    assert isinstance(heard.usage, UsageDuration)
    assert heard.usage.seconds == seconds


@TRANSLATING
@BOTH_SHAPES
@BOTH_MODELS
async def test_a_translation_is_billed_as_a_transcription(
    bench: Bench, shape: str, model: str
) -> None:
    """The other operation on audio has the same shape and the same rule."""
    client = bench.client(shape)
    translated = await client.audio.translations.create(model=model, file=FILE)
    heard = await client.audio.transcriptions.create(model=model, file=FILE)

    assert translated.to_dict() == heard.to_dict()
    first, second = await bench.calls()
    assert (first["operation"], first["usage"]) == ("audio/translations", second["usage"])


@pytest.mark.parametrize(
    ("model", "billed"),
    [("gpt-4o-transcribe", {"total_tokens": 47}), ("whisper", {"seconds": 3})],
)
async def test_plain_text_has_no_usage(bench: Bench, model: str, billed: dict[str, int]) -> None:
    """`response_format: text` is answered as plain text; the account still bills it."""
    create = bench.v1.audio.transcriptions.with_raw_response.create
    raw = await create(model=model, file=FILE, prompt=HINT, response_format="text")

    assert raw.headers["content-type"] == "text/plain; charset=utf-8"
    assert len(raw.text.split()) == 15
    [call] = await bench.calls()
    assert call["usage"].items() >= billed.items()


@BOTH_SHAPES
async def test_a_streamed_transcription_ends_with_its_usage(bench: Bench, shape: str) -> None:
    """One delta per word, then the whole text with the usage."""
    stream = await bench.client(shape).audio.transcriptions.create(
        model="gpt-4o-transcribe", file=FILE, prompt=HINT, stream=True
    )
    *deltas, last = [event async for event in stream]

    done = strict(TranscriptionTextDoneEvent, last)
    assert "".join(strict(TranscriptionTextDeltaEvent, event).delta for event in deltas) == (
        done.text
    )
    assert (len(deltas), done.usage.total_tokens) == (15, 47)
    [call] = await bench.calls()
    assert (call["streaming"], call["usage"]["total_tokens"]) == (True, 47)


async def test_whisper_does_not_stream(bench: Bench) -> None:
    """It ignores `stream` and answers at once, as its vendor documents."""
    form = form_of({"model": "whisper", "stream": "true"})
    status, answer = await bench.ask("POST", V1_TRANSCRIPTIONS, data=form)

    assert (status, answer["usage"]["seconds"]) == (200, 3)


@BOTH_SHAPES
async def test_speech_is_bytes_in_chunks(bench: Bench, shape: str) -> None:
    """2,048 bytes per chunk, 2 chunks and one per word; the answer has neither length nor usage."""
    client = bench.client(shape)
    speech = client.audio.speech.with_streaming_response
    async with speech.create(model="tts", input=LINE, voice="alloy") as answer:
        headers = answer.headers
        heard = await answer.read()
    again = await client.audio.speech.create(model="tts", input=LINE, voice="alloy")
    other = await client.audio.speech.create(model="tts", input="say so now", voice="alloy")

    assert headers["content-type"] == "audio/mpeg"
    assert headers["transfer-encoding"] == "chunked"
    assert "content-length" not in headers
    assert len(heard) == 10_240
    assert again.content == heard
    assert other.content != heard
    call = (await bench.calls())[0]
    assert (call["operation"], call["streaming"]) == ("audio/speech", False)
    assert call["usage"] == {"input_tokens": 3, "output_tokens": 50, "total_tokens": 53}


async def test_speech_can_be_another_format(bench: Bench) -> None:
    """The content type follows the format that the caller asks for."""
    answer = await bench.azure.audio.speech.create(
        model="tts", input=LINE, voice="alloy", response_format="wav"
    )

    assert answer.response.headers["content-type"] == "audio/wav"


async def test_streamed_speech_ends_with_its_usage(bench: Bench) -> None:
    """`stream_format: sse` sends the same bytes in base64, then the usage."""
    plain = await bench.v1.audio.speech.create(model="tts", input=LINE, voice="alloy")
    streamed = await bench.v1.audio.speech.create(
        model="tts", input=LINE, voice="alloy", instructions="be kind", stream_format="sse"
    )
    *deltas, done = frames_of(streamed.text)

    assert {event["type"] for event in deltas} == {"speech.audio.delta"}
    assert b"".join(base64.b64decode(event["audio"]) for event in deltas) == plain.content
    assert done == {
        "type": "speech.audio.done",
        "usage": {"input_tokens": 5, "output_tokens": 50, "total_tokens": 55},
    }
    assert (await bench.calls())[-1]["streaming"] is True


async def test_audio_can_leave_its_usage_out(bench: Bench) -> None:
    """`no_usage` hides it from JSON and from both kinds of events; the record still has it."""
    await bench.fault(no_usage=True, count=None)
    create = bench.v1.audio.transcriptions.create
    heard = await create(model="gpt-4o-transcribe", file=FILE)
    stream = await create(model="gpt-4o-transcribe", file=FILE, stream=True)
    events = [event.to_dict() async for event in stream]
    speech = await bench.v1.audio.speech.create(
        model="tts", input=LINE, voice="alloy", stream_format="sse"
    )

    assert heard.usage is None
    assert not any("usage" in event for event in events + frames_of(speech.text))
    assert all(call["usage"] for call in await bench.calls())


async def test_speech_can_be_cut(bench: Bench) -> None:
    """A reset inside the bytes is no clean end; the call is billed."""
    await bench.fault(cut_after_bytes=3000)
    received = bytearray()
    url = f"{bench.url}/openai/deployments/tts/audio/speech?api-version={API_VERSION}"
    async with bench.http.post(url, json=SPEECH, headers={"api-key": KEY}) as answer:
        with pytest.raises(aiohttp.ClientError):
            await read_into(received, answer)

    assert len(received) == 3000
    [call] = await bench.calls()
    assert (call["completed"], call["usage"]["total_tokens"]) == (False, 53)


@TRANSLATING
async def test_faults_strike_audio(bench: Bench) -> None:
    """Each operation is throttled under its own name, and hangs on demand."""
    await bench.fault(status=429, count=3)
    await bench.fault(hang=True)
    audio = bench.azure.audio
    with pytest.raises(openai.RateLimitError, match="Transcriptions_Create"):
        await audio.transcriptions.create(model="whisper", file=FILE)
    with pytest.raises(openai.RateLimitError, match="Translations_Create"):
        await audio.translations.create(model="whisper", file=FILE)
    with pytest.raises(openai.RateLimitError, match="Speech_Create"):
        await audio.speech.create(model="tts", input=LINE, voice="alloy")
    with pytest.raises(openai.APITimeoutError):
        await audio.speech.create(model="tts", input=LINE, voice="alloy", timeout=1)

    assert [call["status"] for call in await bench.recorded(4)] == [429, 429, 429, None]


@pytest.mark.parametrize(
    ("path", "body", "status", "code", "message"),
    [
        ("audio/speech", {"model": "tts", "input": "x"}, 400, None, "'voice'"),
        ("audio/speech", {"model": "tts", "voice": "x"}, 400, None, "'input'"),
        ("audio/speech", {"model": "nobody"}, 404, "DeploymentNotFound", "deployment"),
        ("audio/speech", {"model": "whisper"}, 400, "OperationNotSupported", "whisper-001"),
        ("audio/transcriptions", {"model": "whisper"}, 400, None, "multipart"),
        ("chat/completions", {"model": "tts"}, 400, "OperationNotSupported", "tts"),
    ],
)
async def test_a_wrong_audio_call_is_refused(
    bench: Bench, path: str, body: dict[str, object], status: int, code: str | None, message: str
) -> None:
    """Fields that are missing, models that cannot, JSON where a form is needed."""
    answered, error = await bench.post(f"/openai/v1/{path}", body)

    assert (answered, error["error"]["code"]) == (status, code)
    assert message in error["error"]["message"]
    [call] = await bench.calls()
    assert (call["operation"], call["status"], call["usage"]) == (path, status, None)


@pytest.mark.parametrize(
    ("fields", "with_file", "status", "code"),
    [
        ({"model": "whisper"}, True, 200, None),
        ({"model": "whisper"}, False, 400, None),
        ({}, True, 404, "DeploymentNotFound"),
        ({"model": "nobody"}, True, 404, "DeploymentNotFound"),
        ({"model": "tts"}, True, 400, "OperationNotSupported"),
    ],
)
async def test_a_form_names_its_deployment(
    bench: Bench, fields: dict[str, str], with_file: bool, status: int, code: str | None
) -> None:
    """On v1 the form's `model` decides; forms are refused for the same reasons as JSON bodies."""
    form = form_of(fields, with_file=with_file)
    answered, answer = await bench.ask("POST", V1_TRANSCRIPTIONS, data=form)

    assert answered == status
    assert answer.get("error", {}).get("code") == code


async def test_a_classic_form_need_not_name_its_deployment(bench: Bench) -> None:
    """The address names it, and wins over the form."""
    path = f"/openai/deployments/whisper/audio/transcriptions?api-version={API_VERSION}"
    status, answer = await bench.ask("POST", path, data=form_of({"model": "nobody"}))

    assert (status, answer["usage"]["seconds"]) == (200, 3)
