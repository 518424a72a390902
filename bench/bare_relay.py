"""A minimal gateway: reads the request, forwards it and returns the answer.

The peer of the front door in `bench/front_door.py`; same server, same client library.
"""

import os

import aiohttp
from starlette.types import Receive, Scope, Send

_session: aiohttp.ClientSession | None = None


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Relay one request (ASGI 3)."""
    global _session
    if scope["type"] != "http":
        return
    if _session is None:
        _session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), auto_decompress=False
        )
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    url = f"{os.environ['BACKEND_URL']}{scope['path']}?{scope['query_string'].decode()}"
    async with _session.post(
        url,
        data=body,
        headers={"api-key": os.environ["BACKEND_KEY"], "content-type": "application/json"},
    ) as response:
        answer = await response.read()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))]
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer})
