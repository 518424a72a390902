"""Hands out backends for calls: lowest priority number first, then by weight and load.

Within a priority one backend is drawn by weight, and a second one from the rest. The first is
taken unless it is clearly slower or busier than the second (`load.py`): shares follow the weights
while backends are equal, and a slow backend gets fewer calls before it fails. A backend that has
just recovered is drawn with a part of its weight, which grows for `SLOW_START_SECONDS`.

Backends can be replaced while calls run. A call keeps those that it began with, to its end: one that is
removed serves the calls that know it, and no others. Circuits and loads are kept for accounts, so those
of backends that stay are not lost.

A backend that cools down is left alone while another can serve. When none can, those that failed
are still tried, and those that throttle are asked at a bounded rate (`breaker.py`).
"""

import math
from bisect import bisect
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from operator import attrgetter
from typing import Self

from msgspec import Struct

from meter.errors import Overloaded
from meter.gateway.backend import Backend
from meter.gateway.balance.breaker import Circuit
from meter.gateway.balance.demand import Demand, UsualDemand
from meter.gateway.balance.load import Load
from meter.gateway.balance.verdict import Failover, Fault
from meter.gateway.http import unknown_deployment
from meter.ports import Clock, Dice

SLOW_START_SECONDS = 10.0
SLOW_START_SHARE = 0.1

_failures_of: Callable[[Circuit], int] = attrgetter("failures")


@dataclass(slots=True, kw_only=True, eq=False)
class Target:
    """One backend as the calls of one load key meet it.

    `circuit` opens for faults and for throttled calls of usual demand, `large` for throttled calls
    of much more. `usual` is shared by the backends of the load key.
    """

    backend: Backend
    usual: UsualDemand
    circuit: Circuit
    large: Circuit
    load: Load = field(default_factory=Load)

    @classmethod
    def of(cls, backend: Backend, usual: UsualDemand) -> Self:
        """A target that nobody has called yet."""
        return cls(backend=backend, usual=usual, circuit=Circuit(usual), large=Circuit(usual))

    def seen_as(self, backend: Backend) -> Self:
        """The same account under other settings, with the same circuits and load."""
        return replace(self, backend=backend)

    def weight(self, now: float) -> float:
        """The backend's weight; only a share of it while it starts slowly."""
        recovered_at = self.circuit.recovered_at
        if recovered_at is None:
            return self.backend.weight
        share = max(SLOW_START_SHARE, (now - recovered_at) / SLOW_START_SECONDS)
        return self.backend.weight * min(1.0, share)

    def may_call(self, demand: Demand, now: float) -> bool:
        """Whether a call may be sent while another backend can serve it as well."""
        return self.circuit.may_call(demand, now) and self.large.may_call(demand, now)

    def is_throttled(self, demand: Demand, now: float) -> bool:
        """Whether the call is held back for a wait that the backend itself asked for."""
        return self.circuit.is_throttled(demand, now) or self.large.is_throttled(demand, now)

    def ask_seconds(self, demand: Demand, now: float) -> float:
        """The time until such a call is sent even if no other backend can serve it; 0 for now."""
        return max(self.circuit.ask_seconds(demand, now), self.large.ask_seconds(demand, now))

    def wait_seconds(self, demand: Demand, now: float) -> float:
        """The time until nothing holds such a call back."""
        return max(self.circuit.wait_seconds(demand, now), self.large.wait_seconds(demand, now))

    def is_open(self, now: float) -> bool:
        """Whether it cools down, for some calls at least."""
        return self.circuit.is_open(now) or self.large.is_open(now)

    def start(self, demand: Demand, now: float) -> None:
        """A call is being sent."""
        self.load.in_flight += 1
        is_throttled = self.is_throttled(demand, now)
        for circuit in (self.circuit, self.large):
            circuit.start(demand, now)
            if is_throttled:
                circuit.asked(now)  # the rate is the backend's, whichever holds the call back


