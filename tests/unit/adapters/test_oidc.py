"""Discovery against a real server on loopback: the issuer's own document, small, without redirects."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from meter.adapters import oidc
from meter.adapters.oidc import DiscoveryKeySource
from meter.errors import KeysUnavailable

KEYS = [{"kid": "key-1", "kty": "RSA"}]


class Issuer:
    """Serves a discovery document and a key set, which tests spoil."""

    def __init__(self) -> None:
        self.url = ""
        self.metadata: dict[str, object] = {}
        self.documents: dict[str, web.Response] = {}
        self.asked: list[str] = []
        self.queries: list[str] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path)
        if request.path.endswith("/.well-known/openid-configuration"):
            self.queries.append(request.query_string)
        if request.path in self.documents:
            return self.documents[request.path]
        if request.path.endswith("/.well-known/openid-configuration"):
            usual = {"issuer": self.url, "jwks_uri": f"{self.url.rstrip('/')}/keys"}
            return web.json_response(usual | self.metadata)
        return web.json_response({"keys": KEYS})


@asynccontextmanager
async def running(*, path: str = "") -> AsyncIterator[Issuer]:
    issuer = Issuer()
    app = web.Application()
    app.router.add_get("/{tail:.*}", issuer.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    issuer.url = f"http://{host}:{port}{path}"
    try:
        yield issuer
    finally:
        await runner.cleanup()


async def refusal(issuer: Issuer) -> str:
    with pytest.raises(KeysUnavailable) as refused:
        await DiscoveryKeySource().fetch(issuer.url)
    return str(refused.value)


@pytest.mark.parametrize("path", ["", "/", "/tenant/v2.0"])
async def test_the_keys_are_those_the_discovery_document_names(path: str) -> None:
    """OpenID Connect Discovery 1.0 section 4: below the issuer's own path."""
    async with running(path=path) as issuer:
        keys = await DiscoveryKeySource().fetch(issuer.url)

    assert keys == KEYS
    assert issuer.asked == [
        f"{path.rstrip('/')}/.well-known/openid-configuration",
        f"{path.rstrip('/')}/keys",
    ]


async def test_an_app_with_its_own_signing_key_is_asked_for_by_its_id() -> None:
    """Entra publishes that key under `?appid=` alone; the tenant's keys stay trusted if named, too."""
    async with running(path="/tenant/v2.0") as issuer:
        queries = {issuer.url: ["appid=app-1", ""]}
        keys = await DiscoveryKeySource(queries).fetch(issuer.url)

    assert keys == KEYS + KEYS
    assert sorted(issuer.queries) == ["", "appid=app-1"]


@pytest.mark.parametrize("named", ["https://evil.example", "", None, 7, ["x"]])
async def test_a_document_of_another_issuer_is_refused(named: object) -> None:
    """Its keys are not fetched."""
    async with running() as issuer:
        issuer.metadata = {"issuer": named}

        assert await refusal(issuer) == "the discovery document names another issuer"
        assert issuer.asked == ["/.well-known/openid-configuration"]


@pytest.mark.parametrize(
    "address", ["http://keys.example/", "file:///etc/passwd", "ftp://127.0.0.1/", None, "", 7]
)
async def test_keys_are_fetched_over_https(address: object) -> None:
    """Plain http is for loopback, and no other scheme is followed at all."""
    async with running() as issuer:
        issuer.metadata = {"jwks_uri": address}

        assert await refusal(issuer) == "the address is not https"


async def test_an_issuer_over_plain_http_is_not_queried() -> None:
    """Outside loopback."""
    with pytest.raises(KeysUnavailable, match="not https"):
        await DiscoveryKeySource().fetch("http://login.example/tenant")


@pytest.mark.parametrize("path", ["/.well-known/openid-configuration", "/keys"])
@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_not_followed(path: str, status: int) -> None:
    """To no host."""
    async with running() as issuer:
        issuer.documents[path] = web.Response(status=status, headers={"location": "/other"})

        assert await refusal(issuer) == f"the issuer answered {status}"
        assert "/other" not in issuer.asked


@pytest.mark.parametrize("path", ["/.well-known/openid-configuration", "/keys"])
@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"x" * 1_048_577, "the document is too large"),
        (b"{", "the document is not JSON"),
        (b"[" * 200_000, "the document is not JSON"),
        (b"\xff\xfe\xff", "the document is not JSON"),
        (b"[]", "the document is not an object"),
    ],
    ids=["large", "cut", "deep", "binary", "array"],
)
async def test_a_document_that_cannot_be_read_is_refused(
    path: str, body: bytes, reason: str
) -> None:
    """In size and in form."""
    async with running() as issuer:
        issuer.documents[path] = web.Response(body=body)

        assert await refusal(issuer) == reason


async def test_a_packed_document_is_unpacked() -> None:
    """Although it was asked for as it is (RFC 9110 section 12.5.3)."""
    packed = gzip.compress(json.dumps({"keys": KEYS}).encode())
    async with running() as issuer:
        issuer.documents["/keys"] = web.Response(body=packed, headers={"content-encoding": "gzip"})

        assert await DiscoveryKeySource().fetch(issuer.url) == KEYS


async def test_a_packed_document_is_bounded_by_what_it_unpacks_to() -> None:
    """A small answer may hold a large document."""
    packed = gzip.compress(b'{"keys":[' + b" " * 2_000_000 + b"]}")
    async with running() as issuer:
        issuer.documents["/keys"] = web.Response(body=packed, headers={"content-encoding": "gzip"})

        assert await refusal(issuer) == "the document is too large"


@pytest.mark.parametrize("keys", [None, {}, "x", [1], [KEYS], 7])
async def test_a_key_set_without_a_list_of_keys_is_refused(keys: object) -> None:
    """RFC 7517 section 5."""
    async with running() as issuer:
        issuer.documents["/keys"] = web.Response(body=json.dumps({"keys": keys}).encode())

        assert await refusal(issuer) == "the key set has no list of keys"


async def test_an_issuer_that_is_down_is_reported() -> None:
    """By the kind of fault, without its address."""
    async with running() as issuer:
        pass

    assert await refusal(issuer) == "the issuer did not answer: no connection"


async def test_the_event_loop_does_not_wait_for_the_issuer() -> None:
    """The server is in this very loop."""
    async with running() as issuer, asyncio.timeout(30):
        assert await DiscoveryKeySource().fetch(issuer.url) == KEYS


@pytest.mark.parametrize("stays_open", [False, True], ids=["cut", "stands still"])
async def test_a_document_that_does_not_end_is_no_key_set(
    stays_open: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Broken or stalled half-way: the keys are not to be had now, and nothing else is wrong."""
    monkeypatch.setattr(oidc, "SILENCE_SECONDS", 0.2)

    async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{")
        await writer.drain()
        if stays_open:
            await reader.read()
        writer.close()

    server = await asyncio.start_server(half, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    with pytest.raises(KeysUnavailable, match="the issuer did not answer: it broke off"):
        await DiscoveryKeySource().fetch(url)
    server.close()


async def test_a_document_that_drips_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte now and then never runs into the time-out of one read."""
    monkeypatch.setattr(oidc, "TOTAL_SECONDS", 0.1)

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n")
        for _ in range(20):
            writer.write(b" ")
            await asyncio.sleep(0.02)
        writer.close()

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    with pytest.raises(KeysUnavailable, match="too long"):
        await DiscoveryKeySource().fetch(url)
    server.close()
