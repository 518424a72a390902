"""AMQP 1.0 frames: the endpoint's output, as bytes.

Lists always carry every field: the Azure SDK indexes into them and fails on a list without its
trailing nulls. Source: OASIS AMQP 1.0, part 2 (transport), sections 2.3 and 2.7.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from local.eventhubs.codec import Array, Described, Symbol, UByte, UInt, ULong, UShort, Value
from local.eventhubs.codec import encode as encode_value
from local.eventhubs.performatives import Attach, Refusal

AMQP_HEADER: Final = b"AMQP\x00\x01\x00\x00"
SASL_HEADER: Final = b"AMQP\x03\x01\x00\x00"
EMPTY_FRAME: Final = b"\x00\x00\x00\x08\x02\x00\x00\x00"

FRAME_HEADER: Final = struct.Struct(">IBBH")
MAX_FRAME_BYTES: Final = 65536
MIN_MAX_FRAME_BYTES: Final = 512
MAX_MESSAGE_BYTES: Final = 1_048_576
CHANNEL_MAX: Final = 1023
HANDLE_MAX: Final = 255
TAGS: Final = 256
MAX_UINT: Final = 0xFFFFFFFF

# An upper bound for the encoded fields of a transfer.
TRANSFER_OVERHEAD_BYTES: Final = 64

# The answer to nearly every delivery, whose number is written in four bytes.
_ACCEPTED: Final = struct.Struct(">7scIcI6s")
_SYMBOL8: Final = 0xA3
_SETTLED: Final = 1  # snd-settle-mode of every link on which this side sends
_AMQP, _SASL = 0, 1


def frame(channel: int, body: bytes) -> bytes:
    """Return one AMQP frame."""
    return FRAME_HEADER.pack(FRAME_HEADER.size + len(body), 2, _AMQP, channel) + body


def sasl_mechanisms(names: Sequence[str]) -> bytes:
    """Return the frame that offers the SASL mechanisms."""
    mechanisms = Array(_SYMBOL8, tuple(Symbol(name) for name in names))
    return _sasl_frame(_list(0x40, [mechanisms]))


def sasl_outcome(*, accepted: bool) -> bytes:
    """Return the frame that ends the SASL exchange."""
    return _sasl_frame(_list(0x44, [UByte(0 if accepted else 1), None]))


def open_body(container_id: str, idle_timeout_ms: int) -> bytes:
    """Return an open with this endpoint's limits."""
    limits: list[Value] = [UInt(MAX_FRAME_BYTES), UShort(CHANNEL_MAX), UInt(idle_timeout_ms)]
    return _list(0x10, [container_id, None, *limits, *_nulls(5)])


def begin_body(remote_channel: int, incoming_window: int, outgoing_window: int) -> bytes:
    """Return the answer to a begin; the first transfer will have id 0."""
    windows: list[Value] = [UInt(0), UInt(incoming_window), UInt(outgoing_window)]
    return _list(0x11, [UShort(remote_channel), *windows, UInt(HANDLE_MAX), *_nulls(3)])


def attach_body(
    attach: Attach, offered_capabilities: Sequence[str] = (), *, refused: bool = False
) -> bytes:
    """Return the answer to an attach: the other role, the same name, handle and addresses.

    This side's terminus of a refused link is null, which announces the detach with the reason (AMQP
    part 2, section 2.6.3): .NET's SDK would take the link for open and report nothing. A sending
    peer's settle mode is echoed: .NET's SDK goes by the answer, and one that denies `settled` makes
    its requests collide.
    """
    has_source = not (refused and attach.peer_receives)
    has_target = not refused or attach.peer_receives
    offered = Array(_SYMBOL8, tuple(Symbol(name) for name in offered_capabilities))
    return _list(
        0x12,
        [
            attach.name,
            UInt(attach.handle),
            not attach.peer_receives,
            UByte(_SETTLED if attach.peer_receives else attach.sender_settle_mode),
            UByte(0),
            attach.source if has_source else None,
            attach.target if has_target else None,
            None,
            None,
            UInt(0) if attach.peer_receives else None,
            ULong(MAX_MESSAGE_BYTES),
            offered if offered_capabilities else None,
            None,
            None,
        ],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionWindow:
    """This side's transfer counters, sent with every flow."""

    next_incoming_id: int
    incoming_window: int
    next_outgoing_id: int
    outgoing_window: int


def flow_body(
    window: SessionWindow, *, handle: int, delivery_count: int, credit: int, drain: bool = False
) -> bytes:
    """Return a flow for one link."""
    counters: list[Value] = [
        UInt(window.next_incoming_id),
        UInt(window.incoming_window),
        UInt(window.next_outgoing_id),
        UInt(window.outgoing_window),
    ]
    link: list[Value] = [UInt(handle), UInt(delivery_count), UInt(credit), UInt(0)]
    return _list(0x13, [*counters, *link, drain, False, None])


def transfer_body(handle: int, delivery_id: int, payload: bytes, *, more: bool) -> bytes:
    """Return one settled transfer.

    Tags name deliveries that are not settled (AMQP 1.0, 2.6.12), so these may have the same few again: the
    SDK's receivers keep every tag that they have met.
    """
    tag = (delivery_id % TAGS).to_bytes(4)
    identity: list[Value] = [UInt(handle), UInt(delivery_id), tag, UInt(0)]
    return _list(0x14, [*identity, True, more, *_nulls(5)]) + payload


def disposition_body(delivery_id: int, refusal: Refusal | None) -> bytes:
    """Return the settled verdict of the receiving side: accepted, or rejected with the reason."""
    if refusal is None and delivery_id <= MAX_UINT:
        return _ACCEPTED.pack(
            b"\0S\x15\xc0\x12\x06A", b"p", delivery_id, b"p", delivery_id, b"A\0S$EB"
        )
    state = _described(0x24, []) if refusal is None else _described(0x25, [_error(refusal)])
    return _list(0x15, [True, UInt(delivery_id), UInt(delivery_id), True, state, False])


def detach_body(handle: int, refusal: Refusal | None = None) -> bytes:
    """Return a closing detach."""
    return _list(0x16, [UInt(handle), True, _error(refusal)])


def end_body(refusal: Refusal | None = None) -> bytes:
    """Return an end, which closes a session."""
    return _list(0x17, [_error(refusal)])


def close_body(refusal: Refusal | None = None) -> bytes:
    """Return a close, which closes a connection."""
    return _list(0x18, [_error(refusal)])


def _described(code: int, fields: list[Value]) -> Described:
    return Described(ULong(code), fields)


def _list(code: int, fields: list[Value]) -> bytes:
    return encode_value(_described(code, fields))


def _nulls(count: int) -> list[Value]:
    return [None] * count


def _error(refusal: Refusal | None) -> Value:
    if refusal is None:
        return None
    return _described(0x1D, [Symbol(refusal.condition), refusal.description, None])


def _sasl_frame(body: bytes) -> bytes:
    return FRAME_HEADER.pack(FRAME_HEADER.size + len(body), 2, _SASL, 0) + body
