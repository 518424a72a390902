"""Sending a body that is still arriving, and the time that a backend has for its first byte."""

import asyncio
from collections.abc import AsyncIterator

from meter.adapters.upstream.answer import Answer
from meter.adapters.upstream.connection import Connection


class Patience:
    """Fails an answer whose head is not here in time; pauses while the caller is waited for.

    A slow caller must not look like a slow backend.
    """

    def __init__(self, answer: Answer, deadline: float, seconds: float) -> None:
        self._answer = answer
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = self._loop.call_at(deadline, self._run_out)

    def pause(self) -> None:
        """The caller's turn."""
        if self._timer is not None:
            self._timer.cancel()

    def restart(self) -> None:
        """The backend's turn, from the beginning."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = self._loop.call_later(self._seconds, self._run_out)

    def stop(self) -> None:
        """Nobody's turn: the head is here, or the call has ended."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _run_out(self) -> None:
        self._answer.fail(TimeoutError("no head in time"))


def start_sending(
    connection: Connection,
    parts: AsyncIterator[bytes],
    size: int | None,
    answer: Answer,
    patience: Patience,
) -> asyncio.Task[None]:
    """Send a body of so many bytes, or in chunks. If that fails, the answer does.

    An early answer does not end it: its reader may close it.
    """
    connection.is_request_out = False
    sending = asyncio.create_task(_send(connection, parts, size, patience))

    def end(task: asyncio.Task[None]) -> None:
        if task.cancelled():
            answer.fail(ConnectionAbortedError("the request was given up"))
        elif (error := task.exception()) is not None:
            answer.fail(error if isinstance(error, Exception) else RuntimeError(repr(error)))

    sending.add_done_callback(end)
    return sending


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
