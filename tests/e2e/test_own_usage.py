"""`GET /usage/me` on the local stack, with tokens of its issuer: each caller sees its own numbers."""

import json
from typing import Any

import openai
import pytest
import requests

from local.demo import EXAMPLE_PRICES
from meter.__main__ import main
from tests.support.running import RunningStack, new_subject

NOT_SHOWN = {"month", "subject", "share_percent"}


def own_usage(stack: RunningStack, subject: str, **others: Any) -> requests.Response:
    headers = {"authorization": f"Bearer {stack.token(subject)}"}
    return requests.get(f"{stack.url}/usage/me", headers=headers, timeout=10, **others)


def reported(
    stack: RunningStack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> dict[str, dict[str, Any]]:
    """The rows of the month's report by subject, without what own usage does not show."""
    monkeypatch.setenv("MeterStorage", stack.description["storage_connection_string"])
    capsys.readouterr()
    words = ["--group", "subject", "--format", "json", "--prices", str(EXAMPLE_PRICES)]
    assert main(["report", "--by", "month", *words]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    return {
        row["subject"]: {name: value for name, value in row.items() if name not in NOT_SHOWN}
        for row in rows
    }


def test_two_callers_see_their_own_numbers_as_the_report_has_them(
    stack: RunningStack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In tokens and money; neither sees the other's, though one's name begins with the other's."""
    alice = new_subject("own")
    bob = f"{alice}|{alice}"
    for subject, calls in ((alice, 1), (bob, 2)):
        client = openai.OpenAI(
            base_url=f"{stack.url}/openai/v1/", api_key=stack.token(subject), max_retries=0
        )
        for _ in range(calls):
            client.responses.create(model="gpt-4o", input="Say hello.")
    stack.wait_until_counted(alice, 1)
    stack.wait_until_counted(bob, 2)
    answers = {subject: own_usage(stack, subject) for subject in (alice, bob)}
    rows = reported(stack, monkeypatch, capsys)

    for subject, calls in ((alice, 1), (bob, 2)):
        found = answers[subject].json()
        month = {name: value for name, value in found["month"].items() if name in rows[subject]}
        assert found["subject"] == subject
        assert month == rows[subject]
        assert (found["month"]["calls"], found["day"]["calls"]) == (calls, calls)
        assert float(found["month"]["cost"]) > 0
        assert [each["deployment"] for each in found["month"]["by_deployment"]] == ["gpt-4o"]
    assert bob not in answers[alice].text


def test_only_a_token_says_whose_usage_it_is(stack: RunningStack) -> None:
    """401 without one, 400 for a query, 405 for other methods; caches of the caller alone may keep it."""
    subject = new_subject("own")
    answer = own_usage(stack, subject)
    refused = own_usage(stack, subject, params={"subject": "alice"})
    bearer = {"authorization": f"Bearer {stack.token(subject)}"}
    others = [
        requests.request(method, f"{stack.url}/usage/me", headers=headers, timeout=10)
        for method, headers in (("GET", {}), ("POST", bearer), ("HEAD", bearer))
    ]

    assert answer.json()["month"]["calls"] == 0
    assert answer.headers["cache-control"] == "private, max-age=30"
    assert [each.status_code for each in (refused, *others)] == [400, 401, 405, 200]
    assert others[1].headers["allow"] == "GET, HEAD, OPTIONS"
    assert others[2].content == b""
