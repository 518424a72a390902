"""Decides what a request is for: an answer of the gateway's own, or a call for a backend."""

from collections.abc import Iterable
from uuid import UUID

from msgspec import Struct, field

from meter.errors import EncodingRefused, UpgradeRefused
from meter.gateway.backend import Backend
from meter.gateway.headers import header
from meter.gateway.http import Answer, Request, quoted
from meter.gateway.opencode import OpenCode, is_opencode
from meter.gateway.operators.page import PATH as OPERATORS_PATH
from meter.gateway.operators.page import OperatorPage
from meter.gateway.own_usage import PATH as OWN_USAGE_PATH
from meter.gateway.own_usage import OwnUsage
from meter.gateway.request.models import answer_models, is_about_models
from meter.gateway.request.operations import Body
from meter.gateway.request.route import MAX_CACHED_ROUTES, Route, Routes
from meter.gateway.request.unserved import not_served
from meter.ports import Headers
from meter.usage import Principal


def refused_upgrade(method: str, headers: Headers) -> UpgradeRefused | None:
    """The refusal of a WebSocket handshake (RFC 6455 section 4.1); None for any other request.

    Before the token is read, at any address: coding agents try WebSocket first, and 426 makes them
    fall back at once, while they retry other statuses. A host between may take `upgrade` out.
    """
    if method != "GET":
        return None
    asked = (header(headers, "upgrade") or "").lower()
    if "websocket" not in asked and header(headers, "sec-websocket-key") is None:
        return None
    return UpgradeRefused(
        "WebSocket is not served here. Send the request as a POST; with `stream: true` it is "
        "answered with server-sent events."
    )


class Dispatcher(Struct, frozen=True, kw_only=True):
    """Gives each request its answer, or its route to a backend."""

    routes: Routes = field(default_factory=Routes)
    own_usage: OwnUsage | None = None
    opencode: OpenCode = field(default_factory=OpenCode)
    operators: OperatorPage | None = None
    _to_backends: dict[tuple[str, str, str], Route] = field(default_factory=dict)

    def known(self, request: Request) -> Route | None:
        """The route of a request line that `dispatch` has sent to a backend before, as nearly every call's.

        None for any other, and for GET, which may be a handshake: else the line alone decides. The
        caller's token, and `check_encoding`, are still to come.
        """
        return self._to_backends.get((request.method, request.raw_path, request.query))

    def answer_to_anyone(self, request: Request) -> Answer | None:
        """The answer to a request that needs no token; None where it needs one.

        Raises UpgradeRefused, or what OpenCode's document is refused with.
        """
        if (refused := refused_upgrade(request.method, request.headers)) is not None:
            raise refused
        if is_opencode(request.raw_path, self.routes.spellings.prefixes):
            return self.opencode.answer(request.method)
        return None

    async def answer_before_entry(self, request: Request, event_id: UUID) -> Answer | None:
        """The answer to anyone, or to operators, who need another role than callers; else None.

        Raises what `answer_to_anyone` and the operators' page raise; NotServed where there is none, with a
        token or without.
        """
        if request.raw_path != OPERATORS_PATH:
            return self.answer_to_anyone(request)
        if self.operators is None:
            raise not_served(request.raw_path)
        return self.answer_to_anyone(request) or await self.operators.answer(request, event_id)

    async def dispatch(
        self, request: Request, principal: Principal, backends: Iterable[Backend]
    ) -> Answer | Route:
        """Of a known caller: the answer about its own usage, else as `dispatch`.

        Also raises UsageUnavailable.
        """
        if self.own_usage is not None and request.raw_path == OWN_USAGE_PATH:
            return await self.own_usage.answer(request, principal)
        found = dispatch(request, self.routes, backends)
        if isinstance(found, Route) and request.method != "GET":
            if len(self._to_backends) >= MAX_CACHED_ROUTES:
                self._to_backends.clear()
            self._to_backends[request.method, request.raw_path, request.query] = found
        return found


def dispatch(request: Request, routes: Routes, backends: Iterable[Backend]) -> Answer | Route:
    """The answer to OPTIONS or about models, else the call's route.

    Raises NotServed, MethodNotAllowed, BadRequest or EncodingRefused.
    """
    if request.method == "OPTIONS":
        allow = ", ".join(routes.methods(request.raw_path, request.query))
        return Answer(status=204, headers=(("allow", allow),), body=b"")
    route = routes.route(request.method, request.raw_path, request.query)
    check_encoding(route, request)
    return answer_models(route, backends) if is_about_models(route) else route


def check_encoding(route: Route, request: Request) -> None:
    """Refuse a packed body: it could not be metered, nor bounded before it is unpacked."""
    if "content-encoding" not in request.named or route.served.body is Body.NONE:
        return
    for name, value in request.headers:
        if name == "content-encoding" and value.strip().lower() not in {"", "identity"}:
            raise EncodingRefused(
                f"The request body has the content encoding {quoted(value)}. Send it as it is, without "
                "Content-Encoding."
            )
