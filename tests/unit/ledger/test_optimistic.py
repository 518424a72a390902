"""Optimistic changes: what is remembered, what is forgotten, and that memory never decides a total."""

from collections.abc import Mapping, Sequence
from functools import partial

import pytest

from meter.errors import StorageUnavailable
from meter.ledger.optimistic import ROWS_BY_RANGE, OptimisticRows
from meter.ports import Row
from tests.fakes.rows import Fault, MemoryRowStore

T, P = "Table", "partition"
ONE_ROW_BYTES = 320 + 30 + 1  # as they are estimated: a row, its column N, a key of one letter


@pytest.fixture
def store() -> MemoryRowStore:
    return MemoryRowStore()


def adding_one(keys: Sequence[str], stored: Mapping[str, Row]) -> list[Row]:
    """Adds 1 to column N of the rows; one that is not there starts at 1."""
    rows = []
    for key in keys:
        before = stored.get(key)
        number = before.columns["N"] if before else 0
        assert isinstance(number, int)
        rows.append(Row(key=key, columns={"N": number + 1}, etag=before.etag if before else None))
    return rows


async def add_one(rows: OptimisticRows, *keys: str, partition: str = P) -> None:
    await rows.change(T, partition, keys, partial(adding_one, keys))


def numbers(store: MemoryRowStore) -> dict[str, object]:
    return {key: columns["N"] for key, columns in store.rows(T).items()}


async def test_what_was_written_last_need_not_be_read(store: MemoryRowStore) -> None:
    """A steady stream of changes costs one transaction each."""
    rows = OptimisticRows(store=store)
    await add_one(rows, "a", "b")
    store.calls.clear()
    for _ in range(3):
        await add_one(rows, "a", "b")

    assert dict(store.calls) == {"write": 3}
    assert numbers(store) == {"a": 4, "b": 4}


async def test_memory_is_bounded_in_bytes_not_in_partitions(store: MemoryRowStore) -> None:
    """The row that was used longest ago is forgotten first, and read again."""
    rows = OptimisticRows(store=store, most_bytes=3 * ONE_ROW_BYTES)
    for partition, key in (("p", "a"), ("p", "b"), ("q", "a"), ("q", "b")):
        await add_one(rows, key, partition=partition)
    store.calls.clear()
    for partition, key in (("q", "b"), ("q", "a"), ("p", "b")):
        await add_one(rows, key, partition=partition)
    known_only = dict(store.calls)
    await add_one(rows, "a", partition="p")

    assert known_only == {"write": 3}
    assert dict(store.calls) == {"write": 4, "read": 1}
    assert {row.columns["N"] for row in store.tables[T].values()} == {2}


@pytest.mark.parametrize("remembers", [None, ("N", "M")])
async def test_a_row_forgotten_before_it_was_changed_is_read_whole_again(
    store: MemoryRowStore, remembers: tuple[str, ...] | None
) -> None:
    """Only what was written is known of it then, and the columns beside that are not missing."""
    await store.write(T, P, insert=[Row(key="a", columns={"N": 1, "M": 7})])
    rows = OptimisticRows(store=store, remembers=remembers)
    found: list[object] = []

    def changed(stored: Mapping[str, Row]) -> list[Row]:
        found.append(stored["a"].columns["M"])
        rows.forget(T, P, ["a"])  # as to make room for other rows
        return [Row(key="a", columns={"N": 2}, etag=stored["a"].etag)]

    for _ in range(2):
        await rows.change(T, P, ["a"], changed)

    assert found == [7, 7]


@pytest.mark.parametrize("most_bytes", [0, ONE_ROW_BYTES])
async def test_a_change_of_more_rows_than_are_remembered_is_right(
    store: MemoryRowStore, most_bytes: int
) -> None:
    """A bound that is too small costs reads."""
    rows = OptimisticRows(store=store, most_bytes=most_bytes)
    for _ in range(2):
        await add_one(rows, "a", "b", "c")

    assert numbers(store) == {"a": 2, "b": 2, "c": 2}


