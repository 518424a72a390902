"""What a throttled call holds back: as much as it is evidence of, for one caller or for all."""

import json

import pytest

from meter.errors import UpstreamError
from meter.gateway.balance.breaker import Circuit
from meter.gateway.balance.demand import Demand, UsualDemand
from meter.gateway.balance.pool import Lease, Pool
from meter.gateway.balance.verdict import Failover, Fault
from meter.gateway.http import Answer
from tests.fakes.gateway import FakeAnswer, FakeClock, FakeUpstream, FixedDice, json_answer
from tests.support.gateway import SERVED, Door, backend, bearer, claims, token

USUAL = 500
LARGE = 50_000


LARGE_BODIES = [
    b'{"model":"gpt","messages":[{"role":"user","content":"%s"}]}' % (b"many words " * 10_000),
    b'{"model":"gpt","messages":[],"max_tokens":100000}',
    b'{"model":"gpt","messages":[],"max_completion_tokens":20000,"n":5}',
]


class Deployment:
    """One backend's deployment whose usual demand is known, and the calls made to it."""

    def __init__(self) -> None:
        self.clock = FakeClock(seconds=0.0)
        self.pool = Pool([backend()], self.clock, FixedDice())
        for _ in range(100):
            self.call(USUAL, "anyone").answered(0.0)

    def call(self, tokens: int, caller: str) -> Lease:
        lease = self.pool.lease(self.pool.backends, "gpt", Demand(tokens, caller))
        assert lease is not None
        return lease

    def throttle(self, tokens: int, caller: str, *, wait: float = 10.0) -> None:
        """The backend answers a call of a caller with 429."""
        self.call(tokens, caller).failed(Failover(Fault.THROTTLED, 429, wait))

    def takes(self, tokens: int, caller: str) -> bool:
        """Whether the backend would get that call now, were there another one to serve it."""
        target = self.pool.target(self.pool.backends[0], "gpt")
        return target.may_call(Demand(tokens, caller), self.clock.monotonic())

    def asks(self, tokens: int, caller: str) -> float:
        """The time until the backend would get that call if no other could serve it."""
        target = self.pool.target(self.pool.backends[0], "gpt")
        return target.ask_seconds(Demand(tokens, caller), self.clock.monotonic())


def test_one_callers_throttled_call_is_about_that_caller() -> None:
    """All of its calls cool down; the others' do not."""
    made = Deployment()
    made.throttle(USUAL, "alice")

    assert not made.takes(USUAL, "alice")
    assert not made.takes(1, "alice")
    assert made.takes(USUAL, "bob")


def test_a_second_throttled_caller_is_evidence_about_the_backend() -> None:
    """It cools down for all callers."""
    made = Deployment()
    made.throttle(USUAL, "alice")
    made.throttle(USUAL, "bob")

    assert not made.takes(1, "carol")


def test_calls_of_two_callers_that_are_throttled_together_are_evidence_too() -> None:
    """Although both were under way when the first was refused."""
    made = Deployment()
    calls = [made.call(USUAL, name) for name in ("alice", "bob")]
    for call in calls:
        call.failed(Failover(Fault.THROTTLED, 429, 10.0))

    assert not made.takes(1, "carol")


def test_many_calls_of_one_caller_are_one_callers() -> None:
    """However many are throttled."""
    made = Deployment()
    calls = [made.call(USUAL, "alice") for _ in range(50)]
    for call in calls:
        call.failed(Failover(Fault.THROTTLED, 429, 10.0))

    assert made.takes(USUAL, "bob")


def test_two_callers_throttled_at_different_times_are_not_evidence() -> None:
    """The first one's wait was over."""
    made = Deployment()
    made.throttle(USUAL, "alice")
    made.clock.advance(10.0)
    made.throttle(USUAL, "bob")

    assert made.takes(USUAL, "carol")


@pytest.mark.parametrize("wait", [5.0, 60.0, 86_400.0])
def test_a_large_calls_refusal_is_about_its_size(wait: float) -> None:
    """Calls of at least that demand are held back, for at most a minute; smaller ones are not."""
    made = Deployment()
    made.throttle(LARGE, "alice", wait=wait)

    assert not made.takes(LARGE, "alice")
    assert not made.takes(LARGE + 1, "alice")
    assert made.takes(LARGE - 1, "alice")
    assert made.takes(LARGE, "bob")
    made.clock.advance(60.0)
    assert made.takes(LARGE, "alice")


