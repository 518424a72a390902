"""Opening connections: lookups, addresses, TLS."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from meter.adapters.upstream.client import HttpUpstream
from meter.adapters.upstream.dial import verifying_context
from meter.errors import UpstreamTimeout, UpstreamUnreachable
from tests.support.wire import BODY, Script, outcome, playing, post, tls
from tests.unit.adapters.upstream.test_client import upstream

OK = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}"


class Names:
    """Answers lookups in place of the system's resolver."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
        self.addresses: Sequence[str] = addresses
        self.lookups = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked = asyncio.Event()
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", self._look_up)

    async def _look_up(self, host: str, port: int, **_: Any) -> list[Any]:
        self.lookups += 1
        self.asked.set()
        await self.gate.wait()
        if not self.addresses:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return [info for each in self.addresses for info in numeric(each, port)]


def numeric(address: str, port: int) -> list[Any]:
    return socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)


async def statuses(made: HttpUpstream, url: str, *, calls: int = 1) -> list[int]:
    outcomes = await asyncio.gather(*(outcome(made, post(url)) for _ in range(calls)))
    return [each.status for each in outcomes]


async def test_one_lookup_serves_all_who_wait_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """There are few threads for lookups, and other work needs them."""
    async with playing(Script([OK])) as backend, upstream() as made:
        names = Names(monkeypatch, "127.0.0.1")
        url = backend.url.replace("127.0.0.1", "backend.example")

        assert await statuses(made, url, calls=20) == [200] * 20
        assert await statuses(made, url) == [200]
        assert (names.lookups, backend.connections) == (1, 21)


async def test_one_who_leaves_does_not_take_the_lookup_along(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The others still wait for it."""
    async with playing(Script([OK])) as backend, upstream() as made:
        names = Names(monkeypatch, "127.0.0.1")
        names.gate.clear()
        url = backend.url.replace("127.0.0.1", "backend.example")
        first, second = (asyncio.create_task(outcome(made, post(url))) for _ in range(2))
        await names.asked.wait()
        first.cancel()
        await asyncio.wait({first})
        names.gate.set()

        assert (await second).status == 200


async def test_a_name_is_looked_up_again_after_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its server may have moved."""
    async with playing(Script([OK])) as backend, upstream() as made:
        names = Names(monkeypatch, "127.0.0.2")
        url = backend.url.replace("127.0.0.1", "backend.example")
        with pytest.raises(UpstreamUnreachable):
            await made.send(post(url), first_byte_timeout_seconds=5)
        names.addresses = ("127.0.0.1",)

        assert await statuses(made, url) == [200]


async def test_an_unknown_name_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a refused connection is."""
    async with upstream() as made:
        Names(monkeypatch)
        with pytest.raises(UpstreamUnreachable):
            await made.send(post("http://nowhere.example/"), first_byte_timeout_seconds=5)


async def test_a_name_that_is_none_is_unreachable() -> None:
    """Not even the resolver takes it."""
    async with upstream() as made:
        with pytest.raises(UpstreamUnreachable):
            await made.send(post(f"http://{'a' * 70}.example/"), first_byte_timeout_seconds=5)


@pytest.mark.parametrize(
    ("least", "error"), [("connect", UpstreamUnreachable), ("head", UpstreamTimeout)]
)
async def test_a_lookup_that_hangs_is_left(
    monkeypatch: pytest.MonkeyPatch, least: str, error: type[Exception]
) -> None:
    """After the time for connecting, or for the first byte, whichever is shorter."""
    made = HttpUpstream(
        connect_timeout_seconds=0.05 if least == "connect" else 60, idle_timeout_seconds=60
    )
    names = Names(monkeypatch, "127.0.0.1")
    names.gate.clear()
    with pytest.raises(error):
        await made.send(
            post("http://slow.example/"),
            first_byte_timeout_seconds=60 if least == "connect" else 0.05,
        )
    await made.close()


@asynccontextmanager
async def mute() -> AsyncIterator[int]:
    """The port of an address whose connections are never accepted: its queue is full."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.3", 0))
        listener.listen(0)
        fillers = []
        for _ in range(3):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
            fillers.append(filler)
        try:
            yield listener.getsockname()[1]
        finally:
            for filler in fillers:
                filler.close()


