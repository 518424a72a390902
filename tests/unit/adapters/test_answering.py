"""An answer that is sent in one write is on the wire as uvicorn would send it."""

import asyncio
import re
from collections.abc import Callable

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from meter.adapters.functions.answering import MAX_BODY_BYTES, send_whole
from meter.adapters.functions.web import GatewayResponse
from meter.gateway.http import Answer
from meter.ports import Headers
from tests.support.serving import on_loopback

type Hide = Callable[[Send], Send]

HEADERS: Headers = (
    ("content-type", "application/json"),
    ("x-request-id", "caf\xe9 \udc80"),
    ("x-100%s", "50% %s"),
    ("x-100%s", "again"),
)
KEPT = b"%b / HTTP/1.1\r\nhost: x\r\n%b\r\n"


def as_it_is(send: Send) -> Send:
    return send


def hidden(send: Send) -> Send:
    """Behind a function of another kind, so that uvicorn's own way is taken."""

    async def sent(message: Message) -> None:
        await send(message)

    return sent


class App:
    """Gives the answers in turn, and counts what came of them."""

    def __init__(self, *answers: Answer, hide: Hide = as_it_is) -> None:
        self._answers = list(answers)
        self._hide = hide
        self.delivered = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass
        answer = self._answers.pop(0)

        def delivered() -> None:
            self.delivered += 1

        told = Answer(
            status=answer.status, headers=answer.headers, body=answer.body, delivered=delivered
        )
        await GatewayResponse(told)(scope, receive, self._hide(send))


async def wire_of(app: ASGIApp, request: bytes, *, until: int) -> tuple[bytes, bool]:
    """What the caller gets, without the moment; and whether the connection is closed behind it."""
    async with on_loopback(app) as (_, address):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(request)
        wire = b""
        async with asyncio.timeout(30):
            while wire.count(b"HTTP/1.1 ") < until and (part := await reader.read(1_000_000)):
                wire += part
            try:
                async with asyncio.timeout(0.05):
                    while part := await reader.read(1_000_000):
                        wire += part
                is_closed = True
            except TimeoutError:
                is_closed = False
        writer.close()
        return re.sub(rb"date: [^\r]*\r\n", b"", wire), is_closed


@pytest.mark.parametrize(
    "request_head",
    [
        KEPT % (b"GET", b""),
        KEPT % (b"GET", b"connection: close\r\n"),
        KEPT % (b"HEAD", b""),
        b"GET / HTTP/1.0\r\nhost: x\r\n\r\n",
    ],
)
@pytest.mark.parametrize("status", [200, 204, 304, 503])
@pytest.mark.parametrize("body", [b"{}", bytes(MAX_BODY_BYTES), bytes(MAX_BODY_BYTES + 1)])
async def test_an_answer_is_sent_as_uvicorn_sends_it(
    request_head: bytes, status: int, body: bytes
) -> None:
    """Byte for byte, with what becomes of the connection behind it."""
    answer = Answer(status=status, headers=HEADERS, body=b"" if status in {204, 304} else body)
    sent = []
    for hide in (as_it_is, hidden):
        app = App(answer, hide=hide)
        sent.append((*await wire_of(app, request_head, until=1), app.delivered))

    assert sent[0] == sent[1]
    assert sent[0][0].startswith(b"HTTP/1.1 %d " % status)


@pytest.mark.parametrize(("hide", "is_at_once"), [(as_it_is, True), (hidden, False)])
async def test_an_answer_to_this_server_is_sent_at_once(hide: Hide, is_at_once: bool) -> None:
    """And to no other."""
    found: list[bool] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        found.append(send_whole(hide(send), 200, (), b"{}"))
        if not found[0]:
            await GatewayResponse(Answer(status=200, headers=(), body=b"{}"))(scope, receive, send)

    await wire_of(app, KEPT % (b"GET", b""), until=1)

    assert found == [is_at_once]


async def test_an_answer_that_says_that_the_connection_ends_ends_it() -> None:
    """As the refusal of a WebSocket does."""
    answer = Answer(status=426, headers=(("connection", "upgrade, close"),), body=b"{}")
    sent = [
        await wire_of(App(answer, hide=hide), KEPT % (b"GET", b""), until=1)
        for hide in (as_it_is, hidden)
    ]

    assert sent[0] == sent[1]
    assert sent[0][1]


@pytest.mark.parametrize(
    "header", [("x-a", "b\r\nx-c: d"), ("x-a", "b\0"), ("x a", "b"), ("x-a\r\nx-c", "d")]
)
async def test_a_header_that_would_be_two_is_never_sent(header: tuple[str, str]) -> None:
    """The caller gets the server's error."""
    answer = Answer(status=200, headers=(header,), body=b"{}")
    wire, _ = await wire_of(App(answer), KEPT % (b"GET", b""), until=1)

    assert b"x-c" not in wire
    assert b"200 OK" not in wire


async def test_requests_that_come_together_are_answered_in_turn() -> None:
    """Each once its answer is the connection's to send."""
    answers = [Answer(status=200, headers=HEADERS, body=b"%d" % n) for n in range(3)]
    app = App(*answers)
    wire, is_closed = await wire_of(app, KEPT % (b"GET", b"") * 3, until=3)

    assert [part[-1:] for part in re.split(rb"HTTP/1.1 200 OK", wire)[1:]] == [b"0", b"1", b"2"]
    assert (app.delivered, is_closed) == (3, False)


async def test_an_answer_waits_for_a_caller_that_reads_slowly() -> None:
    """Until what was sent before is taken, the next answer is not written behind it."""
    large = Answer(status=200, headers=(), body=bytes(8_000_000))
    app = App(large, Answer(status=200, headers=(), body=b"{}"))
    async with on_loopback(app) as (_, address):
        reader, writer = await asyncio.open_connection(*address, limit=1_000)
        writer.write(KEPT % (b"GET", b"") * 2)
        await asyncio.sleep(0.1)
        before = app.delivered
        wire = bytearray()
        async with asyncio.timeout(30):
            while not wire.endswith(b"{}"):
                wire += await reader.read(1_000_000)
        writer.close()

    assert (before, app.delivered) == (0, 2)
