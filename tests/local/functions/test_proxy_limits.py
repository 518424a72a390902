"""The imitated proxy's limits of time and size, shortened; Microsoft's take minutes and 100 MiB."""

import threading
import time

import pytest

from local.functions import invocations
from local.functions.invocations import timeout_seconds
from local.functions.proxy import body, caller, forward
from tests.fakes.scripted_worker import OK, answering
from tests.local.functions.conftest import FrontUnderTest, Heard, front_of, listen

CHUNKED = "Transfer-Encoding: chunked\r\n\r\n"


def test_the_framing_of_chunks_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body within the limit is too large with its framing: the worker's connection ends."""
    monkeypatch.setattr(body, "MAX_BODY_BYTES", 100)
    with front_of("imitated") as front:
        fits, over = front.path(), front.path()
        head = "POST {} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n" + CHUNKED
        whole = front.send(f"{head.format(fits)}58\r\n{'a' * 88}\r\n0\r\n\r\n".encode())
        small = front.send((head.format(over) + "1\r\na\r\n" * 20 + "0\r\n\r\n").encode())
        ended = [front.delivered(path)[0].is_whole for path in (fits, over)]

    assert (whole.status, small.status) == (200, 500)
    assert ended == [True, False]


def test_a_head_that_does_not_come_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """408 once some of it has come; a connection that sends nothing is closed."""
    monkeypatch.setattr(caller, "HEAD_SECONDS", 0.2)
    monkeypatch.setattr(caller, "IDLE_SECONDS", 2)
    with front_of("imitated") as front:
        slow = front.send(b"GET / HT", patience=5)
        idle = front.send(b"", patience=5)

    assert (slow.status, slow.end) == (408, "fin")
    assert (idle.data, idle.end) == (b"", "fin")


def test_idle_connections_to_the_worker_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker has to keep its connections for longer than the host does."""
    monkeypatch.setattr(forward, "IDLE_SECONDS", 2)
    with front_of("imitated") as front:
        path = front.path(answering(OK))
        used = front.worker.connections
        front.get(path)
        front.get(path)
        reused = front.worker.connections - used
        time.sleep(2.5)
        front.get(path)
        anew = front.worker.connections - used

    assert (reused, anew) == (0, 1)


def test_a_connection_that_the_worker_has_closed_is_not_used(front: FrontUnderTest) -> None:
    """What the host knows to be closed costs no try, with a body neither."""
    closing = front.path(answering(OK, closes=True))
    answers = []
    for _ in range(5):
        answers.append(front.post(closing))
        time.sleep(0.5)

    assert [answer.status for answer in answers] == [200] * 5
    assert len(front.delivered(closing)) == 5


def test_an_invocation_that_outlives_its_timeout_has_failed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """500, or the end of the answer is withheld; the log says what the real host does then."""
    monkeypatch.setattr(invocations, "TIMEOUT_GRACE_SECONDS", 0.1)
    begun = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n"
    with front_of("imitated", timeout_seconds=0.2) as front:
        hung = front.get(front.path(answering(60.0), error=None))
        stream = front.get(front.path(answering(begun, 60.0)))

    assert hung.status == 500
    assert (stream.body, stream.end) == (b"2\r\nok\r\n", "fin")
    assert "the real host restarts the worker now" in caplog.text


def test_a_forward_that_fails_waits_for_its_invocation(front: FrontUnderTest) -> None:
    """The caller of a call that never ends hangs; nobody is told that the forward has failed."""
    path = front.path(error=None)
    with front.connect() as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: h\r\nx: é\r\n\r\n".encode())
        waiting = listen(connection, patience=2.5)
        front.worker.errors[path] = ""
        ended = listen(connection, patience=2)

    assert waiting.data == b""
    assert ended.status == 500


def test_a_stopped_host_lets_calls_end_and_then_resets_them() -> None:
    """Within the grace time; idle connections end at once."""
    with front_of("imitated", grace_seconds=3) as front:
        brief = front.path(answering(0.3, OK))
        endless = front.path(answering(b"HTTP/1.1 200 OK\r\n\r\nok", 60.0))
        heard: dict[str, Heard] = {}
        callers = [
            threading.Thread(target=lambda p=p: heard.__setitem__(p, front.get(p)))
            for p in (brief, endless)
        ]
        for each in callers:
            each.start()
        idle = front.connect()
        idle.sendall(f"GET {front.path()} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        idle.recv(1)
        deadline = time.monotonic() + 30
        while not (front.delivered(brief) and front.delivered(endless)):
            assert time.monotonic() < deadline
            time.sleep(0.01)
    for each in callers:
        each.join(timeout=10)

    assert heard[brief].status == 200
    assert heard[endless].end == "reset"
    assert listen(idle, patience=15).end == "fin"
    idle.close()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("00:30:00", 1800), ("1.00:00:01", 86_401), ("00:00:10.5", 10.5), ("-1", None)],
)
def test_the_function_timeout_is_read_from_the_host_file(text: str, seconds: float | None) -> None:
    """`[days.]hours:minutes:seconds`; -1 is none."""
    assert timeout_seconds({"functionTimeout": text}) == seconds
    assert timeout_seconds({}) == 1800
