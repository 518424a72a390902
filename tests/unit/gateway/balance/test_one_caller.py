"""One caller against nine: seeded simulations of who is refused when oversized calls are throttled."""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from random import Random
from uuid import UUID

import pytest

from meter.errors import CallerError
from meter.gateway.answer.begin import WholeAnswer
from meter.gateway.backend import Backend
from meter.gateway.balance.demand import NO_DEMAND, Demand
from meter.gateway.balance.exchange import Attempts, ForwardLimits
from meter.gateway.balance.forward import Candidates, Forwarder
from meter.gateway.balance.pool import Lease, Pool
from meter.ports import Headers, UpstreamRequest
from tests.fakes.gateway import FakeAnswer, FakeCredentials, json_answer
from tests.fakes.virtual_time import LoopClock, VirtualTimeLoop
from tests.support.gateway import EVENT_ID, backend

SECONDS = 120.0
NORMAL_CALLERS = 9
CALLS_PER_SECOND = 5.0  # of all normal callers together
OVERSIZED = 2_000_000
POISON = 666  # a request on which backends fail
QUOTA_PER_MINUTE = 600_000

type Pause = Callable[[Random], float]


class RuleBefore(Pool):
    """Each throttled call cools a backend down for everyone; nobody asks before that is over."""

    def lease(
        self,
        candidates: Sequence[Backend],
        load_key: str,
        demand: Demand,
        *,
        tried: Collection[str] = (),
    ) -> Lease | None:
        now = self.clock.monotonic()
        cooled = [
            each
            for each in candidates
            if not self.target(each, load_key).is_throttled(NO_DEMAND, now)
        ]
        return super().lease(cooled, load_key, NO_DEMAND, tried=tried)


@dataclass
class WatchedPool(Pool):
    """Notes when a backend is asked although it cools down for the call."""

    asked: dict[str, list[float]] = field(default_factory=dict)

    def lease(
        self,
        candidates: Sequence[Backend],
        load_key: str,
        demand: Demand,
        *,
        tried: Collection[str] = (),
    ) -> Lease | None:
        now = self.clock.monotonic()
        cooling = {
            each.name
            for each in candidates
            if self.target(each, load_key).is_throttled(demand, now)
        }
        lease = super().lease(candidates, load_key, demand, tried=tried)
        if lease is not None and lease.backend.name in cooling:
            self.asked.setdefault(lease.backend.name, []).append(now)
        return lease


@dataclass
class Bucket:
    """A deployment's quota: refilled steadily, or at once at each whole minute."""

    per_minute: float
    is_steady: bool = True
    tokens: float = 0.0
    filled_at: float = 0.0

    def wait_for(self, tokens: float, now: float) -> float:
        """Take the tokens, or the seconds until they are there; a day for more than it can hold."""
        if self.is_steady:
            filled = self.tokens + (now - self.filled_at) * self.per_minute / 60
        else:
            filled = self.tokens if now // 60 == self.filled_at // 60 else self.per_minute
        self.tokens, self.filled_at = min(filled, self.per_minute), now
        if tokens > self.per_minute:
            return 86_400.0
        if tokens > self.tokens:
            return (
                (tokens - self.tokens) * 60 / self.per_minute if self.is_steady else 60 - now % 60
            )
        self.tokens -= tokens
        return 0.0


@dataclass
class Azure:
    """Backends that throttle by what a request costs them, and serve it after some seconds."""

    dice: Random
    per_minute: float = QUOTA_PER_MINUTE
    is_steady: bool = True
    longest_wait: float = 86_400.0
    buckets: dict[str, Bucket] = field(default_factory=dict)
    tokens_served: int = 0
    refused: int = 0

    async def send(
        self, request: UpstreamRequest, *, first_byte_timeout_seconds: float
    ) -> FakeAnswer:
        now = asyncio.get_running_loop().time()
        bucket = self.buckets.setdefault(
            request.backend, Bucket(self.per_minute, self.is_steady, self.per_minute, now)
        )
        assert isinstance(request.body, bytes)
        cost = int(request.body)
        if cost == POISON:
            return json_answer(500, b"{}")
        wait = bucket.wait_for(cost, now)
        if wait:
            self.refused += 1
            await asyncio.sleep(0.02)
            text = f"{max(1.0, min(wait, self.longest_wait)):.0f}"
            return json_answer(429, b"{}", ("retry-after", text))
        self.tokens_served += cost
        await asyncio.sleep(self.dice.uniform(0.3, 3.0))
        return json_answer(200, b"{}")


