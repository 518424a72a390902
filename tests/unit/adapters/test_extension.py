"""The worker's HTTP side under the Functions host: ids that name no invocation, and its end."""

import asyncio
import sys
from collections.abc import Iterator, MutableMapping
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from meter.adapters.functions.extension import WebApp, configure_worker
from meter.adapters.functions.rendezvous import COORDINATOR_MODULE
from meter.adapters.functions.web import response_of
from meter.errors import CallerGone
from meter.gateway.detached import Detached
from meter.gateway.http import Answer, CallerSink, StreamingAnswer

type Message = MutableMapping[str, Any]


class Runtime:
    """Microsoft's runtime: its coordinator's methods, as `WebApp.route` replaces them."""

    get_http_request_async: Any = staticmethod(lambda invocation_id: None)
    set_http_response: Any = staticmethod(lambda invocation_id, result: None)

    async def invoke(self, invocation_id: str, result: object) -> Request:
        """Run an invocation."""
        request: Request = await self.get_http_request_async(invocation_id)
        self.set_http_response(invocation_id, result)
        return request


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Runtime:
    """A process in which the runtime runs."""
    runtime = Runtime()
    module = SimpleNamespace(http_coordinator=runtime)
    monkeypatch.setitem(sys.modules, COORDINATOR_MODULE, module)
    return runtime


@pytest.fixture
def app(runtime: Runtime) -> Iterator[WebApp]:
    """The app as the runtime starts it, with a wait that a test can sit out."""
    assert runtime is not None
    configure_worker(close=_close, answers_seconds=1, invocation_wait_seconds=0.05)
    app = WebApp()
    app.route(_fail)
    yield app
    configure_worker(close=_close, answers_seconds=1)


async def _close() -> None:
    pass


async def _fail(request: Request) -> Response:
    pytest.fail(f"the runtime's endpoint was called for {request}")


async def _ask(app: WebApp, *ids: bytes) -> tuple[int, bytes]:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"x-ms-invocation-id", value) for value in ids]
    scope = {"type": "http", "method": "GET", "path": "/", "headers": headers}
    await app(scope, asyncio.Event().wait, send)  # type: ignore[arg-type]
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])


async def test_a_request_and_its_invocation_meet(app: WebApp, runtime: Runtime) -> None:
    """The invocation gets the request, and the caller what the invocation returns."""
    asked = asyncio.create_task(_ask(app, b"one"))

    request = await runtime.invoke("one", Response(b"answer"))

    assert request.headers["x-ms-invocation-id"] == "one"
    assert await asked == (200, b"answer")


@pytest.mark.parametrize("ids", [(), (b"a", b"b"), (b"a, b",), (b"a",), (b"",)])
async def test_an_id_that_names_no_invocation_is_refused(
    app: WebApp, ids: tuple[bytes, ...]
) -> None:
    """400 within the wait: a caller's own id, which older hosts pass on, or none at all."""
    async with asyncio.timeout(30):
        status, body = await _ask(app, *ids)

    assert status == 400
    assert b"x-ms-invocation-id" in body


async def test_an_id_in_use_is_refused_and_does_not_disturb_the_first(
    app: WebApp, runtime: Runtime
) -> None:
    """400 at once for a second request under the id of a call in work."""
    first = asyncio.create_task(_ask(app, b"one"))
    await asyncio.sleep(0)

    assert (await _ask(app, b"one"))[0] == 400

    await runtime.invoke("one", Response(b"answer"))
    assert await first == (200, b"answer")


@pytest.mark.parametrize("result", [None, ValueError("broken")])
async def test_a_failed_invocation_is_an_internal_error(
    app: WebApp, runtime: Runtime, result: object
) -> None:
    """500 in AOAI's form, with no word of what was raised."""
    asked = asyncio.create_task(_ask(app, b"one"))

    await runtime.invoke("one", result)

    status, body = await asked
    assert status == 500
    assert b"InternalServerError" in body
    assert b"broken" not in body


async def test_a_response_whose_request_was_given_up_ends_its_call(
    app: WebApp, runtime: Runtime
) -> None:
    """A whole one gives back its place; a stream is relayed to nobody, which counts it."""
    ended: list[str] = []
    gone = asyncio.create_task(_ask(app, b"one"))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.wait([gone])

    class Stream:
        async def run(self, sink: CallerSink) -> None:
            with pytest.raises(CallerGone):
                await sink.write(b"x")
            ended.append("stream")

    whole = Answer(status=200, headers=(), body=b"x", release=lambda: ended.append("whole"))
    streaming = StreamingAnswer(status=200, headers=(), relay=Stream())
    runtime.set_http_response("one", response_of(whole, Detached()))
    runtime.set_http_response("one", response_of(streaming, Detached()))

    assert ended == ["whole", "stream"]


async def test_the_app_closes_behind_the_invocations_that_are_cancelled(
    app: WebApp, runtime: Runtime
) -> None:
    """The server stops: it gives up its requests, then closes the app, which must know of their calls."""
    done: list[str] = []

    async def close() -> None:
        done.append("closed")

    async def invoke() -> None:
        await runtime.get_http_request_async("one")
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            done.append("handed over")

    messages = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])

    async def receive() -> Message:
        return next(messages)

    async def send(message: Message) -> None:
        pass

    configure_worker(close=close, answers_seconds=1)
    asked, invocation = asyncio.create_task(_ask(app, b"one")), asyncio.create_task(invoke())
    await asyncio.sleep(0.01)
    asked.cancel()
    await asyncio.wait([asked])
    await app({"type": "lifespan"}, receive, send)

    assert invocation.cancelled()
    assert done == ["handed over", "closed"]


async def test_a_runtime_of_another_shape_still_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the parts that are replaced, its own endpoint answers, as in any other extension."""
    monkeypatch.setitem(sys.modules, COORDINATOR_MODULE, SimpleNamespace())
    app = WebApp()

    async def endpoint(request: Request) -> Response:
        return Response(b"the runtime's")

    app.route(endpoint)

    assert await _ask(app, b"one") == (200, b"the runtime's")


async def test_the_worker_closes_the_app_before_its_server_ends() -> None:
    """uvicorn's lifespan: after the last answer, before SIGTERM ends the process."""
    messages = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
    done: list[str] = []

    async def receive() -> Message:
        return next(messages)

    async def send(message: Message) -> None:
        done.append(str(message["type"]))

    async def close() -> None:
        done.append("closed")

    configure_worker(close=close, answers_seconds=1)
    await WebApp()({"type": "lifespan"}, receive, send)

    assert done == ["lifespan.startup.complete", "closed", "lifespan.shutdown.complete"]


async def test_the_worker_starts_the_app_as_its_server_starts() -> None:
    """The host forwards the first call after that: the link to the hub is then on its way."""
    messages = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
    done: list[str] = []

    async def receive() -> Message:
        return next(messages)

    async def send(message: Message) -> None:
        done.append(str(message["type"]))

    async def close() -> None:
        done.append("closed")

    configure_worker(close=close, answers_seconds=1, start=lambda: done.append("started"))
    await WebApp()({"type": "lifespan"}, receive, send)
    configure_worker(close=_close, answers_seconds=1)

    assert done[:2] == ["started", "lifespan.startup.complete"]
