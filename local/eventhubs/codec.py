"""AMQP 1.0 types: bytes to typed Python values and back, so that an echo equals what was sent.

Each AMQP integer width has its own `int` subclass (a plain `int` is a `long`); symbols are
`Symbol`, strings are `str`. Types that this endpoint only passes through (decimals, arrays of compounds)
stay raw in `Opaque`. Source: OASIS AMQP 1.0, part 1 (types), section 1.6.
"""

import struct
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

MAX_DEPTH: Final = 32  # deeper nesting is an attack on the stack, not a message


class CodecError(ValueError):
    """The bytes are not AMQP, or the value has no AMQP type."""


class Symbol(str):
    """A symbolic name from a constrained domain."""

    __slots__ = ()


class UByte(int):
    """An 8 bit unsigned integer."""


class UShort(int):
    """A 16 bit unsigned integer."""


class UInt(int):
    """A 32 bit unsigned integer."""


class ULong(int):
    """A 64 bit unsigned integer."""


class Byte(int):
    """An 8 bit signed integer."""


class Short(int):
    """A 16 bit signed integer."""


class Int(int):
    """A 32 bit signed integer."""


class Char(int):
    """One Unicode code point."""


class Timestamp(int):
    """Milliseconds since the Unix epoch."""


class Float(float):
    """A 32 bit binary floating point number."""


@dataclass(frozen=True, slots=True)
class Described:
    """A value with the descriptor that gives it meaning."""

    descriptor: "Value"
    value: "Value"


@dataclass(frozen=True, slots=True)
class Array:
    """Values of one primitive type, sharing one constructor."""

    constructor: int
    items: tuple["Value", ...]


@dataclass(frozen=True, slots=True)
class Opaque:
    """An encoded value that is passed through unread."""

    constructor: int
    raw: bytes


type Value = (
    bool
    | int
    | float
    | str
    | bytes
    | uuid.UUID
    | list[Value]
    | dict[Value, Value]
    | Described
    | Array
    | Opaque
    | None
)

_CONSTANTS: Final[dict[int, Value]] = {
    0x40: None,
    0x41: True,
    0x42: False,
    0x43: UInt(0),
    0x44: ULong(0),
}
_FIXED: Final[dict[int, tuple[struct.Struct, Callable[..., Value]]]] = {
    0x50: (struct.Struct(">B"), UByte),
    0x51: (struct.Struct(">b"), Byte),
    0x52: (struct.Struct(">B"), UInt),
    0x53: (struct.Struct(">B"), ULong),
    0x54: (struct.Struct(">b"), Int),
    0x55: (struct.Struct(">b"), int),
    0x56: (struct.Struct(">?"), bool),
    0x60: (struct.Struct(">H"), UShort),
    0x61: (struct.Struct(">h"), Short),
    0x70: (struct.Struct(">I"), UInt),
    0x71: (struct.Struct(">i"), Int),
    0x72: (struct.Struct(">f"), Float),
    0x73: (struct.Struct(">I"), Char),
    0x80: (struct.Struct(">Q"), ULong),
    0x81: (struct.Struct(">q"), int),
    0x82: (struct.Struct(">d"), float),
    0x83: (struct.Struct(">q"), Timestamp),
    0x98: (struct.Struct(">16s"), lambda raw: uuid.UUID(bytes=raw)),
}
_VARIABLE: Final[dict[int, Callable[[bytes], Value]]] = {
    0xA0: bytes,
    0xA1: lambda raw: raw.decode(),
    0xA3: lambda raw: Symbol(raw.decode()),
    0xB0: bytes,
    0xB1: lambda raw: raw.decode(),
    0xB3: lambda raw: Symbol(raw.decode()),
}
_FIXED_WIDTHS: Final = {0x4: 0, 0x5: 1, 0x6: 2, 0x7: 4, 0x8: 8, 0x9: 16}
_U32: Final = struct.Struct(">I")


def decode(buffer: bytes, position: int = 0) -> tuple[Value, int]:
    """Return the value at `position` and the position after it. Raises `CodecError`."""
    try:
        return _decode(buffer, position, MAX_DEPTH)
    except (IndexError, struct.error, UnicodeDecodeError, TypeError) as exc:
        raise CodecError(f"not an AMQP value at byte {position}: {exc}") from exc


def skip(buffer: bytes, position: int) -> int:
    """Return the position after the value at `position` without reading it. Raises `CodecError`."""
    try:
        end = _skip(buffer, position)
    except (IndexError, struct.error) as exc:
        raise CodecError(f"value at byte {position} is cut off") from exc
    if end > len(buffer):
        raise CodecError(f"value at byte {position} ends {end - len(buffer)} bytes too late")
    return end


