"""A background response that nobody reads to its end is counted all the same."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meter.errors import AnswerCut, UpstreamBroken, UpstreamError, UpstreamTimeout
from meter.gateway.answer.relay import DrainLimits, Drains
from meter.gateway.balance.affinity import Owner
from meter.gateway.balance.demand import NO_DEMAND
from meter.gateway.follow_ups import MOST_AT_ONCE, pauses
from meter.gateway.http import Answer, StreamingAnswer
from meter.gateway.limits.quota import Quota
from meter.ports import UpstreamRequest
from meter.usage import NO_USAGE, Outcome, UsageEvent, UsageSource
from tests.fakes.gateway import (
    FakeAnswer,
    FakeCaller,
    FakeClock,
    FakeUpstream,
    FixedDice,
    Part,
    json_answer,
    stream_answer,
)
from tests.fakes.virtual_time import LoopClock, VirtualTimeLoop
from tests.support.background import BY_ID, CREATE, DELTA, USAGE, frame, response, whole
from tests.support.gateway import (
    NOW,
    V1_RESPONSES_PATH,
    Door,
    backend,
    bearer,
    claims,
    error_of,
    headers_of,
    token,
)

RUNNING = "in_progress"
ITS_ID = "01a206e1-efc0-7b01-a7ed-6a13a52d6fd7"  # as any instance derives it from resp_1 and its creation
ESTIMATE = 13  # of what `left` shows before the caller leaves
WORDS = b'data: {"type":"response.output_text.delta","delta":"%b"}\n\n' % (b"word" * 4)

type Shown = FakeAnswer | UpstreamError
type Show = Callable[[int], Shown]


@dataclass
class Account(FakeUpstream):
    """A backend that shows its response to the n-th reader as `show` says, until it is deleted."""

    script: dict[str, list[FakeAnswer | UpstreamError]] = field(default_factory=dict)
    show: Show = lambda _n: whole()
    stream: list[Part] = field(default_factory=list)
    asked: list[tuple[str, float]] = field(default_factory=list)
    read: int = 0
    asking: int = 0
    most_asking: int = 0
    is_deleted: bool = False
    shows_all: bool = False

    async def send(
        self, request: UpstreamRequest, *, first_byte_timeout_seconds: float
    ) -> FakeAnswer:
        self.requests.append(request)
        self.patience.append(first_byte_timeout_seconds)
        if request.method == "POST" and "/responses/" not in request.url:
            return stream_answer(*self.stream)
        self.asked.append((request.method, asyncio.get_running_loop().time()))
        self.asking += 1
        self.most_asking = max(self.most_asking, self.asking)
        try:
            if self.gate is not None:
                async with asyncio.timeout(first_byte_timeout_seconds):
                    await self.gate.wait()
            return self._answer(request.method, request.url.rpartition("/")[2])
        except TimeoutError as exc:
            raise UpstreamTimeout(request.backend) from exc
        finally:
            self.asking -= 1

    def _answer(self, method: str, last: str) -> FakeAnswer:
        if self.is_deleted:
            return json_answer(404, b'{"error":{"message":"not found"}}')
        if method == "DELETE":
            self.is_deleted = True
            return json_answer(200, b'{"id":"resp_1","object":"response","deleted":true}')
        answer = whole(id=last) if self.shows_all else self.show(self.read)
        self.read += 1
        if isinstance(answer, UpstreamError):
            raise answer
        return answer


class Instance:
    """A front door on one account, in virtual time; streams that are left are not drained."""

    def __init__(self, show: Show = lambda _n: whole(), **parts: object) -> None:
        self.account = Account(show=show)
        self.began = asyncio.get_running_loop().time()
        self.door = Door(
            self.account,
            [backend("a", own="gpt-own")],
            clock=cast(FakeClock, LoopClock()),
            drains=Drains(DrainLimits(most=0, seconds=5)),
            **parts,  # type: ignore[arg-type]  # checked by Door
        )

    async def make(
        self, *parts: Part, leaves_after: int | None = 1, subject: str = "alice", query: str = ""
    ) -> Answer | None:
        """Make a response: by default, leave its stream before its last event."""
        self.account.stream = list(parts) or [
            frame("created"),
            WORDS,
            WORDS,
            frame("completed"),
        ]
        path = V1_RESPONSES_PATH if not query else "/openai/responses"
        answer = await self.door.call(CREATE, path=path, query=query, headers=headers(subject))
        if isinstance(answer, Answer):
            return answer
        with suppress(AnswerCut):
            await answer.relay.run(FakeCaller(leaves_after=leaves_after))
        return None

    async def call(self, method: str, path: str = BY_ID, subject: str = "alice") -> Answer:
        """A caller's own call by the response's id."""
        answer = await self.door.call(
            b"", path=path, method=method, query="", headers=headers(subject)
        )
        assert not isinstance(answer, StreamingAnswer)
        return answer

    @property
    def its(self) -> list[UsageEvent]:
        """The events with tokens: those of responses."""
        return [event for event in self.door.sink.events if event.usage != NO_USAGE]

    @property
    def asked_after(self) -> list[float]:
        """When the backend was asked, in seconds."""
        return [at - self.began for _, at in self.account.asked]

    @property
    def open(self) -> int:
        return len(self.door.front_door.instance.background.follow_ups._open)


def headers(subject: str) -> tuple[tuple[str, str], ...]:
    payload = claims(sub=subject, exp=NOW + 10_000_000)
    return bearer(token(payload=payload))


def virtually[T](scenario: Callable[[], Coroutine[object, object, T]]) -> T:
    """What a scenario returns, in a loop whose waits take no time."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(scenario())


