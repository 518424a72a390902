"""How often the worker gets a request whose forward fails, on the imitated proxy and on Microsoft's."""

import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.fakes.scripted_worker import OK, Script, answering, first_closing
from tests.local.functions.conftest import FrontUnderTest, Heard, listen

CLOSES, RESETS = answering(closes=True), answering(resets=True)
GET, POST = "GET {} HTTP/1.1\r\nHost: h\r\n", "POST {} HTTP/1.1\r\nHost: h\r\n"
LENGTH = "Content-Length: 5\r\n\r\nhello"

# A request, its script, its deliveries, the status, and about how long it takes.
CASES: dict[str, tuple[str, Script | None, int, int, float]] = {
    "closed once": (GET + "\r\n", first_closing(answering(OK)), 2, 200, 0),
    "closed once, no body": (POST + "\r\n", first_closing(answering(OK)), 2, 200, 0),
    "closed": (GET + "\r\n", CLOSES, 40, 500, 1.85),
    "deleted": ("DELETE {} HTTP/1.1\r\nHost: h\r\n\r\n", CLOSES, 40, 500, 1.85),
    "reset": (GET + "\r\n", RESETS, 10, 500, 1.85),
    "closed, empty body": (POST + "Content-Length: 0\r\n\r\n", CLOSES, 10, 500, 1.85),
    "closed, body": (POST + LENGTH, CLOSES, 1, 500, 1.85),
    "reset, body": (POST + LENGTH, RESETS, 1, 500, 1.85),
    "not HTTP": (GET + "\r\n", answering(b"NOTHTTP\r\n\r\n", closes=True), 10, 500, 1.85),
    "bad name": (GET + "\r\n", answering(b"HTTP/1.1 200 OK\r\nb d: x\r\n\r\n"), 10, 500, 1.85),
    "cut head": (GET + "\r\n", answering(b"HTTP/1.1 200 OK\r\nx: y", closes=True), 10, 500, 1.85),
    "large head": (
        GET + "\r\n",
        answering(b"HTTP/1.1 200 OK\r\nx: " + b"y" * 70_000 + b"\r\n\r\n", closes=True),
        10,
        500,
        1.85,
    ),
    "unsendable header": (GET + "x: é\r\n\r\n", None, 0, 500, 1.85),
    "unsendable id": (POST + "x-ms-invocation-id: é\r\n" + LENGTH, None, 0, 500, 1.85),
    "too large": (POST + "Content-Length: 104857601\r\n\r\n", None, 1, 500, 1.85),
    "bad chunk": (POST + "Transfer-Encoding: chunked\r\n\r\nzz\r\n", None, 1, 500, 1.85),
    "too slow": (POST + "Content-Length: 9\r\n\r\nhello", None, 1, 500, 7.85),
}


@pytest.fixture(scope="module")
def heard(front: FrontUnderTest) -> dict[str, tuple[Heard, int, float]]:
    """All cases at once, as most take seconds: what the caller heard, and the deliveries."""

    def call(case: str) -> tuple[Heard, int, float]:
        request, script, _, _, _ = CASES[case]
        path = front.path(script)
        with front.connect() as connection:
            begun = time.monotonic()
            connection.sendall(request.format(path).encode())
            connection.settimeout(60)
            connection.recv(1, socket.MSG_PEEK)
            took = time.monotonic() - begun
            answer = listen(connection, patience=1)
        return answer, len(front.delivered(path)), took

    with ThreadPoolExecutor(len(CASES)) as callers:
        return dict(zip(CASES, callers.map(call, CASES), strict=True))


@pytest.mark.parametrize("case", CASES)
def test_a_request_is_sent_as_often_as_the_host_sends_it(
    heard: dict[str, tuple[Heard, int, float]], case: str
) -> None:
    """A body is sent once; without one a worker may see a request forty times."""
    _, _, deliveries, status, seconds = CASES[case]
    answer, delivered, took = heard[case]

    assert (answer.status, answer.body) == (status, b"" if status == 500 else b"ok")
    assert deliveries * 0.9 <= delivered <= deliveries  # a try may meet a connection that closes
    assert took > seconds * 0.8
