"""What is asked and what is answered, precomputed: callers and the backend know the same bytes.

The backend takes the kind of its answer from the deployment in the path.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from random import Random

FRAMES = 100
FRAME_SECONDS = 0.01
SHORT_FRAMES = 10
INCLUDES_USAGE = b'"include_usage"'
_USAGE = {"prompt_tokens": 120, "completion_tokens": 300, "total_tokens": 420}


class Deployment(Enum):
    """Deployments by what they answer: 2 KB at once, 100 frames 10 ms apart, or 10 at once."""

    WHOLE = "gpt-4o"
    PACED = "gpt-4o-paced"
    SHORT = "gpt-4o-short"

    @property
    def path(self) -> str:
        """The address of its chat completions."""
        return f"/openai/deployments/{self.value}/chat/completions?api-version=2024-10-21"


def _json(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


ANSWER = _json(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": "gpt-4o-2024-11-20",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "word " * 360},
                "finish_reason": "stop",
            }
        ],
        "usage": _USAGE,
    }
)


def _frame(choices: object, **more: object) -> bytes:
    document = {
        "choices": choices,
        "created": 1_764_000_000,
        "id": "chatcmpl-CeXxxxxxxxxxxxxxxxxxxxxxxxxxx",
        "model": "gpt-4o-2024-11-20",
        "object": "chat.completion.chunk",
        "system_fingerprint": "fp_ee1d74bde0",
    }
    return b"data: " + _json(document | more) + b"\n\n"


def _text(text: str) -> bytes:
    choice = {
        "content_filter_results": {},
        "delta": {"content": text},
        "finish_reason": None,
        "index": 0,
        "logprobs": None,
    }
    return _frame([choice])


_DONE = b"data: [DONE]\n\n"
_USAGE_FRAME = _frame([], usage=_USAGE)


def frames(deployment: Deployment, *, with_usage: bool) -> list[bytes]:
    """The frames of a stream."""
    count = FRAMES if deployment is Deployment.PACED else SHORT_FRAMES
    texts = [_text(f" word{number}") for number in range(count)]
    return [*texts, *([_USAGE_FRAME] if with_usage else []), _DONE]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A request but for its token, and the body that its caller must get, byte for byte."""

    deployment: Deployment
    body: bytes
    expected: bytes

    def wire(self, token: str, *more: str) -> bytes:
        """The request as it is sent; `more` are header lines."""
        lines = [
            f"POST {self.deployment.path} HTTP/1.1",
            "Host: gateway",
            f"Authorization: Bearer {token}",
            "Content-Type: application/json",
            f"Content-Length: {len(self.body)}",
            *more,
        ]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + self.body


def whole(messages: object = None, **more: object) -> Ask:
    """A call whose answer is not streamed."""
    document = {"model": Deployment.WHOLE.value, "messages": messages or _MESSAGES, **more}
    return Ask(deployment=Deployment.WHOLE, body=_json(document), expected=ANSWER)


def streamed(
    deployment: Deployment, messages: object = None, *, asks_usage: bool, **more: object
) -> Ask:
    """A streamed call. Without `asks_usage` no usage frame may arrive, whatever the gateway adds."""
    document = {
        "model": deployment.value,
        "messages": messages or _MESSAGES,
        "stream": True,
        **({"stream_options": {"include_usage": True}} if asks_usage else {}),
        **more,
    }
    expected = b"".join(frames(deployment, with_usage=asks_usage))
    return Ask(deployment=deployment, body=_json(document), expected=expected)


def agent_messages(size: int) -> list[dict[str, str]]:
    """A coding agent's conversation of about so many bytes of JSON, escapes and all."""
    dice, made, messages = Random(size), 0, []
    for role in _alternating():
        text = "".join(f'\tif word_{dice.randrange(1000)} == "a\\b":\n' for _ in range(60))
        messages.append({"role": role, "content": text})
        made += len(_json(messages[-1])) + 1
        if made >= size:
            return messages
    raise AssertionError


def image_messages(size: int) -> list[dict[str, object]]:
    """A question about an image of about so many bytes of base64."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    data = "".join(Random(size).choices(alphabet, k=size))
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
    return [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, image]}]


def _alternating() -> Iterator[str]:
    while True:
        yield "user"
        yield "assistant"


_MESSAGES = [{"role": "user", "content": "word " * 50}]
