"""Writes and parses every table key: of sums, markers, view rows, dead letters, and ledger tables.

Table Storage forbids `/ \\ # ?` and control characters in keys, and mishandles `%`
(Microsoft: "Understanding the Table service data model"); a key holds 512 UTF-16 characters.
Everything but ASCII letters, digits and `-._@:` is written `=XX`, the hexadecimal of its UTF-8
bytes. A text too long for that becomes a readable prefix, `=~` and its SHA-256: unique, but only
the row's own column holds the text.
"""

import hashlib
import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple
from uuid import UUID

from msgspec import Struct
from msgspec.json import Encoder

from meter.bucket import BUCKETS, bucket_of
from meter.window import Window

MAX_COMPONENT_CHARS = 90  # five of them, a tier, a context and a window make the longest key
_PREFIX_CHARS = 24
_HASH_MARK = "=~"
_UNSAFE = re.compile(r"[^A-Za-z0-9\-._@:]")
_ESCAPED = re.compile(r"((?:=[0-9A-F]{2})+)")
_LETTER_ROW_KEY = re.compile(r"([^|/]*)\|(\d{20})\|(\d{6})(?:\|([0-9a-f]{16}))?", re.ASCII)
_LETTER_KEY = re.compile(r"([^/]+)/([^/|]*)/(\d{1,20})/(\d{1,6})(?:/([0-9a-f]{16}))?", re.ASCII)
_JSON = Encoder()  # writes an id as `str` does, in a third of the time
_LEDGER_TABLE = re.compile(r"Ledger(2\d{3})(0[1-9]|1[0-2])", re.ASCII)

ADJUSTED_PREFIX = "a|"
CALL_PREFIX = "c|"
SUM_PREFIX = "s|"
LEDGER_PREFIX = "Ledger"
MARK_PREFIX = "v|"
SHARD_MARK = "~"
FIRST_KEY, LAST_KEY = "", "~"  # no escaped text sorts before or after them


class _Dimensions(NamedTuple):
    subject: str
    client_app: str
    deployment: str
    model: str
    backend: str
    tier: str
    context: str


class Dimensions(_Dimensions):
    """What sums are split by. Row keys and stored columns have the order of these fields.

    They are what Azure prices by and what people charge by: what is not among them cannot be told
    apart later.
    """

    @cached_property
    def name(self) -> str:
        """All of them, escaped, as in row keys. What is remembered of sums shares this text."""
        return "|".join(map(escape, self))

    @cached_property
    def partition(self) -> str:
        """The ledger partition of their subject."""
        return ledger_partition(self.subject)


DIMENSION_NAMES = Dimensions._fields


class SumKey(Struct, frozen=True, cache_hash=True, gc=False):
    """What one sum is of."""

    window: Window
    dimensions: Dimensions

    @property
    def place(self) -> "SumPlace":
        """Where the sum is stored."""
        dimensions = self.dimensions
        return SumPlace(dimensions.partition, self.window.name, dimensions.name)

    @property
    def row_key(self) -> str:
        """The sum's row key in the ledger."""
        return f"{SUM_PREFIX}{self.window.name}|{self.dimensions.name}"

    @property
    def view_row_key(self) -> str:
        """The row key in a view table."""
        return self.dimensions.name


class SumPlace(NamedTuple):
    """Where a sum and the view row that shows it are stored.

    `partition` is the ledger's, which is the subject's bucket. `name` are the dimensions, escaped:
    where one is only a hash there is no way back to the `SumKey`.
    """

    partition: str
    window: str
    name: str

    @property
    def row_key(self) -> str:
        """The sum's row key in the ledger."""
        return f"{SUM_PREFIX}{self.window}|{self.name}"

    @property
    def view_row_key(self) -> str:
        """The row key in a view table."""
        return self.name

    @property
    def names(self) -> tuple[str, ...]:
        """The escaped dimensions, the subject first."""
        return tuple(self.name.split("|"))


def ledger_partition(subject: str) -> str:
    """The ledger partition of a subject: its bucket, `00` to `63`."""
    return LEDGER_PARTITIONS[bucket_of(subject)]


LEDGER_PARTITIONS = tuple(f"{bucket:02}" for bucket in range(BUCKETS))


def parse_sum_key(partition: str, row_key: str) -> SumPlace:
    """Read the place of a ledger's sum. Raises ValueError for a row of another kind."""
    prefix, window, name = [*row_key.split("|", 2), "", ""][:3]
    if f"{prefix}|" != SUM_PREFIX or name.count("|") != len(DIMENSION_NAMES) - 1:
        raise ValueError(f"{row_key} is neither a marker nor a sum")
    return SumPlace(partition, window, name)


def view_partition(window: Window, shard: int | None) -> str:
    """The partition of a window's view rows, or of a shard of them (`2026-11~03`)."""
    return window.name if shard is None else f"{window.name}{SHARD_MARK}{shard:02}"


def view_window(partition: str) -> str:
    """The name of the window whose rows a view partition holds."""
    return partition.partition(SHARD_MARK)[0]


def view_range(first: Window, last: Window) -> tuple[str, str]:
    """The first and the last view partition of these windows, shards included."""
    return first.name, f"{last.name}{SHARD_MARK}{LAST_KEY}"


def subject_key(row_key: str) -> str:
    """The escaped subject in the row key of a ledger's marker, note or sum."""
    match row_key[:2]:
        case "c|" | "a|" | "s|":
            return row_key.split("|", 3)[2]
        case _:
            return row_key.partition("|")[0]


