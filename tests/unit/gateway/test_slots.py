"""However a call ends: what it holds is given back once, and it is counted once if a backend was asked."""

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import pytest

from meter.errors import AnswerCut, TooLarge, UpstreamBroken, UpstreamError, UpstreamTimeout
from meter.gateway.answer.relay import DrainLimits, Drains
from meter.gateway.balance.affinity import Owner, Owners
from meter.gateway.http import Answer, StreamingAnswer
from meter.ports import UpstreamRequest
from tests.fakes.gateway import (
    FakeAnswer,
    FakeCaller,
    FakeRequestBody,
    FakeSink,
    FakeUpstream,
    Part,
    json_answer,
    stream_answer,
)
from tests.support.gateway import (
    CHAT_BODY,
    CHAT_PATH,
    DONE_FRAME,
    FORM,
    SERVED,
    SPEECH_PATH,
    STREAM_BODY,
    TEXT_FRAME,
    TRANSCRIPTION_PATH,
    USAGE_FRAME,
    V1_RESPONSES_PATH,
    V1_TRANSCRIPTION_PATH,
    Door,
    backend,
    door,
    form,
    headers_from,
    request,
)

type Answers = Callable[[], list[FakeAnswer | UpstreamError]]


class Tick(asyncio.Event):
    """A moment's wait, so that a call can be met there."""

    async def wait(self) -> Literal[True]:
        for _ in range(2):
            await asyncio.sleep(0)
        return True


@dataclass(frozen=True)
class Kind:
    """A call, and the answers it meets on backends a and b."""

    name: str
    a: Answers
    b: Answers = lambda: [whole()]
    path: str = CHAT_PATH
    method: str = "POST"
    body: tuple[Part, ...] = (CHAT_BODY,)


def slowly(*parts: Part) -> list[Part]:
    return [part for each in parts for part in (Tick(), each)]


def whole(status: int = 200, body: bytes = SERVED) -> FakeAnswer:
    return FakeAnswer(status, (("content-type", "application/json"),), slowly(body[:9], body[9:]))


def streamed(*parts: Part) -> FakeAnswer:
    return stream_answer(*slowly(*parts))


def audio(*parts: Part) -> FakeAnswer:
    return FakeAnswer(200, (("content-type", "audio/mpeg"),), slowly(*parts))


TEXTS = (TEXT_FRAME, USAGE_FRAME, DONE_FRAME)
REFUSES = b'{"error":"stream_options"}'
CUT = UpstreamBroken("a")
STREAM = (STREAM_BODY,)
HALVES = (Tick(), FORM[:900], Tick(), FORM[900:])
BROKEN = (*HALVES[:3], TooLarge("It stopped.", status=408))
TWO_MODELS = (form(("model", b"gpt"), ("model", b"x")),)
BY_ID = f"{V1_RESPONSES_PATH}/resp_1"
KINDS = [
    Kind("whole", lambda: [whole()]),
    Kind("refused", lambda: [whole(400, b'{"error":{}}')]),
    Kind("failover", lambda: [whole(500)]),
    Kind("all fail", lambda: [whole(500)], lambda: [UpstreamTimeout("b")]),
    Kind("throttled", lambda: [whole(429)], lambda: [whole(429)]),
    Kind("cut body", lambda: [FakeAnswer(200, (), slowly(b"{", CUT))]),
    Kind("stream", lambda: [streamed(*TEXTS)], body=STREAM),
    Kind("stream cut", lambda: [streamed(TEXT_FRAME, CUT)], body=STREAM),
    Kind("stream moved", lambda: [whole(503)], lambda: [streamed(*TEXTS)], body=STREAM),
    Kind("stream again", lambda: [whole(400, REFUSES), streamed(*TEXTS)], body=STREAM),
    Kind("stream failed", lambda: [whole(500)], lambda: [whole(500)], body=STREAM),
    Kind("audio", lambda: [audio(b"ab", b"cd")], path=SPEECH_PATH),
    Kind("audio cut", lambda: [audio(b"ab", CUT)], path=SPEECH_PATH),
    Kind("not found", lambda: [whole(404)], lambda: [whole(404)], BY_ID, "GET"),
    Kind("found", lambda: [whole(404)], path=BY_ID, method="GET"),
    Kind("form", lambda: [whole()], path=V1_TRANSCRIPTION_PATH, body=HALVES),
    Kind("form moved", lambda: [whole(500)], path=TRANSCRIPTION_PATH, body=HALVES),
    Kind("form to stream", lambda: [streamed(*TEXTS)], path=TRANSCRIPTION_PATH, body=HALVES),
    Kind("form broken", lambda: [whole()], path=TRANSCRIPTION_PATH, body=BROKEN),
    Kind("form unserved", list, path=V1_TRANSCRIPTION_PATH, body=(FORM.replace(b"gpt", b"no"),)),
    Kind("form of two models", list, path=V1_TRANSCRIPTION_PATH, body=TWO_MODELS),
    Kind("unreadable", list, body=(b"no json",)),
    Kind("unserved", list, path="/openai/files"),
    Kind("models", list, path="/openai/v1/models", method="GET"),
]
BY_NAME = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
# No kind of call takes more turns of the loop.
TURNS = 70


