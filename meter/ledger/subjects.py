"""Keeps one row per subject: claims of its tokens, first and last call, and operators' columns.

Table `Subjects`, partition `subject`, row key the escaped subject. Columns Subject, Tenant,
ObjectId, ClientApp, FirstSeen and LastSeen are ours; DisplayName, Team and CostCentre, or any
other, are the operators' and are never touched: rows are merged, not replaced.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import batched

from meter.ledger.keys import escape
from meter.ledger.optimistic import MAX_TRANSACTION_ROWS, OptimisticRows
from meter.ports import Row, RowStore
from meter.usage import UsageEvent

SUBJECTS_TABLE = "Subjects"
SUBJECTS_PARTITION = "subject"


class SubjectWriter:
    """Writes the Subjects table."""

    def __init__(self, store: RowStore) -> None:
        self._rows = OptimisticRows(store=store, remembers=frozenset({"FirstSeen", "LastSeen"}))

    async def record(self, events: Iterable[UsageEvent]) -> None:
        """Record the subjects of these calls; repeats change nothing. Raises StorageUnavailable."""
        by_key: dict[str, list[UsageEvent]] = {}
        for event in events:
            by_key.setdefault(escape(event.subject), []).append(event)
        for some in batched(by_key.items(), MAX_TRANSACTION_ROWS, strict=False):
            part = dict(some)
            await self._rows.change(SUBJECTS_TABLE, SUBJECTS_PARTITION, list(part), part, _changed)


async def record_adjusted(store: RowStore, subject: str, at: datetime) -> None:
    """Record that an adjustment of the subject is counted at that time. Raises StorageUnavailable."""

    def build(moment: datetime, stored: Mapping[str, Row]) -> list[Row]:
        before = stored.get(escape(subject))
        columns = {"Subject": subject, "AdjustedAt": moment}
        return [Row(key=escape(subject), columns=columns, etag=before.etag if before else None)]

    rows = OptimisticRows(store=store, most_known=0)
    await rows.change(SUBJECTS_TABLE, SUBJECTS_PARTITION, [escape(subject)], at, build)


def _changed(events: Mapping[str, Sequence[UsageEvent]], stored: Mapping[str, Row]) -> list[Row]:
    rows = (_row(key, own, stored.get(key)) for key, own in events.items())
    return [row for row in rows if row is not None]


def _row(key: str, events: Sequence[UsageEvent], stored: Row | None) -> Row | None:
    latest = max(events, key=lambda event: event.time)
    first, last = min(event.time for event in events), latest.time
    before = {} if stored is None else stored.columns
    first_seen, last_seen = before.get("FirstSeen"), before.get("LastSeen")
    if isinstance(first_seen, datetime):
        first = min(first, first_seen)
    if isinstance(last_seen, datetime):
        last = max(last, last_seen)
    if first == first_seen and last == last_seen:
        return None
    principal = latest.principal
    columns: dict[str, object] = {"FirstSeen": first, "LastSeen": last}
    if latest.time == last:  # an older call must not restore older claims
        columns |= {
            "Subject": principal.subject,
            "Tenant": principal.tenant or "",
            "ObjectId": principal.object_id or "",
            "ClientApp": principal.client_app or "",
        }
    return Row(key=key, columns=columns, etag=None if stored is None else stored.etag)
