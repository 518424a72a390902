"""Node's OpenAI SDK in each of its majors: errors it raises by type, failing streams, and leaving one."""

import asyncio
import json
from collections.abc import AsyncIterator
from copy import replace
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from meter.errors import UpstreamBroken
from meter.gateway.backend import Deployment
from meter.usage import Outcome, UsageEvent, UsageSource
from meter.waiting.bypass import Bypass
from tests.fakes.gateway import FakeAnswer, FakeUpstream, json_answer, stream_answer
from tests.support.gateway import (
    DONE_FRAME,
    RULES,
    TEXT_FRAME,
    USAGE_FRAME,
    Door,
    backend,
    claims,
    token,
)
from tests.support.serving import served

SCRIPT = Path(__file__).with_name("node_sdk.mjs")
SECONDS = 60
TOKENS = {
    "good": token(payload=claims(roles=["Caller"])),
    "bad": token(payload=claims(aud="api://another", roles=["Caller"])),
    "powerless": token(),
}
THROTTLED = b'{"error":{"code":"429","message":"slow down"}}'


class Talking(FakeAnswer):
    """A stream that goes on until it may end."""

    def __init__(self, may_end: asyncio.Event) -> None:
        super().__init__(200, (("content-type", "text/event-stream"),), ())
        self._may_end = may_end

    async def chunks(self, bypass: Bypass | None = None) -> AsyncIterator[bytes]:
        while not self._may_end.is_set():
            yield TEXT_FRAME
            await asyncio.sleep(0.02)
        yield USAGE_FRAME
        yield DONE_FRAME


@dataclass
class Scene:
    """A front door with a deployment that throttles, and one whose streams break off, then go on."""

    may_end: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        busy = replace(backend("b"), deployments={"busy": Deployment("busy")})
        throttled = json_answer(429, THROTTLED, ("retry-after", "2"))  # then it is not asked
        broken = stream_answer(TEXT_FRAME, UpstreamBroken("a"))
        self.door = Door(
            FakeUpstream({"a": [broken, Talking(self.may_end)], "b": [throttled]}),
            [backend(), busy],
            rules=replace(RULES, required_roles=frozenset({"Caller"})),
            total_timeout_seconds=SECONDS,
        )


async def play(major: str) -> tuple[Any, list[UsageEvent]]:
    """What the script saw, and the events of its calls."""
    scene = Scene()
    async with asyncio.timeout(SECONDS), served(scene.door) as (host, port):
        url = f"http://{host}:{port}"
        process = await asyncio.create_subprocess_exec(
            *("node", SCRIPT, major, url, json.dumps(TOKENS)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            seen = json.loads(await process.stdout.readline())
            while not scene.door.drains.running:  # noqa: ASYNC110  # nothing tells
                await asyncio.sleep(0.01)
            scene.may_end.set()
        finally:
            process.stdin.close()
            await process.wait()
    return seen, scene.door.sink.events


@pytest.fixture(scope="module", name="played", params=["4", "5", "6", "7"])
def in_each_major(request: pytest.FixtureRequest) -> tuple[Any, list[UsageEvent]]:
    """The same calls by each."""
    return asyncio.run(play(request.param))


@pytest.mark.parametrize("client", ["v1", "azure"])
def test_each_refusal_is_an_error_of_its_type(played: Any, client: str) -> None:
    """Programs catch them by type; `code`, the header and the wait are the gateway's."""
    seen, _ = played
    found = [
        (error["type"], error["status"], error["code"], error["kind"])
        for error in seen["errors"][client]
    ]

    assert found == [
        ("AuthenticationError", 401, "401", "token"),
        ("PermissionDeniedError", 403, "403", "permission"),
        ("NotFoundError", 404, "DeploymentNotFound", "deployment"),
        ("RateLimitError", 429, "429", "throttled"),
    ]
    assert [error["wait"] for error in seen["errors"][client]] == [None, None, None, "2"]
    assert "audience" in seen["errors"][client][0]["message"]


def test_a_stream_that_breaks_off_raises(played: Any) -> None:
    """With the gateway's own words."""
    seen, _ = played

    assert seen["failed"]["type"] == "APIError"
    assert seen["failed"]["code"] == "upstream_cut"


def test_a_stream_that_is_left_is_counted_in_full(played: Any) -> None:
    """`controller.abort()` ends the loop and the connection; the gateway reads on to the usage."""
    seen, events = played
    left = events[-1]

    assert seen["taken"] >= 1  # several arrive together
    assert left.outcome is Outcome.DISCONNECTED
    assert (left.usage_source, left.usage.total_tokens) == (UsageSource.REPORTED, 7)