async def test_the_next_address_is_tried_while_one_is_silent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A quarter of a second later (RFC 8305), not after the time for connecting."""
    async with mute() as port:
        server = await asyncio.start_server(answering, "127.0.0.1", port)
        Names(monkeypatch, "127.0.0.3", "127.0.0.1")
        made = HttpUpstream(connect_timeout_seconds=600, idle_timeout_seconds=60)
        async with asyncio.timeout(300):
            assert await statuses(made, f"http://backend.example:{port}/") == [200]
        await made.close()
        server.close()


async def test_addresses_that_refuse_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, and in the order that the system prefers."""
    async with playing(Script([OK])) as backend, upstream() as made:
        Names(monkeypatch, "127.0.0.4", "127.0.0.5", "::1", "127.0.0.1")
        url = backend.url.replace("127.0.0.1", "backend.example")

        assert await statuses(made, url) == [200]


async def answering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(BODY)
    writer.write(OK)
    writer.close()


@pytest.mark.skipif(not socket.has_ipv6, reason="the machine has no IPv6")
async def test_a_server_is_called_by_ipv6() -> None:
    """By its address in brackets."""
    try:
        server = await asyncio.start_server(answering, "::1", 0)
    except OSError:
        pytest.skip("the machine has no IPv6 loopback")
    async with upstream() as made:
        assert await statuses(made, f"http://[::1]:{server.sockets[0].getsockname()[1]}/") == [200]
    server.close()


@asynccontextmanager
async def secured(folder: Path) -> AsyncIterator[tuple[str, ssl.SSLContext, list[Any]]]:
    """A server with a certificate for `localhost`, a context that trusts it, and what it was asked."""
    server, client = tls(folder)
    seen: list[Any] = []
    server.set_alpn_protocols(["h2", "http/1.1"])
    server.sni_callback = lambda made, name, _: seen.append(name)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(writer.get_extra_info("ssl_object").selected_alpn_protocol())
        await answering(reader, writer)

    listening = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server)
    try:
        yield f"https://localhost:{listening.sockets[0].getsockname()[1]}", client, seen
    finally:
        listening.close()


async def test_tls_names_the_server_and_offers_http_1_1(tmp_path: Path) -> None:
    """A server that also speaks HTTP/2 must not choose it."""
    async with secured(tmp_path) as (url, client, seen):
        client.set_alpn_protocols(verifying_alpn())
        async with upstream(make_context=lambda: client) as made:
            assert await statuses(made, url) == [200]

    assert seen == ["localhost", "http/1.1"]


def verifying_alpn() -> list[str]:
    """What a real context offers: no context says it, so a handshake in memory does."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = verifying_context().wrap_bio(incoming, outgoing, server_hostname="a.example")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    assert b"\x08http/1.1" in outgoing.read()
    return ["http/1.1"]


async def test_a_server_that_nobody_vouches_for_is_unreachable(tmp_path: Path) -> None:
    """Nothing is sent to it."""
    async with secured(tmp_path) as (url, _, seen), upstream() as made:
        with pytest.raises(UpstreamUnreachable):
            await made.send(post(url), first_byte_timeout_seconds=5)

    assert seen in (["localhost"], ["localhost", "http/1.1"], ["localhost", None])


async def test_a_certificate_for_another_name_is_refused(tmp_path: Path) -> None:
    """It is trusted, but it is not that server's."""
    async with (
        secured(tmp_path) as (url, client, _),
        upstream(make_context=lambda: client) as made,
    ):
        with pytest.raises(UpstreamUnreachable):
            await made.send(
                post(url.replace("localhost", "127.0.0.1")), first_byte_timeout_seconds=5
            )


async def test_plain_http_on_a_tls_port_is_unreachable() -> None:
    """And the other way round is no HTTP."""
    async with playing(Script([OK])) as backend, upstream() as made:
        with pytest.raises(UpstreamUnreachable):
            await made.send(
                post(backend.url.replace("http:", "https:")), first_byte_timeout_seconds=5
            )


def test_the_context_verifies() -> None:
    """Certificate and name, against the authorities of the system."""
    context = verifying_context()

    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
