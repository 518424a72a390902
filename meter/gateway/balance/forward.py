"""Sends a call to one backend after another until one answers, or none is left to try.

A call fails over as long as the caller has no byte: until the first output of a stream, or the
whole of a body that is not a stream, has arrived. Nothing ever waits before the next attempt. All
attempts together have a time limit, unless the caller's connection is kept alive meanwhile. A
stored response is fetched from the backend that stores it; if that is unknown, each backend is
tried (`affinity.py`).
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Protocol
from uuid import UUID

from msgspec import Struct

from meter.errors import (
    CallerError,
    UpstreamBroken,
    UpstreamError,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from meter.gateway.answer.begin import StreamedAnswer, WholeAnswer
from meter.gateway.backend import Backend
from meter.gateway.balance.demand import NO_DEMAND, Demand
from meter.gateway.balance.exchange import Asking, Begun, Exchange, ForwardLimits
from meter.gateway.balance.exchange import Attempts as Attempts
from meter.gateway.balance.exhausted import Exhausted
from meter.gateway.balance.pool import Lease, Pool
from meter.gateway.balance.refusal import refusal_after
from meter.gateway.balance.verdict import CREDENTIALS_COOLDOWN_SECONDS, Failover, Fault
from meter.ports import BackendCredentials, Clock, Upstream
from meter.usage import Tier
from meter.waiting.alarms import Alarms

LEAST_ATTEMPT_SECONDS = 1.0
_priority: Callable[[Backend], int] = attrgetter("priority")

log = logging.getLogger(__name__)


class Candidates(Struct, frozen=True, kw_only=True, gc=False):
    """The backends that may answer a call. `owner` names the one to try first, if any.

    `load_key` names what circuits and loads are kept for (`pool.py`), `demand` is what the call asks
    of its backend.
    """

    backends: Sequence[Backend]
    load_key: str
    demand: Demand = NO_DEMAND
    owner: str | None = None

    def preferred_to(self, used: Backend, deployment: str) -> Backend | None:
        """The provisioned backend that comes before the used one, from which calls spill over to it."""
        if used.priority == min(map(_priority, self.backends), default=used.priority):
            return None  # nearly always
        before = [
            each
            for each in self.backends
            if each.priority < used.priority and each.terms_of(deployment).tier is Tier.PROVISIONED
        ]
        return min(before, key=_priority, default=None)


class Forwarded(Asking, Protocol):
    """What forwarding needs of a call (`gateway/call.py`)."""

    deployment: str
    candidates: Candidates

    @property
    def event_id(self) -> UUID:
        """The id of its event."""

    @property
    def body_error(self) -> CallerError | None:
        """Why the caller's body could not be sent on, if so."""


@dataclass(slots=True)
class Forwarder:
    """Decides the order in which backends are tried. What it refuses is logged if it is for callers.

    `deadlines` are those of the calls that it forwards.
    """

    pool: Pool
    upstream: Upstream
    credentials: BackendCredentials
    clock: Clock
    limits: ForwardLimits
    is_for_callers: bool = True
    deadlines: Alarms = field(default_factory=Alarms)
    exhausted: Exhausted = field(init=False)

    def __post_init__(self) -> None:
        self.exhausted = Exhausted(self.clock)

    async def forward(self, call: Forwarded) -> Begun:
        """The first answer that is the caller's to have.

        Raises Overloaded when all candidates are cooling down or throttle, the caller's own error
        when its body breaks off, and a CallerError with 502, 503 or 504 when they fail otherwise.
        """
        attempts, owner = call.attempts, call.candidates.owner
        if not call.is_kept_alive:
            attempts.give_up_at = self.clock.monotonic() + self.limits.attempts_timeout_seconds
        attempts.may_spill = owner is None
        elsewhere: list[WholeAnswer] = []
        for group in _groups(call.candidates.backends, owner):
            tried: set[str] = set()
            while (lease := self._lease(group, call, tried)) is not None:
                answer = await self._try(call, lease)
                if isinstance(answer, Failover):
                    continue
                if answer.status < 400 or isinstance(answer, StreamedAnswer):
                    return answer
                if not call.is_elsewhere(answer):
                    return answer
                elsewhere.append(answer)
                attempts.may_spill = False  # a call for its owner has not spilled over
            # A backend that could not be tried may store what the others do not.
            known = {answer.backend.name for answer in elsewhere}
            if rest := [backend for backend in group if backend.name not in known]:
                raise self._give_up(rest, call)
        return elsewhere[-1]

    def _lease(self, group: Sequence[Backend], call: Forwarded, tried: set[str]) -> Lease | None:
        """The next backend, if it would get the time for an answer; the first always does."""
        attempts, candidates = call.attempts, call.candidates
        if attempts.made:
            left = attempts.give_up_at - self.clock.monotonic()
            if left < LEAST_ATTEMPT_SECONDS:
                return None
        lease = self.pool.lease(group, candidates.load_key, candidates.demand, tried=tried)
        if lease is not None:
            tried.add(lease.target.backend.name)
        return lease

    async def _try(self, call: Forwarded, lease: Lease) -> Begun | Failover:
        backend = call.attempts.last_backend = lease.target.backend
        exchange = Exchange(
            call=call,
            backend=backend,
            upstream=self.upstream,
            credentials=self.credentials,
            clock=self.clock,
            limits=self.limits,
        )
        with lease:
            try:
                begun = await exchange.run()
            except UpstreamError as exc:
                if (error := call.body_error) is not None:
                    raise error from exc  # the caller's side broke, and the backend's with it
                begun = _failover_after(exc)
            if isinstance(begun, Failover):
                call.attempts.failovers.append(begun)
                lease.failed(begun)
                _log_failover(call, backend, begun)
                return begun
            lease.answered(begun.begun_at, is_served=begun.status < 400)
            if isinstance(begun, StreamedAnswer):
                begun.holds.callback(lease.keep())
            return begun

    def _give_up(self, group: Sequence[Backend], call: Forwarded) -> CallerError:
        load_key, demand = call.candidates.load_key, call.candidates.demand
        failovers = call.attempts.failovers
        is_throttled = not failovers or self.pool.any_throttles(group, load_key, demand)
        throttled = self.pool.exhausted(group, load_key, demand) if is_throttled else None
        refusal = refusal_after(failovers, throttled)
        if self.is_for_callers:
            self.exhausted.refused(call.deployment, refusal)
        return refusal


def _groups(backends: Sequence[Backend], owner: str | None) -> Iterable[Sequence[Backend]]:
    """Those to try first, and then; one of them alone may be there."""
    if owner is None:
        return (backends,)
    owners = [backend for backend in backends if backend.name == owner]
    others = [backend for backend in backends if backend.name != owner]
    return filter(None, (owners, others))


def _failover_after(exc: UpstreamError) -> Failover:
    match exc:
        case UpstreamTimeout():
            return Failover(Fault.TIMEOUT)
        case UpstreamUnreachable() | UpstreamBroken():
            return Failover(Fault.UNREACHABLE)
        case _:
            return Failover(Fault.CREDENTIALS, wait_seconds=CREDENTIALS_COOLDOWN_SECONDS)


def _log_failover(call: Forwarded, backend: Backend, failover: Failover) -> None:
    is_ours = failover.fault in {Fault.CREDENTIALS, Fault.NO_DEPLOYMENT}
    log.log(
        logging.ERROR if is_ours else logging.WARNING,
        "backend_failed_over event_id=%s backend=%s deployment=%s fault=%s status=%s",
        call.event_id,
        backend.name,
        call.deployment,
        failover.fault,
        failover.status,
    )
