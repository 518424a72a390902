"""The messages between host and worker, as plain objects in place of protobuf's.

The runtime builds them through an injected `protos` object and reads back a few fields, found by
reading azure-functions-runtime 1.3.0. The field names are those of FunctionRpc.proto
(azure-functions-language-worker-protobuf).
"""

import json
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any


class Message(SimpleNamespace):
    """A message of any kind: its fields as attributes."""

    # Constants that the runtime reads from message classes that it builds or compares.
    Success = 1
    Failure = 0
    out = 1
    inout = 2


class Protos:
    """Stands for the generated protobuf module: every message class is `Message`."""

    def __getattr__(self, name: str) -> type[Message]:
        return Message


class TypedData:
    """A value of one kind: `string`, `json`, `bytes`, `collection_bytes`, `http` or none."""

    def __init__(self, **value: Any) -> None:
        self._kind = next(iter(value), None)
        self.__dict__.update(value)

    def WhichOneof(self, _group: str) -> str | None:  # noqa: N802  # protobuf's name
        """The kind that is set."""
        return self._kind


class ParameterBinding:
    """A function's argument by name."""

    def __init__(self, name: str, data: TypedData) -> None:
        self.name = name
        self.data = data

    def WhichOneof(self, _group: str) -> str:  # noqa: N802  # protobuf's name
        """The value always travels as data, never through shared memory."""
        return "data"


def json_value(value: object) -> TypedData:
    """A value as JSON."""
    return TypedData(json=json.dumps(value))


def bytes_values(values: Sequence[bytes]) -> TypedData:
    """Several byte strings."""
    return TypedData(collection_bytes=Message(bytes=values))


def http_value(method: str, url: str, params: Mapping[str, str]) -> TypedData:
    """An HTTP request without its body, which is forwarded to the worker's own port."""
    request = Message(method=method, url=url, headers={}, body=TypedData(), params=params, query={})
    return TypedData(http=request)


def worker_request(kind: str, fields: Mapping[str, object], *, host: str = "") -> Message:
    """A request to the worker, wrapped as by the proxy worker."""
    properties = {"host": host, "protos": Protos()}
    return Message(request=Message(**{kind: Message(**fields)}), properties=properties)
