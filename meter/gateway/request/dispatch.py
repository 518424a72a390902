"""Tells what a request is for: an answer of the gateway's own, or a call for a backend."""

from collections.abc import Iterable

from meter.errors import UpgradeRefused
from meter.gateway.backend import Backend
from meter.gateway.headers import header
from meter.gateway.http import Answer, Request
from meter.gateway.request.models import answer_models, is_about_models
from meter.gateway.request.route import Route, allowed_methods, parse_route


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


def dispatch(request: Request, backends: Iterable[Backend]) -> Answer | Route:
    """The answer to OPTIONS or about models, else the call's route.

    Raises NotServed, MethodNotAllowed or BadRequest.
    """
    if request.method == "OPTIONS":
        allow = ", ".join(allowed_methods(request.raw_path))
        return Answer(status=204, headers=(("allow", allow),), body=b"")
    route = parse_route(request.method, request.raw_path, request.query)
    return answer_models(route, backends) if is_about_models(route) else route
