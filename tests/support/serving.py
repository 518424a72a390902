"""Serves a front door on a real port, as the app does, alone or behind Microsoft's proxy."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from local.functions.invocations import HttpInvocations
from local.functions.real_proxy import RealProxy
from meter.adapters.functions.protocol import ConnectionLimits, bounded_http
from meter.adapters.functions.web import gateway_request, response_of
from tests.fakes.scripted_worker import ScriptedWorker
from tests.support.gateway import Door, request_limits

type Address = tuple[str, int]


@asynccontextmanager
async def on_loopback(
    app: ASGIApp, *, is_bounded: bool = True
) -> AsyncIterator[tuple[uvicorn.Server, Address]]:
    """A server of the app and its address; if not `is_bounded` with uvicorn's own protocol."""
    config = uvicorn.Config(
        app,
        http="httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,  # what it sets stays set after the server's end, for every later test
    )
    config.load()
    if is_bounded:
        config.http_protocol_class = bounded_http(ConnectionLimits())
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    listening = socket.create_server(("127.0.0.1", 0))
    await server.startup(sockets=[listening])
    try:
        yield server, listening.getsockname()
    finally:
        await server.shutdown(sockets=[listening])


@asynccontextmanager
async def served(door: Door) -> AsyncIterator[Address]:
    """The address of a front door. At the end it must have released everything that it held."""

    async def app(scope: Scope, receive: Receive, respond: Send) -> None:
        request = gateway_request(scope, receive, request_limits())
        response = response_of(await door.front_door.handle(request), door.front_door.detached)
        await response(scope, receive, respond)

    try:
        async with on_loopback(app) as (_, address):
            yield address
    finally:
        await door.front_door.detached.finish(5, cut_seconds=0)
    assert door.is_idle


@asynccontextmanager
async def behind(program: Path, address: Address) -> AsyncIterator[Address]:
    """The address of Microsoft's proxy before a server. Invocations succeed; here nothing runs in them."""
    invocations = HttpInvocations(ScriptedWorker(), "", timeout_seconds=None)
    proxy = RealProxy(program, "http://{}:{}".format(*address), invocations, "--log", "None")
    port = await proxy.start(0)
    try:
        yield "127.0.0.1", port
    finally:
        await proxy.stop(grace_seconds=5)
