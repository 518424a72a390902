"""A subject's entry in table `Subjects`, as the texts that people read and write."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from meter.ledger.keys import escape, unescape
from meter.ledger.views.subjects import SUBJECTS_PARTITION, SUBJECTS_TABLE
from meter.ports import Row, RowStore
from meter.usage import format_time

SUBJECT = "subject"
# What operators fill in, by the column's name in files; the others are the meter's.
EDITABLE: Mapping[str, str] = {
    "display_name": "DisplayName",
    "team": "Team",
    "cost_centre": "CostCentre",
}
OWN: Mapping[str, str] = {
    "name": "Name",
    "tenant": "Tenant",
    "object_id": "ObjectId",
    "client_app": "ClientApp",
    "first_seen": "FirstSeen",
    "last_seen": "LastSeen",
}
COLUMNS = (SUBJECT, *EDITABLE, *OWN)
"""The columns of files, in the order in which they are written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A subject with the texts of its columns, by their names in files; empty where nothing is known."""

    subject: str
    texts: Mapping[str, str]

    @property
    def name(self) -> str:
        """What people call it: the display name, else the name from its tokens."""
        return self.texts["display_name"] or self.texts["name"]

    def values(self) -> tuple[str, ...]:
        """The texts in the order of `COLUMNS`."""
        return self.subject, *(self.texts[name] for name in COLUMNS[1:])


async def read_entries(store: RowStore) -> AsyncIterator[Entry | str]:
    """All entries in key order; of a row that names no subject the row key. Raises StorageUnavailable."""
    rows = store.scan(
        SUBJECTS_TABLE, first_partition=SUBJECTS_PARTITION, last_partition=SUBJECTS_PARTITION
    )
    async for _, row in rows:
        subject = _subject_of(row)
        if subject is None:
            yield row.key
        else:
            yield Entry(subject=subject, texts=texts_in(row.columns))


def texts_in(columns: Mapping[str, object]) -> dict[str, str]:
    """The texts of a stored row, by the columns' names in files."""
    texts = {name: editable_text(columns.get(column)) for name, column in EDITABLE.items()}
    return texts | {name: _text(columns.get(column)) for name, column in OWN.items()}


def editable_text(value: object) -> str:
    """What somebody entered, in any type: a cost centre may be a number. Reports ignore outer blanks."""
    return _text(value).strip()


def _text(value: object) -> str:
    if isinstance(value, datetime):
        return format_time(value)
    return "" if value is None else str(value)


def _subject_of(row: Row) -> str | None:
    """The subject that the row key says, which the column has where the key is only a hash."""
    named = row.columns.get("Subject")
    if isinstance(named, str) and escape(named) == row.key:
        return named
    try:
        subject = unescape(row.key)
    except ValueError:
        return None
    return subject if subject and escape(subject) == row.key else None
