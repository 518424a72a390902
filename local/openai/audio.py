"""Answers audio calls: transcriptions of files, and speech as bytes that depend on the text.

A transcription is JSON with its usage, plain text without it, or events of which the last has the
usage. Speech is bytes in several chunks without usage, or events that end with it. The events of
audio have no names and no `[DONE]`.
"""

import base64
import hashlib
from collections.abc import Iterator

from local.openai.answers import Answer, data_frame, event_stream, json_answer, shown_usage
from local.openai.call import Call, JsonObject, Operation
from local.openai.counting import answer_words
from local.openai.families import Family, family_of
from local.openai.media import (
    count_speech,
    count_transcript,
    spoken_bill,
    streamed_speech_bill,
    transcript_bill,
)

_TEXT_FORMATS = frozenset({"text", "srt", "vtt"})
_AUDIO_TYPES = {
    "opus": "audio/ogg",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "pcm": "audio/pcm",
}
_USUAL_AUDIO_TYPE = "audio/mpeg"
_CHUNK_BYTES = 2048


def transcript_answer(call: Call, *, no_usage: bool = False) -> Answer:
    """The transcription of the file that a call sent."""
    count = count_transcript(call)
    words = answer_words(count.output_tokens)
    text = "".join(words)
    bill = transcript_bill(call, count)
    if call.is_streaming and family_of(call.model) is not Family.WHISPER:
        events = _transcript_events(words, shown_usage(bill, no_usage=no_usage))
        return event_stream((data_frame(event) for event in events), bill)
    answer_format = call.body.get("response_format")
    if answer_format in _TEXT_FORMATS:
        return Answer(
            status=200,
            pieces=(f"{text}\n".encode(),),
            content_type="text/plain; charset=utf-8",
            bill=bill,
        )
    content: JsonObject = {"text": text}
    if answer_format == "verbose_json":
        task = "translate" if call.operation is Operation.TRANSLATIONS else "transcribe"
        content |= {
            "task": task,
            "language": "english",
            "duration": _duration(call, count.seconds),
            "segments": [],
        }
    return json_answer(content, bill, no_usage=no_usage)


def speech_answer(call: Call, *, no_usage: bool = False) -> Answer:
    """The speech for the text that a call sent."""
    count = count_speech(call)
    chunks = _audio(str(call.body.get("input")), count.chunks)
    if call.is_streaming and family_of(call.model) is Family.VOICE:
        bill = streamed_speech_bill(call, count)
        events = _speech_events(chunks, shown_usage(bill, no_usage=no_usage))
        return event_stream((data_frame(event) for event in events), bill)
    audio_format = str(call.body.get("response_format"))
    return Answer(
        status=200,
        pieces=tuple(chunks),
        content_type=_AUDIO_TYPES.get(audio_format, _USUAL_AUDIO_TYPE),
        is_stream=True,
        bill=spoken_bill(call, count),
    )


def _transcript_events(words: list[str], usage: JsonObject) -> Iterator[JsonObject]:
    for word in words:
        yield {"type": "transcript.text.delta", "delta": word}
    yield {"type": "transcript.text.done", "text": "".join(words), **usage}


def _speech_events(chunks: list[bytes], usage: JsonObject) -> Iterator[JsonObject]:
    for chunk in chunks:
        yield {"type": "speech.audio.delta", "audio": base64.b64encode(chunk).decode()}
    yield {"type": "speech.audio.done", **usage}


def _duration(call: Call, seconds: int) -> object:
    return call.asked.values.get("seconds", seconds)


def _audio(text: str, chunks: int) -> list[bytes]:
    digest = hashlib.shake_256(text.encode(errors="surrogatepass")).digest(chunks * _CHUNK_BYTES)
    return [digest[start : start + _CHUNK_BYTES] for start in range(0, len(digest), _CHUNK_BYTES)]
