"""Builds complete answers: the bytes of a body, in the pieces that are written."""

import base64
import hashlib
import json
import struct
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from local.openai.billing import Bill, told_tier
from local.openai.call import Call, JsonObject, Operation
from local.openai.counting import Count, answer_words, bill_of, count_tokens, inputs_of

FINGERPRINT = "fp_b705f0c291"
JSON_TYPE = "application/json"
EVENT_STREAM_TYPE = "text/event-stream; charset=utf-8"
_DEFAULT_DIMENSIONS = 1536
_GZIP_WINDOW = 31  # zlib's number for the largest window inside a gzip header and trailer


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """The parts that differ between two equal calls: the answer's id and its time (Unix seconds)."""

    identity: str
    created: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A complete answer before its delivery, and what the account bills for it.

    A stream is written piece by piece, without a content length.
    """

    status: int
    pieces: tuple[bytes, ...]
    content_type: str = JSON_TYPE
    is_stream: bool = False
    is_gzipped: bool = False
    bill: Bill | None = None


def encode(value: object) -> bytes:
    """JSON as UTF-8 with minimal escaping."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def event_stream(pieces: Iterable[bytes], bill: Bill | None) -> Answer:
    """A stream of server-sent events, one piece per frame."""
    return Answer(
        status=200,
        pieces=tuple(pieces),
        content_type=EVENT_STREAM_TYPE,
        is_stream=True,
        bill=bill,
    )


def event_frame(event: JsonObject) -> bytes:
    """A frame with an event name and the event's data."""
    return b"event: %b\n%b" % (str(event["type"]).encode(), data_frame(event))


def data_frame(content: JsonObject) -> bytes:
    """A frame without an event name."""
    return b"data: %b\n\n" % encode(content)


def gzipped(answer: Answer) -> Answer:
    """The same answer gzip-encoded; each piece can be decoded when it arrives."""
    if not answer.pieces:
        return answer
    zipper = zlib.compressobj(wbits=_GZIP_WINDOW)
    pieces = [
        zipper.compress(piece) + zipper.flush(zlib.Z_SYNC_FLUSH) for piece in answer.pieces[:-1]
    ]
    pieces.append(zipper.compress(answer.pieces[-1]) + zipper.flush())
    return replace(answer, pieces=tuple(pieces), is_gzipped=True)


def refuse(status: int, error: JsonObject) -> Answer:
    """An error answer; it bills nothing."""
    return Answer(status=status, pieces=(encode(error),))


def completion_answer(call: Call, stamp: Stamp, *, no_usage: bool = False) -> Answer:
    """The JSON answer to a chat or a completion; `no_usage` omits the usage from the body only."""
    count = count_tokens(call)
    return json_answer(_completion(call, count, stamp), bill_of(call, count), no_usage=no_usage)


def embeddings_answer(call: Call, *, no_usage: bool = False) -> Answer:
    """One vector per input, which depends on its text alone."""
    return json_answer(_embeddings(call), bill_of(call, count_tokens(call)), no_usage=no_usage)


def json_answer(content: JsonObject, bill: Bill, *, no_usage: bool) -> Answer:
    """A JSON answer with its usage, unless there is none or a fault hides it."""
    return Answer(
        status=200, pieces=(encode(content | shown_usage(bill, no_usage=no_usage)),), bill=bill
    )


def shown_usage(bill: Bill, *, no_usage: bool) -> JsonObject:
    """The `usage` member of an answer."""
    return {} if bill.usage is None or no_usage else {"usage": bill.usage}


def models_answer(deployments: Mapping[str, str]) -> Answer:
    """The list of models behind the deployments."""
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


def _completion(call: Call, count: Count, stamp: Stamp) -> JsonObject:
    is_chat = call.operation is Operation.CHAT
    text = "".join(answer_words(count.words_per_choice))
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
        **(told_tier(call) if is_chat else {}),
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
