"""`GET /usage/me` at the front door: who is answered, about whom, and how often storage is read."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from meter.errors import StorageUnavailable
from meter.gateway.http import Answer
from meter.gateway.own_usage import MOST_KNOWN, MOST_READS, MOST_WAITING, OwnUsage
from meter.gateway.request.dispatch import Dispatcher
from meter.ports import Headers
from tests.support.gateway import Door, claims, door, token


@dataclass
class FakeReader:
    """Says how many reads it had; waits for `gate`, and fails as told."""

    name: str | None = None
    failure: Exception | None = None
    gate: asyncio.Event | None = None
    read_of: list[str] = field(default_factory=list)
    running: int = 0
    most_running: int = 0

    async def read(self, subject: str) -> Mapping[str, object]:
        self.read_of.append(subject)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            if self.gate is not None:
                await self.gate.wait()
            if self.failure is not None:
                raise self.failure
            return {"subject": subject, "name": self.name, "reads": len(self.read_of)}
        finally:
            self.running -= 1


def usage_door(reader: FakeReader) -> Door:
    made = door()
    own_usage = OwnUsage(reader=reader, clock=made.clock)
    made.front_door.dispatcher = Dispatcher(own_usage=own_usage)
    return made


def bearer(subject: str = "alice", **others: object) -> Headers:
    made = token(payload=claims(sub=subject, **others))
    return (("authorization", f"Bearer {made}"),)


async def ask(
    made: Door,
    subject: str = "alice",
    *,
    method: str = "GET",
    query: str = "",
    path: str = "/usage/me",
    headers: Headers | None = None,
) -> Answer:
    asked = bearer(subject) if headers is None else headers
    answer = await made.call(b"", path=path, query=query, method=method, headers=asked)
    assert isinstance(answer, Answer)
    return answer


def error(answer: Answer) -> tuple[int, str]:
    return answer.status, dict(answer.headers)["x-meter-error"]


async def test_a_caller_gets_the_usage_of_its_token() -> None:
    """No event is made, and no shared cache may keep it."""
    made = usage_door(FakeReader())
    answer = await ask(made)

    assert (answer.status, json.loads(answer.body)) == (
        200,
        {"subject": "alice", "name": None, "reads": 1},
    )
    headers = dict(answer.headers)
    assert headers["content-type"] == "application/json"
    assert headers["cache-control"] == "private, max-age=30"
    assert headers["vary"] == "authorization, api-key"
    assert [name for name, _ in answer.headers].count("cache-control") == 1
    assert made.sink.events == []


async def test_the_name_is_the_stored_one_else_the_tokens() -> None:
    """Operators' words go first, as in reports."""
    headers = bearer(upn="alice@contoso.example")
    unnamed = await ask(usage_door(FakeReader()), headers=headers)
    named = await ask(usage_door(FakeReader(name="Alice")), headers=headers)

    assert [json.loads(each.body)["name"] for each in (unnamed, named)] == [
        "alice@contoso.example",
        "Alice",
    ]


async def test_tokens_are_verified_as_for_calls() -> None:
    """401 in the same shape, before storage is read."""
    reader = FakeReader()
    made = usage_door(reader)
    missing = await ask(made, headers=())
    expired = await ask(made, headers=bearer(exp=1))
    called = await made.call(headers=())

    assert isinstance(called, Answer)
    assert missing.body == called.body
    assert [error(missing), error(expired)] == [(401, "token"), (401, "token")]
    assert "www-authenticate" in dict(missing.headers)
    assert reader.read_of == []


async def test_nothing_in_a_request_names_another_subject() -> None:
    """A query is refused rather than ignored: who gives one would take the answer for another's."""
    reader = FakeReader()
    made = usage_door(reader)
    refused = await ask(made, query="subject=bob")
    also = [("caller-subject", "bob"), ("x-ms-client-principal-id", "bob")]
    answer = await ask(made, headers=(*bearer(), *also))

    assert error(refused) == (400, "bad_request")
    assert json.loads(answer.body)["subject"] == "alice"
    assert reader.read_of == ["alice"]


