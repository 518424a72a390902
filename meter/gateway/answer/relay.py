"""Relays one streamed answer to the caller and meters it, whichever side fails.

| event                          | the caller sees                    | outcome      | usage              |
|--------------------------------|------------------------------------|--------------|--------------------|
| the stream ends                | all of it                          | served       | reported           |
| an error frame arrives         | all of it (a response also         | failed       | as far as reported |
|                                | `response.failed`), then a cut     |              |                    |
| the backend cuts the stream    | an error frame, then a cut         | failed       | as far as known    |
| it ends without closing frame  | an error frame, then a cut         | failed       | as far as known    |
| the total timeout expires      | an error frame, then a cut         | failed       | as far as known    |
| the caller leaves, drain       | nothing more                       | disconnected | reported           |
| the caller leaves, cancel      | nothing more                       | disconnected | estimated          |

The closing frame (of other answers the last byte) is held back until the usage event is safe, so a
caller that has received a complete answer knows that it is counted. An answer that is no event
stream has no place for comments and error frames: it is cut short of its length.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

from msgspec import Struct

from meter.errors import AnswerCut, UpstreamBroken
from meter.gateway.answer.begin import StreamedAnswer
from meter.gateway.answer.estimate import Estimator, PromptTexts
from meter.gateway.answer.follow import AnswerReader, ByteReader, StreamReader
from meter.gateway.answer.usage import NOTHING_READ, Reading, is_json
from meter.gateway.answer.writing import Recipient
from meter.gateway.detached import start_now
from meter.gateway.headers import header
from meter.gateway.http import CallerSink
from meter.gateway.limits.quota import Quota
from meter.gateway.stream_failure import StreamFailure
from meter.usage import NO_USAGE, Outcome, TokenUsage, UsageSource
from meter.waiting.bounded import within
from meter.waiting.bypass import Bypass
from meter.waiting.waking import result_of

KEEPALIVE_COMMENT = b": keep-alive\n\n"


class Ending(Struct, frozen=True, kw_only=True, gc=False):
    """How a call ended and what its answer reported. `status` is None where the backend's status applies."""

    outcome: Outcome
    reading: Reading = NOTHING_READ
    usage: TokenUsage = NO_USAGE
    usage_source: UsageSource = UsageSource.MISSING
    status: int | None = None

    @classmethod
    def of_whole(cls, reading: Reading, *, has_failed: bool = False) -> "Ending":
        """The ending of a call whose answer was buffered whole; with `has_failed` a 200 with an error."""
        usage = reading.usage
        source = UsageSource.MISSING if usage is None else UsageSource.REPORTED
        outcome, usage = Outcome.FAILED if has_failed else Outcome.SERVED, usage or NO_USAGE
        return cls(outcome=outcome, reading=reading, usage=usage, usage_source=source)

    def free(self) -> "Ending":
        """The same ending of a call that costs nothing."""
        return Ending(
            outcome=self.outcome,
            reading=Reading(model=self.reading.model),
            usage_source=UsageSource.REPORTED,
            status=self.status,
        )


class RelayTimes(Struct, frozen=True, kw_only=True):
    """Limits in seconds: one write, a silence before a keep-alive comment, the whole call."""

    write_seconds: float
    keepalive_seconds: float
    total_seconds: float


class DrainLimits(Struct, frozen=True, kw_only=True):
    """Bounds on draining, which reads a stream to its end after its caller left: how many, how long."""

    most: int
    seconds: float
    share_percent: int = 100


@dataclass(slots=True)
class Drains:
    """The drains of one instance, of which each subject may have a share."""

    limits: DrainLimits
    quota: Quota = field(init=False)

    def __post_init__(self) -> None:
        self.quota = Quota(self.limits.most, self.limits.share_percent)

    def limit(self, limits: DrainLimits) -> None:
        """Apply other bounds to the drains that begin from now on."""
        self.limits = limits
        self.quota.resize(limits.most, limits.share_percent)

    @property
    def running(self) -> int:
        """How many there are."""
        return self.quota.used


class Relays(Struct, kw_only=True):
    """Makes the relays of one instance, with the bounds that they share."""

    times: RelayTimes
    drains: Drains
    estimator: Estimator
    max_frame_bytes: int

    def relay(
        self,
        answer: StreamedAnswer,
        *,
        deadline: float,
        end: Callable[[Ending], Awaitable[None]],
        prompt: PromptTexts,
        is_text: bool,
        subject: str,
        failure: StreamFailure,
    ) -> "StreamRelay":
        """The relay of one answer."""
        return StreamRelay(
            chunks=answer.chunks,
            bypass=answer.bypass,
            close=answer.holds.close,
            reader=self._reader(answer, failure),
            shared=self,
            deadline=deadline,
            end=end,
            prompt=prompt,
            subject=subject,
            is_estimable=is_text or answer.is_usage_refused,
        )

    def _reader(self, answer: StreamedAnswer, failure: StreamFailure) -> AnswerReader:
        if answer.is_events:
            return StreamReader(
                hides_usage=answer.asked_for_usage,
                max_frame_bytes=self.max_frame_bytes,
                failure=failure,
            )
        return ByteReader(reports_usage=is_json(header(answer.headers, "content-type")))


