"""The codec loses nothing, never trusts its input, and hashes keys as the SDK does."""

import contextlib
import struct
import uuid
from typing import Any

import pytest
from azure.eventhub._buffered_producer._partition_resolver import PartitionResolver
from azure.eventhub._pyamqp._decode import decode_payload
from azure.eventhub._pyamqp._encode import encode_payload
from azure.eventhub._pyamqp.message import Message as SdkMessage
from hypothesis import example, given
from hypothesis import strategies as st

from local.eventhubs.codec import (
    Array,
    Byte,
    Char,
    CodecError,
    Described,
    Float,
    Int,
    Opaque,
    Short,
    Symbol,
    Timestamp,
    UByte,
    UInt,
    ULong,
    UShort,
    Value,
    decode,
    encode,
    skip,
)
from local.eventhubs.frames import disposition_body
from local.eventhubs.message import BATCH_FORMAT, DATA, section, split_delivery
from local.eventhubs.performatives import ProtocolError, Transfer, read_performative
from meter.adapters.partition_key import choose_partition


def _integers(bits: int, *, signed: bool) -> st.SearchStrategy[int]:
    low = -(2 ** (bits - 1)) if signed else 0
    return st.integers(low, low + 2**bits - 1)


_SCALARS: st.SearchStrategy[Value] = st.one_of(
    st.none(),
    st.booleans(),
    _integers(8, signed=False).map(UByte),
    _integers(16, signed=False).map(UShort),
    _integers(32, signed=False).map(UInt),
    _integers(64, signed=False).map(ULong),
    _integers(8, signed=True).map(Byte),
    _integers(16, signed=True).map(Short),
    _integers(32, signed=True).map(Int),
    _integers(64, signed=True),
    _integers(64, signed=True).map(Timestamp),
    st.integers(0, 0x10FFFF).map(Char),
    st.floats(allow_nan=False),
    st.floats(allow_nan=False, width=32).map(Float),
    st.uuids(),
    st.binary(max_size=300),
    st.text(max_size=300),
    st.text(st.characters(max_codepoint=127), max_size=40).map(Symbol),
    st.binary(min_size=16, max_size=16).map(lambda raw: Opaque(0x94, raw)),
    st.lists(st.text(max_size=5).map(Symbol), max_size=9).map(lambda v: Array(0xA3, tuple(v))),
    st.lists(_integers(32, signed=True).map(Int)).map(lambda v: Array(0x71, tuple(v))),
    st.lists(st.uuids(), max_size=3).map(lambda v: Array(0x98, tuple(v))),
)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.dictionaries(st.text(max_size=5).map(Symbol), inner, max_size=5),
        st.tuples(st.integers(0, 2**64 - 1).map(ULong), inner).map(lambda v: Described(*v)),
    ),
    max_leaves=20,
)


@given(_VALUES)
@example([0] * 300)
@example({"key": b"x" * 300})
@example(uuid.UUID(int=0))
def test_decoding_an_encoded_value_gives_the_same_value_and_type(value: Value) -> None:
    """A value echoed to its sender arrives with the type it had, at every size."""
    encoded = encode(value)

    decoded, end = decode(encoded)

    assert repr(decoded) == repr(value)
    assert type(decoded) is type(value)
    assert end == skip(encoded, 0) == len(encoded)


@given(st.binary(max_size=200))
@example(b"\xf0\x00\x00\x00\x05\xff\xff\xff\xff\x40")
@example(b"\x00" * 100)
@example(b"\xc0\x02\x01" * 60)
@example(b"\xd0\xff\xff\xff\xff\xff\xff\xff\xff\x40")
def test_bytes_that_are_not_amqp_are_refused_with_the_codec_error(garbage: bytes) -> None:
    """Input either decodes or raises the one error the connection expects, and quickly."""
    for read in (decode, skip):
        with contextlib.suppress(CodecError):
            read(garbage, 0)
    with contextlib.suppress(CodecError, ProtocolError):
        read_performative(garbage)
    with contextlib.suppress(CodecError):
        split_delivery(garbage, BATCH_FORMAT)


@given(st.data())
def test_a_value_cut_off_anywhere_is_refused(data: st.DataObject) -> None:
    """A frame that lies about its length is an error, not a shorter value."""
    encoded = encode(data.draw(_VALUES))
    cut = data.draw(st.integers(0, len(encoded) - 1))

    with pytest.raises(CodecError):
        decode(encoded[:cut])


