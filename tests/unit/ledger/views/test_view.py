"""Views: absolute copies of the ledger's sums that never go back."""

from copy import replace

import pytest

from meter.errors import StorageUnavailable
from meter.ledger.fold import Sums
from meter.ledger.keys import SumKey
from meter.ledger.rows import SumRow
from meter.ledger.views.shards import Shards
from meter.ledger.views.view import ViewWriter
from meter.window import Window
from tests.fakes.gateway import FakeClock
from tests.fakes.rows import Fault, MemoryRowStore
from tests.support.events import NOW
from tests.support.ledger import dimensions

HOUR, DAY, MONTH = Window("2026-11-23T07"), Window("2026-11-23"), Window("2026-11")
NAMES = "app|gpt-4o|m|east|standard|short"
ROW = f"alice|{NAMES}"


@pytest.fixture
def store() -> MemoryRowStore:
    return MemoryRowStore()


def views_on(store: MemoryRowStore) -> ViewWriter:
    """The views of a newly started process."""
    return ViewWriter(store, Shards(store, FakeClock(moment=NOW)))


@pytest.fixture
def views(store: MemoryRowStore) -> ViewWriter:
    return views_on(store)


def total(calls: int, revision: int, *, window: Window = DAY, subject: str = "alice") -> SumRow:
    names = dimensions(subject=subject, deployment="gpt-4o", model="m", tier="standard")
    key = SumKey(window, names)
    return SumRow(key=key, sums=Sums(calls=calls), revision=revision)


def shown(store: MemoryRowStore) -> list[tuple[object, object]]:
    return [(row["Calls"], row["Revision"]) for row in store.rows("UsageByDay").values()]


async def test_each_length_of_window_has_its_table(
    store: MemoryRowStore, views: ViewWriter
) -> None:
    """The partition is the window's name and the row key the escaped names."""
    await views.write([total(1, 1, window=window, subject="a|b") for window in (HOUR, DAY, MONTH)])

    assert {(table, *keys) for table, rows in store.tables.items() for keys in rows} == {
        ("UsageByHour", "2026-11-23T07", f"a=7Cb|{NAMES}"),
        ("UsageByDay", "2026-11-23", f"a=7Cb|{NAMES}"),
        ("UsageByMonth", "2026-11", f"a=7Cb|{NAMES}"),
    }


async def test_a_copy_is_absolute(store: MemoryRowStore, views: ViewWriter) -> None:
    """A view row is the ledger's total, not an addition to what was shown."""
    await views.write([total(3, 1)])
    await views.write([total(5, 2)])

    assert shown(store) == [(5, 2)]


@pytest.mark.parametrize("remembers", [True, False])
async def test_an_older_copy_never_overwrites_a_newer_one(
    store: MemoryRowStore, views: ViewWriter, remembers: bool
) -> None:
    """Late and repeated copies change nothing, not even the etag."""
    await views.write([total(5, 2)])
    writer = views if remembers else views_on(store)
    await writer.write([total(3, 1)])
    await writer.write([total(5, 2)])

    assert shown(store) == [(5, 2)]
    assert len(store.transactions) == 1


async def test_the_newer_of_two_writers_wins_whoever_comes_last(
    store: MemoryRowStore, views: ViewWriter
) -> None:
    """A slow writer finds a newer copy and does not change the row."""
    await views.write([total(1, 1)])
    store.intrude(lambda: views_on(store).write([total(9, 9)]))
    await views.write([total(2, 2)])

    assert shown(store) == [(9, 9)]


async def test_a_newer_copy_is_shown_though_another_came_in_between(
    store: MemoryRowStore, views: ViewWriter
) -> None:
    """A conflict with an older copy is retried."""
    await views.write([total(1, 1)])
    store.intrude(lambda: views_on(store).write([total(2, 2)]))
    await views.write([total(9, 9)])

    assert shown(store) == [(9, 9)]


async def test_two_first_copies_of_a_row_do_not_harm_each_other(
    store: MemoryRowStore, views: ViewWriter
) -> None:
    """Both writers find no row; one of them inserts it, the other updates it."""
    store.intrude(lambda: views_on(store).write([total(1, 1)]))
    await views.write([total(2, 2)])

    assert shown(store) == [(2, 2)]


async def test_an_overtaken_row_does_not_hold_up_its_neighbours(
    store: MemoryRowStore, views: ViewWriter
) -> None:
    """Rows of one transaction are compared one by one."""
    await views.write([total(1, 1), total(1, 1, subject="bob")])
    store.intrude(lambda: views_on(store).write([total(9, 9)]))
    await views.write([total(2, 2), total(2, 2, subject="bob")])

    assert sorted(shown(store)) == [(2, 2), (9, 9)]


