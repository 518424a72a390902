"""AMQP 1.0 performatives: the peer's input, parsed once into values.

Source: OASIS AMQP 1.0, part 2 (transport), section 2.7, and part 5 (security), section 5.3.3.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from local.eventhubs.codec import Array, Described, Value
from local.eventhubs.codec import decode as decode_value

_MIXED: Final = 2  # the default of snd-settle-mode: settled or unsettled, per delivery


class Condition(StrEnum):
    """The error conditions of AMQP and of Event Hubs."""

    ARGUMENT_ERROR = "com.microsoft:argument-error"
    ARGUMENT_OUT_OF_RANGE = "com.microsoft:argument-out-of-range"
    CONNECTION_FORCED = "amqp:connection:forced"
    DECODE_ERROR = "amqp:decode-error"
    FRAMING_ERROR = "amqp:connection:framing-error"
    HANDLE_IN_USE = "amqp:session:handle-in-use"
    INTERNAL_ERROR = "amqp:internal-error"
    INVALID_FIELD = "amqp:invalid-field"
    LINK_STOLEN = "amqp:link:stolen"
    MESSAGE_SIZE_EXCEEDED = "amqp:link:message-size-exceeded"
    NOT_ALLOWED = "amqp:not-allowed"
    NOT_FOUND = "amqp:not-found"
    RESOURCE_LIMIT_EXCEEDED = "amqp:resource-limit-exceeded"
    SERVER_BUSY = "com.microsoft:server-busy"
    UNATTACHED_HANDLE = "amqp:session:unattached-handle"
    UNAUTHORIZED = "amqp:unauthorized-access"


@dataclass(frozen=True, slots=True)
class Refusal:
    """An AMQP error: a condition for programs and a description for people."""

    condition: Condition
    description: str


class ProtocolError(Exception):
    """The peer violated the protocol; the connection cannot continue."""

    def __init__(self, condition: Condition, description: str) -> None:
        super().__init__(f"{condition}: {description}")
        self.refusal = Refusal(condition, description)


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """The peer's limits for the connection; times in milliseconds, 0 is "none"."""

    max_frame_bytes: int
    idle_timeout_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Begin:
    """The peer starts a session."""

    next_outgoing_id: int
    incoming_window: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Attach:
    """The peer attaches a link. `source` and `target` stay as sent, to be echoed."""

    name: str
    handle: int
    peer_receives: bool
    sender_settle_mode: int
    source: Value
    target: Value
    desired_capabilities: tuple[str, ...]
    properties: dict[Value, Value]


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """The peer's windows, and one link's credit when `handle` is given."""

    next_incoming_id: int | None
    incoming_window: int
    handle: int | None
    delivery_count: int | None
    link_credit: int
    drain: bool
    echo: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """One frame of a delivery."""

    handle: int
    delivery_id: int | None
    message_format: int
    settled: bool
    more: bool
    aborted: bool
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Disposition:
    """The peer's verdict on deliveries. Deliveries are sent settled, so it is ignored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Detach:
    """The peer detaches a link."""

    handle: int


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """The peer ends the session."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Close:
    """The peer ends the connection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SaslInit:
    """The peer chooses a SASL mechanism."""

    mechanism: str
    initial_response: bytes


# A transfer that is a whole delivery, unsettled, as the Python SDK writes it: nearly all frames are one, and
# this reads them in a third of the instructions. Handle, id, tag, format 0, two booleans, and nulls.
_UINT: Final = rb"(C|R.|p.{4})"
_WHOLE_DELIVERY: Final = re.compile(
    rb"\0S\x14\xc0.\x0b" + _UINT + _UINT + rb"\xa0\x04.{4}CV\0V\0@{5}", re.DOTALL
)

type Performative = (
    Open | Begin | Attach | Flow | Transfer | Disposition | Detach | End | Close | SaslInit
)


def read_performative(body: bytes) -> Performative:
    """Parse the body of a frame. Raises `ProtocolError` and `CodecError`."""
    found = _WHOLE_DELIVERY.match(body)
    if found is not None and found.end() == 5 + body[4]:  # the list's declared end
        handle, delivery_id = found.groups()
        return Transfer(
            handle=_number(handle),
            delivery_id=_number(delivery_id),
            message_format=0,
            settled=False,
            more=False,
            aborted=False,
            payload=body[found.end() :],
        )
    described, end = decode_value(body)
    if not isinstance(described, Described) or not isinstance(described.value, list):
        raise ProtocolError(Condition.DECODE_ERROR, "a frame body must be a described list")
    descriptor = described.descriptor
    reader = _READERS.get(descriptor) if isinstance(descriptor, int) else None
    if reader is None:
        raise ProtocolError(Condition.DECODE_ERROR, f"unknown performative {descriptor!r}")
    return reader(_Fields(described.value), body[end:])


def _number(encoded: bytes) -> int:
    """Of a uint in any of its forms: 0 without bytes, else one or four after their constructor."""
    return int.from_bytes(encoded[1:])


class _Fields:
    """The fields of one performative, read by position; absent ones are null."""

    def __init__(self, values: list[Value]) -> None:
        self._values = values

    def raw(self, index: int) -> Value:
        return self._values[index] if index < len(self._values) else None

    def number(self, index: int, default: int | None = None) -> int:
        value = self.optional_number(index)
        if value is not None:
            return value
        if default is None:
            raise ProtocolError(Condition.INVALID_FIELD, f"field {index} must not be null")
        return default

    def optional_number(self, index: int) -> int | None:
        value = self.raw(index)
        if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
            return value
        raise ProtocolError(Condition.INVALID_FIELD, f"field {index} must be a number")

    def flag(self, index: int) -> bool:
        value = self.raw(index)
        if value is None or isinstance(value, bool):
            return bool(value)
        raise ProtocolError(Condition.INVALID_FIELD, f"field {index} must be a boolean")

    def text(self, index: int) -> str:
        value = self.raw(index)
        if isinstance(value, str):
            return value
        raise ProtocolError(Condition.INVALID_FIELD, f"field {index} must be a string")

    def symbols(self, index: int) -> tuple[str, ...]:
        value = self.raw(index)
        items: Sequence[Value] = value.items if isinstance(value, Array) else [value]
        return tuple(item for item in items if isinstance(item, str))


def _read_open(fields: _Fields, _: bytes) -> Open:
    return Open(max_frame_bytes=fields.number(2, 0xFFFFFFFF), idle_timeout_ms=fields.number(4, 0))


def _read_begin(fields: _Fields, _: bytes) -> Begin:
    return Begin(next_outgoing_id=fields.number(1), incoming_window=fields.number(2))


def _read_attach(fields: _Fields, _: bytes) -> Attach:
    properties = fields.raw(13)
    return Attach(
        name=fields.text(0),
        handle=fields.number(1),
        peer_receives=fields.flag(2),
        sender_settle_mode=fields.number(3, _MIXED),
        source=fields.raw(5),
        target=fields.raw(6),
        desired_capabilities=fields.symbols(12),
        properties=properties if isinstance(properties, dict) else {},
    )


def _read_flow(fields: _Fields, _: bytes) -> Flow:
    return Flow(
        next_incoming_id=fields.optional_number(0),
        incoming_window=fields.number(1),
        handle=fields.optional_number(4),
        delivery_count=fields.optional_number(5),
        link_credit=fields.number(6, 0),
        drain=fields.flag(8),
        echo=fields.flag(9),
    )


def _read_transfer(fields: _Fields, payload: bytes) -> Transfer:
    return Transfer(
        handle=fields.number(0),
        delivery_id=fields.optional_number(1),
        message_format=fields.number(3, 0),
        settled=fields.flag(4),
        more=fields.flag(5),
        aborted=fields.flag(9),
        payload=payload,
    )


def _read_sasl_init(fields: _Fields, _: bytes) -> SaslInit:
    response = fields.raw(1)
    return SaslInit(
        mechanism=fields.text(0),
        initial_response=response if isinstance(response, bytes) else b"",
    )


_READERS: Final[dict[int, Callable[[_Fields, bytes], Performative]]] = {
    0x10: _read_open,
    0x11: _read_begin,
    0x12: _read_attach,
    0x13: _read_flow,
    0x14: _read_transfer,
    0x15: lambda _, __: Disposition(),
    0x16: lambda fields, _: Detach(handle=fields.number(0)),
    0x17: lambda _, __: End(),
    0x18: lambda _, __: Close(),
    0x41: _read_sasl_init,
}
