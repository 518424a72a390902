"""Microsoft's own proxy in place of the imitated one: a program that is set up as in the host.

It forwards each request to the worker's port and posts its invocation id here, where the invocation
is run; the answer says how that ended. The host's own addresses are not served then: it has none.
"""

import asyncio
import signal
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from aiohttp import web

from local.child import die_with_parent
from local.functions.invocations import HttpInvocations

READY_SECONDS = 30.0


class ProxyFailed(Exception):
    """The program did not start; the message says what it printed."""


class RealProxy:
    """Runs the program at `path`, with further flags, before a worker's port."""

    def __init__(
        self, path: Path, http_uri: str, invocations: HttpInvocations, *flags: str
    ) -> None:
        self._path = path
        self._http_uri = http_uri
        self._flags = flags
        self._invocations = invocations
        self._endpoint: web.ServerRunner | None = None
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, port: int) -> int:
        """Listen and return the port. Raises ProxyFailed."""
        self._endpoint = web.ServerRunner(web.Server(self._invoke, access_log=None))
        await self._endpoint.setup()
        await web.TCPSite(self._endpoint, "127.0.0.1", 0, backlog=1024).start()
        invoke = f"http://127.0.0.1:{self._endpoint.addresses[0][1]}/invoke"
        self._process = await asyncio.create_subprocess_exec(
            self._path,
            *("--worker", self._http_uri, "--listen", f"127.0.0.1:{port}", "--invoke", invoke),
            *self._flags,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            env={},  # .NET obeys proxy variables, on loopback too
            preexec_fn=die_with_parent,
        )
        assert self._process.stdout is not None
        try:
            line = await asyncio.wait_for(self._process.stdout.readline(), READY_SECONDS)
        except TimeoutError:
            line = b"nothing"
        if not line.startswith(b"ready "):
            await self.stop(grace_seconds=0)
            raise ProxyFailed(f"{self._path} printed: {line.decode(errors='replace').strip()}")
        return int(line.split()[1])

    async def stop(self, *, grace_seconds: float) -> None:
        """Stop listening, let calls end within the grace time, then cut them."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), grace_seconds)
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
        if self._endpoint is not None:
            await self._endpoint.cleanup()

    async def _invoke(self, request: web.BaseRequest) -> web.Response:
        method, _, url = (await request.text()).partition(" ")
        matched = self._invocations.match(method, urlsplit(url).path)
        if matched is None:
            return web.Response(status=404)
        run = self._invocations.start(matched, method, url, request.query["id"])
        return web.Response(status=200 if await asyncio.shield(run) else 500)
