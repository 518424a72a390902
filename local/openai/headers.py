"""The headers of an answer, as an account behind Azure's API management sends them."""

import uuid
from collections.abc import Mapping

from local.openai.account import Inquiry, Ruling
from local.openai.answers import Answer

_LIMIT_REQUESTS = 1000
_LIMIT_TOKENS = 1_000_000


def answer_headers(
    inquiry: Inquiry, ruling: Ruling, answer: Answer, *, request_id: str, region: str
) -> dict[str, str]:
    """Azure's headers, overridden by those of the call's fault."""
    return {
        "content-type": answer.content_type,
        **({"content-encoding": "gzip"} if answer.is_gzipped else {}),
        "x-request-id": request_id,
        "apim-request-id": str(uuid.uuid4()),
        "x-ms-region": region,
        "x-content-type-options": "nosniff",
        "strict-transport-security": "max-age=31536000; includeSubDomains; preload",
        **_echoed(inquiry),
        **(_model_headers(ruling) if answer.status == 200 else {}),
        **ruling.fault.headers,
    }


def _echoed(inquiry: Inquiry) -> Mapping[str, str]:
    name = "x-ms-client-request-id"
    return {name: inquiry.headers[name]} if name in inquiry.headers else {}


def _model_headers(ruling: Ruling) -> Mapping[str, str]:
    if ruling.deployment is None or ruling.model is None:
        return {}
    return {
        "x-ms-deployment-name": ruling.deployment,
        "openai-model": ruling.model,
        "openai-processing-ms": "12",
        "azureml-model-session": "d020-20250801000000",
        "x-ms-rai-invoked": "true",
        "x-ratelimit-limit-requests": str(_LIMIT_REQUESTS),
        "x-ratelimit-remaining-requests": str(_LIMIT_REQUESTS - 1),
        "x-ratelimit-limit-tokens": str(_LIMIT_TOKENS),
        "x-ratelimit-remaining-tokens": str(_LIMIT_TOKENS - 1000),
    }