def in_turn(*answers: Shown | Callable[[], Shown]) -> Show:
    """Show these one after another; the last one again and again."""

    def show(n: int) -> Shown:
        each = answers[min(n, len(answers) - 1)]
        return each if isinstance(each, FakeAnswer | UpstreamError) else each()

    return show


def running() -> FakeAnswer:
    return whole(RUNNING)


def cancelled(**changes: object) -> FakeAnswer:
    return whole("cancelled", **({"usage": None} | changes))


def not_found() -> FakeAnswer:
    return json_answer(404, b'{"error":{"message":"not found","code":null}}')


def test_a_stream_read_almost_to_its_end_and_left_is_counted_by_the_gateways_own_question() -> None:
    """To its maker, exactly, with no call of a caller's and no event but the response's."""

    async def scenario() -> Instance:
        made = Instance()
        await made.make()
        await asyncio.sleep(4_000)
        return made

    made = virtually(scenario)

    own, its = made.door.sink.events
    assert (own.usage, own.usage_source) == (NO_USAGE, UsageSource.MISSING)
    assert own.outcome is Outcome.DISCONNECTED
    assert (its.usage.total_tokens, its.usage_source, its.usage_raw) == (
        34,
        UsageSource.REPORTED,
        {"usage": USAGE},
    )
    assert (its.subject, its.deployment, its.model, its.attempts) == ("alice", "gpt", "gpt-own", ())
    assert its.outcome is Outcome.SERVED
    _, asked = made.account.requests
    assert (asked.method, asked.url, asked.body) == (
        "GET",
        "https://a.example/openai/v1/responses/resp_1",
        b"",
    )
    assert asked.headers == (
        ("accept", "application/json"),
        ("accept-encoding", "identity"),
        ("api-key", "key-of-a"),
    )
    assert made.asked_after == [5.0]
    assert (made.open, made.door.is_idle) == (0, True)


def test_a_classic_address_is_asked_with_its_version() -> None:
    """Azure requires one there; nothing else of the caller's query is repeated."""

    async def scenario() -> Instance:
        made = Instance()
        await made.make(query="x=1&api-version=2025-04-01-preview&stream=true")
        await asyncio.sleep(60)
        return made

    assert virtually(scenario).account.requests[1].url == (
        "https://a.example/openai/responses/resp_1?api-version=2025-04-01-preview"
    )


@pytest.mark.parametrize(
    "parts", [[frame("created"), DELTA, UpstreamBroken("a")], [frame("created", id="a.b")]], ids=str
)
def test_only_an_id_that_a_caller_could_read_is_asked_for(parts: list[Part]) -> None:
    """A cut stream is followed up; an id that is no response's is not."""

    async def scenario() -> int:
        made = Instance()
        await made.make(*parts, leaves_after=None)
        await asyncio.sleep(60)
        return len(made.its)

    assert virtually(scenario) == (len(parts) == 3)


