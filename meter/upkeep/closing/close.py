"""Closes a month, once: writes a snapshot of its sums, then the header that makes it valid."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime

from meter.errors import StorageUnavailable
from meter.ledger.fold import Sums
from meter.ledger.keys import SumKey, ledger_table
from meter.ports import Clock, HubReader, RowStore, Tables
from meter.upkeep.closing.backlog import Backlog, read_backlog
from meter.upkeep.closing.corrections import arrived, has_ledger
from meter.upkeep.closing.header import FORMAT, Header, read_header
from meter.upkeep.closing.reading import ReadMonth, read_month
from meter.upkeep.closing.snapshot import (
    ClosedMonths,
    SnapshotWriter,
    digest_rows,
    insert_header,
    read_closed,
    snapshot_prefix,
)
from meter.upkeep.closing.tree import NO_LEAVES
from meter.upkeep.rebuild import Progress
from meter.usage import format_time
from meter.window import Window

CORRECTIONS_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Why a month is not closed: `final` reasons hold even if it is forced."""

    reasons: tuple[str, ...] = ()
    final: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Closing:
    """Closes one month.

    `prices` are the files of the price book with their digests, and `attempt` tells this process from
    others that close the same month: lower-case letters and digits.
    """

    store: RowStore
    tables: Tables
    clock: Clock
    month: Window
    by: str
    attempt: str
    prices: Sequence[Mapping[str, str]] = ()
    is_forced: bool = False

    async def run(
        self, hub: HubReader | str, show: Callable[[Progress], None] = lambda _: None
    ) -> Header | Refused:
        """Close the month, or say everything that is against it. Raises StorageUnavailable.

        `hub` is why it cannot be asked, where that is so.
        """
        closed = await read_closed(self.store)
        if self.month in closed.by_month:
            return self._is_closed(closed)
        final = await self._obstacles()
        backlog = await read_backlog(self.store, hub, self.month, now=self.clock.now())
        if final:
            return Refused(reasons=backlog.reasons, final=tuple(final))
        snapshot = SnapshotWriter(self.store, f"{snapshot_prefix(self.month)}{self.attempt}")
        is_written = self.is_forced or not backlog.reasons
        read = await read_month(self.store, self.month, snapshot if is_written else None, show)
        final = read.final or await self._obstacles()  # its ledger may have been dropped
        reasons = (*backlog.reasons, *read.reasons)
        if final or (reasons and not self.is_forced):
            await self.tables.drop(snapshot.table)
            return Refused(reasons=reasons, final=tuple(final))
        return await self._finish(closed, snapshot, read, replace(backlog, reasons=reasons))

    async def check(self) -> Header | Refused:
        """Whether a closed month's snapshot is what its root says. Raises StorageUnavailable."""
        months = (await read_closed(self.store)).by_month
        closed = months.get(self.month)
        if closed is None:
            return Refused(final=(f"{self.month.name} is not closed",))
        previous = closed.header.document["previous"]
        if previous and previous not in {each.header.root for each in months.values()}:
            text = (
                f"the month that was closed before {self.month.name} is not there: root {previous}"
            )
            return Refused(final=(text,))
        rows, bound = await digest_rows(self.store, closed.table), closed.header.document["rows"]
        if rows != bound:
            return Refused(
                final=(
                    f"the rows of {closed.table} are not those that were closed: {rows['count']} of "
                    f"SHA-256 {rows['sha256']}; the root says {bound['count']} of {bound['sha256']}",
                )
            )
        return closed.header

    async def _obstacles(self) -> list[str]:
        if self.month.end > await self._now():
            return [f"{self.month.name} is running: it ends {format_time(self.month.end)}"]
        table = ledger_table(self.month)
        if table not in await self.tables.names(table):
            return [
                f"there is no table {table}: the month had no calls, or its ledger was dropped "
                "after its retention"
            ]
        return []

    async def _now(self) -> datetime:
        """The earlier of two clocks: one that is ahead would close a running month."""
        return min(self.clock.now(), await self.tables.service_time())

    async def _finish(
        self, closed: ClosedMonths, snapshot: SnapshotWriter, read: ReadMonth, backlog: Backlog
    ) -> Header | Refused:
        corrected, settled = await self._store_corrections(closed, snapshot)
        rows = await digest_rows(self.store, snapshot.table)
        if rows["count"] != snapshot.rows:
            raise StorageUnavailable(
                f"{snapshot.table}: {snapshot.rows} rows were written, {rows['count']} are there"
            )
        root = read.tree.root()
        header = read_header(
            {
                "format": FORMAT,
                "month": self.month.name,
                "closed_at": format_time(await self._now()),
                "closed_by": self.by,
                "forced": list(backlog.reasons),
                "prices": list(self.prices),
                "watermark": backlog.watermark,
                "leaves": read.leaves,
                "totals": {} if root is None else root.counts,
                "tree": (NO_LEAVES if root is None else root.hash).hex(),
                "rows": rows,
                "corrected": corrected,
                "settled": settled,
                "previous": closed.latest_root,
            }
        )
        if not await insert_header(self.store, closed, header, snapshot.table):
            return await self._lost(header, snapshot.table)
        await self._drop_others(snapshot.table)
        return header

    async def _drop_others(self, own: str) -> None:
        """Remove what broken attempts left: none of it can become valid any more."""
        with suppress(StorageUnavailable):  # the month is closed anyway
            for table in await self.tables.names(snapshot_prefix(self.month)):
                if table != own:
                    await self.tables.drop(table)

    async def _store_corrections(
        self, closed: ClosedMonths, snapshot: SnapshotWriter
    ) -> tuple[list[str], list[str]]:
        """Store what belongs to this month of earlier ones; gives these, and those that are settled."""
        corrected: list[str] = []
        settled: list[str] = []
        for month, each in closed.by_month.items():
            arrival = closed.arrival_month(month)
            if arrival is None or arrival > self.month:
                continue
            some: list[tuple[SumKey, Sums]] = []
            async for correction in arrived(self.store, closed, each):
                some.append((correction.key, correction.sums))
                if len(some) == CORRECTIONS_AT_ONCE:
                    await snapshot.write_corrections(some)
                    some = []
            await snapshot.write_corrections(some)
            corrected.append(month.name)
            if not await has_ledger(self.store, month):
                settled.append(month.name)
        return corrected, settled

    async def _lost(self, header: Header, table: str) -> Header | Refused:
        """Whether the header was stored by a write whose answer was lost; else another was first."""
        closed = await read_closed(self.store)
        winner = closed.by_month.get(self.month)
        if winner is not None and winner.table == table:
            return header
        await self.tables.drop(table)
        if winner is not None:
            return self._is_closed(closed)
        return Refused(final=("another month was closed meanwhile: run it again",))

    def _is_closed(self, closed: ClosedMonths) -> Refused:
        header = closed.by_month[self.month].header
        return Refused(
            final=(
                f"{self.month.name} is closed: {format_time(header.closed_at)}, by "
                f"{header.document['closed_by']}, root {header.root}",
            )
        )
