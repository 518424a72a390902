"""`meter.ports.RowStore` and `Tables`: the fake and the adapter on Azurite keep the same promises."""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta, timezone
from itertools import count
from pathlib import Path
from uuid import uuid4

import pytest
from azure.data.tables.aio import TableServiceClient

from meter.adapters.tables import CLIENT_OPTIONS, TablesRowStore
from meter.errors import RowsRefused, StorageUnavailable, TableMissing
from meter.ports import Conflict, Row, RowStore, Written
from tests.fakes.rows import MemoryRowStore

REPOSITORY = Path(__file__).resolve().parents[2]
AZURITE = REPOSITORY / "node_modules" / "azurite" / "dist" / "src" / "azurite.js"
START_SECONDS = 30.0
P = "partition"


@pytest.fixture(params=["fake", "azurite", "azurite, directly"])
async def store(
    request: pytest.FixtureRequest,
) -> AsyncIterator[MemoryRowStore | TablesRowStore]:
    if request.param == "fake":
        yield MemoryRowStore()
        return
    service = TableServiceClient.from_connection_string(
        request.getfixturevalue("azurite"), **CLIENT_OPTIONS
    )
    store = TablesRowStore(service, sends_directly=request.param == "azurite, directly")
    yield store
    await store.close()


@pytest.fixture
def table() -> str:
    """A table of the test's own."""
    return f"T{uuid4().hex}"


def rows(*keys: str, **columns: object) -> list[Row]:
    return [Row(key=key, columns=columns or {"N": 1}) for key in keys]


async def inserted(store: RowStore, table: str, *keys: str, **columns: object) -> dict[str, Row]:
    await store.write(table, P, insert=rows(*keys, **columns), update=[])
    return dict(await store.read(table, P, keys))


async def values(store: RowStore, table: str, keys: Sequence[str]) -> dict[str, object]:
    found = await store.read(table, P, keys)
    return {key: row.columns.get("N") for key, row in found.items()}


async def test_what_is_written_is_read_with_its_etag(store: RowStore, table: str) -> None:
    """A write answers with the etags that a read gives."""
    result = await store.write(table, P, insert=rows("a", "b"), update=[])
    found = await store.read(table, P, ["a", "b"])

    assert isinstance(result, Written)
    assert {key: row.etag for key, row in found.items()} == dict(result.etags)
    assert {key: dict(row.columns) for key, row in found.items()} == {"a": {"N": 1}, "b": {"N": 1}}


async def test_a_write_that_may_not_create_the_table_leaves_it_missing(
    store: RowStore, table: str
) -> None:
    """Inserts and updates alike; once the table is there, the same write succeeds."""
    for change in ({"insert": rows("a")}, {"update": [Row(key="a", columns={}, etag='W/"1"')]}):
        with pytest.raises(TableMissing):
            await store.write(table, P, **change, creates_table=False)
    await store.write(table, P, insert=rows("b"))

    assert isinstance(await store.write(table, P, insert=rows("a"), creates_table=False), Written)


async def test_a_conflict_says_whether_the_row_is_there(store: RowStore, table: str) -> None:
    """An insert of a stored row, against an update of a changed or deleted one."""
    stored = await inserted(store, table, "a")
    await store.write(table, P, update=list(stored.values()))
    there = await store.write(table, P, insert=rows("b", "a"))
    stale = await store.write(table, P, update=list(stored.values()))
    gone = await store.write(table, P, delete=[Row(key="x", columns={}, etag='W/"1"')])

    assert isinstance(there, Conflict)
    assert isinstance(stale, Conflict)
    assert isinstance(gone, Conflict)
    assert [there.exists, stale.exists, gone.exists] == [True, False, False]


async def test_rows_that_cannot_be_stored_are_refused(store: RowStore, table: str) -> None:
    """By the service for their size, by the adapter for their type; nothing of them is written."""
    for value in (2**63, "x" * 40_000):
        with pytest.raises(RowsRefused):
            await store.write(table, P, insert=rows("a", N=value))

    assert await values(store, table, ["a"]) == {}