def test_a_response_whose_first_event_is_too_long_to_hold_is_followed_up() -> None:
    """It repeats the caller's instructions, which may be as long as a caller likes."""

    async def scenario() -> Instance:
        made = Instance(max_frame_bytes=1_000)
        long = frame("created", instructions="x" * 3_000)
        await made.make(long, WORDS, WORDS, frame("completed"))
        await asyncio.sleep(60)
        return made

    made = virtually(scenario)

    assert made.door.sink.events[0].usage_source is UsageSource.MISSING
    assert [event.usage.total_tokens for event in made.its] == [34]


def test_a_response_that_runs_on_is_asked_for_ever_more_rarely() -> None:
    """At most once a minute, until it has ended."""

    async def scenario() -> Instance:
        made = Instance(in_turn(*[running] * 6, whole))
        await made.make()
        await asyncio.sleep(4_000)
        return made

    made = virtually(scenario)

    assert made.asked_after == [5, 15, 35, 75, 135, 195, 255]
    assert [event.usage.total_tokens for event in made.its] == [34]


def test_pauses_differ_and_have_an_end() -> None:
    """Instances that began together do not ask together; none asks for much more than an hour."""
    longest, shortest = (list(pauses(FixedDice(value))) for value in (0.0, 0.999))

    assert longest[:6] == [5, 10, 20, 40, 60, 60]
    assert [round(each, 1) for each in shortest[:6]] == [3.8, 7.5, 15.0, 30.0, 45.0, 45.0]
    assert 3_600 <= sum(shortest) <= sum(longest) <= 3_660


def test_a_read_by_somebody_ends_the_follow_up() -> None:
    """The read counts it, to its maker; nothing else is asked."""

    async def scenario() -> Instance:
        made = Instance()
        await made.make()
        await asyncio.sleep(1)
        await made.call("GET", subject="bob")
        await asyncio.sleep(4_000)
        return made

    made = virtually(scenario)

    assert made.asked_after == [1]
    assert [(each.subject, each.usage.total_tokens) for each in made.its] == [("alice", 34)]
    assert made.open == 0


def test_a_response_that_was_counted_while_it_was_streamed_is_not_counted_again() -> None:
    """Somebody read it by its id before its slow stream broke."""

    async def scenario() -> Instance:
        made = Instance()
        await made.call("GET")
        await made.make()
        await asyncio.sleep(4_000)
        return made

    made = virtually(scenario)

    assert [event.usage.total_tokens for event in made.its] == [34]
    assert made.open == 0


def test_a_cancellation_that_shows_the_usage_ends_it_too() -> None:
    """The cancelled response has used tokens."""

    async def scenario() -> Instance:
        made = Instance(in_turn(lambda: cancelled(usage=USAGE)))
        await made.make()
        await made.call("POST", f"{BY_ID}/cancel")
        await asyncio.sleep(4_000)
        return made

    made = virtually(scenario)

    assert [method for method, _ in made.account.asked] == ["POST"]
    assert [event.usage.total_tokens for event in made.its] == [34]


def test_a_stream_that_shows_its_end_is_not_followed_up() -> None:
    """Its usage is known."""

    async def scenario() -> Instance:
        made = Instance()
        await made.make(leaves_after=None)
        await asyncio.sleep(4_000)
        return made

    made = virtually(scenario)

    assert (made.account.asked, [event.usage.total_tokens for event in made.its]) == ([], [34])


def as_json(shown: object) -> FakeAnswer:
    return json_answer(200, json.dumps(shown).encode())


