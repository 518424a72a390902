"""A background response is counted once, by whichever answer shows first that it is over."""

import json
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meter.errors import AnswerCut, UpstreamBroken
from meter.gateway.answer.relay import DrainLimits
from meter.gateway.balance.affinity import UNKNOWN_DEPLOYMENT
from meter.gateway.http import Answer, StreamingAnswer
from meter.ledger.decode import Message, decode
from meter.usage import NO_USAGE, Outcome, UsageEvent, UsageSource, encode_event
from tests.fakes.gateway import FakeAnswer, FakeCaller, FakeUpstream, Part, json_answer
from tests.fakes.gateway import stream_answer as streamed
from tests.fakes.rows import MemoryRowStore
from tests.support.background import BY_ID, CREATE, CREATED_AT, DELTA, USAGE, frame, response, whole
from tests.support.events import message
from tests.support.gateway import (
    NOW,
    V1_RESPONSES_PATH,
    Door,
    backend,
    bearer,
    claims,
    headers_of,
    token,
)
from tests.support.ledger import aggregator_on


@dataclass
class Instance:
    """A front door with one backend, and what its calls were charged with."""

    door: Door = field(
        default_factory=lambda: Door(FakeUpstream({"a": []}), [backend("a", own="gpt-own")])
    )

    async def stream(self, *parts: Part, leaves_after: int | None = None) -> None:
        """Make the response."""
        self.door.upstream.script["a"].append(streamed(*parts))
        answer = await self.door.call(CREATE, path=V1_RESPONSES_PATH)
        assert isinstance(answer, StreamingAnswer)
        with suppress(AnswerCut):
            await answer.relay.run(FakeCaller(leaves_after=leaves_after))

    async def ask(
        self,
        answer: FakeAnswer,
        *,
        subject: str = "alice",
        path: str = BY_ID,
        method: str = "GET",
        query: str = "",
    ) -> Answer | StreamingAnswer:
        """Read or cancel it."""
        self.door.upstream.script["a"].append(answer)
        headers = bearer(token(payload=claims(sub=subject)))
        got = await self.door.call(b"", path=path, method=method, query=query, headers=headers)
        if isinstance(got, StreamingAnswer):
            await got.relay.run(FakeCaller())
        return got

    @property
    def events(self) -> list[UsageEvent]:
        return self.door.sink.events


def counted(*instances: Instance) -> dict[tuple[str, UUID], UsageEvent]:
    """What a ledger counts: the first event of each id in its subject's and its month's partition."""
    counted: dict[tuple[str, UUID], UsageEvent] = {}
    for event in (event for each in instances for event in each.events):
        counted.setdefault((f"{event.subject}/{event.time:%Y-%m}", event.id), event)
    return counted


def tokens(*instances: Instance) -> int:
    return sum(event.usage.total_tokens for event in counted(*instances).values())


async def test_a_stream_that_is_read_to_its_end_is_counted_in_an_event_of_the_response() -> None:
    """The call's own event, whose id the caller has, counts nothing and misses nothing."""
    made = Instance()

    await made.stream(frame("created"), DELTA, frame("completed"))

    its, own = made.events
    assert (its.usage.total_tokens, its.usage_source, its.usage_raw) == (
        34,
        UsageSource.REPORTED,
        {"usage": USAGE},
    )
    assert its.time == its.started_at == datetime.fromtimestamp(CREATED_AT, UTC)
    assert (its.id.version, its.operation, its.deployment) == (7, "responses", "gpt")
    assert (its.model, its.backend, its.attempts) == ("gpt-own", "a", ())
    assert (own.usage, own.usage_source, own.usage_raw) == (NO_USAGE, UsageSource.REPORTED, None)
    assert (own.outcome, len(own.attempts)) == (Outcome.SERVED, 1)
    assert made.door.is_idle


@pytest.mark.parametrize("status", ["completed", "incomplete", "failed"])
async def test_every_end_with_usage_is_counted(status: str) -> None:
    """A response that failed has used tokens, too."""
    made = Instance()

    await made.stream(frame("created"), frame(status))

    assert tokens(made) == 34
    outcome = Outcome.FAILED if status == "failed" else Outcome.SERVED
    assert {event.outcome for event in made.events} == {outcome}


