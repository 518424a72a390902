"""Turns a routed request into what is sent to a backend: its address and its body, made its own."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from meter.errors import BadRequest, NotServed
from meter.gateway.answer.estimate import prompt_texts
from meter.gateway.backend import Backend
from meter.gateway.balance.affinity import UNKNOWN_DEPLOYMENT, Owner, Owners
from meter.gateway.balance.forward import Call, OutgoingBody
from meter.gateway.balance.pool import Pool
from meter.gateway.headers import header
from meter.gateway.http import Request
from meter.gateway.request.body import JsonBody, parse_body, spliced, with_usage_asked
from meter.gateway.request.form import FormBody, is_form
from meter.gateway.request.operations import Body, Operation
from meter.gateway.request.route import Route, is_deployment_name
from meter.ports import Spool

_UNMETERED_BACKGROUND = (
    "A background response is metered through its stream: send `stream: true` with "
    "`background: true`, or leave `background` out."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A request that has been read as far as it must be: its deployment and its body.

    `deployment` is the public name that usage is counted under. `body` is None where there is none.
    """

    route: Route
    deployment: str
    body: JsonBody | FormBody | None
    owner: Owner | None

    @property
    def is_streaming(self) -> bool:
        """Whether the caller asked for an event stream, as far as is known before the answer."""
        return isinstance(self.body, JsonBody) and self.body.is_streaming

    def prompt_texts(self) -> Sequence[str]:
        """The prompt's texts, for estimates."""
        return prompt_texts(json.loads(self.body.text)) if isinstance(self.body, JsonBody) else ()

    def close(self) -> None:
        """Forget what was kept of the body."""
        if isinstance(self.body, FormBody):
            self.body.close()

    def call(self, request: Request, subject: str, pool: Pool) -> Call:
        """What to forward. Raises NotServed when no backend serves the deployment."""
        route = self.route
        if route.served.is_by_id:
            candidates: Sequence[Backend] = pool.backends
            load_key = f"/{route.operation}"  # no deployment has such a name
        else:
            candidates = pool.serving(self.deployment)
            load_key = self.deployment
        body = self.body
        return Call(
            subject=subject,
            method=route.served.method,
            candidates=candidates,
            load_key=load_key,
            headers=request.headers,
            url_path=lambda backend: route.upstream_path(_own_name(backend, self.deployment)),
            body=self._body_for(),
            must_ask_for_usage=isinstance(body, JsonBody)
            and body.is_streaming
            and route.served.takes_stream_options
            and not body.asks_for_usage,
            owner=None if self.owner is None else self.owner.backend,
            is_elsewhere=self._elsewhere_rule(),
            caller_error=lambda: body.error if isinstance(body, FormBody) else None,
        )

    def _body_for(self) -> Callable[[Backend, bool], OutgoingBody]:
        match self.body:
            case JsonBody() as json_body:
                return lambda backend, asks: _json_for(json_body, self.deployment, backend, asks)
            case FormBody() as form:
                return lambda backend, _asks: _form_for(form, self.deployment, backend)
            case None:
                return lambda _backend, _asks: OutgoingBody(content=b"")

    def _elsewhere_rule(self) -> Callable[[int, bytes], bool]:
        if self.route.served.is_by_id:
            return lambda status, _body: status == 404
        if isinstance(self.body, JsonBody) and self.body.previous_response_id is not None:
            return _knows_no_previous
        return lambda _status, _body: False


def _knows_no_previous(status: int, body: bytes) -> bool:
    """Whether a backend refuses a follow-up because it has not stored what it follows."""
    if status == 404:
        return b"DeploymentNotFound" not in body
    return status == 400 and b"previous_response" in body


async def prepare(
    request: Request, route: Route, owners: Owners, spool: Callable[[], Spool]
) -> Prepared:
    """Read the body as far as needed. Raises BadRequest, TooLarge or NotServed."""
    body: JsonBody | FormBody | None = None
    if route.served.body is Body.FORM and is_form(header(request.headers, "content-type")):
        return await _prepare_form(request, route, spool)
    if route.served.body is not Body.NONE:
        body = parse_body(await request.body.read())
    if isinstance(body, JsonBody) and route.operation is Operation.RESPONSES:
        if body.is_background and not body.is_streaming:
            raise BadRequest(_UNMETERED_BACKGROUND, code="background_not_metered")
        owner = owners.of(body.previous_response_id)
    else:
        owner = owners.of(route.stored_id)
    return Prepared(route=route, deployment=_deployment(route, body, owner), body=body, owner=owner)


async def _prepare_form(request: Request, route: Route, spool: Callable[[], Spool]) -> Prepared:
    kinds = [value for name, value in request.headers if name == "content-type"]
    if len(kinds) > 1:
        raise BadRequest("A form must have one Content-Type.")  # which boundary holds is a guess
    length = header(request.headers, "content-length") or ""
    form = FormBody(
        source=request.body,
        spool=spool(),
        declared_bytes=int(length) if length.isascii() and length.isdigit() else None,
    )
    try:
        if route.deployment is None:
            await form.read_model(kinds[0])
        else:
            await form.begin()
        deployment = _deployment(route, form, None)
    except BaseException:
        form.close()
        raise
    return Prepared(route=route, deployment=deployment, body=form, owner=None)


def _deployment(route: Route, body: JsonBody | FormBody | None, owner: Owner | None) -> str:
    if route.deployment is not None:
        return route.deployment
    if body is None:
        return UNKNOWN_DEPLOYMENT if owner is None else owner.deployment
    if body.model is None:
        raise BadRequest("The request body must name a deployment in `model`.")
    if not is_deployment_name(body.model):
        raise NotServed(
            "The API deployment for this resource does not exist.", code="DeploymentNotFound"
        )
    return str(body.model)


def _own_name(backend: Backend, deployment: str) -> str:
    return backend.own_name(deployment) if backend.serves(deployment) else deployment


def _json_for(body: JsonBody, deployment: str, backend: Backend, asks: bool) -> OutgoingBody:
    members: dict[str, str] = {}
    own_name = backend.own_name(deployment)
    if isinstance(body.model, str) and body.model == deployment != own_name:
        members["model"] = json.dumps(own_name)
    if asks:
        members |= with_usage_asked(body)
    return OutgoingBody(content=spliced(body.text, members) if members else body.text.encode())


def _form_for(form: FormBody, deployment: str, backend: Backend) -> OutgoingBody:
    own_name = backend.own_name(deployment)
    model = own_name if form.model == deployment != own_name else None
    return OutgoingBody(content=lambda: form.parts(model), length=form.length(model))
