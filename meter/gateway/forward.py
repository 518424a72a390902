"""Sends a call to one backend after another until one answers, or none is left to try.

A backend may be left as long as the caller has no byte: until the first frame of a stream, or the
whole of a body that is not a stream, is here. Nothing ever waits before the next try.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from meter.errors import (
    CallerError,
    UpstreamBroken,
    UpstreamError,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from meter.gateway.backend import Backend
from meter.gateway.headers import header, upstream_headers
from meter.gateway.pool import Pool
from meter.gateway.retry import CREDENTIALS_BENCH_SECONDS, Fault, Left, judge
from meter.gateway.route import Operation
from meter.gateway.sse import has_whole_frame
from meter.ports import (
    BackendCredentials,
    Clock,
    Headers,
    Upstream,
    UpstreamAnswer,
    UpstreamRequest,
)
from meter.usage import Attempt, Tier

MAX_FIRST_FRAME_BYTES = 65_536

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A caller's request, verified and routed. `url_path` and `body` make it one backend's own."""

    subject: str
    method: str
    deployment: str
    operation: Operation
    headers: Headers
    url_path: Callable[[Backend], str]
    body: Callable[[Backend, bool], bytes]
    must_ask_for_usage: bool


@dataclass(slots=True)
class Tries:
    """What has been tried for one call, kept also when the call fails."""

    attempts: list[Attempt] = field(default_factory=list)
    last_backend: Backend | None = None
    preferred_provisioned: Backend | None = None
    faults: list[Left] = field(default_factory=list)

    @property
    def found_throttling(self) -> bool:
        """Whether a backend answered this very call that it has no capacity."""
        return any(left.fault is Fault.THROTTLED for left in self.faults)


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeAnswer:
    """A backend's answer that is here in full."""

    backend: Backend
    status: int
    headers: Headers
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamedAnswer:
    """A backend's event stream whose first frame is here; `chunks` starts with it."""

    backend: Backend
    status: int
    headers: Headers
    chunks: AsyncIterator[bytes]
    answer: UpstreamAnswer
    asked_for_usage: bool


@dataclass(slots=True)
class _Leased:
    """An answer that hands its backend back when it is closed."""

    answer: UpstreamAnswer
    hand_back: Callable[[], None]

    @property
    def status(self) -> int:
        return self.answer.status

    @property
    def headers(self) -> Headers:
        return self.answer.headers

    def chunks(self) -> AsyncIterator[bytes]:
        return self.answer.chunks()

    async def close(self) -> None:
        self.hand_back()
        await self.answer.close()


