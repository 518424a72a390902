"""The upstream client on connections that no socket has: each request is answered at once."""

import asyncio
import socket
from collections.abc import Sequence

from meter.adapters.upstream.client import HttpUpstream
from meter.adapters.upstream.connection import Connection
from meter.adapters.upstream.request import Address


class AnsweringUpstream(HttpUpstream):
    """Every request gets the same bytes, each part in a turn of the event loop."""

    def __init__(self, parts: Sequence[bytes]) -> None:
        super().__init__(connect_timeout_seconds=60, idle_timeout_seconds=60)
        self._parts = parts

    async def _connect(self, address: Address, backend: str, seconds: float) -> Connection:  # noqa: ARG002
        connection = Connection(address, self._pool)
        connection.connection_made(_Transport(connection, self._parts))
        return connection


class _Transport(asyncio.Transport):
    """Takes the request for whole when its first bytes are written."""

    def __init__(self, connection: Connection, parts: Sequence[bytes]) -> None:
        # The client polls a pooled connection's socket: this one is silent.
        self._silent, self._other = socket.socketpair()
        super().__init__({"socket": self._silent})
        self._connection = connection
        self._parts = parts

    def write(self, _data: bytes | bytearray | memoryview) -> None:
        asyncio.get_running_loop().call_soon(self._answer, 0)

    def is_closing(self) -> bool:
        return False

    def resume_reading(self) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        raise RuntimeError("the relay takes each part before the next is there")

    def abort(self) -> None:
        self._silent.close()
        self._other.close()

    def _answer(self, number: int) -> None:
        part = self._parts[number]
        self._connection.get_buffer(-1)[: len(part)] = part
        self._connection.buffer_updated(len(part))
        if number + 1 < len(self._parts):
            asyncio.get_running_loop().call_soon(self._answer, number + 1)
