"""Which connections are kept, for how long, and which of them a request gets."""

import asyncio
import socket
from collections.abc import Coroutine
from typing import Any

import pytest

from meter.adapters.upstream.connection import Connection
from meter.adapters.upstream.pool import AGE_STEPS, KEEP_ALIVE_SECONDS, MAX_AGE_SECONDS, Pool
from meter.adapters.upstream.request import Address
from tests.fakes.virtual_time import VirtualTimeLoop

HERE = Address("a", 80, False, "a")
THERE = Address("b", 80, False, "b")


class FakeTransport(asyncio.Transport):
    """A transport whose other side is `peer`."""

    def __init__(self, protocol: Connection) -> None:
        super().__init__()
        self.mine, self.peer = socket.socketpair()
        self.protocol = protocol
        self.is_aborted = False
        protocol.connection_made(self)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.mine if name == "socket" else default

    def is_closing(self) -> bool:
        return self.is_aborted

    def abort(self) -> None:
        if not self.is_aborted:
            self.is_aborted = True
            asyncio.get_running_loop().call_soon(self._close)

    def _close(self) -> None:
        self.protocol.connection_lost(None)
        self.mine.close()
        self.peer.close()


def opened(pool: Pool, address: Address = HERE) -> tuple[Connection, FakeTransport]:
    connection = Connection(address, pool)
    return connection, FakeTransport(connection)


def take(pool: Pool, address: Address = HERE) -> Connection | None:
    return pool.take(address, asyncio.get_running_loop().time())


def arrives(connection: Connection, data: bytes) -> None:
    connection.get_buffer(-1)[: len(data)] = data
    connection.buffer_updated(len(data))


def run(scenario: Coroutine[None, None, None]) -> None:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(scenario)


def test_the_connection_used_last_is_used_next() -> None:
    """The others can then end; each server has its own."""

    async def scenario() -> None:
        pool = Pool()
        first, second = opened(pool)[0], opened(pool)[0]
        pool.idle(first)
        pool.idle(second)
        assert take(pool, THERE) is None
        assert [take(pool) for _ in range(3)] == [second, first, None]
        await pool.close()

    run(scenario())


def test_idle_connections_are_dropped_in_time() -> None:
    """Before their other side does it, and also if no request comes again."""

    async def scenario() -> None:
        pool = Pool()
        connection, transport = opened(pool)
        pool.idle(connection)
        await asyncio.sleep(KEEP_ALIVE_SECONDS - 1)
        assert take(pool) is connection
        pool.idle(connection)
        other, later = opened(pool)
        await asyncio.sleep(KEEP_ALIVE_SECONDS - 1)
        pool.idle(other)
        await asyncio.sleep(KEEP_ALIVE_SECONDS / 2)
        assert (transport.is_aborted, later.is_aborted) == (True, False)
        await asyncio.sleep(2 * KEEP_ALIVE_SECONDS)
        assert later.is_aborted
        await pool.close()

    run(scenario())


def test_a_connection_that_is_too_old_is_replaced() -> None:
    """However busy it is: its name may lead elsewhere. Not all at the same time."""

    async def scenario() -> None:
        pool = Pool()
        made = [opened(pool)[0] for _ in range(AGE_STEPS)]
        for connection in made:
            pool.idle(connection)
        ends: list[int] = []
        for second in range(MAX_AGE_SECONDS + 2):
            taken = list(iter(lambda: take(pool), None))
            ends += [second] * (len(made) - len(taken) - len(ends))
            for connection in taken:
                pool.idle(connection)
            await asyncio.sleep(1)
        assert len(ends) == AGE_STEPS
        assert (min(ends), max(ends)) == (MAX_AGE_SECONDS - AGE_STEPS + 2, MAX_AGE_SECONDS + 1)
        assert max(map(ends.count, ends)) <= 2
        await pool.close()

    run(scenario())


@pytest.mark.parametrize("ending", ["says something", "closes", "is seen to close", "aborts"])
def test_a_connection_that_ended_is_not_given_out(ending: str) -> None:
    """Whether or not the event loop has seen it."""

    async def scenario() -> None:
        pool = Pool()
        connection, transport = opened(pool)
        pool.idle(connection)
        match ending:
            case "says something":
                transport.peer.send(b"x")
            case "closes":
                transport.peer.close()
            case "is seen to close":
                connection.eof_received()
            case "aborts":
                transport.abort()
                await asyncio.sleep(0)
        assert take(pool) is None
        await pool.close()

    run(scenario())


def test_what_arrives_on_an_idle_connection_ends_it() -> None:
    """Nobody asked for it."""

    async def scenario() -> None:
        pool = Pool()
        connection, transport = opened(pool)
        pool.idle(connection)
        arrives(connection, b"HTTP/1.1 408 Request Timeout\r\n\r\n")
        assert transport.is_aborted
        await pool.close()

    run(scenario())


def test_closing_waits_until_every_connection_is_gone() -> None:
    """Those in use, too; none can be opened or kept afterwards."""

    async def scenario() -> None:
        pool = Pool()
        transports = [opened(pool)[1] for _ in range(3)]
        busy, _ = opened(pool)
        pool.idle(transports[0].protocol)
        await pool.close()
        assert [each.mine.fileno() for each in transports] == [-1, -1, -1]
        late, transport = opened(pool)
        pool.idle(busy)
        assert (take(pool), transport.is_aborted) == (None, True)
        await asyncio.sleep(0)
        del late

    run(scenario())
