"""The contract of a request body, kept by the web adapter and by the fake."""

import asyncio
from collections.abc import Callable, Sequence

import pytest
from starlette.types import Message

from meter.adapters.functions.web import gateway_request
from meter.errors import TooLarge
from meter.gateway.http import RequestBody
from tests.fakes.gateway import FakeRequestBody
from tests.support.gateway import request_limits

type Parts = Sequence[bytes | asyncio.Event | None]


def adapted(
    parts: Parts, *, most: int = 1_000, seconds: float = 5, length: str | None = None
) -> RequestBody:
    """The web adapter's body; None is a caller's disconnect."""
    left = list(parts)

    async def receive() -> Message:
        if isinstance(left[0], asyncio.Event):
            await left[0].wait()
            left.pop(0)
        if left[0] is None:
            return {"type": "http.disconnect"}
        body = left.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(left)}

    headers = [] if length is None else [(b"content-length", length.encode())]
    scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": headers}
    return gateway_request(
        scope, receive, request_limits(max_body_bytes=most, read_timeout_seconds=seconds)
    ).body


def faked(parts: Parts) -> RequestBody:
    left = TooLarge("The request body was not sent to its end.", status=400)
    return FakeRequestBody([left if part is None else part for part in parts])


BODIES = pytest.mark.parametrize("make", [adapted, faked], ids=["adapter", "fake"])
type Make = Callable[[Parts], RequestBody]


@BODIES
async def test_parts_are_read_as_they_arrive_and_then_nothing(make: Make) -> None:
    """Empty parts are skipped; after the end every read is empty."""
    body = make([b"ab", b"", b"cd", b""])

    parts = [await body.next_part() for _ in range(4)]

    assert parts == [b"ab", b"cd", b"", b""]


@BODIES
async def test_the_whole_is_all_its_parts(make: Make) -> None:
    """After some parts were read, it is the rest."""
    body = make([b"ab", b"cd", b"ef"])

    assert (await body.next_part(), await body.read()) == (b"ab", b"cdef")


@BODIES
async def test_a_body_of_nothing_is_empty(make: Make) -> None:
    """Read as a whole or in parts."""
    assert (await make([b""]).read(), await make([b""]).next_part()) == (b"", b"")


@BODIES
async def test_a_disconnect_is_reported_on_each_read(make: Make) -> None:
    """It is never an end: half a body must not look complete."""
    body = make([b"ab", None])
    await body.next_part()

    for _ in range(3):
        with pytest.raises(TooLarge) as refused:
            await body.next_part()
        assert refused.value.status == 400


@BODIES
async def test_a_cancelled_wait_loses_nothing(make: Make) -> None:
    """The next read gets the bytes that arrived meanwhile."""
    go_on = asyncio.Event()
    body = make([b"ab", go_on, b"cd"])
    await body.next_part()
    waiting = asyncio.create_task(body.next_part())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait({waiting})
    go_on.set()

    assert waiting.cancelled()
    assert await body.read() == b"cd"


@BODIES
async def test_a_wait_that_is_cancelled_as_its_part_comes_loses_nothing(make: Make) -> None:
    """A part that arrived during the cancellation goes to the next read."""
    go_on = asyncio.Event()
    body = make([go_on, b"ab", b"cd"])
    waiting = asyncio.create_task(body.next_part())
    await asyncio.sleep(0)
    go_on.set()
    waiting.cancel()
    await asyncio.wait({waiting})

    assert await body.read() == b"abcd"


async def test_a_body_that_grows_too_large_never_ends() -> None:
    """Every read is a 413, even if the last part exceeded the limit."""
    for parts in ([b"ab", b"cde"], [b"abcde"], [b"ab", b"cde", b"f"]):
        body = adapted(parts, most=4)
        refusals = 0
        for _ in range(4):
            try:
                await body.next_part()
            except TooLarge as exc:
                refusals += exc.status == 413

        assert refusals >= 3


@pytest.mark.parametrize(
    ("length", "is_refused"), [("4", False), ("5", True), ("x", False), ("-5", False), ("", False)]
)
async def test_a_length_over_the_limit_is_refused_before_a_byte_is_read(
    length: str, is_refused: bool
) -> None:
    """An invalid length is left to the server."""
    body = adapted([b"ab", b"cd"], most=4, length=length)

    if is_refused:
        with pytest.raises(TooLarge):
            await body.next_part()
    else:
        assert await body.next_part() == b"ab"


async def test_the_time_to_read_is_for_all_parts_together() -> None:
    """A caller that trickles bytes cannot occupy a slot for ever."""
    gates = [asyncio.Event() for _ in range(3)]
    loop = asyncio.get_running_loop()
    for number, gate in enumerate(gates, start=1):
        loop.call_later(0.03 * number, gate.set)
    parts = [part for gate in gates for part in (gate, b"a")]
    body = adapted([*parts, asyncio.Event(), b"b"], seconds=0.05)

    with pytest.raises(TooLarge) as refused:
        await body.read()

    assert (refused.value.status, refused.value.code) == (408, "RequestTimeout")


async def test_the_time_to_read_begins_with_the_first_reading() -> None:
    """Waiting before the first read costs none of it, nor does reading buffered bytes."""
    body = adapted([b"ab", b"cd"], seconds=0.02)
    await asyncio.sleep(0.03)
    first = await body.next_part()
    await asyncio.sleep(0.03)

    assert (first, await body.read()) == (b"ab", b"cd")
