"""Hands out backends for calls: lowest priority number first, then by weight and load.

Within a priority one backend is drawn by weight, and a second one from the rest. The first is
taken unless it is clearly slower or busier than the second (`load.py`): shares follow the weights
while backends are equal, and a slow backend gets fewer calls before it fails. A backend that has
just recovered is drawn with a part of its weight, which grows for `SLOW_START_SECONDS`.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Self

from meter.errors import Overloaded
from meter.gateway.backend import Backend
from meter.gateway.balance.breaker import Circuit
from meter.gateway.balance.load import Load
from meter.gateway.balance.verdict import Failover
from meter.gateway.http import unknown_deployment
from meter.ports import Clock, Dice

SLOW_START_SECONDS = 10.0
SLOW_START_SHARE = 0.1


@dataclass(slots=True, kw_only=True)
class Target:
    """One backend as the calls of one load key meet it."""

    backend: Backend
    circuit: Circuit = field(default_factory=Circuit)
    load: Load = field(default_factory=Load)

    def weight(self, now: float) -> float:
        """The backend's weight; only a share of it while it starts slowly."""
        recovered_at = self.circuit.recovered_at
        if recovered_at is None:
            return self.backend.weight
        share = max(SLOW_START_SHARE, (now - recovered_at) / SLOW_START_SECONDS)
        return self.backend.weight * min(1.0, share)


@dataclass(slots=True)
class Lease:
    """One backend for one attempt, from when it is chosen until its answer has ended.

    A context manager that closes it at the end, unless it is kept for a stream.
    """

    target: Target
    clock: Clock
    started_at: float
    _is_open: bool = True
    _is_kept: bool = False

    @property
    def backend(self) -> Backend:
        """The backend to send the call to."""
        return self.target.backend

    def answered(self, begun_at: float) -> None:
        """The backend's answer is the caller's; it began at that moment (monotonic)."""
        self.target.circuit.answered(started_at=self.started_at, now=begun_at)
        self.target.load.first_byte(seconds=begun_at - self.started_at, now=begun_at)

    def failed(self, failover: Failover) -> None:
        """The call fails over to the next backend."""
        now = self.clock.monotonic()
        self.target.circuit.failed(failover, started_at=self.started_at, now=now)

    def keep(self) -> Callable[[], None]:
        """Keep the lease beyond its context; the stream that uses it calls the result at its end."""
        self._is_kept = True
        return self.close

    def close(self) -> None:
        """Give the backend back. Only the first time counts."""
        if self._is_open:
            self._is_open = False
            self.target.load.in_flight -= 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        if not self._is_kept:
            self.close()


@dataclass(slots=True)
class Pool:
    """The backends with their circuits and loads. One event loop owns it.

    A load key is the public deployment name, since AOAI throttles deployments, or an operation
    without one.
    """

    backends: Sequence[Backend]
    clock: Clock
    dice: Dice
    _targets: dict[tuple[str, str], Target] = field(default_factory=dict)

    def serving(self, deployment: str) -> list[Backend]:
        """The backends that serve the public deployment name. Raises NotServed when none does."""
        found = [backend for backend in self.backends if backend.serves(deployment)]
        if not found:
            raise unknown_deployment(deployment)
        return found

    def lease(
        self,
        candidates: Sequence[Backend],
        load_key: str,
        *,
        tried: Collection[str] = (),
        spares_throttled: bool = True,
    ) -> Lease | None:
        """The backend to try next; None when each was tried, or throttles and is to be spared.

        When all are cooling down, those that failed are still tried: they may have recovered.
        Those that throttle are spared until the time they named, unless `spares_throttled` is off.
        The single-probe rule applies only while another backend is available.
        """
        now = self.clock.monotonic()
        untried = [
            self.target(backend, load_key) for backend in candidates if backend.name not in tried
        ]
        free = [target for target in untried if target.circuit.may_call(now)]
        if free:
            first = min(target.backend.priority for target in free)
            chosen = self._choose([t for t in free if t.backend.priority == first], now)
            chosen.circuit.start(now)
        else:
            if spares_throttled:
                untried = [target for target in untried if not target.circuit.is_throttled(now)]
            if not untried:
                return None
            chosen = min(untried, key=lambda target: target.circuit.wait_seconds(now))
        chosen.load.in_flight += 1
        return Lease(chosen, self.clock, now)

    def any_throttles(self, candidates: Sequence[Backend], load_key: str) -> bool:
        """Whether a backend named a wait that is not over, so that waiting helps."""
        now = self.clock.monotonic()
        return any(self.target(each, load_key).circuit.is_throttled(now) for each in candidates)

    def exhausted(self, candidates: Sequence[Backend], load_key: str) -> Overloaded:
        """The answer when all are cooling down: 429 with the true soonest wait."""
        now = self.clock.monotonic()
        waits = [self.target(each, load_key).circuit.wait_seconds(now) for each in candidates]
        seconds = max(min(waits), 0.001)
        return Overloaded(
            "No backend of this deployment can take calls now. "
            f"Please retry after {max(1, round(seconds))} seconds.",
            retry_after_seconds=seconds,
        )

    def target(self, backend: Backend, load_key: str) -> Target:
        """The circuit and the load of a backend for one load key."""
        key = backend.name, load_key
        if key not in self._targets:
            self._targets[key] = Target(backend=backend)
        return self._targets[key]

    def _choose(self, group: list[Target], now: float) -> Target:
        first = self._draw(group, now)
        rest = [target for target in group if target is not first]
        if not rest:
            return first
        second = self._draw(rest, now)
        is_worse = first.load.is_worse_than(
            second.load,
            weight=first.backend.weight,
            other_weight=second.backend.weight,
            now=now,
        )
        return second if is_worse else first

    def _draw(self, targets: Sequence[Target], now: float) -> Target:
        weights = [target.weight(now) for target in targets]
        point = self.dice.random() * sum(weights)
        for target, weight in zip(targets, weights, strict=True):
            point -= weight
            if point < 0:
                return target
        return targets[-1]
