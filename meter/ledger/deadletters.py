"""Keeps events that could not be counted, whole and with the reason: nothing is lost silently.

Table `DeadLetters`, partition the day it was enqueued (or `undated`), row key hub partition `|`
sequence number `|` index in the message `|` digest of hub and body: a redelivery finds the row, and
a letter of another hub or with another body has a row of its own. Column `Body` is the event's text
as it was received. A text that a column cannot hold for its length or its characters, and bytes
that are not UTF-8, are kept compressed in `BodyGzip0`, `BodyGzip1`, ... and `Body` is then the
readable beginning. A body that is too long for one row continues in rows whose keys end in `|1`,
`|2`, ...
"""

import gzip
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import batched

from meter.errors import StorageUnavailable
from meter.ledger.decode import DeadLetter
from meter.ledger.keys import LetterKey, escape, letter_digest
from meter.ports import MAX_TRANSACTION_ROWS, Row, RowStore, Written
from meter.window import Period, window_of

DEAD_LETTERS_TABLE = "DeadLetters"
UNDATED = "undated"
MAX_TEXT_CHARS = 30_000  # a string column holds 64 KiB of UTF-16
MAX_BINARY_BYTES = 65_536
MAX_BINARIES = 14  # a row holds 1 MiB
MAX_TRANSACTION_BYTES = 3_000_000  # the service takes 4 MiB
MAX_CONFLICTS = 5
# Azure is reported to refuse some of these in a text (azure-storage-net 515).
_UNSTORABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufdd0-\ufdef\ufffe\uffff]")


async def keep(
    store: RowStore, letters: Iterable[DeadLetter], *, may_be_stored: bool = False
) -> None:
    """Store dead letters. Raises StorageUnavailable.

    `may_be_stored` says that a redelivery is likely: storage is asked first what is there.
    """
    days: defaultdict[str, dict[str, Row]] = defaultdict(dict)
    for letter in letters:
        enqueued_at = letter.message.enqueued_at
        day = window_of(enqueued_at, Period.DAY).name if enqueued_at else UNDATED
        days[day].update((row.key, row) for row in _rows(day, letter))
    for day, rows in days.items():
        for some in _transactions(rows.values()):
            await _insert(store, day, some, asks_first=may_be_stored)


async def _insert(store: RowStore, day: str, rows: Sequence[Row], *, asks_first: bool) -> None:
    keys = [row.key for row in rows]
    for turn in range(MAX_CONFLICTS):
        if asks_first or turn:
            # A conflict alone does not prove that a row is stored.
            stored = await store.keys_between(DEAD_LETTERS_TABLE, day, min(keys), max(keys))
            rows = [row for row in rows if row.key not in stored]
        if not rows:
            return
        if isinstance(await store.write(DEAD_LETTERS_TABLE, day, insert=rows), Written):
            return
    raise StorageUnavailable(f"{DEAD_LETTERS_TABLE}: {MAX_CONFLICTS} conflicts in a row")


def _transactions(rows: Iterable[Row]) -> Iterator[list[Row]]:
    some: list[Row] = []
    some_bytes = 0
    for row in sorted(rows, key=lambda row: row.key):
        row_bytes = sum(map(_encoded_bytes, row.columns.values()))
        if len(some) == MAX_TRANSACTION_ROWS or some_bytes + row_bytes > MAX_TRANSACTION_BYTES:
            yield some
            some, some_bytes = [], 0
        some.append(row)
        some_bytes += row_bytes
    if some:
        yield some


def _encoded_bytes(value: object) -> int:
    """At most what the value takes in a request: text escaped as `\\uXXXX`, bytes in Base64."""
    match value:
        case str():
            return 3 * len(value.encode("utf-16-le")) + 100
        case bytes():
            return len(value) * 4 // 3 + 100
        case _:
            return 100


def _rows(day: str, letter: DeadLetter) -> list[Row]:
    message = letter.message
    key = LetterKey(
        day,
        escape(message.hub_partition),
        message.sequence_number,
        letter.index,
        letter_digest(message.hub, letter.body),
    )
    first, *more = _body_columns(letter.body)
    columns: dict[str, object] = {
        "Reason": letter.reason.value,
        "Detail": _UNSTORABLE.sub("\ufffd", letter.detail[:1000]),
        "Hub": message.hub,
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
    if (
        text is not None
        and len(text.encode("utf-16-le")) <= 2 * MAX_TEXT_CHARS
        and not _UNSTORABLE.search(text)
    ):
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
    beginning = _UNSTORABLE.sub("\ufffd", body[:1000].decode(errors="replace"))
    return [{"Body": beginning, **rows[0]}, *rows[1:]]
