"""The host's HTTP side, imitated: listens, and serves each caller as Kestrel and YARP do."""

import asyncio
from urllib.parse import urlsplit

from local.functions.admin import Admin
from local.functions.invocations import HttpInvocations
from local.functions.proxy.caller import Caller, Ways
from local.functions.proxy.forward import ACTIVITY_SECONDS, Forwarder
from local.functions.proxy.stream import Stream


class Front:
    """Serves HTTP triggers on a loopback port."""

    def __init__(
        self,
        http_uri: str,
        invocations: HttpInvocations,
        admin: Admin,
        *,
        activity_seconds: float = ACTIVITY_SECONDS,
    ) -> None:
        worker = urlsplit(http_uri)
        self._forwarder = Forwarder(
            worker.hostname or "", worker.port or 0, activity_seconds=activity_seconds
        )
        self._ways = Ways(
            forwarder=self._forwarder,
            invocations=invocations,
            admin=admin,
            authority=worker.netloc,
        )
        self._server: asyncio.Server | None = None
        self._is_stopping = False
        self._callers: dict[asyncio.Task[None], tuple[Caller, Stream]] = {}

    async def start(self, port: int) -> int:
        """Listen and return the port."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Stream(self._serve), "127.0.0.1", port, backlog=1024
        )
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self, *, grace_seconds: float) -> None:
        """Stop listening, let calls end within the grace time, then reset their connections."""
        self._is_stopping = True
        if self._server is not None:
            self._server.close()
        for caller, _ in self._callers.values():
            caller.stop()
        if self._callers:
            await asyncio.wait(set(self._callers), timeout=grace_seconds)
        for task, (_, stream) in self._callers.items():
            stream.reset()
            task.cancel()
        if self._callers:
            await asyncio.wait(set(self._callers))
        self._forwarder.close()

    def _serve(self, stream: Stream) -> None:
        if self._is_stopping:  # accepted just before the listener closed
            stream.close()
            return
        caller = Caller(stream, self._ways)
        task = asyncio.create_task(caller.serve())
        self._callers[task] = (caller, stream)
        task.add_done_callback(lambda ended: self._callers.pop(ended, None))
