"""The fault proxy on sockets: every rule has exactly its documented effect on real bytes."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest

from local.faults import Ending, FaultProxy, Flow, Rules
from local.faults.rules import NO_RULES, RequestFault, parse_rules

PATIENCE_SECONDS = 30.0
QUIET_SECONDS = 0.1  # on loopback, bytes that have not arrived by then were not sent
BLOB = bytes(range(256)) * 2_000


@dataclass
class Echo:
    """An echo server. `heard` is what each connection sent, `ends` how each ended."""

    port: int = 0
    heard: list[bytearray] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard = bytearray()
        self.heard.append(heard)
        end = "closed"
        try:
            while data := await reader.read(65_536):
                heard.extend(data)
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            end = "reset"
        self.ends.append(end)
        writer.transport.abort()


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    echo = Echo()
    server = await asyncio.start_server(echo.serve, "127.0.0.1", 0)
    echo.port = server.sockets[0].getsockname()[1]
    yield echo
    server.close()
    server.abort_clients()
    await server.wait_closed()


@dataclass
class Caller:
    """One connection to the proxy."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def hear(self, size: int) -> bytes:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self.reader.readexactly(size)

    async def hear_to_the_end(self) -> tuple[bytes, str]:
        """The received bytes, and whether the connection was then closed or reset."""
        heard = bytearray()
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while data := await self.reader.read(65_536):
                    heard.extend(data)
        except ConnectionResetError:
            return bytes(heard), "reset"
        return bytes(heard), "closed"

    async def hears_nothing(self) -> bool:
        try:
            async with asyncio.timeout(QUIET_SECONDS):
                await self.reader.read(1)
        except TimeoutError:
            return True
        return False


@dataclass
class Bench:
    """A proxy in front of the echo, and connections through it."""

    proxy: FaultProxy
    port: int
    callers: list[Caller] = field(default_factory=list)

    async def call(self) -> Caller:
        caller = Caller(*await asyncio.open_connection("127.0.0.1", self.port))
        self.callers.append(caller)
        return caller


@pytest.fixture
async def bench(echo: Echo) -> AsyncIterator[Bench]:
    proxy = FaultProxy("127.0.0.1", echo.port)
    bench = Bench(proxy, await proxy.start())
    yield bench
    await proxy.stop()
    for caller in bench.callers:
        caller.writer.close()
        with suppress(ConnectionError):
            await caller.writer.wait_closed()


async def seconds_of(work: Awaitable[object]) -> float:
    loop = asyncio.get_running_loop()
    begun = loop.time()
    await work
    return loop.time() - begun


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():  # noqa: ASYNC110  # a socket's end cannot be awaited
            await asyncio.sleep(0.005)


async def test_without_rules_every_byte_passes_and_so_does_the_end(
    bench: Bench, echo: Echo
) -> None:
    """One direction may end before the other: the target's remaining bytes arrive."""
    caller = await bench.call()
    saying = asyncio.create_task(caller.say(BLOB))
    heard = await caller.hear(len(BLOB))
    await saying
    caller.writer.write_eof()
    rest = await caller.hear_to_the_end()

    assert heard == BLOB
    assert rest == (b"", "closed")
    assert echo.heard == [BLOB]
    assert bench.proxy.stats() | {"open": 0} == {
        "connections": 1,
        "bytes_up": len(BLOB),
        "bytes_down": len(BLOB),
        "ended": 0,
        "requests": 0,
        "struck": 0,
        "open": 0,
    }


async def test_latency_is_added_in_each_direction(bench: Bench) -> None:
    """40 ms up and 60 ms down: an echo takes 100 ms."""
    await bench.proxy.put(Rules(up=Flow(latency_ms=40), down=Flow(latency_ms=60)))
    caller = await bench.call()
    await caller.say(b"hello")
    seconds = await seconds_of(caller.hear(5))

    assert 0.1 <= seconds < 30


@pytest.mark.parametrize("way", ["up", "down"])
async def test_a_throttled_direction_keeps_to_its_bytes_per_second(bench: Bench, way: str) -> None:
    """10 kB at 40 kB per second take a quarter of a second, in either direction."""
    await bench.proxy.put(Rules(**{way: Flow(bytes_per_second=40_000)}))  # type: ignore[arg-type] # up or down
    caller = await bench.call()
    await caller.say(BLOB[:10_000])
    heard: list[bytes] = []

    async def hear() -> None:
        heard.append(await caller.hear(10_000))

    seconds = await seconds_of(hear())

    assert heard == [BLOB[:10_000]]
    assert 0.25 <= seconds < 30


