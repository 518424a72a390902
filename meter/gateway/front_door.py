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
from meter.gateway.background import Background
from meter.gateway.balance.forward import Forwarder
from meter.gateway.call import Call, Charge, way_of
from meter.gateway.detached import Detached, start_now
from meter.gateway.http import (
    INTERNAL_ERROR,
    NO_KEYS,
    Answer,
    Request,
    StreamingAnswer,
    error_answer,
    marked,
)
from meter.gateway.joining.joins import Joins, Repeatable
from meter.gateway.limits.admission import Admission, Intake
from meter.gateway.request.dispatch import Dispatcher, Route, check_encoding
from meter.gateway.request.prepare import Payload, prompt_of, read_body
from meter.ports import NO_TELEMETRY, Clock, Dice, Headers, Telemetry, UsageSink
from meter.usage import Outcome, Principal, UsageSource, new_event_id

log = logging.getLogger(__name__)


class FrontDoor(Struct, kw_only=True):
    """Handles calls. One event loop owns it."""

    admission: Admission
    forwarder: Forwarder
    sink: UsageSink
    clock: Clock
    dice: Dice
    relays: Relays
    background: Background
    joins: Joins
    first_keepalive_seconds: float
    source: str
    long_context_tokens: int
    exposes_backend: bool = False
    dispatcher: Dispatcher = field(default_factory=Dispatcher)
    detached: Detached = field(default_factory=Detached)
    telemetry: Telemetry = NO_TELEMETRY

    async def handle(self, request: Request) -> Answer | StreamingAnswer:
        """Answer one call. Failures become answers in AOAI's error shape, with the call's id."""
        now = self.clock.now()
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
        self.telemetry.rejected(error.status, error.kind)
        return error_answer(error)

    async def _handle(
        self, request: Request, event_id: UUID, now: datetime
    ) -> Answer | StreamingAnswer:
        dispatcher, pool = self.dispatcher, self.forwarder.pool
        known = dispatcher.known(request)
        if known is None:
            own = await dispatcher.answer_before_entry(request, event_id)
            if own is not None:
                return own
        started, admission = self.clock.monotonic(), self.admission
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
        intake = admission.enter(principal, request)
        try:
            body = await read_body(route, intake)
            repeatable = self.joins.repeatable(event_id, principal, request, route, body)
            joiner = await self.joins.find(repeatable) if self.joins.has_like(repeatable) else None
            if joiner is None:
                call = self._call(request, event_id, principal, route, body, intake, now, started)
        except BaseException:
            intake.holds.close()
            raise
        if joiner is None:
            return await self._answer(call, repeatable)
        intake.holds.close()
        self.telemetry.joined()
        return await joiner.answer()

    def _call(
        self,
        request: Request,
        event_id: UUID,
        principal: Principal,
        route: Route,
        body: Payload,
        intake: Intake,
        now: datetime,
        started: float,
    ) -> Call:
        background = self.background
        background.check_room(principal.subject, route, body)
        way = way_of(route, body, request.headers, principal, self.forwarder, background.owners)
        return Call(
            event_id=event_id,
            source=self.source,
            principal=principal,
            route=route,
            deployment=way.deployment,
            candidates=way.candidates,
            reasoning=way.reasoning,
            image_deployment=way.image_deployment,
            body=body,
            charge=Charge(route.served),
            headers=request.headers,
            named=request.named,
            background=background,
            sink=self.sink,
            clock=self.clock,
            telemetry=self.telemetry,
            holds=intake.holds,
            started_at=now,
            started=started,
            long_context_tokens=self.long_context_tokens,
        )

    async def _answer(self, call: Call, repeatable: Repeatable | None) -> Answer | StreamingAnswer:
        # A task of its own: cancelling the request must not cancel the call's usage event.
        answering = start_now(self._forward(call))
        try:
            if not call.is_streaming:
                return await self.joins.own(repeatable, answering)
            deadlines = self.forwarder.deadlines
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
            with self.forwarder.deadlines.limit(deadline):
                if call.route.stored_id is not None:
                    await self.background.prepare(call.route)
                answer = call.answer = await self.forwarder.forward(call)
            answer = call.answer = call.learn(answer)
            if answer.status < 400 and call.charge.depends_on_the_request:
                await call.charge.note(call.body)
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
        held = call.holds.pop_all()  # until it is sent
        try:
            ending = await call.read(answer)
            await call.end(ending)
            headers = self._headers(call, answer)
            if ending.usage_source is UsageSource.REPORTED:
                total = ending.usage.total_tokens if call.route.served.is_charged else 0
                headers = (*headers, ("total-tokens", str(total)))
            return Answer(
                status=answer.status,
                headers=headers,
                body=answer.body,
                is_served=ending.outcome is Outcome.SERVED and answer.status < 400,
                release=held.close,
            )
        except BaseException:
            held.close()
            raise

    def _relay(self, call: Call, answer: StreamedAnswer, deadline: float) -> StreamingAnswer:
        relay = self.relays.relay(
            answer,
            deadline=deadline,
            end=call.end,
            prompt=partial(prompt_of, call.body),
            is_text=call.is_text,
            subject=call.principal.subject,
            failure=call.route.stream_failure(call.event_id, choices=call.choices),
        )
        return StreamingAnswer(
            status=answer.status, headers=self._headers(call, answer), relay=relay
        )

    def _headers(self, call: Call, answer: WholeAnswer | StreamedAnswer) -> Headers:
        headers = call.answer_headers(answer, with_origin=self.exposes_backend)
        if self.exposes_backend:
            return (*headers, ("x-meter-backend", answer.backend.name))
        return headers
