"""The front door: one call from request to answer.

`authenticate -> route -> choose backend -> forward -> relay + extract -> publish -> answer`
"""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID

from meter.errors import CallerError, KeysUnavailable, NotServed, Overloaded, Unauthenticated
from meter.gateway.answer.begin import StreamedAnswer, WholeAnswer
from meter.gateway.answer.encoding import decoded
from meter.gateway.answer.estimate import Estimator
from meter.gateway.answer.follow import AnswerReader, ByteReader, StreamReader
from meter.gateway.answer.late import LATE_HEADERS, Abandoned, LateRelay
from meter.gateway.answer.relay import Drains, RelayTimes, StreamEnd, StreamRelay
from meter.gateway.answer.usage import read_answer, read_response_id
from meter.gateway.balance.affinity import Owner, Owners
from meter.gateway.balance.forward import Call, Forwarder
from meter.gateway.call import NOTHING_READ, Metering, retry_count
from meter.gateway.caller.auth import UNAUTHENTICATED_MESSAGE, TokenVerifier
from meter.gateway.headers import downstream_headers, header
from meter.gateway.http import Answer, Request, StreamingAnswer, error_answer
from meter.gateway.request.operations import Operation
from meter.gateway.request.prepare import Prepared, prepare
from meter.gateway.request.route import Route, allowed_methods, parse_route
from meter.ports import Clock, Dice, Headers, Spool, UsageSink
from meter.usage import NO_USAGE, Outcome, UsageEvent, UsageSource, new_event_id


@dataclass(frozen=True, slots=True, kw_only=True)
class CallLimits:
    """Bounds on calls."""

    times: RelayTimes
    first_keepalive_seconds: float
    max_concurrent_calls: int
    max_frame_bytes: int