@pytest.mark.parametrize(
    "trouble",
    [
        not_found,
        lambda: json_answer(429, b"{}", ("retry-after", "30")),
        lambda: json_answer(401, b"{}"),
        lambda: json_answer(400, b"{}"),
        lambda: json_answer(500, b"<html>"),
        lambda: json_answer(503, json.dumps(response()).encode()),
        lambda: json_answer(201, json.dumps(response(usage=None)).encode()),
        lambda: UpstreamTimeout("a"),
        lambda: UpstreamBroken("a"),
        lambda: json_answer(200, b""),
        lambda: json_answer(200, b'{"id":"resp_1","status":"completed","usage":'),
        lambda: json_answer(200, b"\xff\x00", ("content-encoding", "gzip")),
        lambda: FakeAnswer(200, (("content-type", "text/html"),), [b"<html>"]),
        lambda: stream_answer(b": nothing\n\n"),
        lambda: stream_answer(DELTA, UpstreamBroken("a")),
        lambda: as_json([response()]),
        lambda: as_json(response(id="resp_2")),
        lambda: as_json(response(background=False)),
        lambda: as_json(response(created_at=None)),
        lambda: as_json(response(status="melted", usage=None)),
    ],
)
def test_trouble_delays_the_count_and_does_not_change_it(trouble: Callable[[], Shown]) -> None:
    """One or two wrong answers, of whatever kind."""

    async def scenario() -> Instance:
        made = Instance(in_turn(trouble, trouble, whole))
        await made.make()
        await asyncio.sleep(1_000)
        return made

    made = virtually(scenario)

    (its,) = made.its
    assert (its.usage.total_tokens, its.usage_source) == (34, UsageSource.REPORTED)
    assert str(its.id) == ITS_ID
    assert (made.open, made.door.is_idle) == (0, True)


def test_only_callers_are_refused(caplog: pytest.LogCaptureFixture) -> None:
    """An alert tells of calls without a backend: a question of the gateway's own that fails is none."""

    def throttled() -> FakeAnswer:
        return json_answer(429, b"{}", ("retry-after", "1"))

    async def scenario() -> Answer:
        made = Instance(in_turn(throttled, throttled, throttled, throttled))
        await made.make()
        await asyncio.sleep(50)
        assert len(made.account.asked) == 3
        return await made.call("GET")

    answer = virtually(scenario)
    lines = [message for message in caplog.messages if message.startswith("backends_exhausted")]

    assert answer.status == 429
    assert lines == ["backends_exhausted deployment=gpt status=429 calls=1"]


def test_an_answer_too_long_to_hold_is_read_as_it_passes() -> None:
    """Instructions of megabytes are repeated in it."""

    async def scenario() -> Instance:
        made = Instance(lambda _n: whole(instructions="x" * 5_000), max_buffered_bytes=1_000)
        await made.make()
        await asyncio.sleep(60)
        return made

    made = virtually(scenario)

    assert [event.usage.total_tokens for event in made.its] == [34]
    assert made.door.in_flight == []


@pytest.mark.parametrize(
    ("answers", "seconds"),
    [
        pytest.param([not_found], 35, id="deleted"),
        pytest.param([running, not_found], 75, id="deleted while it ran"),
        pytest.param([lambda: whole(usage=None)], 5, id="ended without usage"),
        pytest.param([lambda: whole("failed", usage=None)], 5, id="failed without usage"),
        pytest.param([cancelled], 3_615, id="cancelled"),
    ],
)
def test_what_will_never_show_its_usage_is_counted_by_the_estimate(
    answers: list[Callable[[], Shown]], seconds: float
) -> None:
    """Of the prompt and of what its stream showed, so leaving at 99 % is charged with 99 %."""

    async def scenario() -> tuple[Instance, int]:
        made = Instance(in_turn(*answers))
        await made.make()
        await asyncio.sleep(seconds - 0.5)
        before = len(made.its)
        await asyncio.sleep(4_000)
        return made, before

    made, before = virtually(scenario)

    (its,) = made.its
    assert before == 0
    assert (its.usage.total_tokens, its.usage_source, its.usage_raw) == (
        ESTIMATE,
        UsageSource.ESTIMATED,
        None,
    )
    assert (its.subject, its.deployment) == ("alice", "gpt")
    assert made.asked_after[-1] == seconds


def test_a_cancelled_response_that_completes_all_the_same_is_counted_exactly() -> None:
    """Azure may complete what it has shown as cancelled, and whoever waits may read all of it."""

    async def scenario() -> Instance:
        made = Instance(in_turn(cancelled, cancelled, cancelled, whole))
        await made.make()
        await asyncio.sleep(4_000)
        return made

    assert [each.usage.total_tokens for each in virtually(scenario).its] == [34]


