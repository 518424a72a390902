"""Stores the responses of an account, and answers calls by response id.

They are kept in memory only, at most 10,000: the oldest is evicted first. A background response is
queued until it is first fetched, and can be cancelled until then; so can one that still runs:

| status | get | cancel | delete |
|---|---|---|---|
| queued | ends it: completed, incomplete or failed | cancelled | removed |
| running (`RUNS12S`) | in progress; its events but the last | cancelled | removed |
| ended, in the background | unchanged | unchanged | removed |
| ended, not in the background | unchanged | 400 | removed |
| cancelled | unchanged; 400 for its events | unchanged | removed |
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import assert_never

from local.openai import refusals
from local.openai.answers import Answer, Stamp, encode, event_stream, refuse
from local.openai.call import Call, JsonObject, Operation, StoredOperation, StoredTarget
from local.openai.responses import (
    Response,
    Status,
    compaction_answer,
    event_frames,
    final_status,
    input_items,
    input_tokens_answer,
    is_stored,
    response_json,
)

MOST_RESPONSES = 10_000
_USUAL_PAGE = 20
_LARGEST_PAGE = 100


class ResponseStore:
    """The responses of one account, oldest first."""

    def __init__(self, *, most: int = MOST_RESPONSES) -> None:
        self._most = most
        self._by_id: dict[str, Response] = {}

    def create(self, call: Call, stamp: Stamp, *, no_usage: bool = False) -> Answer:
        """The answer to a call that creates a response, which is stored unless the call forbids it.

        Compactions and counts are answered alike, and never stored.
        """
        if call.operation is Operation.COMPACT:
            return compaction_answer(call, stamp, no_usage=no_usage)
        if call.operation is Operation.INPUT_TOKENS:
            return input_tokens_answer(call)
        response = Response(call=call, stamp=stamp, status=final_status(call))
        if response.is_background and not call.is_streaming:
            response = replace(response, status=Status.QUEUED)
        if is_stored(call):
            self._keep(response)
        if call.is_streaming:
            return event_stream(event_frames(response, no_usage=no_usage), response.bill)
        content = response_json(response, response.status, no_usage=no_usage)
        return Answer(status=200, pieces=(encode(content),), bill=response.bill)

    def missing_previous(self, call: Call) -> str | None:
        """The id of a call's previous response, if that is not stored here."""
        previous = call.body.get("previous_response_id")
        return None if previous is None or str(previous) in self._by_id else str(previous)

    def answer(
        self, target: StoredTarget, query: Mapping[str, str], *, now: int, no_usage: bool = False
    ) -> Answer:
        """The answer to a call by response id; 404 when it is not stored here. `now` in Unix seconds."""
        response = self._by_id.get(target.response_id)
        if response is None:
            return refuse(404, refusals.response_not_found(target.response_id))
        match target.operation:
            case StoredOperation.GET:
                return self._get(response, query, now=now, no_usage=no_usage)
            case StoredOperation.DELETE:
                del self._by_id[response.id]
                return _told({"id": response.id, "object": "response", "deleted": True})
            case StoredOperation.CANCEL:
                return self._cancel(response, now)
            case StoredOperation.INPUT_ITEMS:
                return _told(_page(input_items(response), query))
            case _:
                assert_never(target.operation)

    def _keep(self, response: Response) -> None:
        self._by_id[response.id] = response
        if len(self._by_id) > self._most:
            del self._by_id[next(iter(self._by_id))]

    def _get(
        self, response: Response, query: Mapping[str, str], *, now: int, no_usage: bool
    ) -> Answer:
        start = _number(query.get("starting_after"), otherwise=-1) + 1
        if response.is_running(now):
            if wants_events(query):
                return event_stream(event_frames(response)[start:-1], None)
            return _told(response_json(response, Status.IN_PROGRESS))
        if response.status is Status.QUEUED:
            response = replace(response, status=final_status(response.call))
            self._by_id[response.id] = response
        if not wants_events(query):
            return _told(response_json(response, response.status, no_usage=no_usage))
        if response.status is Status.CANCELLED:
            return refuse(400, refusals.not_streamable())
        frames = event_frames(response, no_usage=no_usage)
        return event_stream(frames[start:], None)

    def _cancel(self, response: Response, now: int) -> Answer:
        if not response.is_background:
            return refuse(400, refusals.not_in_background())
        if response.status is Status.QUEUED or response.is_running(now):
            response = replace(response, status=Status.CANCELLED)
            self._by_id[response.id] = response
        return _told(response_json(response, response.status))


def wants_events(query: Mapping[str, str]) -> bool:
    """True when a stored response is requested as events."""
    return query.get("stream") == "true"


def _told(content: JsonObject) -> Answer:
    return Answer(status=200, pieces=(encode(content),))


def _page(items: list[JsonObject], query: Mapping[str, str]) -> JsonObject:
    ordered = items if query.get("order") == "asc" else items[::-1]
    ids = [item["id"] for item in ordered]
    start = ids.index(query["after"]) + 1 if query.get("after") in ids else 0
    size = min(_number(query.get("limit"), otherwise=_USUAL_PAGE), _LARGEST_PAGE)
    page = ordered[start : start + size]
    return {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
        "has_more": start + size < len(ordered),
    }


def _number(text: str | None, *, otherwise: int) -> int:
    return int(text) if text is not None and text.isdecimal() else otherwise
