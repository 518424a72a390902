"""Keeps one row per subject: claims of its tokens, and its first and last call.

Table `Subjects`, partition `subject`, row key the escaped subject. Columns Subject, Name, Tenant,
ObjectId, ClientApp, FirstSeen and LastSeen are ours; DisplayName, Team and CostCentre, or any
other, are the operators' and are never touched: rows are merged, not replaced.

A row is looked at when its subject calls, at most every `SEEN_EVERY`. What a crash loses of it comes
back with the next call; the sweep adds subjects that are missing.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import batched

from meter.ledger.keys import escape
from meter.ledger.optimistic import MAX_TRANSACTION_ROWS, OptimisticRows
from meter.ports import Row, RowStore
from meter.usage import Principal, UsageEvent

SUBJECTS_TABLE = "Subjects"
SUBJECTS_PARTITION = "subject"
SEEN_EVERY = timedelta(minutes=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A subject with the first and the last of some of its calls, and the claims of the latter.

    `principal` is None where only the sums of these calls are known.
    """

    subject: str
    first: datetime
    last: datetime
    principal: Principal | None = None

    def __add__(self, other: "Seen") -> "Seen":
        latest = max((self, other), key=lambda seen: (seen.principal is not None, seen.last))
        return Seen(
            subject=self.subject,
            first=min(self.first, other.first),
            last=max(self.last, other.last),
            principal=latest.principal,
        )


def seen_in(event: UsageEvent) -> Seen:
    """What a call shows of its subject."""
    return Seen(subject=event.subject, first=event.time, last=event.time, principal=event.principal)


class SubjectWriter:
    """Writes the Subjects table."""

    def __init__(self, store: RowStore) -> None:
        self._rows = OptimisticRows(
            store=store, remembers=("FirstSeen", "LastSeen"), expects_new=True
        )

    async def record(self, seen: Iterable[Seen]) -> None:
        """Record these subjects; repeats change nothing. Raises StorageUnavailable."""
        by_key: dict[str, Seen] = {}
        for each in seen:
            key = escape(each.subject)
            by_key[key] = by_key[key] + each if key in by_key else each
        for some in batched(by_key.items(), MAX_TRANSACTION_ROWS, strict=False):
            part = dict(some)
            await self._rows.change(
                SUBJECTS_TABLE, SUBJECTS_PARTITION, list(part), partial(_changed, part)
            )


def _changed(seen: Mapping[str, Seen], stored: Mapping[str, Row]) -> list[Row]:
    rows = (_row(key, each, stored.get(key)) for key, each in seen.items())
    return [row for row in rows if row is not None]


def _row(key: str, seen: Seen, stored: Row | None) -> Row | None:
    first, last = seen.first, seen.last
    before = {} if stored is None else stored.columns
    first_seen, last_seen = before.get("FirstSeen"), before.get("LastSeen")
    if isinstance(first_seen, datetime):
        first = min(first, first_seen)
    if isinstance(last_seen, datetime):
        last = max(last, last_seen)
    if first == first_seen and last == last_seen:
        return None
    columns: dict[str, object] = {"Subject": seen.subject, "FirstSeen": first, "LastSeen": last}
    principal = seen.principal
    if principal is not None and seen.last == last:  # an older call must not restore older claims
        columns |= {
            "Name": principal.name or "",
            "Tenant": principal.tenant or "",
            "ObjectId": principal.object_id or "",
            "ClientApp": principal.client_app or "",
        }
    return Row(key=key, columns=columns, etag=None if stored is None else stored.etag)
