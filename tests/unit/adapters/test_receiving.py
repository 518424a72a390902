"""A request that the bounded server makes is the one that uvicorn makes."""

import asyncio
import re
from typing import Any

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from meter.adapters.functions.protocol import ConnectionLimits, bound_server
from tests.support.serving import on_loopback


class Told:
    """Keeps what the server says of each request, and answers each."""

    def __init__(self) -> None:
        self.scopes: list[Scope] = []
        self.received: list[Any] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Each is a connection of its own, and only one of the servers keeps a body beside the scope.
        varying = {"server", "client", "extensions"}
        self.scopes.append({name: scope[name] for name in scope if name not in varying})
        while (message := await receive()).get("more_body"):
            self.received.append(message)
        self.received.append(message)
        headers = [(b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"ok"})


async def told_of(wire: bytes, *, is_bounded: bool, **options: Any) -> tuple[Told, bytes]:
    """What the app is told of requests, and what the caller gets."""
    app = Told()
    async with on_loopback(app, is_bounded=is_bounded) as (server, address):
        for name, value in options.items():
            setattr(server.config, name, value)
        reader, writer = await asyncio.open_connection(*address)
        writer.write(wire)
        await asyncio.sleep(0)
        writer.write_eof()
        async with asyncio.timeout(30):
            got = await reader.read()
        writer.close()
    return app, re.sub(rb"date: [^\r]*\r\n", b"", got)


@pytest.mark.parametrize(
    "wire",
    [
        b"GET / HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /a%20b/%C3%A9%2Fc?q=%20&r HTTP/1.1\r\nHost: x\r\nX-A: 1\r\nx-a:  2 \r\nX-B:\r\n\r\n",
        b"HEAD /? HTTP/1.1\r\nhost: x\r\nx-a: \xe9\xff\r\n\r\n",
        b"GET /a HTTP/1.0\r\n\r\n",
        b"GET /a HTTP/1.0\r\nconnection: keep-alive\r\n\r\n",
        b"GET /a HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        b"POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\nbody" * 3,
        b"POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\nExpect: 100-Continue\r\n\r\nbody",
        b"POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\nexpect: no\r\n\r\nbody",
        b"POST /a HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
        b"PATCH /a HTTP/1.1\r\nhost: x\r\n\r\nGET /b?c#d HTTP/1.1\r\nhost: y\r\n\r\n",
    ],
)
@pytest.mark.parametrize("root_path", ["", "/root"])
async def test_the_app_is_told_what_uvicorn_tells(wire: bytes, root_path: str) -> None:
    """Of each request on the connection; and the caller gets the same."""
    bounded, own = [
        await told_of(wire, is_bounded=is_bounded, root_path=root_path)
        for is_bounded in (True, False)
    ]

    assert bounded[0].scopes == own[0].scopes
    assert b"".join(each["body"] for each in bounded[0].received) == b"".join(
        each["body"] for each in own[0].received
    )
    assert bounded[1] == own[1]


async def test_no_more_requests_are_taken_than_the_server_may_have() -> None:
    """`--limit-concurrency` is uvicorn's own answer to the others."""
    wire = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
    got = [
        await told_of(wire, is_bounded=is_bounded, limit_concurrency=1)
        for is_bounded in (True, False)
    ]

    assert got[0][1] == got[1][1]
    assert got[0][1].startswith(b"HTTP/1.1 503 ")
    assert got[0][0].scopes == []


@pytest.mark.parametrize(
    ("names_it", "access_log", "is_called_directly"),
    [(True, False, True), (True, True, False), (False, False, False)],
)
async def test_only_an_app_that_says_so_is_called_without_looking_at_proxies(
    names_it: bool, access_log: bool, is_called_directly: bool
) -> None:
    """And not where the log of requests names their callers."""
    app = Told()
    config = uvicorn.Config(app, lifespan="on", access_log=access_log, log_config=None)
    config.load()
    lifespan = config.lifespan_class(config)
    bound_server(lifespan.receive, ConnectionLimits(), app if names_it else None)

    assert (config.loaded_app is app) is is_called_directly
    assert isinstance(config.loaded_app, ProxyHeadersMiddleware) is not is_called_directly
