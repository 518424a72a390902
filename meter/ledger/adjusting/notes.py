"""What a call was adjusted by so far: one row per call, which keeps it from falling below zero.

| row key           | column      | type   | meaning                                              |
|-------------------|-------------|--------|------------------------------------------------------|
| `a|` call's id `|` subject | Adjustments | String | JSON list: id, content, time, usage, counted |

It stands beside the call's marker. An adjustment may count in another month, so in another table,
where no transaction reaches both. Therefore an adjustment is noted here first, then counted, then
noted as counted: what lowers the call holds from its first note on, what raises it only once it is
counted. Whatever is lost in between, the call never falls below zero, and the note says how to go on.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from copy import replace
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

from meter.ledger.keys import adjusted_row_key, ledger_partition, ledger_table
from meter.ledger.optimistic import OptimisticRows
from meter.ports import Row, RowStore
from meter.usage import CountedCall, TokenUsage, format_time, new_event_id
from meter.window import Window

MOST_NOTES = 60  # a string column holds 64 KiB


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """One adjustment of a call. `content` is the same for all of equal counts and reason."""

    id: UUID
    content: UUID
    time: datetime
    usage: TokenUsage
    is_counted: bool = False


type Notes = tuple[Note, ...]


def content_of(subject: str, call_id: UUID, reason: str, usage: TokenUsage) -> UUID:
    """An id that is the same for the same adjustment; like any event id, a UUIDv7."""
    counts = {name: count for name, count in usage.as_document().items() if count}
    fields = [subject, str(call_id), reason.strip(), counts]
    digest = hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).digest()
    try:
        moment = moment_of(call_id)
    except ValueError:
        moment = datetime(1970, 1, 1, tzinfo=UTC)  # a call of another producer
    return new_event_id(moment, digest)


def moment_of(event_id: UUID) -> datetime:
    """When the id was made (RFC 9562 section 5.7). Raises ValueError if it is not a UUIDv7."""
    if event_id.version != 7:
        raise ValueError(f"an event id is a UUIDv7, got {event_id}")
    return datetime.fromtimestamp((event_id.int >> 80) / 1000, tz=UTC)


class BelowZero(ValueError):
    """An adjustment would take a count of its call below zero."""


@dataclass(slots=True, kw_only=True)
class NotedCall:
    """The notes of one call, in the ledger in which it is counted."""

    store: RowStore
    subject: str
    call_id: UUID
    call: CountedCall
    month: Window
    _rows: OptimisticRows = field(init=False)

    def __post_init__(self) -> None:
        self._rows = OptimisticRows(store=self.store, most_bytes=0)

    async def read(self) -> Notes:
        """The call's notes. Raises StorageUnavailable, ValueError if they cannot be read."""
        key = adjusted_row_key(self.call_id, self.subject)
        found = await self.store.read(
            ledger_table(self.month), ledger_partition(self.subject), [key]
        )
        return read_notes(found.get(key))

    async def note(self, wanted: Note) -> Note:
        """Note an adjustment, or give the note of that id that is there already.

        Raises BelowZero, StorageUnavailable, TableMissing.
        """

        def added(notes: Notes) -> Notes:
            if any(each.id == wanted.id for each in notes):
                return notes
            check_floor(self.call, notes, wanted.usage)
            return (*notes, wanted)

        notes = await self._change(added)
        return next(each for each in notes if each.id == wanted.id)

    async def mark_counted(self, note: Note) -> None:
        """Note that an adjustment is counted. Raises StorageUnavailable, TableMissing."""
        counted = replace(note, is_counted=True)

        def marked(notes: Notes) -> Notes:
            if all(each.id != note.id for each in notes):
                return (*notes, counted)
            return tuple(counted if each.id == note.id else each for each in notes)

        await self._change(marked)

    async def remove(self, note_id: UUID) -> None:
        """Remove a note whose adjustment cannot count. Raises StorageUnavailable, TableMissing."""
        await self._change(
            lambda notes: tuple(each for each in notes if each.is_counted or each.id != note_id)
        )

    async def _change(self, change: Callable[[Notes], Notes]) -> Notes:
        key = adjusted_row_key(self.call_id, self.subject)
        latest: Notes = ()

        def build(stored: Mapping[str, Row]) -> Sequence[Row]:
            nonlocal latest
            before = read_notes(stored.get(key))
            latest = change(before)
            if latest == before:
                return []
            columns = {"Adjustments": json.dumps([_document(each) for each in latest])}
            etag = stored[key].etag if key in stored else None
            return [Row(key=key, columns=columns, etag=etag)]

        table, partition = ledger_table(self.month), ledger_partition(self.subject)
        await self._rows.change(table, partition, [key], build, creates_table=False)
        return latest


def check_floor(call: CountedCall, notes: Notes, usage: TokenUsage) -> None:
    """Raise BelowZero if the change would take a count of the call below zero."""
    if len(notes) >= MOST_NOTES:
        raise BelowZero(f"a call takes {MOST_NOTES} adjustments at most")
    counted = call.usage.as_document()
    for name, change in usage.as_document().items():
        earlier = [(each, getattr(each.usage, name)) for each in notes]
        adjusted = sum(by for each, by in earlier if each.is_counted or by < 0)
        if change < 0 and counted[name] + adjusted + change < 0:
            so_far = f", adjusted by {adjusted:+} so far" if adjusted else ""
            raise BelowZero(
                f"{name} of the call is {counted[name]}{so_far}: {change} would make it negative"
            )


def _document(note: Note) -> dict[str, object]:
    return {
        "id": str(note.id),
        "content": str(note.content),
        "time": format_time(note.time),
        "usage": {name: count for name, count in note.usage.as_document().items() if count},
        "counted": note.is_counted,
    }


def read_notes(row: Row | None) -> Notes:
    """The notes of a stored row. Raises ValueError if it is not as the app writes it."""
    if row is None:
        return ()
    try:
        return tuple(
            Note(
                id=UUID(each["id"]),
                content=UUID(each["content"]),
                time=datetime.fromisoformat(each["time"]),
                usage=TokenUsage(**{name: int(count) for name, count in each["usage"].items()}),
                is_counted=bool(each["counted"]),
            )
            for each in json.loads(str(row.columns["Adjustments"]))
        )
    except (ValueError, TypeError, KeyError, AttributeError) as exc:
        raise ValueError(f"{row.key} cannot be read: {exc!r}") from exc
