"""Builds streamed chats and completions with the quirks of Azure's server-sent events.

A first chunk with empty `choices`, `id` and `model` that carries the prompt's filter results; for
each choice the role (chat only), one chunk per word, the finish; on request an asynchronous content
filter's chunk, whose choice has no `delta`; a usage chunk if `stream_options.include_usage` is set,
and then `"usage": null` in every other chunk; `[DONE]`.
"""

from collections.abc import Iterator

from local.openai.answers import (
    FINGERPRINT,
    Answer,
    Stamp,
    data_frame,
    event_stream,
    filter_results,
    finish_reason,
    prompt_filter_results,
)
from local.openai.billing import told_tier
from local.openai.call import Call, JsonObject, Operation
from local.openai.counting import Count, answer_words, bill_of, count_tokens

_DONE = b"data: [DONE]\n\n"


def streamed_completion(
    call: Call, stamp: Stamp, *, no_usage: bool = False, with_async_filter: bool = False
) -> Answer:
    """The event stream that answers a chat or a completion."""
    count = count_tokens(call)
    bill = bill_of(call, count)
    chunks = _chunks(call, count, stamp, with_async_filter=with_async_filter)
    return event_stream(_frames(call, stamp, chunks, None if no_usage else bill.usage), bill)


def _frames(
    call: Call, stamp: Stamp, chunks: Iterator[JsonObject], usage: JsonObject | None
) -> Iterator[bytes]:
    null_usage: JsonObject = {"usage": None} if call.wants_usage_chunk else {}
    for chunk in chunks:
        yield data_frame(chunk | null_usage)
    if call.wants_usage_chunk and usage is not None:
        last = _envelope(call, stamp) | {"choices": [], "usage": usage}
        yield data_frame(last)
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
            length = len("".join(answer_words(count.words_per_choice)))
            yield _async_filter_chunk(index, length)


def _choices(call: Call, count: Count, index: int) -> Iterator[JsonObject]:
    is_chat = call.operation is Operation.CHAT
    silent: JsonObject = {"content_filter_results": {}, "finish_reason": None}
    silent |= {"index": index, "logprobs": None}
    if is_chat:
        role = {"content": "", "refusal": None, "role": "assistant"}
        yield silent | {"delta": role}
    verdict: JsonObject = {"content_filter_results": filter_results()}
    for word in answer_words(count.words_per_choice):
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
        **(told_tier(call) if is_chat else {}),
    }
