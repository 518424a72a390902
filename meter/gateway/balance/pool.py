"""Chooses the backend for a call: lowest priority number first, then by weight and load.

Within a priority one backend is drawn by weight, and a second one from the rest. The first is
taken unless it is clearly slower or busier than the second (`load.py`): so shares follow the
weights while backends are equal, and a slow one is spared before it fails. A backend that has
just recovered is drawn with a part of its weight that grows for `SLOW_START_SECONDS`.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from meter.errors import NotServed, Overloaded
from meter.gateway.backend import Backend
from meter.gateway.balance.breaker import Breakers
from meter.gateway.balance.load import Loads
from meter.gateway.balance.verdict import Left
from meter.ports import Dice

SLOW_START_SECONDS = 10.0
SLOW_START_SHARE = 0.1


@dataclass(slots=True)
class Pool:
    """The backends, their circuits and their load. One event loop owns it."""

    backends: Sequence[Backend]
    dice: Dice
    breakers: Breakers = field(default_factory=Breakers)
    loads: Loads = field(default_factory=Loads)

    def serving(self, deployment: str) -> list[Backend]:
        """The backends that serve the public deployment name. Raises NotServed when none does."""
        found = [backend for backend in self.backends if backend.serves(deployment)]
        if not found:
            raise NotServed(
                "The API deployment for this resource does not exist.", code="DeploymentNotFound"
            )
        return found

    def choose(
        self,
        serving: Sequence[Backend],
        deployment: str,
        *,
        tried: Collection[str],
        now: float,
        spares_throttled: bool = True,
    ) -> Backend | None:
        """The backend to try next; None when every one was tried or asked to be left alone.

        When all are benched, those that are benched for a fault are tried all the same, since that
        they still fail is a guess. Those that throttle are spared until the time they named,
        unless the call has found nothing but broken ones. A single probe is a courtesy to callers
        who can be served elsewhere: where nobody can, it holds none of them up.

        Each one that is given out must be handed back with `ended`.
        """
        free = [
            backend
            for backend in serving
            if backend.name not in tried and self.breakers.may_call(backend.name, deployment, now)
        ]
        if not free:
            left = [backend for backend in serving if backend.name not in tried]
            if spares_throttled:
                left = [b for b in left if not self.breakers.is_throttled(b.name, deployment, now)]
            return self._last_resort(left, deployment, now)
        first = min(backend.priority for backend in free)
        group = [backend for backend in free if backend.priority == first]
        chosen = self._choose(group, deployment, now)
        self.breakers.start(chosen.name, deployment, now)
        self.loads.start(chosen.name, deployment)
        return chosen

    def answered(self, backend: Backend, deployment: str, *, started_at: float, now: float) -> None:
        """The backend's answer to the call sent at `started_at` is relayed; it began now."""
        self.breakers.answered(backend.name, deployment, started_at=started_at, now=now)
        self.loads.first_byte(backend.name, deployment, seconds=now - started_at, now=now)

    def ended(self, backend: Backend, deployment: str) -> None:
        """The call has ended, however."""
        self.loads.end(backend.name, deployment)

    def left(
        self, backend: Backend, deployment: str, left: Left, *, started_at: float, now: float
    ) -> None:
        """The backend was left for the next one by the call sent at `started_at`."""
        self.breakers.left(backend.name, deployment, left, started_at=started_at, now=now)

    def any_throttles(self, serving: Sequence[Backend], deployment: str, *, now: float) -> bool:
        """Whether one of the backends asked to be left alone, so that waiting helps."""
        return any(self.breakers.is_throttled(b.name, deployment, now) for b in serving)

    def exhausted(self, serving: Sequence[Backend], deployment: str, *, now: float) -> Overloaded:
        """The answer when all are benched: 429 with the true soonest wait."""
        wait = min(self.breakers.wait_seconds(b.name, deployment, now) for b in serving)
        seconds = max(wait, 0.001)
        return Overloaded(
            "No backend of this deployment can take calls now. "
            f"Please retry after {max(1, round(seconds))} seconds.",
            retry_after_seconds=seconds,
        )

    def _last_resort(self, left: Sequence[Backend], deployment: str, now: float) -> Backend | None:
        if not left:
            return None
        soonest = min(left, key=lambda b: self.breakers.wait_seconds(b.name, deployment, now))
        self.loads.start(soonest.name, deployment)
        return soonest

    def _choose(self, group: list[Backend], deployment: str, now: float) -> Backend:
        first = self._draw(group, deployment, now)
        rest = [backend for backend in group if backend is not first]
        if not rest:
            return first
        second = self._draw(rest, deployment, now)
        is_worse = self.loads.is_worse(
            (first.name, first.weight), (second.name, second.weight), deployment, now
        )
        return second if is_worse else first

    def _draw(self, backends: Sequence[Backend], deployment: str, now: float) -> Backend:
        weights = [backend.weight * self._started(backend, deployment, now) for backend in backends]
        point = self.dice.random() * sum(weights)
        for backend, weight in zip(backends, weights, strict=True):
            point -= weight
            if point < 0:
                return backend
        return backends[-1]

    def _started(self, backend: Backend, deployment: str, now: float) -> float:
        """The share of its weight that a backend has; less than 1 while it starts slowly."""
        recovered_at = self.breakers.recovered_at(backend.name, deployment)
        if recovered_at is None:
            return 1.0
        return min(1.0, max(SLOW_START_SHARE, (now - recovered_at) / SLOW_START_SECONDS))
