"""A repeated request gets the answer of the call that it repeats, and is not billed again."""

import asyncio
import logging

import pytest

from meter.gateway.http import Answer
from meter.ports import Headers
from meter.usage import Outcome
from tests.fakes.gateway import json_answer
from tests.support.gateway import (
    CHAT_BODY,
    CHAT_PATH,
    FORM,
    NOW,
    SERVED,
    TRANSCRIPTION_PATH,
    Door,
    bearer,
    claims,
    error_of,
    form,
    form_headers,
    headers_of,
    token,
)
from tests.support.joining import (
    NEWS_SECONDS,
    SECOND_TRY,
    Asker,
    in_virtual_time,
    served_after,
    slow_door,
)

OTHER = SERVED.replace(b"secret", b"other!")
LONG_BODY = b'{"model":"gpt","messages":[{"role":"user","content":"%s"}]}' % (b"x" * 40_000)
FAILED_200 = b'{"error":{"code":"server_error","message":"no"}}'


def test_a_repeat_gets_the_answer_of_the_call_whose_caller_left() -> None:
    """As soon as it is there, for one bill; it has its own id and names the counted call's."""

    async def run() -> None:
        made = slow_door(served_after(150))
        first = Asker(made).ask()
        await asyncio.sleep(100)
        await first.leave()
        second = Asker(made).ask()
        answer = await second.whole()

        assert (answer.status, answer.body) == (200, SERVED)
        assert second.answered_at == pytest.approx(1_150, abs=0.01)
        (event,) = made.sink.events
        assert headers_of(answer)["x-meter-joined"] == str(event.id)
        assert headers_of(answer)["x-meter-event-id"] != str(event.id)
        assert headers_of(answer)["total-tokens"] == "46"
        assert len(made.upstream.requests) == 1
        assert made.is_idle

    in_virtual_time(run)


@pytest.mark.parametrize(("seconds", "joins"), [(9.9, True), (10.1, False)])
@pytest.mark.parametrize("answer_seconds", [101, 150], ids=["kept", "under way"])
def test_an_unmarked_repeat_joins_within_ten_seconds_of_the_leaving(
    seconds: float, joins: bool, answer_seconds: float
) -> None:
    """Later an equal request is more likely a new one."""

    async def run() -> int:
        made = slow_door(served_after(answer_seconds), json_answer(200, OTHER))
        await leave_after(100, made)
        await asyncio.sleep(seconds)
        await Asker(made).ask().whole()
        await asyncio.sleep(100)
        return len(made.sink.events)

    assert in_virtual_time(run) == (1 if joins else 2)


@pytest.mark.parametrize("headers", [(SECOND_TRY,), (("x-ms-client-request-id", "id-1"),)], ids=str)
@pytest.mark.parametrize("leaves", [True, False])
def test_a_marked_repeat_joins_at_any_time(headers: Headers, leaves: bool) -> None:
    """An SDK's count of retries, or the id of the call, says that it is no new request."""

    async def run() -> None:
        made = slow_door(served_after(150))
        first = Asker(made, headers=(("x-ms-client-request-id", "id-1"),)).ask()
        await asyncio.sleep(5)
        if leaves:
            await first.leave()
        await asyncio.sleep(60)
        second = await Asker(made, headers=headers).ask().whole()

        assert second.body == SERVED
        assert len(made.sink.events) == len(made.upstream.requests) == 1

    in_virtual_time(run)


@pytest.mark.parametrize(
    "headers",
    [
        (),
        (("x-stainless-retry-count", "0"),),
        (("x-stainless-retry-count", "x"),),
        (("x-ms-client-request-id", "id-2"),),
    ],
    ids=str,
)
def test_a_new_request_is_a_call_of_its_own_at_once(headers: Headers) -> None:
    """While the caller of an equal one is there, that may be asked for twice on purpose."""

    async def run() -> None:
        made = slow_door(served_after(19), json_answer(200, OTHER))
        first = Asker(made, headers=(("x-ms-client-request-id", "id-1"),)).ask()
        await asyncio.sleep(15)
        second = Asker(made, headers=headers).ask()
        bodies = (await second.whole()).body, (await first.whole()).body

        assert bodies == (OTHER, SERVED)
        assert second.answered_at == pytest.approx(1_015)
        assert len(made.sink.events) == 2

    in_virtual_time(run)


