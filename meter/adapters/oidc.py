"""`meter.ports.KeySetSource` over OpenID Connect discovery, with the standard library in a worker thread.

It never blocks the event loop. https only, except on loopback; no redirects, no proxies; size and time are
bounded. `requests` would take a tenth of a start's CPU time, for two documents.
"""

import asyncio
import json
import ssl
import time
import zlib
from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from functools import cache
from http.client import (
    HTTPConnection,
    HTTPException,
    HTTPResponse,
    HTTPSConnection,
    IncompleteRead,
)
from urllib.parse import urlsplit

from meter.errors import KeysUnavailable
from meter.gateway.address import is_allowed_url

CONNECT_SECONDS, READ_SECONDS = 3.05, 5.0
TOTAL_SECONDS = 10.0
MAX_DOCUMENT_BYTES = 1_048_576
READ_BYTES = 65_536
_HEADERS = {"Accept": "application/json", "Accept-Encoding": "gzip", "User-Agent": "aoai-meter"}
_ANY_HEADER = 47  # zlib's: of gzip or of zlib


class DiscoveryKeySource:
    """Fetches `{issuer}/.well-known/openid-configuration` and the key set it names.

    An issuer with several `queries` has the keys of all: Entra publishes those of an app that has a
    signing key of its own under `?appid=CLIENT-ID` alone (learn.microsoft.com/entra/identity-platform/
    access-tokens, "Validate the signature").
    """

    def __init__(self, queries: Mapping[str, Collection[str]] | None = None) -> None:
        self._queries = queries or {}

    async def fetch(self, issuer: str) -> Sequence[Mapping[str, object]]:
        """The issuer's published keys. Raises KeysUnavailable."""
        queries = sorted(self._queries.get(issuer, [""]))
        fetches = (asyncio.to_thread(_fetch_keys, issuer, query) for query in queries)
        return [key for keys in await asyncio.gather(*fetches) for key in keys]


def _fetch_keys(issuer: str, query: str) -> Sequence[Mapping[str, object]]:
    url = f"{issuer.rstrip('/')}/.well-known/openid-configuration"
    metadata = _get(f"{url}?{query}" if query else url)
    if metadata.get("issuer") != issuer:
        raise KeysUnavailable("the discovery document names another issuer")
    key_set = _get(str(metadata.get("jwks_uri")))
    keys = key_set.get("keys")
    if not isinstance(keys, list) or not all(isinstance(key, dict) for key in keys):
        raise KeysUnavailable("the key set has no list of keys")
    return keys


def _get(url: str) -> Mapping[str, object]:
    if not is_allowed_url(url):
        raise KeysUnavailable("the address is not https")
    try:
        with closing(_connection(url)) as connection:
            body = _read(_answered(connection, url))
    except (HTTPException, OSError, ValueError, zlib.error) as exc:
        raise KeysUnavailable(f"the issuer did not answer: {type(exc).__name__}") from exc
    if len(body) > MAX_DOCUMENT_BYTES:
        raise KeysUnavailable("the document is too large")
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise KeysUnavailable("the document is not JSON") from exc
    if not isinstance(document, dict):
        raise KeysUnavailable("the document is not an object")
    return document


def _connection(url: str) -> HTTPConnection:
    address = urlsplit(url)
    host, port = address.hostname or "", address.port
    if address.scheme == "http":
        return HTTPConnection(host, port, timeout=CONNECT_SECONDS)
    return HTTPSConnection(host, port, timeout=CONNECT_SECONDS, context=_tls())


@cache
def _tls() -> ssl.SSLContext:
    """Loading the system's authorities takes tens of milliseconds, so they are loaded once."""
    return ssl.create_default_context()


def _answered(connection: HTTPConnection, url: str) -> HTTPResponse:
    address = urlsplit(url)
    connection.connect()
    connection.sock.settimeout(READ_SECONDS)
    path = (address.path or "/") + (f"?{address.query}" if address.query else "")
    connection.request("GET", path, headers=_HEADERS)
    response = connection.getresponse()
    if response.status != 200:
        raise KeysUnavailable(f"the issuer answered {response.status}")
    return response


def _read(response: HTTPResponse) -> bytes:
    """The body, bounded in size and in total time: the connection's own time-out is per read."""
    deadline = time.monotonic() + TOTAL_SECONDS
    is_packed = response.getheader("Content-Encoding", "").strip().lower() == "gzip"
    unpacker = zlib.decompressobj(_ANY_HEADER) if is_packed else None
    body = b""
    while part := response.read1(READ_BYTES):
        body += part if unpacker is None else unpacker.decompress(part, MAX_DOCUMENT_BYTES + 1)
        if len(body) > MAX_DOCUMENT_BYTES:
            break
        if time.monotonic() > deadline:
            raise KeysUnavailable("the issuer took too long")
    if response.length and len(body) <= MAX_DOCUMENT_BYTES:
        raise IncompleteRead(body, response.length)  # `read1` does not say so
    return body
