"""Keeps one row a subject: who it is by its tokens, since when it calls, and what operators add.

Table `Subjects`, partition `subject`, row key the escaped subject. Columns Subject, Tenant,
ObjectId, ClientApp, FirstSeen and LastSeen are ours; DisplayName, Team and CostCentre, or any
other, are the operators' and are never touched: rows are merged, not replaced.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from meter.errors import StorageUnavailable
from meter.ledger.commit import MAX_CONFLICTS, MAX_TRANSACTION_ROWS
from meter.ledger.keys import escape
from meter.ports import Conflict, Row, RowStore
from meter.usage import UsageEvent

SUBJECTS_TABLE = "Subjects"
SUBJECTS_PARTITION = "subject"
MAX_KNOWN_SUBJECTS = 20_000


@dataclass(slots=True)
class SubjectWriter:
    """Writes the Subjects table. Remembers what it wrote last; a wrong memory costs a conflict."""

    store: RowStore
    _known: OrderedDict[str, Row] = field(default_factory=OrderedDict)

    async def see(self, events: Iterable[UsageEvent]) -> None:
        """Note the subjects of these calls. Repeats change nothing. Raises StorageUnavailable."""
        by_key: dict[str, list[UsageEvent]] = {}
        for event in events:
            by_key.setdefault(escape(event.subject), []).append(event)
        keys = list(by_key)
        for start in range(0, len(keys), MAX_TRANSACTION_ROWS):
            part = {key: by_key[key] for key in keys[start : start + MAX_TRANSACTION_ROWS]}
            await self._see(part)

    async def _see(self, seen: Mapping[str, Sequence[UsageEvent]]) -> None:
        for _ in range(MAX_CONFLICTS):
            stored = await self._stored(list(seen))
            rows = [_row(key, events, stored.get(key)) for key, events in seen.items()]
            changed = [row for row in rows if row is not None]
            if not changed:
                return
            result = await self.store.write(
                SUBJECTS_TABLE,
                SUBJECTS_PARTITION,
                insert=[row for row in changed if row.etag is None],
                update=[row for row in changed if row.etag is not None],
            )
            if not isinstance(result, Conflict):
                for row in changed:
                    self._remember(replace(row, etag=result.etags[row.key]))
                return
            for key in seen:
                self._known.pop(key, None)
        raise StorageUnavailable(f"{SUBJECTS_TABLE}: {MAX_CONFLICTS} conflicts in a row")

    async def _stored(self, keys: Sequence[str]) -> dict[str, Row]:
        unknown = [key for key in keys if key not in self._known]
        if unknown:
            found = await self.store.read(SUBJECTS_TABLE, SUBJECTS_PARTITION, unknown)
            for row in found.values():
                self._remember(row)
        return {key: self._known[key] for key in keys if key in self._known}

    def _remember(self, row: Row) -> None:
        self._known[row.key] = row
        self._known.move_to_end(row.key)
        if len(self._known) > MAX_KNOWN_SUBJECTS:
            self._known.popitem(last=False)


def _row(key: str, events: Sequence[UsageEvent], stored: Row | None) -> Row | None:
    latest = max(events, key=lambda event: event.time)
    first, last = min(event.time for event in events), latest.time
    before = {} if stored is None else stored.columns
    first_seen, last_seen = before.get("FirstSeen"), before.get("LastSeen")
    if isinstance(first_seen, datetime) and isinstance(last_seen, datetime):
        if first_seen <= first and last <= last_seen:
            return None
        first, last = min(first, first_seen), max(last, last_seen)
    principal = latest.principal
    columns: dict[str, object] = {"FirstSeen": first, "LastSeen": last}
    if latest.time == last:  # an older call must not bring back what a newer one said
        columns |= {
            "Subject": principal.subject,
            "Tenant": principal.tenant or "",
            "ObjectId": principal.object_id or "",
            "ClientApp": principal.client_app or "",
        }
    return Row(key=key, columns=columns, etag=None if stored is None else stored.etag)
