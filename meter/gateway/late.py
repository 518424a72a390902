"""Begins a stream before any backend has answered it, when silence would get the caller cut off.

Azure's load balancer drops a connection that is silent for 230 s. Near that limit the answer is
begun as an event stream with comments in it. That fixes its status: whatever the backends say
afterwards comes as an event, an error too.
"""

import asyncio
from dataclasses import dataclass

from meter.gateway.http import (
    Answer,
    AnswerCut,
    CallerGone,
    CallerSink,
    StreamingAnswer,
    event_stream_error,
)
from meter.gateway.reading import json_object
from meter.gateway.relay import KEEPALIVE_COMMENT, RelayTimes
from meter.ports import Headers

LATE_HEADERS: Headers = (("content-type", "text/event-stream"), ("cache-control", "no-cache"))
_UNREADABLE = {
    "error": {
        "message": "The backend's answer was no event stream.",
        "type": "server_error",
        "param": None,
        "code": "not_a_stream",
    }
}


@dataclass(slots=True)
class LateRelay:
    """Keeps the caller's connection alive until `answering` is done, then relays its result."""

    answering: "asyncio.Task[Answer | StreamingAnswer]"
    times: RelayTimes

    async def run(self, sink: CallerSink) -> None:
        """Relay to the end. Raises AnswerCut when the caller must not take the end for a clean one."""
        caller = _Caller(sink, self.times.write_seconds)
        while not self.answering.done():
            await caller.try_write(KEEPALIVE_COMMENT)
            await asyncio.wait({self.answering}, timeout=self.times.keepalive_seconds)
        answer = self.answering.result()
        if isinstance(answer, StreamingAnswer) and _is_event_stream(answer.headers):
            await answer.relay.run(caller)
            return
        if isinstance(answer, StreamingAnswer):
            await answer.relay.run(_Nobody())
            document: object = _UNREADABLE
        else:
            document = json_object(answer.body) or _UNREADABLE
        await caller.try_write(event_stream_error(document))
        if isinstance(document, dict) and "error" in document:
            raise AnswerCut


@dataclass(slots=True)
class _Caller:
    """A sink that remembers that the caller has gone."""

    sink: CallerSink
    write_seconds: float
    is_gone: bool = False

    async def write(self, data: bytes) -> None:
        if self.is_gone:
            raise CallerGone
        await self.sink.write(data)

    async def try_write(self, data: bytes) -> None:
        try:
            async with asyncio.timeout(self.write_seconds):
                await self.write(data)
        except (CallerGone, TimeoutError):
            self.is_gone = True


class _Nobody:
    async def write(self, data: bytes) -> None:  # noqa: ARG002  # a sink takes it
        raise CallerGone


def _is_event_stream(headers: Headers) -> bool:
    return any(
        name == "content-type" and value.lower().startswith("text/event-stream")
        for name, value in headers
    )
