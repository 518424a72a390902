"""Counts each background response once, whichever answer first shows that it is over.

A background response outlives its stream: Azure OpenAI works on when the stream is cut, and shows
the usage to every later reader. So the usage has an event of its own. Its id and time follow from
the response's id and creation alone: the ledger drops repeats, also those of other instances.

| the call                                   | its own event         | the response's event       |
|--------------------------------------------|-----------------------|----------------------------|
| makes it; its stream shows the final usage | 0 tokens, `reported`  | published                  |
| makes it; its stream ends before that      | 0 tokens, `missing`   | left to a later read       |
| reads or cancels it; shows the final usage | 0 tokens, `reported`  | published, unless this     |
|                                            |                       | instance has done so       |
"""

import asyncio
from dataclasses import replace
from hashlib import sha256

from meter.gateway.answer.usage import BackgroundResponse, Reading
from meter.gateway.backend import Backend
from meter.gateway.balance.affinity import UNKNOWN_DEPLOYMENT, Owners
from meter.gateway.detached import start_now
from meter.gateway.request.route import is_deployment_name
from meter.ports import UsageSink
from meter.usage import NO_USAGE, Outcome, UsageEvent, UsageSource, new_event_id

RESPONSES = "responses"


def events_of(
    event: UsageEvent,
    reading: Reading,
    owners: Owners,
    *,
    is_charged: bool,
    backend: Backend | None,
) -> tuple[UsageEvent, ...]:
    """The events of a call: its own, and before it that of the background response it shows."""
    response = reading.background
    if response is None:
        return (event,)
    usage, public_name = reading.usage, _public_name(backend, reading.model)
    is_known = response.is_over and usage is not None
    if is_charged:
        source = UsageSource.REPORTED if is_known else UsageSource.MISSING
        event = replace(event, usage=NO_USAGE, usage_source=source, usage_raw=None)
    if not is_known or usage in {None, NO_USAGE} or owners.has_counted(response.id):
        return (event,)
    return _response_event(event, reading, response, owners, public_name), event


async def publish_all(sink: UsageSink, events: tuple[UsageEvent, ...]) -> None:
    """Publish the events together. Cancelling the wait for several cancels none of them."""
    if len(events) == 1:
        await sink.publish(events[0])
        return
    await asyncio.gather(*[start_now(sink.publish(event)) for event in events])


def _public_name(backend: Backend | None, model: str | None) -> str | None:
    """The deployment that a response's `model` means: Azure writes its own name for it there."""
    if backend is None:
        return None
    names = [name for name in backend.deployments if backend.own_name(name) == model]
    return min(names, default=model if is_deployment_name(model) else None)


def _response_event(
    event: UsageEvent,
    reading: Reading,
    response: BackgroundResponse,
    owners: Owners,
    public_name: str | None,
) -> UsageEvent:
    """The response's event: it is charged to the subject that made it, if remembered."""
    owner = owners.of(response.id)
    known = [event.deployment] if owner is None else [owner.deployment, event.deployment]
    deployment = next((name for name in known if name != UNKNOWN_DEPLOYMENT), public_name)
    digest = sha256(f"background response {response.id}".encode()).digest()
    return replace(
        event,
        id=new_event_id(response.created_at, digest),
        time=response.created_at,
        started_at=response.created_at,
        principal=event.principal if owner is None else owner.maker or event.principal,
        operation=RESPONSES,
        deployment=deployment or UNKNOWN_DEPLOYMENT,
        model=reading.model,
        outcome=Outcome.FAILED if response.has_failed else Outcome.SERVED,
        status=200,
        usage=reading.usage or NO_USAGE,
        usage_source=UsageSource.REPORTED,
        usage_raw=reading.usage_raw,
        attempts=(),
        duration_ms=0,
        time_to_first_byte_ms=None,
        client_retry_count=0,
    )
