"""One call, from its request to its single end, which makes the usage event."""

from collections.abc import Mapping
from copy import replace
from datetime import datetime
from uuid import UUID

from msgspec import Struct, field

from meter.errors import CallerError
from meter.gateway.answer.begin import StreamedAnswer, WholeAnswer
from meter.gateway.answer.relay import Ending
from meter.gateway.backend import Backend
from meter.gateway.background import Background, publish_all
from meter.gateway.balance.affinity import Owner, Owners
from meter.gateway.balance.forward import Attempts, Candidates, Forwarder
from meter.gateway.balance.reasoning import reasoning_items, refuses_reasoning
from meter.gateway.billing import Billing
from meter.gateway.billing import Charge as Charge
from meter.gateway.headers import (
    IMAGE_DEPLOYMENT,
    TRACEPARENT,
    downstream_headers,
    header,
    retry_count,
    traced,
    upstream_headers,
)
from meter.gateway.limits.holds import Holds
from meter.gateway.request.prepare import (
    JsonBody,
    OutgoingBody,
    Payload,
    asks_for_events,
    demand_of,
    deployment_of,
    drawing_too,
    error_of,
    image_deployment_of,
    outgoing_body,
    reasoning_of,
    response_id_of,
)
from meter.gateway.request.route import Route, is_deployment_name
from meter.ports import Clock, Headers, Telemetry, Trace, UpstreamRequest, UsageSink
from meter.usage import Outcome, Principal, Tier, UsageEvent

MAX_CHOICES = 128  # of one chat; for more a backend does not answer


class Way(Struct, frozen=True, kw_only=True, gc=False):
    """Where a call goes: the public deployment name, its backends, the digests of its reasoning items."""

    deployment: str
    candidates: Candidates
    reasoning: tuple[str, ...]


