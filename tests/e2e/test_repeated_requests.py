"""Clients that give up on a slow answer and ask again: one bill, and an answer."""

from collections.abc import Iterator
from typing import Any

import openai
import pytest
import requests

from tests.support.running import RunningStack, eventually, new_subject

ANSWER_SECONDS = 2.5  # 150 s in a shorter measure
PATIENCE_SECONDS = 1.5  # 100 s in the same
MESSAGES: Any = [{"role": "user", "content": "one two three"}]
BODY = {"model": "gpt-4o", "messages": MESSAGES}
CHAT = "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21"
OTHER_APP = "11111111-1111-4111-8111-111111111111"


@pytest.fixture(autouse=True)
def _slow_backends(stack: RunningStack) -> Iterator[None]:
    stack.fault({"delay_ms": round(ANSWER_SECONDS * 1000), "count": None})
    yield
    stack.clear_faults()


def test_the_openai_sdk_gets_an_answer_that_takes_longer_than_it_waits(
    stack: RunningStack,
) -> None:
    """Its first try gives up, a later one joins; the backends and the tables know one call."""
    subject = new_subject("impatient")
    client = openai.AzureOpenAI(
        azure_endpoint=stack.url,
        azure_ad_token=stack.token(subject),
        api_version="2024-10-21",
        timeout=PATIENCE_SECONDS,
        max_retries=5,
    )

    answer: Any = client.chat.completions.with_raw_response.create(
        model="gpt-4o", messages=MESSAGES
    )

    client.close()
    (row,) = stack.wait_until_counted(subject, 1)
    (recorded,) = stack.calls_of(subject)
    assert answer.headers["x-meter-joined"] != answer.headers["x-meter-event-id"]
    assert answer.retries_taken >= 1
    total = answer.parse().usage.total_tokens
    assert (row["Calls"].value, row["TotalTokens"].value) == (1, total)
    assert recorded["usage"]["total_tokens"] == total


def test_the_same_bytes_from_others_are_calls_of_their_own(stack: RunningStack) -> None:
    """The key is the caller's, whatever marks a request has: another subject, another app."""
    subject, other = new_subject("victim"), new_subject("stranger")
    marks = {"x-ms-client-request-id": "id-1", "x-stainless-retry-count": "1"}
    with pytest.raises(requests.Timeout):
        requests.post(
            stack.url + CHAT,
            json=BODY,
            headers={"authorization": f"Bearer {stack.token(subject)}", **marks},
            timeout=1,
        )
    eventually(lambda: len(stack.calls_of(subject)) == 1, "the first call is answered")

    stack.clear_faults()
    strangers = [stack.token(other), stack.token(subject, "--app", OTHER_APP)]
    others = [stack.post(CHAT, token, BODY, headers=marks) for token in strangers]
    own = stack.post(CHAT, stack.token(subject), BODY, headers=marks)
    again = stack.post(CHAT, stack.token(subject), BODY, headers=marks)

    assert [answer.status_code for answer in (*others, own, again)] == [200] * 4
    assert ["x-meter-joined" in answer.headers for answer in (*others, own, again)] == [
        False,
        False,
        True,
        False,
    ]
    assert len(stack.calls_of(subject)) == 3
    assert len(stack.calls_of(other)) == 1
