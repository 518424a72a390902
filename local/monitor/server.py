"""Serves the metrics API on loopback: `GET {resource id}/providers/Microsoft.Insights/metrics?...`."""

from collections.abc import Mapping
from datetime import UTC, datetime

from aiohttp import web

from local.azure_service import AzureService, Refused
from local.monitor.metrics import DIMENSIONS, EARLIER_DIMENSIONS, answer, parse_request
from local.monitor.numbers import read_numbers
from local.openai.call import JsonObject

_PATH_END = "/providers/microsoft.insights/metrics"


_REFUSALS = {
    403: (
        "AuthorizationFailed",
        "The client does not have authorization to perform action 'Microsoft.Insights/metrics/read'.",
    ),
    429: (
        "ResourceRequestsThrottled",
        "Number of requests for action 'Microsoft.Insights/metrics/read' exceeded the limit of "
        "'400' for time interval '00:05:00'.",
    ),
}


class StandInMonitor(AzureService):
    """The metrics of some accounts, by resource id.

    With a `token`, requests must carry it as bearer token. With `has_splits` off, the metrics lack the
    dimensions that Azure added later.
    """

    def __init__(
        self, sources: Mapping[str, str], *, token: str | None = None, has_splits: bool = True
    ) -> None:
        super().__init__(_REFUSALS)
        self._sources = {resource_id.lower(): source for resource_id, source in sources.items()}
        self._token = token
        self._dimensions = DIMENSIONS if has_splits else EARLIER_DIMENSIONS

    async def answer(self, request: web.Request) -> JsonObject:
        """The metrics of the account that the path names."""
        authorization = request.headers.get("authorization")
        if self._token is not None and authorization != f"Bearer {self._token}":
            raise Refused(401, "InvalidAuthenticationToken", "The access token is invalid.")
        if not request.path.lower().endswith(_PATH_END):
            raise Refused(404, "InvalidResourceType", "The resource type could not be found.")
        resource_id = request.path[: -len(_PATH_END)]
        source = self._sources.get(resource_id.lower())
        if source is None:
            raise Refused(404, "ResourceNotFound", f"The Resource '{resource_id}' was not found.")
        asked = parse_request(request.query, datetime.now(UTC), self._dimensions)
        return answer(asked, await read_numbers(source), resource_id)
