"""Opening connections: the name's addresses, the first that answers, and TLS.

A name is looked up in a thread of which there are few, so that one lookup serves all who want the
name, and is kept for some seconds. Where a name has several addresses they are tried a quarter of a
second apart, IPv6 and IPv4 in turn, and the first that connects wins (RFC 8305).
"""

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterable, Sequence
from functools import cache, cached_property
from itertools import chain, zip_longest

from meter.adapters.upstream.connection import Connection, Keeper
from meter.adapters.upstream.request import Address

LOOKUP_SECONDS = 10.0
NEXT_ADDRESS_SECONDS = 0.25
# Azure's load balancers forget a connection that is silent for four minutes, and a reasoning model
# may think for longer.
PROBE_AFTER_SECONDS = 60

type Info = tuple[
    int, int, int, str, tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]
]


@cache
def verifying_context() -> ssl.SSLContext:
    """TLS as for any public server: certificate and name are verified; HTTP/1.1 alone is offered.

    All clients share it: to load the certificates takes 20 ms.
    """
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


class Dialer:
    """Opens connections. Must be closed."""

    def __init__(self, keeper: Keeper, make_context: Callable[[], ssl.SSLContext]) -> None:
        self._keeper = keeper
        self._make_context = make_context
        self._addresses = _Addresses()

    async def dial(self, address: Address) -> Connection:
        """An open connection. Raises OSError, and ValueError for a name that is none."""
        context = self._context if address.is_tls else None
        infos = await self._addresses.of(address.host, address.port)
        try:
            connected = await _first_connected(infos)
        except OSError:
            self._addresses.forget(address.host, address.port)
            raise
        connection = Connection(address, self._keeper)
        try:
            await asyncio.get_running_loop().create_connection(
                lambda: connection,
                sock=connected,
                ssl=context,
                server_hostname=address.host.rstrip(".") if context is not None else None,
            )
        except BaseException:
            # Cancelled right after the handshake, asyncio would wait for the other side's farewell.
            connection.drop()
            raise
        return connection

    def close(self) -> None:
        """Give up lookups under way."""
        self._addresses.close()

    @cached_property
    def _context(self) -> ssl.SSLContext:
        return self._make_context()


class _Addresses:
    """What names lead to, for a while."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], tuple[float, Sequence[Info]]] = {}
        self._lookups: dict[tuple[str, int], asyncio.Task[Sequence[Info]]] = {}

    async def of(self, host: str, port: int) -> Sequence[Info]:
        key = (host, port)
        until, infos = self._known.get(key, (0.0, ()))
        if asyncio.get_running_loop().time() < until:
            return infos
        lookup = self._lookups.get(key)
        if lookup is None:
            lookup = self._lookups[key] = asyncio.create_task(self._look_up(key))
            lookup.add_done_callback(lambda _: self._lookups.pop(key, None))
        # One who leaves must not take the others' lookup along.
        return await asyncio.shield(lookup)

    def forget(self, host: str, port: int) -> None:
        self._known.pop((host, port), None)

    def close(self) -> None:
        for lookup in self._lookups.values():
            lookup.cancel()

    async def _look_up(self, key: tuple[str, int]) -> Sequence[Info]:
        loop = asyncio.get_running_loop()
        infos = await loop.getaddrinfo(*key, type=socket.SOCK_STREAM)
        if not infos:
            raise OSError(f"{key[0]} has no address")
        self._known[key] = loop.time() + LOOKUP_SECONDS, tuple(_interleaved(infos))
        return self._known[key][1]


def _interleaved(infos: Sequence[Info]) -> Iterable[Info]:
    """The families in turn, beginning with the system's first choice (RFC 8305 section 4)."""
    first = [info for info in infos if info[0] == infos[0][0]]
    others = [info for info in infos if info[0] != infos[0][0]]
    return filter(None, chain.from_iterable(zip_longest(first, others)))


async def _first_connected(infos: Sequence[Info]) -> socket.socket:
    """A socket that is connected to one of the addresses. Raises OSError."""
    if len(infos) == 1:
        return await _connected(infos[0])
    waiting = iter(infos)
    attempts: set[asyncio.Task[socket.socket]] = set()
    errors: list[BaseException] = []
    try:
        while True:
            info = next(waiting, None)
            if info is not None:
                attempts.add(asyncio.create_task(_connected(info)))
            elif not attempts:
                raise OSError("; ".join(map(str, errors))) from errors[-1]
            seconds = None if info is None else NEXT_ADDRESS_SECONDS
            done, _ = await asyncio.wait(
                attempts, timeout=seconds, return_when=asyncio.FIRST_COMPLETED
            )
            for attempt in done:
                attempts.discard(attempt)
                if (error := attempt.exception()) is None:
                    attempts |= done - {attempt}
                    return attempt.result()
                errors.append(error)
    finally:
        for attempt in attempts:
            attempt.cancel()
            attempt.add_done_callback(_close_unused)


def _close_unused(attempt: asyncio.Task[socket.socket]) -> None:
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().close()


async def _connected(info: Info) -> socket.socket:
    family, kind, protocol, _, target = info
    made = socket.socket(family, kind, protocol)
    try:
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_KEEPIDLE"):
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, PROBE_AFTER_SECONDS)
        await asyncio.get_running_loop().sock_connect(made, target)
    except BaseException:
        made.close()
        raise
    return made