class Lease(Struct):
    """One backend for one attempt, from when it is chosen until its answer has ended.

    A context manager that closes it at the end, unless the backend is kept for a stream.
    """

    target: Target
    demand: Demand
    clock: Clock
    started_at: float
    _is_open: bool = True

    @property
    def backend(self) -> Backend:
        """The backend to send the call to."""
        return self.target.backend

    def answered(self, begun_at: float, *, is_served: bool = True) -> None:
        """The backend's answer is the caller's; it began at that moment (monotonic)."""
        target = self.target
        if target.circuit.failures or target.large.failures:
            for circuit in (target.circuit, target.large):
                circuit.answered(self.demand, started_at=self.started_at, now=begun_at)
        target.load.first_byte(seconds=begun_at - self.started_at, now=begun_at)
        if is_served:
            target.usual.served(self.demand)

    def failed(self, failover: Failover) -> None:
        """The call fails over to the next backend."""
        now, target = self.clock.monotonic(), self.target
        is_large = target.usual.is_exceeded_by(self.demand)
        circuit = target.large if failover.fault is Fault.THROTTLED and is_large else target.circuit
        circuit.failed(failover, self.demand, started_at=self.started_at, now=now)

    def keep(self) -> Callable[[], None]:
        """Keep the backend beyond this context; the stream that uses it calls the result at its end."""
        self._is_open = False
        return Lease(self.target, self.demand, self.clock, self.started_at).close

    def close(self, *_error: object) -> None:
        """Give the backend back. Only the first time counts."""
        if self._is_open:
            self._is_open = False
            self.target.load.in_flight -= 1

    def __enter__(self) -> Self:
        return self

    __exit__ = close


class _Met(Struct, frozen=True):
    """The candidates of a load key's calls, and what is known of each. `first` have the lowest priority."""

    candidates: Sequence[Backend]
    targets: list[Target]
    first: list[Target]
    circuits: list[Circuit]

    @classmethod
    def of(cls, candidates: Sequence[Backend], targets: list[Target]) -> Self:
        """What is known of these candidates, in their order."""
        circuits = [circuit for each in targets for circuit in (each.circuit, each.large)]
        return cls(candidates, targets, _first(targets), circuits)