def bench(kind: Kind, *, is_late: bool = False) -> Door:
    upstream = FakeUpstream({"a": kind.a(), "b": kind.b()}, gate=Tick())
    backends = [backend("a"), backend("b", priority=2)]
    patience = 0.0 if is_late else 60.0
    return Door(upstream, backends, sink=FakeSink(gate=Tick()), first_keepalive_seconds=patience)


async def serve(
    made: Door,
    kind: Kind,
    caller: FakeCaller,
    *more: tuple[str, str],
    subject: str = "alice",
    length: int | None = None,
) -> None:
    """One call, as a server would serve it."""
    is_form = kind.body not in {(CHAT_BODY,), STREAM}
    headers = (*headers_from(subject, of_form=is_form, length=length), *more)
    body = FakeRequestBody(kind.body)
    answer = await made.call(body, path=kind.path, method=kind.method, headers=headers)
    if isinstance(answer, StreamingAnswer):
        with suppress(AnswerCut):
            await answer.relay.run(caller)


async def settle(made: Door) -> None:
    """Until what runs on by itself has ended."""
    await made.front_door.detached.finish(5, cut_seconds=0)
    for _ in range(TURNS):
        await asyncio.sleep(0)


def check(made: Door, reached: int) -> None:
    assert made.is_idle
    assert [answer.times_closed for answer in made.upstream.given] == [1] * len(made.upstream.given)
    assert len({event.id for event in made.sink.events}) == len(made.sink.events) == reached


@BY_NAME
@pytest.mark.parametrize("is_late", [False, True], ids=["prompt", "late"])
@pytest.mark.parametrize("leaves_after", [None, 0, 1], ids=["stays", "leaves", "leaves later"])
async def test_a_call_gives_all_back_and_is_counted_once(
    kind: Kind, is_late: bool, leaves_after: int | None
) -> None:
    """If it reached a backend; else it leaves nothing at all."""
    made = bench(kind, is_late=is_late)

    await serve(made, kind, FakeCaller(leaves_after=leaves_after))
    await settle(made)

    check(made, reached=min(1, len(made.upstream.requests)))


@BY_NAME
@pytest.mark.parametrize("is_late", [False, True], ids=["prompt", "late"])
async def test_a_call_cancelled_at_any_point_gives_all_back_and_is_counted_once(
    kind: Kind, is_late: bool
) -> None:
    """At each turn of the loop in turn, before and after its answer has begun."""
    cancelled = 0
    for turns in range(TURNS):
        made = bench(kind, is_late=is_late)
        serving = asyncio.create_task(serve(made, kind, FakeCaller()))
        for _ in range(turns):
            await asyncio.sleep(0)
        serving.cancel()
        await asyncio.wait({serving})
        await settle(made)

        check(made, reached=min(1, len(made.upstream.requests)))
        cancelled += serving.cancelled()

    assert 0 < cancelled < TURNS


@BY_NAME
@pytest.mark.parametrize("is_late", [False, True], ids=["prompt", "late"])
async def test_a_call_cut_at_any_point_when_the_server_ends_is_counted_once(
    kind: Kind, is_late: bool
) -> None:
    """Its request is cancelled first, and then what would have run on."""
    for turns in range(TURNS):
        made = bench(kind, is_late=is_late)
        serving = asyncio.create_task(serve(made, kind, FakeCaller()))
        for _ in range(turns):
            await asyncio.sleep(0)
        serving.cancel()
        await asyncio.wait({serving})
        for _ in range(turns % 5):
            await asyncio.sleep(0)
        await made.front_door.detached.finish(0, cut_seconds=5)

        for _ in range(TURNS):
            await asyncio.sleep(0)
        check(made, reached=min(1, len(made.upstream.requests)))


