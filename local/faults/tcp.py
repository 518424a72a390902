"""The fault proxy of any TCP protocol, in front of one address, with rules that can change."""

import asyncio
from contextlib import suppress
from dataclasses import asdict

from local.faults.link import PIECE_BYTES, Link, LinkEnded, Live, Side, Traffic, Way
from local.faults.rules import NO_RULES, Ending, Rules

LOOPBACK = "127.0.0.1"


class FaultProxy:
    """Forwards a loopback port to a target. One event loop owns it."""

    def __init__(self, target_host: str, target_port: int) -> None:
        self.traffic = Traffic()
        self.target = target_host, target_port
        self._live = Live()
        self._server: asyncio.Server | None = None
        self._port = 0
        self._links: dict[Link, asyncio.Task[None]] = {}

    async def start(self, port: int = 0) -> int:
        """Listen on a loopback port (0: a free one) and return it. Raises OSError."""
        self._server = await asyncio.start_server(self._accept, LOOPBACK, port)
        self._port = self._server.sockets[0].getsockname()[1]
        return self._port

    async def stop(self) -> None:
        """Stop listening and drop all connections; a second call does nothing."""
        await self._refuse()

    async def put(self, rules: Rules) -> None:
        """Apply these rules from now on, also to open connections."""
        self._live.put(rules)
        if rules.refuse:
            await self._refuse()
        elif self._server is None:
            await self.start(self._port)

    async def clear(self) -> None:
        """Remove all faults."""
        await self.put(NO_RULES)

    def stats(self) -> dict[str, int]:
        """Traffic since the start, and the number of open connections."""
        return {**asdict(self.traffic), "open": len(self._links)}

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = Link(self._live, self.traffic, Side(reader, writer))
        task = asyncio.current_task()
        assert task is not None
        self._links[link] = task
        self.traffic.connections += 1
        try:
            await self._serve(link)
            link.end(Ending.CLOSE)
        except LinkEnded:
            pass  # both sides have ended already
        except OSError:
            link.end(Ending.RESET)
        finally:
            await link.drop()
            del self._links[link]

    async def _serve(self, link: Link) -> None:
        """Carry one connection to its end. Raises LinkEnded or OSError."""
        await self._live.moving.wait()
        if self._live.rules.blackhole:
            link.is_dead = True
            await _pump(link, Way.UP, link.caller)
        link.target = await Side.connect(*self.target)
        pumps = (
            asyncio.create_task(_pump(link, Way.UP, link.caller)),
            asyncio.create_task(_pump(link, Way.DOWN, link.target)),
        )
        try:
            await asyncio.gather(*pumps)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _refuse(self) -> None:
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        tasks = list(self._links.values())
        for link in list(self._links):
            link.end(Ending.RESET)
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task
        await server.wait_closed()


async def _pump(link: Link, way: Way, source: Side) -> None:
    while data := await source.reader.read(PIECE_BYTES):
        await link.forward(way, data)
    await link.finish(way)
