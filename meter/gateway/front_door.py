"""The front door: one call from request to answer.

`authenticate -> route -> choose backend -> forward -> relay + follow -> end (publish) -> answer`
"""

import asyncio
import logging
from datetime import datetime
from functools import partial
from uuid import UUID

from msgspec import Struct, field

from meter.errors import CallerError, KeysUnavailable
from meter.gateway.answer.begin import StreamedAnswer, WholeAnswer
from meter.gateway.answer.late import LATE_HEADERS, LateRelay, run_out
from meter.gateway.answer.relay import Ending, Relays
from meter.gateway.call import Call, begin_call
from meter.gateway.call import Instance as Instance
from meter.gateway.detached import Detached, start_now
from meter.gateway.headers import downstream_headers
from meter.gateway.http import (
    INTERNAL_ERROR,
    NO_KEYS,
    Answer,
    Arrival,
    Request,
    StreamingAnswer,
    error_answer,
    marked,
)
from meter.gateway.joining.joins import Joins, Repeatable
from meter.gateway.limits.admission import Admission
from meter.gateway.request.asked import asked_of
from meter.gateway.request.dispatch import Dispatcher, check_encoding
from meter.gateway.request.prepare import prompt_of, read_body
from meter.ports import Dice, Headers
from meter.usage import Outcome, UsageSource, new_event_id

log = logging.getLogger(__name__)