async def test_the_first_write_makes_the_table(store: RowStore, table: str) -> None:
    """Months begin without preparation; an update of a missing row creates the table too."""
    result = await store.write(
        table, P, insert=[], update=[Row(key="a", columns={"N": 1}, etag='W/"1"')]
    )
    again = await store.write(table, P, insert=rows("a"), update=[])

    assert isinstance(result, Conflict)
    assert isinstance(again, Written)


async def test_inserting_a_row_that_exists_is_a_conflict(store: RowStore, table: str) -> None:
    """The row stays as it was."""
    await inserted(store, table, "a")
    result = await store.write(table, P, insert=rows("a", N=2), update=[])

    assert isinstance(result, Conflict)
    assert await values(store, table, ["a"]) == {"a": 1}


async def test_updating_with_the_etag_read_merges_columns(store: RowStore, table: str) -> None:
    """Other columns stay."""
    before = (await inserted(store, table, "a", N=1, Kept="x"))["a"]
    result = await store.write(
        table, P, insert=[], update=[Row(key="a", columns={"N": 2}, etag=before.etag)]
    )
    after = (await store.read(table, P, ["a"]))["a"]

    assert isinstance(result, Written)
    assert after.columns == {"N": 2, "Kept": "x"}
    assert after.etag == result.etags["a"] != before.etag


async def test_updating_with_a_stale_etag_is_a_conflict(store: RowStore, table: str) -> None:
    """Another writer's change is never overwritten."""
    stale = (await inserted(store, table, "a"))["a"].etag
    for number in (2, 3):
        result = await store.write(
            table, P, insert=[], update=[Row(key="a", columns={"N": number}, etag=stale)]
        )

    assert isinstance(result, Conflict)
    assert await values(store, table, ["a"]) == {"a": 2}


async def test_updating_a_row_that_is_not_there_is_a_conflict(store: RowStore, table: str) -> None:
    """It may have been deleted since it was read."""
    etag = (await inserted(store, table, "a"))["a"].etag
    result = await store.write(
        table, P, insert=[], update=[Row(key="gone", columns={"N": 2}, etag=etag)]
    )

    assert isinstance(result, Conflict)
    assert await values(store, table, ["a", "gone"]) == {"a": 1}


@pytest.mark.parametrize("trouble", ["insert", "update", "missing"])
async def test_of_a_transaction_that_fails_nothing_is_kept(
    store: RowStore, table: str, trouble: str
) -> None:
    """One row in conflict undoes all others, earlier and later ones."""
    stored = await inserted(store, table, "a", "b")
    good = Row(key="b", columns={"N": 9}, etag=stored["b"].etag)
    bad = {
        "insert": ([*rows("x"), *rows("a"), *rows("y")], [good]),
        "update": (rows("x", "y"), [good, Row(key="a", columns={"N": 9}, etag=good.etag)]),
        "missing": (rows("x", "y"), [good, Row(key="z", columns={"N": 9}, etag=good.etag)]),
    }
    insert, update = bad[trouble]
    result = await store.write(table, P, insert=insert, update=update)

    assert isinstance(result, Conflict)
    assert await values(store, table, ["a", "b", "x", "y", "z"]) == {"a": 1, "b": 1}


async def test_rows_are_deleted_in_the_transaction_that_writes_others(
    store: RowStore, table: str
) -> None:
    """A row is deleted as it was read; the others are written with it."""
    stored = await inserted(store, table, "a", "b", "c")
    changed = Row(key="b", columns={"N": 2}, etag=stored["b"].etag)
    result = await store.write(
        table, P, insert=rows("d"), update=[changed], delete=[stored["a"], stored["c"]]
    )

    assert isinstance(result, Written)
    found = await store.read(table, P, ["a", "b", "c", "d"])
    assert {key: row.etag for key, row in found.items()} == dict(result.etags)
    assert await values(store, table, ["a", "b", "c", "d"]) == {"b": 2, "d": 1}


