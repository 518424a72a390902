"""One call: the request that a backend gets, and its single end."""

import pytest

from meter.gateway.balance.affinity import Owner, Owners
from meter.usage import Outcome
from tests.fakes.gateway import FakeUpstream, json_answer
from tests.support.gateway import SERVED, Door, backend, bearer, door, headers_of


async def test_a_request_is_made_for_each_backend() -> None:
    """Its address, its deployment's name, its credentials and the verified subject."""
    upstream = FakeUpstream({"a": [json_answer(200, SERVED)]})
    made = Door(upstream, [backend("a", own="own-name")])

    await made.answer(headers=(*bearer(), ("openai-beta", "1")))

    sent = upstream.requests[0]
    assert (sent.backend, sent.method) == ("a", "POST")
    assert sent.url == (
        "https://a.example/openai/deployments/own-name/chat/completions?api-version=2024-10-21"
    )
    assert sent.headers == (
        ("content-type", "application/json"),
        ("openai-beta", "1"),
        ("accept-encoding", "identity"),
        ("caller-subject", "alice"),
        ("api-key", "key-of-a"),
    )


class BrokenOwners(Owners):
    """A part of the front door with a defect."""

    def learn(self, response_id: str | None, owner: Owner) -> None:
        raise ZeroDivisionError


async def test_a_defect_of_our_own_still_counts_the_call_and_gives_all_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A backend was reached, so there is an event; the answer and the log line have its id."""
    made = Door(FakeUpstream({"a": [json_answer(200, SERVED)]}), [backend("a")])
    made.front_door.instance.background.owners = BrokenOwners()

    answer = await made.call(b'{"model":"gpt"}', path="/openai/v1/responses")

    event = made.sink.events[0]
    assert (event.outcome, event.status, len(made.sink.events)) == (Outcome.FAILED, 503, 1)
    assert (answer.status, headers_of(answer)["x-meter-event-id"]) == (500, str(event.id))
    assert caplog.messages == [f"call_failed_unexpectedly event_id={event.id}"]
    assert caplog.records[0].exc_info is not None
    assert made.is_idle


async def test_a_failover_is_found_in_the_log_by_the_calls_id(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The id that the caller has, also where no backend could serve."""
    made = door(json_answer(500, b"{}"))

    answer = await made.answer()

    event_id = headers_of(answer)["x-meter-event-id"]
    line = (
        f"backend_failed_over event_id={event_id} backend=a deployment=gpt fault=error status=500"
    )
    assert caplog.messages == [line, "backends_exhausted deployment=gpt status=502 calls=1"]
