"""Reading sums by range while hours end: none is missed."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

from meter.ledger.keys import ledger_partition
from meter.ledger.packing.scanning import rows_since, sums_since_in
from meter.ports import Row
from meter.window import Window
from tests.fakes.rows import MemoryRowStore
from tests.support.events import NOW, usage_event
from tests.support.ledger import aggregator_on

PLACE = "Ledger202611", ledger_partition("alice")
MONTH = Window("2026-11")


class Closing(MemoryRowStore):
    """Between the first range that is read and the next, a call of the next hour is counted."""

    is_armed = False

    async def scan(self, table: str, **options: Any) -> AsyncIterator[tuple[str, Row]]:
        async for each in MemoryRowStore.scan(self, table, **options):
            yield each
        if self.is_armed:
            self.is_armed = False
            later = NOW + timedelta(hours=1)
            await aggregator_on(self, later).count([usage_event(9, time=later)])


async def read(store: MemoryRowStore, first: str) -> list[tuple[str, int]]:
    rows = rows_since(store, PLACE, Window(first), MONTH)
    sums = [each async for row in rows for each in sums_since_in(PLACE, row, Window(first))]
    return [(each.key.window.name, each.sums.calls) for each in sums]


async def test_an_hour_that_is_closed_while_sums_are_read_is_not_missed() -> None:
    """Months first: it was open in its month, and is in its own row now."""
    store = Closing()
    await aggregator_on(store).count([usage_event(1), usage_event(2)])
    store.is_armed = True

    assert await read(store, "2026-11-23T07") == [
        ("2026-11", 2),
        ("2026-11-23", 2),
        ("2026-11-23T07", 2),
        ("2026-11-23T07", 2),
    ]


async def test_sums_of_earlier_windows_are_left_out() -> None:
    """Wherever they are stored."""
    store = MemoryRowStore()
    for hour in (0, 1, 2):
        time = NOW + timedelta(hours=hour)
        await aggregator_on(store, time).count([usage_event(hour + 1, time=time)])

    assert [name for name, _ in await read(store, "2026-11-23T08")] == [
        "2026-11",
        "2026-11-23",
        "2026-11-23T09",
        "2026-11-23T08",
    ]
    assert [name for name, _ in await read(store, "2026-11")] == ["2026-11"]
