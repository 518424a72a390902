"""Chooses the backend for a call: lowest priority number that can be called, by weight within it."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from meter.errors import NotServed, Overloaded
from meter.gateway.backend import Backend
from meter.gateway.breaker import Breakers
from meter.gateway.retry import Left
from meter.ports import Dice


@dataclass(slots=True)
class Pool:
    """The backends and their circuits. One event loop owns it."""

    backends: Sequence[Backend]
    dice: Dice
    breakers: Breakers = field(default_factory=Breakers)

    def serving(self, deployment: str) -> list[Backend]:
        """The backends that serve the public deployment name. Raises NotServed when none does."""
        found = [backend for backend in self.backends if backend.serves(deployment)]
        if not found:
            raise NotServed(
                "The API deployment for this resource does not exist.", code="DeploymentNotFound"
            )
        return found

    def choose(
        self, serving: Sequence[Backend], deployment: str, *, tried: Collection[str], now: float
    ) -> Backend | None:
        """The backend to try next; None when every one was tried or is benched."""
        free = [
            backend
            for backend in serving
            if backend.name not in tried and self.breakers.may_call(backend.name, deployment, now)
        ]
        if not free:
            return None
        first = min(backend.priority for backend in free)
        chosen = self._by_weight([backend for backend in free if backend.priority == first])
        self.breakers.start(chosen.name, deployment, now)
        return chosen

    def answered(self, backend: Backend, deployment: str, *, started_at: float) -> None:
        """The backend's answer to the call sent at `started_at` is relayed."""
        self.breakers.answered(backend.name, deployment, started_at)

    def left(
        self, backend: Backend, deployment: str, left: Left, *, started_at: float, now: float
    ) -> None:
        """The backend was left for the next one by the call sent at `started_at`."""
        self.breakers.left(backend.name, deployment, left, started_at=started_at, now=now)

    def exhausted(self, serving: Sequence[Backend], deployment: str, *, now: float) -> Overloaded:
        """The answer when all are benched: 429 with the true soonest wait."""
        wait = min(self.breakers.wait_seconds(b.name, deployment, now) for b in serving)
        seconds = max(wait, 0.001)
        return Overloaded(
            "No backend of this deployment can take calls now. "
            f"Please retry after {max(1, round(seconds))} seconds.",
            retry_after_seconds=seconds,
        )

    def _by_weight(self, backends: Sequence[Backend]) -> Backend:
        point = self.dice.random() * sum(backend.weight for backend in backends)
        for backend in backends:
            point -= backend.weight
            if point < 0:
                return backend
        return backends[-1]
