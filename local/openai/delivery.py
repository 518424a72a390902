"""Writes an answer to its caller, complete or damaged by a fault."""

import asyncio
import socket
import struct
from collections.abc import Mapping
from typing import Protocol

from aiohttp import web

from local.openai.answers import Answer
from local.openai.faults import Fault

_FLUSH_STEP_SECONDS = 0.001
_FLUSH_STEPS = 2000


class Recorder(Protocol):
    """Records how the call ended; the last call of it counts."""

    def __call__(self, *, completed: bool) -> None: ...


async def deliver(
    request: web.Request,
    answer: Answer,
    fault: Fault,
    *,
    headers: Mapping[str, str],
    note: Recorder,
) -> web.StreamResponse:
    """Sends the answer and records its end before the last byte.

    A caller's disconnect cancels this coroutine or breaks its connection: recorded, then reraised.
    """
    try:
        await asyncio.sleep(fault.delay_ms / 1000)
        response = web.StreamResponse(status=answer.status, headers=headers)
        if not answer.is_stream:
            response.content_length = sum(len(piece) for piece in answer.pieces)
        await response.prepare(request)
        await _write(request, response, answer, fault, note=note)
    except (ConnectionError, asyncio.CancelledError):
        note(completed=False)
        raise
    return response


async def reset_connection(request: web.Request) -> None:
    """Ends the connection with a TCP reset, after the written bytes have left this process."""
    transport = request.transport
    if transport is not None:
        assert isinstance(transport, asyncio.Transport)
        for _ in range(_FLUSH_STEPS):
            if transport.get_write_buffer_size() == 0:
                break
            await asyncio.sleep(_FLUSH_STEP_SECONDS)
        # Lingering for zero seconds makes close() send RST instead of FIN.
        linger = struct.pack("ii", 1, 0)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        transport.abort()


async def _write(
    request: web.Request,
    response: web.StreamResponse,
    answer: Answer,
    fault: Fault,
    *,
    note: Recorder,
) -> None:
    pieces, is_cut = _damage(answer, fault)
    pause_seconds = fault.chunk_delay_ms / 1000 if answer.is_stream else 0
    for piece in pieces[:-1]:
        await response.write(piece)
        if pause_seconds or fault.split_bytes:
            await asyncio.sleep(pause_seconds)
    note(completed=not is_cut)
    if is_cut:
        await response.write(pieces[-1])
        await reset_connection(request)
    else:
        await response.write_eof(pieces[-1])


def _damage(answer: Answer, fault: Fault) -> tuple[list[bytes], bool]:
    pieces = list(answer.pieces) or [b""]
    if fault.split_bytes:
        whole = b"".join(pieces)
        size = fault.split_bytes
        pieces = [whole[start : start + size] for start in range(0, len(whole), size)] or [b""]
    limit = fault.cut_after_bytes
    if limit is None or limit >= sum(len(piece) for piece in pieces):
        return pieces, False
    kept: list[bytes] = []
    for piece in pieces:
        kept.append(piece[:limit])
        limit -= len(kept[-1])
        if limit == 0:
            break
    return kept, True