@pytest.mark.parametrize("trouble", ["changed", "gone", "other table"])
async def test_a_row_that_is_not_as_it_was_read_is_not_deleted(
    store: RowStore, table: str, trouble: str
) -> None:
    """The rest of the transaction is not applied either."""
    stored = await inserted(store, table, "a", "b")
    doomed = {
        "changed": Row(key="a", columns={}, etag=stored["b"].etag),
        "gone": Row(key="z", columns={}, etag=stored["a"].etag),
        "other table": stored["a"],
    }[trouble]
    place = f"{table}x" if trouble == "other table" else table
    result = await store.write(place, P, insert=rows("n"), update=[], delete=[doomed])

    assert isinstance(result, Conflict)
    assert await values(store, table, ["a", "b", "n"]) == {"a": 1, "b": 1}


async def test_rows_can_be_deleted_alone(store: RowStore, table: str) -> None:
    """A transaction need not write anything."""
    stored = await inserted(store, table, "a", "b")
    result = await store.write(table, P, insert=[], update=[], delete=[stored["a"]])

    assert result == Written({})
    assert await values(store, table, ["a", "b"]) == {"b": 1}


async def test_a_row_that_comes_twice_in_a_transaction_is_a_conflict(
    store: RowStore, table: str
) -> None:
    """The service refuses it; nothing is kept."""
    result = await store.write(table, P, insert=[*rows("b"), *rows("a", "a")], update=[])

    assert isinstance(result, Conflict)
    assert await values(store, table, ["a", "b"]) == {}


async def test_100_rows_are_one_transaction(store: RowStore, table: str) -> None:
    """This is the limit of an entity-group transaction."""
    result = await store.write(table, P, insert=rows(*(f"{n:03}" for n in range(100))), update=[])

    assert isinstance(result, Written)
    assert len(await store.keys_between(table, P, "", "~")) == 100


@pytest.mark.parametrize("number", [0, 1, 2**31 - 1, 2**31, 2**53 + 1, 2**63 - 1, -(2**31) - 1])
async def test_whole_numbers_of_64_bits_are_kept(store: RowStore, table: str, number: int) -> None:
    """As plain ints, whatever their size."""
    found = await inserted(store, table, "a", N=number)

    assert found["a"].columns == {"N": number}
    assert type(found["a"].columns["N"]) is int


async def test_values_of_other_kinds_are_kept(store: RowStore, table: str) -> None:
    """Texts of any kind, bytes and booleans are read back unchanged."""
    columns = {"T": 'zoë "😀"\n\x00\x7f\\', "B": bytes(range(256)), "F": True, "E": ""}
    found = await inserted(store, table, "a", **columns)

    assert found["a"].columns == columns


@pytest.mark.parametrize(
    "moment",
    [
        datetime(2026, 11, 23, 7, 30, 15, 123_456, tzinfo=UTC),
        datetime(2026, 11, 23, 7, 30, 15, 1, tzinfo=UTC),
        datetime(2026, 11, 1, tzinfo=UTC),
        datetime(2000, 2, 29, 23, 59, 59, 999_999, tzinfo=UTC),
    ],
)
async def test_moments_are_kept_to_the_microsecond(
    store: RowStore, table: str, moment: datetime
) -> None:
    """They are aware, in UTC, and can be written again."""
    first = (await inserted(store, table, "a", At=moment))["a"]
    await store.write(table, P, insert=[], update=[first])
    second = (await store.read(table, P, ["a"]))["a"]

    for found in (first.columns["At"], second.columns["At"]):
        assert isinstance(found, datetime)
        assert (found, found.utcoffset()) == (moment, timedelta(0))


ODD_KEYS = [
    "a=7Cb|c@d.e:f-g_h~",
    "it's",
    "two words",
    "zoë=😀",
    "a+b&c=d,e;f(g)$h!i*",
    "'; drop",
    "x" * 512,
]


@pytest.mark.parametrize("key", ODD_KEYS, ids=range(len(ODD_KEYS)))
async def test_keys_of_odd_characters_name_their_row(store: RowStore, table: str, key: str) -> None:
    """In the row key and in the partition, for every operation."""
    await store.write(table, key, insert=rows(key, key[:-1]), update=[])
    found = await store.read(table, key, [key])
    result = await store.write(
        table, key, insert=[], update=[Row(key=key, columns={"N": 2}, etag=found[key].etag)]
    )

    assert isinstance(result, Written)
    assert await store.keys_between(table, key, key, key) == {key}
    scanned = [row async for row in store.scan(table, first_partition=key, last_partition=key)]
    assert [(place, row.key, row.columns["N"]) for place, row in scanned] == [
        (key, key[:-1], 1),
        (key, key, 2),
    ]