@dataclass(slots=True)
class Forwarder:
    """Owns the order in which backends are tried."""

    pool: Pool
    upstream: Upstream
    credentials: BackendCredentials
    clock: Clock
    first_byte_timeout_seconds: float

    async def forward(self, call: Call, tries: Tries) -> WholeAnswer | StreamedAnswer:
        """The first answer that is the caller's to have.

        Raises NotServed when no backend serves the deployment, Overloaded when all that do are
        benched or throttle, and a CallerError with 502, 503 or 504 when they fail otherwise.
        """
        serving = self.pool.serving(call.deployment)
        tries.preferred_provisioned = preferred_provisioned(serving)
        tried: set[str] = set()
        while True:
            now = self.clock.monotonic()
            backend = self.pool.choose(
                serving,
                call.deployment,
                tried=tried,
                now=now,
                spares_throttled=tries.found_throttling or not tries.faults,
            )
            if backend is None:
                raise self._give_up(serving, call.deployment, tries)
            tried.add(backend.name)
            answer = await self._try(call, backend, tries)
            if not isinstance(answer, Left):
                return answer

    async def _try(
        self, call: Call, backend: Backend, tries: Tries
    ) -> WholeAnswer | StreamedAnswer | Left:
        started = self.clock.monotonic()
        tries.last_backend = backend
        status: int | None = None
        outcome: WholeAnswer | StreamedAnswer | Left | None = None
        try:
            asks = call.must_ask_for_usage
            outcome = await self._exchange(call, backend, asking_for_usage=asks)
            if asks and isinstance(outcome, WholeAnswer) and _refuses_stream_options(outcome):
                # Old api-versions and `data_sources` refuse the option that we added.
                outcome = await self._exchange(call, backend, asking_for_usage=False)
            status = outcome.status
        except UpstreamError as exc:
            outcome = _left_by(exc)
        except asyncio.CancelledError:
            # Out of time as a whole: the event still says who was being asked.
            tries.attempts.append(self._attempt(backend, None, started))
            raise
        finally:
            if not isinstance(outcome, StreamedAnswer):
                self.pool.ended(backend, call.deployment)
        tries.attempts.append(self._attempt(backend, status, started))
        now = self.clock.monotonic()
        if isinstance(outcome, Left):
            tries.faults.append(outcome)
            self.pool.left(backend, call.deployment, outcome, started_at=started, now=now)
            _log_left(backend, outcome)
        else:
            self.pool.answered(backend, call.deployment, started_at=started, now=now)
        return outcome

    def _attempt(self, backend: Backend, status: int | None, started: float) -> Attempt:
        milliseconds = round((self.clock.monotonic() - started) * 1000)
        return Attempt(backend=backend.name, status=status, duration_ms=milliseconds)

    async def _exchange(
        self, call: Call, backend: Backend, *, asking_for_usage: bool
    ) -> WholeAnswer | StreamedAnswer | Left:
        credentials = await self.credentials.headers_for(backend.name)
        request = UpstreamRequest(
            backend=backend.name,
            method=call.method,
            url=backend.url + call.url_path(backend),
            headers=upstream_headers(call.headers, call.subject, credentials),
            body=call.body(backend, asking_for_usage),
        )
        answer = await self.upstream.send(
            request, first_byte_timeout_seconds=self.first_byte_timeout_seconds
        )
        is_handed_on = False
        try:
            left = judge(answer.status, answer.headers, self.clock.now())
            if left is not None:
                return left
            if not _is_event_stream(answer):
                return await _read_whole(backend, answer)
            chunks = answer.chunks()
            first = await _first_frame(chunks)
            if not first:
                raise UpstreamBroken(backend.name)  # a stream of nothing; the next may say more
            is_handed_on = True
        finally:
            if not is_handed_on:
                await answer.close()
        return StreamedAnswer(
            backend=backend,
            status=answer.status,
            headers=answer.headers,
            chunks=_chain(first, chunks),
            answer=_Leased(answer, partial(self.pool.ended, backend, call.deployment)),
            asked_for_usage=asking_for_usage,
        )

    def _give_up(self, serving: list[Backend], deployment: str, tries: Tries) -> CallerError:
        faults = [left.fault for left in tries.faults]
        now = self.clock.monotonic()
        if not faults or self.pool.any_throttles(serving, deployment, now=now):
            return self.pool.exhausted(serving, deployment, now=now)
        if faults[-1] is Fault.TIMEOUT:
            return CallerError("No backend answered in time.", status=504, code="GatewayTimeout")
        if tries.faults[-1].status in {503, 504}:
            status = tries.faults[-1].status
            code = "ServiceUnavailable" if status == 503 else "GatewayTimeout"
            return CallerError("No backend can serve this call now.", status=status, code=code)
        return CallerError("No backend could serve this call.", status=502, code="BadGateway")


def preferred_provisioned(serving: Sequence[Backend]) -> Backend | None:
    """The provisioned backend that calls should go to first: from it they spill over."""
    provisioned = [backend for backend in serving if backend.tier is Tier.PROVISIONED]
    return min(provisioned, key=lambda backend: backend.priority, default=None)


def _is_event_stream(answer: UpstreamAnswer) -> bool:
    kind = header(answer.headers, "content-type") or ""
    return answer.status == 200 and kind.lower().startswith("text/event-stream")


async def _read_whole(backend: Backend, answer: UpstreamAnswer) -> WholeAnswer:
    body = b"".join([chunk async for chunk in answer.chunks()])
    return WholeAnswer(backend=backend, status=answer.status, headers=answer.headers, body=body)


async def _first_frame(chunks: AsyncIterator[bytes]) -> bytes:
    """The stream's beginning up to a whole frame: what breaks before that has cost nothing."""
    beginning = b""
    async for chunk in chunks:
        beginning += chunk
        if has_whole_frame(beginning) or len(beginning) > MAX_FIRST_FRAME_BYTES:
            break
    return beginning


async def _chain(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for chunk in rest:
        yield chunk


def _refuses_stream_options(answer: WholeAnswer) -> bool:
    return answer.status == 400 and b"stream_options" in answer.body


def _left_by(exc: UpstreamError) -> Left:
    match exc:
        case UpstreamTimeout():
            return Left(Fault.TIMEOUT)
        case UpstreamUnreachable() | UpstreamBroken():
            return Left(Fault.UNREACHABLE)
        case _:
            return Left(Fault.CREDENTIALS, wait_seconds=CREDENTIALS_BENCH_SECONDS)


def _log_left(backend: Backend, left: Left) -> None:
    level = logging.ERROR if left.fault is Fault.CREDENTIALS else logging.WARNING
    log.log(
        level, "backend_left backend=%s fault=%s status=%s", backend.name, left.fault, left.status
    )
