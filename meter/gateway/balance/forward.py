"""Sends a call to one backend after another until one answers, or none is left to try.

A backend may be left as long as the caller has no byte: until the first frame of a stream, or the
whole of a body that is not a stream, is here. Nothing ever waits before the next try. What one
backend alone has stored is asked of each in turn, unless it is known who has it (`affinity.py`).
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from meter.errors import (
    CallerError,
    UpstreamBroken,
    UpstreamError,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from meter.gateway.answer.begin import Leased, StreamedAnswer, WholeAnswer, begin_answer
from meter.gateway.backend import Backend
from meter.gateway.balance.pool import Pool
from meter.gateway.balance.verdict import CREDENTIALS_BENCH_SECONDS, Fault, Left, judge
from meter.gateway.headers import upstream_headers
from meter.ports import (
    BackendCredentials,
    Clock,
    Headers,
    Upstream,
    UpstreamRequest,
)
from meter.usage import Attempt, Tier

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutgoingBody:
    """A request body for one backend; `length` where it is not known from the bytes."""

    content: bytes | Callable[[], AsyncIterator[bytes]]
    length: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A caller's request, verified and routed. `url_path` and `body` make it one backend's own.

    `load_key` names what circuits and load are kept for: a deployment, or an operation without one.
    `owner` is the backend to ask first and alone, unless `is_elsewhere` says of its answer, a
    status and a body, that it knows nothing of what is asked for. `caller_error` is why the
    caller's body could not be sent on, if so.
    """

    subject: str
    method: str
    candidates: Sequence[Backend]
    load_key: str
    headers: Headers
    url_path: Callable[[Backend], str]
    body: Callable[[Backend, bool], OutgoingBody]
    must_ask_for_usage: bool = False
    owner: str | None = None
    is_elsewhere: Callable[[int, bytes], bool] = lambda _status, _body: False
    caller_error: Callable[[], CallerError | None] = lambda: None


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


@dataclass(slots=True)
class _Elsewhere:
    """Every backend answered that what is asked for is not with it; the last one's answer."""

    answer: WholeAnswer


type _Outcome = WholeAnswer | StreamedAnswer | Left