def test_a_repeat_that_is_faster_than_the_news_of_the_leaving_joins() -> None:
    """The host tells up to 60 ms late, and OpenAI for .NET asks again at once, without any mark."""

    async def run() -> None:
        made = slow_door(served_after(150))
        first = Asker(made).ask()
        await asyncio.sleep(100)
        await first.leave(told_after=NEWS_SECONDS)
        answer = await Asker(made).ask().whole()

        assert answer.body == SERVED
        assert len(made.sink.events) == 1

    in_virtual_time(run)


@pytest.mark.parametrize(("under_way", "waits"), [(19.9, 0.0), (20.1, 0.25)])
def test_a_request_waits_for_that_news_only_where_it_is_likely(
    under_way: float, waits: float
) -> None:
    """A client gives up after 20 s or more; a wait of 0.25 s is then the most."""

    async def run() -> float:
        made = slow_door(served_after(60), json_answer(200, OTHER))
        Asker(made).ask()
        await asyncio.sleep(under_way)
        second = Asker(made).ask()
        await second.whole()
        assert second.answered_at is not None
        return second.answered_at - 1_000 - under_way

    assert in_virtual_time(run) == pytest.approx(waits, abs=0.001)


@pytest.mark.parametrize(("seconds", "joins"), [(119.0, True), (121.0, False)])
def test_an_answer_that_nobody_took_is_kept_for_two_minutes(seconds: float, joins: bool) -> None:
    """Then its bytes are gone, whether anybody asks or not."""

    async def run() -> None:
        made = slow_door(served_after(101), json_answer(200, OTHER))
        await leave_after(100, made)
        await asyncio.sleep(1)
        assert made.front_door.joins.kept.quota.used > len(SERVED)
        await asyncio.sleep(seconds)
        assert (made.front_door.joins.kept.quota.used > 0) == joins
        answer = await Asker(made, headers=(SECOND_TRY,)).ask().whole()

        assert answer.body == (SERVED if joins else OTHER)
        assert made.front_door.joins.is_empty

    in_virtual_time(run)


def test_an_answer_is_dropped_once_a_caller_has_all_of_it() -> None:
    """A second copy would be of use to nobody, and a new request wants an answer of its own."""

    async def run() -> None:
        made = slow_door(json_answer(200, SERVED), json_answer(200, OTHER))
        await Asker(made).ask().whole()
        assert made.front_door.joins.is_empty
        answer = await Asker(made, headers=(SECOND_TRY,)).ask().whole()

        assert answer.body == OTHER
        assert len(made.sink.events) == 2

    in_virtual_time(run)


def test_an_answer_is_kept_when_its_caller_leaves_while_it_is_sent() -> None:
    """The connection did not take all of it."""

    async def run() -> None:
        made = slow_door(json_answer(200, SERVED))
        await Asker(made, takes_all=False).ask().whole()
        answer = await Asker(made).ask().whole()

        assert answer.body == SERVED
        assert len(made.sink.events) == 1
        assert made.front_door.joins.is_empty

    in_virtual_time(run)


@pytest.mark.parametrize(
    ("status", "body"),
    [(400, b'{"error":{"code":"content_filter"}}'), (200, FAILED_200), (500, b"")],
    ids=["refused", "error in a 200", "failed"],
)
def test_a_failure_is_for_those_that_wait_and_is_not_kept(status: int, body: bytes) -> None:
    """Who joined gets it as it is; who asks later gets another try."""

    async def run() -> None:
        made = slow_door(json_answer(status, body), json_answer(200, OTHER))
        made.upstream.gate = asyncio.Event()
        asyncio.get_running_loop().call_later(30, made.upstream.gate.set)
        first = await leave_after(20, made)
        joined = await Asker(made).ask().whole()
        own = await first.whole()
        later = await Asker(made, headers=(SECOND_TRY,)).ask().whole()

        assert (joined.status, joined.body) == (own.status, own.body) != (200, OTHER)
        assert "x-meter-joined" in headers_of(joined)
        assert later.body == OTHER
        assert len(made.sink.events) == 2

    in_virtual_time(run)


