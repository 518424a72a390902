"""Changes the rules of a running proxy over a loopback port.

| request | answer |
|---|---|
| `POST /rules` | replaces the rules by those in the body (local/faults/rules.py); 400 names the problems |
| `DELETE /rules` | removes all faults |
| `GET /stats` | traffic since the start |
"""

import json

from aiohttp import web

from local.faults.rules import parse_rules
from local.faults.tcp import LOOPBACK, FaultProxy


class Control:
    """One proxy's control port."""

    def __init__(self, proxy: FaultProxy) -> None:
        self._proxy = proxy
        app = web.Application()
        app.router.add_post("/rules", self._put)
        app.router.add_delete("/rules", self._clear)
        app.router.add_get("/stats", self._stats)
        self._runner = web.AppRunner(app, access_log=None)

    async def start(self, port: int = 0) -> int:
        """Listen on a loopback port (0: a free one) and return it."""
        await self._runner.setup()
        await web.TCPSite(self._runner, LOOPBACK, port).start()
        bound_port: int = self._runner.addresses[0][1]
        return bound_port

    async def stop(self) -> None:
        """Close the port."""
        await self._runner.cleanup()

    async def _put(self, request: web.Request) -> web.Response:
        try:
            rules = parse_rules(json.loads(await request.text()))
        except ValueError as exc:
            return web.json_response({"error": str(exc)}, status=400)
        await self._proxy.put(rules)
        return web.json_response(self._proxy.stats())

    async def _clear(self, _request: web.Request) -> web.Response:
        await self._proxy.clear()
        return web.json_response(self._proxy.stats())

    async def _stats(self, _request: web.Request) -> web.Response:
        return web.json_response(self._proxy.stats())
