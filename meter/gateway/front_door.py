"""The front door: one call from request to answer.

`authenticate -> route -> choose backend -> forward -> relay + follow -> end (publish) -> answer`
"""

import asyncio
import logging
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
from meter.gateway.joining.joins import Joiner, Joins, Repeatable
from meter.gateway.limits.admission import Admission, Holds
from meter.gateway.request.dispatch import Dispatcher
from meter.gateway.request.prepare import prompt_of, read_body
from meter.ports import NO_TELEMETRY, Clock, Dice, Headers, Telemetry, UsageSink
from meter.usage import Outcome, UsageSource, new_event_id

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
        event_id = new_event_id(self.clock.now(), self.dice.randbytes(10))
        return marked(await self._answered(request, event_id), event_id)

    async def _answered(self, request: Request, event_id: UUID) -> Answer | StreamingAnswer:
        try:
            return await self._handle(request, event_id)
        except CallerError as exc:
            return self._rejected(exc)
        except KeysUnavailable:
            return self._rejected(NO_KEYS)
        except Exception:
            # Last resort: an internal error still gets an answer that callers can parse.
            log.exception("call_failed_unexpectedly event_id=%s", event_id)
            return error_answer(INTERNAL_ERROR)

    def _rejected(self, error: CallerError) -> Answer:
        """The answer to a call that no backend has seen."""
        self.telemetry.rejected(error.status, error.kind)
        return error_answer(error)

    async def _handle(self, request: Request, event_id: UUID) -> Answer | StreamingAnswer:
        if (own := await self.dispatcher.answer_before_entry(request, event_id)) is not None:
            return own
        started_at, started = self.clock.now(), self.clock.monotonic()
        principal = await self.admission.identify(request.headers, event_id)
        route = await self.dispatcher.dispatch(request, principal, self.forwarder.pool.backends)
        if isinstance(route, Answer):
            return route
        if route.deployment is not None:
            self.forwarder.pool.serving(route.deployment)  # before a byte of the body is taken
        with Holds() as holds:
            body = await read_body(route, self.admission.enter(principal, request, holds))
            repeatable = self.joins.repeatable(event_id, principal, request, route, body)
            if (joiner := await self.joins.find(repeatable)) is None:
                self.background.check_room(principal.subject, route, body)
                owners = self.background.owners
                way = way_of(route, body, request.headers, principal, self.forwarder, owners)
                call = Call(
                    event_id=event_id,
                    source=self.source,
                    principal=principal,
                    route=route,
                    deployment=way.deployment,
                    candidates=way.candidates,
                    reasoning=way.reasoning,
                    body=body,
                    charge=Charge(route.served),
                    headers=request.headers,
                    named=request.named,
                    background=self.background,
                    sink=self.sink,
                    clock=self.clock,
                    telemetry=self.telemetry,
                    holds=holds.pop_all(),
                    started_at=started_at,
                    started=started,
                    long_context_tokens=self.long_context_tokens,
                )
        return await (self._answer(call, repeatable) if joiner is None else self._join(joiner))

    async def _join(self, joiner: Joiner) -> Answer:
        self.telemetry.joined()
        return await joiner.answer()

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
                await self.background.prepare(call.route)
                call.answer = await self.forwarder.forward(call)
            call.answer = call.learn(call.answer)
            await call.settle_body(call.answer)
            if isinstance(call.answer, StreamedAnswer):
                return self._relay(call, call.answer, deadline)
            return await self._answer_whole(call, call.answer)
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
        with call.holds.pop_all() as held:
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
                release=held.pop_all().close,
            )

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
