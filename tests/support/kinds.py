"""An application with only the OpenAI SDK that makes one call of each kind that Azure bills by.

The words `NAME=VALUE` of the texts ask a stand-in for what it reports (`local/openai/asked.py`). Run as
a program, so that openai 1.x and 3.x make the same calls: `python kinds.py URL KEY` prints JSON with
the SDK's version and what it read from each answer.
"""

import io
import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

import openai

IMAGE_TOOL = {"type": "image_generation", "model": "gpt-image-1"}
IMAGE_HEADER = {"x-ms-oai-image-generation-deployment": "gpt-image-1"}
TOOLS = "web_searches=3 page_opens=2 page_finds=1 file_searches=2 code_runs=5 containers=2"

type Make = Callable[[openai.OpenAI], Any]


def main(url: str, key: str) -> None:
    """Make the calls and print what the SDK read."""
    client = openai.OpenAI(base_url=f"{url}/openai/v1/", api_key=key, max_retries=0)
    seen = {name: seen_in(make(client)) for name, make in KINDS.items()}
    sys.stdout.write(json.dumps({"version": openai.__version__, "seen": seen}))


def seen_in(answer: Any) -> Mapping[str, Any]:
    """The document that carries the usage: an answer, or the last event that has something of it."""
    if isinstance(answer, str | bytes):
        return {}
    if hasattr(answer, "model_dump"):
        return dict(answer.to_dict())
    if not hasattr(answer, "__iter__"):
        return {"bytes": len(answer.content)}
    last: Mapping[str, Any] = {}
    for event in answer:
        document = event.to_dict()
        document = document.get("response", document)
        last = document if document.get("usage") else last
    return last


def _chat(words: str, **given: Any) -> Make:
    message: Any = {"role": "user", "content": f"how much is that? {words}"}
    return lambda c: c.chat.completions.create(model="gpt-4o", messages=[message], **given)


def _chat_stream(words: str, **given: Any) -> Make:
    return _chat(words, stream=True, stream_options={"include_usage": True}, **given)


def _response(words: str, **given: Any) -> Make:
    text = f"how much is that? {words}"
    return lambda c: c.responses.create(model="gpt-4o-mini", input=text, **given)


def _image_tool(**given: Any) -> Make:
    tools: Any = [IMAGE_TOOL]
    return _response("image_calls=2", tools=tools, extra_headers=IMAGE_HEADER, **given)


def _image(model: str, words: str = "", **given: Any) -> Make:
    return lambda c: c.images.generate(model=model, prompt=f"a fox {words}", **given)


def _heard(model: str, **given: Any) -> Make:
    return lambda c: c.audio.transcriptions.create(model=model, file=_sound(), **given)


def _spoken(model: str, text: str, **given: Any) -> Make:
    return lambda c: c.audio.speech.create(model=model, voice="alloy", input=text, **given)


def _sound() -> tuple[str, io.BytesIO]:
    return "sound.wav", io.BytesIO(bytes(70_000))


_WRITES = "prompt_tokens=2000 cached_tokens=500 cache_write_tokens=1000"
_SOUNDS = (
    "prompt_tokens=400 cached_tokens=100 audio_prompt_tokens=300 audio_cached_tokens=80 "
    "completion_tokens=200 audio_completion_tokens=150"
)
_PICTURES = "prompt_tokens=900 cached_tokens=200 image_prompt_tokens=700 image_cached_tokens=128"

KINDS: Mapping[str, Make] = {
    "chat": _chat(""),
    "chat priority": _chat("", service_tier="priority"),
    "chat priority, downgraded": _chat("service_tier=default", service_tier="priority"),
    "chat flex, streamed": _chat_stream("", service_tier="flex"),
    "chat downgraded, streamed": _chat_stream("service_tier=default", service_tier="priority"),
    "chat of an unknown tier": _chat("service_tier=turbo"),
    "chat with a long prompt": _chat("prompt_tokens=300000"),
    "chat with a long prompt, streamed": _chat_stream("prompt_tokens=272001"),
    "chat just below": _chat("prompt_tokens=272000"),
    "chat with cache writes": _chat(_WRITES, reasoning_effort="low"),
    "chat with audio": _chat(_SOUNDS),
    "chat with audio, streamed": _chat_stream(_SOUNDS),
    "chat with images": _chat(_PICTURES),
    "completion": lambda c: c.completions.create(model="gpt-4o", prompt="Once upon a time"),
    "embedding": lambda c: c.embeddings.create(
        model="text-embedding-3-small", input=["one two", "prompt_tokens=40"]
    ),
    "response": _response(_WRITES, reasoning={"effort": "low"}),
    "response priority, streamed": _response("", service_tier="priority", stream=True),
    "response downgraded, streamed": _response(
        "service_tier=default", service_tier="priority", stream=True
    ),
    "response flex": _response("", service_tier="flex"),
    "response with a long prompt": _response("prompt_tokens=280000"),
    "response with tools": _response(TOOLS),
    "response with tools, streamed": _response(TOOLS, stream=True),
    "response with told searches": _response("web_searches=4 web_search_requests=2"),
    "response with images": _image_tool(),
    "response with images, streamed": _image_tool(stream=True),
    "images": _image("gpt-image-1", n=2),
    "images, split": _image("gpt-image-1", "image_completion_tokens=1000"),
    "images, streamed": _image("gpt-image-1", stream=True),
    "images without tokens": _image("dall-e-3", n=3),
    "edit": lambda c: c.images.edit(
        model="gpt-image-1", image=("a.png", io.BytesIO(b"\x89PNG")), prompt="make it blue"
    ),
    "transcription": _heard("gpt-4o-transcribe"),
    "transcription, streamed": _heard("gpt-4o-transcribe", stream=True),
    "transcription by the second": _heard("gpt-4o-transcribe", prompt="seconds=61"),
    "whisper": _heard("whisper", response_format="verbose_json", prompt="seconds=2.5"),
    "speech by the character": _spoken("tts-hd", "Größer ist das 🙂 Haus"),
    "speech as events": lambda c: c.post(
        "/audio/speech",
        body={"model": "tts", "voice": "alloy", "input": "Hello there", "stream_format": "sse"},
        cast_to=str,
    ),
}

if __name__ == "__main__":
    main(*sys.argv[1:3])
