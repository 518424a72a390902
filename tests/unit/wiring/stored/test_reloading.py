"""New documents applied to a running front door: good ones, bad ones, and calls under way meanwhile."""

import asyncio
import json
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meter.adapters.identity import ConfiguredCredentials
from meter.config.environment import load_limits
from meter.errors import InvalidInput, InvalidSettings, UpstreamError
from meter.gateway.backend import ApiKey
from meter.gateway.http import Answer
from meter.reports.pricing.configured import ConfiguredBook
from meter.wiring.stored.reloading import Applying
from tests.fakes.gateway import FakeAnswer, FakeUpstream, json_answer
from tests.support.gateway import Door
from tests.support.prices import book_text, line

FILE = "backends.json"
ENVIRONMENT = {"METER_BACKENDS": FILE, "METER_LIMITS": "limits.json", "EU_KEY": "one"}
GOOD = b'{"model": "gpt", "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}'
WITH_KEY = {"kind": "api-key", "setting": "EU_KEY"}


def document(*names: str, **others: object) -> str:
    return json.dumps(
        [
            {
                "name": name,
                "url": f"https://{name}.example",
                "deployments": {"gpt": "gpt"},
                "auth": WITH_KEY,
                **others,
            }
            for name in names
        ]
    )


def applying_to(made: Door, environment: Mapping[str, str] = ENVIRONMENT) -> Applying:
    return Applying(
        environment=lambda: environment,
        front_door=made.front_door,
        credentials=ConfiguredCredentials({}),
        book=ConfiguredBook(read=_no_book),
        limits=load_limits({}, {}),
    )


async def _no_book() -> None:
    return None


def running() -> Door:
    script: dict[str, list[FakeAnswer | UpstreamError]] = {
        name: [json_answer(200, GOOD) for _ in range(60)] for name in "abc"
    }
    return Door(FakeUpstream(script), exposes_backend=True)


def names(made: Door) -> list[str]:
    return [backend.name for backend in made.pool.backends]


async def test_backends_come_go_and_change() -> None:
    """The line in the log says which."""
    made = running()
    applying = applying_to(made)
    said = [
        await applying.backends({FILE: text})
        for text in (document("a", "b"), document("a", "b"), document("b", "c", weight=5))
    ]

    assert said == ["added b, changed a", "", "added c, removed a, changed b"]
    assert names(made) == ["b", "c"]


async def test_a_new_key_is_used() -> None:
    """Of a backend that stays as it is."""
    environment = dict(ENVIRONMENT)
    applying = applying_to(running(), environment)
    await applying.backends({FILE: document("a")})
    environment["EU_KEY"] = "two"
    said = await applying.backends({FILE: document("a")})

    assert said == "credentials"
    assert await applying.credentials.headers_for("a") == (("api-key", "two"),)


async def test_a_removed_backends_key_is_kept() -> None:
    """A follow-up of a background response may still need it."""
    applying = applying_to(running())
    await applying.backends({FILE: document("a")})
    await applying.backends({FILE: document("b")})

    assert await applying.credentials.headers_for("a") == (("api-key", "one"),)
    assert ApiKey("one") == ApiKey("one")


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "{}", document("a", "a"), document("a", auth={"kind": "api-key", "setting": "X"})],
)
async def test_an_invalid_document_changes_nothing(text: str) -> None:
    """All of its problems are in the refusal."""
    made = running()
    applying = applying_to(made)
    await applying.backends({FILE: document("b")})
    with pytest.raises(InvalidSettings):
        await applying.backends({FILE: text})

    assert names(made) == ["b"]


async def test_limits_change() -> None:
    """Those of the document win over the settings; what is held beyond them stays held."""
    made = running()
    applying = applying_to(made, {**ENVIRONMENT, "METER_MAX_DRAINS": "7"})
    limits = {
        "METER_MAX_CONCURRENT_CALLS": 2,
        "METER_FIRST_BYTE_TIMEOUT_SECONDS": 1.5,
        "METER_KEEPALIVE_SECONDS": 3,
        "METER_FIRST_KEEPALIVE_SECONDS": 4,
    }
    said = [await applying.change_limits({"limits.json": json.dumps(limits)}) for _ in range(2)]
    door = made.front_door

    assert said == ["limits", ""]
    assert (
        door.admission.slots.total,
        door.instance.forwarder.limits.first_byte_timeout_seconds,
    ) == (
        2,
        1.5,
    )
    assert (door.relays.times.keepalive_seconds, door.first_keepalive_seconds) == (3, 4)
    assert door.relays.drains.limits.most == 7


