"""Serves until SIGTERM or Ctrl-C; shared by the processes of the stack."""

import asyncio
import signal
from typing import Protocol


class Server(Protocol):
    """A server on a loopback port."""

    async def start(self, port: int) -> int:
        """Listen (0: on a free port) and return the port."""
        ...

    async def stop(self) -> None:
        """Close everything."""
        ...


def stop_asked() -> asyncio.Event:
    """An event that SIGTERM and Ctrl-C set."""
    asked = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, asked.set)
    return asked


async def serve(server: Server, port: int) -> None:
    """Serve until SIGTERM or Ctrl-C; prints `ready PORT` when it takes calls."""
    asked = stop_asked()
    print(f"ready {await server.start(port)}", flush=True)
    try:
        await asked.wait()
    finally:
        await server.stop()