SUBJECTS = ("alice", "bob", "carol")


class Weather(FakeUpstream):
    """Backends that answer anything."""

    def __init__(self, dice: random.Random) -> None:
        super().__init__({})
        self.dice = dice

    async def send(
        self, request: UpstreamRequest, *, first_byte_timeout_seconds: float
    ) -> FakeAnswer:
        answers = [answer for kind in KINDS for answer in (*kind.a(), *kind.b())]
        self.script = {request.backend: [self.dice.choice(answers)]}
        self.gate = Tick() if self.dice.random() < 0.8 else None
        self.parts_read = {request.backend: 1} if self.dice.random() < 0.2 else {}
        self.requests.append(request)
        answer = self.script[request.backend][0]
        if self.gate is not None:
            await self.gate.wait()
        await self._read(request)
        if isinstance(answer, UpstreamError):
            raise answer
        self.given.append(answer)
        return answer


@pytest.mark.parametrize("seed", range(8))
async def test_many_calls_of_all_kinds_leave_nothing_running(seed: int) -> None:
    """At once, with callers that leave or are cancelled, announce any length and have their shares."""
    dice = random.Random(seed)
    upstream = Weather(dice)
    backends = [backend(name, priority=1 + at // 2) for at, name in enumerate("abcd")]
    made = Door(
        upstream,
        backends,
        max_concurrent_calls=12,
        subject_share_percent=40,
        body_budget_bytes=60_000,
        first_keepalive_seconds=0.001,
        drains=Drains(DrainLimits(most=4, seconds=5, share_percent=50)),
    )
    made.front_door.dice = made.pool.dice = dice
    serving = []
    for number in range(300):
        caller = FakeCaller(leaves_after=dice.choice([None, None, 0, 1, 2]))
        call = serve(
            made,
            dice.choice(KINDS),
            caller,
            ("x-request-id", str(number)),
            subject=dice.choice(SUBJECTS),
            length=dice.choice([None, None, 70, 3_000, 50_000]),
        )
        serving.append(asyncio.create_task(call))
        made.clock.advance(dice.choice([0, 0.1, 5]))
        for _ in range(dice.randrange(4)):
            await asyncio.sleep(0)
        if dice.random() < 0.3:
            dice.choice(serving).cancel()
    await asyncio.wait(serving)
    await settle(made)

    reached = {dict(request.headers)["x-request-id"] for request in upstream.requests}
    assert len(reached) > 50
    check(made, reached=len(reached))
    quotas = (made.front_door.admission.slots, made.front_door.admission.body_bytes)
    held = [quota.held_by(name) for quota in (*quotas, made.drains.quota) for name in SUBJECTS]
    assert set(held) == {0}
    assert {type(task.exception()) for task in serving if not task.cancelled()} == {type(None)}


async def test_a_whole_answer_holds_its_slot_until_it_is_sent() -> None:
    """Its event is published before; a caller that does not read cannot make more calls for it."""
    made = door(json_answer(200, SERVED))

    answer = await made.front_door.handle(request())
    assert isinstance(answer, Answer)
    used, events = made.front_door.admission.slots.used, len(made.sink.events)
    answer.release()

    assert (used, events) == (1, 1)
    assert made.is_idle


async def test_a_whole_answer_that_nobody_takes_gives_its_slot_back() -> None:
    """The request was cancelled while the backend answered."""
    made = door(json_answer(200, SERVED))
    made.sink.gate = asyncio.Event()
    task = asyncio.create_task(made.front_door.handle(request()))
    await made.sink.is_asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    made.sink.gate.set()

    await made.front_door.detached.finish(5, cut_seconds=5)

    assert made.is_idle


async def test_a_defect_right_after_a_stream_has_begun_gives_everything_back() -> None:
    """Nobody will relay it: its connection, its lease and its slot would be held for good."""

    class Defective(Owners):
        def learn(self, response_id: str | None, owner: Owner) -> None:
            raise RuntimeError

    made = door(stream_answer(TEXT_FRAME, DONE_FRAME))
    made.front_door.instance.background.owners = Defective()
    answer = await made.call(b'{"model":"gpt","stream":true}', path="/openai/v1/responses")

    assert answer.status == 500
    assert made.is_idle
    assert made.upstream.given[0].times_closed == 1
    assert len(made.sink.events) == 1
