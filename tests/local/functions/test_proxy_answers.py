"""Answers as the caller gets them behind the imitated proxy and behind Microsoft's."""

import threading
import time
from collections.abc import Callable

import pytest

from tests.fakes.scripted_worker import OK, Script, answering
from tests.local.functions.conftest import KINDS, FrontUnderTest, front_of, listen

CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n"


def test_an_answer_is_passed_on_under_the_proxys_name(front: FrontUnderTest) -> None:
    """Headers of the hop go, duplicates and odd phrases stay, nothing is invented."""
    path = front.path(
        answering(
            b"HTTP/1.1 299 My Phrase\r\ncontent-length: 2\r\nKeep-Alive: 1\r\nAlt-Svc: y\r\n"
            b"Proxy-Authenticate: x\r\nUpgrade: a\r\nTE: x\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n"
            b"x-empty:\r\nTrailer: z\r\n\r\nok"
        )
    )

    answer = front.get(path)

    head, _, body = answer.data.partition(b"\r\n\r\n")
    lines = sorted(head.decode().lower().split("\r\n"))
    assert (body, answer.end) == (b"ok", "fin")
    assert [line for line in lines if not line.startswith("date: ")] == [
        "connection: close",
        "content-length: 2",
        "http/1.1 299 my phrase",
        "server: kestrel",
        "set-cookie: a",
        "set-cookie: b",
        "trailer: z",
        "x-empty: ",
    ]


