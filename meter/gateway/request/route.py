"""Parses a request line: operation, deployment and address style.

Deny by default: a raw path that is not exactly one of the known forms (`operations.py`) is refused,
so encoded, doubled or dotted segments never reach a backend. The upstream path is built anew.
What was probably meant by another path is said, but never guessed at (`unserved.py`).
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import parse_qsl
from uuid import UUID

from meter.errors import BadRequest, MethodNotAllowed
from meter.gateway.request.operations import Operation, Place, Served, rows_of
from meter.gateway.request.unserved import not_served
from meter.gateway.stream_failure import StreamFailure

MAX_CACHED_ROUTES = 2_048
MAX_QUERY_CHARS = 2_048


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A known request line. `deployment` is None where the body names it, or no deployment is named."""

    served: Served
    deployment: str | None
    stored_id: str | None
    api_version: str | None
    v1: bool
    query: str

    @property
    def lacks_api_version(self) -> bool:
        """Whether the address is a classic one without the version that Azure requires there."""
        return not self.v1 and not self.api_version

    @property
    def operation(self) -> Operation:
        """The operation."""
        return self.served.operation

    def stream_failure(self, event_id: UUID) -> StreamFailure:
        """How an event stream would say that it cannot be finished.

        The call's id stands in for that of a new response which no backend has named.
        """
        if self.served.streams_a_response:
            return StreamFailure(response_id=self.stored_id or f"resp_{event_id.hex}")
        return StreamFailure(has_choices=self.served.takes_stream_options)

    def upstream_path(self, deployment: str) -> str:
        """The path and query to send to a backend, with that backend's deployment name."""
        tail = self.served.tail
        if self.stored_id is not None:
            tail = tail.replace("{id}", self.stored_id)
        if self.v1:
            path = f"/openai/v1/{tail}"
        elif self.deployment is None:
            path = f"/openai/{tail}"
        else:
            path = f"/openai/deployments/{deployment}/{tail}"
        return f"{path}?{self.query}" if self.query else path


@lru_cache(maxsize=MAX_CACHED_ROUTES)
def parse_route(method: str, raw_path: str, query: str) -> Route:
    """Parse a request line. Raises NotServed (404), MethodNotAllowed (405) or BadRequest (query).

    HEAD is served as GET; the server omits the body. Applications repeat the same few request lines,
    so the latest are cached.
    """
    address = _parse_address(raw_path)
    wanted = "GET" if method == "HEAD" else method
    found = next((served for served in address.served if served.method == wanted), None)
    if found is None:
        raise MethodNotAllowed(_methods(address.served))
    if len(query) > MAX_QUERY_CHARS:
        raise BadRequest(f"The query string is longer than {MAX_QUERY_CHARS} characters.")
    if not _QUERY.fullmatch(query):
        raise BadRequest("The query string holds characters that are not allowed.")
    api_versions = [value for name, value in parse_qsl(query) if name == "api-version"]
    return Route(
        served=found,
        deployment=address.deployment,
        stored_id=address.stored_id,
        api_version=api_versions[0][:64] if api_versions else None,
        v1=address.v1,
        query=query,
    )


def allowed_methods(raw_path: str) -> tuple[str, ...]:
    """The methods that an address accepts. Raises NotServed (404)."""
    return _methods(_parse_address(raw_path).served)


def is_deployment_name(name: object) -> bool:
    """Whether a value is a possible deployment name."""
    return isinstance(name, str) and _DEPLOYMENT.fullmatch(name) is not None


@dataclass(frozen=True, slots=True)
class _Address:
    served: tuple[Served, ...]
    deployment: str | None
    stored_id: str | None
    v1: bool


def _parse_address(raw_path: str) -> _Address:
    match = _PATH.fullmatch(raw_path)
    if match is None:
        raise not_served(raw_path)
    tail, deployment = match["tail"], match["deployment"]
    is_v1 = match["v1"] is not None
    rows, stored_id = rows_of(tail)
    if not is_v1:
        place = Place.SHARED if deployment is None else Place.BY_DEPLOYMENT
        rows = tuple(served for served in rows if served.place is place)
    if not rows:
        raise not_served(raw_path)
    return _Address(rows, deployment, stored_id, is_v1)


def _methods(rows: tuple[Served, ...]) -> tuple[str, ...]:
    methods = [served.method for served in rows]
    return (*methods, "HEAD", "OPTIONS") if "GET" in methods else (*methods, "OPTIONS")


_DEPLOYMENT = re.compile(r"(?=.*[A-Za-z0-9])[A-Za-z0-9._-]{1,64}", re.ASCII)
_PATH = re.compile(
    r"/openai/(?:deployments/(?P<deployment>(?=[^/]*[A-Za-z0-9])[A-Za-z0-9._-]{1,64})/|(?P<v1>v1/))?"
    r"(?P<tail>[a-z]+(?:/[A-Za-z0-9._-]+){0,2})",
    re.ASCII,
)
_QUERY = re.compile(r"[A-Za-z0-9._~:/?@!$&'()*+,;=%\[\]-]*", re.ASCII)
