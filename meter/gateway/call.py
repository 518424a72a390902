"""One call, from its request to its single end, which makes the usage event."""

from collections.abc import Mapping
from copy import replace
from uuid import UUID

from msgspec import Struct, field

from meter.errors import CallerError
from meter.gateway.answer.begin import StreamedAnswer, WholeAnswer
from meter.gateway.answer.relay import Ending
from meter.gateway.backend import Backend
from meter.gateway.background import Background, publish_together
from meter.gateway.balance.affinity import Owner
from meter.gateway.balance.forward import Attempts, Candidates, Forwarder
from meter.gateway.balance.reasoning import reasoning_items, refuses_reasoning
from meter.gateway.billing import Asked, Billing, charged
from meter.gateway.headers import (
    IMAGE_DEPLOYMENT,
    TRACEPARENT,
    by_name,
    retry_count,
    traced,
    upstream_headers,
)
from meter.gateway.http import Arrival
from meter.gateway.limits.holds import Holds
from meter.gateway.request.prepare import (
    JsonBody,
    Payload,
    Route,
    asks_for_events,
    demand_of,
    deployment_of,
    drawing_too,
    error_of,
    image_deployment_of,
    is_deployment_name,
    outgoing_body,
    reasoning_of,
    response_id_of,
)
from meter.ports import Clock, Headers, Telemetry, Trace, UpstreamRequest, UsageSink
from meter.usage import Outcome, Tier, UsageEvent, UsageSource

MAX_CHOICES = 128  # of one chat; for more a backend does not answer


class Instance(Struct, kw_only=True):
    """What the calls of one instance share. `source` names it in their events, which `sink` takes."""

    source: str
    long_context_tokens: int
    forwarder: Forwarder
    background: Background
    sink: UsageSink
    clock: Clock
    telemetry: Telemetry


