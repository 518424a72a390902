"""Reads a request line: which operation is called, for which deployment, in which URL style.

Deny by default: a raw path that is not exactly one of the known forms is refused, so nothing
encoded, doubled or dotted can reach a backend. The upstream path is built anew from the parts.

| operation        | classic                                      | v1                          |
|------------------|----------------------------------------------|-----------------------------|
| chat/completions | /openai/deployments/{d}/chat/completions     | /openai/v1/chat/completions |
| completions      | /openai/deployments/{d}/completions          | /openai/v1/completions      |
| embeddings       | /openai/deployments/{d}/embeddings           | /openai/v1/embeddings       |
| responses        | /openai/responses                            | /openai/v1/responses        |
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import parse_qsl

from meter.errors import BadRequest, NotServed


class Operation(StrEnum):
    """The AOAI operations that are relayed."""

    CHAT_COMPLETIONS = "chat/completions"
    COMPLETIONS = "completions"
    EMBEDDINGS = "embeddings"
    RESPONSES = "responses"

    @property
    def takes_stream_options(self) -> bool:
        """Whether a streamed call reports usage only when `stream_options.include_usage` asks for it."""
        return self in {Operation.CHAT_COMPLETIONS, Operation.COMPLETIONS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A known request line. `deployment` is None where the body's `model` names it."""

    operation: Operation
    deployment: str | None
    api_version: str | None
    v1: bool
    query: str

    def upstream_path(self, deployment: str) -> str:
        """The path and query to ask a backend for, with that backend's deployment name."""
        if self.v1:
            path = f"/openai/v1/{self.operation}"
        elif self.deployment is None:
            path = f"/openai/{self.operation}"
        else:
            path = f"/openai/deployments/{deployment}/{self.operation}"
        return f"{path}?{self.query}" if self.query else path


def parse_route(method: str, raw_path: str, query: str) -> Route:
    """Decide what is called. Raises NotServed (404) or BadRequest (405, or 400 for the query)."""
    match = _PATH.fullmatch(raw_path)
    if match is None:
        raise NotServed(
            "Resource not found. Served are chat/completions, completions, embeddings and "
            "responses under /openai/deployments/{deployment}/, /openai/ and /openai/v1/."
        )
    if method != "POST":
        raise BadRequest("This operation accepts POST only.", code="MethodNotAllowed", status=405)
    if not _QUERY.fullmatch(query):
        raise BadRequest("The query string holds characters that are not allowed.")
    operation = match["deployed"] or match["v1"] or match["shared"]
    api_versions = [value for name, value in parse_qsl(query) if name == "api-version"]
    return Route(
        operation=Operation(operation),
        deployment=match["deployment"],
        api_version=api_versions[0][:64] if api_versions else None,
        v1=match["v1"] is not None,
        query=query,
    )


def is_deployment_name(name: object) -> bool:
    """Whether a value can name a deployment at all."""
    return isinstance(name, str) and _DEPLOYMENT.fullmatch(name) is not None


_DEPLOYMENT = re.compile(r"(?=.*[A-Za-z0-9])[A-Za-z0-9._-]{1,64}", re.ASCII)
_PATH = re.compile(
    r"/openai/(?:"
    r"deployments/(?P<deployment>(?=[^/]*[A-Za-z0-9])[A-Za-z0-9._-]{1,64})"
    r"/(?P<deployed>chat/completions|completions|embeddings)"
    r"|v1/(?P<v1>chat/completions|completions|embeddings|responses)"
    r"|(?P<shared>responses))",
    re.ASCII,
)
_QUERY = re.compile(r"[A-Za-z0-9._~:/?@!$&'()*+,;=%\[\]-]{0,2048}", re.ASCII)
