"""Serves the metrics API on loopback, with faults on demand.

| request | answer |
|---|---|
| `GET {resource id}/providers/Microsoft.Insights/metrics?...` | see `metrics.py` |
| `GET /_requests` | the requests so far: path, query, authorization |
| `POST /_faults`, `DELETE /_faults` | queues a fault (local/openai/faults.py); clears them |
"""

import asyncio
import json
from collections.abc import Mapping
from datetime import UTC, datetime

from aiohttp import web

from local.monitor.metrics import (
    DIMENSIONS,
    EARLIER_DIMENSIONS,
    Refused,
    answer,
    parse_request,
)
from local.monitor.numbers import read_numbers
from local.openai.answers import Answer, encode
from local.openai.call import JsonObject, parse_body
from local.openai.delivery import deliver, reset_connection
from local.openai.faults import Fault, FaultQueue, parse_fault

_HOST = "127.0.0.1"
_PATH_END = "/providers/microsoft.insights/metrics"
_SHUTDOWN_SECONDS = 0.2
_REFUSALS = {
    403: (
        "AuthorizationFailed",
        "The client does not have authorization to perform action 'Microsoft.Insights/metrics/read'.",
    ),
    429: (
        "ResourceRequestsThrottled",
        "Number of requests for action 'Microsoft.Insights/metrics/read' exceeded the limit of '400' for "
        "time interval '00:05:00'.",
    ),
}


class StandInMonitor:
    """The metrics of some accounts, by resource id.

    With a `token`, requests must carry it as bearer token. With `has_splits` off, the metrics lack the
    dimensions that Azure added later.
    """

    def __init__(
        self, sources: Mapping[str, str], *, token: str | None = None, has_splits: bool = True
    ) -> None:
        self.faults = FaultQueue()
        self.requests: list[JsonObject] = []
        self._sources = {resource_id.lower(): source for resource_id, source in sources.items()}
        self._token = token
        self._dimensions = DIMENSIONS if has_splits else EARLIER_DIMENSIONS
        self._runner: web.AppRunner | None = None

    async def start(self, port: int = 0) -> int:
        """Listens on a loopback port (0: a free one) and returns it."""
        app = web.Application()
        app.router.add_get("/_requests", self._list_requests)
        app.router.add_post("/_faults", self._add_fault)
        app.router.add_delete("/_faults", self._clear_faults)
        app.router.add_get("/{path:.*}", self._serve)
        self._runner = web.AppRunner(
            app, access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS, handler_cancellation=True
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, _HOST, port).start()
        bound_port: int = self._runner.addresses[0][1]
        return bound_port

    async def stop(self) -> None:
        """Closes the port and every connection; a second call does nothing."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        authorization = request.headers.get("authorization")
        self.requests.append(
            {"path": request.path, "query": dict(request.query), "authorization": authorization}
        )
        fault = self.faults.take(None, has_stream_options=False)
        if fault.hang:
            await asyncio.Event().wait()  # until the caller disconnects or the server stops
        if fault.reset:
            await reset_connection(request)
            return web.StreamResponse()
        if fault.status is not None or fault.body is not None:
            reply = _faulty(fault)
        else:
            reply = await self._reply(request.path, request.query, authorization)
        headers = {"content-type": "application/json; charset=utf-8", **fault.headers}
        return await deliver(request, reply, fault, headers=headers, note=_unnoted)

    async def _reply(
        self, path: str, query: Mapping[str, str], authorization: str | None
    ) -> Answer:
        try:
            if self._token is not None and authorization != f"Bearer {self._token}":
                raise Refused(401, "InvalidAuthenticationToken", "The access token is invalid.")
            if not path.lower().endswith(_PATH_END):
                raise Refused(404, "InvalidResourceType", "The resource type could not be found.")
            resource_id = path[: -len(_PATH_END)]
            source = self._sources.get(resource_id.lower())
            if source is None:
                raise Refused(
                    404, "ResourceNotFound", f"The Resource '{resource_id}' was not found."
                )
            asked = parse_request(query, datetime.now(UTC), self._dimensions)
            body = answer(asked, await read_numbers(source), resource_id)
        except Refused as refused:
            return Answer(status=refused.status, pieces=(encode(refused.body),))
        return Answer(status=200, pieces=(encode(body),))

    async def _list_requests(self, _request: web.Request) -> web.Response:
        return web.json_response(self.requests)

    async def _add_fault(self, request: web.Request) -> web.Response:
        body = parse_body(await request.read())
        try:
            if body is None:
                raise ValueError("a fault must be a JSON object")
            self.faults.add(parse_fault(body))
        except ValueError as exc:
            return web.json_response({"error": str(exc)}, status=400)
        return web.Response(status=204)

    async def _clear_faults(self, _request: web.Request) -> web.Response:
        self.faults.clear()
        return web.Response(status=204)


def _faulty(fault: Fault) -> Answer:
    status = fault.status or 200
    code, message = _REFUSALS.get(status, ("InternalServerError", "An error occurred."))
    body = fault.body if fault.body is not None else {"error": {"code": code, "message": message}}
    text = body if isinstance(body, str) else json.dumps(body)
    is_slow = fault.chunk_delay_ms > 0
    return Answer(status=status, pieces=(text.encode(),), is_stream=is_slow)


def _unnoted(*, completed: bool) -> None:
    """Metrics are not billed: the end of an answer is not recorded."""
