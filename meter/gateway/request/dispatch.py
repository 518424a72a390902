"""Decides what a request is for: an answer of the gateway's own, or a call for a backend."""

from collections.abc import Iterable

from meter.errors import EncodingRefused, NotServed, UpgradeRefused
from meter.gateway.backend import Backend
from meter.gateway.headers import header
from meter.gateway.http import Answer, Request, error_answer, quoted
from meter.gateway.request.models import answer_models, is_about_models
from meter.gateway.request.operations import Body
from meter.gateway.request.route import Route, allowed_methods, parse_route
from meter.ports import Headers


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

    Raises NotServed, MethodNotAllowed, BadRequest or EncodingRefused.
    """
    if request.method == "OPTIONS":
        allow = ", ".join(allowed_methods(request.raw_path))
        return Answer(status=204, headers=(("allow", allow),), body=b"")
    route = parse_route(request.method, request.raw_path, request.query)
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


def without_api_version(route: Route, headers: Headers) -> Answer:
    """A backend's 404 to a classic call without `api-version`, with its likely reason.

    Azure answers such calls as it answers any unknown address. `headers` are its answer's own.
    """
    error = error_answer(
        NotServed(
            "Resource not found. The address has no `api-version`, which Azure OpenAI requires there: "
            f"add ?api-version=..., or call /openai/v1/{route.served.tail} without it."
        )
    )
    names = {name for name, _ in error.headers}
    kept = tuple(pair for pair in headers if pair[0] not in names | {"content-encoding"})
    return Answer(status=error.status, headers=(*kept, *error.headers), body=error.body)
