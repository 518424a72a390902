"""Sends a call to one backend after another until one answers, or none is left to try.

A call fails over as long as the caller has no byte: until the first frame of a stream, or the whole
of a body that is not a stream, has arrived. Nothing ever waits before the next attempt. A stored
response is fetched from the backend that stores it; if that is unknown, each backend is tried
(`affinity.py`).
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol
from uuid import UUID

from meter.errors import (
    CallerError,
    UpstreamBroken,
    UpstreamError,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from meter.gateway.answer.begin import StreamedAnswer, WholeAnswer, begin_answer
from meter.gateway.backend import Backend
from meter.gateway.balance.demand import NO_DEMAND, Demand
from meter.gateway.balance.pool import Lease, Pool
from meter.gateway.balance.verdict import CREDENTIALS_COOLDOWN_SECONDS, Failover, Fault, judge
from meter.ports import BackendCredentials, Clock, Headers, Upstream, UpstreamRequest
from meter.usage import Attempt, Tier

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """The backends that may answer a call. `owner` names the one to try first, if any.

    `load_key` names what circuits and loads are kept for (`pool.py`), `demand` is what the call asks
    of its backend.
    """

    backends: Sequence[Backend]
    load_key: str
    demand: Demand = NO_DEMAND
    owner: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardLimits:
    """Bounds on one attempt: its wait for the first byte, and the answer that is buffered whole."""

    first_byte_timeout_seconds: float
    max_buffered_bytes: int


@dataclass(slots=True)
class Attempts:
    """What has been tried for one call; kept also when the call fails."""

    made: list[Attempt] = field(default_factory=list)
    failovers: list[Failover] = field(default_factory=list)
    last_backend: Backend | None = None
    preferred_provisioned: Backend | None = None


class Forwarded(Protocol):
    """What forwarding needs of a call (`gateway/call.py`)."""

    event_id: UUID
    candidates: Candidates
    attempts: Attempts

    @property
    def must_ask_for_usage(self) -> bool:
        """Whether the gateway adds the option that makes a stream report its usage."""

    @property
    def body_error(self) -> CallerError | None:
        """Why the caller's body could not be sent on, if so."""

    def request_for(
        self, backend: Backend, credentials: Headers, *, asks_for_usage: bool
    ) -> UpstreamRequest:
        """The request as one backend takes it."""

    def is_elsewhere(self, answer: WholeAnswer) -> bool:
        """Whether the answer says that this backend does not store what the call refers to."""


type Begun = WholeAnswer | StreamedAnswer


