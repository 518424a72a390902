"""What bodies take of an instance's memory, and what one caller may have of it, is bounded."""

import asyncio
from collections.abc import Sequence

import pytest

from meter.errors import TooLarge
from meter.gateway.http import Answer, StreamingAnswer
from meter.gateway.limits.intake import BodyLimits
from meter.ports import Headers
from tests.fakes.gateway import (
    FakeCaller,
    FakeRequestBody,
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
    Door,
    door,
    error_of,
    headers_from,
    headers_of,
)

BODY = b'{"model":"gpt","messages":[{"role":"user","content":"%b"}]}' % (b"x" * 941)
type Kind = tuple[str, bytes]
KINDS: list[Kind] = [(CHAT_PATH, BODY), (TRANSCRIPTION_PATH, FORM)]
BY_KIND = pytest.mark.parametrize("kind", KINDS, ids=["json", "form"])


def headers(subject: str, kind: Kind, length: int | None = None) -> Headers:
    return headers_from(subject, of_form=kind[0] == TRANSCRIPTION_PATH, length=length)


async def send(
    made: Door,
    kind: Kind,
    subject: str = "alice",
    parts: Sequence[Part] | None = None,
    *,
    length: int | None = None,
) -> Answer | StreamingAnswer:
    body = FakeRequestBody([kind[1]] if parts is None else parts)
    return await made.call(body, path=kind[0], headers=headers(subject, kind, length))


async def uploading(
    made: Door, kind: Kind, subject: str = "alice", *, length: int | None = None
) -> tuple["asyncio.Task[Answer | StreamingAnswer]", asyncio.Event]:
    """A call whose body stops half way, until the event is set."""
    go_on = asyncio.Event()
    half = len(kind[1]) // 2
    parts: list[Part] = [kind[1][:half], go_on, kind[1][half:]]
    task = asyncio.create_task(send(made, kind, subject, parts, length=length))
    for _ in range(20):
        await asyncio.sleep(0)
    return task, go_on


def used(made: Door) -> int:
    return made.front_door.admission.body_bytes.used


@BY_KIND
async def test_a_body_is_held_as_it_arrives_until_its_call_ends(kind: Kind) -> None:
    """Without a length its bytes count one by one."""
    made = door(json_answer(200, SERVED))
    task, go_on = await uploading(made, kind)

    assert used(made) == len(kind[1]) // 2
    go_on.set()
    assert (await task).status == 200
    assert (used(made), made.is_idle) == (0, True)


@BY_KIND
async def test_an_announced_body_is_held_at_once(kind: Kind) -> None:
    """All of it, before it has arrived."""
    made = door(json_answer(200, SERVED))
    task, go_on = await uploading(made, kind, length=len(kind[1]))

    assert used(made) == len(kind[1])
    go_on.set()
    await task
    assert made.is_idle


@BY_KIND
@pytest.mark.parametrize("is_announced", [True, False], ids=["announced", "growing"])
async def test_a_body_beyond_the_budget_is_refused(kind: Kind, is_announced: bool) -> None:
    """503 with a wait, no event, and nothing is held; what is under way goes on."""
    made = door(json_answer(200, SERVED), body_budget_bytes=int(len(kind[1]) * 1.2))
    first, go_on = await uploading(made, kind, "bob")

    second = await send(made, kind, length=len(kind[1]) if is_announced else None)

    assert (second.status, headers_of(second)["retry-after"]) == (503, "1")
    assert headers_of(second)["x-meter-error"] == "overloaded"
    assert used(made) == len(kind[1]) // 2
    go_on.set()
    assert (await first).status == 200
    assert (len(made.sink.events), made.is_idle) == (1, True)


@BY_KIND
async def test_a_callers_bodies_have_a_share_of_the_budget(kind: Kind) -> None:
    """429 with a wait, while others are served; one body is never more than a share."""
    made = door(json_answer(200, SERVED), json_answer(200, SERVED))
    made.front_door.admission.body_bytes.resize(len(kind[1]) * 3, 10)
    first, go_on = await uploading(made, kind, length=len(kind[1]))

    second, other = await send(made, kind), await send(made, kind, "bob")

    assert (second.status, headers_of(second)["retry-after"]) == (429, "1")
    assert headers_of(second)["x-meter-error"] == "share"
    assert other.status == 200
    go_on.set()
    assert (await first).status == 200
    assert made.is_idle


@pytest.mark.parametrize("where", ["cancelled", "cut", "no json", "unserved"])
async def test_a_refused_or_abandoned_body_is_given_back(where: str) -> None:
    """However its call ends."""
    made = door(json_answer(200, SERVED))
    match where:
        case "cancelled":
            task, _ = await uploading(made, KINDS[0], length=5_000)
            task.cancel()
            await asyncio.wait({task})
        case "cut":
            await send(made, KINDS[0], parts=[BODY[:90], TooLarge("It stopped.", status=408)])
        case "no json":
            await send(made, (CHAT_PATH, b"{" + BODY))
        case _:
            path = V1_RESPONSES_PATH
            await send(made, (path, BODY.replace(b'"gpt"', b'"no"')))

    assert (used(made), made.sink.events, made.is_idle) == (0, [], True)