class FrontDoor(Struct, kw_only=True):
    """Handles calls. One event loop owns it."""

    admission: Admission
    instance: Instance
    dice: Dice
    relays: Relays
    joins: Joins
    first_keepalive_seconds: float
    exposes_backend: bool = False
    dispatcher: Dispatcher = field(default_factory=Dispatcher)
    detached: Detached = field(default_factory=Detached)

    async def handle(self, request: Request) -> Answer | StreamingAnswer:
        """Answer one call. Failures become answers in AOAI's error shape, with the call's id."""
        now = self.instance.clock.now()
        event_id = new_event_id(now, self.dice.randbytes(10))
        try:
            answer = await self._handle(request, event_id, now)
        except CallerError as exc:
            answer = self._rejected(exc)
        except KeysUnavailable:
            answer = self._rejected(NO_KEYS)
        except Exception:
            # Last resort: an internal error still gets an answer that callers can parse.
            log.exception("call_failed_unexpectedly event_id=%s", event_id)
            answer = error_answer(INTERNAL_ERROR)
        return marked(answer, event_id)

    def _rejected(self, error: CallerError) -> Answer:
        """The answer to a call that no backend has seen."""
        self.instance.telemetry.rejected(error.status, error.kind)
        return error_answer(error)

    async def _handle(
        self, request: Request, event_id: UUID, now: datetime
    ) -> Answer | StreamingAnswer:
        dispatcher, pool = self.dispatcher, self.instance.forwarder.pool
        known = dispatcher.known(request)
        if known is None:
            own = await dispatcher.answer_before_entry(request, event_id)
            if own is not None:
                return own
        came, admission = self.instance.clock.monotonic(), self.admission
        principal = admission.known(request, now)
        if principal is None:
            principal = await admission.identify(request.headers, event_id)
        if known is None:
            route = await dispatcher.dispatch(request, principal, pool.backends)
            if isinstance(route, Answer):
                return route
        else:
            check_encoding(route := known, request)
        if route.deployment is not None:
            pool.serving(route.deployment)  # before a byte of the body is taken
        arrival = Arrival(
            event_id=event_id, request=request, principal=principal, came_at=now, came=came
        )
        intake = admission.enter(arrival)
        try:
            body = await read_body(route, intake)
            repeatable = self.joins.repeatable(arrival, route, body)
            joiner = await self.joins.find(repeatable) if self.joins.has_like(repeatable) else None
            if joiner is None:
                call = begin_call(arrival, route, body, intake.holds, self.instance)
        except BaseException:
            intake.holds.close()
            raise
        if joiner is None:
            return await self._answer(call, repeatable)
        intake.holds.close()
        self.instance.telemetry.joined()
        return await joiner.answer()

    async def _answer(self, call: Call, repeatable: Repeatable | None) -> Answer | StreamingAnswer:
        # A task of its own: cancelling the request must not cancel the call's usage event.
        answering = start_now(self._forward(call))
        try:
            if not call.is_kept_alive:
                return await self.joins.own(repeatable, answering)
            deadlines = self.instance.forwarder.deadlines
            is_begun = await deadlines.is_done(answering, self.first_keepalive_seconds)
        except asyncio.CancelledError:
            self.detached.start(run_out(answering))
            raise
        if is_begun:
            return answering.result()
        failure = call.route.stream_failure(call.event_id, choices=call.choices)
        relay = LateRelay(answering, self.relays.times, failure)
        return StreamingAnswer(status=200, headers=LATE_HEADERS, relay=relay)

    async def _forward(self, call: Call) -> Answer | StreamingAnswer:
        # The host's limit counts from the call's start, so one deadline is for answer and stream.
        deadline = asyncio.get_running_loop().time() + self.relays.times.total_seconds
        try:
            with self.instance.forwarder.deadlines.limit(deadline):
                if call.route.stored_id is not None:
                    await self.instance.background.prepare(call.route)
                answer = call.answer = await self.instance.forwarder.forward(call)
            answer = call.answer = call.learn(answer)
            served = call.route.served
            if served.may_be_charged_as_asked and answer.status < 400:
                call.asked = await asked_of(served, call.body)
            call.settle_body(answer)
            if isinstance(answer, StreamedAnswer):
                return self._relay(call, answer, deadline)
            return await self._answer_whole(call, answer)
        except CallerError as exc:
            return await self._fail(call, exc)
        except TimeoutError:
            late = CallerError("The call took too long.", status=504, code="GatewayTimeout")
            return await self._fail(call, late)
        except BaseException:
            # Cut, or a fault of ours: nobody will relay what has begun.
            try:
                await call.end(Ending(outcome=Outcome.FAILED, status=503))
            finally:
                if isinstance(call.answer, StreamedAnswer):
                    await call.answer.holds.close()
            raise

    async def _fail(self, call: Call, exc: CallerError) -> Answer:
        answer = error_answer(exc) if call.attempts.made else self._rejected(exc)
        await call.end(Ending(outcome=Outcome.FAILED, status=answer.status))
        return answer

    async def _answer_whole(self, call: Call, answer: WholeAnswer) -> Answer:
        call.is_held_until_sent = True
        try:
            ending = await call.read(answer)
            await call.end(ending)
            headers = self._headers(answer)
            if ending.usage_source is UsageSource.REPORTED and answer.stream is None:
                total = ending.usage.total_tokens if call.route.served.is_charged else 0
                headers = (*headers, ("total-tokens", str(total)))
            return Answer(
                status=answer.status,
                headers=headers,
                body=answer.body,
                is_events=answer.stream is not None,
                is_served=ending.outcome is Outcome.SERVED and answer.status < 400,
                release=call.holds.close,
            )
        except BaseException:
            call.holds.close()
            raise

    def _relay(self, call: Call, answer: StreamedAnswer, deadline: float) -> StreamingAnswer:
        relay = self.relays.relay(
            answer,
            deadline=deadline,
            end=call.end,
            prompt=partial(prompt_of, call.body),
            is_text=call.is_text,
            subject=call.arrival.principal.subject,
            failure=call.route.stream_failure(call.event_id, choices=call.choices),
        )
        headers, size = self._headers(answer), answer.named.get("content-length")
        if size and not answer.is_events:
            headers = (*headers, ("content-length", size))  # shows a cut
        return StreamingAnswer(status=answer.status, headers=headers, relay=relay)

    def _headers(self, answer: WholeAnswer | StreamedAnswer) -> Headers:
        headers = downstream_headers(answer.headers, with_origin=self.exposes_backend)
        if self.exposes_backend:
            return (*headers, ("x-meter-backend", answer.backend.name))
        return headers
