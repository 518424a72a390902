"""Sends transactions: directly at first, then through the SDK's pipeline if they were not accepted.

The SDK's pipeline and aiohttp took 1,050 us of CPU per transaction, the client that calls backends takes
500 with the SDK's signature. So the first try goes through that client, completed and signed by the SDK's
own policies. Any status but 202 leaves the transaction to the pipeline, which retries, redirects and
answers challenges. A connection that fails leaves open whether it was applied, and is an error at once,
as in the pipeline, which does not send a POST again either (docs/decisions/0041).

A signature is of the address, the content type and the second. All transactions of a store have the same
content type, so those of a second have the same headers but for their id: they are made and signed once,
which takes 94 us.

The pipeline is used alone where a proxy is set, and for a policy that is not known here. In it are left
out logging, tracing and hooks, which nobody has configured, and what reads a body or sets an id: the
answer is read by `transaction.py`, and the request has the transaction's id.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from copy import copy
from math import inf
from typing import Any

from azure.core.pipeline import AsyncPipeline, PipelineContext, PipelineRequest
from azure.core.pipeline.policies import (
    AsyncBearerTokenCredentialPolicy,
    AsyncRedirectPolicy,
    AsyncRetryPolicy,
    ContentDecodePolicy,
    CustomHookPolicy,
    DistributedTracingPolicy,
    HttpLoggingPolicy,
    NetworkTraceLoggingPolicy,
    ProxyPolicy,
    RequestIdPolicy,
    SansIOHTTPPolicy,
)
from azure.core.rest import AsyncHttpResponse, HttpRequest
from azure.data.tables._policies import StorageHosts
from azure.data.tables.aio import TableServiceClient
from msgspec import Struct

from meter.adapters.upstream.client import HttpUpstream
from meter.ports import Headers, UpstreamRequest

REQUEST_ID = "x-ms-client-request-id"
ACCEPTED = 202
ERROR = "x-ms-error-code"
# The time that is signed is in seconds, and is taken for 15 minutes. A transaction that is refused, as after
# a change of keys, goes through the pipeline, which signs it again.
SIGNED_SECONDS = 1.0
_CONTENT_TYPE = "content-type"

_LEFT_OUT = (
    ContentDecodePolicy,
    CustomHookPolicy,
    DistributedTracingPolicy,
    HttpLoggingPolicy,
    NetworkTraceLoggingPolicy,
    ProxyPolicy,
    RequestIdPolicy,
)
_SIGNS = (SansIOHTTPPolicy, AsyncBearerTokenCredentialPolicy)
_ONLY_AFTER_A_REFUSAL = (AsyncRedirectPolicy, AsyncRetryPolicy, StorageHosts)

type _OnRequest = Callable[[PipelineRequest[HttpRequest]], Any]


class Answer(Struct, frozen=True, gc=False):
    """The answer to a transaction, read to its end; `error_code` is that of its head."""

    status: int
    content_type: str
    error_code: str | None
    content: bytes


type SendTransaction = Callable[[str, str, bytes], Awaitable[Answer]]
"""Sends a transaction, given its id, its content type and its body. Raises AzureError, UpstreamError."""


def transaction_sender(service: TableServiceClient, client: HttpUpstream | None) -> SendTransaction:
    """What sends a service's transactions, with the client at first, if there is one.

    Raises AttributeError for an SDK that is made otherwise.
    """
    address, question_mark, query = service.url.partition("?")
    url = f"{address}/$batch{question_mark}{query}"
    headers = {
        "x-ms-version": service.api_version,
        "DataServiceVersion": "3.0",
        "MaxDataServiceVersion": "3.0;NetFx",
        "Accept": "application/json",
    }
    through_pipeline = _pipeline_sender(service)
    policies = _signing(service)
    signed = client and policies and SignedHead(policies, url, headers)

    async def send(transaction: str, content_type: str, body: bytes) -> Answer:
        if client and signed:
            head = await signed.at(asyncio.get_running_loop().time(), content_type)
            answer = await _directly(client, head, transaction, body)
            if answer.status == ACCEPTED:
                return answer
        own = {**headers, _CONTENT_TYPE: content_type, REQUEST_ID: transaction}
        return await through_pipeline(HttpRequest("POST", url, headers=own, content=body))

    return send


def _pipeline_sender(
    service: TableServiceClient,
) -> Callable[[HttpRequest], Awaitable[Answer]]:
    transport = service._client._client._pipeline._transport  # the SDK gives no other way to it
    # Copies, since a policy knows the one after it: the service's own are chained for its other requests.
    policies = [copy(each) for each in service._policies if not isinstance(each, _LEFT_OUT)]
    pipeline = AsyncPipeline[HttpRequest, AsyncHttpResponse](transport, policies)

    async def send(request: HttpRequest) -> Answer:
        answer = (await pipeline.run(request, stream=True)).http_response
        content = await answer.read()
        kind = answer.headers.get(_CONTENT_TYPE, "")
        return Answer(answer.status_code, kind, answer.headers.get(ERROR), content)

    return send


def _signing(service: TableServiceClient) -> Sequence[_OnRequest] | None:
    """What completes a request, in order; None where the pipeline may do more than that."""
    found: list[_OnRequest] = []
    for each in service._policies:
        if each is None or isinstance(each, (*_LEFT_OUT, *_ONLY_AFTER_A_REFUSAL)):
            continue
        if not isinstance(each, _SIGNS):
            return None
        found.append(each.on_request)
    return found


class Head(Struct, frozen=True, gc=False):
    """The address and the headers of transactions of that content type, until that time."""

    content_type: str
    until: float
    url: str
    headers: Headers


class SignedHead:
    """What the SDK's policies make of a transaction's head, remembered for a second."""

    def __init__(
        self, policies: Sequence[_OnRequest], url: str, headers: Mapping[str, str]
    ) -> None:
        self._policies = policies
        self._url = url
        self._headers = headers
        self._latest: Head | None = None

    async def at(self, now: float, content_type: str) -> Head:
        """The head of a transaction that is sent then, in seconds that only go forward. Raises AzureError."""
        latest = self._latest
        if latest is not None and latest.content_type == content_type and now < latest.until:
            return latest
        request = HttpRequest(
            "POST", self._url, headers={**self._headers, _CONTENT_TYPE: content_type}
        )
        signed = PipelineRequest(request, PipelineContext(None))
        for sign in self._policies:
            if (done := sign(signed)) is not None:
                await done
        self._latest = Head(
            content_type,
            now + SIGNED_SECONDS,
            request.url,
            tuple([(name.lower(), value) for name, value in request.headers.items()]),
        )
        return self._latest


async def _directly(client: HttpUpstream, head: Head, transaction: str, body: bytes) -> Answer:
    answer = await client.send(
        UpstreamRequest(
            backend="tables",
            method="POST",
            url=head.url,
            headers=(*head.headers, (REQUEST_ID, transaction)),
            body=body,
        ),
        first_byte_timeout_seconds=inf,
    )
    try:
        content = b"".join([part async for part in answer.chunks()])
    finally:
        await answer.close()
    found = dict(answer.headers)
    return Answer(answer.status, found.get(_CONTENT_TYPE, ""), found.get(ERROR), content)
