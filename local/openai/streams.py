"""Builds streamed answers with the quirks of Azure's server-sent events.

Chat and completions: a first chunk with empty `choices`, `id` and `model` that carries the prompt's
filter results; for each choice the role (chat only), one chunk a word, the finish; on request an
asynchronous content filter's chunk, whose choice has no `delta`; the usage chunk only when
`stream_options.include_usage` asks for it, and then `"usage": null` in every other one; `[DONE]`.
Responses: named events with a sequence number, usage in `response.completed`, no `[DONE]`.
"""

from collections.abc import Iterator

from local.openai.answers import (
    FINGERPRINT,
    Answer,
    Stamp,
    encode,
    filter_results,
    finish_reason,
    message_json,
    prompt_filter_results,
    response_json,
    text_part_json,
)
from local.openai.call import Call, JsonObject, Operation
from local.openai.counting import Count, answer_words, count_tokens, usage_json

_DONE = b"data: [DONE]\n\n"


def streamed_answer(
    call: Call, stamp: Stamp, *, no_usage: bool = False, with_async_filter: bool = False
) -> Answer:
    """The event stream that answers an accepted call, one piece a frame."""
    count = count_tokens(call.operation, call.body)
    usage = usage_json(call.operation, count)
    shown_usage = None if no_usage else usage
    if call.operation is Operation.RESPONSES:
        events = _response_events(call, count, stamp, shown_usage)
        pieces = tuple(_event_frame(number, event) for number, event in enumerate(events))
    else:
        chunks = _chunks(call, count, stamp, with_async_filter=with_async_filter)
        pieces = tuple(_chunk_frames(call, stamp, chunks, shown_usage))
    return Answer(status=200, pieces=pieces, is_stream=True, usage=usage)


def _chunk_frames(
    call: Call, stamp: Stamp, chunks: Iterator[JsonObject], usage: JsonObject | None
) -> Iterator[bytes]:
    null_usage: JsonObject = {"usage": None} if call.wants_usage_chunk else {}
    for chunk in chunks:
        yield b"data: %b\n\n" % encode(chunk | null_usage)
    if call.wants_usage_chunk and usage is not None:
        last = _envelope(call, stamp) | {"choices": [], "usage": usage}
        yield b"data: %b\n\n" % encode(last)
    yield _DONE


def _chunks(
    call: Call, count: Count, stamp: Stamp, *, with_async_filter: bool
) -> Iterator[JsonObject]:
    yield {
        "choices": [],
        "created": 0,
        "id": "",
        "model": "",
        "object": "",
        "prompt_filter_results": prompt_filter_results(),
    }
    envelope = _envelope(call, stamp)
    for index in range(count.choices):
        for choice in _choices(call, count, index):
            yield envelope | {"choices": [choice]}
        if with_async_filter:
            yield _async_filter_chunk(index, len("".join(answer_words(count))))


def _choices(call: Call, count: Count, index: int) -> Iterator[JsonObject]:
    is_chat = call.operation is Operation.CHAT
    silent: JsonObject = {"content_filter_results": {}, "finish_reason": None}
    silent |= {"index": index, "logprobs": None}
    if is_chat:
        role = {"content": "", "refusal": None, "role": "assistant"}
        yield silent | {"delta": role}
    verdict: JsonObject = {"content_filter_results": filter_results()}
    for word in answer_words(count):
        said: JsonObject = {"delta": {"content": word}} if is_chat else {"text": word}
        yield silent | verdict | said
    nothing: JsonObject = {"delta": {}} if is_chat else {"text": ""}
    yield silent | nothing | {"finish_reason": finish_reason(count)}


def _async_filter_chunk(index: int, length: int) -> JsonObject:
    choice: JsonObject = {
        "content_filter_offsets": {
            "check_offset": length,
            "start_offset": 0,
            "end_offset": length,
        },
        "content_filter_results": filter_results(),
        "finish_reason": None,
        "index": index,
    }
    return {"choices": [choice], "created": 0, "id": "", "model": "", "object": ""}


def _envelope(call: Call, stamp: Stamp) -> JsonObject:
    is_chat = call.operation is Operation.CHAT
    return {
        "created": stamp.created,
        "id": f"{'chatcmpl' if is_chat else 'cmpl'}-{stamp.identity}",
        "model": call.model,
        "object": "chat.completion.chunk" if is_chat else "text_completion",
        "system_fingerprint": FINGERPRINT,
    }


def _event_frame(number: int, event: JsonObject) -> bytes:
    name = str(event["type"]).encode()
    return b"event: %b\ndata: %b\n\n" % (name, encode(event | {"sequence_number": number}))


def _response_events(
    call: Call, count: Count, stamp: Stamp, usage: JsonObject | None
) -> Iterator[JsonObject]:
    words = answer_words(count)
    text = "".join(words)
    started = response_json(call, stamp, text=None)
    yield {"type": "response.created", "response": started}
    yield {"type": "response.in_progress", "response": started}
    item: JsonObject = {"output_index": 0}
    yield item | {"type": "response.output_item.added", "item": message_json(stamp, text=None)}
    part = item | {"item_id": f"msg_{stamp.identity}", "content_index": 0}
    yield part | {"type": "response.content_part.added", "part": text_part_json("")}
    for word in words:
        yield part | {"type": "response.output_text.delta", "delta": word, "logprobs": []}
    yield part | {"type": "response.output_text.done", "text": text, "logprobs": []}
    yield part | {"type": "response.content_part.done", "part": text_part_json(text)}
    yield item | {"type": "response.output_item.done", "item": message_json(stamp, text=text)}
    ended = response_json(call, stamp, text=text) | {"usage": usage}
    yield {"type": "response.completed", "response": ended}
