"""A stream that is slow to start is begun early with comments, so that the host does not cut it."""

import json
import time
from collections.abc import Iterator

import openai
import pytest
import requests

from tests.support.running import RunningStack, new_subject, run_stack

CHAT = {"model": "gpt-4o", "stream": True, "messages": [{"role": "user", "content": "Think long"}]}
PATH = "/openai/v1/chat/completions"
KEEP_ALIVE = b": keep-alive\n\n"


@pytest.fixture(scope="module")
def slow_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """A stack that begins streams after half a second."""
    settings = {
        "METER_FIRST_KEEPALIVE_SECONDS": "0.5",
        "METER_KEEPALIVE_SECONDS": "0.2",
        "METER_FIRST_BYTE_TIMEOUT_SECONDS": "2",
        "METER_OUTBOX_INTERVAL_SECONDS": "2",
    }
    with run_stack(tmp_path_factory.mktemp("slow"), settings=settings) as running:
        yield running


@pytest.fixture(autouse=True)
def _no_faults(slow_stack: RunningStack) -> Iterator[None]:
    yield
    slow_stack.clear_faults()


def test_a_slow_backend_costs_the_caller_nothing(slow_stack: RunningStack) -> None:
    """The caller gets comments, then the stream unchanged, counted as usual."""
    subject = new_subject("late")
    slow_stack.fault({"delay_ms": 1_500, "count": None})
    answer = slow_stack.post(PATH, slow_stack.token(subject), CHAT)
    client = openai.OpenAI(
        base_url=f"{slow_stack.url}/openai/v1/", api_key=slow_stack.token(subject)
    )
    with client.chat.completions.create(**CHAT) as stream:  # type: ignore[call-overload]  # a dict
        chunks = list(stream)
    slow_stack.clear_faults()
    prompt = slow_stack.post(PATH, slow_stack.token(subject), CHAT)
    rows = slow_stack.wait_until_counted(subject, 3)

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.content.startswith(KEEP_ALIVE * 3)
    assert _texts(answer.content) == _texts(prompt.content)
    assert len(chunks) > 3
    recorded = slow_stack.calls_of(subject)
    assert sum(row["TotalTokens"].value for row in rows) == sum(
        call["usage"]["total_tokens"] for call in recorded
    )


def test_an_error_after_that_is_an_error_event_and_a_cut(slow_stack: RunningStack) -> None:
    """The status is 200 by then; the SDK still raises, and the call is counted as failed."""
    subject = new_subject("late-error")
    slow_stack.fault({"hang": True, "count": None})
    token, begun = slow_stack.token(subject), time.monotonic()
    lines: list[bytes] = []
    with (
        pytest.raises(requests.exceptions.ChunkedEncodingError),
        requests.post(
            slow_stack.url + PATH,
            json=CHAT,
            headers={"authorization": f"Bearer {token}"},
            stream=True,
            timeout=30,
        ) as answer,
    ):
        lines.extend(answer.iter_lines())
    took = time.monotonic() - begun
    slow_stack.clear_faults()
    (row,) = slow_stack.wait_until_counted(subject, 1)

    events = [line.removeprefix(b"data: ") for line in lines if line.startswith(b"data: ")]
    assert len(events) == 1
    assert json.loads(events[0])["error"]["code"] == "GatewayTimeout"
    assert took > 3.5  # two backends, two seconds each
    assert (row["FailedCalls"].value, row["MissingCalls"].value) == (1, 1)


def _texts(stream: bytes) -> list[object]:
    frames = [frame for frame in stream.split(b"\n\n") if frame.startswith(b"data: {")]
    return [json.loads(frame[6:])["choices"] for frame in frames]
