"""No body holds up other calls: between two turns of the event loop passes less than 100 ms."""

import asyncio
import gc
import time
from collections.abc import Callable, Iterator

import pytest

from meter.gateway.http import Answer
from meter.ports import UpstreamRequest
from tests.fakes.gateway import FakeAnswer, FakeRequestBody, FakeUpstream, json_answer
from tests.support.gateway import (
    CHAT_BODY,
    CHAT_PATH,
    SERVED,
    V1_RESPONSES_PATH,
    V1_TRANSCRIPTION_PATH,
    Door,
    backend,
    bearer,
    form,
    form_headers,
)

MOST_SECONDS = 0.1
MIB = 1_048_576
ARRIVING_BYTES = 262_144  # as much as a server hands over at once


@pytest.fixture(autouse=True)
def _without_the_suites_heap() -> Iterator[None]:
    """A full collection of all that a test run has imported would be measured as a turn."""
    gc.freeze()
    yield
    gc.unfreeze()


class Swallowing(FakeUpstream):
    """A backend that takes a body and forgets it."""

    async def _read(self, request: UpstreamRequest) -> None:
        if callable(request.body):
            async for _ in request.body():
                await asyncio.sleep(0)


def swallowing(*answers: FakeAnswer) -> Door:
    return Door(Swallowing({"a": list(answers)}), [backend(own="gpt-eu")])


async def longest_turn(work: asyncio.Task[Answer]) -> float:
    """The CPU seconds of the longest turn of the loop until the work is done.

    CPU time, since other processes of a busy machine hold up a turn, too.
    """
    longest, last = 0.0, time.thread_time()
    while not work.done():
        await asyncio.sleep(0)
        now = time.thread_time()
        longest, last = max(longest, now - last), now
    return longest


async def assert_no_long_turn(body: bytes, path: str) -> None:
    """No turn is too long; a slow one is slow again, what the machine does beside it is not."""
    if await longest_turn_of(body, path) >= MOST_SECONDS:
        assert await longest_turn_of(body, path) < MOST_SECONDS


async def longest_turn_of(body: bytes, path: str) -> float:
    """The longest turn while a body is read and sent on; that it is answered, and leaves nothing."""
    made = swallowing(json_answer(200, SERVED))
    work = asyncio.create_task(post(made, body, path))
    longest = await longest_turn(work)
    assert work.result().status in {200, 400}
    assert made.is_idle
    return longest


async def post(made: Door, body: bytes, path: str = CHAT_PATH) -> Answer:
    parts = [body[at : at + ARRIVING_BYTES] for at in range(0, len(body), ARRIVING_BYTES)]
    headers = form_headers() if path == V1_TRANSCRIPTION_PATH else bearer()
    answer = await made.call(FakeRequestBody(parts), path=path, headers=headers)
    assert isinstance(answer, Answer)
    return answer


