"""Reasoning items are answered by the account that can read them, whichever that is."""

import json
import time
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter.errors import UpstreamError
from meter.gateway.balance.affinity import Owner, Owners
from meter.gateway.balance.reasoning import (
    MOST_ITEMS,
    ReasoningFinder,
    reasoning_items,
    refuses_reasoning,
)
from meter.gateway.http import Answer, StreamingAnswer
from tests.fakes.gateway import FakeAnswer, FakeCaller, FakeUpstream, json_answer, stream_answer
from tests.support.gateway import V1_RESPONSES_PATH, Door, backend

CLASSIC_PATH = "/openai/responses"
FIRST, SECOND = "gAAAAAB-first-thought=", "gAAAAAB+second/thought="
REFUSALS = [
    b'{"error":{"code":"invalid_encrypted_content","message":"no","param":null}}',
    b'{"error":{"code":null,"message":"The encrypted content for item rs_1 could not be verified."}}',
]
UNREADABLE = REFUSALS[0]


def body(*contents: str, **members: object) -> bytes:
    """A call that carries reasoning items."""
    items = [{"type": "reasoning", "summary": [], "encrypted_content": each} for each in contents]
    asked = {"role": "user", "content": "on"}
    return json.dumps(
        {"model": "gpt", "store": False, "input": [*items, asked], **members}
    ).encode()


def made(*contents: str) -> bytes:
    """An answer that has made reasoning items."""
    output = [{"type": "reasoning", "encrypted_content": each} for each in contents]
    return json.dumps({"id": "resp_1", "object": "response", "output": output}).encode()


def door(**script: Sequence[FakeAnswer | UpstreamError]) -> Door:
    """Backends of one priority; those not named have no answer."""
    upstream = FakeUpstream({name: list(script.get(name, ())) for name in "abc"})
    return Door(upstream, [backend(name) for name in "abc"])


def ok(*contents: str) -> FakeAnswer:
    return json_answer(200, made(*contents))


def no(text: bytes = UNREADABLE) -> FakeAnswer:
    return json_answer(400, text)


async def ask(to: Door, sent: bytes, path: str = V1_RESPONSES_PATH) -> Answer | StreamingAnswer:
    query = "api-version=2025-04-01-preview" if path == CLASSIC_PATH else ""
    return await to.call(sent, path=path, query=query)


@pytest.mark.parametrize("refusal", REFUSALS, ids=["code", "message"])
@pytest.mark.parametrize("path", [V1_RESPONSES_PATH, CLASSIC_PATH])
async def test_who_cannot_read_the_reasoning_is_not_the_last_word(
    path: str, refusal: bytes
) -> None:
    """The next backend is asked, until one can."""
    to = door(a=[no(refusal)], b=[no(refusal)], c=[ok()])

    answer = await ask(to, body(FIRST), path)

    assert answer.status == 200
    assert [attempt.status for attempt in to.sink.events[0].attempts] == [400, 400, 200]


async def test_a_streamed_call_is_asked_of_the_next_too() -> None:
    """The refusal comes before the stream."""
    to = door(a=[no()], b=[stream_answer(b'data: {"type":"response.created"}\n\n')])

    answer = await ask(to, body(FIRST, stream=True))

    assert answer.status == 200
    assert to.upstream.order == ["a", "b"]


REFUSING_EVENTS = [
    b'event: error\ndata: {"type":"error","code":"invalid_encrypted_content","message":"no"}\n\n',
    b'data: {"error":{"code":"invalid_encrypted_content","message":"no"}}\n\n',
    b'data: {"type":"response.created","response":{}}\n\n'
    b'data: {"type":"response.failed","response":{"status":"failed","error":'
    b'{"code":"invalid_encrypted_content","message":"no"}}}\n\n',
]


@pytest.mark.parametrize("event", REFUSING_EVENTS, ids=["event", "error", "failed"])
async def test_a_refusal_that_begins_a_stream_is_no_other(event: bytes) -> None:
    """The next backend is asked; if none can read it, the caller gets the 400 it would be otherwise."""
    to = door(a=[stream_answer(event)], b=[stream_answer(b'data: {"type":"response.created"}\n\n')])
    alone = door(**{name: [stream_answer(event)] for name in "abc"})

    answer = await ask(to, body(FIRST, stream=True))
    refused = await ask(alone, body(FIRST, stream=True))

    assert (answer.status, to.upstream.order) == (200, ["a", "b"])
    assert isinstance(refused, Answer)
    assert (refused.status, alone.upstream.order) == (400, ["a", "b", "c"])
    assert json.loads(refused.body)["error"]["code"] == "invalid_encrypted_content"
    assert [given.times_closed for given in alone.upstream.given] == [1, 1, 1]
    assert [event.outcome for event in alone.sink.events] == ["refused"]
    assert alone.is_idle
    assert [alone.may_call(name) for name in "abc"] == [True, True, True]


