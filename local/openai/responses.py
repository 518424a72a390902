"""Builds a Responses answer: its JSON at every stage, its events, its input items.

A word in the input decides how it ends: `INCOMPLETE` ends it as incomplete, `FAILSOON` as failed,
anything else as completed. In all cases the usage is that of the whole answer. `RUNS12S` lets a
background response run for 12 seconds, however long its stream takes. Events are named and
numbered, the last one carries the usage, and no `[DONE]` follows.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from local.openai.answers import Answer, Stamp, encode, event_frame
from local.openai.billing import Bill, requested_tier, served_tier
from local.openai.call import Call, JsonObject
from local.openai.counting import answer_words, bill_of, count_tokens, message_texts
from local.openai.tools import tool_bills, tool_counts, tool_events, tool_items, tool_usage

_INCOMPLETE_WORD = "INCOMPLETE"
_FAILED_WORD = "FAILSOON"
_RUNNING_WORD = re.compile(r"\bRUNS([0-9]{1,4})S\b", re.ASCII)


class Status(StrEnum):
    """The status of a response."""

    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    INCOMPLETE = "incomplete"
    FAILED = "failed"
    CANCELLED = "cancelled"


_WITH_TEXT = frozenset({Status.COMPLETED, Status.INCOMPLETE})
_WITH_USAGE = _WITH_TEXT | {Status.FAILED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """A response: the call that created it, and its status."""

    call: Call
    stamp: Stamp
    status: Status

    @property
    def id(self) -> str:
        """The id under which it is stored."""
        return f"resp_{self.stamp.identity}"

    @property
    def is_background(self) -> bool:
        """True when its caller asked for it to run in the background."""
        return self.call.body.get("background") is True

    def is_running(self, now: int) -> bool:
        """True while it works in the background, at a moment in Unix seconds."""
        text = " ".join(message_texts(self.call.body.get("input")))
        named = _RUNNING_WORD.search(text)
        is_open = self.is_background and self.status is not Status.CANCELLED
        return named is not None and is_open and now < self.stamp.created + int(named[1])

    @property
    def bill(self) -> Bill:
        """What the account bills for it, however it ends."""
        bill = bill_of(self.call, count_tokens(self.call))
        counts = {**bill.counts, **tool_counts(self.call)}
        return replace(bill, counts=counts, tools=tool_bills(self.call))

    @property
    def words(self) -> list[str]:
        """The words of its answer."""
        return answer_words(count_tokens(self.call).words_per_choice)

    @property
    def tools(self) -> list[JsonObject]:
        """The items of hosted tools, which precede the message."""
        return tool_items(self.call, self.stamp)


def final_status(call: Call) -> Status:
    """How the response to a call ends."""
    text = " ".join(message_texts(call.body.get("input")))
    if _FAILED_WORD in text:
        return Status.FAILED
    return Status.INCOMPLETE if _INCOMPLETE_WORD in text else Status.COMPLETED


def response_json(response: Response, status: Status, *, no_usage: bool = False) -> JsonObject:
    """The response's JSON at a stage: text once there is some; tools and usage at the end."""
    call, body = response.call, response.call.body
    failure = {"code": "server_error", "message": "The model failed to generate a response."}
    is_cut_short = status is Status.INCOMPLETE
    has_ended = status in _WITH_USAGE
    message = [_message(response, status)] if status in _WITH_TEXT else []
    return {
        "id": response.id,
        "object": "response",
        "created_at": response.stamp.created,
        "status": status,
        "background": response.is_background,
        "error": failure if status is Status.FAILED else None,
        "incomplete_details": {"reason": "max_output_tokens"} if is_cut_short else None,
        "instructions": body.get("instructions"),
        "metadata": {},
        "model": call.model,
        "output": response.tools + message if has_ended else [],
        "parallel_tool_calls": True,
        "previous_response_id": body.get("previous_response_id"),
        "service_tier": served_tier(call) if has_ended else requested_tier(call) or "auto",
        "store": is_stored(call),
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": body.get("tools") if isinstance(body.get("tools"), list) else [],
        "top_p": 1.0,
        "usage": response.bill.usage if has_ended and not no_usage else None,
        **(tool_usage(call) if has_ended and not no_usage else {}),
    }


