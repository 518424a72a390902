"""One connection of the imitated host's proxy."""

import asyncio
import socket
import struct

from local.functions.proxy.stream import Stream


async def test_a_connection_that_was_reset_a_moment_ago_is_finished_without_an_error() -> None:
    """The loop has not said so yet: to send FIN fails in the system, and nobody is left to be told."""
    loop = asyncio.get_running_loop()
    connected: asyncio.Future[Stream] = loop.create_future()
    server = await loop.create_server(lambda: Stream(connected.set_result), "127.0.0.1", 0)
    async with server:
        peer = socket.create_connection(server.sockets[0].getsockname())
        stream = await connected
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()

        stream.finish()

        stream.drop()
        await asyncio.wait_for(stream.gone.wait(), 5)