async def test_one_callers_share_changes_everywhere() -> None:
    """Of joined requests, kept answers and follow-ups, too."""
    made = running()
    limits = {"METER_MAX_CONCURRENT_CALLS": 40, "METER_BODY_BUDGET_BYTES": 8_000}
    text = json.dumps({**limits, "METER_SUBJECT_SHARE_PERCENT": 10})
    await applying_to(made).change_limits({"limits.json": text})
    door = made.front_door

    assert (door.joins.joined.total, door.joins.joined.share) == (40, 4)
    assert (door.joins.kept.quota.total, door.joins.kept.quota.share) == (2_000, 200)
    assert door.instance.background.follow_ups.quota.share == 500


async def test_answers_to_follow_ups_have_the_new_bound() -> None:
    """Their time limits stay their own."""
    made = running()
    text = '{"METER_MAX_BUFFERED_ANSWER_BYTES": 70000, "METER_FIRST_BYTE_TIMEOUT_SECONDS": 2}'
    await applying_to(made).change_limits({"limits.json": text})
    limits = made.front_door.instance.background.follow_ups.forwarder.limits

    assert (limits.max_buffered_bytes, limits.first_byte_timeout_seconds) == (70_000, 10.0)


@pytest.mark.parametrize(
    "text",
    [
        "7",
        '{"METER_MAX_CONCURRENT_CALLS": 0}',
        '{"METER_MAX_CONCURRENT_CALLS": "many"}',
        '{"METER_MAX_CONCURRENT_CALLS": true}',
        '{"METER_ISSUERS": 1}',
    ],
)
async def test_invalid_limits_change_nothing(text: str) -> None:
    """Only limits stand in that document."""
    made = running()
    before = made.front_door.admission.slots.total
    with pytest.raises(InvalidSettings):
        await applying_to(made).change_limits({"limits.json": text})

    assert made.front_door.admission.slots.total == before


async def test_a_new_price_book_is_used() -> None:
    """The last good one where it is invalid. The first is none that replaces another."""
    environment = {**ENVIRONMENT, "METER_PRICES": "p.csv"}
    applying = applying_to(running(), environment)
    book = book_text(line())
    books = [book, book, book_text(line(price="7"))]
    said = [await applying.prices({"p.csv": text}) for text in books]
    with pytest.raises(InvalidInput):
        await applying.prices({"p.csv": "no,such,columns\n"})
    found = await applying.book.book()

    assert said == ["", "", "prices"]
    assert found is not None
    assert len(found.prices) == 1


STEPS = st.lists(
    st.one_of(
        st.sets(st.sampled_from("abc"), min_size=1).map(sorted),
        st.sampled_from(["bad", "call", "call", "answer"]),
    ),
    max_size=25,
)


@settings(max_examples=60)
@given(STEPS)
async def test_no_order_of_documents_and_calls_breaks_a_call(steps: list[list[str] | str]) -> None:
    """Good ones, bad ones, calls begun before and after: each call is served, by a backend of its time."""
    made = running()
    upstream, applying = made.upstream, applying_to(made)
    gate = upstream.gate = asyncio.Event()
    calls: list[tuple[set[str], asyncio.Task[Answer]]] = []
    for step in steps:
        match step:
            case "bad":
                with pytest.raises(InvalidSettings):
                    await applying.backends({FILE: "{"})
            case "call":
                calls.append((set(names(made)), asyncio.create_task(made.answer())))
                while len(upstream.requests) < len(calls):  # noqa: ASYNC110  # a turn of the loop
                    await asyncio.sleep(0)
            case "answer":
                gate.set()
                await asyncio.gather(*(task for _, task in calls))
                gate.clear()
            case list():
                await applying.backends({FILE: document(*step)})
                assert names(made) == step
    gate.set()

    for known, task in calls:
        answer = await task
        assert answer.status == 200
        assert dict(answer.headers)["x-meter-backend"] in known
    assert made.is_idle