def encode(value: Value) -> bytes:
    """Return the shortest AMQP encoding of `value`. Raises `CodecError` for another type."""
    encoder = _ENCODERS.get(type(value))
    if encoder is None:
        raise CodecError(f"no AMQP type for {type(value).__name__}")
    try:
        return encoder(value)
    except struct.error as exc:
        raise CodecError(f"{value!r} is out of range for {type(value).__name__}") from exc


def _decode(buffer: bytes, position: int, depth: int) -> tuple[Value, int]:
    constructor = buffer[position]
    read = _SCALARS[constructor]
    if read is not None:
        return read(buffer, position + 1)
    if depth == 0:
        raise CodecError(f"values nest deeper than {MAX_DEPTH}")
    return _decode_nested(buffer, position + 1, constructor, depth - 1)


def _decode_nested(buffer: bytes, position: int, constructor: int, depth: int) -> tuple[Value, int]:
    match constructor:
        case 0x00:
            descriptor, position = _decode(buffer, position, depth)
            value, position = _decode(buffer, position, depth)
            return Described(descriptor, value), position
        case 0x45:
            return [], position
        case 0xC0 | 0xD0:
            return _decode_list(buffer, position, constructor, depth)
        case 0xC1 | 0xD1:
            items, position = _decode_list(buffer, position, constructor, depth)
            if len(items) % 2:
                raise CodecError("a map holds an odd number of values")
            return dict(zip(items[::2], items[1::2], strict=True)), position
        case 0xE0 | 0xF0:
            return _decode_array(buffer, position, constructor)
        case 0x74 | 0x84 | 0x94:
            end = position + _FIXED_WIDTHS[constructor >> 4]
            return Opaque(constructor, _exactly(buffer, position, end)), end
        case _:
            raise CodecError(f"unknown constructor 0x{constructor:02x}")


def _decode_list(
    buffer: bytes, position: int, constructor: int, depth: int
) -> tuple[list[Value], int]:
    start, end = _span(buffer, position, constructor)
    count, start = _count(buffer, start, constructor)
    items: list[Value] = []
    for _ in range(count):
        if start >= end:
            raise CodecError(f"a compound declares {count} values and holds {len(items)}")
        read = _SCALARS[buffer[start]]
        if read is not None:  # without a further call: most items are one
            item, start = read(buffer, start + 1)
        else:
            item, start = _decode(buffer, start, depth)
        items.append(item)
    if start != end:
        raise CodecError("a compound's size and its values disagree")
    return items, end


def _decode_array(buffer: bytes, position: int, constructor: int) -> tuple[Value, int]:
    start, end = _span(buffer, position, constructor)
    count, inner_start = _count(buffer, start, constructor)
    element = buffer[inner_start]
    if element not in _FIXED and element not in _VARIABLE:
        return Opaque(constructor, buffer[position:end]), end
    inner_start += 1
    items: list[Value] = []
    for _ in range(count):
        if inner_start >= end:
            raise CodecError(f"an array declares {count} values and holds {len(items)}")
        # The element constructor is encoded once, before the first element, and applies to all.
        if element in _FIXED:
            pack, kind = _FIXED[element]
            items.append(kind(pack.unpack_from(buffer, inner_start)[0]))
            inner_start += pack.size
        else:
            first, inner_start = _span(buffer, inner_start, element)
            items.append(_VARIABLE[element](buffer[first:inner_start]))
    return Array(element, tuple(items)), end


def _span(buffer: bytes, position: int, constructor: int) -> tuple[int, int]:
    """Return where the bytes counted by a one or four byte length begin and end."""
    if (constructor >> 4) in (0xA, 0xC, 0xE):
        start, length = position + 1, buffer[position]
    else:
        start, length = position + 4, _U32.unpack_from(buffer, position)[0]
    if start + length > len(buffer):
        raise CodecError(f"a value of {length} bytes is cut off")
    return start, start + length


def _count(buffer: bytes, start: int, constructor: int) -> tuple[int, int]:
    if (constructor >> 4) in (0xC, 0xE):
        return buffer[start], start + 1
    return _U32.unpack_from(buffer, start)[0], start + 4


def _exactly(buffer: bytes, start: int, end: int) -> bytes:
    if end > len(buffer):
        raise CodecError("a fixed width value is cut off")
    return buffer[start:end]