@pytest.mark.parametrize(
    ("ending", "told"), [(Ending.RESET, "reset"), (Ending.CLOSE, "closed")], ids=str
)
async def test_an_answer_is_cut_after_so_many_bytes(
    bench: Bench, echo: Echo, ending: Ending, told: str
) -> None:
    """The caller gets exactly these bytes, then the reset or close; the target got everything."""
    await bench.proxy.put(Rules(down=Flow(end_after_bytes=1_000, ending=ending)))
    caller = await bench.call()
    await caller.say(b"x" * 5_000)
    heard = await caller.hear_to_the_end()
    await until(lambda: bool(echo.ends))

    assert heard == (b"x" * 1_000, told)
    assert echo.heard == [b"x" * 5_000]
    assert bench.proxy.stats()["ended"] == 1


@pytest.mark.parametrize(
    ("ending", "told"), [(Ending.RESET, "reset"), (Ending.CLOSE, "closed")], ids=str
)
async def test_a_request_is_cut_after_so_many_bytes(
    bench: Bench, echo: Echo, ending: Ending, told: str
) -> None:
    """The target gets exactly these bytes, then the reset or close."""
    await bench.proxy.put(Rules(up=Flow(end_after_bytes=1_000, ending=ending)))
    caller = await bench.call()
    await caller.say(b"x" * 5_000)
    _, end = await caller.hear_to_the_end()
    await until(lambda: bool(echo.ends))

    assert echo.heard == [b"x" * 1_000]
    assert (echo.ends, end) == ([told], told)


async def test_bytes_are_counted_from_when_the_rules_were_set(bench: Bench) -> None:
    """So a live connection can be cut at a chosen byte."""
    caller = await bench.call()
    await caller.say(b"before")
    before = await caller.hear(6)
    await bench.proxy.put(Rules(down=Flow(end_after_bytes=3)))
    await caller.say(b"after")
    heard = await caller.hear_to_the_end()

    assert before == b"before"
    assert heard == (b"aft", "reset")


async def test_an_answer_is_dropped_after_all_was_forwarded(bench: Bench, echo: Echo) -> None:
    """The target has done the work, but the caller gets a reset instead of the first byte."""
    await bench.proxy.put(Rules(drop_answers=True))
    caller = await bench.call()
    await caller.say(b"x" * 5_000)
    heard = await caller.hear_to_the_end()
    await until(lambda: bool(echo.ends))

    assert heard == (b"", "reset")
    assert echo.heard == [b"x" * 5_000]


async def test_only_as_many_connections_are_ended_as_the_rules_say(bench: Bench) -> None:
    """With `count`, the first request is lost and its retry succeeds."""
    await bench.proxy.put(Rules(drop_answers=True, count=1))
    first, second = await bench.call(), await bench.call()
    await first.say(b"one")
    lost = await first.hear_to_the_end()
    await second.say(b"two")

    assert lost == (b"", "reset")
    assert await second.hear(3) == b"two"


async def test_a_black_hole_accepts_and_forwards_nothing(bench: Bench, echo: Echo) -> None:
    """Old and new connections alike; those that lost bytes stay dead, later ones work."""
    old = await bench.call()
    await old.say(b"a")
    await old.hear(1)
    await bench.proxy.put(Rules(blackhole=True))
    new = await bench.call()
    await old.say(b"b")
    await new.say(b"c")
    silent = [await old.hears_nothing(), await new.hears_nothing()]
    await bench.proxy.clear()
    await old.say(b"d")
    still_silent = await old.hears_nothing()
    fresh = await bench.call()
    await fresh.say(b"e")

    assert silent == [True, True]
    assert still_silent
    assert await fresh.hear(1) == b"e"
    assert echo.heard == [b"a", b"e"]


async def test_a_frozen_proxy_holds_all_bytes_and_loses_none(bench: Bench, echo: Echo) -> None:
    """As with SIGSTOP of the target, connections stay open and resume where they were."""
    old = await bench.call()
    await bench.proxy.put(Rules(freeze=True))
    new = await bench.call()
    await old.say(b"old")
    await new.say(b"new")
    is_silent = await old.hears_nothing() and await new.hears_nothing()
    heard_meanwhile = b"".join(echo.heard)
    await bench.proxy.clear()

    assert is_silent
    assert heard_meanwhile == b""
    assert await old.hear(3) == b"old"
    assert await new.hear(3) == b"new"


async def test_a_refusing_proxy_drops_its_connections_and_listens_again_later(
    bench: Bench,
) -> None:
    """As with a target that was killed and restarted on the same port."""
    old = await bench.call()
    await old.say(b"a")
    await old.hear(1)
    await bench.proxy.put(Rules(refuse=True))
    dropped = await old.hear_to_the_end()
    with pytest.raises(ConnectionRefusedError):
        await bench.call()
    await bench.proxy.clear()
    new = await bench.call()
    await new.say(b"b")

    assert dropped == (b"", "reset")
    assert await new.hear(1) == b"b"


