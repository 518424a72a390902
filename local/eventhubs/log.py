"""One partition on disk: an append-only file whose records survive a kill at any byte.

    record  = length u32, crc32 u32, payload     one record per send: a batch is whole or absent
    payload = enqueued_ms i64, count u32, events
    event   = body u32, header u16, annotations u32, key u16, then header, annotations, key, body

The four are lengths in bytes, except key: 0 for "no key", else its length plus one.
An event's offset is its position in the file and its sequence number is its rank; neither is
stored separately. Positions and times are held in memory (16 bytes per event), events are read from disk.
A record cut off at the end of the file was never acknowledged and is dropped on opening.
"""

import os
import struct
import zlib
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from local.eventhubs.message import Message, StoredEvent

READ_BYTES: Final = 256 * 1024

_RECORD: Final = struct.Struct(">II")
_BATCH: Final = struct.Struct(">qI")
_EVENT: Final = struct.Struct(">IHIH")


class CorruptLogError(RuntimeError):
    """A record before the last one is damaged: continuing would lose acknowledged events."""


class PartitionLog:
    """The events of one partition, in order of acknowledgement."""

    def __init__(self, path: Path, now_ms: Callable[[], int]) -> None:
        self._path = path
        self._now_ms = now_ms
        self._positions = array("Q")
        self._enqueued_ms = array("q")
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._size = self._recover()
        except BaseException:
            os.close(self._file)
            raise

    def __len__(self) -> int:
        return len(self._positions)

    @property
    def last_offset(self) -> str:
        """The offset of the newest event; `-1` when there is none."""
        return str(self._positions[-1]) if self._positions else "-1"

    @property
    def last_enqueued_ms(self) -> int | None:
        """When the newest event was enqueued, in milliseconds since the epoch."""
        return self._enqueued_ms[-1] if self._enqueued_ms else None

    @property
    def end_position(self) -> int:
        """One past the largest offset this log may have handed out."""
        return self._size

    def append(self, messages: Sequence[Message]) -> None:
        """Write all messages in one record; when this returns, they survive the process.

        Raises `OSError` when the write fails; nothing was then appended.
        """
        # Clocks may step back; enqueued times must not, or a search by time would miss events.
        enqueued_ms = max(self._now_ms(), self.last_enqueued_ms or 0)
        parts = [_BATCH.pack(enqueued_ms, len(messages))]
        position = self._size + _RECORD.size + _BATCH.size
        positions = []
        for message in messages:
            encoded = _encode_event(message)
            positions.append(position)
            position += len(encoded)
            parts.append(encoded)
        payload = b"".join(parts)
        self._write(_RECORD.pack(len(payload), zlib.crc32(payload)) + payload)
        self._positions.extend(positions)
        self._enqueued_ms.extend([enqueued_ms] * len(messages))

    def read(self, first: int, limit: int) -> list[StoredEvent]:
        """Return up to `limit` events from sequence number `first`: at least one if it exists."""
        last = min(first + limit, len(self))
        if first >= last:
            return []
        base = self._positions[first]
        chunk = os.pread(self._file, READ_BYTES, base)
        needed = _event_length(chunk, 0)
        if needed > len(chunk):
            chunk = os.pread(self._file, needed, base)
        events = []
        for number in range(first, last):
            start = self._positions[number] - base
            if start + _EVENT.size > len(chunk) or start + _event_length(chunk, start) > len(chunk):
                break
            events.append(self._decode_event(number, chunk, start))
        return events

    def find_offset(self, position: int, *, inclusive: bool) -> int:
        """Return the sequence number of the first event past (or at) this offset."""
        return (bisect_left if inclusive else bisect_right)(self._positions, position)

    def find_time(self, enqueued_ms: int, *, inclusive: bool) -> int:
        """Return the sequence number of the first event enqueued past (or at) this time."""
        return (bisect_left if inclusive else bisect_right)(self._enqueued_ms, enqueued_ms)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _write(self, record: bytes) -> None:
        try:
            written = os.pwrite(self._file, record, self._size)
            while written < len(record):
                written += os.pwrite(self._file, record[written:], self._size + written)
        except OSError:
            os.ftruncate(self._file, self._size)
            raise
        self._size += len(record)

    def _decode_event(self, number: int, chunk: bytes, start: int) -> StoredEvent:
        body, header, annotations, key = _EVENT.unpack_from(chunk, start)
        header_end = start + _EVENT.size + header
        annotations_end = header_end + annotations
        key_end = annotations_end + max(key - 1, 0)
        return StoredEvent(
            sequence_number=number,
            offset=str(self._positions[number]),
            enqueued_ms=self._enqueued_ms[number],
            message=Message(
                header=chunk[header_end - header : header_end],
                annotations=chunk[header_end:annotations_end],
                partition_key=chunk[annotations_end:key_end].decode() if key else None,
                body=chunk[key_end : key_end + body],
            ),
        )

    def _recover(self) -> int:
        size = os.fstat(self._file).st_size
        position = 0
        while (payload := self._read_record(position, size)) is not None:
            enqueued_ms, count = _BATCH.unpack_from(payload)
            base = position + _RECORD.size
            starts = [base + start for start in _event_starts(payload, count)]
            self._positions.extend(starts)
            self._enqueued_ms.extend([enqueued_ms] * count)
            position = base + len(payload)
        os.ftruncate(self._file, position)
        return position

    def _read_record(self, position: int, size: int) -> bytes | None:
        """Return the record's payload, or None at the end of the file or at a torn last record."""
        prefix = os.pread(self._file, _RECORD.size, position)
        if len(prefix) < _RECORD.size:
            return None
        length, crc = _RECORD.unpack(prefix)
        end = position + _RECORD.size + length
        if end > size:
            return None
        payload = os.pread(self._file, length, position + _RECORD.size)
        if zlib.crc32(payload) == crc and length >= _BATCH.size:
            return payload
        if end == size:
            return None
        raise CorruptLogError(
            f"{self._path}: the record at byte {position} fails its checksum and is not the last;"
            " restore the file or remove it together with the consumers' checkpoints"
        )


def _encode_event(message: Message) -> bytes:
    key = b"" if message.partition_key is None else message.partition_key.encode()
    key_field = 0 if message.partition_key is None else len(key) + 1
    lengths = _EVENT.pack(
        len(message.body), len(message.header), len(message.annotations), key_field
    )
    return b"".join((lengths, message.header, message.annotations, key, message.body))


def _event_length(chunk: bytes, start: int) -> int:
    body, header, annotations, key = _EVENT.unpack_from(chunk, start)
    return int(_EVENT.size + header + annotations + max(key - 1, 0) + body)


def _event_starts(payload: bytes, count: int) -> Iterator[int]:
    start = _BATCH.size
    for _ in range(count):
        yield start
        start += _event_length(payload, start)
