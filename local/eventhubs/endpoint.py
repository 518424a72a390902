"""The server: one data directory, one loopback port, and every connection to it."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from local.eventhubs.broker import Broker
from local.eventhubs.config import Config
from local.eventhubs.connection import Connection
from local.eventhubs.namespace import Namespace, Refuse
from local.eventhubs.performatives import Condition, Refusal
from local.eventhubs.tokens import TokenCheck

DEFAULT_KEY_NAME: Final = "RootManageSharedAccessKey"
LOOPBACK: Final = "127.0.0.1"
CLOSE_SECONDS: Final = 1.0
IDLE_SECONDS: Final = 240.0  # as Event Hubs announces


def system_now_ms() -> int:
    """Return the wall clock in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


class Endpoint:
    """A namespace of event hubs on a local port.

    `refuse(hub, partition_id)` is the fault hook of the tests: a send for which it returns True is
    answered with `com.microsoft:server-busy` and not stored.
    """

    def __init__(
        self,
        config: Config,
        data_dir: Path,
        key_name: str,
        key: str,
        *,
        refuse: Refuse | None = None,
        now_ms: Callable[[], int] = system_now_ms,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        self._config = config
        self._data_dir = data_dir
        self._tokens = TokenCheck(key_name, key, now_ms)
        self._refuse = refuse
        self._now_ms = now_ms
        self._idle_seconds = idle_seconds
        self._broker: Broker | None = None
        self._server: asyncio.Server | None = None
        self._connections: set[Connection] = set()
        self.accepted = 0

    @property
    def connections(self) -> int:
        """How many clients are connected; `accepted` counts all since the start."""
        return len(self._connections)

    async def start(self, host: str = LOOPBACK, port: int = 0) -> int:
        """Recover the logs, listen, and return the port.

        Raises `DataInUseError`, `CorruptLogError` or `OSError`.
        """
        self._broker = Broker(self._config, self._data_dir, self._now_ms)
        namespace = Namespace(
            broker=self._broker,
            tokens=self._tokens,
            refuse=self._refuse,
            idle_seconds=self._idle_seconds,
        )
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(lambda: self._accept(namespace), host, port)
        except OSError:
            self._broker.close()
            raise
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Notify every client, close every connection and log; a second call does nothing."""
        if self._server is None or self._broker is None:
            return
        server, self._server = self._server, None
        server.close()
        for connection in list(self._connections):
            connection.shut(Refusal(Condition.CONNECTION_FORCED, "The endpoint is shutting down."))
        try:
            await asyncio.wait_for(server.wait_closed(), CLOSE_SECONDS)
        except TimeoutError:
            server.abort_clients()
        self._broker.close()

    def _accept(self, namespace: Namespace) -> Connection:
        connection = Connection(namespace, self._connections.discard)
        self._connections.add(connection)
        self.accepted += 1
        return connection