@pytest.mark.parametrize("path", ["/usage/me/", "/usage/bob", "/usage", "/Usage/me", "/usage%2Fme"])
async def test_other_addresses_are_not_served(path: str) -> None:
    """The path must match exactly, as all do."""
    assert error(await ask(usage_door(FakeReader()), path=path)) == (404, "not_found")


async def test_reading_methods_alone_are_accepted() -> None:
    """HEAD is GET without its body, which the server leaves out; OPTIONS needs a token as elsewhere."""
    reader = FakeReader()
    made = usage_door(reader)
    head, options = await ask(made, method="HEAD"), await ask(made, method="OPTIONS")
    post = await ask(made, method="POST")

    assert (head.status, options.status) == (200, 204)
    assert error(post) == (405, "method")
    allowed = [dict(each.headers)["allow"] for each in (options, post)]
    assert allowed == ["GET, HEAD, OPTIONS"] * 2
    assert reader.read_of == ["alice"]


async def test_what_was_read_is_repeated_for_half_a_minute() -> None:
    """To that subject alone."""
    reader = FakeReader()
    made = usage_door(reader)
    await ask(made)
    made.clock.advance(29)
    await ask(made)
    await ask(made, "bob")
    made.clock.advance(2)
    await ask(made)

    assert reader.read_of == ["alice", "bob", "alice"]


async def test_a_subject_is_read_once_at_a_time() -> None:
    """Though many ask at once; one that leaves does not fail the others."""
    reader = FakeReader(gate=asyncio.Event())
    made = usage_door(reader)
    asking = [asyncio.create_task(ask(made)) for _ in range(20)]
    await asyncio.sleep(0.01)
    asking.pop(0).cancel()
    assert reader.gate is not None
    reader.gate.set()
    answers = await asyncio.gather(*asking)

    assert {answer.status for answer in answers} == {200}
    assert reader.read_of == ["alice"]


async def test_few_subjects_are_read_at_once_and_not_all_may_wait() -> None:
    """Storage is there for the calls."""
    reader = FakeReader(gate=asyncio.Event())
    made = usage_door(reader)
    asking = [asyncio.create_task(ask(made, f"s{n}")) for n in range(MOST_WAITING + 1)]
    done, _ = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
    assert reader.gate is not None
    reader.gate.set()
    answers = await asyncio.gather(*asking)

    assert [error(each.result()) for each in done] == [(503, "storage")]
    assert [answer.status for answer in answers].count(200) == MOST_WAITING
    assert reader.most_running == MOST_READS


async def test_storage_that_fails_is_asked_again_after_a_few_seconds() -> None:
    """503 says when; calls go on."""
    reader = FakeReader(failure=StorageUnavailable("no"))
    made = usage_door(reader)
    first, second = await ask(made), await ask(made)
    made.clock.advance(5)
    reader.failure = None
    third = await ask(made)

    assert [error(first), error(second)] == [(503, "storage")] * 2
    assert dict(first.headers)["retry-after"] == "5"
    assert dict(first.headers)["cache-control"] == "no-store"
    assert third.status == 200
    assert reader.read_of == ["alice", "alice"]


async def test_a_fault_of_ours_is_told_and_not_remembered() -> None:
    """As for calls: 500, and the next one reads anew."""
    reader = FakeReader(failure=RuntimeError("odd"))
    made = usage_door(reader)
    first = await ask(made)
    reader.failure = None

    assert error(first) == (500, "internal")
    assert (await ask(made)).status == 200


async def test_the_latest_subjects_alone_are_remembered() -> None:
    """Memory has a bound, whatever the number of callers."""
    reader = FakeReader()
    own_usage = OwnUsage(reader=reader, clock=usage_door(reader).clock)
    for number in range(MOST_KNOWN + 10):
        await own_usage._document(f"s{number}")

    assert len(own_usage._known) == MOST_KNOWN
    await own_usage._document(f"s{MOST_KNOWN}")
    assert len(reader.read_of) == MOST_KNOWN + 10
