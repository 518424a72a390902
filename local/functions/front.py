"""The host's HTTP side: matches routes, forwards requests to the worker, streams answers back.

As in the real host, the request is forwarded to the worker's own port under an invocation id, and
the invocation is sent separately. When a caller disconnects, the host aborts the forward.
The host's own addresses are answered in `admin.py`.
"""

import logging
import uuid
from urllib.parse import unquote

import aiohttp
from aiohttp import web
from yarl import URL

from local.functions.admin import KEY_HEADER, Admin, AdminRequest, is_own
from local.functions.invocations import HttpInvocations, Matched

IDLE_TIMEOUT_SECONDS = 240  # the real host's proxy times out after this much silence
MAX_BODY_BYTES = 104_857_600
# As much as the app accepts by any setting, so that it is the app that refuses.
MAX_LINE_BYTES, MAX_HEADER_BYTES, MAX_HEADERS = 65_536, 1_048_576, 10_000
INVOCATION_HEADER = "x-ms-invocation-id"
_HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "transfer-encoding", "upgrade", "te", "trailer"}
)
# The id is the host's alone: under a caller's own, the worker would wait for an invocation for ever.
_NOT_FORWARDED = _HOP_BY_HOP | {"expect", INVOCATION_HEADER}

log = logging.getLogger(__name__)


class Front:
    """Serves HTTP triggers on a loopback port."""

    def __init__(self, http_uri: str, invocations: HttpInvocations, admin: Admin) -> None:
        self._http_uri = http_uri
        self._invocations = invocations
        self._admin = admin
        self._session: aiohttp.ClientSession | None = None
        self._runner: web.ServerRunner | None = None

    async def start(self, port: int, *, grace_seconds: float) -> int:
        """Listen and return the port. On stop, calls have the grace time to end."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_read=IDLE_TIMEOUT_SECONDS),
            max_line_size=MAX_LINE_BYTES,
            max_field_size=MAX_HEADER_BYTES,
        )
        server = web.Server(
            self._serve,
            access_log=None,
            auto_decompress=False,  # bodies are forwarded as they are, under their own length
            max_line_size=MAX_LINE_BYTES,
            max_field_size=MAX_HEADER_BYTES,
            max_headers=MAX_HEADERS,
        )
        runner = web.ServerRunner(server, handler_cancellation=True, shutdown_timeout=grace_seconds)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port, backlog=1024).start()
        self._runner = runner
        return int(runner.addresses[0][1])

    async def stop(self) -> None:
        """Stop listening, let calls end within the grace time, disconnect from the worker."""
        if self._runner is not None:
            await self._runner.cleanup()
        if self._session is not None:
            await self._session.close()

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.headers.get("expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0  # it is no part of the answer
        path, _, query = request.raw_path.partition("?")
        if is_own(unquote(path)):
            asked = AdminRequest(
                method=request.method,
                path=unquote(path),
                query=query,
                key=request.headers.get(KEY_HEADER, ""),
            )
            return web.Response(status=await self._admin.status(asked, request.read))
        matched = self._invocations.match(request.method, path)
        if matched is None:
            return web.Response(status=404)
        return await self._forward(request, matched)

    async def _forward(self, request: web.BaseRequest, matched: Matched) -> web.StreamResponse:
        assert self._session is not None, "started"
        invocation_id = str(uuid.uuid4())
        self._invocations.start(matched, request.method, str(request.url), invocation_id)
        headers = [
            (name, value)
            for name, value in request.headers.items()
            if name.lower() not in _NOT_FORWARDED
        ]
        if request.headers.get("upgrade", "").lower() == "websocket":
            headers += [("connection", "Upgrade"), ("upgrade", "websocket")]  # as YARP does
        headers.append((INVOCATION_HEADER, invocation_id))
        try:
            async with self._session.request(
                request.method,
                URL(self._http_uri + request.raw_path, encoded=True),
                headers=headers,
                data=request.content if request.can_read_body else None,
                skip_auto_headers=("user-agent", "accept", "accept-encoding", "content-type"),
                allow_redirects=False,
            ) as response:
                return await _relay(request, response)
        except aiohttp.ClientError as exc:
            log.error("forward failed: %s", type(exc).__name__)
            return web.Response(status=502)


async def _relay(request: web.BaseRequest, response: aiohttp.ClientResponse) -> web.StreamResponse:
    answer = web.StreamResponse(status=response.status)
    for name, value in response.headers.items():
        if name.lower() not in _HOP_BY_HOP:
            answer.headers.add(name, value)
    await answer.prepare(request)
    try:
        async for chunk in response.content.iter_any():
            await answer.write(chunk)
    except aiohttp.ClientPayloadError:
        # The worker broke off the answer; the caller must not take it for a complete one.
        if request.transport is not None:
            request.transport.close()
        return answer
    await answer.write_eof()
    return answer