def test_two_callers_large_calls_hold_back_everyones_large_calls() -> None:
    """From the smaller of the two up."""
    made = Deployment()
    made.throttle(LARGE, "alice", wait=60.0)
    made.throttle(LARGE - 10_000, "bob", wait=60.0)

    assert not made.takes(LARGE - 10_000, "carol")
    assert made.takes(USUAL, "carol")


def test_the_bound_falls_by_half_and_never_to_what_is_usual() -> None:
    """So ever smaller refusals are few, and hold back no ordinary call."""
    made = Deployment()
    refused = 0
    for tokens in range(LARGE, USUAL * 5, -100):
        if made.takes(tokens, "alice"):
            made.throttle(tokens, "alice", wait=60.0)
            refused += 1

    assert refused <= 6
    assert made.takes(USUAL * 2, "alice")


def test_a_wait_of_hours_is_about_the_request() -> None:
    """Also where its size does not show: the caller's smaller calls are still sent."""
    made = Deployment()
    made.throttle(USUAL, "alice", wait=86_400.0)

    assert not made.takes(USUAL, "alice")
    assert made.takes(USUAL - 1, "alice")
    assert made.takes(USUAL, "bob")


def test_a_throttled_large_call_leaves_an_ordinary_cooldown_as_it_is() -> None:
    """The two are held back apart, and end apart."""
    made = Deployment()
    made.throttle(USUAL, "alice", wait=5.0)
    made.throttle(LARGE, "bob", wait=60.0)
    made.clock.advance(5.0)

    assert made.takes(USUAL, "alice")
    assert not made.takes(LARGE, "bob")


def test_a_served_call_of_the_kind_that_was_held_back_ends_the_cooldown() -> None:
    """What others are served says nothing about it."""
    made = Deployment()
    made.throttle(USUAL, "alice", wait=30.0)
    made.clock.advance(3.0)
    probe = made.call(USUAL, "alice")
    made.call(USUAL, "bob").answered(3.0)

    assert not made.takes(USUAL, "alice")
    probe.answered(3.0)
    assert made.takes(USUAL, "alice")


def test_a_fault_holds_back_everyone() -> None:
    """Also after a throttled call of one caller."""
    made = Deployment()
    made.throttle(USUAL, "alice")
    made.call(USUAL, "bob").failed(Failover(Fault.ERROR, 500))

    assert not made.takes(USUAL, "carol")
    assert made.asks(USUAL, "carol") == 0.0


def test_a_throttled_call_after_a_fault_is_about_its_caller() -> None:
    """The backend answers again: only who was throttled is held back."""
    made = Deployment()
    made.call(USUAL, "bob").failed(Failover(Fault.ERROR, 500))
    made.clock.advance(0.1)
    made.throttle(USUAL, "alice", wait=30.0)

    assert not made.takes(USUAL, "alice")
    assert made.takes(USUAL, "bob")