class Call(Struct, kw_only=True, eq=False):
    """A verified and routed call. `end` ends it exactly once, however it ends.

    `deployment` is the public name that usage is counted under, `reasoning` are the digests of the reasoning
    items that it sends, and `image_deployment` is the public name of the deployment that draws for its image
    tool, if it names one. `trace` has the caller's headers, with its trace as it goes on. `answer` is the
    backend's once it has begun. `holds` is given back at its end, or once its answer is sent where
    `is_held_until_sent`. `is_kept_alive`: its answer can begin before a backend has answered
    (`answer/late.py`). `asked` is what it asks for, where that may be charged.
    """

    arrival: Arrival
    route: Route
    deployment: str
    body: Payload
    candidates: Candidates
    reasoning: tuple[str, ...]
    image_deployment: str | None
    instance: Instance
    holds: Holds
    is_held_until_sent: bool = False
    attempts: Attempts = field(default_factory=Attempts)
    asked: Asked | None = None
    trace: Trace = Trace(())
    is_kept_alive: bool = False
    answer: WholeAnswer | StreamedAnswer | None = None
    _is_ended: bool = False

    def __post_init__(self) -> None:
        arrival, served, body = self.arrival, self.route.served, self.body
        self.is_kept_alive = isinstance(body, JsonBody) and body.is_streaming
        self.trace = self.instance.telemetry.begin(
            traced(arrival.request.headers, arrival.request.named),
            started_at=arrival.came_at,
            operation=served.operation,
            deployment=self.deployment,
        )

    @property
    def event_id(self) -> UUID:
        """The id of its event."""
        return self.arrival.event_id

    @property
    def is_streaming(self) -> bool:
        """Whether the caller asked for an event stream, or the answer is one."""
        answer = self.answer
        if self.is_kept_alive or answer is None:
            return self.is_kept_alive
        return answer.is_events if isinstance(answer, StreamedAnswer) else answer.stream is not None

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
        if not self.is_kept_alive or not self.route.served.takes_stream_options:
            return False
        return isinstance(body, JsonBody) and not body.asks_for_usage

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

    def request_for(
        self, backend: Backend, credentials: Headers, *, asks_for_usage: bool
    ) -> UpstreamRequest:
        """The request to send to a backend, with the usage option where it is asked for."""
        route, name = self.route, self.deployment
        own_name = backend.own_name(name)
        body = outgoing_body(
            self.body, name, own_name, asks_for_usage=asks_for_usage, sets_model=route.sets_model
        )
        headers = upstream_headers(self.trace.headers, self.arrival.principal.subject, credentials)
        if self.image_deployment is not None:
            # By the backend's own name; what came is not passed on.
            headers = (*headers, (IMAGE_DEPLOYMENT, backend.own_name(self.image_deployment)))
        if body.length is not None:
            headers = (*headers, ("content-length", str(body.length)))
        return UpstreamRequest(
            backend=backend.name,
            method=route.served.method,
            url=backend.url + route.upstream_path(own_name),
            headers=headers,
            body=body.content,
        )

    def settle_body(self, answer: WholeAnswer | StreamedAnswer) -> None:
        """Give up a JSON body that nobody will need again: no backend, and no estimate but a stream's."""
        is_needed = isinstance(answer, StreamedAnswer) and answer.is_events
        if isinstance(self.body, JsonBody) and not is_needed:
            self.body.drop()

    def is_elsewhere(self, answer: WholeAnswer) -> bool:
        """Whether the answer says that this backend does not have what the call refers to."""
        if answer.status not in {400, 404}:
            return False
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
        if (stream := answer.stream) is not None:
            return Ending(
                outcome=Outcome.SERVED,
                reading=stream.reading,
                usage=stream.usage,
                usage_source=UsageSource.REPORTED,
            )
        served = self.route.served
        reading = answer.read_at_once(may_be_text=served.answers_in_text)
        if reading is None:
            reading = await answer.read_in_thread()
        is_error = answer.status < 400 and answer.error is not None
        # A read shows a response as it is stored, also a failed one.
        has_failed = is_error or (reading.has_failed and served.is_charged)
        ending = Ending.of_whole(reading, has_failed=has_failed)
        return charged(ending, served, self.asked) if served.is_charged else ending

    def reasoning_in(self, answer: WholeAnswer | StreamedAnswer) -> tuple[str, ...]:
        """The reasoning items that the answer's backend can read: those sent, and those it made."""
        if isinstance(answer, WholeAnswer) and self.route.served.has_reasoning:
            return (*self.reasoning, *reasoning_items(answer.body))
        return self.reasoning

    def learn(self, answer: WholeAnswer | StreamedAnswer) -> WholeAnswer | StreamedAnswer:
        """Remember which backend stores the response, and made the reasoning, of this answer.

        Of the answer that is returned, reasoning is learned as it passes.
        """
        owners, served = self.instance.background.owners, self.route.served
        if answer.status >= 400 or not served.is_about_responses:
            return answer
        maker = self.arrival.principal if served.is_charged else None
        owner = Owner(answer.backend.name, self.deployment, maker)
        owners.learn(self.response_id(answer), owner)
        owners.learn_made(self.reasoning_in(answer), owner)
        if served.has_reasoning and isinstance(answer, StreamedAnswer):
            owner = Owner(answer.backend.name, self.deployment)
            return replace(answer, chunks=owners.learn_from(answer.chunks, owner))
        return answer

    async def end(self, ending: Ending) -> None:
        """Make the call's usage events, give back what the call holds, and publish them.

        Only the first ending counts. A call that reached no backend makes no event.
        """
        if self._is_ended:
            return
        self._is_ended = True
        try:
            events = self._events(ending) if self.attempts.made else ()
        finally:
            if not self.is_held_until_sent:
                self.holds.close()
        if not events:
            return
        instance = self.instance
        instance.telemetry.ended(self.trace, events)
        if len(events) == 1:
            await instance.sink.publish(events[0])
        else:
            await publish_together(instance.sink, events)

    def _events(self, ending: Ending) -> tuple[UsageEvent, ...]:
        """The call's event, and that of the background response that it shows, if any."""
        # A status of its own: the call did not end with the backend's answer.
        answer = self.answer if ending.status is None else None
        billing = Billing(
            backend=self.attempts.last_backend,
            deployment=self.deployment,
            image_deployment=self.image_deployment,
            spilled_from=None if answer is None else _native_spillover(answer.named),
            long_context_tokens=self.instance.long_context_tokens,
        )
        event = self._event(charged(ending, self.route.served, self.asked), billing)
        return self.instance.background.events_of(event, ending.reading, self.route, billing)

    def _event(self, ending: Ending, billing: Billing) -> UsageEvent:
        """The usage event. An error that was relayed whole is `refused`."""
        answer, backend, route = self.answer, billing.backend, self.route
        arrival, instance, came = self.arrival, self.instance, self.arrival.came
        answered = 0 if answer is None else answer.status
        status = answered if ending.status is None else ending.status
        is_refused = ending.outcome is Outcome.SERVED and status >= 400
        return UsageEvent(
            id=arrival.event_id,
            source=instance.source,
            time=instance.clock.now(),
            principal=arrival.principal,
            operation=route.operation,
            api_version=route.api_version,
            backend=backend.name if backend else None,
            spilled_from=self._spilled_from(billing),
            # In the middle: of more than 15 keywords in a row, CPython adds each by an instruction.
            **billing.billed(ending.reading, ending.usage),
            outcome=Outcome.REFUSED if is_refused else ending.outcome,
            status=status,
            streaming=self.is_streaming,
            usage_source=ending.usage_source,
            attempts=tuple(self.attempts.made),
            started_at=arrival.came_at,
            duration_ms=round((instance.clock.monotonic() - came) * 1000),
            time_to_first_byte_ms=None
            if answer is None
            else round((answer.begun_at - came) * 1000),
            client_retry_count=retry_count(arrival.request.named),
            traceparent=by_name(self.trace.headers).get(TRACEPARENT),
        )

    def _spilled_from(self, billing: Billing) -> str | None:
        """What it spilled over from: Azure's provisioned deployment, or our provisioned backend.

        Operations on stored responses go where these are stored.
        """
        used = billing.backend
        if not self.route.served.is_charged:
            return None
        if billing.spilled_from is not None or used is None or not self.attempts.may_spill:
            return billing.spilled_from
        preferred = self.candidates.preferred_to(used, self.deployment)
        if preferred is None or billing.terms.tier is not Tier.STANDARD:
            return None
        return preferred.name


