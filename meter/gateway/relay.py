"""Relays one event stream to the caller and meters it on the way, whatever happens to either side.

| what happens                   | the caller sees                    | outcome      | usage              |
|--------------------------------|------------------------------------|--------------|--------------------|
| the stream ends                | all of it                          | served       | reported           |
| an error frame comes           | all of it                          | failed       | as far as reported |
| the backend's stream is cut    | an error frame, then a cut         | failed       | as far as known    |
| it takes longer than allowed   | an error frame, then a cut         | failed       | as far as known    |
| the caller leaves, drain       | nothing more                       | disconnected | reported           |
| the caller leaves, cancel      | nothing more                       | disconnected | estimated          |

The closing frame is held back until the usage event is safe, so a caller that has seen the end
of an answer knows that it is counted.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from meter.errors import UpstreamBroken
from meter.gateway.extract import Reading, StreamReader
from meter.ports import UpstreamAnswer
from meter.usage import NO_USAGE, Outcome, TokenUsage, UsageSource

KEEPALIVE_COMMENT = b": keep-alive\n\n"


class CallerGone(Exception):
    """The caller closed its connection."""


class AnswerCut(Exception):
    """The connection must be broken off, so that the answer is not taken for a whole one."""


class Sink(Protocol):
    """Where a stream's bytes go."""

    async def write(self, data: bytes) -> None:
        """Send bytes to the caller. Raises CallerGone."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamEnd:
    """How a stream ended and what it said of itself."""

    outcome: Outcome
    reading: Reading
    usage: TokenUsage
    usage_source: UsageSource


@dataclass(slots=True)
class Drains:
    """Bounds how many abandoned streams are read to their end at once, and for how long each."""

    most: int
    seconds: float
    running: int = 0


@dataclass(slots=True, kw_only=True)
class StreamRelay:
    """One stream on its way. `finish` publishes its usage event; it is awaited exactly once."""

    chunks: AsyncIterator[bytes]
    answer: UpstreamAnswer
    reader: StreamReader
    drains: Drains
    write_timeout_seconds: float
    keepalive_seconds: float
    total_timeout_seconds: float
    finish: Callable[[StreamEnd], Awaitable[None]]
    _is_caller_gone: bool = field(default=False)
    _writes: int = field(default=0)
    _finishing: asyncio.Future[None] | None = field(default=None)

    async def run(self, sink: Sink) -> None:
        """Relay to the end. Raises AnswerCut when the caller must not take the end for a clean one."""
        keeping_alive = asyncio.create_task(self._keep_alive(sink))
        is_whole = False
        try:
            async with asyncio.timeout(self.total_timeout_seconds):
                is_whole = await self._pump(sink)
        except TimeoutError:
            pass  # it ends like a stream that the backend cut
        finally:
            keeping_alive.cancel()
            await self.answer.close()
            await self._finish(Outcome.FAILED)
        if self._is_caller_gone or is_whole:
            return
        # The frame that was cut is left out: a parser would take it and ours for one.
        end_of_frame = b"\n\n" if self.reader.is_inside_frame else b""
        if await self._wrote(sink, end_of_frame + _ERROR_FRAME):
            raise AnswerCut

    async def _keep_alive(self, sink: Sink) -> None:
        """Break long silences with comments, which clients skip: Azure cuts idle connections."""
        while not self._is_caller_gone:
            silence = self._writes
            await asyncio.sleep(self.keepalive_seconds)
            if silence == self._writes and not self.reader.is_inside_frame:
                await self._wrote(sink, KEEPALIVE_COMMENT)

    async def _pump(self, sink: Sink) -> bool:
        """Move the stream; False when the backend cut it."""
        try:
            async for chunk in self.chunks:
                relayed = self.reader.feed(chunk)
                if self.reader.is_complete:
                    if relayed:
                        await self._wrote(sink, relayed)
                    await self._finish(self._ended())
                    relayed = self.reader.take_held()
                if relayed and not await self._wrote(sink, relayed):
                    return await self._drain()
        except UpstreamBroken:
            # The usage may stand in a last frame that lacks its end. After its closing frame a
            # stream has nothing more to lose.
            self.reader.take_rest()
            return self.reader.is_complete
        rest = self.reader.take_rest()
        await self._finish(self._ended())
        if rest:
            await self._wrote(sink, rest)
        return True

    async def _wrote(self, sink: Sink, data: bytes) -> bool:
        self._writes += 1
        if not self._is_caller_gone:
            try:
                async with asyncio.timeout(self.write_timeout_seconds):
                    await sink.write(data)
            except (CallerGone, TimeoutError):
                # One that does not read for so long is as good as gone.
                self._is_caller_gone = True
        return not self._is_caller_gone

    async def _drain(self) -> bool:
        """Read what is left for its usage; the caller has gone."""
        if not self.reader.is_complete and self.drains.running < self.drains.most:
            self.drains.running += 1
            try:
                async with asyncio.timeout(self.drains.seconds):
                    async for chunk in self.chunks:
                        self.reader.feed(chunk)
                        if self.reader.is_complete:
                            break
            except (TimeoutError, UpstreamBroken):
                pass  # what is known by now is what is counted
            finally:
                self.drains.running -= 1
                self.reader.take_rest()
        await self._finish(Outcome.DISCONNECTED)
        return True

    def _ended(self) -> Outcome:
        return Outcome.FAILED if self.reader.has_error else Outcome.SERVED

    async def _finish(self, outcome: Outcome) -> None:
        if self._finishing is None:
            usage, source = self._usage()
            end = StreamEnd(
                outcome=outcome, reading=self.reader.reading, usage=usage, usage_source=source
            )
            self._finishing = asyncio.ensure_future(self.finish(end))
        # Shielded: whoever ends this relay early must not take the usage event with it.
        await asyncio.shield(self._finishing)

    def _usage(self) -> tuple[TokenUsage, UsageSource]:
        usage = self.reader.reading.usage
        if usage is not None:
            return usage, UsageSource.REPORTED
        if self.reader.is_complete or not self.reader.content_frames:
            return NO_USAGE, UsageSource.MISSING
        # Azure sends about one token a frame; the prompt's tokens stay unknown.
        seen = self.reader.content_frames
        return TokenUsage(completion_tokens=seen, total_tokens=seen), UsageSource.ESTIMATED


_ERROR_FRAME = (
    b"data: %s\n\n"
    % json.dumps(
        {
            "error": {
                "message": "The backend broke off this answer before its end.",
                "type": "server_error",
                "param": None,
                "code": "upstream_cut",
            }
        }
    ).encode()
)