def view_subject_key(row_key: str) -> str:
    """The escaped subject in the row key of a view row, which has no prefix: subjects may look like one."""
    return row_key.partition("|")[0]


@dataclass(frozen=True, slots=True)
class LetterKey:
    """Where a dead letter is stored: its day, its place on the hub and in its message, its digest.

    `str` gives it as one word that no shell changes: `2026-11-23/0/1042/2/9f86d081884c7d65` is the
    third event of message 1042 of hub partition 0 (escaped), enqueued on that day. Hubs number
    their messages alike, so the digest (`letter_digest`) tells apart what they hold at one place.
    """

    day: str
    hub_partition: str
    sequence_number: int
    index: int
    digest: str = ""

    @property
    def row_key(self) -> str:
        """The letter's row key; its partition is the day."""
        place = f"{self.hub_partition}|{self.sequence_number:020d}|{self.index:06d}"
        return f"{place}|{self.digest}" if self.digest else place

    def part_row_key(self, part: object) -> str:
        """The row key of a further part of its body."""
        return f"{self.row_key}|{part}"

    def __str__(self) -> str:
        place = f"{self.day}/{self.hub_partition}/{self.sequence_number}/{self.index}"
        return f"{place}/{self.digest}" if self.digest else place


def parse_letter_key(text: str) -> LetterKey:
    """Read a dead letter's key as `str` gives it. Raises ValueError that says what is accepted."""
    match = _LETTER_KEY.fullmatch(text)
    if match is None:
        raise ValueError(f"a key is DAY/HUB_PARTITION/NUMBER/PLACE/DIGEST, got {text!r}")
    return LetterKey(match[1], match[2], int(match[3]), int(match[4]), match[5] or "")


def parse_letter_row_key(day: str, row_key: str) -> LetterKey | None:
    """Read a stored dead letter's key; None for a row that only continues a letter's body."""
    match = _LETTER_ROW_KEY.fullmatch(row_key)
    if match is None:
        return None
    return LetterKey(day, match[1], int(match[2]), int(match[3]), match[4] or "")


def letter_digest(hub: str, body: bytes) -> str:
    """What tells apart two letters at one place: other hubs and other bodies differ in it."""
    return hashlib.sha256(hub.encode() + b"\0" + body).hexdigest()[:16]


@lru_cache(maxsize=1_024)
def ledger_table(month: Window) -> str:
    """The month's ledger table, e.g. `Ledger202611`."""
    return f"{LEDGER_PREFIX}{month.name.replace('-', '')}"


def ledger_month(table: str) -> Window | None:
    """The month of a ledger table; None for a table of another kind."""
    match = _LEDGER_TABLE.fullmatch(table)
    return Window(f"{match[1]}-{match[2]}") if match else None


def call_row_key(event_id: UUID, subject: str) -> str:
    """The row key that marks a subject's call as counted. Ids sort by time, so the rows do."""
    return f"{CALL_PREFIX}{_JSON.encode(event_id)[1:-1].decode()}|{escape(subject)}"


def adjusted_row_key(event_id: UUID, subject: str) -> str:
    """The row key of what a call was adjusted by."""
    return f"{ADJUSTED_PREFIX}{event_id}|{escape(subject)}"


def call_row_range(first: UUID, last: UUID) -> tuple[str, str]:
    """The first and the last row key of the markers of ids from `first` to `last`."""
    return f"{CALL_PREFIX}{first}", f"{CALL_PREFIX}{last}|{LAST_KEY}"


def sums_of_window(window: Window) -> tuple[str, str]:
    """The first and the last row key of the window's sums in a ledger partition."""
    return f"{SUM_PREFIX}{window.name}|", f"{SUM_PREFIX}{window.name}|{LAST_KEY}"


def sums_since(window: Window, month: Window) -> tuple[str, str]:
    """The first and last row key of the month's sums from that window on, in the order of keys.

    An hour sorts before its day, and a day before its month. So the sums from an hour on are those of
    all windows that end after the hour's start.
    """
    first = max(f"{window.name}|", month.name)
    return f"{SUM_PREFIX}{first}", f"{SUM_PREFIX}{month.name}|{LAST_KEY}"


def earlier(one: Window, other: Window) -> Window:
    """The one from which on sums are in a range that has those of both."""
    return min(one, other, key=lambda window: f"{window.name}|")


@lru_cache(maxsize=32_768)
def escape(text: str) -> str:
    """The text as a key component. Two texts never share one, short of a SHA-256 collision."""
    escaped = _UNSAFE.sub(_hexadecimal, text)
    if len(escaped) <= MAX_COMPONENT_CHARS:
        return escaped
    prefix = escaped[:_PREFIX_CHARS]
    cut = prefix.rfind("=", len(prefix) - 2)  # not in the middle of an `=XX`
    prefix = prefix if cut < 0 else prefix[:cut]
    return f"{prefix}{_HASH_MARK}{hashlib.sha256(text.encode()).hexdigest()}"


def is_hashed(key: str) -> bool:
    """Whether the key holds only the hash of a text."""
    return _HASH_MARK in key


def unescape(key: str) -> str | None:
    """The text that was escaped; None if the key holds only its hash."""
    if is_hashed(key):
        return None
    parts = _ESCAPED.split(key)
    return "".join(
        bytes.fromhex(part.replace("=", "")).decode() if index % 2 else part
        for index, part in enumerate(parts)
    )


def _hexadecimal(match: re.Match[str]) -> str:
    return "".join(f"={byte:02X}" for byte in match[0].encode())
