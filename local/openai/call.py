"""The call in a request: operation, deployment, version and body, read once at the edge."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from local.openai.asked import NOTHING_ASKED, Asked

type JsonObject = dict[str, object]

_ON_DEPLOYMENTS = (
    "chat/completions|completions|embeddings"
    "|images/generations|images/edits|audio/transcriptions|audio/translations|audio/speech"
)
_BY_DEPLOYMENT = re.compile(rf"/openai/deployments/(?P<deployment>[^/]+)/(?P<op>{_ON_DEPLOYMENTS})")
_ON_ACCOUNTS = "responses(?:/compact|/input_tokens)?|models"
_BY_BODY = re.compile(rf"/openai/(?P<op>{_ON_ACCOUNTS})")
_V1 = re.compile(rf"/openai/v1/(?P<op>{_ON_DEPLOYMENTS}|{_ON_ACCOUNTS})")
_BY_ID = re.compile(r"/openai/(?P<v1>v1/)?responses/(?P<id>[^/]+)(?P<tail>/cancel|/input_items)?")


class Operation(StrEnum):
    """The operations of an account, named by the last part of their path."""

    CHAT = "chat/completions"
    COMPLETIONS = "completions"
    EMBEDDINGS = "embeddings"
    RESPONSES = "responses"
    COMPACT = "responses/compact"
    INPUT_TOKENS = "responses/input_tokens"
    IMAGE_GENERATIONS = "images/generations"
    IMAGE_EDITS = "images/edits"
    TRANSCRIPTIONS = "audio/transcriptions"
    TRANSLATIONS = "audio/translations"
    SPEECH = "audio/speech"
    MODELS = "models"


RESPONSE_OPERATIONS = frozenset({Operation.RESPONSES, Operation.COMPACT, Operation.INPUT_TOKENS})


class StoredOperation(StrEnum):
    """The operations on a stored response; they name no deployment and bill nothing."""

    GET = "responses/get"
    DELETE = "responses/delete"
    CANCEL = "responses/cancel"
    INPUT_ITEMS = "responses/input_items"


_STORED_OPERATIONS = {
    ("GET", None): StoredOperation.GET,
    ("DELETE", None): StoredOperation.DELETE,
    ("POST", "/cancel"): StoredOperation.CANCEL,
    ("GET", "/input_items"): StoredOperation.INPUT_ITEMS,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The parsed address: an operation, and in classic paths the deployment."""

    operation: Operation
    deployment: str | None
    is_v1: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTarget:
    """The address of a stored response, and the operation on it."""

    operation: StoredOperation
    response_id: str
    is_v1: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A file in a form: the field's name and the size in bytes, which alone decides the usage."""

    name: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """An accepted call: its deployment exists and its body is a JSON object or a form.

    `image_deployment` is that of the image tool, which Azure takes from a header.
    """

    operation: Operation
    deployment: str
    model: str
    body: JsonObject
    uploads: tuple[Upload, ...] = ()
    image_deployment: str | None = None
    asked: Asked = NOTHING_ASKED

    @property
    def is_streaming(self) -> bool:
        """True when the caller asked for server-sent events."""
        if self.operation is Operation.SPEECH:
            return self.body.get("stream_format") == "sse"
        return self.body.get("stream") is True

    @property
    def has_stream_options(self) -> bool:
        """True when the body has `stream_options`, of any value."""
        return "stream_options" in self.body

    @property
    def wants_usage_chunk(self) -> bool:
        """True when a streamed chat or completion must end with a usage chunk."""
        options = self.body.get("stream_options")
        return isinstance(options, dict) and options.get("include_usage") is True

    def has(self, name: str) -> bool:
        """True when the caller sent this field, as a value or as a file."""
        return name in self.body or any(upload.name == name for upload in self.uploads)


def parse_target(method: str, path: str) -> Target | StoredTarget | None:
    """The target of a request line, or None if an account has nothing at that address."""
    for pattern, is_v1 in ((_BY_DEPLOYMENT, False), (_BY_BODY, False), (_V1, True)):
        if found := pattern.fullmatch(path):
            operation = Operation(found["op"])
            expected_method = "GET" if operation is Operation.MODELS else "POST"
            if method != expected_method:
                return None
            deployment = found.groupdict().get("deployment")
            return Target(operation=operation, deployment=deployment, is_v1=is_v1)
    if found := _BY_ID.fullmatch(path):
        stored = _STORED_OPERATIONS.get((method, found["tail"]))
        if stored is not None:
            return StoredTarget(operation=stored, response_id=found["id"], is_v1=bool(found["v1"]))
    return None


def parse_body(raw: bytes) -> JsonObject | None:
    """The body as a JSON object, or None when it is anything else."""
    try:
        body = json.loads(raw)
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def deployment_of(target: Target, body: Mapping[str, object]) -> str | None:
    """The deployment's name: from the path if it has one, else the body's `model`."""
    if target.deployment is not None:
        return target.deployment
    named = body.get("model")
    return named if isinstance(named, str) else None
