"""The two request nodes: `$cbs` takes tokens, `$management` describes hubs and partitions.

A request is one AMQP message; its answer carries the request's message id as correlation id, and
the status in the application properties. Source: AMQP management 1.0 and claims based security.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from local.eventhubs.addresses import no_partition, not_found
from local.eventhubs.broker import Broker, Hub, Partition
from local.eventhubs.codec import Array, CodecError, Int, Timestamp, Value
from local.eventhubs.codec import decode as decode_value
from local.eventhubs.message import (
    APPLICATION_PROPERTIES,
    DATA,
    PROPERTIES,
    VALUE,
    read_sections,
    section,
)
from local.eventhubs.tokens import TokenCheck

# Year 1: the service's value for "nothing was enqueued yet".
NEVER_MS: Final = -62_135_596_800_000

_STRING8: Final = 0xA1
_PROPERTY_COUNT: Final = 13
_CORRELATION_ID: Final = 5
_REPLY_TO: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request message, as far as the nodes read it."""

    message_id: Value
    reply_to: str | None
    properties: dict[Value, Value]
    value: Value

    def text(self, name: str) -> str:
        """Return an application property as text; empty when absent."""
        value = self.properties.get(name)
        return value.decode(errors="replace") if isinstance(value, bytes) else str(value or "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An HTTP-like status and the body of the answer."""

    status: int
    description: str
    value: Value = None


type Node = Callable[[Request], Answer]


def read_request(payload: bytes) -> Request:
    """Parse a request message. Raises `CodecError`."""
    sections = {code: decode_value(encoded)[0] for code, encoded in read_sections(payload)}
    properties = sections.get(PROPERTIES)
    fields = properties if isinstance(properties, list) else []
    application = sections.get(APPLICATION_PROPERTIES)
    if not isinstance(application, dict):
        raise CodecError("a request must carry application properties")
    reply_to = fields[_REPLY_TO] if len(fields) > _REPLY_TO else None
    return Request(
        message_id=fields[0] if fields else None,
        reply_to=reply_to if isinstance(reply_to, str) else None,
        properties=application,
        value=sections.get(VALUE, sections.get(DATA)),
    )


def encode_answer(request: Request, answer: Answer) -> bytes:
    """Return the message that answers the request."""
    properties: list[Value] = [None] * _PROPERTY_COUNT
    properties[_CORRELATION_ID] = request.message_id
    status: dict[Value, Value] = {
        "status-code": Int(answer.status),
        "status-description": answer.description,
    }
    return (
        section(PROPERTIES, properties)
        + section(APPLICATION_PROPERTIES, status)
        + section(VALUE, answer.value)
    )


def put_token(request: Request, tokens: TokenCheck) -> Answer:
    """Check a token: 202 when it is valid, 401 when it is not."""
    if request.text("operation") != "put-token" or not isinstance(request.value, str):
        return Answer(status=400, description="expected put-token with the token as text")
    fault = tokens.find_fault(request.value)
    if fault is None:
        return Answer(status=202, description="Accepted")
    return _unauthorized(fault)


def find_denial(request: Request, tokens: TokenCheck, *, is_granted: bool) -> Answer | None:
    """Return 401 unless the request's own token is valid or, without one, access was granted.

    .NET's SDK puts no token to `$cbs` for `$management`: each of its requests carries one.
    """
    token = request.text("security_token")
    if token:
        fault = tokens.find_fault(token)
    else:
        fault = None if is_granted else "put a token to $cbs, or send one as security_token"
    return None if fault is None else _unauthorized(fault)


def read_entity(request: Request, broker: Broker) -> Answer:
    """Describe a hub or one of its partitions: 200, or 404 or 400 when it does not exist."""
    if request.text("operation") != "READ":
        return Answer(status=400, description=f"unknown operation {request.text('operation')!r}")
    hub = broker.hub(request.text("name"))
    if hub is None:
        return Answer(status=404, description=not_found(request.text("name")).description)
    match request.text("type"):
        case "com.microsoft:eventhub":
            return Answer(status=200, description="OK", value=_describe_hub(hub))
        case "com.microsoft:partition":
            partition = hub.partitions.get(request.text("partition"))
            if partition is None:
                missing = no_partition(hub, request.text("partition"))
                return Answer(status=400, description=missing.description)
            description = _describe_partition(hub, partition)
            return Answer(status=200, description="OK", value=description)
        case other:
            return Answer(status=400, description=f"unknown entity type {other!r}")


def _unauthorized(fault: str) -> Answer:
    return Answer(status=401, description=f"InvalidSignature: {fault}")


def _describe_hub(hub: Hub) -> dict[Value, Value]:
    return {
        "name": hub.name,
        "type": "com.microsoft:eventhub",
        "created_at": Timestamp(hub.created_ms),
        "partition_count": Int(len(hub.partitions)),
        "partition_ids": Array(_STRING8, tuple(hub.partitions)),
    }


def _describe_partition(hub: Hub, partition: Partition) -> dict[Value, Value]:
    last = partition.last_enqueued()
    return {
        "name": hub.name,
        "type": "com.microsoft:partition",
        "partition": partition.partition_id,
        "begin_sequence_number": 0,
        "last_enqueued_sequence_number": last.sequence_number if last else -1,
        "last_enqueued_offset": last.offset if last else "-1",
        "last_enqueued_time_utc": Timestamp(last.enqueued_ms if last else NEVER_MS),
        "is_partition_empty": last is None,
    }
