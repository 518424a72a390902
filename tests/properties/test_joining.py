"""Repeated requests: what counts as the same, in any order of asking, leaving and answering."""

import asyncio
import json
from collections.abc import Sequence
from copy import replace
from dataclasses import dataclass, field
from hashlib import sha256

from hypothesis import example, given, settings
from hypothesis import strategies as st

from meter.gateway.http import Answer
from meter.gateway.joining.repeatable import SHORT_BYTES, Repeatable, repeatable_of
from meter.gateway.request.body import parse_body
from meter.gateway.request.route import Routes
from meter.ports import Headers, UpstreamRequest
from meter.usage import Principal
from tests.fakes.gateway import FakeAnswer, json_answer
from tests.support.gateway import arrival_of, bearer, claims, request, token
from tests.support.joining import SECOND_TRY, Asker, in_virtual_time, slow_door

PATHS = ("/openai/v1/chat/completions", "/openai/v1/responses", "/prefix/openai/v1/responses")
# Those of the second row say nothing of what is asked for, and those of the third reach no backend.
RELEVANT = (
    ("accept", "application/json"),
    ("content-type", "application/json"),
    ("user-agent", "sdk/1"),
    ("user-agent", "sdk/2"),
    ("openai-organization", "a"),
    ("x-stainless-lang", "python"),
    ("x-ms-oai-image-generation-deployment", "draw"),
)
FLEETING = (
    ("x-ms-client-request-id", "1"),
    ("x-request-id", "2"),
    ("traceparent", "00-1"),
    ("tracestate", "a=b"),
    ("x-stainless-retry-count", "2"),
)
IGNORED = (("authorization", "Bearer x"), ("x-forwarded-for", "::1"), ("x_accept", "y"))


@dataclass(frozen=True)
class Sent:
    """A request in all that can differ."""

    principal: Principal
    path: str
    query: str
    headers: Headers
    body: bytes

    @property
    def relevant(self) -> object:
        """What must be the same in a repeat."""
        who = self.principal
        named = sorted(pair for pair in self.headers if pair in RELEVANT)
        caller = (who.issuer, who.tenant, who.subject, who.object_id, who.client_app)
        return caller, self.path, self.query, named, self.body

    def repeatable(self) -> Repeatable:
        """As the front door sees it."""
        sent = request(self.body, path=self.path, query=self.query, headers=self.headers)
        route = Routes().route("POST", "/openai/v1/responses", "")
        found = repeatable_of(arrival_of(sent, self.principal), route, parse_body(self.body))
        assert found is not None
        return found


def one_of(*values: str | None) -> st.SearchStrategy[str | None]:
    return st.sampled_from(values)


principals = st.builds(
    Principal,
    subject=st.sampled_from(["a", "b"]),
    issuer=st.sampled_from(["i", "j"]),
    tenant=one_of(None, "t", "u"),
    object_id=one_of(None, "t", "o"),
    client_app=one_of(None, "t", "p"),
    name=one_of(None, "Alice"),
)
bodies = st.builds(
    lambda text, size: b'{"model":"%b","input":"%b"}' % (text, b"x" * size),
    st.sampled_from([b"gpt", b"gpu"]),
    st.sampled_from([0, 1, SHORT_BYTES - 28, SHORT_BYTES, 3 * SHORT_BYTES]),
)
requests = st.builds(
    Sent,
    principal=principals,
    path=st.sampled_from(PATHS),
    query=st.sampled_from(["", "api-version=preview", "a=1&b=2"]),
    headers=st.lists(st.sampled_from((*RELEVANT, *FLEETING, *IGNORED)), max_size=8).map(tuple),
    body=bodies,
)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Sent, Sent]:
    """Two requests that differ in at most a few things."""
    first, other = draw(requests), draw(requests)
    kept = draw(st.sets(st.sampled_from(["principal", "path", "query", "headers", "body"])))
    return first, replace(first, **{name: getattr(other, name) for name in kept})


@given(pair=pairs())
@settings(max_examples=200)
def test_two_requests_are_the_same_if_and_only_if_all_that_counts_is(
    pair: tuple[Sent, Sent],
) -> None:
    """Caller, address, headers to a backend but for ids, trace and count, and every byte."""

    async def same() -> bool:
        first, second = (sent.repeatable() for sent in pair)
        digests = [await each.learn_digest(waits=True) for each in (first, second)]
        has_same_headers = first.lasting_headers() == second.lasting_headers()
        return first.key == second.key and has_same_headers and digests[0] == digests[1]

    assert asyncio.run(same()) == (pair[0].relevant == pair[1].relevant)


@dataclass(frozen=True)
class Step:
    """Wait so long; then a request asks, or one that has asked leaves."""

    seconds: float
    who: str = "alice"
    what: str = "one"
    is_marked: bool = False
    leaves: int | None = None
    news_seconds: float = 0.0


