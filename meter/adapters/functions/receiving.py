"""uvicorn's HTTP/1.1, whose connections receive into one buffer, and gathered bodies where they stay.

asyncio makes 256 KiB for each read otherwise, and the parser copies what it finds of a body. A request is
made here once its head is there, as uvicorn does in twice as many instructions.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextvars import Context
from operator import itemgetter
from typing import Any, ClassVar, cast
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.flow_control import service_unavailable
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from meter.adapters.functions.arriving import EXTENSION, ArrivingBody

RECEIVED_BYTES = 262_144  # as asyncio; at most so much is read at once


class ReceivingHttp(HttpToolsProtocol, asyncio.BufferedProtocol):
    """One connection. `received` is its server's: what it has is parsed before anything else is received."""

    received: ClassVar[memoryview]
    begun: tuple[RequestResponseCycle, Any] | None = None  # a request, and the app that it is for
    _arriving: ArrivingBody | None = None  # of the request whose head came last
    _of_all: Mapping[str, object]  # what the scopes of its requests have in common

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn
        """Take the connection."""
        super().connection_made(transport)
        self._of_all = {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,
            "root_path": self.root_path,
        }

    def begin_request(self, names: list[bytes], version: str) -> None:
        """Make the request whose head has come, which is `begun` or waits behind those before it."""
        self.expect_100_continue = b"expect" in names and _asks_for_leave(self.headers)
        self.scope = scope = self._scope(version)
        before = self.cycle
        self.cycle = cycle = RequestResponseCycle(
            scope,
            self.transport,
            self.flow,
            self.logger,
            self.access_logger,
            self.access_log,
            self.server_state.default_headers,
            asyncio.Event(),
            self.expect_100_continue,
            version != "1.0" and self.parser.should_keep_alive(),
            self.on_response_complete,
        )
        self._arriving = arriving = ArrivingBody(cycle.message_event, self.flow.resume_reading)
        if self.expect_100_continue:
            arriving.is_asked_for = True
        scope["extensions"] = {EXTENSION: arriving}
        app = self.app if self.limit_concurrency is None else self._app(self.limit_concurrency)
        if before is None or before.response_complete:
            self.begun = cycle, app
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, app))

    def start_begun(self) -> None:
        """Have the app begin with the request in this turn, behind all bytes that came with it."""
        assert self.begun is not None  # who calls this has seen it
        work, self.begun = self._run(*self.begun), None
        context = Context() if self.config.reset_contextvars else None
        task = asyncio.Task(work, loop=self.loop, eager_start=True, context=context)
        if not task.done():
            self.tasks.add(task)

    async def _run(self, cycle: RequestResponseCycle, app: Any) -> None:
        """As uvicorn does, whose callback at the task's end is 190 instructions, and a turn of the loop.

        It has the word where an app does not end as it should.
        """
        try:
            try:
                result = await app(cycle.scope, cycle.receive, cycle.send)
            except BaseException as exc:
                await cycle.run_asgi(_ending(error=exc))
            else:
                if result is not None or not cycle.response_complete:
                    await cycle.run_asgi(_ending(result))
                cycle.on_response = _nothing  # they refer to each other
        finally:
            task: Any = asyncio.current_task(self.loop)
            self.tasks.discard(task)

    def _scope(self, version: str) -> Any:  # uvicorn's type is not ASGI's
        address = httptools.parse_url(self.url)
        path = address.path.decode("ascii")
        return {
            **self._of_all,
            "http_version": version,
            "method": self.parser.get_method().decode("ascii"),
            "path": self.root_path + (unquote(path) if "%" in path else path),
            "raw_path": self.root_path.encode("ascii") + address.path,
            "query_string": address.query or b"",
            "headers": self.headers,
            "state": self.app_state.copy(),
        }

    def _app(self, most: int) -> Any:
        if len(self.connections) < most and len(self.tasks) < most:
            return self.app
        self.logger.warning("concurrency_limit_exceeded")
        return service_unavailable

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  # asyncio's own
        """Where the next bytes are received: of a body that is gathered where they stay."""
        arriving = self._arriving
        if arriving is None or not arriving.unparsed:
            return self.received
        return arriving.room() if arriving.is_gathered else self.received[: arriving.unparsed]

    def buffer_updated(self, nbytes: int) -> None:
        """Take what has been received."""
        arriving = self._arriving
        if arriving is None or not arriving.unparsed:
            data: Any = self.received[:nbytes]  # the parser takes either
            self.data_received(data)
        elif not self.transport.is_closing():
            self._take_unparsed(arriving, nbytes)

    def _take_unparsed(self, arriving: ArrivingBody, size: int) -> None:
        """Take bytes of a body that the parser does not see; behind them another one begins anew."""
        if arriving.is_gathered:
            arriving.fill(size)
            self.cycle.body = cast(bytearray, arriving)
        else:  # it was given up
            arriving.unparsed -= size
            self.on_body(bytes(self.received[:size]))
        if not arriving.unparsed:
            self.on_message_complete()
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's


def _ending(result: object = None, *, error: BaseException | None = None) -> Any:
    """An app that ends as another one has."""

    async def end(_scope: object, _receive: object, _send: object) -> object:
        if error is not None:
            raise error
        return result

    return end


def _nothing() -> None:
    """What an answer's end is told to once its app has ended."""


def _asks_for_leave(headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether a caller waits for leave to send its body (RFC 9110 section 10.1.1)."""
    return any(name == b"expect" and value.lower() == b"100-continue" for name, value in headers)


def buffer() -> memoryview:
    """What the connections of one server receive into."""
    return memoryview(bytearray(RECEIVED_BYTES))


name_of: Callable[[tuple[bytes, bytes]], bytes] = itemgetter(0)
