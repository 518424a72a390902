"""What real clients send arrives as it was sent, or is refused by name: on raw sockets, one by one."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from copy import replace
from pathlib import Path

import pytest

from meter.adapters.upstream.client import HttpUpstream
from meter.gateway.backend import Deployment
from tests.support.gateway import Door, backend, token
from tests.support.real_proxy import find_proxy
from tests.support.replay import (
    Answered,
    Arrived,
    Outcome,
    Recorded,
    RecordingBackend,
    outcomes,
    recorded_requests,
    recording_backend,
    send,
)
from tests.support.serving import Address, behind, served

REPLAY_SECONDS = 300
DEPLOYMENTS = (
    *("ada", "claude-sonnet-4-5", "dall-e-2", "dall-e-3", "gpt-35-turbo-instruct", "gpt-4o"),
    *("gpt-5", "gpt-image-1", "text-embedding-3-small", "tts", "whisper"),
    *("gpt-4o-mini-tts", "gpt-4o-transcribe"),
)
type Replayed = list[tuple[Recorded, Answered, list[Arrived]]]

OPENCODE = "/.well-known/opencode"  # needs no credential
CREDENTIALS = {"authorization", "x-api-key", "cookie"}
# What cannot be metered is refused for what it asks, whatever its address.
UNMETERED = re.compile(rb'"background":\s*true')


@asynccontextmanager
async def front_door(
    made: RecordingBackend, *, own: str = "", proxy: Path | None = None
) -> AsyncIterator[Address]:
    """The front door as the app runs it, perhaps behind a proxy, before a recording backend.

    `own` is what the backend's names have behind the public ones.
    """
    upstream = HttpUpstream(connect_timeout_seconds=5, idle_timeout_seconds=10)
    account = replace(
        backend(), url=made.url, deployments={name: Deployment(name + own) for name in DEPLOYMENTS}
    )
    door = Door(
        upstream,  # type: ignore[arg-type]  # the real one in its place
        [account],
        prefixes=("/corp/team", "/api/projects/p1"),
    )
    async with AsyncExitStack() as running:
        running.push_async_callback(upstream.close)
        address = await running.enter_async_context(served(door))
        if proxy is not None:
            address = await running.enter_async_context(behind(proxy, address))
        yield address


async def replay(requests: Sequence[Recorded], *, proxy: Path | None = None) -> Replayed:
    """Each request's answer, and what arrived at the backend for it."""
    found = []
    async with (
        asyncio.timeout(REPLAY_SECONDS),
        recording_backend() as made,
        front_door(made, proxy=proxy) as address,
    ):
        for each in requests:
            before = len(made.arrived)
            answer = await send(address, each.on_the_wire(token()), method=each.method)
            found.append((each, answer, made.arrived[before:]))
    return found


def expected(request: Recorded) -> Outcome:
    """What is to become of a request."""
    if request.is_upgrade:
        return Outcome("426", "WebSocket")
    if not request.has_credential and request.target != OPENCODE:
        return Outcome("401", "Access token is missing")
    if UNMETERED.search(request.body) and b'"stream":true' not in request.body:
        return Outcome("400", "stream: true")
    return outcomes()[request.method, request.target]


@pytest.fixture(scope="module", name="replayed", params=["alone", "behind Microsoft's proxy"])
def everything_replayed(request: pytest.FixtureRequest) -> Replayed:
    """All recorded requests, sent once to each front."""
    proxy = None if request.param == "alone" else find_proxy()
    return asyncio.run(replay(recorded_requests(), proxy=proxy))


def test_every_recorded_request_line_has_an_outcome() -> None:
    """And no outcome is of a line that nobody sends."""
    lines = {(each.method, each.target) for each in recorded_requests()}

    assert outcomes().keys() == lines


def test_a_served_request_arrives_as_it_was_sent(replayed: Replayed) -> None:
    """Path, query, Content-Type and body, but for the usage that the gateway asks for."""
    for request, answer, arrived in those_served(replayed):
        assert (answer.status, len(arrived)) == (200, 1), (str(request), answer)
        at_backend = arrived[0]
        kinds: list[str | None] = [
            value for name, value in request.sent_headers("") if name.lower() == "content-type"
        ]

        assert at_backend.target == expected(request).shows, str(request)
        assert at_backend.method == request.method
        assert [at_backend.headers.get("content-type")] == (kinds or [None]), str(request)
        assert is_same_body(request, at_backend.body), (str(request), at_backend.body)


def test_no_credential_and_no_header_of_codex_passes(replayed: Replayed) -> None:
    """The backend's own key is the only one; `x-codex-*` has paths and addresses of repositories."""
    for request, _, arrived in those_served(replayed):
        for each in arrived:
            values = " ".join(each.headers.values())

            assert each.headers["api-key"] == "key-of-a"
            assert not CREDENTIALS & each.headers.keys(), str(request)
            assert "Bearer" not in values
            assert token() not in values
            assert not [name for name in each.headers if name.startswith("x-codex-")]


def test_a_refused_request_is_told_what_it_was_and_what_to_do(replayed: Replayed) -> None:
    """4xx in Azure OpenAI's shape; no backend hears of it."""
    for request, answer, arrived in replayed:
        outcome = expected(request)
        if outcome.kind in {"served", "models"}:
            continue
        assert (str(answer.status), arrived) == (outcome.kind, []), (str(request), answer)
        assert len(answer.headers["x-meter-event-id"]) == 36
        if request.method != "HEAD":
            assert answer.error.keys() == {"code", "message", "type", "param"}
            assert outcome.shows in answer.error["message"], (str(request), answer.error)


def test_models_are_listed_under_each_of_their_addresses(replayed: Replayed) -> None:
    """By the front door itself."""
    lists = [answer for request, answer, _ in replayed if expected(request).kind == "models"]

    assert {answer.status for answer in lists} == {200}
    assert {json.loads(answer.body)["object"] for answer in lists} == {"list", "model"}


def those_served(replayed: Replayed) -> Replayed:
    """The requests that are served."""
    return [each for each in replayed if expected(each[0]).kind == "served"]


def is_same_body(request: Recorded, arrived: bytes) -> bool:
    """Whether a body is the same, or the same but for the option that asks for usage."""
    if arrived == request.body:
        return True
    if "/chat/completions" not in request.target and "/completions" not in request.target:
        return False
    sent, got = json.loads(request.body), json.loads(arrived)
    options = {**(sent.get("stream_options") or {}), "include_usage": True}
    return bool(sent["stream"]) and got == {**sent, "stream_options": options}


@pytest.mark.parametrize("framing", ["content-length", "chunked"])
def test_both_framings_are_among_the_recorded_requests(replayed: Replayed, framing: str) -> None:
    """A chunked body of JSON, and chunked forms, are what some packages always send."""
    assert any(each.framing == framing for each, _, _ in those_served(replayed))
