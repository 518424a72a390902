"""Writes texts of any kind as table keys, reversibly, and names the ledger's tables and rows.

Table Storage forbids `/ \\ # ?` and control characters in keys, and trips over `%`
(Microsoft: "Understanding the Table service data model"); a key holds 512 UTF-16 characters.
Everything but ASCII letters, digits and `-._@:` is written `=XX`, the hexadecimal of its UTF-8
bytes. A text too long for that becomes a readable prefix, `=~` and its SHA-256: unique, but to be
read from the row's own column.
"""

import hashlib
import re
from dataclasses import dataclass
from uuid import UUID

from meter.window import Window

MAX_COMPONENT_CHARS = 160  # three of them, a tier and separators make the longest key
_PREFIX_CHARS = 90
_HASH_MARK = "=~"
_UNSAFE = re.compile(r"[^A-Za-z0-9\-._@:]")
_ESCAPED = re.compile(r"((?:=[0-9A-F]{2})+)")
_LEDGER_TABLE = re.compile(r"Ledger(2\d{3})(0[1-9]|1[0-2])", re.ASCII)

CALL_PREFIX = "c|"
SUM_PREFIX = "s|"
LEDGER_PREFIX = "Ledger"
FIRST_KEY, LAST_KEY = "", "~"  # no escaped text sorts before or after them


@dataclass(frozen=True, slots=True, order=True)
class SumKey:
    """What one sum is of: a window, and who called what in it (the subject is the partition)."""

    window: Window
    deployment: str
    model: str
    tier: str

    def row_key(self) -> str:
        """The sum's row key in its subject's ledger partition."""
        return f"{SUM_PREFIX}{self.window.name}|{self._names()}"

    def view_row_key(self, subject: str) -> str:
        """The sum's row key in a view table, whose partition is the window."""
        return f"{escape(subject)}|{self._names()}"

    def _names(self) -> str:
        return f"{escape(self.deployment)}|{escape(self.model)}|{self.tier}"


def ledger_table(month: Window) -> str:
    """The month's ledger table, e.g. `Ledger202611`."""
    return f"{LEDGER_PREFIX}{month.name.replace('-', '')}"


def ledger_month(table: str) -> Window | None:
    """The month of a ledger table; None for a table of another kind."""
    match = _LEDGER_TABLE.fullmatch(table)
    return Window(f"{match[1]}-{match[2]}") if match else None


def call_row_key(event_id: UUID) -> str:
    """The row key that marks a call as counted."""
    return f"{CALL_PREFIX}{event_id}"


def sums_since(hour: Window, month: Window) -> tuple[str, str]:
    """The first and last row key of a month's sums that hold the hour or a later moment of it.

    These sums are one range, since a day's row sorts after its hours' and a month's after its
    days'. An hour before the month stands for all of the month.
    """
    return f"{SUM_PREFIX}{max(hour.name, month.name)}", f"{SUM_PREFIX}{month.name}|{LAST_KEY}"


def escape(text: str) -> str:
    """The text as a key component. Injective: two texts never share one (but for SHA-256's sake)."""
    escaped = _UNSAFE.sub(_hexadecimal, text)
    if len(escaped) <= MAX_COMPONENT_CHARS:
        return escaped
    prefix = escaped[:_PREFIX_CHARS]
    cut = prefix.rfind("=", len(prefix) - 2)  # not in the middle of an `=XX`
    prefix = prefix if cut < 0 else prefix[:cut]
    return f"{prefix}{_HASH_MARK}{hashlib.sha256(text.encode()).hexdigest()}"


def unescape(key: str) -> str | None:
    """The text that was escaped; None when the key holds only its hash."""
    if _HASH_MARK in key:
        return None
    parts = _ESCAPED.split(key)
    return "".join(
        bytes.fromhex(part.replace("=", "")).decode() if index % 2 else part
        for index, part in enumerate(parts)
    )


def _hexadecimal(match: re.Match[str]) -> str:
    return "".join(f"={byte:02X}" for byte in match[0].encode())
