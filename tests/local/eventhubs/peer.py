"""A client of the endpoint written frame by frame, for what no SDK can be made to send."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from local.eventhubs.codec import Described, Symbol, UByte, UInt, ULong, Value, decode, encode
from local.eventhubs.frames import AMQP_HEADER, FRAME_HEADER, SASL_HEADER, frame
from tests.local.eventhubs.test_harness import KEY, KEY_NAME, WAIT_SECONDS

ATTACH, FLOW, TRANSFER, DISPOSITION, DETACH, CLOSE = 0x12, 0x13, 0x14, 0x15, 0x16, 0x18


class Peer:
    """A client written frame by frame."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def open_unauthenticated(self) -> None:
        """Open the connection without SASL and begin session 0."""
        self.write(AMQP_HEADER)
        self.send(0x10, ["peer"])
        self.send(0x11, [None, UInt(0), UInt(1000), UInt(1000)])
        await self.header()

    async def open(self, *, max_frame_bytes: int = 65536, idle_timeout_ms: int = 0) -> None:
        """Authenticate with PLAIN, open the connection and begin session 0."""
        self.write(SASL_HEADER)
        response = f"\0{KEY_NAME}\0{KEY}".encode()
        body = encode(Described(ULong(0x41), [Symbol("PLAIN"), response]))
        self.write(FRAME_HEADER.pack(8 + len(body), 2, 1, 0) + body)
        self.write(AMQP_HEADER)
        self.send(0x10, ["peer", None, UInt(max_frame_bytes), None, UInt(idle_timeout_ms)])
        self.send(0x11, [None, UInt(0), UInt(1000), UInt(1000)])
        assert await self.header() == SASL_HEADER
        await self.receive()
        await self.receive()
        assert await self.header() == AMQP_HEADER
        codes = [(await self.receive())[0]]
        while codes[-1] != 0x11:
            codes.append((await self.receive())[0])

    def write(self, data: bytes) -> None:
        self._writer.write(data)

    def send(self, code: int, fields: list[Value], payload: bytes = b"") -> None:
        self.write(frame(0, encode(Described(ULong(code), fields)) + payload))

    def attach(
        self,
        handle: int,
        address: str,
        *,
        receives: bool,
        settle_mode: int | None = 2,
        selector: str | None = None,
    ) -> None:
        """Attach a link; `settle_mode` is the sender's, `selector` filters what is received."""
        node = Described(ULong(0x28), [address if receives else "peer"])
        filters: dict[Value, Value] = {
            Symbol("apache.org:selector-filter:string"): Described(ULong(0x137000000A), selector)
        }
        source = (
            node if selector is None else Described(ULong(0x28), [address, *[None] * 6, filters])
        )
        target = Described(ULong(0x29), ["peer" if receives else address])
        modes: list[Value] = [None if settle_mode is None else UByte(settle_mode), UByte(0)]
        self.send(ATTACH, [f"link-{handle}", UInt(handle), receives, *modes, source, target])

    def credit(self, handle: int, credit: int, *, count: int = 0, drain: bool = False) -> None:
        windows: list[Value] = [UInt(0), UInt(1000), UInt(0), UInt(1000)]
        link: list[Value] = [UInt(handle), UInt(count), UInt(credit), None, drain, False]
        self.send(FLOW, [*windows, *link])

    def transfer(
        self,
        payload: bytes,
        *,
        handle: int = 0,
        number: int = 0,
        settled: bool = False,
        more: bool = False,
    ) -> None:
        tag = number.to_bytes(4)
        fields: list[Value] = [UInt(handle), UInt(number), tag, UInt(0), settled, more]
        self.send(TRANSFER, fields, payload)

    async def receive(self) -> tuple[int, list[Any], bytes]:
        """Return the next frame's code, fields and payload; an empty frame has code 0."""
        async with asyncio.timeout(WAIT_SECONDS):
            size, offset, _, _ = FRAME_HEADER.unpack(await self._reader.readexactly(8))
            rest = await self._reader.readexactly(size - 8)
        body = rest[offset * 4 - 8 :]
        if not body:
            return 0, [], b""
        described, end = decode(body)
        assert isinstance(described, Described)
        assert isinstance(described.descriptor, int)
        assert isinstance(described.value, list)
        return described.descriptor, described.value, body[end:]

    async def next(self, code: int) -> tuple[list[Any], bytes]:
        """Return the next frame of this kind."""
        while True:
            received, fields, payload = await self.receive()
            if received == code:
                return fields, payload

    async def header(self) -> bytes:
        """Return a protocol header."""
        return await self._reader.readexactly(8)

    async def is_closed(self) -> bool:
        """Whether the endpoint closes the socket."""
        async with asyncio.timeout(WAIT_SECONDS):
            await self._reader.read()
        return self._reader.at_eof()


@asynccontextmanager
async def connect(port: int) -> AsyncIterator[Peer]:
    """Connect a peer, and close its socket at the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Peer(reader, writer)
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