@pytest.mark.parametrize(
    ("sent", "heard"),
    [
        (HEAD + b"Server: me\r\nDate: now\r\n\r\nok", {"server": "me", "date": "now"}),
        (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 2\r\n\r\n", {"content-length": "2"}),
        (b"HTTP/1.1 102 P\r\n\r\n" + OK, {"content-length": "2"}),
        (CHUNKED + b"2\r\nok\r\n0\r\nT: x\r\n\r\n", {"transfer-encoding": "chunked"}),
    ],
)
def test_answers_keep_their_framing(
    front: FrontUnderTest, sent: bytes, heard: dict[str, str]
) -> None:
    """The worker's own server and date win; interim answers and trailers go."""
    answer = front.get(front.path(answering(sent)))

    assert heard.items() <= answer.head.items()
    assert answer.data.count(b"HTTP/1.1") == 1
    assert b"T: x" not in answer.data


@pytest.mark.parametrize(
    "sent",
    [
        HEAD + b"x: \xc3\xa9\r\n\r\nok",
        HEAD + b"x: \xe9\r\n\r\nok",
        HEAD + b"x: a\x01\r\n\r\nok",
        HEAD + b"x: \x7f\r\n\r\nok",
        HEAD + b"content-length: 2\r\n\r\nok",
        b"HTTP/1.1 204 No Content\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        CHUNKED + b"zz\r\n",
    ],
)
def test_an_answer_that_cannot_be_passed_on_becomes_a_500(
    front: FrontUnderTest, sent: bytes
) -> None:
    """Though the call was answered, and charged: it is not tried again."""
    path = front.path(answering(sent))

    answer = front.get(path)

    assert (answer.status, answer.body) == (500, b"")
    assert len(front.delivered(path)) == 1


def test_the_head_waits_for_the_first_byte_of_body(front: FrontUnderTest) -> None:
    """Then each write is passed on at once."""
    path = front.path(answering(CHUNKED, 0.4, b"2\r\nok\r\n", 60.0, b"0\r\n\r\n"))
    with front.connect() as connection:
        begun = time.monotonic()
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        first = connection.recv(65_536)
        took = time.monotonic() - begun
        connection.settimeout(0.2)
        with pytest.raises(TimeoutError):
            connection.recv(65_536)

    assert first.endswith(b"\r\n\r\n2\r\nok\r\n")
    assert took > 0.3


def test_an_answer_ends_with_its_invocation(front: FrontUnderTest) -> None:
    """Its end is held back until then."""
    path = front.path(answering(CHUNKED + b"2\r\nok\r\n0\r\n\r\n"), error=None)
    threading.Timer(0.5, front.worker.errors.__setitem__, (path, "")).start()

    answer = front.get(path)

    assert (answer.status, answer.body) == (200, b"2\r\nok\r\n0\r\n\r\n")
    assert answer.seconds > 0.4


def test_a_failed_invocation_spoils_its_answer(front: FrontUnderTest) -> None:
    """Before the head it is a 500, after it the end is withheld."""
    before = front.get(front.path(answering(0.2, b"HTTP/1.1 204 N\r\n\r\n"), error="failed"))
    after = front.get(front.path(answering(CHUNKED + b"2\r\nok\r\n0\r\n\r\n"), error="failed"))

    assert (before.status, before.body, before.end) == (500, b"", "fin")
    assert (after.status, after.body, after.end) == (200, b"2\r\nok\r\n", "fin")


def test_a_cut_is_a_reset_and_before_any_body_a_500(front: FrontUnderTest) -> None:
    """Nobody takes a broken answer for a whole one."""
    middle = front.get(front.path(answering(CHUNKED + b"2\r\nok\r\n", 0.1, closes=True)))
    short = front.get(front.path(answering(HEAD + b"\r\no", 0.1, closes=True)))
    bare = front.get(front.path(answering(CHUNKED, 0.1, closes=True)))
    reset = front.get(front.path(answering(CHUNKED + b"2\r\nok\r\n", 0.1, resets=True)))

    assert (middle.body, middle.end) == (b"2\r\nok\r\n", "reset")
    assert (short.body, short.end) == (b"o", "reset")
    assert (bare.status, bare.body) == (500, b"")
    assert (reset.body, reset.end) == (b"2\r\nok\r\n", "reset")


def test_a_cut_overtakes_what_was_written_just_before(front: FrontUnderTest) -> None:
    """An error item needs some time before its cut; a clean end loses nothing.

    Whether a cut comes in time is up to the scheduler, so the hasty cut has many tries.
    """
    item = b"2\r\nok\r\n"
    hasty = answering(CHUNKED + item, 0.05, item, closes=True)
    patient = answering(CHUNKED + item, 0.05, item, 0.3, closes=True)
    clean = answering(CHUNKED + item, 0.05, item + b"0\r\n\r\n", closes=True)

    def is_lost(script: Script) -> bool:
        return front.get(front.path(script)).body.count(item) < 2

    assert any(is_lost(hasty) for _ in range(200))
    assert not any(is_lost(patient) for _ in range(10))
    assert not any(is_lost(clean) for _ in range(10))


@pytest.mark.parametrize("half", [True, False], ids=["half-closed", "closed"])
def test_a_caller_that_leaves_ends_the_forward_alone(front: FrontUnderTest, half: bool) -> None:
    """A FIN behind the request counts as leaving; the invocation goes on, and nobody is answered."""
    path = front.path(answering(5.0), error=None)
    with front.connect() as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        _until(lambda: bool(front.delivered(path)))
        connection.shutdown(1) if half else connection.close()
        _until(lambda: front.delivered(path)[0].is_ended)
        heard = listen(connection, patience=1) if half else None

    assert heard is None or heard.data == b""
    assert front.worker.invoked[path]
    front.worker.errors[path] = ""


@pytest.mark.parametrize("kind", KINDS)
def test_silence_ends_a_forward(kind: str) -> None:
    """After the activity time: a 500 once the invocation has ended, or a reset within an answer."""
    with front_of(kind, activity_seconds=1) as front:
        silent, stopping = (
            front.path(answering(60.0)),
            front.path(answering(CHUNKED + b"2\r\nok\r\n", 60.0)),
        )
        heard: list[tuple[int, str]] = []
        callers = [
            threading.Thread(target=lambda p=p: heard.append(_ending(front, p)))
            for p in (silent, stopping)
        ]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join(timeout=60)

    assert sorted(heard) == [(200, "reset"), (500, "fin")]


def _ending(front: FrontUnderTest, path: str) -> tuple[int, str]:
    answer = front.get(path)
    assert answer.seconds > 0.8
    return answer.status, answer.end


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