async def test_keys_that_differ_in_case_only_are_two_rows(store: RowStore, table: str) -> None:
    """Subjects are compared exactly."""
    await inserted(store, table, "a", "A")

    assert await values(store, table, ["a", "A"]) == {"a": 1, "A": 1}


async def test_keys_between_includes_both_ends(store: RowStore, table: str) -> None:
    """In the order of code units, of one partition."""
    await inserted(store, table, "a", "b", "b0", "c", "d")
    await store.write(table, "other", insert=rows("bb"), update=[])

    assert await store.keys_between(table, P, "b", "c") == {"b", "b0", "c"}
    assert await store.keys_between(table, P, "bb", "bz") == set()


async def test_keys_between_finds_more_than_a_page(store: RowStore, table: str) -> None:
    """The service answers in pages of 1000."""
    numbers = count()
    for _ in range(11):
        keys = [f"{next(numbers):05}" for _ in range(100)]
        await store.write(table, P, insert=rows(*keys), update=[])

    assert len(await store.keys_between(table, P, "00001", "01098")) == 1098


async def test_a_scan_gives_a_range_of_partitions_in_key_order(store: RowStore, table: str) -> None:
    """Both ends included."""
    for partition in ("2026-12", "2026-10", "2026-11", "2026-09"):
        await store.write(table, partition, insert=rows("b", "a"), update=[])
    found = [
        (partition, row.key)
        async for partition, row in store.scan(
            table, first_partition="2026-10", last_partition="2026-11"
        )
    ]

    assert found == [("2026-10", "a"), ("2026-10", "b"), ("2026-11", "a"), ("2026-11", "b")]


async def test_a_scan_of_a_partition_can_be_bounded_by_keys(store: RowStore, table: str) -> None:
    """Both ends included; either may be left out."""
    await inserted(store, table, "a", "b", "b0", "c", "d")
    await store.write(table, "other", insert=rows("bb"), update=[])

    async def keys(first: str | None, last: str | None) -> list[str]:
        scan = store.scan(
            table, first_partition=P, last_partition=P, first_key=first, last_key=last
        )
        return [row.key async for _, row in scan]

    assert await keys("b", "c") == ["b", "b0", "c"]
    assert await keys("bb", None) == ["c", "d"]
    assert await keys(None, "b") == ["a", "b"]
    assert await keys(None, None) == ["a", "b", "b0", "c", "d"]
    assert await keys("x", "z") == []


async def test_a_scan_of_several_partitions_can_be_bounded_by_keys(
    store: RowStore, table: str
) -> None:
    """In each of them."""
    for partition in ("p", "q", "r"):
        await store.write(table, partition, insert=rows("a", "b", "c"), update=[])
    scan = store.scan(table, first_partition="p", last_partition="q", first_key="b", last_key="b")

    assert [(partition, row.key) async for partition, row in scan] == [("p", "b"), ("q", "b")]


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ((), {}),
        (("N",), {"N": 1}),
        (("N", "M"), {"N": 1, "M": "m"}),
        (("Absent",), {}),
        (None, {"N": 1, "M": "m"}),
    ],
)
async def test_a_scan_reads_only_the_columns_that_are_named(
    store: RowStore, table: str, columns: Sequence[str] | None, expected: dict[str, object]
) -> None:
    """A named column that a row does not have is absent; without names, all columns are read."""
    await store.write(table, P, insert=rows("a", N=1, M="m"), update=[])
    scan = store.scan(table, first_partition=P, last_partition=P, columns=columns)

    assert [(row.key, row.columns) async for _, row in scan] == [("a", expected)]


async def test_a_scan_finds_more_than_a_page(store: RowStore, table: str) -> None:
    """The service answers in pages of 1000, also where keys bound the range."""
    keys = [f"{number:05}" for number in range(1100)]
    for start in range(0, 1100, 100):
        await store.write(table, P, insert=rows(*keys[start : start + 100]), update=[])
    scan = store.scan(
        table, first_partition=P, last_partition=P, first_key="00001", last_key="01098"
    )

    assert [row.key async for _, row in scan] == keys[1:1099]


