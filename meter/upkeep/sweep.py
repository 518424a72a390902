"""Shows sums that the views miss: after a crash, or because they were throttled for long.

Every few minutes the sums of the last hours of the subjects that called in that time are written to
the views, and those of the subjects whose rows say that they are behind (`ledger/subjects.py`), from
the hour that they say. View rows that are up to date stay as they are. What cannot be shown now, for
one view partition or one subject, keeps nothing else from being shown, and is noted in the subject's
row for the next runs.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import batched

from meter.errors import LedgerDamaged, RowsRefused, StorageUnavailable
from meter.ledger.keys import ledger_table, sums_since, unescape
from meter.ledger.optimistic import MAX_TRANSACTION_ROWS
from meter.ledger.rows import SumRow, read_sum_row
from meter.ledger.subjects import (
    BELIEVED_AFTER,
    SUBJECTS_PARTITION,
    SUBJECTS_TABLE,
    hour_behind,
    none_behind,
    record_behind,
)
from meter.ledger.view import ViewWriter
from meter.ports import Clock, Conflict, Row, RowStore, Tables
from meter.upkeep.standing import standing_months
from meter.window import Period, Window, window_of

LOOK_BACK = timedelta(hours=3)
# A sum that still grows is written with its next call; the sweep skips it.
QUIET = timedelta(minutes=2)
SUBJECTS_AT_ONCE = 16
WINDOWS_AT_ONCE = 8
SUMS_AT_ONCE = 500

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sought:
    """A subject to look at, by its row: from which hour on, and whether its row says that."""

    row: Row
    hour: Window
    is_behind: bool


@dataclass(slots=True, kw_only=True)
class _Run:
    """One run of the sweep: its moment, and what it could not do."""

    now: datetime
    quiet_since: datetime
    months: Sequence[Window]
    views: ViewWriter
    repaired: int = 0
    failed_windows: dict[Window, StorageUnavailable] = field(default_factory=dict)
    failed_subjects: dict[str, StorageUnavailable] = field(default_factory=dict)
    damaged_subjects: set[str] = field(default_factory=set)


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
        run = _Run(
            now=self.clock.now(),
            quiet_since=await self.tables.service_time() - QUIET,
            months=await standing_months(self.tables),
            # A new one, since rows that an older one remembers may be gone.
            views=ViewWriter(self.store),
        )
        sought: list[_Sought] = []
        sums: list[SumRow] = []
        async for some in self._subjects(run):
            sought += some
            for found in await asyncio.gather(*(self._sums(run, each) for each in some)):
                sums += found
            if len(sums) >= SUMS_AT_ONCE:
                await self._show(run, sought, sums)
                sought, sums = [], []
        await self._show(run, sought, sums)
        if run.repaired:
            log.warning("views_repaired rows=%d", run.repaired)
        failures = [*run.failed_windows.values(), *run.failed_subjects.values()]
        if failures:
            raise StorageUnavailable(f"{len(failures)} partitions, first: {failures[0]}")
        return run.repaired

    async def _subjects(self, run: _Run) -> AsyncIterator[list[_Sought]]:
        """The subjects to look at, some at once."""
        rows = self.store.scan(
            SUBJECTS_TABLE, first_partition=SUBJECTS_PARTITION, last_partition=SUBJECTS_PARTITION
        )
        some: list[_Sought] = []
        async for _, row in rows:
            if (sought := _sought(row, run.now - LOOK_BACK)) is not None:
                some.append(sought)
            if len(some) == SUBJECTS_AT_ONCE:
                yield some
                some = []
        if some:
            yield some

    async def _sums(self, run: _Run, sought: _Sought) -> list[SumRow]:
        """The subject's sums from the hour on, without those that still grow unless it is behind."""
        partition = sought.row.key
        found: list[SumRow] = []
        try:
            async for table, row in self._rows(run, sought):
                still_grows = row.written_at is not None and row.written_at > run.quiet_since
                if still_grows and not sought.is_behind:
                    continue
                try:
                    found.append(read_sum_row(partition, row))
                except (LedgerDamaged, ValueError) as exc:
                    run.damaged_subjects.add(partition)
                    log.error("sum_damaged table=%s reason=%s", table, exc)
        except StorageUnavailable as exc:
            run.failed_subjects[partition] = exc
        return found

    async def _rows(self, run: _Run, sought: _Sought) -> AsyncIterator[tuple[str, Row]]:
        for month in run.months:
            if month.name < sought.hour.name[:7]:
                continue
            table = ledger_table(month)
            first, last = sums_since(sought.hour, month)
            rows = self.store.scan(
                table,
                first_partition=sought.row.key,
                last_partition=sought.row.key,
                first_key=first,
                last_key=last,
            )
            async for _, row in rows:
                yield table, row

    async def _show(self, run: _Run, sought: Sequence[_Sought], sums: Iterable[SumRow]) -> None:
        """Show these subjects' sums, and note in their rows whether all are shown."""
        by_window: defaultdict[Window, list[SumRow]] = defaultdict(list)
        for row in sums:
            by_window[row.key.window].append(row)
        limit = asyncio.Semaphore(WINDOWS_AT_ONCE)

        async def show(window: Window) -> None:
            async with limit:
                await self._show_window(run, window, by_window[window])

        await asyncio.gather(*map(show, by_window))
        behind = {
            row.key.place.partition for each in run.failed_windows for row in by_window[each]
        } | run.failed_subjects.keys()
        await self._note(run, sought, behind)

    async def _show_window(self, run: _Run, window: Window, sums: Sequence[SumRow]) -> None:
        if window in run.failed_windows:
            return  # once in a run is enough
        try:
            written = await run.views.write(sums)
            run.repaired += written  # apart, since the others add to it meanwhile
        except RowsRefused as exc:
            if len(sums) == 1:
                name = sums[0].key.place.view_row_key
                log.error("row_refused partition=%s row=%s reason=%s", window.name, name, exc)
            else:  # it would keep the others from being shown
                for row in sums:
                    await self._show_window(run, window, [row])
        except StorageUnavailable as exc:
            run.failed_windows[window] = exc
            log.warning(
                "views_behind partition=%s rows=%d seconds=600 reason=%s",
                window.name,
                len(sums),
                exc,
            )

    async def _note(self, run: _Run, sought: Sequence[_Sought], behind: set[str]) -> None:
        """Record who is behind, and of whom nobody has said so for long that they no longer are."""
        late: dict[str, Window] = {}
        shown: list[Row] = []
        for each in sought:
            key = each.row.key
            if key in behind and not each.is_behind:
                name = each.row.columns.get("Subject")
                late[name if isinstance(name, str) else unescape(key) or key] = each.hour
            elif each.is_behind and key not in behind | run.damaged_subjects:
                said_at = each.row.columns.get("ViewsBehindAt")
                if not isinstance(said_at, datetime) or said_at <= run.now - BELIEVED_AFTER:
                    shown.append(none_behind(each.row))
        try:
            await record_behind(self.store, late, run.now)
            for some in batched(shown, MAX_TRANSACTION_ROWS, strict=False):
                await self._clear(some)
        except StorageUnavailable as exc:
            run.failed_subjects[SUBJECTS_TABLE] = exc

    async def _clear(self, rows: Sequence[Row]) -> None:
        """Of rows that were changed meanwhile somebody else has said something: they stay."""
        result = await self.store.write(SUBJECTS_TABLE, SUBJECTS_PARTITION, update=rows)
        if isinstance(result, Conflict) and len(rows) > 1:
            for row in rows:
                await self._clear([row])


def _sought(row: Row, since: datetime) -> _Sought | None:
    """What to look at for that subject; None if nothing. A damaged cell does not keep it out."""
    last_seen = row.columns.get("LastSeen")
    is_recent = last_seen is not None and (
        not isinstance(last_seen, datetime) or last_seen >= since
    )
    try:
        behind = hour_behind(row.columns)
    except ValueError:
        behind = Window("2000-01-01T00")
    hours = [window_of(since, Period.HOUR)] if is_recent else []
    hours += [behind] if behind is not None else []
    return _Sought(row=row, hour=min(hours), is_behind=behind is not None) if hours else None
