"""Backends that throttle, fail, hang or break off, callers that disconnect, processes that are killed."""

import json
import signal
import socket
import time
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from tests.support.running import RunningStack, eventually, new_subject

CHAT = "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21"
BODY = {"model": "gpt-4o", "messages": [{"role": "user", "content": "one two three"}]}
STREAM = {**BODY, "stream": True, "max_tokens": 30}


@pytest.fixture(autouse=True)
def _no_faults(stack: RunningStack) -> None:
    stack.clear_faults()


def _warm_up(stack: RunningStack, token: str) -> None:
    """Forget earlier faults, after which a backend may cool down for a minute: a new worker knows none."""
    if not _both_answer(stack, token, calls=10):
        stack.wait_for_restart("gateway", stack.kill("gateway", signal.SIGTERM))
        eventually(lambda: _both_answer(stack, token, calls=1_000), "both backends answer")


def _both_answer(stack: RunningStack, token: str, *, calls: int) -> bool:
    """Whether each backend answers some of so many calls."""
    seen: set[str] = set()
    for _ in range(calls):
        try:
            answer = stack.post(CHAT, token, BODY)
        except requests.ConnectionError:
            return False
        if answer.ok:
            seen.add(answer.headers["x-meter-backend"])
        if len(seen) == 2:
            return True
    return False


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 429, "headers": {"retry-after-ms": "500"}},
        {"status": 500},
        {"status": 503},
        {"reset": True},
        {"hang": True},
        {"cut_after_bytes": 100},
    ],
    ids=["throttled", "error", "unavailable", "reset", "hang", "cut"],
)
@pytest.mark.parametrize("body", [BODY, STREAM], ids=["whole", "stream"])
def test_a_failing_backend_costs_the_caller_nothing(
    stack: RunningStack, fault: dict[str, object], body: dict[str, object]
) -> None:
    """While one backend can serve, every call is answered, and counted once with all attempts."""
    if fault == {"cut_after_bytes": 100} and body is STREAM:
        fault = {"reset": True, "delay_ms": 50}  # a cut after the first byte is another rule
    subject = new_subject("failover")
    token = stack.token(subject)
    stack.fault({**fault, "count": None}, backend=0)

    answers = [stack.post(CHAT, token, body) for _ in range(4)]

    assert [answer.status_code for answer in answers] == [200] * 4
    assert {answer.headers["x-meter-backend"] for answer in answers} == {"backend-b"}
    rows = stack.wait_until_counted(subject, 4)
    assert sum(row["Calls"].value for row in rows) == 4
    assert sum(row["FailedCalls"].value for row in rows) == 0


def test_when_all_backends_throttle_the_caller_learns_the_soonest_wait(stack: RunningStack) -> None:
    """All cooling down: 429 in AOAI's shape with the true soonest wait; SDKs then wait that long."""
    token = stack.token(new_subject("throttled"))
    _warm_up(stack, token)
    stack.fault({"status": 429, "headers": {"retry-after": "7"}, "count": 1}, backend=0)
    stack.fault({"status": 429, "headers": {"retry-after": "3"}, "count": 1}, backend=1)

    answer = stack.post(CHAT, token, BODY)

    assert answer.status_code == 429
    assert 2000 < int(answer.headers["retry-after-ms"]) <= 3000
    assert answer.headers["retry-after"] == "3"
    assert answer.json()["error"]["code"] == "429"


def test_one_callers_oversized_request_costs_others_nothing(stack: RunningStack) -> None:
    """Azure names a day to a request larger than the quota; smaller ones are served meanwhile."""
    alice, bob = stack.token(new_subject("oversized")), stack.token(new_subject("small"))
    _warm_up(stack, bob)
    for backend in (0, 1):
        fault = {"status": 429, "headers": {"retry-after": "86400"}, "count": 1}
        stack.fault(fault, backend=backend)

    refused = stack.post(CHAT, alice, {**BODY, "max_tokens": 1_000_000})
    others = stack.post(CHAT, bob, BODY)
    own = stack.post(CHAT, alice, BODY)
    again = stack.post(CHAT, alice, {**BODY, "max_tokens": 1_000_000})

    answers = (refused, others, own, again)
    assert [answer.status_code for answer in answers] == [429, 200, 200, 429]
    assert [int(answer.headers["retry-after"]) <= 60 for answer in (refused, again)] == [True, True]


def test_a_stream_that_breaks_off_never_looks_whole(stack: RunningStack) -> None:
    """After the first byte a cut gives the caller an error frame and a cut; the event says failed."""
    subject = new_subject("cut")
    token = stack.token(subject)
    _warm_up(stack, stack.token(new_subject("warm")))
    stack.fault({"cut_after_bytes": 2500, "chunk_delay_ms": 5, "count": 1})

    received = bytearray()
    answer = stack.post(CHAT, token, STREAM, stream=True)
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        _read_into(received, answer)

    stack.clear_faults()
    assert b"[DONE]" not in received
    last = json.loads(bytes(received).rstrip().rpartition(b"data: ")[2])
    assert last["error"]["code"] == "upstream_cut"
    [row] = stack.wait_until_counted(subject, 1)
    assert row["FailedCalls"].value == 1
    assert row["EstimatedCalls"].value == 1