@dataclass
class Echo:
    """A backend that answers in turn after the given seconds, with the call's number and question."""

    durations: Sequence[float]
    calls: list[tuple[str, float]] = field(default_factory=list)

    async def send(self, sent: UpstreamRequest, *, first_byte_timeout_seconds: float) -> FakeAnswer:
        number, loop = len(self.calls), asyncio.get_running_loop()
        assert isinstance(sent.body, bytes)
        question = f"{dict(sent.headers)['caller-subject']} {sha256(sent.body).hexdigest()}"
        seconds = self.durations[number % len(self.durations)]
        self.calls.append((question, loop.time() + seconds))
        await asyncio.sleep(seconds)
        text = json.dumps({"number": number, "question": question, "usage": {"total_tokens": 1}})
        return json_answer(200, text.encode())


def asking(made_by: str, what: str) -> bytes:
    # A long body for one of them, whose digest is computed late.
    return json.dumps(
        {"model": "gpt", "input": what * (SHORT_BYTES if what == "two" else 1)}
    ).encode()


CREDENTIALS = {who: bearer(token(payload=claims(sub=who))) for who in ("alice", "bob")}
asks = st.builds(
    Step,
    seconds=st.sampled_from([0.0, 0.05, 1.0, 5.0, 9.0, 15.0, 25.0, 70.0]),
    who=st.sampled_from(["alice", "alice", "bob"]),
    what=st.sampled_from(["one", "one", "two"]),
    is_marked=st.booleans(),
)
leavings = st.builds(
    Step,
    seconds=st.sampled_from([0.0, 0.05, 1.0, 20.0, 30.0]),
    leaves=st.integers(0, 7),
    news_seconds=st.sampled_from([0.0, 0.06]),
)


@given(
    steps=st.lists(asks | leavings, max_size=16),
    durations=st.lists(st.sampled_from([0.0, 1.0, 21.0, 40.0, 150.0]), min_size=1, max_size=4),
)
@example(steps=[Step(0.0), Step(25.0, leaves=0, news_seconds=0.06), Step(0.0)], durations=[40.0])
@settings(max_examples=100)
def test_whatever_happens_each_request_gets_its_own_answer_for_one_bill(
    steps: list[Step], durations: list[float]
) -> None:
    """It is that of its call or of an equal one of the same caller, and each call is one event."""

    async def run() -> None:
        echo, loop = Echo(durations), asyncio.get_running_loop()
        made = slow_door(max_concurrent_calls=1_000)
        made.front_door.instance.forwarder.upstream = echo
        askers: list[tuple[Asker, str]] = []
        must_join: list[Asker] = []
        for step in steps:
            await asyncio.sleep(step.seconds)
            if step.leaves is not None:
                if step.leaves < len(askers):
                    await askers[step.leaves][0].leave(told_after=step.news_seconds)
                continue
            body = asking(step.who, step.what)
            question = f"{step.who} {sha256(body).hexdigest()}"
            asker = Asker(
                made,
                body,
                "/openai/v1/responses",
                "",
                credential=CREDENTIALS[step.who],
                headers=(SECOND_TRY,) if step.is_marked else (),
            )
            if step.is_marked and (question, True) in [
                (asked, until > loop.time()) for asked, until in echo.calls
            ]:
                must_join.append(asker)
            askers.append((asker.ask(), question))
            await asyncio.sleep(0.001)
        answers = [(asker, await asker.whole(), question) for asker, question in askers]
        _check(answers, echo, {str(event.id) for event in made.sink.events})
        assert len(made.sink.events) == len(echo.calls)
        joined = [a for a, answer, _ in answers if "x-meter-joined" in dict(answer.headers)]
        left = [asker for asker, _, _ in answers if asker.gone.is_set()]
        assert all(asker in joined or asker in left for asker in must_join)
        await asyncio.sleep(121)
        assert made.is_idle
        assert made.front_door.joins.is_empty
        assert made.front_door.joins.joined.used == 0

    in_virtual_time(run)


def _check(answers: list[tuple[Asker, Answer, str]], echo: Echo, counted: set[str]) -> None:
    numbers: dict[str, int] = {}  # by the counted call's id
    for asker, answer, question in answers:
        if asker.gone.is_set() and answer.status == 503:
            continue  # it joined, and left before the answer
        document, headers = json.loads(answer.body), dict(answer.headers)
        assert answer.status == 200
        assert document["question"] == question == echo.calls[document["number"]][0]
        counted_as = headers.get("x-meter-joined", headers["x-meter-event-id"])
        assert counted_as in counted
        assert numbers.setdefault(counted_as, document["number"]) == document["number"]
    assert len(set(numbers.values())) == len(numbers)
