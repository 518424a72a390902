"""The usage of a query: which rows it has, in which order, and what is added up."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from meter.errors import StorageUnavailable
from meter.ledger.fold import Sums
from meter.ledger.rows import SumRow
from meter.ports import Row
from meter.reports.rows import total_of
from meter.reports.usage import read_usage
from tests.fakes.rows import Fault, MemoryRowStore
from tests.support.events import NOW
from tests.support.ledger import views_on
from tests.support.reports import query, row, usage_of


@pytest.fixture
def store() -> MemoryRowStore:
    return MemoryRowStore()


async def test_rows_have_the_order_of_window_and_names(store: MemoryRowStore) -> None:
    """The same data gives the same report."""
    rows = [row("2026-11", "bob"), row("2026-10", "zoe"), row("2026-11", "alice")]
    found = await usage_of(store, query(first="2026-10"), *rows)

    assert [(each.label, *each.names) for each in found] == [
        ("2026-10", "zoe"),
        ("2026-11", "alice"),
        ("2026-11", "bob"),
    ]


@pytest.mark.parametrize(
    ("groups", "lines"),
    [
        ("", [()]),
        ("tier", [("provisioned",), ("standard",)]),
        ("backend,client_app", [("east", "app"), ("west", "app"), ("west", "batch")]),
        ("context", [("long",), ("short",)]),
        ("tier, subject", [("provisioned", "bob"), ("standard", "alice"), ("standard", "bob")]),
    ],
)
async def test_rows_are_added_up_per_group(
    store: MemoryRowStore, groups: str, lines: list[tuple[str, ...]]
) -> None:
    """Groups have the order of the query; the total is the same for every grouping."""
    rows = [
        row("2026-11", "alice"),
        row("2026-11", "bob"),
        row("2026-11", "bob", model="n", backend="west", context="long"),
        row("2026-11", "bob", tier="provisioned", backend="west", client_app="batch", calls=4),
    ]
    found = await usage_of(store, query(groups=groups), *rows)

    assert [each.names for each in found] == lines
    assert total_of(found).sums.calls == 7


async def test_windows_outside_of_the_query_are_left_out(store: MemoryRowStore) -> None:
    """Both ends are included and nothing beyond them."""
    days = ["2026-10-31", "2026-11-01", "2026-11-02", "2026-11-03"]
    found = await usage_of(
        store, query("day", "2026-11-01", "2026-11-02"), *(row(day) for day in days)
    )

    assert [each.label for each in found] == ["2026-11-01", "2026-11-02"]


async def test_first_and_last_call_span_all_that_a_row_adds_up(store: MemoryRowStore) -> None:
    """A row's times are those of all stored rows that it adds up."""
    early, late = datetime(2026, 11, 1, tzinfo=UTC), NOW + timedelta(hours=1)
    rows = [row("2026-11", model=model) for model in "ab"]
    spans = [(early, NOW), (NOW, late)]
    shown = [
        SumRow(
            key=r.key,
            sums=Sums(calls=1, first_call_at=first, last_call_at=last),
            revision=1,
        )
        for r, (first, last) in zip(rows, spans, strict=True)
    ]
    found = await usage_of(store, query(), *shown)

    (only,) = found
    assert (only.sums.first_call_at, only.sums.last_call_at) == (early, late)


async def test_a_row_is_ready_before_the_next_window_but_one_is_read(store: MemoryRowStore) -> None:
    """So no more than the groups of one window are held in memory."""
    await views_on(store).write(row(f"2026-11-{day:02}") for day in range(1, 21))
    scanned: list[str] = []

    class Watched(MemoryRowStore):
        async def scan(self, *args: Any, **options: Any) -> AsyncIterator[tuple[str, Row]]:
            async for partition, stored in store.scan(*args, **options):
                scanned.append(partition)
                yield partition, stored

    async for each in read_usage(Watched(), query("day", "2026-11-01", "2026-11-20")):
        assert len(scanned) <= int(each.label[-2:]) + 1

    assert len(scanned) == 20


async def test_storage_that_fails_while_a_split_window_is_read_is_one_error(
    store: MemoryRowStore,
) -> None:
    """As for any window, so that a command can say it in a line."""
    splits = Row(key="2026-01", columns={"Count": 4})
    await store.write("ViewShards", "month", insert=[splits])
    store.plan("scan", Fault.NOTHING, Fault.NOTHING, Fault.UNAVAILABLE)

    with pytest.raises(StorageUnavailable):
        [each async for each in read_usage(store, query())]