@dataclass(slots=True, kw_only=True)
class StreamRelay:
    """One streamed answer. `end` ends its call, with its usage event, and is awaited once.

    Chunks that the pump would only pass on take the `bypass`. `close` closes the backend's answer.
    `subject` may have its share of the drains. With `is_estimable` it is text made from text, so that
    its usage is estimated also where it ended without reporting any.
    """

    chunks: AsyncIterator[bytes]
    close: Callable[[], Awaitable[None]]
    reader: AnswerReader
    shared: Relays
    deadline: float
    end: Callable[[Ending], Awaitable[None]]
    prompt: PromptTexts
    subject: str = ""
    is_estimable: bool = False
    bypass: Bypass = field(default_factory=Bypass)
    _unsent: bytes = field(default=b"")  # whole events before an end that came too early
    _finishing: asyncio.Task[None] | None = field(default=None)

    async def run(self, sink: CallerSink) -> None:
        """Relay to the end. Raises AnswerCut when the connection must be broken off."""
        caller = Recipient(sink, self.shared.times.write_seconds)
        if isinstance(self.reader, StreamReader):
            self.bypass.taker = _taker(self.reader, caller)
        left = self.deadline - asyncio.get_running_loop().time()
        is_whole = False
        try:
            pumping = self._pump(caller)
            is_whole = await within(left, pumping, beside=partial(self._keep_alive, caller))
        except TimeoutError:
            # An incomplete stream ends like one that the backend cut.
            is_whole = self.reader.is_complete
        finally:
            try:
                await self.close()
            finally:
                await self._finish(self._ended() if is_whole else Outcome.FAILED)
        if is_whole and (held := self.reader.take_held()):
            await caller.write(held)
        if caller.is_gone or (is_whole and not self.reader.is_broken):
            return
        # An error before a clean end is silent in some SDKs.
        notice = self._unsent + self.reader.cut_notice()
        if not notice or await caller.write(notice):
            raise AnswerCut

    async def _keep_alive(self, caller: Recipient) -> None:
        """Break long silences with comments, which clients skip: Azure cuts idle connections."""
        while not caller.is_gone:
            silence = caller.writes
            await asyncio.sleep(self.shared.times.keepalive_seconds)
            if silence == caller.writes and self.reader.takes_comments:
                await caller.write(KEEPALIVE_COMMENT)

    async def _pump(self, caller: Recipient) -> bool:
        """Move the stream; False when the backend cut it."""
        try:
            async for chunk in self.chunks:
                relayed = self.reader.feed(chunk)
                if self.reader.is_over:
                    if relayed:
                        await caller.write(relayed)
                    await self._finish(self._ended())
                    relayed = self.reader.take_held()
                if relayed and not await caller.write(relayed):
                    return await self._drain()
        except UpstreamBroken:
            # The usage may be in an unfinished last frame, which the caller does not get. After its
            # closing frame a stream has nothing more to lose.
            if self.reader.is_complete:
                return True
            self.reader.drop_rest()
            return False
        rest = self.reader.take_rest()
        if self.reader.is_cut_short:
            self._unsent = rest
            return False
        await self._finish(self._ended())
        if rest:
            await caller.write(rest)
        return True

    async def _drain(self) -> bool:
        """Read the rest for its usage; the caller has gone."""
        drains = self.shared.drains
        drain = drains.quota.holding(self.subject)
        has_more = self.reader.reports_usage and not self.reader.is_over
        if has_more and drain.grow(1) is None:
            try:
                async with asyncio.timeout(drains.limits.seconds):
                    async for chunk in self.chunks:
                        self.reader.feed(chunk)
                        if self.reader.is_over:
                            break
            except (TimeoutError, UpstreamBroken):
                pass  # what is known by now is counted
            finally:
                drain.give_back()
                self.reader.take_rest()
        await self._finish(Outcome.DISCONNECTED)
        return True

    def _ended(self) -> Outcome:
        return Outcome.FAILED if self.reader.has_error else Outcome.SERVED

    async def _finish(self, outcome: Outcome) -> None:
        if self._finishing is None:
            self._finishing = start_now(self._settle(outcome))
        # In a task: cancelling this relay must not cancel the usage event.
        await result_of(self._finishing)

    async def _settle(self, outcome: Outcome) -> None:
        reading = self.reader.reading
        usage, source = reading.usage, UsageSource.REPORTED
        if usage is None:
            usage, source = await self._estimated(outcome), UsageSource.ESTIMATED
        if usage is None:
            usage, source = NO_USAGE, UsageSource.MISSING
        await self.end(Ending(outcome=outcome, reading=reading, usage=usage, usage_source=source))

    async def _estimated(self, outcome: Outcome) -> TokenUsage | None:
        """The estimate of an answer that reports nothing: it was cut, or is text without usage.

        A backend that states an error before it says anything has refused the call.
        """
        reader = self.reader
        is_over = reader.is_complete or outcome is Outcome.SERVED
        is_refused = reader.has_error and reader.seen.is_empty
        if is_refused or not reader.reports_usage or (is_over and not self.is_estimable):
            return None
        return await self.shared.estimator.usage(self.prompt, self.reader.seen)


def _taker(reader: StreamReader, caller: Recipient) -> Callable[[bytes], bool]:
    """Takes the chunks that are plain and that the caller takes at once."""

    def take(chunk: bytes) -> bool:
        put = caller.sink.put
        if put is None or caller.is_gone or not reader.passes(chunk):
            return False
        caller.writes += 1
        put(chunk)
        return True

    return take