@pytest.mark.parametrize("last", [running, lambda: json_answer(500, b"{}")])
def test_what_may_still_be_read_is_given_up_without_a_count(
    last: Callable[[], Shown], caplog: pytest.LogCaptureFixture
) -> None:
    """After an hour. A read that shows the usage then counts it exactly."""

    async def scenario() -> tuple[Instance, int, int]:
        made = Instance(in_turn(last))
        await made.make()
        await asyncio.sleep(4_000)
        asked, open_then = len(made.account.asked), made.open
        await asyncio.sleep(4_000)
        assert len(made.account.asked) == asked
        assert made.its == []
        made.account.show = lambda _n: whole()
        await made.call("GET")
        return made, asked, open_then

    made, asked, open_then = virtually(scenario)

    assert asked <= 64
    assert open_then == 0
    assert [event.usage.total_tokens for event in made.its] == [34]
    assert f"background_response_given_up event_id={made.door.sink.events[0].id} backend=a" in (
        caplog.messages
    )


def test_a_response_is_asked_for_before_it_is_deleted() -> None:
    """Nothing would show its usage afterwards."""

    async def scenario() -> tuple[Instance, Answer]:
        made = Instance()
        await made.make()
        answer = await made.call("DELETE")
        await asyncio.sleep(4_000)
        return made, answer

    made, answer = virtually(scenario)

    assert [method for method, _ in made.account.asked] == ["GET", "DELETE"]
    assert answer.status == 200
    assert [event.usage.total_tokens for event in made.its] == [34]
    assert made.open == 0


def test_a_response_that_is_deleted_while_it_runs_is_counted_by_the_estimate() -> None:
    """The deletion is not refused."""

    async def scenario() -> Instance:
        made = Instance(in_turn(running))
        await made.make()
        await made.call("DELETE")
        await asyncio.sleep(4_000)
        return made

    made = virtually(scenario)

    assert [(each.usage.total_tokens, each.usage_source) for each in made.its] == [
        (ESTIMATE, UsageSource.ESTIMATED)
    ]


def test_a_deletion_of_any_other_response_asks_nothing() -> None:
    """It costs the caller no time."""

    async def scenario() -> Instance:
        made = Instance()
        await made.call("DELETE")
        return made

    assert [method for method, _ in virtually(scenario).account.asked] == ["DELETE"]


def ids(count: int) -> Iterable[str]:
    return (f"resp_{n}" for n in range(count))


async def make_many(made: Instance, count: int, subject: str = "alice") -> list[Answer | None]:
    """Make so many responses, each left after its second event."""
    return [
        await made.make(frame("created", id=each), WORDS, WORDS, subject=subject)
        for each in ids(count)
    ]


def test_a_subject_that_leaves_too_many_may_make_no_more_of_them() -> None:
    """So no response goes without a follow-up. Others, and its own other calls, are served."""

    async def scenario() -> tuple[list[Answer | None], list[object], Instance]:
        made = Instance(in_turn(running), subject_share_percent=100)
        made.door.front_door.instance.background.follow_ups.quota = Quota(4, 50)
        own = await make_many(made, 3)
        others = [
            await made.make(frame("created", id="resp_b"), WORDS, WORDS, subject="bob"),
            (await made.call("GET")).status,
        ]
        await asyncio.sleep(4_000)
        freed = await made.make(frame("created", id="resp_c"), WORDS, WORDS)
        return own, [*others, freed], made

    own, others, made = virtually(scenario)

    refused = own[2]
    assert own[:2] == [None, None]
    assert refused is not None
    assert (refused.status, headers_of(refused)["retry-after"]) == (429, "60")
    assert str(error_of(refused)["message"]).startswith("Too many background responses")
    assert others == [None, 200, None]
    assert made.door.is_idle


def test_at_most_a_few_are_asked_for_at_once() -> None:
    """However many there are, and however slowly the backend answers; all are counted."""
    count = 60

    async def scenario() -> Instance:
        made = Instance()
        made.account.gate = asyncio.Event()
        await make_many(made, count)
        made.account.shows_all = True
        asyncio.get_running_loop().call_later(7, made.account.gate.set)
        await asyncio.sleep(4_000)
        return made

    made = virtually(scenario)

    assert made.account.most_asking == MOST_AT_ONCE
    assert sum(event.usage.total_tokens for event in made.its) == count * 34
    assert made.open == 0


