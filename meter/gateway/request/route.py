"""Parses a request line: operation, deployment and address style.

Deny by default: an address that is not exactly one of the known forms (`operations.py`), in one of the
spellings that are read (`spelling.py`), is refused, so encoded, doubled or dotted segments never reach
a backend. The upstream path is built anew. What was probably meant by another path is said, but never
guessed at (`unserved.py`).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from uuid import UUID

from msgspec import Struct

from meter.errors import BadRequest, MethodNotAllowed, NotServed
from meter.gateway.request.operations import Operation, Place, Served, rows_of
from meter.gateway.request.spelling import Address, Spellings
from meter.gateway.request.unserved import not_served
from meter.gateway.stream_failure import StreamFailure
from meter.patterns import lazy_pattern

MAX_CACHED_ROUTES = 2_048
MAX_QUERY_CHARS = 2_048


class Route(Struct, frozen=True, kw_only=True):
    """A known request line. `deployment` is None where the body names it, or no deployment is named.

    `before` and `after` are what a backend's path has around its own name for the deployment; `after` is
    None where that is not in it.
    """

    served: Served
    operation: Operation
    deployment: str | None
    stored_id: str | None
    api_version: str | None
    v1: bool
    query: str
    asks_for_events: bool
    before: str
    after: str | None

    @property
    def sets_model(self) -> bool:
        """Whether the body must name the deployment because the address did, and now does not."""
        return self.v1 and self.deployment is not None

    def stream_failure(self, event_id: UUID, *, choices: int = 1) -> StreamFailure:
        """How an event stream would say that it cannot be finished.

        The call's id stands in for that of a new response which no backend has named. `choices` is how
        many a chat is asked for.
        """
        if self.served.streams_a_response:
            return StreamFailure(response_id=self.stored_id or f"resp_{event_id.hex}")
        return StreamFailure(
            has_choices=self.served.takes_stream_options,
            is_media=self.served.streams_media,
            choices=choices,
        )

    def upstream_path(self, deployment: str) -> str:
        """The path and query to send to a backend, with that backend's deployment name."""
        return self.before if self.after is None else f"{self.before}{deployment}{self.after}"


@dataclass(frozen=True, slots=True)
class Routes:
    """The request lines that are known, in all spellings that are read (`spelling.py`).

    Applications repeat the same few request lines, so the latest are cached.
    """

    spellings: Spellings = field(default_factory=Spellings)
    _latest: Callable[[str, str, str], Route] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_latest", lru_cache(maxsize=MAX_CACHED_ROUTES)(self._route))

    def route(self, method: str, raw_path: str, query: str) -> Route:
        """What a request line asks for.

        Raises NotServed (404), MethodNotAllowed (405) or BadRequest (query).
        """
        return self._latest(method, raw_path, query)

    def methods(self, raw_path: str, query: str) -> tuple[str, ...]:
        """The methods that an address accepts. Raises NotServed (404)."""
        return _methods(_parse_address(self.spellings.read(raw_path, query)).served)

    def _route(self, method: str, raw_path: str, query: str) -> Route:
        route = parse_route(method, self.spellings.read(raw_path, query))
        if len(query) > MAX_QUERY_CHARS:
            raise BadRequest(f"The query string is longer than {MAX_QUERY_CHARS} characters.")
        if not _QUERY.fullmatch(query):
            raise BadRequest("The query string holds characters that are not allowed.")
        return route


def parse_route(method: str, address: Address) -> Route:
    """What a method asks for at a canonical address. Raises NotServed (404) or MethodNotAllowed (405).

    HEAD is served as GET; the server omits the body.
    """
    parsed = _parse_address(address)
    wanted = "GET" if method == "HEAD" else method
    found = next((served for served in parsed.served if served.method == wanted), None)
    if found is None:
        raise MethodNotAllowed(_methods(parsed.served))
    api_version, query = address.api_version, address.query
    if parsed.deployment is not None and api_version is None:
        raise _without_api_version(found)
    before, after = _around_the_name(parsed, found.tail, query)
    return Route(
        served=found,
        operation=found.operation,
        deployment=address.model or parsed.deployment,
        stored_id=parsed.stored_id,
        api_version=None if api_version is None else api_version[:64],
        v1=parsed.v1,
        query=query,
        asks_for_events="stream=true" in query.lower().split("&"),
        before=before,
        after=after,
    )


def is_deployment_name(name: object) -> bool:
    """Whether a value is a possible deployment name."""
    return isinstance(name, str) and _DEPLOYMENT.fullmatch(name) is not None


class _Parsed(Struct, frozen=True):
    served: tuple[Served, ...]
    deployment: str | None
    stored_id: str | None
    v1: bool


def _parse_address(address: Address) -> _Parsed:
    match = _PATH.fullmatch(address.path)
    if match is None:
        raise not_served(address.asked)
    tail, deployment = match["tail"], match["deployment"]
    is_v1 = match["v1"] is not None
    rows, stored_id = rows_of(tail)
    if not is_v1:
        place = Place.SHARED if deployment is None else Place.BY_DEPLOYMENT
        rows = tuple(served for served in rows if served.place is place)
    if not rows:
        raise not_served(address.asked)
    return _Parsed(rows, deployment, stored_id, is_v1)


def _around_the_name(parsed: _Parsed, tail: str, query: str) -> tuple[str, str | None]:
    """What a backend's path and query have around the deployment's name; None where it is not in them."""
    if parsed.stored_id is not None:
        tail = tail.replace("{id}", parsed.stored_id)
    rest = f"{tail}?{query}" if query else tail
    if parsed.v1:
        return f"/openai/v1/{rest}", None
    if parsed.deployment is None:
        return f"/openai/{rest}", None
    return "/openai/deployments/", f"/{rest}"


def _without_api_version(served: Served) -> NotServed:
    """Azure would answer as it answers any unknown address."""
    return NotServed(
        f"Resource not found. The address of this call of {served.tail} has no `api-version`, which Azure "
        "OpenAI requires below /openai/deployments/: add ?api-version=..., or call "
        f"/openai/v1/{served.tail} without it."
    )


def _methods(rows: tuple[Served, ...]) -> tuple[str, ...]:
    methods = [served.method for served in rows]
    return (*methods, "HEAD", "OPTIONS") if "GET" in methods else (*methods, "OPTIONS")


_DEPLOYMENT = lazy_pattern(r"(?=.*[A-Za-z0-9])[A-Za-z0-9._-]{1,64}", re.ASCII)
_PATH = lazy_pattern(
    r"/openai/(?:deployments/(?P<deployment>(?=[^/]*[A-Za-z0-9])[A-Za-z0-9._-]{1,64})/|(?P<v1>v1/))?"
    r"(?P<tail>[a-z]+(?:/[A-Za-z0-9._-]+){0,2})",
    re.ASCII,
)
_QUERY = lazy_pattern(r"[A-Za-z0-9._~:/?@!$&'()*+,;=%\[\]-]*", re.ASCII)