def compaction_answer(call: Call, stamp: Stamp, *, no_usage: bool = False) -> Answer:
    """What stands for a conversation from now on; it bills like a response, and is not stored."""
    bill = bill_of(call, count_tokens(call))
    item = {
        "id": f"cmp_{stamp.identity}",
        "type": "compaction",
        "encrypted_content": "c3RhbmQtaW4=",
    }
    document: JsonObject = {
        "id": f"resp_{stamp.identity}",
        "object": "response.compaction",
        "created_at": stamp.created,
        "output": [item],
        "usage": None if no_usage else bill.usage,
    }
    return Answer(status=200, pieces=(encode(document),), bill=bill)


def input_tokens_answer(call: Call) -> Answer:
    """How many tokens the input would be; it bills nothing."""
    count = count_tokens(call)
    document: JsonObject = {"object": "response.input_tokens", "input_tokens": count.prompt_tokens}
    return Answer(status=200, pieces=(encode(document),))


def is_stored(call: Call) -> bool:
    """True unless the caller sent `store: false`."""
    return call.body.get("store") is not False


def event_frames(response: Response, *, no_usage: bool = False) -> list[bytes]:
    """Every event of a response, from creation to end."""
    events = _events(response, no_usage=no_usage)
    return [event_frame(event | {"sequence_number": at}) for at, event in enumerate(events)]


def input_items(response: Response) -> list[JsonObject]:
    """The items of the input in their order, each with an id; a text alone is one message."""
    given = response.call.body.get("input")
    items = given if isinstance(given, list) else [{"role": "user", "content": given}]
    return [
        _input_item(item, item_id=f"in_{response.stamp.identity}_{index}")
        for index, item in enumerate(items)
        if isinstance(item, dict)
    ]


def _input_item(item: JsonObject, *, item_id: str) -> JsonObject:
    identified: JsonObject = {"id": item_id, "type": "message"} | item
    if identified["type"] != "message":
        return identified
    content = item.get("content")
    parts = [{"type": "input_text", "text": content}] if isinstance(content, str) else content
    return identified | {"status": "completed", "content": parts}


def _events(response: Response, *, no_usage: bool) -> Iterator[JsonObject]:
    started = response_json(response, Status.IN_PROGRESS)
    yield {"type": "response.created", "response": started}
    yield {"type": "response.in_progress", "response": started}
    tools = response.tools
    for index, item in enumerate(tools):
        yield from tool_events(item, index)
    yield from _message_events(response, len(tools))
    ended = response_json(response, response.status, no_usage=no_usage)
    yield {"type": f"response.{response.status}", "response": ended}


def _message_events(response: Response, output_index: int) -> Iterator[JsonObject]:
    item: JsonObject = {"output_index": output_index}
    message = _message(response, Status.IN_PROGRESS)
    yield item | {"type": "response.output_item.added", "item": message}
    part = item | {"item_id": message["id"], "content_index": 0}
    yield part | {"type": "response.content_part.added", "part": _text_part("")}
    for word in response.words:
        yield part | {"type": "response.output_text.delta", "delta": word, "logprobs": []}
    if response.status is Status.FAILED:
        return
    text = "".join(response.words)
    yield part | {"type": "response.output_text.done", "text": text, "logprobs": []}
    yield part | {"type": "response.content_part.done", "part": _text_part(text)}
    yield item | {
        "type": "response.output_item.done",
        "item": _message(response, response.status),
    }


def _message(response: Response, status: Status) -> JsonObject:
    has_text = status in _WITH_TEXT
    return {
        "id": f"msg_{response.stamp.identity}",
        "type": "message",
        "status": status,
        "role": "assistant",
        "content": [_text_part("".join(response.words))] if has_text else [],
    }


def _text_part(text: str) -> JsonObject:
    return {"type": "output_text", "annotations": [], "logprobs": [], "text": text}
