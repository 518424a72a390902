"""`meter.ports.KeySetSource` over OpenID Connect discovery, with the client that calls backends.

https only, except on loopback; no redirects; size and time are bounded. `requests` took an eighth of a
start's CPU.
"""

import asyncio
import json
from collections.abc import Collection, Mapping, Sequence

from meter.adapters.upstream.client import HttpUpstream
from meter.errors import KeysUnavailable, UpstreamError, UpstreamTimeout, UpstreamUnreachable
from meter.gateway.address import is_allowed_url
from meter.gateway.answer.encoding import decoded_parts, is_decodable
from meter.ports import UpstreamAnswer, UpstreamRequest

CONNECT_SECONDS = 3.05
SILENCE_SECONDS = 5.0
TOTAL_SECONDS = 10.0
MAX_DOCUMENT_BYTES = 1_048_576
_HEADERS = (
    ("accept", "application/json"),
    ("accept-encoding", "identity"),
    ("user-agent", "aoai-meter"),
)
_NAME = "issuer"


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
        client = HttpUpstream(
            connect_timeout_seconds=CONNECT_SECONDS, idle_timeout_seconds=SILENCE_SECONDS
        )
        try:
            fetches = (_fetch_keys(client, issuer, query) for query in queries)
            found = await asyncio.gather(*fetches, return_exceptions=True)
        finally:
            await client.close()
        keys: list[Mapping[str, object]] = []
        for each in found:
            if isinstance(each, BaseException):
                raise each
            keys += each
        return keys


async def _fetch_keys(
    client: HttpUpstream, issuer: str, query: str
) -> Sequence[Mapping[str, object]]:
    url = f"{issuer.rstrip('/')}/.well-known/openid-configuration"
    metadata = await _get(client, f"{url}?{query}" if query else url)
    if metadata.get("issuer") != issuer:
        raise KeysUnavailable("the discovery document names another issuer")
    key_set = await _get(client, str(metadata.get("jwks_uri")))
    keys = key_set.get("keys")
    if not isinstance(keys, list) or not all(isinstance(key, dict) for key in keys):
        raise KeysUnavailable("the key set has no list of keys")
    return keys


async def _get(client: HttpUpstream, url: str) -> Mapping[str, object]:
    if not is_allowed_url(url):
        raise KeysUnavailable("the address is not https")
    try:
        async with asyncio.timeout(TOTAL_SECONDS):
            body = await _body(client, url)
    except UpstreamError as exc:
        raise KeysUnavailable(f"the issuer did not answer: {_fault(exc)}") from exc
    except TimeoutError:
        raise KeysUnavailable("the issuer took too long") from None
    if len(body) > MAX_DOCUMENT_BYTES:
        raise KeysUnavailable("the document is too large")
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise KeysUnavailable("the document is not JSON") from exc
    if not isinstance(document, dict):
        raise KeysUnavailable("the document is not an object")
    return document


async def _body(client: HttpUpstream, url: str) -> bytes:
    """A document's bytes; of one that is too large, enough to see that. Raises UpstreamError."""
    request = UpstreamRequest(backend=_NAME, method="GET", url=url, headers=_HEADERS, body=b"")
    answer = await client.send(request, first_byte_timeout_seconds=SILENCE_SECONDS)
    try:
        if answer.status != 200:
            raise KeysUnavailable(f"the issuer answered {answer.status}")
        return await _read(answer)
    finally:
        await answer.close()


async def _read(answer: UpstreamAnswer) -> bytes:
    encoding = next((value for name, value in answer.headers if name == "content-encoding"), None)
    parts = answer.chunks()
    body = b""
    async for part in decoded_parts(parts, encoding) if is_decodable(encoding) else parts:
        body += part
        if len(body) > MAX_DOCUMENT_BYTES:
            break
    return body


def _fault(exc: UpstreamError) -> str:
    match exc:
        case UpstreamUnreachable():
            return "no connection"
        case UpstreamTimeout():
            return "nothing came in time"
        case _:
            return "it broke off"