async def test_the_names_of_tables_are_found_by_their_beginning(
    store: MemoryRowStore | TablesRowStore, table: str
) -> None:
    """In order; a table that was never written has none."""
    for name in (f"{table}b", f"{table}a", f"{table[:5]}z"):
        await inserted(store, name, "a")

    assert await store.names(table) == [f"{table}a", f"{table}b"]
    assert await store.names(f"{table}c") == []


async def test_a_dropped_table_is_gone_with_its_rows(
    store: MemoryRowStore | TablesRowStore, table: str
) -> None:
    """It may be gone already, and it may be made again."""
    await inserted(store, table, "a")
    for _ in range(2):
        await store.drop(table)
    gone = await store.read(table, P, ["a"]), await store.names(table)
    await inserted(store, table, "b")

    assert gone == ({}, [])
    assert await values(store, table, ["a", "b"]) == {"b": 1}


async def test_a_row_says_when_the_service_wrote_it(
    store: MemoryRowStore | TablesRowStore, table: str
) -> None:
    """Read or scanned, by the service's own clock."""
    before = await store.service_time()
    await inserted(store, table, "a")
    after = await store.service_time()
    read = (await store.read(table, P, ["a"]))["a"]
    (scanned,) = [row async for _, row in store.scan(table, first_partition=P, last_partition=P)]

    assert before.tzinfo is not None
    assert read.written_at is not None
    assert before <= read.written_at < after + timedelta(seconds=1)
    assert scanned.written_at == read.written_at


async def test_what_is_not_there_is_not_found(store: RowStore, table: str) -> None:
    """Neither a missing table nor a missing row is an error."""
    missing = [
        await store.read(table, P, ["a"]),
        await store.keys_between(table, P, "a", "z"),
        [row async for row in store.scan(table, first_partition="", last_partition="~")],
    ]
    await inserted(store, table, "a")

    assert missing == [{}, set(), []]
    assert await store.read(table, P, ["b"]) == {}
    assert await store.read(table, "other", ["a"]) == {}


@pytest.mark.parametrize(
    ("key", "columns"),
    [
        ("x" * 513, {}),
        ("a/b", {}),
        ("a", {"T": "x" * 32_769}),
        ("a", {"B": bytes(65_537)}),
        ("a", {"N": 2**63}),
        ("a", {"At": datetime(2026, 11, 23)}),  # noqa: DTZ001  # naive on purpose
    ],
    ids=["long key", "bad character", "long text", "long bytes", "large number", "naive moment"],
)
async def test_what_the_service_cannot_hold_is_refused(
    store: RowStore, table: str, key: str, columns: dict[str, object]
) -> None:
    """It raises, so that nothing is truncated silently."""
    with pytest.raises(StorageUnavailable):
        await store.write(table, P, insert=[Row(key=key, columns=columns)], update=[])


@pytest.mark.parametrize("count", [0, 101])
async def test_a_transaction_of_no_rows_or_of_too_many_is_refused(
    store: RowStore, table: str, count: int
) -> None:
    """A transaction has 1 to 100 rows; nothing of a longer one is kept."""
    keys = [f"{number:03}" for number in range(count)]
    with pytest.raises(StorageUnavailable):
        await store.write(table, P, insert=rows(*keys), update=[])

    assert await store.keys_between(table, P, "", "~") == set()


async def test_analysts_tools_see_int64_and_datetime(azurite: str, table: str) -> None:
    """The stored types are Edm.Int64, small numbers too, and Edm.DateTime."""
    service = TableServiceClient.from_connection_string(azurite)
    offset = datetime(2026, 11, 23, 9, tzinfo=timezone(timedelta(hours=2)))
    async with service:
        await TablesRowStore(service).write(table, P, insert=rows("a", N=7, At=offset), update=[])
        entity = await service.get_table_client(table).get_entity(P, "a")

    assert (entity["N"].value, entity["N"].edm_type) == (7, "Edm.Int64")
    assert entity["At"].isoformat() == "2026-11-23T07:00:00+00:00"