def _read_into(received: bytearray, answer: requests.Response) -> None:
    for chunk in answer.iter_content(None):
        received.extend(chunk)


def test_a_caller_that_leaves_is_counted_in_full(stack: RunningStack) -> None:
    """AOAI bills the whole answer, so the stream is drained to the usage that it reports."""
    subject = new_subject("leaves")
    token = stack.token(subject)
    stack.fault({"chunk_delay_ms": 30, "count": 1})

    _read_a_little_and_leave(stack, token)

    stack.wait_until_counted(subject, 1)
    [row] = stack.usage(subject)
    [recorded] = stack.calls_of(subject)
    assert row["TotalTokens"].value == recorded["usage"]["total_tokens"]
    assert row["CompletionTokens"].value == 30
    assert row["EstimatedCalls"].value == 0


def _read_a_little_and_leave(stack: RunningStack, token: str) -> None:
    """A raw socket, so that the connection is closed without any cleanup."""
    address = urlsplit(stack.url)
    payload = json.dumps(STREAM).encode()
    head = (
        f"POST {CHAT} HTTP/1.1\r\nHost: {address.netloc}\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(payload)}\r\n\r\n"
    )
    with socket.create_connection((address.hostname or "", address.port or 0)) as connection:
        connection.sendall(head.encode() + payload)
        connection.recv(2000)


def test_a_killed_worker_comes_back_and_loses_no_counted_call(stack: RunningStack) -> None:
    """After kill -9 the worker is restarted; all answered calls are counted once."""
    subject = new_subject("killed")
    token = stack.token(subject)
    for _ in range(20):
        assert stack.post(CHAT, token, BODY).status_code == 200

    stack.wait_for_restart("gateway", stack.kill("gateway"))

    assert stack.post(CHAT, token, BODY).status_code == 200
    rows = stack.wait_until_counted(subject, 21)
    assert sum(row["Calls"].value for row in rows) == 21
    assert sum(row["TotalTokens"].value for row in rows) == _recorded_tokens(stack, subject)


def test_a_killed_event_hub_loses_nothing(stack: RunningStack) -> None:
    """Events go to the outbox while the hub is down; acknowledged ones are on its disk."""
    subject = new_subject("hub")
    token = stack.token(subject)
    for _ in range(5):
        assert stack.post(CHAT, token, BODY).status_code == 200

    pid = stack.kill("eventhubs")
    for _ in range(5):
        assert stack.post(CHAT, token, BODY).status_code == 200
    stack.wait_for_restart("eventhubs", pid)
    eventually(lambda: requests.get(f"{stack.url}/readyz", timeout=10).ok, "ready again")

    rows = stack.wait_until_counted(subject, 10)
    assert sum(row["Calls"].value for row in rows) == 10
    assert sum(row["TotalTokens"].value for row in rows) == _recorded_tokens(stack, subject)
    eventually(lambda: not stack.rows("Outbox"), "the outbox drains")


def test_storage_that_does_not_answer_delays_counting_only(stack: RunningStack) -> None:
    """With Azurite frozen, calls are still answered, and are counted once after it resumes."""
    subject = new_subject("frozen")
    token = stack.token(subject)

    pid = stack.kill("azurite", signal.SIGSTOP)
    try:
        answers = [stack.post(CHAT, token, BODY) for _ in range(5)]
        time.sleep(3)
    finally:
        stack.kill("azurite", signal.SIGCONT)

    assert stack.description["pids"]["azurite"] == pid
    assert [answer.status_code for answer in answers] == [200] * 5
    rows = stack.wait_until_counted(subject, 5)
    assert sum(row["Calls"].value for row in rows) == 5


def _recorded_tokens(stack: RunningStack, subject: str) -> int:
    calls: list[Any] = stack.calls_of(subject)
    return sum(call["usage"]["total_tokens"] for call in calls if call["status"] == 200)


def test_readiness_names_what_cannot_be_reached(stack: RunningStack) -> None:
    """With the hub frozen, /readyz reports the category, and recovers afterwards.

    A report is remembered for some seconds, so one from before the freeze may still be given.
    """
    answers: list[requests.Response] = []

    def is_unready() -> bool:
        answers.append(requests.get(f"{stack.url}/readyz", timeout=20))
        return answers[-1].status_code == 503

    pid = stack.kill("eventhubs", signal.SIGSTOP)
    try:
        eventually(is_unready, "unready")
    finally:
        stack.kill("eventhubs", signal.SIGCONT)

    assert stack.description["pids"]["eventhubs"] == pid
    assert answers[-1].json()["reasons"] == ["the event hub cannot be reached"]
    eventually(lambda: requests.get(f"{stack.url}/readyz", timeout=20).ok, "ready again")
