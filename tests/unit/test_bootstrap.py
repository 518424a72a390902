"""The app's own answers: what needs no token, and what is said without settings."""

import asyncio
import gc
import json
import logging
from collections.abc import Callable

import pytest
from starlette.responses import Response
from starlette.types import Message, Receive, Scope

from meter.adapters.functions.memory import GC_ALLOCATIONS
from meter.bootstrap import App
from tests.unit.config.test_environment import REQUIRED

HUB = "Endpoint=sb://127.0.0.1:1;SharedAccessKeyName=n;SharedAccessKey=a2V5;UseDevelopmentEmulator=true"


def asked(method: str, path: str, *headers: tuple[bytes, bytes]) -> tuple[Scope, Receive]:
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": list(headers),
    }

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    return scope, receive


async def answered(method: str, path: str) -> Response:
    return await App(dict).answer(*asked(method, path))


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_the_root_says_what_this_is_and_where_to_read_on(method: str) -> None:
    """To anybody, in one line; nothing about the configuration."""
    answer = await answered(method, "/")

    shown = json.loads(bytes(answer.body))
    assert (answer.status_code, shown["service"]) == (200, "aoai-meter")
    assert "/openai/v1/" in shown["about"]
    assert b"\n" not in answer.body


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_an_open_address_tells_its_methods(path: str) -> None:
    """OPTIONS and 405 agree."""
    options, put = await answered("OPTIONS", path), await answered("PUT", path)

    assert (options.status_code, put.status_code) == (204, 405)
    assert options.headers["allow"] == put.headers["allow"] == "GET, HEAD, OPTIONS"


async def test_the_root_answers_readers_alone() -> None:
    """A call that lost its path is a call for the front door, which finds nothing there."""
    options, post = await answered("OPTIONS", "/"), await answered("POST", "/")

    assert (options.status_code, options.headers["allow"]) == (204, "GET, HEAD, OPTIONS")
    assert post.headers["x-meter-error"] == "settings"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 200),
        ("GET", "/healthz", 200),
        ("GET", "/readyz", 503),
        ("POST", "/healthz", 405),
        ("POST", "/openai/v1/responses", 503),
    ],
)
async def test_every_answer_has_an_id_and_is_kept_by_no_cache(
    method: str, path: str, status: int
) -> None:
    """Also where the front door cannot be built."""
    answer = await answered(method, path)

    assert answer.status_code == status
    assert len(answer.headers["x-meter-event-id"]) == 36
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/nowhere"])
async def test_a_websocket_handshake_is_refused_at_any_address(path: str) -> None:
    """Coding agents fall back at once upon 426; other protocols are nobody's to refuse."""
    app = App(lambda: REQUIRED | {"EventHubConnection": HUB})
    websocket = await app.answer(*asked("GET", path, (b"upgrade", b"WebSocket")))
    other = await app.answer(*asked("GET", path, (b"upgrade", b"h2c")))
    await app.close()

    assert (websocket.status_code, len(websocket.headers["x-meter-event-id"])) == (426, 36)
    assert other.status_code != 426


@pytest.mark.parametrize("path", ["/", "/healthz", "/openai/v1/responses"])
@pytest.mark.parametrize("header", [(b"upgrade", b"websocket"), (b"sec-websocket-key", b"x")])
async def test_a_websocket_handshake_is_refused_without_settings_too(
    path: str, header: tuple[bytes, bytes]
) -> None:
    """426 is true whatever the settings are: no wait makes an agent's handshake succeed."""
    answer = await App(dict).answer(*asked("GET", path, header))

    assert (answer.status_code, answer.headers["x-meter-error"]) == (426, "upgrade")
    assert answer.headers["upgrade"] == "HTTP/1.1"
    assert "retry-after" not in answer.headers
    assert len(answer.headers["x-meter-event-id"]) == 36


async def test_a_dangerous_setting_is_logged_and_serves(caplog: pytest.LogCaptureFixture) -> None:
    """Once, when the front door is built; `/readyz` does not speak of it."""
    proxied = {"EventHubConnection": HUB, "ALL_PROXY": "http://p.example"}
    app = App(lambda: REQUIRED | proxied)
    caplog.set_level(logging.WARNING, logger="meter")

    for _ in range(2):
        app.gateway()
    await app.close()

    [line] = [message for message in caplog.messages if message.startswith("setting_dangerous")]
    assert "NO_PROXY=127.0.0.1,localhost" in line


async def test_a_call_without_settings_is_found_in_the_log_by_its_id(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """503 names no setting; the log line has the answer's id."""
    caplog.set_level(logging.ERROR)

    answer = await answered("POST", "/openai/v1/responses")

    assert answer.headers["x-meter-error"] == "settings"
    [line] = caplog.messages
    assert line.startswith(f"settings_invalid event_id={answer.headers['x-meter-event-id']} ")


async def test_a_process_that_counts_looks_for_garbage_less_often() -> None:
    """What it remembers is much, and would be looked through with every batch."""
    before = gc.get_threshold()
    try:
        App(lambda: dict(REQUIRED)).aggregator()
        assert gc.get_threshold() == (GC_ALLOCATIONS, *before[1:])
    finally:
        gc.set_threshold(*before)


async def test_an_app_is_built_before_its_first_call() -> None:
    """A hub that cannot be reached delays nothing, and closing ends what has begun."""
    app = App(lambda: REQUIRED | {"EventHubConnection": HUB})
    frozen = gc.get_freeze_count()
    app.warm()
    try:
        await until(lambda: gc.get_freeze_count() > frozen)
    finally:
        gc.unfreeze()
    built = app.gateway()
    await app.close()

    assert built.front_door is not None


async def test_an_app_without_settings_is_not_built() -> None:
    """Its first call says what is wrong."""
    app = App(dict)
    limits = app.warm()
    await asyncio.sleep(0)
    await app.close()

    assert limits == app.request_limits()


async def test_an_app_without_a_front_door_does_not_connect() -> None:
    """Where two apps are deployed, the one that counts may not send to the hub."""
    counts = {"AzureWebJobs.front_door.Disabled": "true", "EventHubConnection": HUB}
    app = App(lambda: REQUIRED | counts)
    before = asyncio.all_tasks()
    app.warm()

    assert asyncio.all_tasks() == before


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110  # nothing else says so
            await asyncio.sleep(0.01)
