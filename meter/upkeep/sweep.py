"""Shows sums that the views miss: those of processes that died, or could not write them for long.

Every two minutes the marks in the ledgers are read (`ledger/marks.py`). Where one was not written for
`ABANDONED_AFTER`, the sums of its ledger partition from its window on are written to the views, and
their subjects to `Subjects`; then the mark is removed. View rows that are up to date stay as they
are. What cannot be shown now keeps nothing else from being shown, and its mark stays for the next run.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from meter.errors import RowsRefused, StorageUnavailable, TableMissing
from meter.ledger.keys import LEDGER_PARTITIONS, earlier, ledger_table
from meter.ledger.marks import ABANDONED_AFTER, Place, read_marks, window_of_mark
from meter.ledger.packing.scanning import rows_since, sums_since_in
from meter.ledger.rows import SumRow
from meter.ledger.views.shards import Shards
from meter.ledger.views.subjects import Seen, SubjectWriter
from meter.ledger.views.view import ViewWriter
from meter.ports import Clock, Row, RowStore, Tables
from meter.upkeep.standing import standing_months
from meter.window import Window

PLACES_AT_ONCE = 16
WINDOWS_AT_ONCE = 8
SUMS_AT_ONCE = 5_000

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Abandoned:
    """A ledger partition with abandoned marks, and the window from which on it is looked at."""

    place: Place
    month: Window
    first: Window
    marks: Sequence[Row]


@dataclass(slots=True, kw_only=True)
class _Run:
    """One run of the sweep, and what it could not do."""

    views: ViewWriter
    subjects: SubjectWriter
    repaired: int = 0
    failures: dict[str, StorageUnavailable] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """Writes sums to the views again."""

    store: RowStore
    tables: Tables
    clock: Clock

    async def run(self) -> int:
        """Sweep once; gives the number of view rows repaired.

        Raises StorageUnavailable once all is shown that can be shown now, if anything cannot.
        """
        # A new one, since rows that an older one remembers may be gone.
        run = _Run(
            views=ViewWriter(self.store, Shards(self.store, self.clock)),
            subjects=SubjectWriter(self.store),
        )
        before = await self.tables.service_time() - ABANDONED_AFTER
        read: list[_Abandoned] = []
        sums: list[SumRow] = []
        for abandoned in await self._abandoned(run, before):
            try:
                sums += await self._sums(abandoned)
            except StorageUnavailable as exc:
                run.failures[" ".join(abandoned.place)] = exc
                continue
            read.append(abandoned)
            if len(sums) >= SUMS_AT_ONCE:
                await self._show(run, read, sums)
                read, sums = [], []
        await self._show(run, read, sums)
        if run.repaired:
            log.warning("views_repaired rows=%d", run.repaired)
        if run.failures:
            first = next(iter(run.failures.values()))
            raise StorageUnavailable(f"{len(run.failures)} partitions, first: {first}")
        return run.repaired

    async def _abandoned(self, run: _Run, before: datetime) -> list[_Abandoned]:
        limit = asyncio.Semaphore(PLACES_AT_ONCE)

        async def look(month: Window, partition: str) -> _Abandoned | None:
            place = ledger_table(month), partition
            async with limit:
                try:
                    marks = [row async for row in read_marks(self.store, place)]
                except StorageUnavailable as exc:
                    run.failures[" ".join(place)] = exc
                    return None
            old = [row for row in marks if row.written_at is None or row.written_at <= before]
            if not old:
                return None
            first = window_of_mark(old[0], month)
            for row in old[1:]:
                first = earlier(first, window_of_mark(row, month))
            return _Abandoned(place=place, month=month, first=first, marks=old)

        months = await standing_months(self.tables)
        looks = (look(month, partition) for month in months for partition in LEDGER_PARTITIONS)
        return [found for found in await asyncio.gather(*looks) if found is not None]

    async def _sums(self, abandoned: _Abandoned) -> list[SumRow]:
        place, first = abandoned.place, abandoned.first
        rows = rows_since(self.store, place, first, abandoned.month)
        return [each async for row in rows for each in sums_since_in(place, row, first)]

    async def _show(self, run: _Run, read: Sequence[_Abandoned], sums: Sequence[SumRow]) -> None:
        """Show these sums, and remove the marks of partitions of which all are shown."""
        by_window: defaultdict[Window, list[SumRow]] = defaultdict(list)
        for row in sums:
            by_window[row.key.window].append(row)
        limit = asyncio.Semaphore(WINDOWS_AT_ONCE)
        behind: set[str] = set()

        async def show(window: Window) -> None:
            async with limit:
                missed = await self._show_window(run, window, by_window[window])
            behind.update(row.key.place.partition for row in missed)

        await asyncio.gather(*map(show, by_window))
        is_recorded = await self._record(run, sums)
        for each in read if is_recorded else ():
            if each.place[1] not in behind:
                await self._remove(run, each)

    async def _show_window(
        self, run: _Run, window: Window, sums: Sequence[SumRow]
    ) -> Sequence[SumRow]:
        """Show the sums; gives those that could not be shown."""
        if window.name in run.failures:
            return sums  # once in a run is enough
        try:
            await run.views.learn(sums)
            written = await run.views.write(sums)
            run.repaired += written  # apart, since the others add to it meanwhile
            return ()
        except RowsRefused as exc:
            if len(sums) == 1:
                name = sums[0].key.view_row_key
                log.error("row_refused partition=%s row=%s reason=%s", window.name, name, exc)
                return sums
            middle = len(sums) // 2  # it would keep the others from being shown
            halves = sums[:middle], sums[middle:]
            return [row for half in halves for row in await self._show_window(run, window, half)]
        except StorageUnavailable as exc:
            run.failures[window.name] = exc
            log.warning(
                "views_behind partition=%s rows=%d seconds=120 reason=%s",
                window.name,
                len(sums),
                exc,
            )
            return sums

    async def _record(self, run: _Run, sums: Iterable[SumRow]) -> bool:
        """Add the subjects that are missing; whether that was possible."""
        seen = (
            Seen(
                subject=row.key.dimensions.subject,
                first=row.sums.first_call_at,
                last=row.sums.last_call_at,
            )
            for row in sums
            if row.sums.first_call_at is not None and row.sums.last_call_at is not None
        )
        try:
            await run.subjects.record(seen)
        except RowsRefused as exc:
            log.error("row_refused partition=Subjects row= reason=%s", exc)
        except StorageUnavailable as exc:
            run.failures["Subjects"] = exc
            return False
        return True

    async def _remove(self, run: _Run, abandoned: _Abandoned) -> None:
        """A mark that was written meanwhile stays: its process is alive."""
        for row in abandoned.marks:
            try:
                await self.store.write(*abandoned.place, delete=[row], creates_table=False)
            except TableMissing:
                return
            except StorageUnavailable as exc:
                run.failures[" ".join(abandoned.place)] = exc
