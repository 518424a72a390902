"""The least that a gateway in Python does: reads the request, forwards it, returns the answer.

Neither tokens nor usage nor failures are looked at. The same server as the front door's, aiohttp as
client; streams are passed on as they arrive.
"""

import os
from itertools import cycle

import aiohttp
from starlette.types import Receive, Scope, Send

_urls = cycle(os.environ.get("BACKEND_URLS", "").split())
_session: aiohttp.ClientSession | None = None


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Relay one request (ASGI 3)."""
    if scope["type"] != "http":
        return
    pieces, more = [], True
    while more:
        message = await receive()
        pieces.append(message.get("body", b""))
        more = message.get("more_body", False)
    url = f"{next(_urls)}{scope['path']}?{scope['query_string'].decode()}"
    headers = {"api-key": os.environ["BACKEND_KEY"], "content-type": "application/json"}
    async with _client().post(url, data=b"".join(pieces), headers=headers) as response:
        kind = [(b"content-type", response.headers["content-type"].encode())]
        if (length := response.headers.get("content-length")) is not None:
            answer = await response.read()
            kind.append((b"content-length", length.encode()))
            await send({"type": "http.response.start", "status": response.status, "headers": kind})
            await send({"type": "http.response.body", "body": answer})
            return
        await send({"type": "http.response.start", "status": response.status, "headers": kind})
        async for chunk in response.content.iter_any():
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


def _client() -> aiohttp.ClientSession:
    global _session
    if _session is None:
        connector = aiohttp.TCPConnector(limit=0)
        _session = aiohttp.ClientSession(connector=connector, auto_decompress=False)
    return _session
