"""What is asked for, so that a repeat of it can be told from any other request.

A repeat has the same caller, address, headers and bytes. Of the headers only those matter that go to a
backend, without what SDKs change from one attempt to the next: ids, trace and the count of retries.

What every call pays for is the key: the caller, the address, and the digest of a short body. Headers, and
the digest of a long body or a form, are only looked at when another request has the same key, or when a
caller has left.
"""

import asyncio
from hashlib import sha256

from msgspec import Struct

from meter.errors import CallerError
from meter.gateway.answer.reading.counts import Output
from meter.gateway.headers import (
    IMAGE_DEPLOYMENT,
    REQUEST_ID,
    lasting_headers,
    retry_count,
)
from meter.gateway.http import Arrival
from meter.gateway.request.body import JsonBody
from meter.gateway.request.form import FormBody
from meter.gateway.request.prepare import Payload
from meter.gateway.request.route import Route
from meter.ports import Headers

SHORT_BYTES = 16_384
AT_ONCE_BYTES = 262_144  # a digest of more is computed in a thread


class RequestKey(Struct, frozen=True, gc=False, cache_hash=True):
    """What a request and its repeat have in common, but for headers and the bytes of a long body or form.

    `object_id` is the person, where `METER_SUBJECT_CLAIM` bills several as one subject. `size` is None
    for a form of undeclared length, `digest` is empty for a body that is not short.
    """

    issuer: str
    tenant: str | None
    subject: str
    object_id: str | None
    client_app: str | None
    path: str
    query: str
    size: int | None
    digest: bytes


class Repeatable(Struct, kw_only=True, eq=False):
    """One request for a whole answer."""

    arrival: Arrival
    key: RequestKey
    body: JsonBody | FormBody
    digest: bytes | None = None
    _lasting: Headers | None = None

    @property
    def is_retry(self) -> bool:
        """Whether its SDK says that it is a repeat."""
        return retry_count(self.arrival.request.named) > 0

    @property
    def request_id(self) -> str | None:
        """Its client's id, which repeats keep."""
        return self.arrival.request.named.get(REQUEST_ID) or None

    def lasting_headers(self) -> Headers:
        """Those that a repeat has, too, in an order that no proxy changes."""
        if self._lasting is None:
            self._lasting = _headers(self.arrival.request.headers)
        return self._lasting

    async def learn_digest(self, *, waits: bool) -> bytes | None:
        """The digest of the body; None where its bytes are gone or were never sent whole.

        `waits`: for a form that is still arriving, which is taken in meanwhile.
        """
        if self.digest is None:
            self.digest = await _digest(self.body, waits=waits)
        return self.digest


def repeatable_of(arrival: Arrival, route: Route, body: Payload) -> Repeatable | None:
    """What a request asks for; None if its answer cannot be given to two callers.

    It cannot without a body to compare (GET, DELETE, cancel), or if the answer is relayed as it arrives:
    event streams and speech.
    """
    if route.asks_for_events or route.served.output is Output.AUDIO:
        return None
    size: int | None
    digest: bytes | None = None
    if isinstance(body, JsonBody):
        if body.is_streaming:
            return None
        size = body.size
        if size <= SHORT_BYTES:
            digest = sha256(body.raw).digest()
    elif body is None or body.asks_for_stream:
        return None
    else:
        size = body.declared_bytes
    principal, request = arrival.principal, arrival.request
    return Repeatable(
        arrival=arrival,
        key=RequestKey(
            principal.issuer,
            principal.tenant,
            principal.subject,
            principal.object_id,
            principal.client_app,
            request.raw_path,
            request.query,
            size,
            digest or b"",
        ),
        body=body,
        digest=digest,
    )


def _headers(caller: Headers) -> Headers:
    kept = lasting_headers(caller)
    image = [(name, value) for name, value in caller if name == IMAGE_DEPLOYMENT]
    return tuple(sorted([*kept, *image], key=_name))  # stable: a repeated name keeps its order


def _name(each: tuple[str, str]) -> str:
    return each[0]


async def _digest(body: JsonBody | FormBody, *, waits: bool) -> bytes | None:
    if isinstance(body, FormBody):
        return await _digest_of_form(body) if waits or body.is_whole else None
    raw = body.raw
    if len(raw) <= AT_ONCE_BYTES:
        return sha256(raw).digest() if raw else None
    return await asyncio.to_thread(lambda: sha256(raw).digest())


async def _digest_of_form(form: FormBody) -> bytes | None:
    digest = sha256()
    try:
        async for part in form.parts():
            digest.update(part)
            await form.turns.next()
    except CallerError:
        return None
    return digest.digest()
