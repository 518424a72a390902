"""The front door: one call from request to answer.

`authenticate -> route -> choose backend -> forward -> relay + extract -> publish -> answer`
"""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from meter.errors import (
    BadRequest,
    CallerError,
    KeysUnavailable,
    NotServed,
    Overloaded,
    Unauthenticated,
)
from meter.gateway.auth import UNAUTHENTICATED_MESSAGE, TokenVerifier
from meter.gateway.backend import Backend
from meter.gateway.body import JsonBody, parse_body, spliced, with_usage_asked
from meter.gateway.extract import Reading, StreamReader, read_answer
from meter.gateway.forward import Call, Forwarder, StreamedAnswer, Tries, WholeAnswer
from meter.gateway.headers import downstream_headers, header
from meter.gateway.relay import Drains, StreamEnd, StreamRelay
from meter.gateway.route import Route, is_deployment_name, parse_route
from meter.ports import Clock, Dice, Headers, UsageSink
from meter.usage import (
    NO_USAGE,
    Outcome,
    Principal,
    Tier,
    TokenUsage,
    UsageEvent,
    UsageSource,
    new_event_id,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A caller's HTTP request. `raw_path` is undecoded; `read_body` raises TooLarge."""

    method: str
    raw_path: str
    query: str
    headers: Headers
    read_body: Callable[[], Awaitable[bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer whose body is whole."""

    status: int
    headers: Headers
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamingAnswer:
    """An answer whose body is relayed as it comes."""

    status: int
    headers: Headers
    relay: StreamRelay


@dataclass(slots=True)
class _Metering:
    """What is gathered about one call until its event is published."""

    event_id: UUID
    principal: Principal
    route: Route
    deployment: str
    is_streaming: bool
    started_at: datetime
    started: float
    retry_count: int
    tries: Tries = field(default_factory=Tries)
    first_byte_ms: int | None = None


@dataclass(slots=True, kw_only=True)
class FrontDoor:
    """Handles calls. One event loop owns it."""

    verifier: TokenVerifier
    forwarder: Forwarder
    sink: UsageSink
    clock: Clock
    dice: Dice
    drains: Drains
    write_timeout_seconds: float
    keepalive_seconds: float
    total_timeout_seconds: float
    max_concurrent_calls: int
    source: str
    exposes_backend: bool = False
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

    async def _handle(self, request: Request, event_id: UUID) -> Answer | StreamingAnswer:
        started_at, started = self.clock.now(), self.clock.monotonic()
        principal = await self.verifier.verify(_token(request.headers))
        route = parse_route(request.method, request.raw_path, request.query)
        body = parse_body(await request.read_body())
        deployment = _deployment(route, body)
        self.forwarder.pool.serving(deployment)
        if self._running >= self.max_concurrent_calls:
            raise Overloaded(
                "This instance has as many calls as it takes. Please retry after 1 second.",
                retry_after_seconds=1,
                status=503,
            )
        metering = _Metering(
            event_id=event_id,
            principal=principal,
            route=route,
            deployment=deployment,
            is_streaming=body.is_streaming,
            started_at=started_at,
            started=started,
            retry_count=_retry_count(request.headers),
        )
        self._running += 1
        answer: Answer | StreamingAnswer | None = None
        try:
            answer = await self._forward(_call(request, metering, body), metering)
        finally:
            if not isinstance(answer, StreamingAnswer):
                self._running -= 1  # a stream runs on until its event is published
        return answer

    async def _forward(self, call: Call, metering: _Metering) -> Answer | StreamingAnswer:
        try:
            async with asyncio.timeout(self.total_timeout_seconds):
                forwarded = await self.forwarder.forward(call, metering.tries)
        except CallerError as exc:
            return await self._fail(metering, exc)
        except TimeoutError:
            late = CallerError("The call took too long.", status=504, code="GatewayTimeout")
            return await self._fail(metering, late)
        metering.first_byte_ms = self._elapsed_ms(metering)
        if isinstance(forwarded, WholeAnswer):
            return await self._answer_whole(metering, forwarded)
        return self._answer_stream(metering, forwarded, hides_usage=forwarded.asked_for_usage)

    async def _fail(self, metering: _Metering, exc: CallerError) -> Answer:
        answer = error_answer(exc)
        if not metering.tries.attempts:
            return answer  # no backend was reached: a metric, not an event
        await self._publish(
            metering,
            status=answer.status,
            end=StreamEnd(
                outcome=Outcome.FAILED,
                reading=Reading(),
                usage=NO_USAGE,
                usage_source=UsageSource.MISSING,
            ),
        )
        return Answer(
            status=answer.status,
            headers=(*answer.headers, ("x-meter-event-id", str(metering.event_id))),
            body=answer.body,
        )

    async def _answer_whole(self, metering: _Metering, forwarded: WholeAnswer) -> Answer:
        is_served = forwarded.status < 400
        reading = read_answer(forwarded.body)
        usage = reading.usage
        await self._publish(
            metering,
            status=forwarded.status,
            headers=forwarded.headers,
            end=StreamEnd(
                outcome=Outcome.SERVED if is_served else Outcome.REFUSED,
                reading=reading,
                usage=usage or NO_USAGE,
                usage_source=UsageSource.MISSING if usage is None else UsageSource.REPORTED,
            ),
        )
        headers = self._headers(metering, forwarded.backend, forwarded.headers, usage=usage)
        return Answer(status=forwarded.status, headers=headers, body=forwarded.body)

    def _answer_stream(
        self, metering: _Metering, forwarded: StreamedAnswer, *, hides_usage: bool
    ) -> StreamingAnswer:
        async def finish(end: StreamEnd) -> None:
            self._running -= 1
            await self._publish(
                metering, status=forwarded.status, headers=forwarded.headers, end=end
            )

        relay = StreamRelay(
            chunks=forwarded.chunks,
            answer=forwarded.answer,
            reader=StreamReader(hides_usage=hides_usage),
            drains=self.drains,
            write_timeout_seconds=self.write_timeout_seconds,
            keepalive_seconds=self.keepalive_seconds,
            total_timeout_seconds=self.total_timeout_seconds,
            finish=finish,
        )
        metering.is_streaming = True
        headers = self._headers(metering, forwarded.backend, forwarded.headers)
        return StreamingAnswer(status=forwarded.status, headers=headers, relay=relay)

    def _headers(
        self,
        metering: _Metering,
        backend: Backend,
        backend_headers: Headers,
        *,
        usage: TokenUsage | None = None,
    ) -> Headers:
        headers = downstream_headers(backend_headers)
        own = [("x-meter-event-id", str(metering.event_id))]
        if usage is not None:
            own.append(("total-tokens", str(usage.total_tokens)))
        if self.exposes_backend:
            own.append(("x-meter-backend", backend.name))
        return (*headers, *own)

    async def _publish(
        self, metering: _Metering, *, status: int, end: StreamEnd, headers: Headers = ()
    ) -> None:
        tries, route = metering.tries, metering.route
        backend = tries.last_backend
        spilled_from = _spilled_from(tries, headers)
        event = UsageEvent(
            id=metering.event_id,
            source=self.source,
            time=self.clock.now(),
            principal=metering.principal,
            operation=route.operation,
            deployment=metering.deployment,
            model=end.reading.model,
            api_version=route.api_version,
            backend=backend.name if backend else None,
            tier=_tier(backend, headers),
            spilled_from=spilled_from,
            outcome=end.outcome,
            status=status,
            streaming=metering.is_streaming,
            usage=end.usage,
            usage_source=end.usage_source,
            usage_raw=end.reading.usage_raw,
            attempts=tuple(tries.attempts),
            started_at=metering.started_at,
            duration_ms=self._elapsed_ms(metering),
            time_to_first_byte_ms=metering.first_byte_ms,
            client_retry_count=metering.retry_count,
        )
        await self.sink.publish(event)

    def _elapsed_ms(self, metering: _Metering) -> int:
        return round((self.clock.monotonic() - metering.started) * 1000)


def error_answer(exc: CallerError) -> Answer:
    """An error in the shape the OpenAI SDK reads: `{"error": {code, message, type, param}}`."""
    body = {
        "error": {
            "code": exc.code,
            "message": exc.message,
            "type": _ERROR_TYPES.get(exc.status, "server_error"),
            "param": None,
        }
    }
    headers = [("content-type", "application/json")]
    if exc.status == 401:
        headers.append(("www-authenticate", 'Bearer error="invalid_token"'))
    if exc.status == 405:
        headers.append(("allow", "POST"))
    if exc.retry_after_seconds is not None:
        # Rounded up, so that nobody comes back too early.
        headers.append(("retry-after", str(-int(-exc.retry_after_seconds // 1))))
        headers.append(("retry-after-ms", str(-int(-exc.retry_after_seconds * 1000 // 1))))
    return Answer(status=exc.status, headers=tuple(headers), body=json.dumps(body).encode())


_ERROR_TYPES = {
    400: "invalid_request_error",
    401: "invalid_request_error",
    403: "invalid_request_error",
    404: "invalid_request_error",
    405: "invalid_request_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
}


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


def _deployment(route: Route, body: JsonBody) -> str:
    if route.deployment is not None:
        return route.deployment
    if body.model is None:
        raise BadRequest("The request body must name a deployment in `model`.")
    if not is_deployment_name(body.model):
        raise NotServed(
            "The API deployment for this resource does not exist.", code="DeploymentNotFound"
        )
    return str(body.model)


def _call(request: Request, metering: _Metering, body: JsonBody) -> Call:
    route, deployment = metering.route, metering.deployment
    may_ask = body.is_streaming and route.operation.takes_stream_options

    def body_for(backend: Backend, asking_for_usage: bool) -> bytes:
        members: dict[str, str] = {}
        own_name = backend.own_name(deployment)
        if isinstance(body.model, str) and body.model == deployment != own_name:
            members["model"] = json.dumps(own_name)
        if asking_for_usage:
            members |= with_usage_asked(body)
        return spliced(body.text, members) if members else body.text.encode()

    return Call(
        subject=metering.principal.subject,
        method=request.method,
        deployment=deployment,
        operation=route.operation,
        headers=request.headers,
        url_path=lambda backend: route.upstream_path(backend.own_name(deployment)),
        body=body_for,
        must_ask_for_usage=may_ask and not body.asks_for_usage,
    )


def _spilled_from(tries: Tries, headers: Headers) -> str | None:
    """What the call spilled over from: Azure's provisioned deployment, or our provisioned backend."""
    native = _native_spillover(headers)
    preferred, used = tries.preferred_provisioned, tries.last_backend
    if native is not None or preferred is None or used is None:
        return native
    has_spilled = used.tier is Tier.STANDARD and preferred.priority < used.priority
    return preferred.name if has_spilled else None


def _tier(backend: Backend | None, headers: Headers) -> Tier:
    """The tier the call is billed at: Azure bills its own spillover at the standard rate."""
    if backend is None or _native_spillover(headers) is not None:
        return Tier.STANDARD
    return backend.tier


def _native_spillover(headers: Headers) -> str | None:
    named = header(headers, "x-ms-spillover-from-deployment")
    return named if is_deployment_name(named) else None


def _retry_count(headers: Headers) -> int:
    text = header(headers, "x-stainless-retry-count") or ""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 4 else 0
