"""Counts each background response once, whichever answer first shows that it is over.

A background response outlives its stream: Azure OpenAI works on when the stream is cut, and shows
the usage to every later reader. So the usage has an event of its own. Its id and time follow from
the response's id and creation alone: the ledger drops repeats, also those of other instances.

| the call                                   | its own event         | the response's event       |
|--------------------------------------------|-----------------------|----------------------------|
| makes it; its stream shows the final usage | 0 tokens, `reported`  | published                  |
| makes it; its stream ends before that      | 0 tokens, `missing`   | left to a later read or    |
|                                            |                       | the follow-up              |
| reads or cancels it; shows the final usage | 0 tokens, `reported`  | published, unless this     |
|                                            |                       | instance has done so       |

The instance that made it follows it up (`follow_ups.py`), so that nobody needs to read it.
"""

import asyncio
from copy import replace
from dataclasses import dataclass, field
from hashlib import sha256
from urllib.parse import urlencode

from meter.errors import CallerError
from meter.gateway.answer.usage import BackgroundResponse, Reading
from meter.gateway.backend import Backend
from meter.gateway.balance.affinity import UNKNOWN_DEPLOYMENT, Owners
from meter.gateway.balance.forward import Forwarder
from meter.gateway.billing import Billing
from meter.gateway.detached import start_now
from meter.gateway.follow_ups import FollowUp, FollowUps
from meter.gateway.request.body import JsonBody
from meter.gateway.request.operations import Operation
from meter.gateway.request.prepare import Payload
from meter.gateway.request.route import Route, is_deployment_name, parse_route
from meter.gateway.request.spelling import Address
from meter.ports import Dice, UsageSink
from meter.usage import NO_USAGE, Context, Outcome, UsageEvent, UsageSource, new_event_id


@dataclass(slots=True)
class Background:
    """The background responses of one instance, and who made which response."""

    forwarder: Forwarder
    sink: UsageSink
    dice: Dice
    share_percent: int
    owners: Owners = field(default_factory=Owners)
    follow_ups: FollowUps = field(init=False)

    def __post_init__(self) -> None:
        self.follow_ups = FollowUps(self.forwarder, self.dice, self.share_percent, self._settle)

    def check_room(self, subject: str, route: Route, body: Payload) -> None:
        """Raise Overloaded for a call that makes a response which could not be followed up."""
        if route.operation is not Operation.RESPONSES:
            return
        if isinstance(body, JsonBody) and body.background is True:
            self.follow_ups.check_room(subject)

    async def prepare(self, route: Route) -> None:
        """Before a response is deleted, look whether it shows its usage."""
        if route.operation is Operation.RESPONSES_DELETE and route.stored_id is not None:
            await self.follow_ups.ask_now(route.stored_id)

    def events_of(
        self, event: UsageEvent, reading: Reading, route: Route, billing: Billing
    ) -> tuple[UsageEvent, ...]:
        """The events of a call: its own, and before it that of the background response it shows.

        The one that makes a response whose usage is not shown begins its follow-up.
        """
        response, is_charged = reading.background, route.served.is_charged
        if response is None:
            return (event,)
        usage, own = reading.usage, replace(event, tool_usage=())
        is_known = response.is_over and usage is not None
        if is_charged:
            source = UsageSource.REPORTED if is_known else UsageSource.MISSING
            own = replace(
                own, usage=NO_USAGE, usage_source=source, usage_raw=None, context=Context.SHORT
            )
        if is_known and usage != NO_USAGE:
            self.follow_ups.stop(response.id)
            if self.owners.has_counted(response.id):
                return (own,)
            return self._response_event(event, response, billing, reading), own
        path = _path(route, response.id) if route.operation is Operation.RESPONSES else None
        if billing.backend is not None and path is not None:
            self.follow_ups.start(
                FollowUp(
                    response=response,
                    event=event,
                    backend=billing.backend,
                    billing=billing,
                    path=path,
                )
            )
        return (own,)

    async def _settle(self, follow_up: FollowUp, reading: Reading) -> None:
        """Count a response by what was read, or by the estimate where that has no usage."""
        event, usage = follow_up.event, reading.usage
        response = reading.background or follow_up.response
        if (event.usage if usage is None else usage) == NO_USAGE:
            return
        if self.owners.has_counted(response.id):
            return
        read = None if usage is None else reading
        await self.sink.publish(self._response_event(event, response, follow_up.billing, read))

    def _response_event(
        self,
        event: UsageEvent,
        response: BackgroundResponse,
        billing: Billing,
        reading: Reading | None,
    ) -> UsageEvent:
        """The response's event, with the usage that was read, else that of `event`: it is charged to
        the subject that made it, if remembered."""
        owner = self.owners.of(response.id)
        known = [event.deployment] if owner is None else [owner.deployment, event.deployment]
        deployment = next((name for name in known if name != UNKNOWN_DEPLOYMENT), None)
        if deployment is None:
            model = event.model if reading is None else reading.model
            deployment = _public_name(billing.backend, model) or UNKNOWN_DEPLOYMENT
        if reading is not None:
            billing = replace(billing, deployment=deployment)
            event = billing.applied(event, reading, reading.usage or NO_USAGE)
            event = replace(event, usage_source=UsageSource.REPORTED)
        digest = sha256(f"background response {response.id}".encode()).digest()
        return replace(
            event,
            id=new_event_id(response.created_at, digest),
            time=response.created_at,
            started_at=response.created_at,
            principal=event.principal if owner is None else owner.maker or event.principal,
            operation=Operation.RESPONSES,
            deployment=deployment,
            outcome=Outcome.FAILED if response.has_failed else Outcome.SERVED,
            status=200,
            attempts=(),
            duration_ms=0,
            time_to_first_byte_ms=None,
            client_retry_count=0,
        )


async def publish_together(sink: UsageSink, events: tuple[UsageEvent, ...]) -> None:
    """Publish several events at once. Cancelling the wait cancels none of them."""
    await asyncio.gather(*[start_now(sink.publish(event)) for event in events])


def _public_name(backend: Backend | None, model: str | None) -> str | None:
    """The deployment that a response's `model` means: Azure writes its own name for it there."""
    if backend is None:
        return None
    names = [name for name in backend.deployments if backend.own_name(name) == model]
    return min(names, default=model if is_deployment_name(model) else None)


def _path(route: Route, response_id: str) -> str | None:
    """Where the response is read, in the manner of the address that made it."""
    version = {} if route.api_version is None else {"api-version": route.api_version}
    address = f"/openai/{'v1/' if route.v1 else ''}responses/{response_id}"
    try:
        asked = Address(asked=address, path=address, query=urlencode(version))
        return parse_route("GET", asked).upstream_path("")
    except CallerError:
        return None  # an id that no caller could read either