@dataclass
class Request:
    """What forwarding needs of a call; `cost` is what the backend takes it for."""

    candidates: Candidates
    cost: int
    attempts: Attempts = field(default_factory=Attempts)
    must_ask_for_usage: bool = False
    expects_events: bool = False
    answers_in_text: bool = False
    is_kept_alive: bool = False
    event_id: UUID = EVENT_ID
    deployment: str = "gpt"
    body_error: CallerError | None = None

    def request_for(
        self, backend: Backend, credentials: Headers, *, asks_for_usage: bool
    ) -> UpstreamRequest:
        body = b"%d" % self.cost
        return UpstreamRequest(
            backend=backend.name, method="POST", url=backend.url, headers=credentials, body=body
        )

    def is_elsewhere(self, answer: WholeAnswer) -> bool:
        return False


@dataclass
class Town:
    """Callers, a gateway's forwarder and two backends, in virtual time."""

    pool: Pool
    azure: Azure
    made: dict[str, int] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    waits: list[float] = field(default_factory=list)
    _calls: list[asyncio.Task[None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.forwarder = Forwarder(
            pool=self.pool,
            upstream=self.azure,
            credentials=FakeCredentials(),
            clock=LoopClock(),
            limits=ForwardLimits(
                first_byte_timeout_seconds=120,
                attempts_timeout_seconds=220,
                max_buffered_bytes=1_000_000,
            ),
        )

    def call(self, demand: Demand, cost: int | None = None) -> None:
        """Make a call, and do not wait for its answer."""
        call = self._call(demand, demand.tokens if cost is None else cost)
        self._calls.append(asyncio.ensure_future(call))

    async def _call(self, demand: Demand, cost: int) -> None:
        candidates = Candidates(backends=self.pool.serving("gpt"), load_key="gpt", demand=demand)
        self.made[demand.caller] = self.made.get(demand.caller, 0) + 1
        try:
            await self.forwarder.forward(Request(candidates, cost))
        except CallerError as exc:
            self.refused[demand.caller] = self.refused.get(demand.caller, 0) + 1
            self.waits.append(exc.retry_after_seconds or 0.0)

    async def live(self, *lives: Coroutine[None, None, None]) -> None:
        """Let callers call for the simulation's time, and wait for the last answers."""
        tasks = [asyncio.ensure_future(life) for life in lives]
        await asyncio.sleep(SECONDS)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*self._calls)

    @property
    def share_refused(self) -> float:
        """The share of the normal callers' calls that were refused."""
        made = sum(count for name, count in self.made.items() if name != "abuser")
        return sum(n for name, n in self.refused.items() if name != "abuser") / made


async def _normal(town: Town, dice: Random, per_second: float) -> None:
    while True:
        await asyncio.sleep(dice.expovariate(per_second))
        tokens = round(dice.lognormvariate(6.5, 0.8))  # 665 at the median, 2,400 at 95 %
        town.call(Demand(tokens, f"normal-{dice.randrange(NORMAL_CALLERS)}"))


async def _abuse(town: Town, dice: Random, sizes: Iterator[int], cost: int, pause: Pause) -> None:
    while True:
        town.call(Demand(next(sizes), "abuser"), cost)
        await asyncio.sleep(pause(dice))


def _same(tokens: int) -> Iterator[int]:
    while True:
        yield tokens


def _falling() -> Iterator[int]:
    while True:
        size = OVERSIZED
        while size > 700_000:
            yield size
            size = size * 9 // 10


def _often(dice: Random) -> float:
    return dice.expovariate(2.0)


def _each_minute(_dice: Random) -> float:
    return 60.0


def _in_bursts(dice: Random) -> float:
    return 0.001 if dice.random() < 0.98 else 20.0


ABUSES = [
    pytest.param(86_400.0, lambda: _same(OVERSIZED), _often, id="a-day"),
    pytest.param(60.0, lambda: _same(OVERSIZED), _often, id="a-minute"),
    pytest.param(5.0, lambda: _same(OVERSIZED), _often, id="5-s"),
    pytest.param(86_400.0, lambda: _same(OVERSIZED), _each_minute, id="a-day-each-minute"),
    pytest.param(60.0, lambda: _same(OVERSIZED), _each_minute, id="a-minute-each-minute"),
    pytest.param(86_400.0, lambda: _same(OVERSIZED), _in_bursts, id="bursts"),
    pytest.param(60.0, _falling, _often, id="ever-smaller"),
    # Its size does not show, as with a long conversation that the backend stores.
    pytest.param(86_400.0, lambda: _same(200), _often, id="unseen-size"),
    pytest.param(60.0, lambda: _same(200), _in_bursts, id="unseen-size-bursts"),
]
SEEDS = pytest.mark.parametrize("seed", [1, 2])


def _abused(
    kind: type[Pool],
    wait: float,
    sizes: Iterator[int],
    pause: Pause,
    *,
    seed: int,
    cost: int = OVERSIZED,
) -> Town:
    dice = Random(seed)

    async def simulate() -> Town:
        pool = kind([backend("a"), backend("b")], LoopClock(), dice)
        town = Town(pool, Azure(dice, longest_wait=wait))
        await town.live(
            _normal(town, dice, CALLS_PER_SECOND), _abuse(town, dice, sizes, cost, pause)
        )
        return town

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(simulate())


@SEEDS
@pytest.mark.parametrize(("wait", "sizes", "pause"), ABUSES)
def test_one_callers_oversized_calls_shut_nobody_out(
    wait: float, sizes: Callable[[], Iterator[int]], pause: Pause, seed: int
) -> None:
    """At most 1 % of the other callers' calls are refused."""
    town = _abused(Pool, wait, sizes(), pause, seed=seed)

    assert town.made["abuser"] > 1
    assert sum(town.made.values()) > 500
    assert town.share_refused <= 0.01


@SEEDS
def test_one_callers_calls_on_which_backends_fail_shut_nobody_out(seed: int) -> None:
    """All backends cool down for a fault again and again; the others' calls are sent all the same."""
    town = _abused(Pool, 60.0, _same(200), _often, seed=seed, cost=POISON)

    assert town.made["abuser"] == town.refused["abuser"] > 100
    assert town.share_refused <= 0.01


def test_the_rule_before_shut_everyone_out() -> None:
    """The simulation shows the difference: one call a minute closed the deployment."""
    town = _abused(RuleBefore, 60.0, _same(OVERSIZED), _each_minute, seed=1)

    assert town.share_refused > 0.4


def _saturated(kind: type[Pool], *, is_steady: bool, seed: int) -> Town:
    """Calls for about five times what two backends can serve."""
    dice = Random(seed)

    async def simulate() -> Town:
        pool = kind([backend("a"), backend("b")], LoopClock(), dice)
        town = Town(pool, Azure(dice, per_minute=60_000, is_steady=is_steady))
        await town.live(_normal(town, dice, 2 * CALLS_PER_SECOND))
        return town

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(simulate())


@SEEDS
@pytest.mark.parametrize("is_steady", [True, False], ids=["steady", "by-the-minute"])
def test_saturated_backends_are_left_alone_and_serve_no_less(is_steady: bool, seed: int) -> None:
    """While one cools down it is asked at most once a second; as much is served as before."""
    before = _saturated(RuleBefore, is_steady=is_steady, seed=seed)
    town = _saturated(WatchedPool, is_steady=is_steady, seed=seed)

    assert isinstance(town.pool, WatchedPool)
    assert town.pool.asked.keys() == {"a", "b"}
    for times in town.pool.asked.values():
        assert min(later - sooner for sooner, later in pairwise(times)) >= 1.0
    assert town.azure.tokens_served >= before.azure.tokens_served
    assert 0.0 < max(town.waits) <= 60.0
