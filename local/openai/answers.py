"""Builds complete answers: the bytes of a body, in the pieces in which it is written."""

import base64
import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import assert_never

from local.openai.call import Call, JsonObject, Operation
from local.openai.counting import Count, answer_words, count_tokens, inputs_of, usage_json

FINGERPRINT = "fp_b705f0c291"
_DEFAULT_DIMENSIONS = 1536


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """What differs between two equal calls: the answer's id and its time (Unix seconds)."""

    identity: str
    created: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A whole answer before any fault damages it; `usage` is what the account bills."""

    status: int
    pieces: tuple[bytes, ...]
    is_stream: bool = False
    usage: JsonObject | None = None


def encode(value: object) -> bytes:
    """JSON as UTF-8 with nothing escaped that need not be."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def refuse(status: int, error: JsonObject) -> Answer:
    """An answer that carries an error and bills nothing."""
    return Answer(status=status, pieces=(encode(error),))


def plain_answer(call: Call, stamp: Stamp, *, no_usage: bool = False) -> Answer:
    """The JSON answer to an accepted call; `no_usage` leaves the usage out of the body only."""
    count = count_tokens(call.operation, call.body)
    usage = usage_json(call.operation, count)
    match call.operation:
        case Operation.CHAT | Operation.COMPLETIONS:
            content = _completion(call, count, stamp)
        case Operation.RESPONSES:
            content = response_json(call, stamp, text="".join(answer_words(count)))
        case Operation.EMBEDDINGS:
            content = _embeddings(call)
        case Operation.MODELS:
            raise ValueError("a list of models is made by models_answer")
        case _:
            assert_never(call.operation)
    if not no_usage:
        content["usage"] = usage
    return Answer(status=200, pieces=(encode(content),), usage=usage)


def models_answer(deployments: Mapping[str, str]) -> Answer:
    """The list of models that the deployments serve."""
    models = [{"id": model, "object": "model"} for model in sorted(set(deployments.values()))]
    return Answer(status=200, pieces=(encode({"object": "list", "data": models}),))


def finish_reason(count: Count) -> str:
    """`length` when the caller set the limit that was reached, else `stop`."""
    return "length" if count.is_limited else "stop"


def filter_results() -> JsonObject:
    """Azure's content filter verdict on harmless text."""
    names = ("hate", "self_harm", "sexual", "violence")
    return {name: {"filtered": False, "severity": "safe"} for name in names}


def prompt_filter_results() -> list[JsonObject]:
    """Azure's content filter verdict on the prompt."""
    return [{"prompt_index": 0, "content_filter_results": filter_results()}]


def response_json(call: Call, stamp: Stamp, *, text: str | None) -> JsonObject:
    """A Responses object without usage; in progress while there is no text."""
    return {
        "id": f"resp_{stamp.identity}",
        "object": "response",
        "created_at": stamp.created,
        "status": "in_progress" if text is None else "completed",
        "error": None,
        "incomplete_details": None,
        "instructions": call.body.get("instructions"),
        "metadata": {},
        "model": call.model,
        "output": [] if text is None else [message_json(stamp, text=text)],
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": None,
    }


def message_json(stamp: Stamp, *, text: str | None) -> JsonObject:
    """The one output item of a Responses answer; empty while there is no text."""
    return {
        "id": f"msg_{stamp.identity}",
        "type": "message",
        "status": "in_progress" if text is None else "completed",
        "role": "assistant",
        "content": [] if text is None else [text_part_json(text)],
    }


def text_part_json(text: str) -> JsonObject:
    """The one content part of a Responses message."""
    return {"type": "output_text", "annotations": [], "logprobs": [], "text": text}


def _completion(call: Call, count: Count, stamp: Stamp) -> JsonObject:
    is_chat = call.operation is Operation.CHAT
    text = "".join(answer_words(count))
    said: JsonObject = (
        {"message": {"annotations": [], "content": text, "refusal": None, "role": "assistant"}}
        if is_chat
        else {"text": text}
    )
    return {
        "choices": [
            {
                "content_filter_results": filter_results(),
                "finish_reason": finish_reason(count),
                "index": index,
                "logprobs": None,
                **said,
            }
            for index in range(count.choices)
        ],
        "created": stamp.created,
        "id": f"{'chatcmpl' if is_chat else 'cmpl'}-{stamp.identity}",
        "model": call.model,
        "object": "chat.completion" if is_chat else "text_completion",
        "prompt_filter_results": prompt_filter_results(),
        "system_fingerprint": FINGERPRINT,
    }


def _embeddings(call: Call) -> JsonObject:
    asked = call.body.get("dimensions")
    dimensions = asked if isinstance(asked, int) and asked > 0 else _DEFAULT_DIMENSIONS
    vectors = [_vector(text, dimensions) for text in inputs_of(call.body.get("input"))]
    is_base64 = call.body.get("encoding_format") == "base64"
    return {
        "object": "list",
        "data": [
            {
                "object": "embedding",
                "index": index,
                "embedding": _packed(vector) if is_base64 else vector,
            }
            for index, vector in enumerate(vectors)
        ],
        "model": call.model,
    }


def _vector(text: str, dimensions: int) -> list[float]:
    digest = hashlib.shake_256(text.encode(errors="surrogatepass")).digest(dimensions)
    # Multiples of 1/128 are exact in float32, so both encodings carry equal numbers.
    return [(byte - 128) / 128 for byte in digest]


def _packed(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
