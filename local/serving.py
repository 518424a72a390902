"""Serves until SIGTERM or Ctrl-C, as every process of the stack does."""

import asyncio
import signal
from typing import Protocol


class Server(Protocol):
    """Something that listens on a loopback port."""

    async def start(self, port: int) -> int:
        """Listen; a free port for 0. Returns the port."""
        ...

    async def stop(self) -> None:
        """Close everything."""
        ...


def stop_asked() -> asyncio.Event:
    """An event that SIGTERM and Ctrl-C set from now on."""
    asked = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, asked.set)
    return asked


async def serve(server: Server, port: int) -> None:
    """Serve until it is asked to stop; prints `ready PORT` when it takes calls."""
    asked = stop_asked()
    print(f"ready {await server.start(port)}", flush=True)
    try:
        await asked.wait()
    finally:
        await server.stop()