@dataclass(slots=True)
class Forwarder:
    """Decides the order in which backends are tried."""

    pool: Pool
    upstream: Upstream
    credentials: BackendCredentials
    clock: Clock
    limits: ForwardLimits

    async def forward(self, call: Forwarded) -> Begun:
        """The first answer that is the caller's to have.

        Raises Overloaded when all candidates are cooling down or throttle, the caller's own error
        when its body breaks off, and a CallerError with 502, 503 or 504 when they fail otherwise.
        """
        backends, owner = call.candidates.backends, call.candidates.owner
        if owner is None:
            # Calls should go there first: from it they spill over.
            provisioned = [each for each in backends if each.tier is Tier.PROVISIONED]
            call.attempts.preferred_provisioned = min(
                provisioned, key=lambda each: each.priority, default=None
            )
        owners = [backend for backend in backends if backend.name == owner]
        others = [backend for backend in backends if backend.name != owner]
        elsewhere: list[WholeAnswer] = []
        for group in filter(None, (owners, others)):
            answer = await self._forward_among(group, call, elsewhere)
            if answer is not None:
                return answer
        return elsewhere[-1]

    async def _forward_among(
        self, group: Sequence[Backend], call: Forwarded, elsewhere: list[WholeAnswer]
    ) -> Begun | None:
        """The answer of one of the group; None when none stores what the call refers to."""
        attempts, candidates = call.attempts, call.candidates
        tried: set[str] = set()
        while lease := self.pool.lease(group, candidates.load_key, candidates.demand, tried=tried):
            tried.add(lease.backend.name)
            answer = await self._try(call, lease)
            if isinstance(answer, WholeAnswer) and call.is_elsewhere(answer):
                elsewhere.append(answer)
                attempts.preferred_provisioned = None  # a call for its owner has not spilled over
            elif not isinstance(answer, Failover):
                return answer
        # A backend that could not be tried may store what the others do not.
        known = {answer.backend.name for answer in elsewhere}
        rest = [backend for backend in group if backend.name not in known]
        if rest:
            raise self._give_up(rest, candidates, attempts.failovers)
        return None

    async def _try(self, call: Forwarded, lease: Lease) -> Begun | Failover:
        call.attempts.last_backend = lease.backend
        with lease:
            try:
                begun = await self._ask(call, lease.backend)
            except UpstreamError as exc:
                if (error := call.body_error) is not None:
                    raise error from exc  # the caller's side broke, and the backend's with it
                begun = _failover_after(exc)
            if isinstance(begun, Failover):
                call.attempts.failovers.append(begun)
                lease.failed(begun)
                _log_failover(call.event_id, lease.backend, begun)
                return begun
            lease.answered(begun.begun_at, is_served=begun.status < 400)
            if isinstance(begun, StreamedAnswer):
                begun.holds.callback(lease.keep())
            return begun

    async def _ask(self, call: Forwarded, backend: Backend) -> Begun | Failover:
        asks = call.must_ask_for_usage
        begun = await self._exchange(call, backend, asks_for_usage=asks)
        if asks and isinstance(begun, WholeAnswer) and _refuses_stream_options(begun):
            # Old api-versions and `data_sources` refuse the option that we added.
            begun = await self._exchange(call, backend, asks_for_usage=False)
            if isinstance(begun, StreamedAnswer):
                begun = replace(begun, is_usage_refused=True)
        return begun

    async def _exchange(
        self, call: Forwarded, backend: Backend, *, asks_for_usage: bool
    ) -> Begun | Failover:
        """One request and the beginning of its answer; an attempt however it ends."""
        started = self.clock.monotonic()
        status: int | None = None
        try:
            credentials = await self.credentials.headers_for(backend.name)
            answer = await self.upstream.send(
                call.request_for(backend, credentials, asks_for_usage=asks_for_usage),
                first_byte_timeout_seconds=self.limits.first_byte_timeout_seconds,
            )
            begun: Begun | Failover | None = None
            try:
                begun = judge(answer.status, answer.headers, self.clock.now())
                if begun is None:
                    begun = await begin_answer(
                        backend,
                        answer,
                        clock=self.clock,
                        max_buffered_bytes=self.limits.max_buffered_bytes,
                    )
            finally:
                if not isinstance(begun, StreamedAnswer):
                    await answer.close()
            status = answer.status
        finally:
            seconds = self.clock.monotonic() - started
            call.attempts.made.append(
                Attempt(backend=backend.name, status=status, duration_ms=round(seconds * 1000))
            )
        if isinstance(begun, StreamedAnswer):
            return replace(begun, asked_for_usage=asks_for_usage)
        return begun

    def _give_up(
        self, group: Sequence[Backend], candidates: Candidates, failovers: Sequence[Failover]
    ) -> CallerError:
        load_key, demand = candidates.load_key, candidates.demand
        if not failovers or self.pool.any_throttles(group, load_key, demand):
            return self.pool.exhausted(group, load_key, demand)
        last = failovers[-1]
        if last.fault is Fault.TIMEOUT:
            return CallerError("No backend answered in time.", status=504, code="GatewayTimeout")
        if last.status in {503, 504}:
            code = "ServiceUnavailable" if last.status == 503 else "GatewayTimeout"
            return CallerError("No backend can serve this call now.", status=last.status, code=code)
        return CallerError("No backend could serve this call.", status=502, code="BadGateway")


def _refuses_stream_options(answer: WholeAnswer) -> bool:
    return answer.status == 400 and b"stream_options" in answer.body


def _failover_after(exc: UpstreamError) -> Failover:
    match exc:
        case UpstreamTimeout():
            return Failover(Fault.TIMEOUT)
        case UpstreamUnreachable() | UpstreamBroken():
            return Failover(Fault.UNREACHABLE)
        case _:
            return Failover(Fault.CREDENTIALS, wait_seconds=CREDENTIALS_COOLDOWN_SECONDS)


def _log_failover(event_id: UUID, backend: Backend, failover: Failover) -> None:
    log.log(
        logging.ERROR if failover.fault is Fault.CREDENTIALS else logging.WARNING,
        "backend_failed_over event_id=%s backend=%s fault=%s status=%s",
        event_id,
        backend.name,
        failover.fault,
        failover.status,
    )
