"""The fronts under test: the imitation and, where it is found, Microsoft's proxy."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from local.functions.admin import Admin
from local.functions.front import Front
from local.functions.invocations import HttpInvocations
from local.functions.real_proxy import RealProxy
from tests.fakes.scripted_worker import Delivery, Script, ScriptedWorker
from tests.support.real_proxy import find_proxy

KINDS = ("imitated", "real")


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What a caller heard until the end of its connection, or of its patience."""

    data: bytes
    end: str  # fin, reset or silence
    seconds: float

    @property
    def status(self) -> int:
        """The answer's status; 0 if there was none."""
        return int(self.data[9:12] or 0)

    @property
    def head(self) -> dict[str, str]:
        """The answer's headers, names in lower case."""
        lines = self.data.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")[1:]
        pairs = (line.partition(": ") for line in lines)
        return {name.lower(): value for name, _, value in pairs}

    @property
    def body(self) -> bytes:
        """All behind the answer's head."""
        return self.data.partition(b"\r\n\r\n")[2]


@dataclass(slots=True)
class FrontUnderTest:
    """A front and its worker, in a thread of their own. Paths tell the tests apart."""

    kind: str
    port: int
    worker: ScriptedWorker
    _paths: Iterator[int] = field(default_factory=lambda: iter(range(10_000)))

    def path(self, script: Script | None = None, **invocation: str | None) -> str:
        """A new path, with its script; `error` is how its invocation ends (None: it does not)."""
        path = f"/{self.kind}-{next(self._paths)}"
        if script is not None:
            self.worker.scripts[path] = script
        if invocation:
            self.worker.errors[path] = invocation["error"]
        return path

    def delivered(self, path: str) -> list[Delivery]:
        """What reached the worker under a path."""
        return self.worker.deliveries.get(path, [])

    def connect(self) -> socket.socket:
        """A caller's connection."""
        connection = socket.create_connection(("127.0.0.1", self.port))
        connection.settimeout(30)
        return connection

    def get(self, path: str, headers: str = "", **options: Any) -> Heard:
        """A GET, on a connection that is closed after it."""
        head = f"GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{headers}\r\n"
        return self.send(head.encode(), **options)

    def post(self, path: str, body: bytes = b"hello", headers: str = "", **options: Any) -> Heard:
        """A POST, likewise."""
        length = f"Content-Length: {len(body)}\r\n"
        head = f"POST {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{length}{headers}\r\n"
        return self.send(head.encode() + body, **options)

    def send(self, raw: bytes, *, patience: float = 15) -> Heard:
        """Send bytes and listen."""
        with self.connect() as connection:
            connection.sendall(raw)
            return listen(connection, patience=patience)


def listen(connection: socket.socket, *, patience: float = 15) -> Heard:
    """Read until the connection ends."""
    begun, data, end = time.monotonic(), b"", "silence"
    while (left := begun + patience - time.monotonic()) > 0:
        connection.settimeout(left)
        try:
            part = connection.recv(65_536)
        except TimeoutError:
            break
        except ConnectionError:
            end = "reset"
            break
        if not part:
            end = "fin"
            break
        data += part
    return Heard(data=data, end=end, seconds=time.monotonic() - begun)


@contextmanager
def front_of(
    kind: str,
    *,
    activity_seconds: float = 240,
    timeout_seconds: float | None = None,
    grace_seconds: float = 0,
) -> Iterator[FrontUnderTest]:
    """A front of that kind, running."""
    program = find_proxy() if kind == "real" else None
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def run[T](coroutine: Any, of: Callable[[Any], T]) -> T:
        return of(asyncio.run_coroutine_threadsafe(coroutine, loop).result(timeout=40))

    worker = ScriptedWorker()
    run(worker.start(), lambda _: None)
    invocations = HttpInvocations(worker, "", timeout_seconds=timeout_seconds)
    front: Front | RealProxy
    if program is None:
        admin = Admin("key", _run_by_name)
        front = Front(worker.http_uri, invocations, admin, activity_seconds=activity_seconds)
    else:
        flags = ("--activity-timeout", str(activity_seconds), "--log", "None")
        front = RealProxy(program, worker.http_uri, invocations, *flags)
    try:
        under_test = FrontUnderTest(kind, run(front.start(0), int), worker)
        under_test.get("/warm-up")
        yield under_test
    finally:
        worker.errors.clear()
        run(front.stop(grace_seconds=grace_seconds), lambda _: None)
        loop.call_soon_threadsafe(worker.stop)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=40)
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


async def _run_by_name(name: str, argument: object) -> bool:
    return name == "outbox"


@pytest.fixture(scope="session", params=KINDS)
def front(request: pytest.FixtureRequest) -> Iterator[FrontUnderTest]:
    """Each of the fronts in turn, before a scripted worker."""
    with front_of(request.param) as under_test:
        yield under_test
