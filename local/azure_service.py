"""What the stand-ins for Azure's services share: they note each request, and fail on demand.

| request | answer |
|---|---|
| `GET /_requests` | the requests so far: path, query, authorization |
| `POST /_faults`, `DELETE /_faults` | queues a fault (local/openai/faults.py); clears them |
"""

import asyncio
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping

from aiohttp import web

from local.openai.answers import Answer, encode
from local.openai.call import JsonObject, parse_body
from local.openai.delivery import deliver, reset_connection
from local.openai.faults import Fault, FaultQueue, parse_fault

_HOST = "127.0.0.1"
_SHUTDOWN_SECONDS = 0.2


class Refused(Exception):
    """The service refuses the request."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.body: JsonObject = {"error": {"code": code, "message": message}}


class AzureService(ABC):
    """One service on a loopback port. `refusals` are its codes and messages by status."""

    def __init__(self, refusals: Mapping[int, tuple[str, str]]) -> None:
        self._refusals = refusals
        self.faults = FaultQueue()
        self.requests: list[JsonObject] = []
        self.address = ""
        self._runner: web.AppRunner | None = None

    @abstractmethod
    async def answer(self, request: web.Request) -> JsonObject:
        """The body of the answer. Raises Refused."""

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
        self.address = f"http://{_HOST}:{bound_port}"
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
            reply = self._faulty(fault)
        else:
            reply = await self._reply(request)
        headers = {"content-type": "application/json; charset=utf-8", **fault.headers}
        return await deliver(request, reply, fault, headers=headers, note=_unnoted)

    async def _reply(self, request: web.Request) -> Answer:
        try:
            body = await self.answer(request)
        except Refused as refused:
            return Answer(status=refused.status, pieces=(encode(refused.body),))
        return Answer(status=200, pieces=(encode(body),))

    def _faulty(self, fault: Fault) -> Answer:
        status = fault.status or 200
        code, message = self._refusals.get(status, ("InternalServerError", "An error occurred."))
        body = (
            fault.body if fault.body is not None else {"error": {"code": code, "message": message}}
        )
        text = body if isinstance(body, str) else json.dumps(body)
        is_slow = fault.chunk_delay_ms > 0
        return Answer(status=status, pieces=(text.encode(),), is_stream=is_slow)

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


def _unnoted(*, completed: bool) -> None:
    """Such answers are not billed: their ends are not recorded."""
