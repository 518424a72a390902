"""What one subject used today and this month: `meter.gateway.own_usage.UsageReader` on the views.

The numbers are those of `report`, in the same words; with a price book a month is read day by day, as there.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from meter.errors import AmbiguousPrice
from meter.ledger.keys import escape
from meter.ledger.views.subjects import SUBJECTS_PARTITION, SUBJECTS_TABLE
from meter.ports import Clock, RowStore
from meter.reports.adding import DayPrices, Groups, labels_of
from meter.reports.columns import Column, usage_columns
from meter.reports.own_usage.rows import Found, SubjectRows
from meter.reports.owners import Owners
from meter.reports.pricing.book import PriceBook
from meter.reports.query import Grouping, Query
from meter.reports.rows import UsageRow, total_of
from meter.reports.subjects.entry import Entry, texts_in
from meter.reports.write.json import values_document
from meter.usage import format_time
from meter.window import Period, Window, window_of

_GROUPS = (Grouping.DEPLOYMENT, Grouping.MODEL)
# Of a deployment or model: the rest is in the whole.
_OF_A_PART = frozenset(
    {"calls", "prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens", "cost"}
)
# The whole of what is shown is the caller's own.
_NOT_OWN = "share_percent"

log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class OwnUsageReader:
    """Reads the usage of single subjects. `book` gives the price book, None where there is none."""

    store: RowStore
    clock: Clock
    book: Callable[[], Awaitable[PriceBook | None]]
    _rows: SubjectRows = field(init=False)

    def __post_init__(self) -> None:
        self._rows = SubjectRows(store=self.store, clock=self.clock)

    async def read(self, subject: str) -> Mapping[str, object]:
        """The document of a subject's usage. Raises StorageUnavailable, LedgerDamaged."""
        now, book = self.clock.now(), await self.book()
        day, month = window_of(now, Period.DAY), window_of(now, Period.MONTH)
        windows = [month, day]
        if book is not None:  # prices are those of a day
            windows = list(Query(first=window_of(month.start, Period.DAY), last=day).windows())
        name, rows = await asyncio.gather(self._name(subject), self._rows.read(subject, windows))
        of_day, of_month = rows[-1], rows[0]
        if book is not None:
            of_month = [each for found in rows for each in found]
        return {
            "subject": subject,
            "name": name,
            "as_of": format_time(now),
            "month": _usage(month, of_month, book),
            "day": _usage(day, of_day, book),
        }

    async def _name(self, subject: str) -> str | None:
        key = escape(subject)
        found = await self.store.read(SUBJECTS_TABLE, SUBJECTS_PARTITION, [key])
        if key not in found:
            return None
        return Entry(subject=subject, texts=texts_in(found[key].columns)).name or None


def _usage(window: Window, found: Sequence[Found], book: PriceBook | None) -> dict[str, object]:
    """The usage of one window: the whole, and that of each deployment and model."""
    try:
        rows = _grouped(window, found, book)
    except AmbiguousPrice as exc:
        log.warning("own_usage_without_money reason=%s", exc)
        book = None
        rows = _grouped(window, found, book)
    currency = None if book is None else book.currency
    columns = [
        column
        for column in usage_columns(Query(first=window, last=window), currency)[1:]
        if column.name != _NOT_OWN
    ]
    return {
        "window": window.name,
        **values_document(columns, total_of(rows)),
        **{
            f"by_{group}": _parts(place, group, rows, columns)
            for place, group in enumerate(_GROUPS)
        },
    }


def _grouped(window: Window, found: Iterable[Found], book: PriceBook | None) -> list[UsageRow]:
    groups = Groups(labels_of(_GROUPS, Owners()), None if book is None else DayPrices(book))
    for row, place in found:
        groups.add(row, place)
    return list(groups.rows(window))


def _parts(
    place: int, group: Grouping, rows: Sequence[UsageRow], columns: Iterable[Column]
) -> list[dict[str, object]]:
    """The usage of each deployment, or each model, in order of their names."""
    by_name: dict[str, list[UsageRow]] = {}
    for row in rows:
        by_name.setdefault(row.names[place], []).append(row)
    shown = [column for column in columns if column.name in _OF_A_PART]
    return [
        {group.value: name, **values_document(shown, total_of(of_name))}
        for name, of_name in sorted(by_name.items())
    ]