@dataclass(slots=True)
class Pool:
    """The backends with their circuits and loads. One event loop owns it.

    A load key is the public deployment name, since AOAI throttles deployments, or an operation
    without one.
    """

    backends: Sequence[Backend]
    clock: Clock
    dice: Dice
    _targets: dict[tuple[str, str, str], Target] = field(default_factory=dict)
    _usual: dict[str, UsualDemand] = field(default_factory=dict)
    _serving: dict[str, Sequence[Backend]] = field(default_factory=dict)
    _met: dict[str, _Met] = field(default_factory=dict)  # the latest of each load key

    def replace(self, backends: Sequence[Backend]) -> None:
        """Have later calls choose among these. What is known of accounts that stay is kept."""
        current = {(backend.name, backend.url): backend for backend in backends}
        self._targets = {
            (name, url, key): target
            for (name, url, key), target in self._targets.items()
            if _stays(target, current.get((name, url)), key)
        }
        self.backends = tuple(backends)
        self._serving, self._met = {}, {}

    def serving(self, deployment: str) -> Sequence[Backend]:
        """The backends that serve the public deployment name. Raises NotServed when none does."""
        found = self._serving.get(deployment)
        if found is None:
            found = [backend for backend in self.backends if backend.serves(deployment)]
            if not found:
                raise unknown_deployment(deployment)  # not kept: callers name what they like
            self._serving[deployment] = found
        return found

    def lease(
        self,
        candidates: Sequence[Backend],
        load_key: str,
        demand: Demand,
        *,
        tried: Collection[str] = (),
    ) -> Lease | None:
        """The backend to try next; None when each was tried, or throttles and is not to be asked now.

        When all are cooling down, those that failed are tried first: they may have recovered. The
        single-probe rule applies only while another backend is available.
        """
        now = self.clock.monotonic()
        met = self._met.get(load_key)
        if met is None or met.candidates is not candidates:
            met = self._meet(candidates, load_key)
        if met.first and not tried and not any(map(_failures_of, met.circuits)):
            # Nearly always: no backend has failed, so none holds back any call.
            chosen = self._choose(met.first, now)
            chosen.load.in_flight += 1
            return Lease(chosen, demand, self.clock, now)
        untried = [target for target in met.targets if target.backend.name not in tried]
        if free := [target for target in untried if target.may_call(demand, now)]:
            chosen = self._choose(_first(free), now)
        else:
            askable = [target for target in untried if not target.ask_seconds(demand, now)]
            if not askable:
                return None
            chosen = min(
                askable,
                key=lambda t: (t.is_throttled(demand, now), t.wait_seconds(demand, now)),
            )
        chosen.start(demand, now)
        return Lease(chosen, demand, self.clock, now)

    def _meet(self, candidates: Sequence[Backend], load_key: str) -> _Met:
        """What is known of the candidates: a load key's calls have the same ones until they change."""
        targets = [self.target(backend, load_key) for backend in candidates]
        met = self._met[load_key] = _Met.of(candidates, targets)
        return met

    def any_throttles(self, candidates: Sequence[Backend], load_key: str, demand: Demand) -> bool:
        """Whether a backend named a wait that is not over, so that waiting helps."""
        now = self.clock.monotonic()
        targets = [self.target(each, load_key) for each in candidates]
        return any(target.is_throttled(demand, now) for target in targets)

    def exhausted(self, candidates: Sequence[Backend], load_key: str, demand: Demand) -> Overloaded:
        """The answer when all are cooling down: 429 with the time until one is asked again."""
        now = self.clock.monotonic()
        targets = [self.target(each, load_key) for each in candidates]
        seconds = max(min(target.ask_seconds(demand, now) for target in targets), 0.001)
        return Overloaded(
            "No backend of this deployment can take calls now. "
            f"Please retry after {math.ceil(seconds)} seconds.",
            retry_after_seconds=seconds,
        )

    def targets(self) -> list[tuple[str, Target]]:
        """What calls have met so far, by load key. Any thread may ask."""
        return [(load_key, target) for (*_, load_key), target in list(self._targets.items())]

    def target(self, backend: Backend, load_key: str) -> Target:
        """The circuits and the load of a backend for one load key."""
        key = backend.name, backend.url, load_key
        target = self._targets.get(key)
        if target is None:
            usual = self._usual.setdefault(load_key, UsualDemand())
            target = self._targets[key] = Target.of(backend, usual)
        elif target.backend is not backend:
            # Its settings have changed, or are those of an older call.
            target = self._targets[key] = target.seen_as(backend)
        return target

    def _choose(self, group: list[Target], now: float) -> Target:
        first = self._draw(group, now)
        if len(group) == 1:
            return first
        rest = group.copy()
        rest.remove(first)
        second = self._draw(rest, now)
        is_worse = first.load.is_worse_than(
            second.load,
            weight=first.backend.weight,
            other_weight=second.backend.weight,
            now=now,
        )
        return second if is_worse else first

    def _draw(self, targets: Sequence[Target], now: float) -> Target:
        chance = self.dice.random()
        if len(targets) == 1:
            return targets[0]  # the second of two
        ends = list(accumulate([target.weight(now) for target in targets]))
        return targets[min(bisect(ends, chance * ends[-1]), len(ends) - 1)]


def _first(targets: list[Target]) -> list[Target]:
    """Those of the lowest priority number."""
    first = min([target.backend.priority for target in targets], default=0)
    return [target for target in targets if target.backend.priority == first]


def _stays(target: Target, backend: Backend | None, load_key: str) -> bool:
    """Whether what is known of a target holds for the backend that has its name and address now."""
    if backend is None:
        return target.load.in_flight > 0  # calls under way may still fail over to it
    # Another deployment behind the same public name has another quota, and may exist.
    return backend.deployments.get(load_key) == target.backend.deployments.get(load_key)
