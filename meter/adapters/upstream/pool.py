"""The connections that are open, and which of them the next request may have."""

import asyncio

from meter.adapters.upstream.connection import Connection
from meter.adapters.upstream.request import Address

# Shorter than the backends' own idle time, so that calls seldom get a connection just closed.
KEEP_ALIVE_SECONDS = 15
# A name may lead elsewhere by then. Connections that were opened together do not end together.
MAX_AGE_SECONDS = 300
AGE_STEPS = 60
CLOSE_SECONDS = 2
RECEIVED_BYTES = 262_144  # as asyncio; at most so much is read at once


class Pool:
    """Owns every open connection. Idle ones are used last in, first out, so that the rest can end."""

    def __init__(self, keep_alive_seconds: float = KEEP_ALIVE_SECONDS) -> None:
        self._keep_alive_seconds = keep_alive_seconds
        self._open: set[Connection] = set()
        self._idle: dict[Address, list[Connection]] = {}
        self._sweep: asyncio.TimerHandle | None = None
        self._opened = 0
        self.received = memoryview(bytearray(RECEIVED_BYTES))
        self._emptied: asyncio.Future[None] | None = None
        self.is_closed = False

    def take(self, address: Address, now: float) -> Connection | None:
        """An idle connection that is fit for a request at that moment of the event loop's clock."""
        connections = self._idle.get(address)
        while connections:
            connection = connections.pop()
            if connection.is_fit(
                opened_after=now - MAX_AGE_SECONDS, idle_after=now - self._keep_alive_seconds
            ):
                return connection
            connection.drop()
        return None

    async def close(self) -> None:
        """Drop all connections, and wait until they are gone."""
        self.is_closed = True
        if self._sweep is not None:
            self._sweep.cancel()
        self._idle.clear()
        for connection in tuple(self._open):
            connection.drop()
        if self._open:
            self._emptied = asyncio.get_running_loop().create_future()
            await asyncio.wait({self._emptied}, timeout=CLOSE_SECONDS)

    def opened(self, connection: Connection) -> None:
        """Own it."""
        # Those opened first count as a little older.
        spread = self._opened % AGE_STEPS
        self._opened += 1
        connection.opened_at = asyncio.get_running_loop().time() - spread
        self._open.add(connection)
        if self.is_closed:
            connection.drop()

    def idle(self, connection: Connection) -> None:
        """Keep it for the next request."""
        if self.is_closed:
            connection.drop()
            return
        loop = asyncio.get_running_loop()
        connection.idle_since = loop.time()
        self._idle.setdefault(connection.address, []).append(connection)
        if self._sweep is None:
            self._sweep = loop.call_later(self._keep_alive_seconds, self._drop_old)

    def lost(self, connection: Connection) -> None:
        """Forget it."""
        self._open.discard(connection)
        connections = self._idle.get(connection.address, ())
        if connection in connections:
            self._idle[connection.address].remove(connection)
        if self._emptied is not None and not self._open and not self._emptied.done():
            self._emptied.set_result(None)

    def _drop_old(self) -> None:
        loop = asyncio.get_running_loop()
        since = loop.time() - self._keep_alive_seconds
        for address, connections in tuple(self._idle.items()):
            for connection in connections:
                if connection.idle_since <= since:
                    connection.drop()
            kept = [each for each in connections if each.idle_since > since]
            if kept:
                self._idle[address] = kept
            else:
                del self._idle[address]
        again = self._keep_alive_seconds / 3
        self._sweep = loop.call_later(again, self._drop_old) if self._idle else None