async def test_when_nobody_can_read_it_the_last_refusal_is_the_callers() -> None:
    """Unchanged: the caller may leave the reasoning out."""
    to = door(a=[no()], b=[no()], c=[no(REFUSALS[1])])

    answer = await ask(to, body(FIRST))

    assert isinstance(answer, Answer)
    assert (answer.status, answer.body) == (400, REFUSALS[1])
    assert to.upstream.order == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("sent", "refusal"),
    [
        (body(), json_answer(400, UNREADABLE)),
        (body(FIRST), json_answer(400, b'{"error":{"code":"content_filter"}}')),
        (
            body(FIRST),
            json_answer(400, b'{"error":{"message":"include: encrypted content is not"}}'),
        ),
        (body(FIRST), json_answer(422, UNREADABLE)),
        (body(FIRST, model="gpt", note="encrypted_content"), json_answer(404, b"{}")),
    ],
    ids=["none sent", "filter", "include", "422", "404"],
)
async def test_another_refusal_is_the_callers(sent: bytes, refusal: FakeAnswer) -> None:
    """After one attempt, like any mistake of its own."""
    to = door(a=[refusal], b=[ok()])

    assert (await ask(to, sent)).status == refusal.status
    assert to.upstream.order == ["a"]


async def test_a_chat_completion_with_such_a_member_is_not_sent_round() -> None:
    """Only the Responses API has reasoning items."""
    to = door(a=[no()], b=[ok()])

    answer = await to.call(body(FIRST))

    assert answer.status == 400


async def test_who_could_read_an_item_is_asked_first_the_next_time() -> None:
    """A call that carried the item was served."""
    to = door(a=[no()], b=[ok(), ok()])
    await ask(to, body(FIRST))

    await ask(to, body(FIRST, SECOND))

    assert to.upstream.order == ["a", "b", "b"]


async def test_the_maker_is_learned_from_its_whole_answer() -> None:
    """Before any call has carried the item."""
    to = door(a=[json_answer(500, b"{}")], b=[ok(FIRST), ok()])
    await ask(to, body())

    await ask(to, body(FIRST))

    assert to.upstream.order == ["a", "b", "b"]


@pytest.mark.parametrize("size", [1, 7, 64, 100_000])
async def test_the_maker_is_learned_from_its_stream(size: int) -> None:
    """However its bytes are split."""
    event = {"type": "response.output_item.done", "item": {"encrypted_content": FIRST}}
    frame = b"event: response.output_item.done\ndata: %b\n\n" % json.dumps(event).encode()
    done = b'data: {"type":"response.completed","response":{"usage":null}}\n\n'
    parts = [(frame + done)[at : at + size] for at in range(0, len(frame + done), size)]
    to = door(a=[json_answer(500, b"{}")], b=[stream_answer(*parts), ok()])
    answer = await ask(to, body(stream=True))
    caller = FakeCaller()
    assert isinstance(answer, StreamingAnswer)
    await answer.relay.run(caller)

    await ask(to, body(FIRST))

    assert caller.received == frame + done
    assert to.upstream.order == ["a", "b", "b"]


async def test_the_latest_item_decides() -> None:
    """A conversation may have moved."""
    to = door(a=[ok()], b=[ok()], c=[ok()])
    to.front_door.instance.background.owners.learn_made(
        reasoning_items(body(FIRST)), Owner("b", "gpt")
    )
    to.front_door.instance.background.owners.learn_made(
        reasoning_items(body(SECOND)), Owner("c", "gpt")
    )

    await ask(to, body(FIRST, SECOND))

    assert to.upstream.order == ["c"]


async def test_the_maker_alone_is_asked_while_it_throttles_or_fails() -> None:
    """As for stored responses: nobody else can read what it made."""
    to = door(a=[ok()], b=[json_answer(429, b"{}", ("retry-after", "2"))], c=[ok()])
    to.front_door.instance.background.owners.learn_made(
        reasoning_items(body(FIRST)), Owner("b", "gpt")
    )

    answer = await ask(to, body(FIRST))

    assert (answer.status, dict(answer.headers)["retry-after"]) == (429, "2")
    assert to.upstream.order == ["b"]


async def test_an_error_teaches_nothing() -> None:
    """It may repeat what another account made."""
    to = door(a=[json_answer(400, made(FIRST))])
    await ask(to, body(SECOND))

    assert to.front_door.instance.background.owners.maker(reasoning_items(body(FIRST))) is None
    assert to.front_door.instance.background.owners.maker(reasoning_items(body(SECOND))) is None


