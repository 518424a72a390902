"""Reads a request as far as its call needs: body, deployment, stored response; rewrites the body."""

import json
from collections.abc import AsyncIterator, Callable, Sequence

from msgspec import Struct

from meter.errors import BadRequest, CallerError, ErrorKind, NotServed
from meter.gateway.answer.estimate import PromptPart
from meter.gateway.backend import Backend
from meter.gateway.balance.affinity import UNKNOWN_DEPLOYMENT, Owner
from meter.gateway.balance.demand import Demand
from meter.gateway.balance.reasoning import reasoning_items
from meter.gateway.headers import IMAGE_DEPLOYMENT
from meter.gateway.http import quoted, unknown_deployment
from meter.gateway.limits.intake import Intake
from meter.gateway.request.body import SHORT_BYTES, json_at_once, read_json, with_usage_asked
from meter.gateway.request.body import JsonBody as JsonBody
from meter.gateway.request.form import FormBody, is_form
from meter.gateway.request.operations import Body, Operation
from meter.gateway.request.prompt import texts_of
from meter.gateway.request.route import Route as Route
from meter.gateway.request.route import is_deployment_name as is_deployment_name
from meter.ports import Headers

type Payload = JsonBody | FormBody | None

BYTES_PER_TOKEN = 4

_UNMETERED_BACKGROUND = (
    "A background response is metered through its stream: send `stream: true` with "
    "`background: true`, or leave `background` out."
)


class OutgoingBody(Struct, frozen=True, kw_only=True):
    """A request body for one backend; `length` where the bytes do not show it."""

    content: bytes | tuple[bytes | memoryview, ...] | Callable[[], AsyncIterator[bytes]]
    length: int | None = None


async def read_body(route: Route, intake: Intake) -> Payload:
    """Read JSON whole, and a form until its deployment is known.

    None where the operation takes no body. Raises BadRequest, TooLarge or Overloaded.
    """
    if route.served.body is Body.NONE:
        return None
    if route.served.body is Body.FORM and is_form(intake.request.named.get("content-type")):
        return await _read_form(route, intake)
    raw = await intake.json().read()
    body = json_at_once(raw)
    if body is None:
        body = await intake.turns.run(read_json(raw))
    body.on_drop = intake.holds.body.give_back
    if route.operation is Operation.RESPONSES:
        _check_background(body)
    return body


def _check_background(body: JsonBody) -> None:
    if not (body.background is None or isinstance(body.background, bool)):
        raise BadRequest("The request body's `background` must be true or false.")
    if body.background and not body.is_streaming:
        raise BadRequest(_UNMETERED_BACKGROUND, code="background_not_metered")


async def _read_form(route: Route, intake: Intake) -> FormBody:
    kinds = [value for name, value in intake.request.headers if name == "content-type"]
    if len(kinds) > 1:
        raise BadRequest("A form must have one Content-Type.")  # its boundary would be ambiguous
    source = intake.form()
    form = FormBody(
        source=source,
        spool=intake.new_spool(),
        declared_bytes=source.declared_bytes,
        turns=intake.turns,
    )
    intake.holds.close_form = form.close
    if route.deployment is None:
        await form.read_model(kinds[0])
    else:
        await form.begin()
    return form


def asks_for_events(body: Payload) -> bool:
    """Whether a body asks for an event stream, as far as it is known."""
    if isinstance(body, JsonBody):
        return body.is_streaming
    return body is not None and body.asks_for_stream


def error_of(body: Payload) -> CallerError | None:
    """Why the caller's body could not be sent on, if so."""
    return body.error if isinstance(body, FormBody) else None


def response_id_of(route: Route, body: Payload) -> str | None:
    """The id of the stored response that a request is about, or that it follows."""
    if isinstance(body, JsonBody) and route.served.may_follow_a_response:
        return body.previous_response_id
    return route.stored_id


def reasoning_of(route: Route, body: Payload) -> tuple[str, ...]:
    """The digests of the reasoning items that a request carries."""
    if isinstance(body, JsonBody) and route.served.has_reasoning:
        return reasoning_items(body.raw)
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


def image_deployment_of(headers: Headers) -> str | None:
    """The public name of the deployment that draws for the image tool of Responses, if any is named.

    Azure reads it from a header. Raises BadRequest for more than one, and NotServed for no name.
    """
    named = {value for name, value in headers if name == IMAGE_DEPLOYMENT}
    if len(named) > 1:
        raise BadRequest(f"The header {IMAGE_DEPLOYMENT} must name one deployment.")
    for name in named:
        if not is_deployment_name(name):
            raise unknown_deployment(name)
        return name
    return None


def drawing_too(backends: Sequence[Backend], name: str | None) -> Sequence[Backend]:
    """Those of the backends that serve the image tool's deployment as well. Raises NotServed."""
    if name is None:
        return backends
    found = [backend for backend in backends if backend.serves(name)]
    if not found:
        raise NotServed(
            f"No backend of the deployment in `model` has the API deployment {quoted(name)} that "
            f"{IMAGE_DEPLOYMENT} names. GET /openai/v1/models lists deployments.",
            code="DeploymentNotFound",
            kind=ErrorKind.DEPLOYMENT,
        )
    return found


def outgoing_body(
    body: Payload,
    deployment: str,
    own_name: str,
    *,
    asks_for_usage: bool,
    sets_model: bool = False,
) -> OutgoingBody:
    """The body as one backend takes it: with its own name for the deployment, and the usage option.

    `sets_model`: JSON names that deployment whatever it named before.
    """
    if body is None:
        return OutgoingBody(content=b"")
    if isinstance(body, FormBody):
        model = own_name if body.model == deployment != own_name else None
        return OutgoingBody(content=lambda: body.parts(model), length=body.length(model))
    named, model = body.model, None
    if named == deployment or sets_model:
        model = None if own_name == named else own_name
    if model is None and not asks_for_usage and len(body.raw) <= SHORT_BYTES:
        return OutgoingBody(content=body.raw)  # as it came
    return _outgoing_json(body, model, asks_for_usage=asks_for_usage)


def demand_of(body: Payload, caller: str) -> Demand:
    """What a call asks of its backend, from what is known of its body without reading the prompt."""
    if isinstance(body, JsonBody):
        return Demand(body.size // BYTES_PER_TOKEN + body.output_tokens, caller)
    if body is None:
        return Demand(caller=caller)
    return Demand((body.declared_bytes or 0) // BYTES_PER_TOKEN, caller)


def prompt_of(body: Payload) -> Sequence[PromptPart]:
    """The prompt's texts, for estimates. Of a long body it takes a while: call it in a thread."""
    return texts_of(body) if isinstance(body, JsonBody) else ()


def _outgoing_json(body: JsonBody, model: str | None, *, asks_for_usage: bool) -> OutgoingBody:
    members: dict[str, str] = {} if model is None else {"model": json.dumps(model)}
    if asks_for_usage:
        members |= with_usage_asked(body)
    parts = body.spliced(members) if members else [body.raw]
    length = sum(map(len, parts))
    if length <= SHORT_BYTES:
        return OutgoingBody(content=b"".join(parts))
    return OutgoingBody(content=tuple(parts), length=length)