def test_no_question_is_spent_on_a_call_as_large_as_the_refused_one() -> None:
    """It would be refused again; ordinary and smaller ones are sent once a second."""
    made = Deployment()
    made.throttle(LARGE, "alice", wait=60.0)
    made.throttle(LARGE // 2 + 1, "alice", wait=60.0)
    made.clock.advance(3.0)

    assert made.asks(LARGE, "alice") == 57.0
    assert made.asks(LARGE // 2, "alice") == 0.0


def test_large_and_ordinary_calls_share_the_rate_of_questions() -> None:
    """One a second per backend and deployment, whatever holds the calls back."""
    made = Deployment()
    made.throttle(LARGE, "alice", wait=60.0)
    made.throttle(LARGE // 2 + 1, "alice", wait=60.0)
    made.throttle(USUAL, "bob", wait=60.0)
    made.clock.advance(3.0)
    before = made.asks(LARGE // 2, "alice"), made.asks(USUAL, "bob")
    made.call(USUAL, "bob")

    assert before == (0.0, 0.0)
    assert made.asks(LARGE // 2, "alice") == 1.0


def test_in_a_common_cooldown_large_calls_wait_for_its_end() -> None:
    """A probe is an ordinary call."""
    made = Deployment()
    made.throttle(USUAL, "alice", wait=30.0)
    made.throttle(USUAL, "bob", wait=30.0)
    made.clock.advance(3.0)

    assert made.asks(LARGE, "carol") == 27.0
    assert made.asks(USUAL, "carol") == 0.0


def test_the_caller_refused_last_asks_after_the_others() -> None:
    """One caller whose calls are always refused cannot take every question."""
    made = Deployment()
    made.throttle(USUAL, "alice", wait=60.0)
    made.throttle(USUAL, "bob", wait=60.0)
    made.clock.advance(3.0)
    made.throttle(USUAL, "carol", wait=60.0)

    assert (made.asks(USUAL, "carol"), made.asks(USUAL, "alice")) == (2.0, 1.0)


@pytest.mark.parametrize(("served", "is_large"), [((), True), ((2_000,) * 30, False)])
def test_large_is_what_is_large_for_the_deployment(served: tuple[int, ...], is_large: bool) -> None:
    """A prompt of 2,000 tokens is ordinary where such prompts are served."""
    usual = UsualDemand()
    for tokens in served:
        usual.served(Demand(tokens, "alice"))

    assert usual.is_exceeded_by(Demand(2_000, "alice")) is is_large


def test_a_few_huge_calls_do_not_become_usual() -> None:
    """One call in ten of a hundred times the demand leaves it a large one."""
    usual = UsualDemand()
    for at in range(500):
        usual.served(Demand(100_000 if at % 10 == 0 else 1_000, "alice"))

    assert usual.is_exceeded_by(Demand(100_000, "alice"))
    assert not usual.is_exceeded_by(Demand(2_000, "alice"))


def test_a_call_without_any_demand_is_ordinary() -> None:
    """Reading what is stored has no body."""
    circuit = Circuit()
    circuit.usual.served(Demand(0, "alice"))
    circuit.failed(Failover(Fault.THROTTLED, 429, 9.0), Demand(0, "alice"), started_at=0, now=0)

    assert not circuit.may_call(Demand(0, "alice"), 8.9)
    assert circuit.may_call(Demand(0, "alice"), 9.0)


def _door(wait: str) -> Door:
    """Two backends that refuse one call each, and serve the rest."""
    script: dict[str, list[FakeAnswer | UpstreamError]] = {
        name: [
            json_answer(429, b"{}", ("retry-after", wait)),
            *(json_answer(200, SERVED) for _ in range(5)),
        ]
        for name in "ab"
    }
    return Door(FakeUpstream(script), [backend("a"), backend("b")])


async def _ask(made: Door, caller: str, body: bytes) -> Answer:
    return await made.answer(body, headers=bearer(token(payload=claims(sub=caller))))


@pytest.mark.parametrize("wait", ["86400", "60"])
@pytest.mark.parametrize("body", LARGE_BODIES, ids=["prompt", "max-tokens", "n"])
async def test_one_callers_oversized_request_costs_others_nothing(body: bytes, wait: str) -> None:
    """Nor that caller's own smaller ones; the oversized one is not sent again for a minute."""
    made, small = _door(wait), b'{"model":"gpt","messages":[]}'
    refused = await _ask(made, "alice", body)
    others = await _ask(made, "bob", small)
    own = await _ask(made, "alice", small)
    made.clock.advance(59.0)
    again = await _ask(made, "alice", body)

    assert [each.status for each in (refused, others, own, again)] == [429, 200, 200, 429]
    assert (dict(refused.headers)["retry-after"], dict(again.headers)["retry-after"]) == ("60", "1")
    assert "retry after 60 seconds" in json.loads(refused.body)["error"]["message"]
    assert len(made.upstream.order) == 4


async def test_an_ordinary_refused_request_costs_other_callers_nothing() -> None:
    """Whatever wait the backends named to one caller."""
    made, body = _door("60"), b'{"model":"gpt","messages":[]}'
    refused = await _ask(made, "alice", body)
    others = await _ask(made, "bob", body)
    too_soon = await _ask(made, "alice", body)
    made.clock.advance(3.0)
    again = await _ask(made, "alice", body)

    assert [each.status for each in (refused, others, too_soon, again)] == [429, 200, 429, 200]
    assert dict(refused.headers)["retry-after"] == "3"
