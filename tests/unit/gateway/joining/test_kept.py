"""What is kept for repeats stays within bounds, whoever leaves and however often."""

import asyncio
import gc
import tracemalloc
from copy import replace
from uuid import UUID

from meter.gateway.http import Answer, StreamingAnswer
from meter.gateway.joining.joins import JoinLimits, Joins
from meter.gateway.joining.kept import OVERHEAD_BYTES, Kept, kept_bytes
from meter.gateway.limits.quota import Quota
from meter.gateway.request.body import parse_body
from meter.gateway.request.route import Routes
from meter.usage import Principal
from tests.fakes.gateway import json_answer
from tests.fakes.virtual_time import LoopClock
from tests.support.gateway import CHAT_BODY, SERVED, arrival_of, request
from tests.support.joining import SECOND_TRY, Asker, in_virtual_time, served_after, slow_door

LEAVERS = 10_000
MEASURED = 1_000  # the last ones: to trace memory takes time
ANSWER_BYTES = 20_000
KEPT_BYTES = 4_000_000
ROUTE = Routes().route("POST", "/openai/v1/responses", "")
MANY_BODIES = [CHAT_BODY.replace(b"secret", b"%d" % number) for number in range(4)]


def answered(number: int) -> Answer:
    headers = (("content-type", "application/json"), ("x-request-id", f"request-{number}"))
    body = b"%06d" % number + bytes(ANSWER_BYTES - 6)
    return Answer(status=200, headers=headers, body=body, is_served=True)


async def one_that_leaves(joins: Joins, number: int, subject: str) -> None:
    """A call whose caller leaves before its answer."""
    gone = asyncio.Event()
    body = b'{"model":"gpt","input":"%06d"}' % number
    sent = request(body, headers=(("user-agent", f"an SDK {number}"),))
    sent = replace(sent, left=gone.wait)  # type: ignore[arg-type]  # its result is of no use
    principal = Principal(subject=subject, issuer="issuer")
    arrival = arrival_of(sent, principal, event_id=UUID(int=number))
    asked = joins.repeatable(arrival, ROUTE, parse_body(body))
    assert asked is not None
    assert await joins.find(asked) is None
    ready = asyncio.Event()

    async def call() -> Answer | StreamingAnswer:
        await ready.wait()
        return answered(number)

    answering = asyncio.create_task(call())
    asking = asyncio.create_task(joins.own(asked, answering))
    await asyncio.sleep(0.001)
    gone.set()
    await asyncio.sleep(0.001)
    ready.set()
    answer = await asking
    assert isinstance(answer, Answer)
    answer.delivered()
    answer.release()


def test_ten_thousand_callers_that_leave_take_no_more_memory_than_they_may() -> None:
    """200 MB of answers, from two subjects, in the 4 MB that are set: measured, not only counted."""

    async def run() -> None:
        limits = JoinLimits(most_joined=100, kept_bytes=KEPT_BYTES, subject_share_percent=50)
        joins = Joins(clock=LoopClock(), limits=limits)
        for first in range(0, LEAVERS, 100):
            if first == LEAVERS - MEASURED:  # what is kept now has been replaced by the end
                tracemalloc.start()
            numbers = range(first, first + 100)
            await asyncio.gather(
                *(one_that_leaves(joins, each, ("alice", "bob")[each % 2]) for each in numbers)
            )
        kept, _ = tracemalloc.get_traced_memory()
        await asyncio.sleep(121)
        gc.collect()
        afterwards, _ = tracemalloc.get_traced_memory()

        assert KEPT_BYTES // 2 < kept < KEPT_BYTES
        assert joins.kept.quota.used == 0
        assert joins.is_empty
        assert afterwards < 100_000

    try:
        in_virtual_time(run)
    finally:
        tracemalloc.stop()


def test_a_subjects_newer_answer_takes_the_place_of_its_oldest() -> None:
    """Within its share; nothing of another subject's goes."""
    kept: Kept[str] = Kept(Quota(100, 50))

    assert kept.make_room("a1", "alice", 30) == []
    assert kept.make_room("b1", "bob", 40) == []
    assert kept.make_room("a2", "alice", 20) == []
    assert kept.make_room("a3", "alice", 25) == ["a1"]
    assert kept.make_room("a4", "alice", 40) == ["a2", "a3"]
    assert kept.make_room("c1", "carol", 30) is None
    assert kept.make_room("b2", "bob", 61) is None
    assert (kept.quota.used, kept.quota.held_by("bob")) == (80, 40)
    kept.drop("b1", "bob")
    kept.drop("b1", "bob")
    assert kept.quota.used == 40


def test_an_answer_counts_with_its_headers_and_what_it_takes_to_find_it() -> None:
    """So that many small ones are bounded, too."""
    answer = Answer(status=200, headers=(("ab", "cde"),), body=bytes(100))

    assert kept_bytes(answer) == 105 + OVERHEAD_BYTES


def test_what_has_no_room_is_not_kept() -> None:
    """Its repeat is a call of its own; the oldest of the caller's goes first."""

    async def run() -> list[bool]:
        room = 2 * kept_bytes(Answer(status=200, headers=(), body=SERVED)) + 1_000
        answers = [served_after(2) for _ in MANY_BODIES]
        made = slow_door(*answers, *[json_answer(200, SERVED)] * 4, kept_bytes=room)
        for body in MANY_BODIES:
            asker = Asker(made, body).ask()
            await asyncio.sleep(1)
            await asker.leave()
            await asyncio.sleep(3)
        repeats = [
            await Asker(made, body, headers=(SECOND_TRY,)).ask().whole() for body in MANY_BODIES
        ]
        return ["x-meter-joined" in dict(answer.headers) for answer in repeats]

    assert in_virtual_time(run) == [False, False, True, True]
