"""Keeps events that could not be counted, whole and with the reason: nothing is lost silently.

Table `DeadLetters`, partition the day it was enqueued (or `undated`), row key hub partition `|`
sequence number `|` index in the message: a redelivery finds the row and changes nothing.
Column `Body` is the event's text. One that is not UTF-8, or is longer than a column holds, is kept
compressed in `BodyGzip0`, `BodyGzip1`, ... and `Body` is then its readable beginning. A body that
is too long for one row continues in rows whose keys end in `|1`, `|2`, ...
"""

import gzip
from collections.abc import Iterable
from itertools import batched

from meter.ledger.decode import DeadLetter
from meter.ledger.keys import LetterKey, escape
from meter.ports import Row, RowStore
from meter.window import Period, window_of

DEAD_LETTERS_TABLE = "DeadLetters"
UNDATED = "undated"
MAX_TEXT_CHARS = 30_000  # a string column holds 64 KiB of UTF-16
MAX_BINARY_BYTES = 65_536
MAX_BINARIES = 14  # a row holds 1 MiB


async def keep(store: RowStore, letters: Iterable[DeadLetter]) -> None:
    """Store dead letters. Raises StorageUnavailable."""
    for letter in letters:
        enqueued_at = letter.message.enqueued_at
        day = window_of(enqueued_at, Period.DAY).name if enqueued_at else UNDATED
        for row in _rows(day, letter):
            # A conflict means that the row is already stored.
            await store.write(DEAD_LETTERS_TABLE, day, insert=[row])


def _rows(day: str, letter: DeadLetter) -> list[Row]:
    message = letter.message
    hub_partition = escape(message.hub_partition)
    key = LetterKey(day, hub_partition, message.sequence_number, letter.index)
    first, *more = _body_columns(letter.body)
    columns: dict[str, object] = {
        "Reason": letter.reason.value,
        "Detail": letter.detail[:1000],
        "HubPartition": message.hub_partition,
        "SequenceNumber": message.sequence_number,
        **first,
    }
    if message.enqueued_at is not None:
        columns["EnqueuedAt"] = message.enqueued_at
    rows = [Row(key=key.row_key, columns=columns)]
    return rows + [Row(key=key.part_row_key(n), columns=part) for n, part in enumerate(more, 1)]


def _body_columns(body: bytes) -> list[dict[str, object]]:
    """The body's columns for the letter's row and, for a long body, for the rows after it."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        text = None
    if text is not None and len(text.encode("utf-16-le")) <= 2 * MAX_TEXT_CHARS:
        return [{"Body": text}]
    packed = gzip.compress(body, mtime=0)
    parts = [
        packed[start : start + MAX_BINARY_BYTES]
        for start in range(0, len(packed), MAX_BINARY_BYTES)
    ]
    rows: list[dict[str, object]] = [
        {f"BodyGzip{index}": part for index, part in some}
        for some in batched(enumerate(parts), MAX_BINARIES, strict=False)
    ]
    return [{"Body": body[:1000].decode(errors="replace"), **rows[0]}, *rows[1:]]
