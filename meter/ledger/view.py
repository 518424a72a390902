"""Shows the ledger across subjects: rows with absolute totals, copied after the ledger's commit.

| table        | partition       | row key                                | columns                  |
|--------------|-----------------|----------------------------------------|--------------------------|
| UsageByHour  | `2026-11-23T07` | subject `|` deployment `|` model `|` tier | see `rows.py`         |
| UsageByDay   | `2026-11-23`    | the same                               | the same                 |
| UsageByMonth | `2026-11`       | the same                               | the same                 |

A view is never added to. Each row carries the ledger row's revision and only a higher one replaces
it, so a late or repeated copy changes nothing and no total ever goes back. A copy that is lost to
a crash is made again when the batch is delivered again.
"""

from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from meter.errors import StorageUnavailable
from meter.ledger.commit import MAX_CONFLICTS, MAX_TRANSACTION_ROWS
from meter.ledger.rows import SumRow, read_revision
from meter.ports import Conflict, Row, RowStore
from meter.window import Period, Window

VIEW_TABLES = {Period.HOUR: "UsageByHour", Period.DAY: "UsageByDay", Period.MONTH: "UsageByMonth"}
MAX_KNOWN_ROWS = 20_000


@dataclass(frozen=True, slots=True)
class _Shown:
    etag: str
    revision: int


@dataclass(slots=True)
class ViewWriter:
    """Writes the views. Remembers what it wrote last; a wrong memory only costs a conflict."""

    store: RowStore
    _known: OrderedDict[tuple[str, str], _Shown] = field(default_factory=OrderedDict)

    async def show(self, rows: Iterable[SumRow]) -> None:
        """Copy the sums to their views. Raises StorageUnavailable."""
        by_window: defaultdict[Window, dict[str, SumRow]] = defaultdict(dict)
        for row in rows:
            by_window[row.key.window][row.key.view_row_key(row.subject)] = row
        for window, shown in by_window.items():
            keys = list(shown)
            for start in range(0, len(keys), MAX_TRANSACTION_ROWS):
                part = {key: shown[key] for key in keys[start : start + MAX_TRANSACTION_ROWS]}
                await self._show(VIEW_TABLES[window.period], window.name, part)

    async def _show(self, table: str, partition: str, rows: Mapping[str, SumRow]) -> None:
        for _ in range(MAX_CONFLICTS):
            stored = await self._stored(table, partition, list(rows))
            newer = [
                Row(
                    key=key,
                    columns=row.columns(),
                    etag=stored[key].etag if key in stored else None,
                )
                for key, row in rows.items()
                if key not in stored or stored[key].revision < row.revision
            ]
            if not newer:
                return
            result = await self.store.write(
                table,
                partition,
                insert=[row for row in newer if row.etag is None],
                update=[row for row in newer if row.etag is not None],
            )
            if not isinstance(result, Conflict):
                for row in newer:
                    shown = _Shown(result.etags[row.key], rows[row.key].revision)
                    self._remember(partition, row.key, shown)
                return
            for key in rows:
                self._known.pop((partition, key), None)
        raise StorageUnavailable(f"{table}: {MAX_CONFLICTS} conflicts in a row in one partition")

    async def _stored(self, table: str, partition: str, keys: Sequence[str]) -> dict[str, _Shown]:
        unknown = [key for key in keys if (partition, key) not in self._known]
        if unknown:
            for key, row in (await self.store.read(table, partition, unknown)).items():
                assert row.etag is not None
                self._remember(partition, key, _Shown(row.etag, read_revision(row.columns)))
        return {key: self._known[partition, key] for key in keys if (partition, key) in self._known}

    def _remember(self, partition: str, key: str, shown: _Shown) -> None:
        self._known[partition, key] = shown
        self._known.move_to_end((partition, key))
        if len(self._known) > MAX_KNOWN_ROWS:
            self._known.popitem(last=False)