async def test_more_than_100_subjects_of_a_window_need_several_transactions(
    store: MemoryRowStore, views: ViewWriter
) -> None:
    """The service takes 100 rows at once."""
    await views.write([total(1, 1, subject=f"s{number}") for number in range(250)])

    assert [transaction.rows for transaction in store.transactions] == [100, 100, 50]
    assert len(store.rows("UsageByDay", "2026-11-23")) == 250


@pytest.mark.parametrize("fault", [Fault.UNAVAILABLE, Fault.ANSWER_LOST])
async def test_a_lost_copy_is_repaired_by_writing_it_again(
    store: MemoryRowStore, views: ViewWriter, fault: Fault
) -> None:
    """Whether or not the write was applied."""
    await views.write([total(1, 1)])
    store.plan("write", fault)
    with pytest.raises(StorageUnavailable):
        await views.write([total(2, 2)])
    await views.write([total(2, 2)])

    assert shown(store) == [(2, 2)]


async def test_a_row_that_was_deleted_is_made_again_by_the_next_copy(
    store: MemoryRowStore, views: ViewWriter
) -> None:
    """Operators may delete a view; memory of it costs a conflict only."""
    await views.write([total(1, 1)])
    store.tables.clear()
    await views.write([total(2, 2)])

    assert shown(store) == [(2, 2)]


async def test_contention_without_end_is_an_outage(
    store: MemoryRowStore, views: ViewWriter
) -> None:
    """What waits is tried again later."""
    store.plan("write", *[Fault.CONFLICT] * 10)

    with pytest.raises(StorageUnavailable, match="10 conflicts in a row"):
        await views.write([total(1, 1)])


async def test_nothing_to_show_touches_nothing(store: MemoryRowStore, views: ViewWriter) -> None:
    """Not even how windows are split is asked."""
    await views.write([])

    assert store.tables == {}
    assert dict(store.calls) == {}


async def test_columns_that_others_added_to_a_view_are_kept(
    store: MemoryRowStore, views: ViewWriter
) -> None:
    """Rows are merged, not replaced."""
    await views.write([total(1, 1)])
    (row,) = (await store.read("UsageByDay", "2026-11-23", [ROW])).values()
    annotated = type(row)(key=ROW, columns={"Note": "checked"}, etag=row.etag)
    await store.write("UsageByDay", "2026-11-23", insert=[], update=[annotated])
    await views.write([total(2, 2)])

    assert store.rows("UsageByDay")[ROW]["Note"] == "checked"
    assert shown(store) == [(2, 2)]


async def test_a_repaired_row_is_shown_although_it_was_remembered_as_newer(
    store: MemoryRowStore, views: ViewWriter
) -> None:
    """A repair gave the sum and its view a lower revision: memory must not skip what follows."""
    await views.write([total(30, 30)])
    place = ("2026-11-23", ROW)
    row = store.tables["UsageByDay"][place]
    store.tables["UsageByDay"][place] = replace(
        row, columns={**row.columns, "Calls": 1, "Revision": 1}, etag='W/"repaired"'
    )
    for revision in range(2, 6):
        await views.write([total(revision, revision)])

    assert shown(store) == [(5, 5)]


async def test_a_revision_written_by_hand_is_forgotten_once_it_is_repaired(
    store: MemoryRowStore, views: ViewWriter
) -> None:
    """The writer met it, and asks again before it skips the next copy."""
    await views.write([total(1, 1)])
    place = ("2026-11-23", ROW)
    row = store.tables["UsageByDay"][place]
    by_hand = {**row.columns, "Revision": 99}
    store.tables["UsageByDay"][place] = replace(row, columns=by_hand, etag='W/"by hand"')
    await views.write([total(2, 2)])
    store.tables["UsageByDay"][place] = replace(row, etag='W/"repaired"')
    await views.write([total(3, 3)])

    assert shown(store) == [(3, 3)]


async def test_a_row_is_asked_for_only_before_it_is_skipped(
    store: MemoryRowStore, views: ViewWriter
) -> None:
    """A steady stream costs one transaction a copy and no read."""
    await views.write([total(1, 1)])
    store.calls.clear()
    for revision in range(2, 12):
        await views.write([total(revision, revision)])

    assert dict(store.calls) == {"write": 10}