def test_a_joined_request_can_leave_and_be_joined_in_turn() -> None:
    """A client of 100 s that asks four times gets an answer of 390 s, and one bill."""

    async def run() -> None:
        made = slow_door(served_after(219))
        for _ in range(2):
            asker = Asker(made).ask()
            await asyncio.sleep(100)
            await asker.leave(told_after=NEWS_SECONDS)
        last = Asker(made).ask()
        answer = await last.whole()

        assert answer.body == SERVED
        assert last.answered_at == pytest.approx(1_219)
        assert len(made.sink.events) == len(made.upstream.requests) == 1
        assert made.front_door.joins.is_empty
        assert made.is_idle

    in_virtual_time(run)


STREAM = b'{"model":"gpt","stream":true,"messages":[]}'
SPEECH = "/openai/deployments/gpt/audio/speech"
FORM_WITH_STREAM = form(("file", bytes(200)), ("model", b"gpt"), ("stream", b"true"))


@pytest.mark.parametrize(
    ("path", "body", "headers"),
    [
        (CHAT_PATH, STREAM, ()),
        (SPEECH, b'{"model":"gpt","input":"hello"}', ()),
        (TRANSCRIPTION_PATH, FORM_WITH_STREAM, form_headers()[1:]),
    ],
    ids=["stream", "speech", "form that asks for a stream"],
)
def test_what_is_relayed_as_it_comes_is_never_joined(
    path: str, body: bytes, headers: Headers
) -> None:
    """Its bytes are gone when they have been sent."""

    async def run() -> int:
        made = slow_door(served_after(5), json_answer(200, OTHER))
        credential = (bearer()[0],)
        first = Asker(made, body, path, credential=credential, headers=headers).ask()
        await asyncio.sleep(1)
        await first.leave()
        second = Asker(made, body, path, credential=credential, headers=(*headers, SECOND_TRY))
        await asyncio.gather(first.task, second.ask().task)  # type: ignore[arg-type]  # both ask
        return len(made.upstream.requests)

    assert in_virtual_time(run) == 2


@pytest.mark.parametrize("method", ["GET", "DELETE", "POST"])
def test_requests_without_a_body_are_never_joined(method: str) -> None:
    """Reading, deleting or cancelling a response is cheap, and what it finds changes."""
    path = "/openai/v1/responses/resp_1" + ("/cancel" if method == "POST" else "")

    async def run() -> int:
        made = slow_door(json_answer(200, SERVED), json_answer(200, OTHER))
        for _ in range(2):
            await made.call(b"", path=path, query="", method=method)
        assert made.front_door.joins.is_empty
        return len(made.upstream.requests)

    assert in_virtual_time(run) == 2


@pytest.mark.parametrize(
    "change",
    [{"sub": "bob"}, {"azp": "app-2"}, {"tid": "tenant-2"}, {"oid": "object-2"}, {"azp": None}],
    ids=str,
)
def test_other_callers_get_nothing_of_an_answer(change: dict[str, object]) -> None:
    """Not with the same bytes and marks: another subject, app, tenant, or person behind a subject."""

    async def run() -> None:
        made = slow_door(served_after(101), json_answer(200, OTHER))
        await leave_after(100, made, headers=(("x-ms-client-request-id", "id-1"),))
        await asyncio.sleep(2)
        credential = bearer(token(payload=claims(**change)))
        marks = (("x-ms-client-request-id", "id-1"), SECOND_TRY)
        answer = await Asker(made, credential=credential, headers=marks).ask().whole()

        assert answer.body == OTHER
        assert "x-meter-joined" not in headers_of(answer)
        assert len(made.sink.events) == 2

    in_virtual_time(run)


def test_a_token_that_has_expired_meanwhile_opens_nothing() -> None:
    """401 as always: joining is not a way around the credentials."""

    async def run() -> None:
        made = slow_door(served_after(300))
        credential = bearer(token(payload=claims(exp=NOW + 1_100)))
        first = Asker(made, credential=credential).ask()
        await asyncio.sleep(170)  # a minute past the expiry, for clocks that differ
        await first.leave()
        answer = await Asker(made, credential=credential, headers=(SECOND_TRY,)).ask().whole()

        assert answer.status == 401

    in_virtual_time(run)