@dataclass(slots=True, kw_only=True)
class FrontDoor:
    """Handles calls. One event loop owns it."""

    verifier: TokenVerifier
    forwarder: Forwarder
    sink: UsageSink
    clock: Clock
    dice: Dice
    drains: Drains
    limits: CallLimits
    new_spool: Callable[[], Spool]
    estimator: Estimator
    source: str
    exposes_backend: bool = False
    owners: Owners = field(default_factory=Owners)
    abandoned: Abandoned = field(default_factory=Abandoned)
    _running: int = field(default=0)

    async def handle(self, request: Request) -> Answer | StreamingAnswer:
        """Answer one call. Expected failures become answers in AOAI's error shape."""
        event_id = new_event_id(self.clock.now(), self.dice.randbytes(10))
        try:
            return await self._handle(request, event_id)
        except CallerError as exc:
            return error_answer(exc)
        except KeysUnavailable:
            unready = "Tokens cannot be verified now."
            return error_answer(CallerError(unready, status=503, code="ServiceUnavailable"))

    async def finish(self, seconds: float, *, cut_seconds: float) -> None:
        """Wait so long for calls whose requests were cancelled, then cut and count them."""
        await self.abandoned.finish(seconds, cut_seconds=cut_seconds)

    async def _handle(self, request: Request, event_id: UUID) -> Answer | StreamingAnswer:
        started_at, started = self.clock.now(), self.clock.monotonic()
        principal = await self.verifier.verify(_token(request.headers))
        if request.method == "OPTIONS":
            allow = ", ".join(allowed_methods(request.raw_path))
            return Answer(status=204, headers=(("allow", allow),), body=b"")
        route = parse_route(request.method, request.raw_path, request.query)
        if route.operation in {Operation.MODELS, Operation.MODELS_GET}:
            return self._models(route)
        self._take_slot()
        prepared: Prepared | None = None
        try:
            prepared = await prepare(request, route, self.owners, self.new_spool)
            call = prepared.call(request, principal.subject, self.forwarder.pool)
        except BaseException:
            self._running -= 1
            if prepared is not None:
                prepared.close()
            raise
        metering = Metering(
            event_id=event_id,
            principal=principal,
            route=route,
            deployment=prepared.deployment,
            is_streaming=prepared.is_streaming,
            started_at=started_at,
            started=started,
            retry_count=retry_count(request.headers),
            clock=self.clock,
        )
        return await self._answer(call, metering, prepared)

    def _take_slot(self) -> None:
        if self._running >= self.limits.max_concurrent_calls:
            raise Overloaded(
                "This instance has as many calls as it takes. Please retry after 1 second.",
                retry_after_seconds=1,
                status=503,
            )
        self._running += 1

    async def _answer(
        self, call: Call, metering: Metering, prepared: Prepared
    ) -> Answer | StreamingAnswer:
        """Answer within the slot that the call has."""
        # A task of its own: whoever cancels the request must not take its usage event with it.
        # Begun at once: a task that is cancelled before its first step would never run.
        forwarding = self._forward(call, metering, prepared)
        loop = asyncio.get_running_loop()
        answering = asyncio.Task(forwarding, loop=loop, eager_start=True)
        try:
            if not prepared.is_streaming:
                return await asyncio.shield(answering)
            await asyncio.wait({answering}, timeout=self.limits.first_keepalive_seconds)
        except asyncio.CancelledError:
            self.abandoned.take(answering)
            raise
        if answering.done():
            return answering.result()
        headers = (*LATE_HEADERS, ("x-meter-event-id", str(metering.event_id)))
        relay = LateRelay(answering, self.limits.times)
        return StreamingAnswer(status=200, headers=headers, relay=relay)

    async def _forward(
        self, call: Call, metering: Metering, prepared: Prepared
    ) -> Answer | StreamingAnswer:
        answer: Answer | StreamingAnswer | None = None
        try:
            async with asyncio.timeout(self.limits.times.total_seconds):
                forwarded = await self.forwarder.forward(call, metering.tries)
            metering.first_byte_ms = metering.elapsed_ms(forwarded.begun_at)
            self._learn(metering, forwarded)
            if isinstance(forwarded, WholeAnswer):
                answer = await self._answer_whole(metering, forwarded)
            else:
                answer = self._answer_stream(metering, forwarded, prepared)
        except CallerError as exc:
            answer = await self._fail(metering, exc)
        except TimeoutError:
            late = CallerError("The call took too long.", status=504, code="GatewayTimeout")
            answer = await self._fail(metering, late)
        except asyncio.CancelledError:
            if not metering.is_published:
                ending = CallerError("The call was cut.", status=503, code="ServiceUnavailable")
                await self._fail(metering, ending)
            raise
        finally:
            if not isinstance(answer, StreamingAnswer):
                self._end(prepared)
        return answer

    def _end(self, prepared: Prepared) -> None:
        """Give back what the call holds here; a stream holds it until its event is made."""
        prepared.close()
        self._running -= 1

    def _learn(self, metering: Metering, forwarded: WholeAnswer | StreamedAnswer) -> None:
        """Remember which backend stores the response that it has just answered about."""
        owner = Owner(forwarded.backend.name, metering.deployment)
        if forwarded.status >= 400:
            return
        if metering.route.served.is_by_id:
            self.owners.learn(metering.route.stored_id, owner)
        elif metering.route.operation is Operation.RESPONSES:
            self.owners.learn(read_response_id(forwarded.beginning), owner)

    async def _fail(self, metering: Metering, exc: CallerError) -> Answer:
        answer = error_answer(exc)
        if not metering.tries.attempts:
            return answer  # no backend was reached: a metric, not an event
        end = StreamEnd(
            outcome=Outcome.FAILED,
            reading=NOTHING_READ,
            usage=NO_USAGE,
            usage_source=UsageSource.MISSING,
        )
        event = metering.event(self.source, end, status=answer.status, headers=())
        await self._publish(metering, event)
        return Answer(
            status=answer.status,
            headers=(*answer.headers, ("x-meter-event-id", str(metering.event_id))),
            body=answer.body,
        )

    async def _publish(self, metering: Metering, event: UsageEvent) -> None:
        metering.is_published = True
        await self.sink.publish(event)

    async def _answer_whole(self, metering: Metering, forwarded: WholeAnswer) -> Answer:
        encoding = header(forwarded.headers, "content-encoding")
        reading = read_answer(decoded(forwarded.body, encoding))
        usage = reading.usage
        end = StreamEnd(
            outcome=Outcome.SERVED,
            reading=reading,
            usage=usage or NO_USAGE,
            usage_source=UsageSource.MISSING if usage is None else UsageSource.REPORTED,
        )
        event = metering.event(self.source, end, status=forwarded.status, headers=forwarded.headers)
        await self._publish(metering, event)
        headers = self._headers(metering, forwarded)
        if usage is not None:
            headers = (*headers, ("total-tokens", str(event.usage.total_tokens)))
        return Answer(status=forwarded.status, headers=headers, body=forwarded.body)

    def _answer_stream(
        self, metering: Metering, forwarded: StreamedAnswer, prepared: Prepared
    ) -> StreamingAnswer:
        async def finish(end: StreamEnd) -> None:
            self._end(prepared)
            await self.sink.publish(
                metering.event(self.source, end, status=forwarded.status, headers=forwarded.headers)
            )

        relay = StreamRelay(
            chunks=forwarded.chunks,
            answer=forwarded.answer,
            reader=self._reader(forwarded),
            drains=self.drains,
            times=self.limits.times,
            finish=finish,
            estimator=self.estimator,
            prompt=prepared.prompt_texts,
            is_usage_refused=forwarded.is_usage_refused,
        )
        metering.is_streaming = metering.is_streaming or forwarded.is_events
        headers = self._headers(metering, forwarded)
        if not forwarded.is_events and (size := header(forwarded.headers, "content-length")):
            headers = (*headers, ("content-length", size))  # a cut can then be told from the end
        return StreamingAnswer(status=forwarded.status, headers=headers, relay=relay)

    def _reader(self, forwarded: StreamedAnswer) -> AnswerReader:
        if forwarded.is_events:
            return StreamReader(
                hides_usage=forwarded.asked_for_usage, max_frame_bytes=self.limits.max_frame_bytes
            )
        kind = header(forwarded.headers, "content-type") or ""
        return ByteReader(tells_usage="json" in kind.lower())

    def _headers(self, metering: Metering, forwarded: WholeAnswer | StreamedAnswer) -> Headers:
        own = [("x-meter-event-id", str(metering.event_id))]
        if self.exposes_backend:
            own.append(("x-meter-backend", forwarded.backend.name))
        return (*downstream_headers(forwarded.headers), *own)

    def _models(self, route: Route) -> Answer:
        """The deployments that can be called here, as the models that clients list. No event."""
        names = sorted({name for each in self.forwarder.pool.backends for name in each.deployments})
        models = {name: _model(name) for name in names}
        if route.operation is Operation.MODELS:
            return _json_answer({"object": "list", "data": list(models.values())})
        if route.stored_id not in models:
            raise NotServed(
                f"The model {route.stored_id!r} does not exist.", code="model_not_found"
            )
        return _json_answer(models[route.stored_id])


def _token(headers: Headers) -> str:
    """The bearer token; some tools can set the `api-key` header only, so it is looked for there too."""
    authorization = [value for name, value in headers if name == "authorization"]
    if len(authorization) > 1:
        raise Unauthenticated(UNAUTHENTICATED_MESSAGE)
    if authorization:
        scheme, _, token = authorization[0].strip().partition(" ")
        if scheme.lower() == "bearer" and token:
            return token.strip()
    if api_key := header(headers, "api-key"):
        return api_key.strip()
    raise Unauthenticated(UNAUTHENTICATED_MESSAGE)


def _json_answer(document: object) -> Answer:
    headers = (("content-type", "application/json"),)
    return Answer(status=200, headers=headers, body=json.dumps(document).encode())


def _model(deployment: str) -> dict[str, object]:
    """A deployment as clients expect a model; when it was made is not known here."""
    return {"id": deployment, "object": "model", "created": 0, "owned_by": "azure-openai"}