@pytest.mark.parametrize("drains", [0, 10], ids=["cancel", "drain broken"])
async def test_a_stream_that_was_left_is_missing_until_the_response_is_read(drains: int) -> None:
    """Nothing is estimated: the read supplies the exact figure."""
    made = Instance()
    made.door.drains.limits = DrainLimits(most=drains, seconds=5)
    await made.stream(frame("created"), DELTA, DELTA, UpstreamBroken("a"), leaves_after=1)
    before = tokens(made)

    answer = await made.ask(whole())

    own, its, read = made.events
    assert (own.usage, own.usage_source) == (NO_USAGE, UsageSource.MISSING)
    assert own.outcome is Outcome.DISCONNECTED
    assert (before, its.usage.total_tokens, its.deployment) == (0, 34, "gpt")
    assert (read.operation, read.usage, read.usage_source) == (
        "responses/get",
        NO_USAGE,
        UsageSource.REPORTED,
    )
    assert headers_of(answer)["total-tokens"] == "0"
    assert headers_of(answer)["x-meter-event-id"] == str(read.id)


async def test_a_cut_stream_is_missing_and_failed() -> None:
    """The backend may go on with the response."""
    made = Instance()

    await made.stream(frame("created"), DELTA, UpstreamBroken("a"))

    (own,) = made.events
    assert (own.outcome, own.usage_source) == (Outcome.FAILED, UsageSource.MISSING)


async def test_a_stream_that_is_drained_is_counted_at_its_end() -> None:
    """A later read adds nothing."""
    made = Instance()
    await made.stream(frame("created"), DELTA, frame("completed"), leaves_after=1)

    await made.ask(whole())

    assert tokens(made) == 34
    assert [event.usage_source for event in made.events] == [UsageSource.REPORTED] * 3


@pytest.mark.parametrize(
    ("method", "path", "query"),
    [
        ("GET", BY_ID, ""),
        ("GET", "/openai/responses/resp_1", "api-version=2025-04-01-preview"),
        ("POST", f"{BY_ID}/cancel", ""),
    ],
)
@pytest.mark.parametrize("status", ["completed", "incomplete", "failed", "cancelled"])
async def test_any_answer_that_shows_the_end_counts_it(
    method: str, path: str, query: str, status: str
) -> None:
    """Also on an instance that did not see it made: the deployment follows from its model."""
    made = Instance()

    await made.ask(whole(status), method=method, path=path, query=query)

    its, _ = made.events
    assert (its.usage.total_tokens, its.deployment, its.subject) == (34, "gpt", "alice")


async def test_a_stream_that_is_read_again_counts_it_too() -> None:
    """`GET ...?stream=true`, also one that resumes behind the beginning."""
    made = Instance()

    await made.ask(streamed(DELTA, frame("completed")), query="stream=true&starting_after=3")

    assert [event.usage.total_tokens for event in made.events] == [34, 0]