def test_a_joined_request_holds_neither_a_slot_nor_its_body() -> None:
    """One call is under way, however many wait for its answer."""

    async def run() -> None:
        made = slow_door(served_after(30))
        first = Asker(made).ask()
        await asyncio.sleep(1)
        body_bytes = made.front_door.admission.body_bytes.used
        others = [Asker(made, headers=(SECOND_TRY,)).ask() for _ in range(20)]
        await asyncio.sleep(1)

        assert made.front_door.admission.slots.used == 1
        assert made.front_door.admission.body_bytes.used == body_bytes
        assert made.front_door.joins.joined.used == 20
        answers = [await each.whole() for each in (first, *others)]
        assert {answer.body for answer in answers} == {SERVED}
        assert made.front_door.joins.joined.used == 0
        assert made.is_idle

    in_virtual_time(run)


@pytest.mark.parametrize(
    ("most", "percent", "status"), [(4, 50, 429), (2, 100, 503)], ids=["share", "instance"]
)
def test_joined_requests_are_bounded_in_number(most: int, percent: int, status: int) -> None:
    """Of an instance, and of one subject; a call of its own would be a second bill."""

    async def run() -> None:
        made = slow_door(served_after(30), most_joined=most, subject_share_percent=percent)
        Asker(made).ask()
        await asyncio.sleep(1)
        waiting = [Asker(made, headers=(SECOND_TRY,)).ask() for _ in range(2)]
        await asyncio.sleep(1)
        answer = await Asker(made, headers=(SECOND_TRY,)).ask().whole()

        assert (answer.status, headers_of(answer)["retry-after"]) == (status, "1")
        assert [(await each.whole()).status for each in waiting] == [200, 200]
        assert len(made.sink.events) == 1

    in_virtual_time(run)


def test_a_joined_request_that_leaves_gives_its_place_back() -> None:
    """At once, and without an answer."""

    async def run() -> None:
        made = slow_door(served_after(30))
        first = Asker(made).ask()
        await asyncio.sleep(1)
        second = Asker(made, headers=(SECOND_TRY,)).ask()
        await asyncio.sleep(1)
        await second.leave()

        assert second.answered_at == pytest.approx(1_002, abs=0.01)
        assert made.front_door.joins.joined.used == 0
        assert (await first.whole()).body == SERVED

    in_virtual_time(run)


def test_a_long_answer_that_is_streamed_cannot_be_shared() -> None:
    """Who joined is told to ask again."""

    async def run() -> None:
        made = slow_door(served_after(30, bytes(70_000)), max_buffered_bytes=65_536)
        Asker(made).ask()
        await asyncio.sleep(1)
        answer = await Asker(made, headers=(SECOND_TRY,)).ask().whole()

        assert (answer.status, error_of(answer)["code"]) == (503, "ServiceUnavailable")
        assert headers_of(answer)["retry-after"] == "1"
        assert made.front_door.joins.is_empty

    in_virtual_time(run)


@pytest.mark.parametrize("answer_seconds", [101, 150], ids=["kept", "under way"])
@pytest.mark.parametrize("same", [True, False])
def test_long_bodies_are_compared_by_every_byte(same: bool, answer_seconds: float) -> None:
    """Also when the call's own body is given up."""

    async def run() -> None:
        made = slow_door(served_after(answer_seconds), json_answer(200, OTHER))
        await leave_after(100, made, body=LONG_BODY)
        await asyncio.sleep(2)
        body = LONG_BODY if same else LONG_BODY.replace(b"xx", b"xy", 1)
        answer = await Asker(made, body, headers=(SECOND_TRY,)).ask().whole()

        assert answer.body == (SERVED if same else OTHER)

    in_virtual_time(run)


@pytest.mark.parametrize("answer_seconds", [101, 150], ids=["kept", "under way"])
@pytest.mark.parametrize("same", [True, False])
def test_forms_are_compared_by_every_byte(same: bool, answer_seconds: float) -> None:
    """Clients that send the same bytes again keep the boundary, so a form can be a repeat, too."""

    async def run() -> None:
        made = slow_door(served_after(answer_seconds), json_answer(200, OTHER))
        headers = form_headers(len(FORM))[1:]
        await leave_after(100, made, body=FORM, path=TRANSCRIPTION_PATH, headers=headers)
        await asyncio.sleep(2)
        body = FORM if same else FORM.replace(bytes(2), b"\0\1", 1)
        answer = (
            await Asker(
                made,
                body,
                TRANSCRIPTION_PATH,
                credential=(bearer()[0],),
                headers=(*headers, SECOND_TRY),
            )
            .ask()
            .whole()
        )

        assert answer.body == (SERVED if same else OTHER)
        assert len(made.upstream.bodies) == (1 if same else 2)
        assert made.upstream.bodies[-1] == body
        await asyncio.sleep(60)
        assert made.is_idle

    in_virtual_time(run)


