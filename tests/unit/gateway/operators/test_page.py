"""`GET /doctor` at the front door: who is answered, with what, and how often it is examined."""

import asyncio
import json
from collections.abc import Mapping
from copy import replace
from dataclasses import dataclass, field

import pytest

from meter.gateway.caller.auth import TokenVerifier
from meter.gateway.http import Answer
from meter.gateway.operators.page import FRESH_SECONDS, OperatorPage
from meter.gateway.request.dispatch import Dispatcher
from meter.ports import Headers
from tests.support.gateway import Door, claims, door, token

ROLE = "Meter.Operate"


@dataclass
class FakeExamination:
    """Counts its runs; waits for `gate`, and fails as told."""

    gate: asyncio.Event | None = None
    failure: Exception | None = None
    runs: int = 0
    begun: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self) -> Mapping[str, object]:
        self.runs += 1
        self.begun.set()
        if self.gate is not None:
            await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        return {"status": "ok", "findings": [], "runs": self.runs}


def operated(examination: FakeExamination) -> Door:
    made = door()
    rules = made.front_door.admission.verifier.rules
    page = OperatorPage(
        verifier=TokenVerifier(
            replace(rules, required_roles=frozenset({ROLE}), required_scopes=frozenset()),
            made.front_door.admission.verifier.keys,
            made.clock,
        ),
        examine=examination,
        clock=made.clock,
    )
    made.front_door.dispatcher = Dispatcher(operators=page)
    return made


def bearer(*roles: str) -> Headers:
    return (("authorization", f"Bearer {token(payload=claims(sub='ada', roles=list(roles)))}"),)


async def ask(
    made: Door, headers: Headers, *, method: str = "GET", query: str = "", path: str = "/doctor"
) -> Answer:
    answer = await made.call(b"", path=path, query=query, method=method, headers=headers)
    assert isinstance(answer, Answer)
    return answer


async def test_an_operator_gets_every_finding() -> None:
    """With the moment of the examination."""
    made = operated(FakeExamination())
    answer = await ask(made, bearer(ROLE))

    assert answer.status == 200
    assert json.loads(answer.body) == {
        "at": made.clock.now().isoformat(timespec="seconds"),
        "status": "ok",
        "findings": [],
        "runs": 1,
    }
    assert dict(answer.headers)["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ((), 401),
        ((("authorization", "Bearer nonsense"),), 401),
        (bearer(), 403),
        (bearer("Models.Call"), 403),
    ],
    ids=["no token", "no valid token", "no role", "a caller's role"],
)
async def test_nobody_else_gets_any(headers: Headers, status: int) -> None:
    """And nothing is examined for them."""
    examination = FakeExamination()
    answer = await ask(operated(examination), headers)

    assert (answer.status, examination.runs) == (status, 0)
    assert b"findings" not in answer.body


@pytest.mark.parametrize("headers", [(), bearer(ROLE)], ids=["no token", "the role"])
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
async def test_without_a_role_in_the_settings_there_is_no_such_address(
    headers: Headers, method: str
) -> None:
    """With a token and without."""
    answer = await ask(door(), headers, method=method)

    assert answer.status == 404
    assert dict(answer.headers)["x-meter-error"] == "not_found"


async def test_findings_are_repeated_for_a_while() -> None:
    """Whoever asks: the page cannot be used to flood what the app needs."""
    examination = FakeExamination()
    made = operated(examination)
    for _ in range(20):
        await ask(made, bearer(ROLE))
    runs_before = examination.runs
    made.clock.advance(FRESH_SECONDS)
    await ask(made, bearer(ROLE))

    assert (runs_before, examination.runs) == (1, 2)


async def test_one_run_at_a_time_is_shared() -> None:
    """By all who ask meanwhile; one that leaves does not end it."""
    examination = FakeExamination(gate=asyncio.Event())
    made = operated(examination)
    asking = [asyncio.create_task(ask(made, bearer(ROLE))) for _ in range(5)]
    await examination.begun.wait()
    asking[0].cancel()
    assert examination.gate is not None
    examination.gate.set()
    answers = await asyncio.gather(*asking[1:])

    assert [answer.status for answer in answers] == [200] * 4
    assert examination.runs == 1


async def test_a_run_that_fails_is_answered_and_tried_again() -> None:
    """Nothing of its text is shown."""
    examination = FakeExamination(failure=ValueError("hunter2"))
    made = operated(examination)
    first = await ask(made, bearer(ROLE))
    examination.failure = None
    second = await ask(made, bearer(ROLE))

    assert (first.status, second.status) == (500, 200)
    assert b"hunter2" not in first.body


@pytest.mark.parametrize(
    ("method", "query", "status"),
    [("HEAD", "", 200), ("OPTIONS", "", 204), ("POST", "", 405), ("GET", "deep=1", 400)],
)
async def test_it_is_read_and_nothing_else(method: str, query: str, status: int) -> None:
    """As every page of the gateway's own."""
    made = operated(FakeExamination())

    assert (await ask(made, bearer(ROLE), method=method, query=query)).status == status
    assert (await ask(made, bearer(ROLE), path="/doctor/")).status == 404


async def test_a_run_under_way_ends_with_the_instance() -> None:
    """A shutdown does not wait for it."""
    examination = FakeExamination(gate=asyncio.Event())
    made = operated(examination)
    asking = asyncio.create_task(ask(made, bearer(ROLE)))
    await examination.begun.wait()
    page = made.front_door.dispatcher.operators
    assert page is not None
    await page.close()

    with pytest.raises(asyncio.CancelledError):
        await asking
