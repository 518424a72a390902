"""What a request asks for: operation, deployment, version and body, read once at the edge."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

type JsonObject = dict[str, object]

_BY_DEPLOYMENT = re.compile(
    r"/openai/deployments/(?P<deployment>[^/]+)/(?P<op>chat/completions|completions|embeddings)"
)
_BY_BODY = re.compile(r"/openai/(?P<op>responses|models)")
_V1 = re.compile(r"/openai/v1/(?P<op>chat/completions|completions|embeddings|responses|models)")


class Operation(StrEnum):
    """The operations of an account, named by the last part of their path."""

    CHAT = "chat/completions"
    COMPLETIONS = "completions"
    EMBEDDINGS = "embeddings"
    RESPONSES = "responses"
    MODELS = "models"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What the address says: an operation, and in classic paths the deployment."""

    operation: Operation
    deployment: str | None
    is_v1: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """An accepted call: its deployment exists and its body is a JSON object."""

    operation: Operation
    deployment: str
    model: str
    body: JsonObject

    @property
    def is_streaming(self) -> bool:
        """True when the caller asked for server-sent events."""
        return self.body.get("stream") is True

    @property
    def has_stream_options(self) -> bool:
        """True when the body names `stream_options`, whatever is in it."""
        return "stream_options" in self.body

    @property
    def wants_usage_chunk(self) -> bool:
        """True when a streamed chat or completion is to end with a usage chunk."""
        options = self.body.get("stream_options")
        return isinstance(options, dict) and options.get("include_usage") is True


def parse_target(method: str, path: str) -> Target | None:
    """The target of a request line, or None where an account has nothing at that address."""
    for pattern, is_v1 in ((_BY_DEPLOYMENT, False), (_BY_BODY, False), (_V1, True)):
        if found := pattern.fullmatch(path):
            operation = Operation(found["op"])
            expected_method = "GET" if operation is Operation.MODELS else "POST"
            if method != expected_method:
                return None
            deployment = found.groupdict().get("deployment")
            return Target(operation=operation, deployment=deployment, is_v1=is_v1)
    return None


def parse_body(raw: bytes) -> JsonObject | None:
    """The body as a JSON object, or None when it is anything else."""
    try:
        body = json.loads(raw)
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def deployment_of(target: Target, body: Mapping[str, object]) -> str | None:
    """The deployment's name: from the path where it has one, else the body's `model`."""
    if target.deployment is not None:
        return target.deployment
    named = body.get("model")
    return named if isinstance(named, str) else None
