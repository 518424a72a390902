"""Reads a request as far as its call needs: body, deployment, stored response; rewrites the body."""

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from meter.errors import BadRequest
from meter.gateway.answer.estimate import PromptPart, prompt_texts
from meter.gateway.backend import Backend
from meter.gateway.balance.affinity import UNKNOWN_DEPLOYMENT, Owner
from meter.gateway.balance.demand import Demand
from meter.gateway.balance.reasoning import reasoning_items
from meter.gateway.headers import header
from meter.gateway.http import Request, unknown_deployment
from meter.gateway.request.body import JsonBody, parse_body, spliced, with_usage_asked
from meter.gateway.request.form import FormBody, is_form
from meter.gateway.request.operations import Body, Operation
from meter.gateway.request.route import Route, is_deployment_name
from meter.ports import Spool

type Payload = JsonBody | FormBody | None

BYTES_PER_TOKEN = 4

_UNMETERED_BACKGROUND = (
    "A background response is metered through its stream: send `stream: true` with "
    "`background: true`, or leave `background` out."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutgoingBody:
    """A request body for one backend; `length` where the bytes do not show it."""

    content: bytes | Callable[[], AsyncIterator[bytes]]
    length: int | None = None


async def read_body(
    request: Request, route: Route, new_spool: Callable[[], Spool], holds: ExitStack
) -> Payload:
    """Read JSON whole, and a form until its deployment is known. Raises BadRequest or TooLarge.

    None where the operation takes no body. `holds` closes a form, and with it its spool.
    """
    if route.served.body is Body.NONE:
        return None
    if route.served.body is Body.FORM and is_form(header(request.headers, "content-type")):
        return await _read_form(request, route, new_spool, holds)
    body = parse_body(await request.body.read())
    is_response = route.operation is Operation.RESPONSES
    if is_response and body.is_background and not body.is_streaming:
        raise BadRequest(_UNMETERED_BACKGROUND, code="background_not_metered")
    return body


async def _read_form(
    request: Request, route: Route, new_spool: Callable[[], Spool], holds: ExitStack
) -> FormBody:
    kinds = [value for name, value in request.headers if name == "content-type"]
    if len(kinds) > 1:
        raise BadRequest("A form must have one Content-Type.")  # its boundary would be ambiguous
    length = header(request.headers, "content-length") or ""
    form = FormBody(
        source=request.body,
        spool=new_spool(),
        declared_bytes=int(length) if length.isascii() and length.isdigit() else None,
    )
    holds.callback(form.close)
    if route.deployment is None:
        await form.read_model(kinds[0])
    else:
        await form.begin()
    return form


def response_id_of(route: Route, body: Payload) -> str | None:
    """The id of the stored response that a request is about, or that it follows."""
    if isinstance(body, JsonBody) and route.served.may_follow_a_response:
        return body.previous_response_id
    return route.stored_id


def reasoning_of(route: Route, body: Payload) -> tuple[str, ...]:
    """The digests of the reasoning items that a request carries."""
    if isinstance(body, JsonBody) and route.served.has_reasoning:
        return reasoning_items(body.text.encode())
    return ()


def deployment_of(route: Route, body: Payload, owner: Owner | None) -> str:
    """The public deployment name that usage is counted under. Raises BadRequest or NotServed."""
    if route.deployment is not None:
        return route.deployment
    if body is None:
        return UNKNOWN_DEPLOYMENT if owner is None else owner.deployment
    if body.model is None:
        raise BadRequest("The request body must name a deployment in `model`.")
    if not is_deployment_name(body.model):
        raise unknown_deployment(body.model)
    return str(body.model)


def outgoing_body(
    body: Payload, deployment: str, backend: Backend, *, asks_for_usage: bool
) -> OutgoingBody:
    """The body as one backend takes it: with its own deployment name, and the usage option."""
    match body:
        case JsonBody():
            return _outgoing_json(body, deployment, backend, asks_for_usage=asks_for_usage)
        case FormBody():
            own_name = backend.own_name(deployment)
            model = own_name if body.model == deployment != own_name else None
            return OutgoingBody(content=lambda: body.parts(model), length=body.length(model))
        case None:
            return OutgoingBody(content=b"")


def demand_of(body: Payload, caller: str) -> Demand:
    """What a call asks of its backend, from what is known of its body without reading the prompt."""
    match body:
        case JsonBody():
            return Demand(len(body.text) // BYTES_PER_TOKEN + body.output_tokens, caller)
        case FormBody():
            return Demand((body.declared_bytes or 0) // BYTES_PER_TOKEN, caller)
        case None:
            return Demand(caller=caller)


def prompt_of(body: Payload) -> Sequence[PromptPart]:
    """The prompt's texts, for estimates."""
    return prompt_texts(json.loads(body.text)) if isinstance(body, JsonBody) else ()


def _outgoing_json(
    body: JsonBody, deployment: str, backend: Backend, *, asks_for_usage: bool
) -> OutgoingBody:
    members: dict[str, str] = {}
    own_name = backend.own_name(deployment)
    if isinstance(body.model, str) and body.model == deployment != own_name:
        members["model"] = json.dumps(own_name)
    if asks_for_usage:
        members |= with_usage_asked(body)
    return OutgoingBody(content=spliced(body.text, members) if members else body.text.encode())