class Call(Struct, kw_only=True, eq=False):
    """A verified and routed call. `end` ends it exactly once, however it ends.

    `deployment` is the public name that usage is counted under. `headers` are the caller's, with its
    trace as it goes on; `named` are the first of each name, as they came. `answer` is the backend's
    once it has begun. `reasoning` has the digests of the reasoning items that the call carries. `holds`
    gives back the slot and the spool. `is_kept_alive`: its answer can begin before a backend has answered
    (`answer/late.py`).
    """

    event_id: UUID
    source: str
    principal: Principal
    route: Route
    deployment: str
    body: Payload
    headers: Headers
    named: Mapping[str, str]
    candidates: Candidates
    reasoning: tuple[str, ...]
    background: Background
    sink: UsageSink
    clock: Clock
    telemetry: Telemetry
    holds: Holds
    started_at: datetime
    started: float
    long_context_tokens: int
    charge: Charge
    attempts: Attempts = field(default_factory=Attempts)
    answer: WholeAnswer | StreamedAnswer | None = None
    trace: Trace = Trace(())
    is_kept_alive: bool = False
    _is_ended: bool = False

    def __post_init__(self) -> None:
        self.is_kept_alive = isinstance(self.body, JsonBody) and self.body.is_streaming
        self.trace = self.telemetry.begin(
            traced(self.headers, self.named),
            started_at=self.started_at,
            operation=self.route.operation,
            deployment=self.deployment,
        )
        self.headers = self.trace.headers

    @property
    def is_streaming(self) -> bool:
        """Whether the caller asked for an event stream, or the answer is one."""
        is_begun = isinstance(self.answer, StreamedAnswer) and self.answer.is_events
        return self.is_kept_alive or is_begun

    @property
    def expects_events(self) -> bool:
        """Whether the caller asked for an event stream."""
        return self.route.asks_for_events or asks_for_events(self.body)

    @property
    def answers_in_text(self) -> bool:
        """Whether the answer may be a text, which is then the caller's own words."""
        return self.route.served.answers_in_text

    @property
    def must_ask_for_usage(self) -> bool:
        """Whether the gateway adds the option that makes a stream report its usage."""
        body = self.body
        is_streaming = isinstance(body, JsonBody) and body.is_streaming and not body.asks_for_usage
        return is_streaming and self.route.served.takes_stream_options

    @property
    def is_text(self) -> bool:
        """Whether its answer is text made from text, whose tokens can be estimated."""
        return self.route.served.makes_text_of_text

    @property
    def body_error(self) -> CallerError | None:
        """As `error_of` says."""
        return error_of(self.body)

    @property
    def choices(self) -> int:
        """How many texts the caller asks for."""
        asked = self.body.member("n") if isinstance(self.body, JsonBody) else None
        return asked if isinstance(asked, int) and 1 <= asked <= MAX_CHOICES else 1

    def path_for(self, backend: Backend) -> str:
        """The path and query to send to a backend."""
        name = self.deployment
        return self.route.upstream_path(backend.own_name(name) if backend.serves(name) else name)

    def body_for(self, backend: Backend, *, asks_for_usage: bool) -> OutgoingBody:
        """The body to send to a backend, with the usage option where it is asked for."""
        return outgoing_body(
            self.body,
            self.deployment,
            backend,
            asks_for_usage=asks_for_usage,
            sets_model=self.route.sets_model,
        )

    def request_for(
        self, backend: Backend, credentials: Headers, *, asks_for_usage: bool
    ) -> UpstreamRequest:
        """The request to send to a backend."""
        body = self.body_for(backend, asks_for_usage=asks_for_usage)
        length = () if body.length is None else (("content-length", str(body.length)),)
        return UpstreamRequest(
            backend=backend.name,
            method=self.route.served.method,
            url=backend.url + self.path_for(backend),
            headers=(
                *upstream_headers(self.headers, self.principal.subject, credentials),
                *self._image_header(backend),
                *length,
            ),
            body=body.content,
        )

    def _image_header(self, backend: Backend) -> Headers:
        """The image tool's deployment by the backend's own name; its header is not passed on."""
        name = image_deployment_of(self.route, self.headers)
        return () if name is None else ((IMAGE_DEPLOYMENT, backend.own_name(name)),)

    async def settle_body(self, answer: WholeAnswer | StreamedAnswer) -> None:
        """Note what the request asks for, and give up a JSON body that nobody will need again.

        No backend will, and no estimate but that of an event stream.
        """
        if answer.status < 400:
            await self.charge.note(self.body)
        is_needed = isinstance(answer, StreamedAnswer) and answer.is_events
        if isinstance(self.body, JsonBody) and not is_needed:
            self.body.drop()

    def is_elsewhere(self, answer: WholeAnswer) -> bool:
        """Whether the answer says that this backend does not have what the call refers to."""
        if self.route.served.is_by_id:
            return answer.status == 404
        if self.reasoning and answer.status == 400 and refuses_reasoning(answer.body):
            return True
        if not isinstance(self.body, JsonBody) or self.body.previous_response_id is None:
            return False
        if answer.status == 404:
            return b"DeploymentNotFound" not in answer.body
        return answer.status == 400 and b"previous_response" in answer.body

    def response_id(self, answer: WholeAnswer | StreamedAnswer) -> str | None:
        """The id of the stored response that an answer is about; None where it is about none."""
        if self.route.served.is_by_id:
            return self.route.stored_id
        return answer.response_id if self.route.served.makes_responses else None

    async def read(self, answer: WholeAnswer) -> Ending:
        """The ending of a call whose answer is whole, with what the request says of its usage."""
        reading = await answer.read(may_be_text=self.answers_in_text)
        is_error = answer.status < 400 and answer.error is not None
        # A read shows a response as it is stored, also a failed one.
        has_failed = is_error or (reading.has_failed and self.route.served.is_charged)
        ending = Ending.of_whole(reading, has_failed=has_failed)
        return self.charge.of(ending) if self.route.served.is_charged else ending

    def reasoning_in(self, answer: WholeAnswer | StreamedAnswer) -> tuple[str, ...]:
        """The reasoning items that the answer's backend can read: those sent, and those it made."""
        if isinstance(answer, WholeAnswer) and self.route.served.has_reasoning:
            return (*self.reasoning, *reasoning_items(answer.body))
        return self.reasoning

    def learn(self, answer: WholeAnswer | StreamedAnswer) -> WholeAnswer | StreamedAnswer:
        """Remember which backend stores the response, and made the reasoning, of this answer.

        Of the answer that is returned, reasoning is learned as it passes.
        """
        if answer.status >= 400:
            return answer
        owners, served = self.background.owners, self.route.served
        maker = self.principal if served.is_charged else None
        owner = Owner(answer.backend.name, self.deployment, maker)
        owners.learn(self.response_id(answer), owner)
        owners.learn_made(self.reasoning_in(answer), owner)
        if served.has_reasoning and isinstance(answer, StreamedAnswer):
            owner = Owner(answer.backend.name, self.deployment)
            return replace(answer, chunks=owners.learn_from(answer.chunks, owner))
        return answer

    def answer_headers(
        self, answer: WholeAnswer | StreamedAnswer, *, with_origin: bool = False
    ) -> Headers:
        """The headers of the backend's answer that the caller gets."""
        headers = downstream_headers(answer.headers, with_origin=with_origin)
        if isinstance(answer, StreamedAnswer) and not answer.is_events:
            size = header(answer.headers, "content-length")
            return (*headers, ("content-length", size)) if size else headers  # shows a cut
        return headers

    async def end(self, ending: Ending) -> None:
        """Make the call's usage events, give back what the call holds, and publish them.

        Only the first ending counts. A call that reached no backend makes no event.
        """
        if self._is_ended:
            return
        self._is_ended = True
        with self.holds:
            events = self._events(ending) if self.attempts.made else ()
        if events:
            self.telemetry.ended(self.trace, events)
        await publish_all(self.sink, events)

    def _events(self, ending: Ending) -> tuple[UsageEvent, ...]:
        """The call's event, and that of the background response that it shows, if any."""
        billing = self._billing(ending)
        event = self._event(self.charge.of(ending), billing)
        return self.background.events_of(event, ending.reading, self.route, billing)

    def _billing(self, ending: Ending) -> Billing:
        return Billing(
            backend=self.attempts.last_backend,
            deployment=self.deployment,
            image_deployment=image_deployment_of(self.route, self.headers),
            is_spilled=_native_spillover(self._headers_at(ending)) is not None,
            long_context_tokens=self.long_context_tokens,
        )

    def _headers_at(self, ending: Ending) -> Headers:
        """Those of the backend's answer, where that is what the call ended with."""
        return () if self.answer is None or ending.status is not None else self.answer.headers

    def _event(self, ending: Ending, billing: Billing) -> UsageEvent:
        """The usage event. An error that was relayed whole is `refused`."""
        answer, backend, reading = self.answer, billing.backend, ending.reading
        answered = 0 if answer is None else answer.status
        status = answered if ending.status is None else ending.status
        is_refused = ending.outcome is Outcome.SERVED and status >= 400
        return UsageEvent(
            id=self.event_id,
            source=self.source,
            time=self.clock.now(),
            principal=self.principal,
            operation=self.route.operation,
            deployment=self.deployment,
            model=billing.model(reading),
            api_version=self.route.api_version,
            backend=backend.name if backend else None,
            region=billing.region,
            deployment_type=billing.deployment_type,
            tier=billing.tier(reading.service_tier),
            service_tier=reading.service_tier,
            context=billing.context(ending.usage),
            spilled_from=self._spilled_from(ending, billing),
            outcome=Outcome.REFUSED if is_refused else ending.outcome,
            status=status,
            streaming=self.is_streaming,
            usage=ending.usage,
            tool_usage=billing.tools(reading),
            usage_source=ending.usage_source,
            usage_raw=reading.usage_raw,
            attempts=tuple(self.attempts.made),
            started_at=self.started_at,
            duration_ms=self._elapsed_ms(self.clock.monotonic()),
            time_to_first_byte_ms=None if answer is None else self._elapsed_ms(answer.begun_at),
            client_retry_count=retry_count(self.named),
            traceparent=header(self.headers, TRACEPARENT),
        )

    def _spilled_from(self, ending: Ending, billing: Billing) -> str | None:
        """What it spilled over from: Azure's provisioned deployment, or our provisioned backend.

        Operations on stored responses go where these are stored.
        """
        if not self.route.served.is_charged:
            return None
        native = _native_spillover(self._headers_at(ending)) if billing.is_spilled else None
        used = billing.backend
        if native is not None or used is None or not self.attempts.may_spill:
            return native
        preferred = self.candidates.preferred_to(used, self.deployment)
        if preferred is None or billing.own_tier is not Tier.STANDARD:
            return None
        return preferred.name

    def _elapsed_ms(self, until: float) -> int:
        return round((until - self.started) * 1000)


def way_of(
    route: Route,
    body: Payload,
    headers: Headers,
    principal: Principal,
    forwarder: Forwarder,
    owners: Owners,
) -> Way:
    """Where a call goes. Raises BadRequest or NotServed."""
    reasoning = reasoning_of(route, body)
    owner = owners.of(response_id_of(route, body)) or owners.maker(reasoning)
    deployment, pool = deployment_of(route, body, owner), forwarder.pool
    is_by_id = route.served.is_by_id
    candidates = Candidates(
        backends=pool.backends
        if is_by_id
        else drawing_too(pool.serving(deployment), route, headers),
        load_key=f"/{route.operation}" if is_by_id else deployment,  # no deployment begins with /
        demand=demand_of(body, principal.subject),
        owner=owner.backend if owner else None,
    )
    return Way(deployment=deployment, candidates=candidates, reasoning=reasoning)


def _native_spillover(headers: Headers) -> str | None:
    named = header(headers, "x-ms-spillover-from-deployment")
    return named if is_deployment_name(named) else None