def test_a_backend_that_hangs_is_left_alone_and_holds_no_turn_for_long() -> None:
    """It cools down for follow-ups; callers' own reads of it are not held back."""

    async def scenario() -> tuple[Instance, bool]:
        made = Instance()
        made.account.gate = asyncio.Event()
        await make_many(made, 40)
        await asyncio.sleep(16)
        reads = made.door.pool.target(made.door.backends[0], "/responses/get")
        may_read = reads.may_call(NO_DEMAND, asyncio.get_running_loop().time())
        await asyncio.sleep(84)
        return made, may_read

    made, may_read = virtually(scenario)

    assert len(made.account.asked) <= 20
    assert max(made.account.patience[40:]) == 10
    assert may_read


def test_a_backend_whose_reads_are_throttled_is_not_asked() -> None:
    """A caller's read met the 429; the follow-up waits as long as other callers would."""

    async def scenario() -> Instance:
        made = Instance(in_turn(lambda: json_answer(429, b"{}", ("retry-after", "30")), whole))
        await made.make()
        made.door.front_door.instance.background.owners.learn("resp_1", Owner("a", "gpt"))
        for caller in ("alice", "bob"):
            made.account.read = 0
            await made.call("GET", subject=caller)
        await asyncio.sleep(100)
        return made

    made = virtually(scenario)

    throttled, own = made.asked_after[:-1], made.asked_after[-1]
    assert throttled == [0, 0] or throttled == [0]
    assert own == 35
    assert [event.usage.total_tokens for event in made.its] == [34]


def test_an_end_of_the_process_leaves_the_rest_to_later_reads(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """In order: a log line says how many. Killed, it says nothing."""

    async def scenario() -> Instance:
        made = Instance()
        await make_many(made, 3)
        await made.door.front_door.instance.background.follow_ups.close()
        await asyncio.sleep(4_000)
        return made

    made = virtually(scenario)

    assert (made.account.asked, made.its, made.open) == ([], [], 0)
    assert caplog.messages == ["background_follow_ups_stopped count=3"]


def test_a_read_on_another_instance_makes_the_same_event() -> None:
    """A ledger counts the first of them."""

    async def scenario() -> tuple[Instance, Instance]:
        made, other = Instance(), Instance()
        await made.make()
        await other.call("GET")
        await asyncio.sleep(60)
        return made, other

    made, other = virtually(scenario)

    assert [each.id for each in made.its] == [each.id for each in other.its]
    assert made.its[0].time == other.its[0].time
    assert made.its[0].subject == other.its[0].subject


def test_a_defect_of_our_own_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody awaits the task."""

    def broken(_n: int) -> Shown:
        raise ZeroDivisionError

    async def scenario() -> Instance:
        made = Instance(broken)
        await made.make()
        await asyncio.sleep(60)
        return made

    made = virtually(scenario)

    event_id = made.door.sink.events[0].id
    assert caplog.messages == [f"background_follow_up_failed_unexpectedly event_id={event_id}"]
    assert made.open == 0


SHOWN: dict[str, Callable[[], Shown]] = {
    "running": running,
    "throttled": lambda: json_answer(429, b"{}"),
    "broken": lambda: UpstreamBroken("a"),
    "nonsense": lambda: json_answer(200, b"?"),
    "cancelled": cancelled,
    "missing": not_found,
}
STEPS = st.lists(st.sampled_from(["wait", "read", "cancel", "delete", *SHOWN]), max_size=8)


@settings(max_examples=60, deadline=None)
@given(STEPS, st.booleans())
def test_it_is_counted_exactly_once_whatever_happens(steps: list[str], is_left: bool) -> None:
    """If its usage can be had at its end by the gateway, or if it was deleted."""

    async def scenario() -> Instance:
        made = Instance(in_turn(running))
        await made.make(leaves_after=1 if is_left else None)
        for step in steps:
            calls: dict[str, Callable[[], Awaitable[object]]] = {
                "wait": lambda: asyncio.sleep(7),
                "read": lambda: made.call("GET"),
                "cancel": lambda: made.call("POST", f"{BY_ID}/cancel"),
                "delete": lambda: made.call("DELETE"),
            }
            if step in calls:
                await calls[step]()
            else:
                made.account.show = in_turn(SHOWN[step])
        made.account.show = in_turn(whole)
        await asyncio.sleep(5_000)
        return made

    made = virtually(scenario)

    assert len(made.its) == 1
    assert made.its[0].usage.total_tokens in {34, ESTIMATE}
    if "missing" not in steps and "delete" not in steps:
        assert made.its[0].usage.total_tokens == 34
    assert (made.open, made.door.is_idle) == (0, True)