async def test_a_target_that_is_down_resets_the_caller(bench: Bench) -> None:
    """The proxy behaves like the missing target."""
    bench.proxy.target = "127.0.0.1", 9  # nothing listens there
    caller = await bench.call()

    assert await caller.hear_to_the_end() == (b"", "reset")


async def test_a_stopped_proxy_leaves_nothing_behind(echo: Echo) -> None:
    """No task, no connection, no port; frozen and slow connections end too."""
    proxy = FaultProxy("127.0.0.1", echo.port)
    port = await proxy.start()
    await proxy.put(Rules(freeze=True, up=Flow(latency_ms=60_000)))
    callers = [Caller(*await asyncio.open_connection("127.0.0.1", port)) for _ in range(3)]
    await callers[0].say(b"held")
    await until(lambda: proxy.stats()["open"] == 3)
    await proxy.stop()

    assert [await caller.hear_to_the_end() for caller in callers] == [(b"", "reset")] * 3
    assert proxy.stats()["open"] == 0
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
    await proxy.stop()


async def test_the_command_takes_rules_over_its_control_port(echo: Echo) -> None:
    """`ready LISTEN CONTROL`; POST replaces the rules, DELETE clears them, GET reports the traffic."""
    words = ["-m", "local.faults", "--listen", "0", "--control", "0"]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *words, "--target", f"127.0.0.1:{echo.port}", stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        ready, listening, control = (await process.stdout.readline()).split()
        url = f"http://127.0.0.1:{int(control)}"
        async with aiohttp.ClientSession() as http:
            async with http.post(f"{url}/rules", json={"drop_answers": True}) as answer:
                statuses = [answer.status]
            struck = Caller(*await asyncio.open_connection("127.0.0.1", int(listening)))
            await struck.say(b"lost")
            lost = await struck.hear_to_the_end()
            async with http.delete(f"{url}/rules") as answer:
                statuses.append(answer.status)
            caller = Caller(*await asyncio.open_connection("127.0.0.1", int(listening)))
            await caller.say(b"fine")
            fine = await caller.hear(4)
            async with http.post(f"{url}/rules", json={"freez": True, "count": 0}) as answer:
                refusal = answer.status, (await answer.json())["error"]
            async with http.get(f"{url}/stats") as answer:
                stats = await answer.json()
    finally:
        process.send_signal(signal.SIGTERM)
        await process.wait()

    assert (ready, lost, fine) == (b"ready", (b"", "reset"), b"fine")
    assert statuses == [200, 200]
    assert refusal[0] == 400
    assert "got 'freez'" in refusal[1]
    assert "count must be 1 or more, or null, got 0" in refusal[1]
    assert (stats["connections"], stats["ended"], stats["bytes_up"]) == (2, 1, 8)
    assert process.returncode == 0


def test_rules_are_read_from_json_as_python_writes_them() -> None:
    """Every key of the tables in `rules.py`, and the defaults for those left out."""
    fault: dict[str, Any] = {
        "number": 3,
        "method": "PUT",
        "path": "/a",
        "body": "b",
        "count": None,
        "repeats": True,
        "applied": True,
        "status": 503,
        "answer": "{}",
    }
    read = parse_rules(
        {
            "up": {"latency_ms": 1, "bytes_per_second": 2, "end_after_bytes": 0, "ending": "close"},
            "down": {"latency_ms": 5},
            "drop_answers": True,
            "blackhole": True,
            "freeze": True,
            "refuse": True,
            "count": 7,
            "requests": [fault],
        }
    )

    assert parse_rules({}) == NO_RULES
    assert read == Rules(
        up=Flow(latency_ms=1, bytes_per_second=2, end_after_bytes=0, ending=Ending.CLOSE),
        down=Flow(latency_ms=5, ending=Ending.RESET),
        drop_answers=True,
        blackhole=True,
        freeze=True,
        refuse=True,
        count=7,
        requests=(RequestFault(**fault),),
    )


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ([], "rules must be an object"),
        ({"up": 3}, "up must be an object"),
        ({"up": {"latency": 3}}, "the keys of up are"),
        ({"down": {"ending": "fin"}}, "ending must be reset or close, got 'fin'"),
        ({"down": {"bytes_per_second": 0}}, "bytes_per_second must be 1 or more"),
        ({"freeze": 1}, "freeze must be true or false, got 1"),
        ({"requests": {}}, "requests must be a list"),
        ({"requests": [{"status": 99}]}, "status must be 200-599 or null, got 99"),
        ({"requests": [{"number": True}]}, "number must be 1 or more, or null, got True"),
        ({"requests": ["x"]}, "a request fault must be an object"),
    ],
)
def test_rules_that_make_no_sense_are_refused(document: object, problem: str) -> None:
    """A test with a misspelt fault must fail, not pass without the fault."""
    with pytest.raises(ValueError, match=problem):
        parse_rules(document)