@pytest.mark.parametrize(
    "shown",
    [
        response("queued"),
        response("in_progress"),
        response("in_progress", usage=USAGE),
        response(usage=None),
        response(usage={"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}),
        response(background=False),
        response(background=None),
        response(background="true"),
        response(id=7),
        response(id="resp 1"),
        response(created_at=None),
        response(created_at="now"),
        response(created_at=True),
        response(created_at=-1),
        response(created_at=10**30),
        {"object": "list", "data": [response()]},
        {"id": "resp_1", "object": "response", "deleted": True},
        {"error": response()},
    ],
    ids=str,
)
async def test_an_answer_that_shows_no_end_counts_nothing(shown: dict[str, object]) -> None:
    """Not over, without usage, not in the background, or not to be told from others."""
    made = Instance()

    await made.ask(json_answer(200, json.dumps(shown).encode()))

    assert [event.operation for event in made.events] == ["responses/get"]
    assert tokens(made) == 0


@pytest.mark.parametrize(
    "changes", [{"background": False}, {"created_at": None}, {"id": 7}], ids=str
)
async def test_a_response_that_is_not_shown_as_one_in_the_background_is_counted_as_any(
    changes: dict[str, object],
) -> None:
    """By the call that made it; no later read shows it as one either."""
    made = Instance()

    await made.stream(frame("created", **changes), frame("completed", **changes))
    await made.ask(whole("completed", **changes))

    assert [event.usage.total_tokens for event in made.events] == [34, 0]


async def test_reads_while_it_runs_count_nothing_and_the_first_after_its_end_does() -> None:
    """Pollers read many times."""
    made = Instance()
    for status in ("queued", "in_progress", "in_progress", "completed", "completed", "completed"):
        await made.ask(whole(status))

    assert [event.usage.total_tokens for event in made.events] == [0, 0, 0, 34, 0, 0, 0]


async def test_the_maker_is_charged_whoever_reads() -> None:
    """Where the instance saw it made."""
    made = Instance()
    await made.stream(frame("created"), UpstreamBroken("a"))

    await made.ask(whole("in_progress"), subject="bob")
    await made.ask(whole(), subject="bob")

    its = next(event for event in made.events if event.usage.total_tokens)
    assert (its.subject, its.principal.object_id) == ("alice", "object-1")
    assert made.events[-1].subject == "bob"


async def test_a_model_that_no_deployment_has_is_its_own_deployment() -> None:
    """For a response made elsewhere, its model is the best that is known."""
    made = Instance()
    await made.ask(whole(model="o3"))
    await made.ask(whole(id="resp_2", model="no deployment"), path=f"{V1_RESPONSES_PATH}/resp_2")

    assert [event.deployment for event in made.events if event.usage.total_tokens] == [
        "o3",
        UNKNOWN_DEPLOYMENT,
    ]


async def test_other_responses_have_other_ids() -> None:
    """Also those of the same second."""
    made = Instance()
    for name in ("resp_1", "resp_2", "resp_3"):
        await made.ask(whole(id=name), path=f"{V1_RESPONSES_PATH}/{name}")

    assert tokens(made) == 3 * 34


async def test_a_long_closing_frame_counts_it() -> None:
    """The frame repeats the whole output, and is never held."""
    made = Instance()
    made.door.front_door.relays.max_frame_bytes = 1_000
    closing = frame("completed", output=["A" * 9_000], metadata={"usage": "\\" * 50_000})

    await made.stream(
        frame("created"), *[closing[at : at + 700] for at in range(0, len(closing), 700)]
    )

    assert tokens(made) == 34


async def test_the_ledger_accepts_the_event() -> None:
    """Its time is that of the response's creation, whenever it is read."""
    made = Instance()
    await made.ask(whole())
    message = Message(body=encode_event(made.events[0]), hub_partition="0", sequence_number=1)

    decoded = decode(
        [message],
        now=datetime.fromtimestamp(CREATED_AT, UTC) + timedelta(days=30),
        retention=timedelta(days=100),
    )

    assert decoded.events == (made.events[0],)


async def test_a_ledger_counts_the_events_of_two_instances_once() -> None:
    """Each instance publishes what it was shown; the marker of the first drops the second."""
    first, second, store = Instance(), Instance(), MemoryRowStore()
    second.door.clock.advance(1)  # calls have ids of their own
    await first.stream(frame("created"), frame("completed"))
    await second.ask(whole())
    aggregator = aggregator_on(store, now=datetime.fromtimestamp(NOW + 60, UTC))

    for instance in (first, second, first):
        await aggregator.handle([message(event) for event in instance.events])
    await aggregator.showing.settle()

    rows = store.rows("UsageByMonth").values()
    assert sum(int(str(row["TotalTokens"])) for row in rows) == 34
    assert sum(int(str(row["Calls"])) for row in rows) == 3


SHOWINGS = st.lists(
    st.tuples(
        st.integers(min_value=0, max_value=1),
        st.sampled_from(["running", "over", "stream", "cancel"]),
    ),
    max_size=6,
)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(["read", "left and drained", "left", "cut"]), SHOWINGS, st.booleans())
async def test_it_is_counted_once_whatever_shows_it(
    ending: str, showings: list[tuple[int, str]], ends: bool
) -> None:
    """On any of two instances, in any order, any number of times: billed is what is counted."""
    instances = [Instance(), Instance()]
    last: Part = (
        frame("completed") if ending.startswith(("read", "left and")) else UpstreamBroken("a")
    )
    is_left = ending.startswith("left")
    await instances[0].stream(
        frame("created"), DELTA, DELTA, last, leaves_after=1 if is_left else None
    )
    is_over = not isinstance(last, Exception)
    is_shown = is_over
    for which, how in showings:
        is_over = is_over or ends
        is_running = how == "running" or not is_over
        if how == "stream" and not is_running:
            await instances[which].ask(streamed(frame("completed")), query="stream=true")
        else:
            status = "in_progress" if is_running else "completed"
            path, method = (f"{BY_ID}/cancel", "POST") if how == "cancel" else (BY_ID, "GET")
            await instances[which].ask(whole(status), path=path, method=method)
        is_shown = is_shown or not is_running

    assert tokens(*instances) == (34 if is_shown else 0)