def test_the_answer_echoes_the_joined_requests_own_id() -> None:
    """`x-ms-client-request-id` is the caller's word, which the backend only repeats."""

    async def run() -> None:
        slow = served_after(30)
        slow.headers = (*slow.headers, ("x-ms-client-request-id", "id-1"))
        made = slow_door(slow)
        await leave_after(20, made, headers=(("x-ms-client-request-id", "id-1"),))
        own = Asker(made, headers=(("x-ms-client-request-id", "id-2"),)).ask()
        none = Asker(made).ask()

        assert headers_of(await own.whole())["x-ms-client-request-id"] == "id-2"
        assert "x-ms-client-request-id" not in headers_of(await none.whole())

    in_virtual_time(run)


def test_joining_can_be_switched_off() -> None:
    """`METER_JOIN_RETRIES=off`: each request is a call, and nothing is kept."""

    async def run() -> None:
        made = slow_door(served_after(30), json_answer(200, OTHER), joins_retries=False)
        await leave_after(20, made)
        answer = await Asker(made, headers=(SECOND_TRY,)).ask().whole()
        await asyncio.sleep(20)

        assert answer.body == OTHER
        assert len(made.sink.events) == 2
        assert made.front_door.joins.is_empty

    in_virtual_time(run)


def test_a_call_whose_request_is_cut_off_is_still_counted_and_can_be_joined() -> None:
    """At the end of the process the server cancels requests; the call runs on, detached."""

    async def run() -> None:
        made = slow_door(served_after(30))
        first = Asker(made).ask()
        await asyncio.sleep(20)
        assert first.task is not None
        first.task.cancel()
        await asyncio.sleep(1)
        answer = await Asker(made).ask().whole()

        assert answer.body == SERVED
        assert len(made.sink.events) == 1
        assert made.is_idle

    in_virtual_time(run)


def test_a_call_without_its_caller_is_counted_when_the_process_ends() -> None:
    """The server cancels its request, and then cuts what still runs; nothing can be joined any more."""

    async def run() -> None:
        made = slow_door(served_after(30))
        first = await leave_after(20, made)
        joined = Asker(made).ask()
        await asyncio.sleep(1)
        for asker in (first, joined):
            assert asker.task is not None
            asker.task.cancel()
        await asyncio.sleep(0.001)
        await made.front_door.detached.finish(0, cut_seconds=5)

        (event,) = made.sink.events
        assert (event.outcome, event.status) == (Outcome.FAILED, 503)
        assert made.front_door.joins.is_empty
        assert made.front_door.joins.joined.used == 0
        assert made.is_idle

    in_virtual_time(run)


def test_a_joined_request_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """It makes no event, so the log has its id, the counted call's, its end and its wait."""
    caplog.set_level(logging.INFO, "meter")

    async def run() -> tuple[Answer, str]:
        made = slow_door(served_after(150))
        await leave_after(100, made)
        answer = await Asker(made).ask().whole()
        return answer, str(made.sink.events[0].id)

    answer, counted = in_virtual_time(run)
    own = headers_of(answer)["x-meter-event-id"]
    (line,) = [each for each in caplog.messages if each.startswith("call_joined")]
    assert line == f"call_joined event_id={own} joined={counted} outcome=status_200 waited_ms=49999"


async def leave_after(
    seconds: float,
    made: Door,
    *,
    body: bytes = CHAT_BODY,
    path: str = CHAT_PATH,
    headers: Headers = (),
) -> Asker:
    """A request whose caller leaves after so many seconds."""
    credential = (bearer()[0],) if path == TRANSCRIPTION_PATH else bearer()
    asker = Asker(made, body, path, headers=headers, credential=credential).ask()
    await asyncio.sleep(seconds)
    await asker.leave()
    return asker
