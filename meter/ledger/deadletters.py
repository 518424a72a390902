"""Keeps what could not be counted, whole, with the reason, so that nothing is lost silently.

Table `DeadLetters`, partition the day it was enqueued, row key hub partition `|` sequence number
`|` place in the message: a redelivery finds the row there and changes nothing. Column `Body` is
the event's text. One that is not UTF-8, or is longer than a column holds, is kept compressed in
`BodyGzip0`, `BodyGzip1`, ... and `Body` is then its readable beginning.
"""

import gzip
from collections.abc import Iterable
from datetime import datetime

from meter.ledger.decode import DeadLetter
from meter.ledger.keys import escape
from meter.ports import Row, RowStore
from meter.window import Period, window_of

DEAD_LETTERS_TABLE = "DeadLetters"
MAX_TEXT_CHARS = 30_000  # a string column holds 64 KiB of UTF-16
MAX_BINARY_BYTES = 65_536


async def bury(store: RowStore, letters: Iterable[DeadLetter], *, now: datetime) -> None:
    """Store dead letters. Raises StorageUnavailable."""
    for letter in letters:
        day = window_of(letter.message.enqueued_at or now, Period.DAY)
        # A conflict says that it is here already.
        await store.write(DEAD_LETTERS_TABLE, day.name, insert=[_row(letter)], update=[])


def _row(letter: DeadLetter) -> Row:
    message = letter.message
    columns: dict[str, object] = {
        "Reason": letter.reason.value,
        "Detail": letter.detail[:1000],
        "HubPartition": message.hub_partition,
        "SequenceNumber": message.sequence_number,
        **_body_columns(letter.body),
    }
    if message.enqueued_at is not None:
        columns["EnqueuedAt"] = message.enqueued_at
    place = f"{message.sequence_number:020d}|{letter.index:06d}"
    return Row(key=f"{escape(message.hub_partition)}|{place}", columns=columns)


def _body_columns(body: bytes) -> dict[str, object]:
    try:
        text = body.decode()
    except UnicodeDecodeError:
        text = None
    if text is not None and len(text.encode("utf-16-le")) <= 2 * MAX_TEXT_CHARS:
        return {"Body": text}
    packed = gzip.compress(body, mtime=0)
    columns: dict[str, object] = {"Body": body[:1000].decode(errors="replace")}
    for index, start in enumerate(range(0, len(packed), MAX_BINARY_BYTES)):
        columns[f"BodyGzip{index}"] = packed[start : start + MAX_BINARY_BYTES]
    return columns