@given(
    st.text(min_size=1, max_size=40),
    st.integers(1, 32),
)
@example("exactly-12-c", 4)
@example("exactly-24-characters-ab", 4)
@example("schlüssel-ключ-鍵-🔑", 7)
def test_a_key_hashes_to_the_partition_the_sdk_would_choose(key: str, partitions: int) -> None:
    """Buffered producers hash keys themselves; both must send one key to one partition."""
    resolver: Any = PartitionResolver  # the SDK's own class, published without types

    chosen = choose_partition(key, partitions)

    assert chosen == resolver(range(partitions)).get_partition_id_by_partition_key(key)


_SDK_VALUES = st.one_of(
    st.booleans(), st.integers(-(2**31), 2**31 - 1), st.text(max_size=300), st.binary(max_size=300)
)


@given(st.dictionaries(st.text(min_size=1, max_size=20), _SDK_VALUES), st.binary(max_size=400))
def test_the_sdks_own_encoding_is_kept_byte_for_byte(
    properties: dict[str | bytes, bool | int | str | bytes], data: bytes
) -> None:
    """Everything after the annotations is stored unchanged, so the SDK reads back what it sent."""
    sent = bytearray()
    encode_payload(sent, SdkMessage(application_properties=properties, data=[data]))

    _, [message] = split_delivery(bytes(sent), 0)

    assert message.body == bytes(sent)
    assert decode_payload(memoryview(message.body)).data == [data]


def test_a_batch_is_split_into_the_messages_it_holds() -> None:
    """Message format 0x80013700 carries one encoded message in each data section."""
    inner = [section(DATA, text) for text in (b"first", b"second")]
    envelope = b"".join(section(DATA, message) for message in inner)

    key, messages = split_delivery(envelope, BATCH_FORMAT)

    assert key is None
    assert [message.body for message in messages] == inner


def test_an_array_of_nothing_cannot_ask_for_memory() -> None:
    """A count of four billion zero-width elements is never trusted."""
    bomb = b"\xf0" + struct.pack(">II", 5, 0xFFFFFFFF) + b"\x40"

    value, _ = decode(bomb)

    assert value == Opaque(0xF0, bomb[1:])


_UINTS = st.integers(0, 2**32 - 1)


def _uint(value: int, *, is_short: bool) -> bytes:
    return encode(UInt(value)) if is_short else b"p" + value.to_bytes(4)


@given(_UINTS, _UINTS, st.binary(min_size=4, max_size=4), st.binary(max_size=300), st.booleans())
def test_a_whole_delivery_is_read_as_any_transfer_is(
    handle: int, delivery_id: int, tag: bytes, payload: bytes, is_short: bool
) -> None:
    """The bytes that nearly all transfers begin with are known; other bytes for the same are decoded."""
    numbers = _uint(handle, is_short=is_short) + _uint(delivery_id, is_short=is_short)
    fields = numbers + b"\xa0\x04" + tag + b"CV\0V\0@@@@@"
    known = b"\0S\x14\xc0" + bytes([len(fields) + 1, 11]) + fields + payload
    size = (len(fields) + 4).to_bytes(4)
    decoded = b"\0S\x14\xd0" + size + (11).to_bytes(4) + fields + payload

    read = read_performative(known)
    assert read == read_performative(decoded)
    assert isinstance(read, Transfer)
    assert (read.handle, read.delivery_id, read.payload) == (handle, delivery_id, payload)


def test_a_whole_delivery_of_another_length_is_refused() -> None:
    """A list that ends elsewhere than it says is not read on."""
    fields = b"R\x01R\x02\xa0\x04tag!CV\0V\0@@@@@"
    with pytest.raises(CodecError):
        read_performative(b"\0S\x14\xc0" + bytes([len(fields), 11]) + fields + b"payload")


@given(_UINTS)
def test_an_acceptance_is_written_as_any_disposition_is(delivery_id: int) -> None:
    """The settled verdict of the receiving side."""
    number = UInt(delivery_id)
    expected = Described(
        ULong(0x15), [True, number, number, True, Described(ULong(0x24), []), False]
    )
    body = disposition_body(delivery_id, None)

    assert decode(body) == (expected, len(body))