async def test_no_content_is_kept() -> None:
    """Only digests."""
    to = door(a=[ok(FIRST)])
    await ask(to, body(SECOND))

    assert "thought" not in repr(to.front_door.instance.background.owners)


def test_what_is_remembered_is_bounded() -> None:
    """The latest items."""
    owners = Owners(most=2)
    for item in ("x", "y", "x", "z"):
        owners.learn_made([item], Owner("a", "gpt"))

    known = [owners.maker([item]) is not None for item in ("x", "y", "z")]
    assert known == [True, False, True]


def test_an_item_is_recognised_however_its_json_is_written() -> None:
    """SDKs differ in spaces and in what they escape."""
    plain = reasoning_items(b'{"encrypted_content":"gAAAAAB+second/thought="}')
    spaced = reasoning_items(b'{ "encrypted_content" :\n\t"gAAAAAB+second/thought=" }')
    escaped = reasoning_items(b'{"encrypted_content":"gAAAAAB\\u002Bsecond\\/thought\\u003d"}')

    assert plain == spaced == escaped
    assert len(plain) == 1


@pytest.mark.parametrize(
    "text",
    [
        b'{"encrypted_content":null}',
        b'{"encrypted_content":""}',
        b'{"encrypted_content":["gAAAAAB-first-thought="]}',
        b'{"content":"\\"encrypted_content\\": \\"gAAAAAB-first-thought=\\""}',
        b'{"encrypted_content":"gAAAAAB-first-though\\',
        b'{"encrypted_content":"gAAAAAB-first-thought=',
        b'{"encrypted_content":',
        b'{"encrypted_content"',
        b'"encrypted_content',
        b"",
    ],
)
def test_what_is_no_reasoning_item_is_none(text: bytes) -> None:
    """Among them what a prompt quotes."""
    assert reasoning_items(text) == ()
    assert list(ReasoningFinder().feed(text)) == []


def test_long_contents_differ_by_their_ends_and_lengths() -> None:
    """Only the end is digested."""
    end = "x" * 5_000
    texts = [made(start + end) for start in ("a", "b", "ab")]
    first, second, third = (reasoning_items(text) for text in texts)

    assert first == second != third
    assert reasoning_items(made(end + "y")) != reasoning_items(made(end + "z"))


def test_only_the_latest_items_are_read() -> None:
    """The last one first."""
    contents = [f"gAAAAAB-thought-{n:05}" for n in range(100)]

    items = reasoning_items(body(*contents))

    assert len(items) == MOST_ITEMS
    assert items[0] == reasoning_items(body(contents[-1]))[0]


@given(
    contents=st.lists(st.text('abc+/=\\"', min_size=16, max_size=40), max_size=5),
    cuts=st.lists(st.integers(0, 400), max_size=6),
)
def test_any_split_of_a_text_shows_the_same_items(contents: list[str], cuts: list[int]) -> None:
    """In parts or whole."""
    text, finder = made(*contents), ReasoningFinder()
    places = [0, *sorted(cuts), len(text)]
    parts = [text[a:b] for a, b in pairwise(places)]

    found = [item for part in parts for item in finder.feed(part)]

    assert sorted(found) == sorted(reasoning_items(text))


HOSTILE = [
    body(*["gAAAAAB-first-thought="] * 100_000),
    b'{"encrypted_content":null},' * 100_000,
    b'{"encrypted_content" :            "" },' * 100_000,
    b'"encrypted_content":"' * 100_000,
    b'"encrypted_contenu":"' * 100_000,
    b'{"encrypted_content":"' + b"\\" * 4_000_000,
    b'{"encrypted_content":"' + b"x" * 4_000_000 + b'"}',
    b'{"encrypted_content"' + b" " * 4_000_000,
    b'"' * 4_000_000,
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_body_does_not_block_the_loop(text: bytes) -> None:
    """Milliseconds of work, whatever a few megabytes hold."""
    begun = time.process_time()

    reasoning_items(text)
    refuses_reasoning(text)

    assert time.process_time() - begun < 0.5  # with a collection of the suite's garbage


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_stream_does_not_block_the_loop(text: bytes) -> None:
    """No part of it takes long, and no more is held than the bound."""
    finder, slowest = ReasoningFinder(), 0.0
    for at in range(0, len(text), 65_536):
        begun = time.process_time()
        list(finder.feed(text[at : at + 65_536]))
        slowest = max(slowest, time.process_time() - begun)

    assert slowest < 0.5
