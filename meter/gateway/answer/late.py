"""Begins a stream before any backend has answered it, when silence would get the caller cut off.

Azure's load balancer drops a connection that is silent for 230 s. Near that limit the answer is
begun as an event stream with comments in it. That fixes its status: whatever the backends say
afterwards comes as an event, an error too.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from meter.errors import AnswerCut, CallerGone
from meter.gateway.answer.relay import KEEPALIVE_COMMENT, RelayTimes
from meter.gateway.answer.usage import json_object
from meter.gateway.http import Answer, CallerSink, StreamingAnswer, event_stream_error
from meter.ports import Headers

LATE_HEADERS: Headers = (("content-type", "text/event-stream"), ("cache-control", "no-cache"))

type Answering = asyncio.Task[Answer | StreamingAnswer]


@dataclass(slots=True)
class Abandoned:
    """Calls whose requests the server has cancelled: they run on and are counted."""

    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def take(self, answering: Answering) -> None:
        """See to it that the call ends, with nobody to take its answer."""
        loop = asyncio.get_running_loop()
        # Begun at once: a task that is cancelled before its first step would never run.
        task = asyncio.Task(_run_out(answering), loop=loop, eager_start=True)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def finish(self, seconds: float, *, cut_seconds: float) -> None:
        """Wait so long for those that still run, then cut them and wait until they are counted."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=seconds)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=cut_seconds)


@dataclass(slots=True)
class LateRelay:
    """Keeps the caller's connection alive until `answering` is done, then relays its result."""

    answering: Answering
    times: RelayTimes

    async def run(self, sink: CallerSink) -> None:
        """Relay to the end. Raises AnswerCut when the caller must not take the end for a clean one.

        When it is cancelled, the call is cut, and counted before this returns.
        """
        caller = _Caller(sink, self.times.write_seconds)
        try:
            while not self.answering.done():
                await caller.try_write(KEEPALIVE_COMMENT)
                await asyncio.wait({self.answering}, timeout=self.times.keepalive_seconds)
        except BaseException:
            await _cut(self.answering)
            raise
        answer = self.answering.result()
        if isinstance(answer, StreamingAnswer) and _is_event_stream(answer.headers):
            await answer.relay.run(caller)
            return
        await _relay_to_nobody(answer)
        document = _document(answer)
        await caller.try_write(event_stream_error(document))
        if document.get("error"):
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


async def _run_out(answering: Answering) -> None:
    try:
        await asyncio.wait({answering})
    except BaseException:
        await _cut(answering)
        raise
    await _relay_to_nobody(answering.result())


async def _cut(answering: Answering) -> None:
    """End the call now; its event says what is known of it."""
    answering.cancel()
    await asyncio.wait({answering})
    if not answering.cancelled():  # it was done by then
        with suppress(TimeoutError):
            async with asyncio.timeout(0):
                await _relay_to_nobody(answering.result())


async def _relay_to_nobody(answer: Answer | StreamingAnswer) -> None:
    if isinstance(answer, StreamingAnswer):
        with suppress(AnswerCut):
            await answer.relay.run(_Nobody())


def _document(answer: Answer | StreamingAnswer) -> Mapping[str, object]:
    """What to say in an event of an answer that is no event stream; SDKs raise on an `error` only."""
    document = json_object(answer.body) if isinstance(answer, Answer) else None
    if document is None:
        return _error("The backend's answer was no event stream.", code="not_a_stream")
    if answer.status < 400 or document.get("error"):
        return document
    return _error(f"The backend answered with status {answer.status}.", code=str(answer.status))


def _error(message: str, *, code: str) -> Mapping[str, object]:
    return {"error": {"message": message, "type": "server_error", "param": None, "code": code}}


class _Nobody:
    async def write(self, data: bytes) -> None:  # noqa: ARG002  # a sink takes it
        raise CallerGone


def _is_event_stream(headers: Headers) -> bool:
    return any(
        name == "content-type" and value.lower().startswith("text/event-stream")
        for name, value in headers
    )
