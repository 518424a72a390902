"""Begins a stream before any backend has answered, when the caller's connection would be cut.

Azure's load balancer drops a connection that is silent for 230 s. Near that limit the answer is
begun as an event stream of comments. That fixes its status: whatever the backends answer
afterwards arrives as an event, an error too.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress

from msgspec import Struct

from meter.errors import AnswerCut, CallerGone
from meter.gateway.answer.encoding import is_encoded
from meter.gateway.answer.relay import KEEPALIVE_COMMENT, RelayTimes
from meter.gateway.answer.usage import json_object
from meter.gateway.answer.writing import Recipient
from meter.gateway.headers import header
from meter.gateway.http import (
    Answer,
    CallerSink,
    StreamingAnswer,
    error_document,
    event_stream_error,
)
from meter.gateway.stream_failure import RESPONSE_ENDS, StreamFailure, response_event
from meter.ports import Headers

LATE_HEADERS: Headers = (("content-type", "text/event-stream"),)
DONE_FRAME = b"data: [DONE]\n\n"

_NO_STREAM = error_document("The backend's answer was no event stream.", code="not_a_stream")

type Answering = asyncio.Task[Answer | StreamingAnswer]


async def run_out(answering: Answering) -> None:
    """Let a call whose request was cancelled run to its end, with nobody to take its answer.

    When this is cancelled, the call is cut, and counted before this returns.
    """
    try:
        await asyncio.wait({answering})
    except BaseException:
        await _cut(answering)
        raise
    await _give_up(answering.result())


class LateRelay(Struct):
    """Keeps the caller's connection alive until `answering` is done, then relays its result."""

    answering: Answering
    times: RelayTimes
    failure: StreamFailure

    async def run(self, sink: CallerSink) -> None:
        """Relay to the end. Raises AnswerCut when the connection must be broken off.

        When it is cancelled, the call is cut, and counted before this returns.
        """
        caller = Recipient(sink, self.times.write_seconds)
        try:
            while not self.answering.done():
                await caller.write(KEEPALIVE_COMMENT)
                await asyncio.wait({self.answering}, timeout=self.times.keepalive_seconds)
        except BaseException:
            await _cut(self.answering)
            raise
        answer = self.answering.result()
        if isinstance(answer, StreamingAnswer) and _is_event_stream(answer):
            await answer.relay.run(_Nobody() if caller.is_gone else sink)
            return
        document = _document(answer)
        ending = self._ending(answer, document)
        try:
            await caller.write(ending or self._error(document))
        finally:
            await _give_up(answer)
        if ending is None:
            raise AnswerCut

    def _ending(
        self, answer: Answer | StreamingAnswer, document: Mapping[str, object]
    ) -> bytes | None:
        """A whole answer as the end of a stream; None for what ends none."""
        if isinstance(answer, Answer) and answer.is_events:
            return answer.body
        if self.failure.response_id is not None:
            kind = f"response.{document.get('status')}"
            is_ended = document.get("object") == "response" and kind in RESPONSE_ENDS
            return response_event(kind, 0, document) if is_ended else None
        if document.get("error"):
            return None
        return event_stream_error(document) + (DONE_FRAME if self.failure.has_choices else b"")

    def _error(self, document: Mapping[str, object]) -> bytes:
        return self.failure.event(document if document.get("error") else _NO_STREAM)


def _is_event_stream(answer: StreamingAnswer) -> bool:
    """Whether it can follow comments: encoded bytes cannot, whatever they would decode to."""
    kind = (header(answer.headers, "content-type") or "").lower()
    is_encoded_so = is_encoded(header(answer.headers, "content-encoding"))
    return kind.startswith("text/event-stream") and not is_encoded_so


class _Nobody:
    """The sink of a caller that has gone."""

    put = None

    async def write(self, data: bytes) -> None:  # noqa: ARG002  # a sink takes it
        raise CallerGone


async def _cut(answering: Answering) -> None:
    """End the call now; its event says what is known of it."""
    answering.cancel()
    await asyncio.wait({answering})
    if not answering.cancelled():  # it was done by then
        with suppress(TimeoutError):
            async with asyncio.timeout(0):
                await _give_up(answering.result())


async def _give_up(answer: Answer | StreamingAnswer) -> None:
    """End an answer that nobody takes."""
    if isinstance(answer, Answer):
        answer.release()
        return
    with suppress(AnswerCut):
        await answer.relay.run(_Nobody())


def _document(answer: Answer | StreamingAnswer) -> Mapping[str, object]:
    """The event for an answer that is no event stream; SDKs raise on an `error` only."""
    document = json_object(answer.body) if isinstance(answer, Answer) else None
    if document is None:
        return _NO_STREAM
    if answer.status < 400 or document.get("error"):
        return document
    return error_document(
        f"The backend answered with status {answer.status}.", code=str(answer.status)
    )
