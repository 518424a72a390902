"""Relays one streamed answer to the caller and meters it, whatever happens to either side.

| what happens                   | the caller sees                    | outcome      | usage              |
|--------------------------------|------------------------------------|--------------|--------------------|
| the stream ends                | all of it                          | served       | reported           |
| an error frame comes           | all of it                          | failed       | as far as reported |
| the backend's stream is cut    | an error frame, then a cut         | failed       | as far as known    |
| it takes longer than allowed   | an error frame, then a cut         | failed       | as far as known    |
| the caller leaves, drain       | nothing more                       | disconnected | reported           |
| the caller leaves, cancel      | nothing more                       | disconnected | estimated          |

The closing frame (of other answers the last byte) is held back until the usage event is safe, so a
caller that has seen the end of an answer knows that it is counted. In an answer that is no event
stream there is no place for comments and error frames: it is cut short of its length.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from meter.errors import AnswerCut, CallerGone, UpstreamBroken
from meter.gateway.answer.estimate import Estimator, PromptTexts
from meter.gateway.answer.follow import AnswerReader
from meter.gateway.answer.usage import Reading
from meter.gateway.http import CallerSink
from meter.ports import UpstreamAnswer
from meter.usage import NO_USAGE, Outcome, TokenUsage, UsageSource

KEEPALIVE_COMMENT = b": keep-alive\n\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamEnd:
    """How a stream ended and what it said of itself."""

    outcome: Outcome
    reading: Reading
    usage: TokenUsage
    usage_source: UsageSource


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayTimes:
    """How long things may take: one write, a silence before a comment, the answer as a whole."""

    write_seconds: float
    keepalive_seconds: float
    total_seconds: float


@dataclass(slots=True)
class Drains:
    """Bounds how many abandoned streams are read to their end at once, and for how long each."""

    most: int
    seconds: float
    running: int = 0


@dataclass(slots=True, kw_only=True)
class StreamRelay:
    """One streamed answer on its way. `finish` publishes its usage event and is awaited once.

    `is_usage_refused` says that the backend would not report usage, so that it is estimated.
    """

    chunks: AsyncIterator[bytes]
    answer: UpstreamAnswer
    reader: AnswerReader
    drains: Drains
    times: RelayTimes
    finish: Callable[[StreamEnd], Awaitable[None]]
    estimator: Estimator
    prompt: PromptTexts
    is_usage_refused: bool = False
    _is_caller_gone: bool = field(default=False)
    _writes: int = field(default=0)
    _finishing: asyncio.Future[None] | None = field(default=None)

    async def run(self, sink: CallerSink) -> None:
        """Relay to the end. Raises AnswerCut when the caller must not take the end for a clean one."""
        keeping_alive = asyncio.create_task(self._keep_alive(sink))
        is_whole = False
        try:
            async with asyncio.timeout(self.times.total_seconds):
                is_whole = await self._pump(sink)
        except TimeoutError:
            is_whole = self.reader.is_complete  # else it ends like a stream that the backend cut
        finally:
            keeping_alive.cancel()
            try:
                await self.answer.close()
            finally:
                await self._finish(Outcome.FAILED)
        if self._is_caller_gone or is_whole:
            return
        notice = self.reader.cut_notice()
        if not notice or await self._wrote(sink, notice):
            raise AnswerCut

    async def _keep_alive(self, sink: CallerSink) -> None:
        """Break long silences with comments, which clients skip: Azure cuts idle connections."""
        while not self._is_caller_gone:
            silence = self._writes
            await asyncio.sleep(self.times.keepalive_seconds)
            if silence == self._writes and self.reader.takes_comments:
                await self._wrote(sink, KEEPALIVE_COMMENT)

    async def _pump(self, sink: CallerSink) -> bool:
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
            # The usage may stand in a last frame that lacks its end; the caller does not get that
            # frame. After its closing frame a stream has nothing more to lose.
            is_whole = self.reader.is_complete
            self.reader.take_rest()
            return is_whole
        rest = self.reader.take_rest()
        await self._finish(self._ended())
        if rest:
            await self._wrote(sink, rest)
        return True

    async def _wrote(self, sink: CallerSink, data: bytes) -> bool:
        self._writes += 1
        if not self._is_caller_gone:
            try:
                async with asyncio.timeout(self.times.write_seconds):
                    await sink.write(data)
            except (CallerGone, TimeoutError):
                # One that does not read for so long is as good as gone.
                self._is_caller_gone = True
        return not self._is_caller_gone

    async def _drain(self) -> bool:
        """Read what is left for its usage; the caller has gone."""
        has_more = self.reader.tells_usage and not self.reader.is_complete
        if has_more and self.drains.running < self.drains.most:
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
            self._finishing = asyncio.ensure_future(self._settle(outcome))
        # Shielded: whoever ends this relay early must not take the usage event with it.
        await asyncio.shield(self._finishing)

    async def _settle(self, outcome: Outcome) -> None:
        reading = self.reader.reading
        usage, source = await self._usage(reading, outcome)
        await self.finish(
            StreamEnd(outcome=outcome, reading=reading, usage=usage, usage_source=source)
        )

    async def _usage(self, reading: Reading, outcome: Outcome) -> tuple[TokenUsage, UsageSource]:
        if (reported := reading.usage) is not None:
            return reported, UsageSource.REPORTED
        is_over = self.reader.is_complete or outcome is Outcome.SERVED
        is_silent = is_over and not self.is_usage_refused
        if is_silent or not self.reader.tells_usage:
            return NO_USAGE, UsageSource.MISSING
        estimated = await self.estimator.usage(self.prompt, self.reader.seen)
        if estimated is None:
            return NO_USAGE, UsageSource.MISSING
        return estimated, UsageSource.ESTIMATED
