"""Background responses through the whole pipeline: what is counted is what the backends billed."""

import re
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
import requests

from tests.support.running import RunningStack, eventually, new_subject, run_stack

RESPONSES = "/openai/v1/responses"
TEXT = "Think long"


@pytest.fixture(scope="module")
def cancelling(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """A stack that closes streams as soon as their callers leave."""
    state: Path = tmp_path_factory.mktemp("background")
    with run_stack(state, settings={"METER_ON_DISCONNECT": "cancel"}) as stack:
        yield stack


def begin(stack: RunningStack, token: str, *, to_the_end: bool, text: str = TEXT) -> str:
    """Make a response, read its stream or leave it after its first event; return its id."""
    body = {"model": "gpt-4o", "input": text, "background": True, "stream": True}
    if not to_the_end:
        stack.fault({"chunk_delay_ms": 200, "count": 1})
    received = b""
    with stack.post(RESPONSES, token, body, stream=True) as answer:
        assert answer.status_code == 200
        for chunk in answer.iter_content(None):
            received += chunk
            if b"\n\n" in received and not to_the_end:
                break
    stack.clear_faults()
    found = re.search(rb'"id": ?"(resp_[^"]+)"', received)
    assert found is not None
    return found[1].decode()


def read(stack: RunningStack, token: str, response_id: str, *, events: bool = False) -> str:
    """Read it, whole or as events."""
    answer = requests.get(
        f"{stack.url}{RESPONSES}/{response_id}{'?stream=true' if events else ''}",
        headers={"authorization": f"Bearer {token}"},
        timeout=30,
    )
    assert answer.status_code == 200
    return answer.text


def billed(stack: RunningStack, subject: str) -> int:
    """What the backends' own record says."""
    usages = [call["usage"] for call in stack.calls_of(subject)]
    return sum(usage["total_tokens"] for usage in usages if usage)


def counted(stack: RunningStack, subject: str) -> int:
    """What the report shows."""
    return sum(int(row["TotalTokens"].value) for row in stack.usage(subject))


@pytest.mark.parametrize(
    ("to_the_end", "reads", "calls"),
    [
        pytest.param(False, [False], 3, id="left and read"),
        pytest.param(False, [False, True, False], 5, id="left and read three times"),
        pytest.param(True, [False, True], 4, id="streamed and read twice"),
    ],
)
def test_a_background_response_is_counted_once(
    cancelling: RunningStack, to_the_end: bool, reads: list[bool], calls: int
) -> None:
    """One call more than there were requests, and the tokens once."""
    subject = new_subject("background")
    token = cancelling.token(subject)
    response_id = begin(cancelling, token, to_the_end=to_the_end)
    for events in reads:
        assert "completed" in read(cancelling, token, response_id, events=events)

    cancelling.wait_until_counted(subject, calls)

    assert cancelling.calls_counted(subject) == calls
    assert counted(cancelling, subject) == billed(cancelling, subject) > 0


def test_a_response_that_nobody_reads_is_counted(cancelling: RunningStack) -> None:
    """The gateway asks for it until it has ended; the application never does."""
    subject = new_subject("background-unread")
    client = openai.OpenAI(
        base_url=f"{cancelling.url}/openai/v1", api_key=cancelling.token(subject), max_retries=0
    )
    cancelling.fault({"chunk_delay_ms": 200, "count": 1})
    with client.responses.create(
        model="gpt-4o", input=f"{TEXT} RUNS8S", background=True, stream=True
    ) as events:
        assert next(iter(events)).type == "response.created"
    cancelling.clear_faults()

    cancelling.wait_until_counted(subject, 2)

    [created] = cancelling.calls_of(subject)
    assert (created["operation"], created["completed"]) == ("responses", False)
    assert cancelling.calls_counted(subject) == 2
    assert counted(cancelling, subject) == billed(cancelling, subject) > 0


def test_a_response_whose_gateway_is_killed_is_missing_until_it_is_read(
    cancelling: RunningStack,
) -> None:
    """Only the process that saw it made asks for it."""
    subject = new_subject("background-killed")
    token = cancelling.token(subject)
    response_id = begin(cancelling, token, to_the_end=False, text=f"{TEXT} RUNS12S")
    rows = cancelling.wait_until_counted(subject, 1)
    assert sum(int(row["MissingCalls"].value) for row in rows) == 1
    assert counted(cancelling, subject) == 0

    cancelling.wait_for_restart("gateway", cancelling.kill("gateway"))
    eventually(lambda: requests.get(f"{cancelling.url}/healthz", timeout=5).ok, "the gateway")
    eventually(lambda: "completed" in read(cancelling, token, response_id), "its end")
    read(cancelling, token, response_id)

    eventually(lambda: counted(cancelling, subject) > 0, "its tokens")
    assert counted(cancelling, subject) == billed(cancelling, subject)
