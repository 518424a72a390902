"""`meter.ports.KeySetSource` over OpenID Connect discovery, with `requests` in a worker thread.

It never blocks the event loop. https only, except on loopback; no redirects; size and time are bounded.
`requests` takes a tenth of a start's CPU, so it is imported in that thread, while the front door is built.
"""

import asyncio
import json
import time
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from meter.errors import KeysUnavailable
from meter.gateway.address import is_allowed_url

if TYPE_CHECKING:
    import requests

TIMEOUT_SECONDS = (3.05, 5.0)
TOTAL_SECONDS = 10.0
MAX_DOCUMENT_BYTES = 1_048_576
READ_BYTES = 65_536


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
    import requests

    url = f"{issuer.rstrip('/')}/.well-known/openid-configuration"
    with requests.Session() as session:
        session.trust_env = False
        metadata = _get(session, f"{url}?{query}" if query else url)
        if metadata.get("issuer") != issuer:
            raise KeysUnavailable("the discovery document names another issuer")
        key_set = _get(session, str(metadata.get("jwks_uri")))
    keys = key_set.get("keys")
    if not isinstance(keys, list) or not all(isinstance(key, dict) for key in keys):
        raise KeysUnavailable("the key set has no list of keys")
    return keys


def _get(session: "requests.Session", url: str) -> Mapping[str, object]:
    from requests import RequestException
    from urllib3.exceptions import HTTPError

    if not is_allowed_url(url):
        raise KeysUnavailable("the address is not https")
    try:
        with session.get(
            url, timeout=TIMEOUT_SECONDS, allow_redirects=False, stream=True
        ) as response:
            if response.status_code != 200:
                raise KeysUnavailable(f"the issuer answered {response.status_code}")
            body = _read(response)
    except (RequestException, HTTPError, OSError) as exc:
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


def _read(response: "requests.Response") -> bytes:
    """The body, bounded in size and in total time: the client's own timeout is per read."""
    deadline = time.monotonic() + TOTAL_SECONDS
    body = b""
    while part := response.raw.read1(READ_BYTES, decode_content=True):
        body += part
        if len(body) > MAX_DOCUMENT_BYTES:
            break
        if time.monotonic() > deadline:
            raise KeysUnavailable("the issuer took too long")
    return body