@dataclass(slots=True)
class Forwarder:
    """Owns the order in which backends are tried."""

    pool: Pool
    upstream: Upstream
    credentials: BackendCredentials
    clock: Clock
    first_byte_timeout_seconds: float
    max_buffered_bytes: int

    async def forward(self, call: Call, tries: Tries) -> WholeAnswer | StreamedAnswer:
        """The first answer that is the caller's to have.

        Raises Overloaded when all candidates are benched or throttle, the caller's own error when
        its body breaks off, and a CallerError with 502, 503 or 504 when they fail otherwise.
        """
        if call.owner is None:
            tries.preferred_provisioned = preferred_provisioned(call.candidates)
        owners = [backend for backend in call.candidates if backend.name == call.owner]
        others = [backend for backend in call.candidates if backend.name != call.owner]
        elsewhere: _Elsewhere | None = None
        for group in (owners, others):
            if group:
                outcome = await self._forward_among(group, call, tries)
                if not isinstance(outcome, _Elsewhere):
                    return outcome
                elsewhere = outcome
        assert elsewhere is not None, "a call has at least one candidate"
        return elsewhere.answer

    async def _forward_among(
        self, group: list[Backend], call: Call, tries: Tries
    ) -> WholeAnswer | StreamedAnswer | _Elsewhere:
        tried: set[str] = set()
        elsewhere: list[WholeAnswer] = []
        while True:
            backend = self.pool.choose(
                group,
                call.load_key,
                tried=tried,
                now=self.clock.monotonic(),
                spares_throttled=tries.found_throttling or not tries.faults,
            )
            if backend is None and len(elsewhere) == len(group):
                return _Elsewhere(elsewhere[-1])
            if backend is None:
                # One that could not be asked may know what the others do not.
                known = {answer.backend.name for answer in elsewhere}
                rest = [backend for backend in group if backend.name not in known]
                raise self._give_up(rest, call.load_key, tries)
            tried.add(backend.name)
            answer = await self._try(call, backend, tries)
            if isinstance(answer, WholeAnswer) and call.is_elsewhere(answer.status, answer.body):
                elsewhere.append(answer)
                tries.preferred_provisioned = None  # what goes where it is stored has not spilled
            elif not isinstance(answer, Left):
                return answer

    async def _try(self, call: Call, backend: Backend, tries: Tries) -> _Outcome:
        started = self.clock.monotonic()
        tries.last_backend = backend
        outcome: _Outcome | None = None
        try:
            outcome = await self._ask(call, backend, tries)
        except UpstreamError as exc:
            tries.attempts.append(self._attempt(backend, None, started))
            if (error := call.caller_error()) is not None:
                raise error from exc  # the caller's side broke, and the backend's with it
            outcome = _left_by(exc)
        except asyncio.CancelledError:
            # Out of time as a whole: the event still says who was being asked.
            tries.attempts.append(self._attempt(backend, None, started))
            raise
        finally:
            if not isinstance(outcome, StreamedAnswer):
                self.pool.ended(backend, call.load_key)
        now = self.clock.monotonic()
        if isinstance(outcome, Left):
            tries.faults.append(outcome)
            self.pool.left(backend, call.load_key, outcome, started_at=started, now=now)
            _log_left(backend, outcome)
        else:
            self.pool.answered(backend, call.load_key, started_at=started, now=outcome.begun_at)
        return outcome

    async def _ask(self, call: Call, backend: Backend, tries: Tries) -> _Outcome:
        asks, started = call.must_ask_for_usage, self.clock.monotonic()
        outcome = await self._exchange(call, backend, asking_for_usage=asks)
        tries.attempts.append(self._attempt(backend, outcome.status, started))
        if asks and isinstance(outcome, WholeAnswer) and _refuses_stream_options(outcome):
            # Old api-versions and `data_sources` refuse the option that we added.
            started = self.clock.monotonic()
            outcome = await self._exchange(call, backend, asking_for_usage=False)
            tries.attempts.append(self._attempt(backend, outcome.status, started))
            if isinstance(outcome, StreamedAnswer):
                outcome = replace(outcome, is_usage_refused=True)
        return outcome

    def _attempt(self, backend: Backend, status: int | None, started: float) -> Attempt:
        milliseconds = round((self.clock.monotonic() - started) * 1000)
        return Attempt(backend=backend.name, status=status, duration_ms=milliseconds)

    async def _exchange(self, call: Call, backend: Backend, *, asking_for_usage: bool) -> _Outcome:
        credentials = await self.credentials.headers_for(backend.name)
        body = call.body(backend, asking_for_usage)
        length = () if body.length is None else (("content-length", str(body.length)),)
        request = UpstreamRequest(
            backend=backend.name,
            method=call.method,
            url=backend.url + call.url_path(backend),
            headers=(*upstream_headers(call.headers, call.subject, credentials), *length),
            body=body.content,
        )
        answer = await self.upstream.send(
            request, first_byte_timeout_seconds=self.first_byte_timeout_seconds
        )
        begun: _Outcome | None = None
        try:
            begun = judge(answer.status, answer.headers, self.clock.now())
            if begun is None:
                begun = await begin_answer(
                    backend,
                    Leased(answer, partial(self.pool.ended, backend, call.load_key)),
                    clock=self.clock,
                    max_buffered_bytes=self.max_buffered_bytes,
                )
        finally:
            if not isinstance(begun, StreamedAnswer):
                await answer.close()
        if isinstance(begun, StreamedAnswer):
            return replace(begun, asked_for_usage=asking_for_usage)
        return begun

    def _give_up(self, group: Sequence[Backend], load_key: str, tries: Tries) -> CallerError:
        faults = [left.fault for left in tries.faults]
        now = self.clock.monotonic()
        if not faults or self.pool.any_throttles(group, load_key, now=now):
            return self.pool.exhausted(group, load_key, now=now)
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
