"""Decides what a request is for: an answer of the gateway's own, or a call for a backend."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from meter.errors import EncodingRefused, UpgradeRefused
from meter.gateway.backend import Backend
from meter.gateway.headers import header
from meter.gateway.http import Answer, Request, quoted
from meter.gateway.own_usage import PATH as OWN_USAGE_PATH
from meter.gateway.own_usage import OwnUsage
from meter.gateway.request.models import answer_models, is_about_models
from meter.gateway.request.operations import Body
from meter.gateway.request.route import Route, Routes
from meter.ports import Headers
from meter.usage import Principal


def check_upgrade(request: Request) -> None:
    """Raise UpgradeRefused for a WebSocket handshake (RFC 6455 section 4.1).

    Before the token is read, at any address: coding agents try WebSocket first, and 426 makes them
    fall back at once, while they retry other statuses. A host between may take `upgrade` out.
    """
    if request.method != "GET":
        return
    asked = (header(request.headers, "upgrade") or "").lower()
    if "websocket" in asked or header(request.headers, "sec-websocket-key") is not None:
        raise UpgradeRefused(
            "WebSocket is not served here. Send the request as a POST; with `stream: true` it is "
            "answered with server-sent events."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatcher:
    """Gives each request of a known caller its answer, or its route to a backend."""

    routes: Routes = field(default_factory=Routes)
    own_usage: OwnUsage | None = None

    async def dispatch(
        self, request: Request, principal: Principal, backends: Iterable[Backend]
    ) -> Answer | Route:
        """The answer about the caller's own usage, else as `dispatch`; also raises UsageUnavailable."""
        if self.own_usage is not None and request.raw_path == OWN_USAGE_PATH:
            return await self.own_usage.answer(request, principal)
        return dispatch(request, self.routes, backends)


def dispatch(request: Request, routes: Routes, backends: Iterable[Backend]) -> Answer | Route:
    """The answer to OPTIONS or about models, else the call's route.

    Raises NotServed, MethodNotAllowed, BadRequest or EncodingRefused.
    """
    if request.method == "OPTIONS":
        allow = ", ".join(routes.methods(request.raw_path, request.query))
        return Answer(status=204, headers=(("allow", allow),), body=b"")
    route = routes.route(request.method, request.raw_path, request.query)
    if route.served.body is not Body.NONE:
        _check_encoding(request.headers)
    return answer_models(route, backends) if is_about_models(route) else route


def _check_encoding(headers: Headers) -> None:
    """Refuse a packed body: it could not be metered, nor bounded before it is unpacked."""
    for name, value in headers:
        if name == "content-encoding" and value.strip().lower() not in {"", "identity"}:
            raise EncodingRefused(
                f"The request body has the content encoding {quoted(value)}. Send it as it is, without "
                "Content-Encoding."
            )
