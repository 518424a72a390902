"""Keeps one row per subject: claims of its tokens, first and last call, and what its views may miss.

Table `Subjects`, partition `subject`, row key the escaped subject. Columns Subject, Tenant,
ObjectId, ClientApp, FirstSeen and LastSeen are ours; DisplayName, Team and CostCentre, or any
other, are the operators' and are never touched: rows are merged, not replaced.

| column         | type     | meaning                                                             |
|----------------|----------|---------------------------------------------------------------------|
| ViewsBehindFrom | String   | hour from which on views may miss sums of the subject; empty: none |
| ViewsBehindAt   | DateTime | when that was last said                                            |

The sweep shows the subject's sums from that hour on, until all are shown. It believes so only when
nobody has said otherwise for `BELIEVED_AFTER`: who counts a call in that time need not say it again.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import batched

from meter.ledger.keys import escape
from meter.ledger.optimistic import MAX_TRANSACTION_ROWS, OptimisticRows
from meter.ports import Row, RowStore
from meter.usage import UsageEvent
from meter.window import Period, Window, parse_window

SUBJECTS_TABLE = "Subjects"
SUBJECTS_PARTITION = "subject"
BELIEVED_AFTER = timedelta(hours=3)  # hours, since the clocks of instances and of operators differ


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


async def record_behind(store: RowStore, hours: Mapping[str, Window], at: datetime) -> None:
    """Record from which hour on the views of each subject may miss sums. Raises StorageUnavailable."""
    rows = OptimisticRows(store=store, most_known=0)
    for some in batched(hours.items(), MAX_TRANSACTION_ROWS, strict=False):
        part = {escape(subject): (subject, hour) for subject, hour in some}

        def build(
            part: Mapping[str, tuple[str, Window]], stored: Mapping[str, Row]
        ) -> Sequence[Row]:
            return [
                _row_behind(key, subject, hour, at, stored.get(key))
                for key, (subject, hour) in part.items()
            ]

        await rows.change(SUBJECTS_TABLE, SUBJECTS_PARTITION, list(part), part, build)


def none_behind(row: Row) -> Row:
    """The change that says that the subject's views miss nothing, if the row is as it was read."""
    return Row(key=row.key, columns={"ViewsBehindFrom": ""}, etag=row.etag)


def hour_behind(columns: Mapping[str, object]) -> Window | None:
    """The hour that the row says; None if it says none. Raises ValueError if it cannot be read."""
    value = columns.get("ViewsBehindFrom")
    if value is None or value == "":
        return None
    hour = parse_window(str(value))
    if hour.period is not Period.HOUR:
        raise ValueError(f"ViewsBehindFrom must be an hour, got {value!r}")
    return hour


def _row_behind(key: str, subject: str, hour: Window, at: datetime, stored: Row | None) -> Row:
    columns: dict[str, object] = {"Subject": subject, "ViewsBehindAt": at}
    try:
        known = None if stored is None else hour_behind(stored.columns)
        columns["ViewsBehindFrom"] = hour.name if known is None else min(known, hour).name
    except ValueError:
        pass  # which hour it was is not known: the sweep takes all
    return Row(key=key, columns=columns, etag=None if stored is None else stored.etag)


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