def filled(opening: bytes, unit: bytes, closing: bytes, size: int = 3 * MIB) -> bytes:
    return opening + unit * ((size - len(opening) - len(closing)) // len(unit)) + closing


MODEL = b'{"model":"gpt","x":'
JSON = {
    "objects": lambda: filled(MODEL + b"[", b"{},", b"0]}", 31 * MIB),
    "objects in a short body": lambda: filled(MODEL + b"[", b"{},", b"0]}", 130_000),
    "deep arrays": lambda: filled(MODEL + b"[", b"[" * 90 + b"]" * 90 + b",", b"0]}"),
    "small arrays in arrays": lambda: filled(MODEL + b"[", b"[[]],", b"0]}"),
    "small arrays in objects": lambda: filled(MODEL + b"{", b'"\\u0061":[[]],', b'"b":0}}'),
    "deepest": lambda: MODEL + b"[" * 9_000 + b" " * MIB + b"]" * 9_000 + b"}",
    "never closed": lambda: MODEL + b"[" * (3 * MIB),
    "deep objects": lambda: filled(MODEL + b"[", b'{"a":{"a":{"a":0}}},', b"0]}"),
    "keys": lambda: b'{"model":"gpt"' + b"".join(b',"k%d":0' % n for n in range(300_000)) + b"}",
    "escaped keys": lambda: filled(b'{"model":"gpt"', b',"\\u0061":0', b"}"),
    "short keys": lambda: filled(b'{"model":"gpt"', b',"":0', b"}", 130_000),
    "nested keys": lambda: (
        b'{"model":"gpt"' + b"".join(b',"k%d":[[]]' % n for n in range(300_000)) + b"}"
    ),
    "foreign keys": lambda: filled(b'{"model":"gpt"', ',"\u00e9":[[]]'.encode(), b"}"),
    "arrays longer than a view": lambda: filled(
        MODEL + b"[", b"[%b0]," % (b"[[]]," * 6_600), b"0]}"
    ),
    "many options": lambda: filled(MODEL + b'0,"stream_options":{"a":0', b',"":0', b"}}", 60_000),
    "numbers": lambda: filled(MODEL + b"[", b"0,", b"0]}"),
    "long numbers": lambda: filled(MODEL + b"[", b"1" * 4_000 + b",", b"0]}"),
    "too long number": lambda: MODEL + b"1" * (3 * MIB) + b"}",
    "long string": lambda: filled(MODEL + b'"', b"x", b'"}', 31 * MIB),
    "escapes": lambda: filled(MODEL + b'"', b"\\n\\u4f60", b'"}'),
    "beyond the BMP": lambda: filled(MODEL + b'"', "\U0001f600".encode(), b'"}', 31 * MIB),
    "escaped quotes": lambda: filled(MODEL + b'["', b'","\\"', b'"]}'),
    "long strings": lambda: filled(MODEL + b"[", b'"' + b"y" * 40_000 + b'\\n",', b"0]}"),
    "spaces": lambda: filled(MODEL, b" ", b"0}", 31 * MIB),
    "no UTF-8": lambda: filled(MODEL + b'"', b"x", b'\xff"}', 31 * MIB),
    "a giant model": lambda: filled(b'{"model":"', b"x", b'"}'),
    "giant options": lambda: filled(MODEL + b'0,"stream_options":[', b"{},", b"0]}"),
    "hidden reasoning": lambda: filled(MODEL + b'["', b'","encrypted_content', b'"]}', 31 * MIB),
}


@pytest.mark.parametrize("body", JSON.values(), ids=list(JSON))
async def test_no_json_body_holds_up_the_loop(body: Callable[[], bytes]) -> None:
    """It is read in steps, also where it is hostile, and sent on in pieces."""
    await assert_no_long_turn(body(), V1_RESPONSES_PATH)


FIELD = b'Content-Disposition: form-data; name="a"'
FORMS = {
    "file": lambda: form(("file", bytes(31 * MIB)), ("model", b"gpt")),
    "line breaks": lambda: form(("file", b"\r\n-" * MIB), ("model", b"gpt")),
    "near delimiters": lambda: form(("file", b"\r\n--x-boundary-" * 200_000), ("model", b"gpt")),
    "parts": lambda: form(*[("a", b"")] * 40_000, ("model", b"gpt")),
    "headers": lambda: (
        (b"--x-boundary-7\r\n" + FIELD + b"\r\nX-A: b" * 7 + b"\r\n\r\n\r\n") * 9_000
    ),
    "long header": lambda: b"--x-boundary-7\r\n" + FIELD + b"a" * 3 * MIB,
    "quotes": lambda: (b"--x-boundary-7\r\n" + FIELD + b'; b="' + b'\\"' * 1_900 + b"\r\n") * 700,
    "no delimiter": lambda: b"-" * 3 * MIB,
}


@pytest.mark.parametrize("body", FORMS.values(), ids=list(FORMS))
async def test_no_form_holds_up_the_loop(body: Callable[[], bytes]) -> None:
    """Its `model` is looked for in steps."""
    await assert_no_long_turn(body(), V1_TRANSCRIPTION_PATH)


async def test_many_hostile_bodies_hold_up_the_loop_no_longer() -> None:
    """One step is taken in each turn, whoever's it is, and a small call is served meanwhile."""
    made = swallowing(*[json_answer(200, SERVED)] * 11)
    hostile = JSON["deep objects"]()
    many = [asyncio.create_task(post(made, hostile[: MIB // 4])) for _ in range(10)]
    work = asyncio.create_task(post(made, CHAT_BODY))

    longest = await longest_turn(work)

    assert longest < MOST_SECONDS
    assert (work.result().status, any(each.done() for each in many)) == (200, False)
    assert [(await each).status for each in many] == [400] * 10
