"""A call goes from backend to backend until one answers; the caller never waits in between."""

import json
from contextlib import suppress
from dataclasses import dataclass, field
from uuid import UUID

import pytest

from meter.errors import (
    CallerError,
    UpstreamBroken,
    UpstreamError,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from meter.gateway.answer.begin import StreamedAnswer, WholeAnswer
from meter.gateway.backend import Backend
from meter.gateway.balance.exchange import Attempts, ForwardLimits
from meter.gateway.balance.forward import Candidates, Forwarder
from meter.gateway.balance.pool import Pool
from meter.gateway.balance.verdict import Fault
from meter.ports import Headers, UpstreamRequest
from meter.usage import Attempt
from tests.fakes.gateway import (
    FakeAnswer,
    FakeClock,
    FakeCredentials,
    FakeUpstream,
    FixedDice,
    json_answer,
    stream_answer,
)
from tests.support.gateway import EVENT_ID, backend

type Scripted = FakeAnswer | UpstreamError


@dataclass
class FakeCall:
    """What forwarding needs of a call, and no more."""

    candidates: Candidates
    must_ask_for_usage: bool = False
    expects_events: bool = False
    answers_in_text: bool = False
    is_kept_alive: bool = False
    event_id: UUID = EVENT_ID
    deployment: str = "gpt"
    attempts: Attempts = field(default_factory=Attempts)
    body_error: CallerError | None = None

    def request_for(
        self, backend: Backend, credentials: Headers, *, asks_for_usage: bool
    ) -> UpstreamRequest:
        own_name = backend.own_name("gpt")
        return UpstreamRequest(
            backend=backend.name,
            method="POST",
            url=f"{backend.url}/openai/deployments/{own_name}/chat/completions",
            headers=(("x-a", "1"), *credentials),
            body=json.dumps({"for": backend.name, "asks": asks_for_usage}).encode(),
        )

    def is_elsewhere(self, answer: WholeAnswer) -> bool:
        return False


class Bench:
    """A forwarder on fakes with backends a, b and c in that order."""

    def __init__(self, **script: list[Scripted]) -> None:
        self.clock = FakeClock()
        self.upstream = FakeUpstream(dict(script), self.clock, seconds_per_send=0.25)
        backends = [backend(name, priority=at) for at, name in enumerate(script, start=1)]
        self.pool = Pool(backends, self.clock, FixedDice())
        self.credentials = FakeCredentials()
        self.attempts = Attempts()
        self.attempts_seconds = 220.0

    async def forward(
        self,
        *,
        asks: bool = False,
        is_kept_alive: bool = False,
        expects_events: bool = False,
        answers_in_text: bool = False,
    ) -> WholeAnswer | StreamedAnswer:
        forwarder = Forwarder(
            pool=self.pool,
            upstream=self.upstream,
            credentials=self.credentials,
            clock=self.clock,
            limits=ForwardLimits(
                first_byte_timeout_seconds=120,
                attempts_timeout_seconds=self.attempts_seconds,
                max_buffered_bytes=1_000_000,
            ),
        )
        candidates = Candidates(backends=self.pool.serving("gpt"), load_key="gpt")
        self.attempts = Attempts()
        call = FakeCall(
            candidates,
            must_ask_for_usage=asks,
            expects_events=expects_events,
            answers_in_text=answers_in_text,
            is_kept_alive=is_kept_alive,
            attempts=self.attempts,
        )
        return await forwarder.forward(call)

    async def refusal(self) -> CallerError:
        with pytest.raises(CallerError) as refused:
            await self.forward()
        return refused.value


def ok(body: bytes = b"{}") -> FakeAnswer:
    return json_answer(200, body)


FAULTS: list[tuple[str, Scripted]] = [
    ("throttled", json_answer(429, b"{}", ("retry-after", "9"))),
    ("500", json_answer(500, b"{}")),
    ("502", json_answer(502, b"{}")),
    ("503", json_answer(503, b"{}")),
    ("504", json_answer(504, b"{}")),
    ("408", json_answer(408, b"{}")),
    ("401", json_answer(401, b"{}")),
    ("403", json_answer(403, b"{}")),
    ("unreachable", UpstreamUnreachable("a")),
    ("timeout", UpstreamTimeout("a")),
    ("cut head", UpstreamBroken("a")),
    ("cut body", FakeAnswer(200, (), [b'{"half":', UpstreamBroken("a")])),
    ("cut before the first chunk", stream_answer(UpstreamBroken("a"))),
]


@pytest.mark.parametrize("fault", [row[1] for row in FAULTS], ids=[row[0] for row in FAULTS])
async def test_every_fault_costs_the_caller_nothing_while_another_can_serve(
    fault: Scripted,
) -> None:
    """The next backend's answer is the caller's, and only that."""
    bench = Bench(a=[fault], b=[ok(b'{"from":"b"}')])

    answer = await bench.forward()

    assert isinstance(answer, WholeAnswer)
    assert (answer.backend.name, answer.body) == ("b", b'{"from":"b"}')
    assert bench.upstream.order == ["a", "b"]


async def test_the_attempts_are_told_in_order() -> None:
    """With the status each backend gave, or none, and how long each took."""
    bench = Bench(a=[json_answer(429, b"")], b=[UpstreamTimeout("b")], c=[ok()])

    await bench.forward()

    assert bench.attempts.made == [
        Attempt(backend="a", status=429, duration_ms=250),
        Attempt(backend="b", status=None, duration_ms=250),
        Attempt(backend="c", status=200, duration_ms=250),
    ]
    assert bench.attempts.last_backend == bench.pool.backends[2]


async def test_no_backend_is_tried_twice() -> None:
    """Not even when its bench is over by then."""
    bench = Bench(a=[json_answer(500, b"")], b=[json_answer(500, b"")])
    bench.upstream.seconds_per_send = 100.0

    await bench.refusal()

    assert bench.upstream.order == ["a", "b"]


async def test_a_benched_backend_is_passed_over_by_the_next_call() -> None:
    """It costs the next call no time at all."""
    bench = Bench(a=[json_answer(429, b"", ("retry-after", "30"))], b=[ok(), ok()])

    await bench.forward()
    await bench.forward()

    assert bench.upstream.order == ["a", "b", "b"]


async def test_a_request_is_made_for_each_backend() -> None:
    """By the call, with the backend's own credentials."""
    bench = Bench(a=[ok()])
    bench.pool.backends = [backend("a", own="own-name")]

    await bench.forward()

    sent = bench.upstream.requests[0]
    assert sent.url == "https://a.example/openai/deployments/own-name/chat/completions"
    assert sent.headers == (
        ("x-a", "1"),
        ("api-key", "key-of-a"),
    )


@pytest.mark.parametrize("status", [400, 404, 409, 413, 415, 422])
async def test_the_callers_own_mistake_is_answered_after_one_attempt(status: int) -> None:
    """The backend's refusal is passed on as it came."""
    bench = Bench(a=[json_answer(status, b'{"error":{}}')], b=[ok()])

    answer = await bench.forward()

    assert isinstance(answer, WholeAnswer)
    assert (answer.status, answer.body) == (status, b'{"error":{}}')
    assert bench.upstream.order == ["a"]


@pytest.mark.parametrize(
    ("faults", "status", "code"),
    [
        ([json_answer(429, b"", ("retry-after", "9"))], 429, "429"),
        ([json_answer(429, b""), UpstreamTimeout("b")], 429, "429"),
        ([json_answer(500, b"")], 502, "BadGateway"),
        ([UpstreamUnreachable("a")], 502, "BadGateway"),
        ([UpstreamBroken("a")], 502, "BadGateway"),
        ([json_answer(401, b"")], 502, "BadGateway"),
        ([json_answer(503, b"")], 503, "ServiceUnavailable"),
        ([json_answer(504, b"")], 504, "GatewayTimeout"),
        ([UpstreamTimeout("a")], 504, "GatewayTimeout"),
        ([json_answer(503, b""), UpstreamUnreachable("b")], 502, "BadGateway"),
    ],
    ids=str,
)
async def test_when_all_fail_the_status_says_how(
    faults: list[Scripted], status: int, code: str
) -> None:
    """429 when any throttles, else what the last one did; the SDK retries all of these."""
    bench = Bench(**{name: [fault] for name, fault in zip("ab", faults, strict=False)})

    refusal = await bench.refusal()

    assert (refusal.status, refusal.code) == (status, code)


async def test_when_all_throttle_the_soonest_time_to_ask_again_is_told() -> None:
    """The shorter of the two waits; never one longer than the gateway's own."""
    bench = Bench(
        a=[json_answer(429, b"", ("retry-after", "86400"))],
        b=[json_answer(429, b"", ("retry-after-ms", "1500"))],
    )
    bench.upstream.seconds_per_send = 0.0

    refusal = await bench.refusal()

    assert refusal.retry_after_seconds == 1.5


async def test_when_all_are_benched_no_backend_is_asked() -> None:
    """429 at once, and no attempt is recorded."""
    bench = Bench(a=[json_answer(429, b"")])
    await bench.refusal()

    refusal = await bench.refusal()

    assert (refusal.status, bench.attempts.made) == (429, [])
    assert bench.upstream.order == ["a"]


async def test_a_backend_without_credentials_is_left() -> None:
    """The next one may have some."""
    bench = Bench(a=[], b=[ok()])
    bench.credentials = FakeCredentials(frozenset({"a"}))

    answer = await bench.forward()

    assert answer.backend.name == "b"
    assert [each.fault for each in bench.attempts.failovers] == [Fault.CREDENTIALS]


async def test_a_backend_that_refuses_the_usage_option_is_asked_again_without_it() -> None:
    """Old api-versions and `data_sources` refuse what the gateway added, not the caller."""
    refusal = json_answer(400, b'{"error":{"message":"Unknown parameter: stream_options"}}')
    bench = Bench(a=[refusal, stream_answer(b"data: x\n\n")], b=[])

    answer = await bench.forward(asks=True)

    assert isinstance(answer, StreamedAnswer)
    assert answer.asked_for_usage is False
    assert [request.body for request in bench.upstream.requests] == [
        b'{"for": "a", "asks": true}',
        b'{"for": "a", "asks": false}',
    ]


@pytest.mark.parametrize(
    ("asks", "body"),
    [(False, b'{"error":{"message":"stream_options"}}'), (True, b'{"error":{"message":"other"}}')],
)
async def test_other_refusals_are_the_callers(asks: bool, body: bytes) -> None:
    """The same words about an option the gateway did not add, or other words."""
    bench = Bench(a=[json_answer(400, body)])

    answer = await bench.forward(asks=asks)

    assert isinstance(answer, WholeAnswer)
    assert (answer.status, answer.body) == (400, body)


async def test_a_stream_is_handed_on_from_its_first_chunk() -> None:
    """Open, with nothing lost."""
    answer = stream_answer(b"data: 1\n\n", b"data: 2\n\n")
    bench = Bench(a=[answer])

    forwarded = await bench.forward(asks=True)

    assert isinstance(forwarded, StreamedAnswer)
    assert (forwarded.asked_for_usage, answer.times_closed) == (True, 0)
    assert [chunk async for chunk in forwarded.chunks] == [b"data: 1\n\n", b"data: 2\n\n"]


@pytest.mark.parametrize(
    "answer",
    [
        ok(),
        json_answer(429, b""),
        json_answer(500, b""),
        json_answer(400, b""),
        FakeAnswer(200, (), [UpstreamBroken("a")]),
        stream_answer(UpstreamBroken("a")),
        FakeAnswer(500, (("content-type", "text/event-stream"),), [b"data: x\n\n"]),
    ],
    ids=lambda answer: str(answer.status),
)
async def test_an_answer_that_is_not_handed_on_is_closed(answer: FakeAnswer) -> None:
    """Its connection is given back or dropped, whatever came of it."""
    bench = Bench(a=[answer], b=[ok()])

    await bench.forward()

    assert answer.times_closed == 1


@pytest.mark.parametrize(
    ("answer", "status"), [(json_answer(429, b"{}", ("retry-after", "9")), 429), (ok(), None)]
)
async def test_a_call_without_a_backend_is_logged(
    answer: FakeAnswer, status: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    """With its deployment and the caller's status; a call that is served is not."""
    bench = Bench(a=[answer])
    with suppress(CallerError):
        await bench.forward()

    lines = [message for message in caplog.messages if message.startswith("backends_exhausted")]
    expected = [f"backends_exhausted deployment=gpt status={status} calls=1"]
    assert lines == (expected if status else [])
