"""Sends transactions: directly at first, then through the SDK's pipeline if they were not accepted.

The SDK's pipeline and aiohttp took 1,050 us of CPU per transaction, the client that calls backends takes
500 with the SDK's signature. So the first try goes through that client, completed and signed by the SDK's
own policies. Any status but 202 leaves the transaction to the pipeline, which retries, redirects and
answers challenges. A connection that fails leaves open whether it was applied, and is an error at once,
as in the pipeline, which does not send a POST again either (docs/decisions/0041).

The pipeline is used alone where a proxy is set, and for a policy that is not known here. In it are left
out logging, tracing and hooks, which nobody has configured, and what reads a body or sets an id: the
answer is read by `transaction.py`, and the request has the transaction's id.
"""

from collections.abc import Awaitable, Callable, Sequence
from copy import copy
from functools import partial
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
from meter.ports import UpstreamRequest

REQUEST_ID = "x-ms-client-request-id"
ACCEPTED = 202
ERROR = "x-ms-error-code"
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
    signing = _signing(service)
    directly = client and signing and partial(_directly, client, signing)

    async def send(transaction: str, content_type: str, body: bytes) -> Answer:
        own = {**headers, "Content-Type": content_type, REQUEST_ID: transaction}
        if directly:
            answer = await directly(HttpRequest("POST", url, headers=own), body)
            if answer.status == ACCEPTED:
                return answer
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


async def _directly(
    client: HttpUpstream, signing: Sequence[_OnRequest], request: HttpRequest, body: bytes
) -> Answer:
    signed = PipelineRequest(request, PipelineContext(None))
    for sign in signing:
        if (done := sign(signed)) is not None:
            await done
    answer = await client.send(
        UpstreamRequest(
            backend="tables",
            method="POST",
            url=request.url,
            headers=tuple([(name.lower(), value) for name, value in request.headers.items()]),
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
