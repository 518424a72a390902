"""Sending a body that is long or still arriving, and the time that a backend has for its first byte."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence

from msgspec import Struct

from meter.adapters.upstream.answer import Answer
from meter.adapters.upstream.connection import Connection
from meter.waiting.alarms import Alarms

PIECE_BYTES = 262_144  # a transport would copy, or encrypt, one large part at once
PIECES_AT_ONCE = 5
SHORT_BYTES = 16_384  # parts of that size are sent in one piece with what follows them


class Patience(Struct, eq=False):
    """Fails an answer whose head is not here in time; pauses while the caller is waited for.

    A slow caller must not look like a slow backend. `alarm` is that for the answer, set already.
    """

    answer: Answer
    alarms: Alarms
    alarm: int
    seconds: float
    _is_stopped: bool = False

    def pause(self) -> None:
        """The caller's turn."""
        self.alarms.clear(self.alarm)

    def restart(self) -> None:
        """The backend's turn, from the beginning."""
        if not self._is_stopped:
            self.alarms.clear(self.alarm)
            until = asyncio.get_running_loop().time() + self.seconds
            self.alarm = self.alarms.set(until, self.answer.run_out)

    def stop(self) -> None:
        """Nobody's turn: the head is here, or the call has ended."""
        self.alarms.clear(self.alarm)
        self._is_stopped = True


def in_pieces(parts: Sequence[bytes | memoryview]) -> Iterator[bytes | memoryview]:
    """The parts in pieces; only short ones, and the beginning of what follows them, are copied."""
    short: list[bytes | memoryview] = []
    for part in parts:
        if len(part) <= SHORT_BYTES:
            short.append(part)
            continue
        rest = memoryview(part)
        if short:
            yield b"".join([*short, rest[:SHORT_BYTES]])
            short, rest = [], rest[SHORT_BYTES:]
        for start in range(0, len(rest), PIECE_BYTES):
            yield rest[start : start + PIECE_BYTES]
    if short:
        yield b"".join(short)


def send_pieces(
    connection: Connection,
    pieces: Iterator[bytes | memoryview],
    answer: Answer,
    patience: Patience,
) -> asyncio.Task[None] | None:
    """Send a body that is in memory: at once what the other side takes at once, the rest in a task.

    Nearly all of them are taken at once: then they cost neither a task nor timers.
    """
    try:
        for number, piece in enumerate(pieces, 1):
            connection.put(piece)
            if number == PIECES_AT_ONCE or not connection.takes_more:
                return _start(connection, _send_rest(connection, pieces, patience), answer)
    except ConnectionResetError as exc:
        answer.fail(exc)
    return None


def start_sending(
    connection: Connection,
    parts: AsyncIterator[bytes],
    size: int | None,
    answer: Answer,
    patience: Patience,
) -> asyncio.Task[None]:
    """Send a body of so many bytes, or in chunks."""
    return _start(connection, _send(connection, parts, size, patience), answer)


async def _send(
    connection: Connection, parts: AsyncIterator[bytes], size: int | None, patience: Patience
) -> None:
    sent = 0
    patience.pause()
    try:
        async for part in parts:
            patience.restart()
            sent += len(part)
            if size is None:
                part = b"%x\r\n%b\r\n" % (len(part), part) if part else b""
            elif sent > size:
                raise ValueError(f"the body is longer than the {size} bytes declared")
            await connection.write(part)
            patience.pause()
    finally:
        patience.restart()
    if size is None:
        await connection.write(b"0\r\n\r\n")
    elif sent < size:
        # An end here would make a part of a body look like a whole one.
        raise ValueError(f"the body ended after {sent} of {size} bytes")
    connection.is_request_out = True


async def _send_rest(
    connection: Connection, pieces: Iterator[bytes | memoryview], patience: Patience
) -> None:
    await connection.taken()
    for piece in pieces:
        patience.restart()
        connection.put(piece)
        await connection.taken()
        await asyncio.sleep(0)  # other calls are served between two pieces
    patience.restart()
    connection.is_request_out = True


def _start(
    connection: Connection, sending_all: Coroutine[None, None, None], answer: Answer
) -> asyncio.Task[None]:
    """If the sending fails, the answer does. An early answer does not end it: its reader may close it."""
    connection.is_request_out = False
    sending = asyncio.create_task(sending_all)

    def end(task: asyncio.Task[None]) -> None:
        if task.cancelled():
            answer.fail(ConnectionAbortedError("the request was given up"))
        elif (error := task.exception()) is not None:
            answer.fail(error if isinstance(error, Exception) else RuntimeError(repr(error)))

    sending.add_done_callback(end)
    return sending