def _skip(buffer: bytes, position: int) -> int:
    constructor = buffer[position]
    depth = MAX_DEPTH
    while constructor == 0x00:
        if depth == 0:
            raise CodecError(f"descriptors nest deeper than {MAX_DEPTH}")
        depth -= 1
        descriptor = position + 1
        if buffer[descriptor] == 0x00:
            raise CodecError("a descriptor is itself described")
        position = _skip(buffer, descriptor)
        constructor = buffer[position]
    category = constructor >> 4
    if category in _FIXED_WIDTHS:
        return position + 1 + _FIXED_WIDTHS[category]
    if category in (0xA, 0xC, 0xE):
        return position + 2 + buffer[position + 1]
    if category in (0xB, 0xD, 0xF):
        return position + 5 + int(_U32.unpack_from(buffer, position + 1)[0])
    raise CodecError(f"unknown constructor 0x{constructor:02x}")


def _scalar(constructor: int) -> Callable[[bytes, int], tuple[Value, int]] | None:
    """What reads a value of this constructor, of whose bytes the first is at a position."""
    if constructor in _CONSTANTS:
        constant = _CONSTANTS[constructor]
        return lambda _, position: (constant, position)
    if constructor in _FIXED:
        pack, kind = _FIXED[constructor]
        unpack, size = pack.unpack_from, pack.size
        return lambda buffer, position: (kind(unpack(buffer, position)[0]), position + size)
    if constructor in _VARIABLE:
        read = _VARIABLE[constructor]

        def variable(buffer: bytes, position: int) -> tuple[Value, int]:
            start, end = _span(buffer, position, constructor)
            return read(buffer[start:end]), end

        return variable
    return None


_SCALARS: Final = [_scalar(constructor) for constructor in range(0x100)]


def _fixed(constructor: int) -> Callable[[Value], bytes]:
    prefix, pack = bytes([constructor]), _FIXED[constructor][0].pack
    return lambda value: prefix + pack(value)


def _small_or(small: int, large: int, low: int, high: int) -> Callable[..., bytes]:
    encode_small, encode_large = _fixed(small), _fixed(large)
    return lambda value: encode_small(value) if low <= value <= high else encode_large(value)


def _variable(raw: bytes, small: int, large: int) -> bytes:
    if len(raw) <= 0xFF:
        return bytes((small, len(raw))) + raw
    return bytes((large,)) + _U32.pack(len(raw)) + raw


def _compound(body: bytes, count: int, small: int, large: int) -> bytes:
    if len(body) < 0xFF and count <= 0xFF:
        return bytes((small, len(body) + 1, count)) + body
    return bytes((large,)) + _U32.pack(len(body) + 4) + _U32.pack(count) + body


def _encode_list(value: list[Value]) -> bytes:
    if not value:
        return b"\x45"
    return _compound(b"".join(map(encode, value)), len(value), 0xC0, 0xD0)


def _encode_map(value: dict[Value, Value]) -> bytes:
    body = b"".join(encode(key) + encode(item) for key, item in value.items())
    return _compound(body, 2 * len(value), 0xC1, 0xD1)


def _encode_array(value: Array) -> bytes:
    body = b"".join(_encode_element(value.constructor, item) for item in value.items)
    return _compound(bytes((value.constructor,)) + body, len(value.items), 0xE0, 0xF0)


def _encode_element(constructor: int, item: Value) -> bytes:
    if constructor == 0x98 and isinstance(item, uuid.UUID):
        return item.bytes
    if constructor in _FIXED:
        return _FIXED[constructor][0].pack(item)
    raw = item.encode() if isinstance(item, str) else item
    if not isinstance(raw, bytes):
        raise CodecError(f"{item!r} does not fit an array of 0x{constructor:02x}")
    return (bytes((len(raw),)) if constructor < 0xB0 else _U32.pack(len(raw))) + raw


_ENCODERS: Final[dict[type, Callable[..., bytes]]] = {
    type(None): lambda _: b"\x40",
    bool: lambda value: b"\x41" if value else b"\x42",
    UByte: _fixed(0x50),
    UShort: _fixed(0x60),
    UInt: _small_or(0x52, 0x70, 0, 0xFF),
    ULong: _small_or(0x53, 0x80, 0, 0xFF),
    Byte: _fixed(0x51),
    Short: _fixed(0x61),
    Int: _small_or(0x54, 0x71, -0x80, 0x7F),
    int: _small_or(0x55, 0x81, -0x80, 0x7F),
    Char: _fixed(0x73),
    Timestamp: _fixed(0x83),
    Float: _fixed(0x72),
    float: _fixed(0x82),
    uuid.UUID: lambda value: b"\x98" + value.bytes,
    bytes: lambda value: _variable(value, 0xA0, 0xB0),
    str: lambda value: _variable(value.encode(), 0xA1, 0xB1),
    Symbol: lambda value: _variable(value.encode(), 0xA3, 0xB3),
    list: _encode_list,
    dict: _encode_map,
    Array: _encode_array,
    Described: lambda value: b"\x00" + encode(value.descriptor) + encode(value.value),
    Opaque: lambda value: bytes((value.constructor,)) + value.raw,
}
