"""AMQP messages in an event hub: split on arrival, kept as received, annotated on delivery.

Only the header, the delivery annotations and the message annotations belong to the broker; every
other section is the sender's and is never decoded. Source: OASIS AMQP 1.0, part 3, section 3.2.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from local.eventhubs.codec import CodecError, Described, Symbol, Timestamp, Value
from local.eventhubs.codec import decode as decode_value
from local.eventhubs.codec import encode as encode_value
from local.eventhubs.codec import skip as skip_value

BATCH_FORMAT: Final = 0x80013700  # each data section holds one encoded message

HEADER: Final = 0x70
DELIVERY_ANNOTATIONS: Final = 0x71
MESSAGE_ANNOTATIONS: Final = 0x72
PROPERTIES: Final = 0x73
APPLICATION_PROPERTIES: Final = 0x74
DATA: Final = 0x75
VALUE: Final = 0x77

MAX_KEY_BYTES: Final = 0xFFFE
MAX_REMEMBERED_BYTES: Final = 256

_PARTITION_KEY: Final = Symbol("x-opt-partition-key")
_SEQUENCE_NUMBER: Final = Symbol("x-opt-sequence-number")
_OFFSET: Final = Symbol("x-opt-offset")
_ENQUEUED_TIME: Final = Symbol("x-opt-enqueued-time")
_BROKER_ANNOTATIONS: Final = (_PARTITION_KEY, _SEQUENCE_NUMBER, _OFFSET, _ENQUEUED_TIME)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One event as its sender gave it: encoded sections, and the key that chose its partition."""

    header: bytes
    annotations: bytes
    partition_key: str | None
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvent:
    """One event with the place and time the log gave it."""

    sequence_number: int
    offset: str
    enqueued_ms: int
    message: Message


@dataclass(frozen=True, slots=True, kw_only=True)
class LastEnqueued:
    """The newest event of a partition, reported to receivers that track it."""

    sequence_number: int
    offset: str
    enqueued_ms: int
    retrieved_ms: int


def split_delivery(payload: bytes, message_format: int) -> tuple[str | None, list[Message]]:
    """Return the key of a delivery and its messages. Raises `CodecError`.

    The key of a batch is its envelope's; a message inside without a key inherits it.
    """
    envelope = _split(payload, None)
    if message_format != BATCH_FORMAT:
        return envelope.partition_key, [envelope]
    key = envelope.partition_key
    inner = [data for code, data in read_sections(payload) if code == DATA]
    return key, [_split(_binary(data), key) for data in inner]


def annotate(event: StoredEvent, last: LastEnqueued | None) -> bytes:
    """Return the message to deliver: the sender's bytes with the broker's annotations."""
    message = event.message
    annotations: dict[Value, Value] = {
        _SEQUENCE_NUMBER: event.sequence_number,
        _OFFSET: event.offset,
        _ENQUEUED_TIME: Timestamp(event.enqueued_ms),
    }
    if message.partition_key is not None:
        annotations[_PARTITION_KEY] = message.partition_key
    if message.annotations:
        annotations.update(_mapping(message.annotations))
    return b"".join(
        (
            message.header,
            b"" if last is None else _runtime_section(last),
            section(MESSAGE_ANNOTATIONS, annotations),
            message.body,
        )
    )


def section(code: int, value: Value) -> bytes:
    """Return one encoded message section."""
    return bytes((0x00, 0x53, code)) + encode_value(value)


def read_sections(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield each section's code and its encoded value. Raises `CodecError`."""
    for code, _, value, end in _spans(message):
        yield code, message[value:end]


def _split(message: bytes, inherited_key: str | None) -> Message:
    header, annotations, key = b"", b"", inherited_key
    body: list[bytes] = []
    for code, start, value, end in _spans(message):
        if code == HEADER:
            header = message[start:end]
        elif code == MESSAGE_ANNOTATIONS:
            read = _read_annotations if end - value <= MAX_REMEMBERED_BYTES else _annotations
            key, annotations = read(message[value:end], inherited_key)
        elif code != DELIVERY_ANNOTATIONS:  # delivery annotations are for this hop only
            body.append(message[start:end])
    if len(header) > 0xFFFF:
        raise CodecError(f"header section of {len(header)} bytes, at most 65535 are kept")
    return Message(header=header, annotations=annotations, partition_key=key, body=b"".join(body))


def _annotations(encoded: bytes, inherited_key: str | None) -> tuple[str | None, bytes]:
    """The key in a sender's annotations, and those of them that are kept."""
    own = _mapping(encoded)
    key = _read_key(own.get(_PARTITION_KEY), inherited_key)
    for name in _BROKER_ANNOTATIONS:
        own.pop(name, None)
    return key, encode_value(own) if own else b""


# A sender's messages have few keys, and mostly nothing else here.
_read_annotations: Final = lru_cache(maxsize=1024)(_annotations)


def _spans(message: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Yield code, start, start of the value and end of every section."""
    position = 0
    while position < len(message):
        start = position
        if message[position : position + 2] == b"\x00\x53" and len(message) > position + 3:
            code, value = message[position + 2], position + 3
        else:
            code, value = _long_descriptor(message, position)
        if not HEADER <= code <= 0x78:
            raise CodecError(f"0x{code:02x} is no message section")
        position = skip_value(message, value)
        yield code, start, value, position


def _long_descriptor(message: bytes, position: int) -> tuple[int, int]:
    if message[position] != 0x00:
        raise CodecError(f"byte {position} begins no message section")
    code, end = decode_value(message, position + 1)
    if not isinstance(code, int):
        raise CodecError(f"section descriptor {code!r} is not a number")
    return code, end


def _mapping(encoded: bytes) -> dict[Value, Value]:
    value, _ = decode_value(encoded)
    if isinstance(value, dict):
        return value
    raise CodecError(f"annotations must be a map, got {type(value).__name__}")


def _binary(encoded: bytes) -> bytes:
    value, _ = decode_value(encoded)
    if isinstance(value, bytes):
        return value
    raise CodecError(f"a data section must hold binary, got {type(value).__name__}")


def _read_key(value: Value, inherited: str | None) -> str | None:
    if isinstance(value, Described) or value is None:
        return inherited
    key = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    if len(key.encode()) > MAX_KEY_BYTES:
        raise CodecError(f"partition key of {len(key)} characters is too long")
    return key


def _runtime_section(last: LastEnqueued) -> bytes:
    return section(
        DELIVERY_ANNOTATIONS,
        {
            Symbol("last_enqueued_sequence_number"): last.sequence_number,
            Symbol("last_enqueued_offset"): last.offset,
            Symbol("last_enqueued_time_utc"): Timestamp(last.enqueued_ms),
            Symbol("runtime_info_retrieval_time_utc"): Timestamp(last.retrieved_ms),
        },
    )