def begin_call(
    arrival: Arrival, route: Route, body: Payload, holds: Holds, instance: Instance
) -> Call:
    """The call of a request that was let in. Raises BadRequest, NotServed or Overloaded."""
    served, subject, background = route.served, arrival.principal.subject, instance.background
    reasoning: tuple[str, ...] = ()
    owner: Owner | None = None
    if served.is_about_responses:
        background.check_room(subject, route, body)
        owners, reasoning = background.owners, reasoning_of(route, body)
        owner = owners.of(response_id_of(route, body)) or owners.maker(reasoning)
    deployment, image_deployment = deployment_of(route, body, owner), None
    pool = instance.forwarder.pool
    if served.is_by_id:
        backends, load_key = pool.backends, f"/{served.operation}"  # no deployment begins with /
    else:
        backends, load_key = pool.serving(deployment), deployment
        if served.makes_responses:
            image_deployment = image_deployment_of(arrival.request.headers)
            backends = drawing_too(backends, image_deployment)
    return Call(
        arrival=arrival,
        route=route,
        deployment=deployment,
        body=body,
        candidates=Candidates(
            backends=backends,
            load_key=load_key,
            demand=demand_of(body, subject),
            owner=owner.backend if owner else None,
        ),
        reasoning=reasoning,
        image_deployment=image_deployment,
        instance=instance,
        holds=holds,
    )


def _native_spillover(headers: Mapping[str, str]) -> str | None:
    named = headers.get("x-ms-spillover-from-deployment")
    return named if named is not None and is_deployment_name(named) else None