async def test_only_rows_under_the_given_keys_are_remembered(store: MemoryRowStore) -> None:
    """What is written beside them and never looked at again takes no room."""
    rows = OptimisticRows(store=store)
    written = await rows.change(T, P, ["a"], partial(adding_one, ["a", "marker"]))

    assert [row.key for row in written] == ["a", "marker"]
    assert len(rows._known) == 1


async def test_rows_that_are_expected_to_be_new_are_not_read_first(store: MemoryRowStore) -> None:
    """The insert proves that they are; where one is not, it costs a conflict, and they are read."""
    await add_one(OptimisticRows(store=store), "a")
    store.calls.clear()
    rows = OptimisticRows(store=store, expects_new=True)
    await add_one(rows, "b")
    new = dict(store.calls)
    await add_one(rows, "a", "c")

    assert new == {"write": 1}
    assert dict(store.calls) == {"write": 3, "read": 1}
    assert numbers(store) == {"a": 2, "b": 1, "c": 1}


@pytest.mark.parametrize(
    ("known", "reads"),
    [
        (ROWS_BY_RANGE - 1, {"write": 2, "read": 1}),
        (ROWS_BY_RANGE, {"write": 2, "scan": 1}),
    ],
)
async def test_many_rows_that_were_not_new_are_read_in_one_query(
    store: MemoryRowStore, known: int, reads: dict[str, int]
) -> None:
    """As a process does that takes over a partition: with the conflict it learns the whole of it."""
    keys = [f"k{number}" for number in range(known)]
    await add_one(OptimisticRows(store=store), *keys, "neighbour")
    store.calls.clear()
    rows = OptimisticRows(store=store, expects_new=True)
    await add_one(rows, *keys)

    assert dict(store.calls) == reads
    assert set(numbers(store).values()) == {1, 2}


async def test_only_the_columns_that_matter_are_remembered(store: MemoryRowStore) -> None:
    """Of a view row the revision is enough; the table keeps all of it."""
    rows = OptimisticRows(store=store, remembers=("N",))
    wide = Row(key="a", columns={"N": 1, "Text": "x" * 1000})
    known: list[Mapping[str, Row]] = []

    def note(stored: Mapping[str, Row]) -> list[Row]:
        known.append(stored)
        return []

    await rows.change(T, P, ["a"], lambda stored: [] if stored else [wide])
    await rows.change(T, P, ["a"], note)

    assert known[0]["a"].columns == {"N": 1}
    assert store.rows(T)["a"] == wide.columns


async def test_nothing_to_write_writes_nothing(store: MemoryRowStore) -> None:
    """The builder saw that all is as it should be."""
    rows = OptimisticRows(store=store)
    written = await rows.change(T, P, ["a"], lambda _: [])

    assert store.tables == {}
    assert list(written) == []


async def test_after_a_conflict_the_rows_are_read_again(store: MemoryRowStore) -> None:
    """Another writer's change is built upon, not overwritten."""
    rows, rival = OptimisticRows(store=store), OptimisticRows(store=store)
    await add_one(rows, "a", "b")
    store.intrude(lambda: add_one(rival, "a"))
    await add_one(rows, "a", "b")

    assert numbers(store) == {"a": 3, "b": 2}


@pytest.mark.parametrize("fault", [Fault.UNAVAILABLE, Fault.ANSWER_LOST])
async def test_after_an_outage_nothing_of_the_change_is_remembered(
    store: MemoryRowStore, fault: Fault
) -> None:
    """Whether it was applied is unknown; the next change reads it, without a conflict."""
    rows = OptimisticRows(store=store)
    await add_one(rows, "a")
    store.plan("write", fault)
    with pytest.raises(StorageUnavailable):
        await add_one(rows, "a")
    store.calls.clear()
    await add_one(rows, "a")

    assert dict(store.calls) == {"read": 1, "write": 1}
    assert numbers(store) == {"a": 2 if fault is Fault.UNAVAILABLE else 3}