@pytest.mark.parametrize(
    ("path", "with_token", "status"),
    [
        (CHAT_PATH, False, 401),
        (CHAT_PATH.replace("/gpt/", "/no/"), True, 404),
        ("/openai/files", True, 404),
    ],
)
async def test_no_byte_is_taken_of_a_call_that_is_refused_by_its_head(
    path: str, with_token: bool, status: int
) -> None:
    """No token, or a deployment in the address that nobody serves."""
    made = door(json_answer(200, SERVED))
    body = FakeRequestBody([asyncio.Event()])
    given = headers("alice", KINDS[0], 5_000)

    answer = await made.call(body, path=path, headers=given if with_token else given[1:])

    assert (answer.status, body.is_waiting.is_set(), used(made)) == (status, False, 0)


@pytest.mark.parametrize("length", [None, 901])
async def test_json_has_a_limit_of_its_own(length: int | None) -> None:
    """413 names it; a form may be longer."""
    limits = BodyLimits(max_form_bytes=5_000, max_json_bytes=900)
    made = door(json_answer(200, SERVED), bodies=limits)

    answer = await send(made, KINDS[0], length=length)
    other = await send(made, KINDS[1])

    message = "The request body is larger than 900 bytes, the limit for JSON."
    assert (answer.status, error_of(answer)["message"]) == (413, message)
    assert (other.status, made.is_idle) == (200, True)


async def test_a_form_has_its_limit() -> None:
    """Before its model is known, and after."""
    limits = BodyLimits(max_form_bytes=2_000, max_json_bytes=1_000)
    made = door(bodies=limits)

    answer = await send(made, KINDS[1], parts=[FORM[:900], FORM[900:]])

    assert answer.status == 413
    assert "limit for forms" in str(error_of(answer)["message"])
    assert made.is_idle


async def test_an_event_stream_keeps_its_body_for_an_estimate() -> None:
    """Until it ends: only then is it known whether the backend reports its usage."""
    gate = asyncio.Event()
    made = door(stream_answer(TEXT_FRAME, gate, USAGE_FRAME + DONE_FRAME))
    answer = await made.call(STREAM_BODY)
    assert isinstance(answer, StreamingAnswer)

    assert used(made) == len(STREAM_BODY)
    gate.set()
    await answer.relay.run(FakeCaller())
    assert made.is_idle


async def test_a_body_is_dropped_when_nothing_can_need_it() -> None:
    """With the first bytes of audio no backend is tried again, and nothing is estimated."""
    audio = json_answer(200, b"ab")
    audio.headers = (("content-type", "audio/mpeg"),)
    made = door(audio)
    answer = await made.call(BODY, path=SPEECH_PATH)
    assert isinstance(answer, StreamingAnswer)

    assert used(made) == 0
    await answer.relay.run(FakeCaller())
    assert made.is_idle


async def test_a_callers_calls_have_a_share_of_the_slots() -> None:
    """Twenty bodies that never end are ten, and the other ten slots are for others."""
    made = door(*[json_answer(200, SERVED)] * 12, max_concurrent_calls=20, subject_share_percent=50)
    opened = [await uploading(made, KINDS[0]) for _ in range(20)]
    refused = [task.result() for task, _ in opened if task.done()]

    others = [(await send(made, KINDS[0], "bob")).status for _ in range(2)]

    assert [each.status for each in refused] == [429] * 10
    assert {headers_of(each)["x-meter-error"] for each in refused} == {"share"}
    assert {headers_of(each)["retry-after"] for each in refused} == {"1"}
    assert others == [200, 200]
    for _, go_on in opened:
        go_on.set()
    assert {(await task).status for task, _ in opened} == {200, 429}
    assert made.is_idle


async def test_a_callers_abandoned_streams_have_a_share_of_the_drains() -> None:
    """Beyond it they are closed; others' are drained."""
    gate = asyncio.Event()
    answers = [stream_answer(TEXT_FRAME, TEXT_FRAME, gate, USAGE_FRAME + DONE_FRAME) for _ in "abc"]
    made = Door(FakeUpstream({"a": [*answers]}))
    made.drains.quota.resize(2, 50)
    running = []
    for subject in ("alice", "alice", "bob"):
        answer = await made.call(STREAM_BODY, headers=headers(subject, KINDS[0]))
        assert isinstance(answer, StreamingAnswer)
        running.append(asyncio.create_task(answer.relay.run(FakeCaller(leaves_after=1))))
        await asyncio.wait({running[-1]}, timeout=0.1)

    assert [each.done() for each in running] == [False, True, False]
    gate.set()
    await asyncio.wait(running)
    sources = [(event.principal.subject, event.usage_source) for event in made.sink.events]
    assert sources == [("alice", "estimated"), ("alice", "reported"), ("bob", "reported")]
    assert made.is_idle


async def test_a_small_body_is_sent_whole_and_a_large_one_as_it_is() -> None:
    """Either way the backend gets the same bytes; the large ones are not copied."""
    large = CHAT_BODY.replace(b"secret", b"s" * 200_000)
    made = door(json_answer(200, SERVED), json_answer(200, SERVED))

    await made.call(CHAT_BODY)
    await made.call(large)

    assert made.upstream.bodies == [CHAT_BODY, large]
    small, other = made.upstream.requests
    assert isinstance(small.body, bytes)
    assert ("content-length", str(len(large))) in other.headers
    assert isinstance(other.body, tuple)
    assert [len(part) for part in other.body] == [len(large)]
